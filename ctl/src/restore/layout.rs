// SPDX-License-Identifier: GPL-2.0
//! Where the stub can live: in a gap of the program's address space.

use crate::image::Image;
use crate::image::ADDRESS_END;
use pmig_wire::PAGE_SIZE;
use std::ops::Range;

/// Lower addresses are left alone: `vm.mmap_min_addr` and what old programs expect to be unmapped.
const LOWEST: u64 = 1 << 20;
/// Distance to every mapping: the kernel's guard gap below a mapping that grows down is 256 pages, and a process that
/// still runs may map a little more before it is frozen.
const DISTANCE: u64 = 64 << 20;
/// The distance to be content with if there is no larger gap: the guard gap.
const GUARD: u64 = 256 * PAGE_SIZE;

/// The addresses that the program uses or will use, in ascending order, not disjoint.
fn used(image: &Image) -> impl Iterator<Item = Range<u64>> + '_ {
    let memory = &image.memory;
    let vdso = memory.vvar_start.get()..memory.vdso_end.get();
    let mut all: Vec<_> = image.vmas.iter().map(Image::range).collect();
    all.push(vdso);
    // What the heap may grow into first.
    all.push(memory.start_brk.get()..memory.brk.get());
    all.retain(|range| !range.is_empty());
    all.sort_by_key(|range| range.start);
    all.into_iter()
}

/// The gaps of the program's address space in which `size` bytes fit at `distance` from everything, the largest first.
fn gaps(image: &Image, size: u64, distance: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut end = LOWEST;
    let end_of_all = ADDRESS_END..ADDRESS_END;
    for range in used(image).chain(std::iter::once(end_of_all)) {
        let gap =
            end.saturating_add(distance)..range.start.saturating_sub(distance).min(ADDRESS_END);
        if gap.end.saturating_sub(gap.start) >= size {
            gaps.push(gap);
        }
        end = end.max(range.end);
    }
    gaps.sort_by_key(|gap| std::cmp::Reverse(gap.end - gap.start));
    gaps
}

/// Places for `size` bytes, the best first: the middles of the largest gaps, and other points in them in case that the
/// fresh vessel itself is in the way there.
pub(super) fn places(image: &Image, size: u64) -> Vec<u64> {
    let mut places = Vec::new();
    for distance in [DISTANCE, GUARD] {
        for gap in gaps(image, size, distance) {
            let room = gap.end - gap.start - size;
            for share in [8, 4, 12, 2, 14] {
                let place = (gap.start + room / 16 * share) & !(PAGE_SIZE - 1);
                if place >= gap.start {
                    places.push(place);
                }
            }
            if places.len() >= 20 {
                return places;
            }
        }
    }
    places
}

/// Whether `stub` is free in the program's address space, with the guard gap around it.
pub(super) fn is_free(image: &Image, stub: &Range<u64>) -> bool {
    let wide = stub.start.saturating_sub(GUARD)..stub.end.saturating_add(GUARD);
    used(image).all(|range| range.end <= wide.start || range.start >= wide.end)
}

/// A place for a mapping of `size` bytes that is there only for a moment, beside the stub.
pub(super) fn scratch(image: &Image, stub: &Range<u64>, size: u64) -> Option<u64> {
    for gap in gaps(image, size, GUARD) {
        let mut candidates = vec![gap.clone()];
        if stub.start < gap.end && gap.start < stub.end {
            let below = gap.start..stub.start.saturating_sub(GUARD);
            candidates = vec![stub.end.saturating_add(GUARD)..gap.end, below];
        }
        for part in candidates {
            let start = part.start.next_multiple_of(PAGE_SIZE);
            if part.end.saturating_sub(start) >= size {
                return Some(start);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use pmig_wire::mm::Vma;
    use zerocopy::FromZeros;

    fn image(ranges: &[(u64, u64)]) -> Image {
        let mut image = Image::empty(5);
        for (start, end) in ranges {
            let mut vma = Vma::new_zeroed();
            vma.start.set(*start);
            vma.end.set(*end);
            image.vmas.push(vma);
        }
        image
    }

    #[test]
    fn the_stub_keeps_its_distance() {
        let image = image(&[(0x40_0000, 0x50_0000), (0x7fff_0000_0000, 0x7fff_0010_0000)]);
        let size = 5 << 20;
        let places = places(&image, size);
        assert!(places.len() > 1);
        for place in places {
            assert!(is_free(&image, &(place..place + size)), "{place:x}");
            assert!(place + size <= ADDRESS_END);
        }
    }

    #[test]
    fn a_full_address_space_has_no_place() {
        assert!(places(&image(&[(0, ADDRESS_END)]), 1 << 20).is_empty());
    }

    #[test]
    fn a_small_gap_is_better_than_none() {
        let image = image(&[(0, 0x1000_0000), (0x1100_0000, ADDRESS_END)]);
        let places = places(&image, 1 << 20);
        assert!(places
            .iter()
            .all(|place| (0x1010_0000..0x10f0_0000).contains(place)));
        assert!(!places.is_empty());
    }

    #[test]
    fn scratch_space_is_outside_the_stub() {
        let image = image(&[(0, 0x1000_0000), (0x2000_0000, ADDRESS_END)]);
        let stub = 0x1200_0000..0x1300_0000;
        let size = 0x400_0000;
        let Some(start) = scratch(&image, &stub, size) else {
            panic!("no place");
        };
        assert!(start >= stub.end || start + size <= stub.start);
        assert!(is_free(&image, &(start..start + size)));
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Which pages must be sent.

use super::io;
use super::CaptureError;
use crate::image::Image;
use crate::sys::file;
use crate::sys::pagemap;
use crate::sys::pagemap::Region;
use pmig_wire::mm::vma;
use pmig_wire::mm::Vma;
use pmig_wire::pages::PageRange;
use pmig_wire::PAGE_SIZE;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;

/// Ranges that the kernel reports at a time.
const REGIONS: usize = 4096;
/// Mappings whose contents are not the process's own: what the kernel or a device provides.
const NOT_COPIED: u64 = vma::SPECIAL | vma::DEVICE;

fn has(one: &Vma, flags: u64) -> bool {
    one.flags.get() & flags != 0
}

/// See [`super::scan_pages`].
pub(super) fn scan(pid: u32, image: &Image) -> Result<Vec<PageRange>, CaptureError> {
    let path = format!("/proc/{pid}/pagemap");
    let pagemap = File::open(&path).map_err(io(format!("open {path}")))?;
    let mut ranges = Vec::new();
    for part in private_parts(&image.vmas) {
        scan_private(&pagemap, part, &mut ranges)?;
    }
    scan_shared(pid, image, &mut ranges)?;
    ranges.sort_by_key(|range| range.start);
    let wire = |range: Range<u64>| PageRange {
        start: range.start.into(),
        end: range.end.into(),
    };
    Ok(join(ranges).into_iter().map(wire).collect())
}

/// The private mappings, adjacent ones together: one walk for each.
fn private_parts(vmas: &[Vma]) -> Vec<Range<u64>> {
    let private = vmas
        .iter()
        .filter(|one| !has(one, vma::SHARED | NOT_COPIED));
    join(private.map(Image::range).collect())
}

/// Adjacent ranges of an ascending list as one.
fn join(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Pages that are the process's own: there, in memory or swap, and neither the page of zeros nor a file's.
fn scan_private(
    pagemap: &File,
    part: Range<u64>,
    ranges: &mut Vec<Range<u64>>,
) -> Result<(), CaptureError> {
    let mut regions = vec![Region::default(); REGIONS];
    let mut from = part.start;
    while from < part.end {
        let any = pagemap::PRESENT | pagemap::SWAPPED;
        let none = pagemap::ZERO | pagemap::FILE;
        let (count, next) = pagemap::scan(pagemap.as_fd(), from, part.end, any, none, &mut regions)
            .map_err(io(format!("scan the pages {from:x}-{:x}", part.end)))?;
        let found = regions.iter().take(count);
        ranges.extend(found.map(|region| region.start..region.end));
        if next <= from {
            break;
        }
        from = next;
    }
    Ok(())
}

/// What the objects of shared anonymous memory hold, whether this process has it in its page tables or not. What is mapped
/// several times is sent once.
fn scan_shared(pid: u32, image: &Image, ranges: &mut Vec<Range<u64>>) -> Result<(), CaptureError> {
    let mut objects: BTreeMap<u32, Vec<&Vma>> = BTreeMap::new();
    for one in image
        .vmas
        .iter()
        .filter(|one| has(one, vma::SHARED_ANONYMOUS))
    {
        objects.entry(one.file.get()).or_default().push(one);
    }
    for mut views in objects.into_values() {
        views.sort_by_key(|one| one.offset.get());
        let Some(first) = views.first() else { continue };
        let content = content(pid, first)?;
        let mut covered = 0;
        for part in content {
            covered = send(&views, part, covered, ranges)?;
        }
    }
    Ok(())
}

/// Where an object holds data, as offsets in it.
fn content(pid: u32, view: &Vma) -> Result<Vec<Range<u64>>, CaptureError> {
    let path = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        view.start.get(),
        view.end.get()
    );
    let object = File::open(&path).map_err(io(format!("open {path}")))?;
    let seek = |offset, hole| {
        let what = format!(
            "find the contents of shared memory at {:x}",
            view.start.get()
        );
        file::seek_content(object.as_fd(), offset, hole).map_err(io(what))
    };
    let mut parts = Vec::new();
    let mut offset = 0;
    while let Some(start) = seek(offset, false)? {
        let end = seek(start, true)?.unwrap_or(start);
        if end <= start {
            break;
        }
        parts.push(start / PAGE_SIZE * PAGE_SIZE..end.next_multiple_of(PAGE_SIZE));
        offset = end;
    }
    Ok(parts)
}

/// Adds the addresses of the part `part` of an object that `views`, in the order of their offsets, show. Everything before
/// the offset `sent` has been added already. Returns the new `sent`.
fn send(
    views: &[&Vma],
    part: Range<u64>,
    sent: u64,
    ranges: &mut Vec<Range<u64>>,
) -> Result<u64, CaptureError> {
    let mut from = part.start.max(sent);
    for one in views {
        let length = one.end.get().saturating_sub(one.start.get());
        let offset = one.offset.get();
        let end = offset.saturating_add(length).min(part.end);
        if from >= end || offset > from {
            continue;
        }
        let start = one.start.get() + (from - offset);
        ranges.push(start..start + (end - from));
        from = end;
    }
    if from < part.end {
        let text = format!(
            "shared anonymous memory holds {} bytes that are not mapped any more",
            part.end - from
        );
        return Err(CaptureError::Lost(text));
    }
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn view(start: u64, end: u64, offset: u64) -> Vma {
        let mut one = Vma::new_zeroed();
        one.start.set(start);
        one.end.set(end);
        one.offset.set(offset);
        one
    }

    #[test]
    fn what_is_mapped_twice_is_sent_once() {
        let (low, high) = (view(0x10000, 0x14000, 0), view(0x30000, 0x34000, 0x2000));
        let views = [&low, &high];
        let mut ranges = Vec::new();
        let sent = send(&views, 0x1000..0x5000, 0, &mut ranges).expect("all is mapped");
        assert_eq!(sent, 0x5000);
        assert_eq!(ranges, [0x11000..0x14000, 0x32000..0x33000]);
    }

    #[test]
    fn what_is_not_mapped_any_more_is_not_lost_silently() {
        let one = view(0x10000, 0x11000, 0);
        assert!(send(&[&one], 0..0x2000, 0, &mut Vec::new()).is_err());
        let late = view(0x10000, 0x11000, 0x1000);
        assert!(send(&[&late], 0..0x2000, 0, &mut Vec::new()).is_err());
    }
}

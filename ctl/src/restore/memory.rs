// SPDX-License-Identifier: GPL-2.0
//! The address space: mappings at their addresses, without their contents.

use super::list::args;
use super::list::Argument;
use super::list::Call;
use super::list::List;
use super::vessel::Vessel;
use super::VesselError;
use crate::image::Image;
use pmig_core::vma::advice;
use pmig_core::vma::to_mmap;
use pmig_core::vma::MAP_FIXED_NOREPLACE;
use pmig_core::vma::PROT_READ;
use pmig_core::vma::PROT_WRITE;
use pmig_wire::mm::setting;
use pmig_wire::mm::vma;
use pmig_wire::mm::Vma;
use pmig_wire::mm::LOCK_FUTURE;
use pmig_wire::mm::LOCK_ON_FAULT;
use pmig_wire::record::Kind;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

/// Mappings that are made with one list.
const BATCH: usize = 8192;
const NO_FILE: u64 = u64::MAX;
const MADV_MERGEABLE: i32 = 12;
/// Not in the C library's headers yet.
const SYS_MSEAL: libc::c_long = 462;

fn has(one: &Vma, flags: u64) -> bool {
    one.flags.get() & flags != 0
}

fn length(one: &Vma) -> u64 {
    one.end.get().saturating_sub(one.start.get())
}

fn name(one: &Vma) -> String {
    format!("mapping {:x}-{:x}", one.start.get(), one.end.get())
}

/// Adds the call that maps `one`, of the open file `file`.
pub(super) fn map(list: &mut List, one: &Vma, file: Option<Call>) -> Result<(), VesselError> {
    let unsupported = |_| VesselError::Unsupported {
        object: format!("{} with the flags {:#x}", name(one), one.flags.get()),
    };
    let mapping = to_mmap(one.flags.get()).map_err(unsupported)?;
    let flags = mapping.flags | MAP_FIXED_NOREPLACE;
    let mut prot = mapping.prot;
    if has(one, vma::SHARED_ANONYMOUS) {
        // The module fills it through this mapping; `finish` takes the rights away again.
        prot |= PROT_READ | PROT_WRITE;
    }
    let file = file.map_or(Argument::from(NO_FILE), Argument::from);
    let (start, size) = (one.start.get(), length(one));
    let arguments = [
        start.into(),
        size.into(),
        prot.into(),
        flags.into(),
        file,
        one.offset.get().into(),
    ];
    // Of memory without a file the offset says nothing.
    let arguments = match has(one, vma::FILE) {
        true => arguments,
        false => {
            let [a, b, c, d, e, _] = arguments;
            [a, b, c, d, e, 0u64.into()]
        }
    };
    list.expect(
        format!("map {}", name(one)),
        libc::SYS_mmap,
        &arguments,
        start,
    );
    advise(list, one);
    Ok(())
}

/// Adds the advice that a mapping was given and that matters before it has contents.
fn advise(list: &mut List, one: &Vma) {
    for advice in advice(one.flags.get()).filter(|advice| *advice != MADV_MERGEABLE) {
        let what = format!("advise on {}", name(one));
        list.call(
            what,
            libc::SYS_madvise,
            args![one.start.get(), length(one), advice],
        );
    }
}

/// Maps the vdso. It must come first: the kernel takes the address as a wish only, which it grants while nothing is near.
pub(super) fn map_vdso(vessel: &Vessel, image: &Image) -> Result<(), VesselError> {
    const ARCH_MAP_VDSO_64: u64 = 0x2003;
    let start = image.memory.vvar_start.get();
    if start == 0 {
        return Ok(());
    }
    let mut list = List::new();
    list.call(
        "map the vdso",
        libc::SYS_arch_prctl,
        args![ARCH_MAP_VDSO_64, start],
    );
    vessel.run(&list)?;
    Ok(())
}

/// Maps everything that is no file.
pub(super) fn map_anonymous(vessel: &Vessel, image: &Image) -> Result<(), VesselError> {
    let mut list = List::new();
    for one in &image.vmas {
        if has(one, vma::FILE | vma::SPECIAL | vma::SHARED_ANONYMOUS) {
            continue;
        }
        map(&mut list, one, None)?;
        if list.len() >= BATCH {
            vessel.run(&std::mem::take(&mut list))?;
        }
    }
    vessel.run(&list)?;
    map_shared(vessel, image)
}

/// Maps shared anonymous memory. What was one object is one again, wherever parts of it are mapped.
fn map_shared(vessel: &Vessel, image: &Image) -> Result<(), VesselError> {
    let mut objects: BTreeMap<u32, Vec<&Vma>> = BTreeMap::new();
    for one in image
        .vmas
        .iter()
        .filter(|one| has(one, vma::SHARED_ANONYMOUS))
    {
        objects.entry(one.file.get()).or_default().push(one);
    }
    for (id, parts) in objects {
        let covered = parts
            .iter()
            .map(|one| one.offset.get().saturating_add(length(one)))
            .max();
        let object = image.file(id).map_or(0, |open| open.file.size.get());
        let size = covered
            .unwrap_or(0)
            .max(object)
            .next_multiple_of(pmig_wire::PAGE_SIZE);
        let mut list = List::new();
        match parts.as_slice() {
            [one] if one.offset.get() == 0 && length(one) == size => map(&mut list, one, None)?,
            _ => map_object(vessel, image, &parts, size, &mut list)?,
        }
        vessel.run(&list)?;
    }
    Ok(())
}

/// Makes an object of `size` bytes, maps its parts to their places, and takes the whole away again.
fn map_object(
    vessel: &Vessel,
    image: &Image,
    parts: &[&Vma],
    size: u64,
    list: &mut List,
) -> Result<(), VesselError> {
    let first = parts.first().ok_or(VesselError::Incomplete(Kind::Vma))?;
    let place =
        super::layout::scratch(image, &vessel.stub(), size).ok_or(VesselError::NoGap { size })?;
    let mut whole = **first;
    whole.start.set(place);
    whole.end.set(place.saturating_add(size));
    map(list, &whole, None)?;
    for one in parts {
        const DUPLICATE: u64 = 0;
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let from = place.saturating_add(one.offset.get());
        let (to, size) = (one.start.get(), length(one));
        let what = format!("map {}", name(one));
        list.expect(
            what,
            libc::SYS_mremap,
            args![from, DUPLICATE, size, flags, to],
            to,
        );
        advise(list, one);
    }
    list.call("unmap shared memory", libc::SYS_munmap, args![place, size]);
    Ok(())
}

/// Sets the boundaries, the auxiliary vector and the executable, which is the descriptor `executable` of the vessel.
pub(super) fn set_boundaries(
    vessel: &Vessel,
    image: &Image,
    executable: Option<u32>,
) -> Result<(), VesselError> {
    const PR_SET_MM: u64 = 35;
    const PR_SET_MM_MAP: u64 = 14;
    const SIZE: usize = 104;
    let memory = &image.memory;
    let mut list = List::new();
    let auxv = list.data(&image.auxv);
    let numbers = [
        memory.start_code,
        memory.end_code,
        memory.start_data,
        memory.end_data,
        memory.start_brk,
        memory.brk,
        memory.start_stack,
        memory.arg_start,
        memory.arg_end,
        memory.env_start,
        memory.env_end,
    ];
    let mut words: Vec<u64> = numbers.iter().map(|number| number.get()).collect();
    words.push(0);
    let size = image.auxv.len() as u64;
    words.push(size | u64::from(executable.unwrap_or(u32::MAX)) << 32);
    let map = list.words(&words);
    let arguments = args![PR_SET_MM, PR_SET_MM_MAP, map, SIZE];
    list.call(
        "set the boundaries of the address space",
        libc::SYS_prctl,
        arguments,
    );
    if size != 0 {
        let address = list.address_of(auxv, vessel.list_address());
        list.set_word(map, 88, address);
    }
    vessel.run(&list)?;
    Ok(())
}

/// `PR_SET_THP_DISABLE`, `PR_SET_MDWE`, `PR_SET_MEMORY_MERGE` of include/uapi/linux/prctl.h.
const PR_SET_THP_DISABLE: u64 = 41;
const PR_SET_MDWE: u64 = 65;
const PR_SET_MEMORY_MERGE: u64 = 67;

/// Makes the choices that decide what mappings are filled with.
pub(super) fn choose(vessel: &Vessel, image: &Image) -> Result<(), VesselError> {
    const PR_THP_DISABLE_EXCEPT_ADVISED: u64 = 2;
    let settings = image.memory.settings.get();
    let how = match settings & (setting::NO_HUGE_PAGES | setting::HUGE_PAGES_IF_ADVISED) {
        0 => return Ok(()),
        setting::NO_HUGE_PAGES => 0,
        _ => PR_THP_DISABLE_EXCEPT_ADVISED,
    };
    let mut list = List::new();
    let arguments = args![PR_SET_THP_DISABLE, 1, how, 0, 0];
    list.call("disable huge pages", libc::SYS_prctl, arguments);
    vessel.run(&list)?;
    Ok(())
}

/// Adds the registrations for memory barriers, and the merging of pages.
fn register(list: &mut List, settings: u32) {
    // `MEMBARRIER_CMD_REGISTER_*` of include/uapi/linux/membarrier.h.
    for (ours, command) in [
        (setting::BARRIER_GLOBAL, 1u64 << 2),
        (setting::BARRIER_PRIVATE, 1 << 4),
        (setting::BARRIER_SYNC_CORE, 1 << 6),
        (setting::BARRIER_RSEQ, 1 << 8),
    ] {
        if settings & ours != 0 {
            let what = "register for memory barriers";
            list.call(what, libc::SYS_membarrier, args![command, 0, 0]);
        }
    }
    if settings & setting::MERGE != 0 {
        let arguments = args![PR_SET_MEMORY_MERGE, 1, 0, 0, 0];
        list.call("let pages be merged", libc::SYS_prctl, arguments);
    }
}

/// Adds what is left when the contents are there: rights of shared memory, merging, locks.
pub(super) fn finish(list: &mut List, image: &Image) {
    for one in &image.vmas {
        let (start, size) = (one.start.get(), length(one));
        if has(one, vma::SHARED_ANONYMOUS) {
            let prot = to_mmap(one.flags.get()).map_or(0, |mapping| mapping.prot);
            if prot & (PROT_READ | PROT_WRITE) != (PROT_READ | PROT_WRITE) {
                let what = format!("protect {}", name(one));
                list.call(what, libc::SYS_mprotect, args![start, size, prot]);
            }
        }
        if has(one, vma::MERGEABLE) {
            let what = format!("advise on {}", name(one));
            list.call(what, libc::SYS_madvise, args![start, size, MADV_MERGEABLE]);
        }
        if has(one, vma::LOCKED) {
            const MLOCK_ONFAULT: u64 = 1;
            let how = if has(one, vma::LOCK_ON_FAULT) {
                MLOCK_ONFAULT
            } else {
                0
            };
            let what = format!("lock {}", name(one));
            // As for the program itself, a page that cannot be made present is no reason to fail.
            if has(one, vma::READ | vma::WRITE | vma::EXEC) {
                list.call(what, libc::SYS_mlock2, args![start, size, how]);
            } else {
                list.attempt(what, libc::SYS_mlock2, args![start, size, how]);
            }
        }
    }
    register(list, image.memory.settings.get());
    let future = image.memory.lock_flags.get();
    if future & LOCK_FUTURE != 0 {
        const MCL_FUTURE: u64 = 2;
        const MCL_ONFAULT: u64 = 4;
        let on_fault = if future & LOCK_ON_FAULT != 0 {
            MCL_ONFAULT
        } else {
            0
        };
        list.call(
            "lock future mappings",
            libc::SYS_mlockall,
            args![MCL_FUTURE | on_fault],
        );
    }
}

/// Adds the sealing of mappings, after which nothing about them can be changed, and what forbids changes in general.
pub(super) fn seal(list: &mut List, image: &Image) {
    for one in image
        .vmas
        .iter()
        .filter(|one| has(one, vma::SEALED) && !has(one, vma::SPECIAL))
    {
        let what = format!("seal {}", name(one));
        list.call(what, SYS_MSEAL, args![one.start.get(), length(one), 0]);
    }
    let settings = image.memory.settings.get();
    if settings & setting::DENY_WRITE_EXECUTE != 0 {
        // PR_MDWE_REFUSE_EXEC_GAIN and PR_MDWE_NO_INHERIT.
        let alone = settings & setting::DENY_WRITE_EXECUTE_ALONE != 0;
        let how = if alone { 1 | 2 } else { 1 };
        let what = "deny what is writable and executable";
        list.call(what, libc::SYS_prctl, args![PR_SET_MDWE, how, 0, 0, 0]);
    }
}

/// Adjacent ranges as one.
fn join(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// The ranges of `/proc/PID/maps`, each with its name.
fn maps(pid: u32) -> std::io::Result<Vec<(Range<u64>, String)>> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let parse = |line: &str| {
        let (start, rest) = line.split_once('-')?;
        let (end, rest) = rest.split_once(' ')?;
        let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
        let name = rest.split_ascii_whitespace().nth(4).unwrap_or_default();
        Some((range, name.to_owned()))
    };
    Ok(text
        .lines()
        .filter_map(parse)
        .filter(|(_, name)| name != "[vsyscall]")
        .collect())
}

/// Checks that the kernel has put everything where it must be, and nothing else anywhere.
pub(super) fn verify(vessel: &Vessel, image: &Image) -> Result<(), VesselError> {
    let maps = maps(vessel.pid()).map_err(VesselError::agent("read the vessel's mappings"))?;
    let vdso = image.memory.vdso_start.get();
    let found = maps
        .iter()
        .find(|(_, name)| name == "[vdso]")
        .map_or(0, |(range, _)| range.start);
    if found != vdso {
        return Err(VesselError::Misplaced {
            start: found,
            end: found,
        });
    }
    let stub = vessel.stub();
    let inside = |range: &Range<u64>| range.start >= stub.start && range.end <= stub.end;
    let are = join(
        maps.into_iter()
            .map(|(range, _)| range)
            .filter(|range| !inside(range)),
    );
    let must = join(image.vmas.iter().map(Image::range));
    if are == must {
        return Ok(());
    }
    let odd = are.iter().find(|range| !must.contains(range));
    let missing = must.iter().find(|range| !are.contains(range));
    let range = missing.or(odd).cloned().unwrap_or_default();
    Err(VesselError::Misplaced {
        start: range.start,
        end: range.end,
    })
}

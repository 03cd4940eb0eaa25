// SPDX-License-Identifier: GPL-2.0

//! The address space: boundaries, auxiliary vector, mappings.

use super::files::Files;
use super::Records;
use crate::kx::mm::Mm;
use kernel::bindings;
use kernel::prelude::*;
use pmig_wire::mm::setting;
use pmig_wire::mm::vma;
use pmig_wire::mm::Memory;
use pmig_wire::mm::Vma;
use pmig_wire::mm::LOCK_FUTURE;
use pmig_wire::mm::LOCK_ON_FAULT;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;

/// What the process has chosen for its memory as a whole.
fn settings(mm: &Mm) -> u32 {
    let found = mm.peculiarities();
    let mut all = 0;
    for (bit, ours) in [
        (bindings::MMF_HAS_MDWE, setting::DENY_WRITE_EXECUTE),
        (
            bindings::MMF_HAS_MDWE_NO_INHERIT,
            setting::DENY_WRITE_EXECUTE_ALONE,
        ),
        (bindings::MMF_DISABLE_THP_COMPLETELY, setting::NO_HUGE_PAGES),
        (
            bindings::MMF_DISABLE_THP_EXCEPT_ADVISED,
            setting::HUGE_PAGES_IF_ADVISED,
        ),
        (bindings::MMF_VM_MERGE_ANY, setting::MERGE),
    ] {
        if found.flags & (1 << bit) != 0 {
            all |= ours;
        }
    }
    // The bit that says that a registration is complete (kernel/sched/membarrier.c).
    for (bit, ours) in [
        (0, setting::BARRIER_PRIVATE),
        (2, setting::BARRIER_GLOBAL),
        (4, setting::BARRIER_SYNC_CORE),
        (6, setting::BARRIER_RSEQ),
    ] {
        if found.membarrier & (1 << bit) != 0 {
            all |= ours;
        }
    }
    all
}

/// Describes the address space. The files that it maps are added to `files`.
pub(super) fn capture(records: &mut Records, mm: &Mm, files: &mut Files) -> Result {
    let mappings = mm.mappings()?;
    let bounds = mm.boundaries();
    let is_special = |flags: u64| flags & vma::SPECIAL != 0;
    let first = mappings.iter().find(|mapping| is_special(mapping.flags));
    let last = mappings
        .iter()
        .rev()
        .find(|mapping| is_special(mapping.flags));
    let mut lock_flags = 0;
    if bounds.locks_future {
        lock_flags |= LOCK_FUTURE;
    }
    if bounds.locks_on_fault {
        lock_flags |= LOCK_ON_FAULT;
    }
    let memory = Memory {
        start_code: U64::new(bounds.start_code),
        end_code: U64::new(bounds.end_code),
        start_data: U64::new(bounds.start_data),
        end_data: U64::new(bounds.end_data),
        start_brk: U64::new(bounds.start_brk),
        brk: U64::new(bounds.brk),
        start_stack: U64::new(bounds.start_stack),
        arg_start: U64::new(bounds.arg_start),
        arg_end: U64::new(bounds.arg_end),
        env_start: U64::new(bounds.env_start),
        env_end: U64::new(bounds.env_end),
        vvar_start: U64::new(first.map_or(0, |mapping| mapping.start)),
        vdso_start: U64::new(if first.is_some() { bounds.vdso } else { 0 }),
        vdso_end: U64::new(last.map_or(0, |mapping| mapping.end)),
        lock_flags: U32::new(lock_flags),
        settings: U32::new(settings(mm)),
    };
    records.add_with_tail(&memory, &mm.auxv()?)?;
    let mut vmas: KVVec<Vma> = KVVec::with_capacity(mappings.len(), GFP_KERNEL)?;
    for mapping in mappings {
        let (file, extra) = match mapping.file {
            Some(file) => files.mapped(file)?,
            None => (0, 0),
        };
        let own = match extra & vma::SHARED_ANONYMOUS {
            // The file is the kernel's own and to the program there is none.
            vma::SHARED_ANONYMOUS => mapping.flags & !vma::FILE,
            _ => mapping.flags,
        };
        let record = Vma {
            start: U64::new(mapping.start),
            end: U64::new(mapping.end),
            offset: U64::new(mapping.offset),
            flags: U64::new(own | extra),
            file: U32::new(file),
            reserved: U32::new(0),
        };
        vmas.push(record, GFP_KERNEL)?;
    }
    // Who else holds shared memory can be said when all of its mappings have been counted.
    for mut record in vmas {
        let flags = record.flags.get();
        if flags & vma::SHARED_ANONYMOUS != 0 && files.has_outsiders(record.file.get()) {
            record.flags.set(flags | vma::OUTSIDERS);
        }
        records.add(&record)?;
    }
    Ok(())
}

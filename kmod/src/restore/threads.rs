// SPDX-License-Identifier: GPL-2.0

//! Threads: masks, rseq, registers, the call they were interrupted in.

use super::bad;
use super::garbled;
use super::Finder;
use crate::kx::netlink::Failure;
use crate::kx::regset;
use crate::kx::restart;
use crate::kx::signal;
use crate::kx::signal::Masks;
use pmig_core::validate;
use pmig_wire::record::Record;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Restart;
use pmig_wire::thread::Thread;
use pmig_wire::thread::RESTORE_MASK;

/// The most entries of a `poll(2)`: the kernel looks at `RLIMIT_NOFILE` again when the call goes on.
const MAX_POLL: u32 = i32::MAX as u32;

/// Gives a thread its masks and its rseq registration.
pub(super) fn restore_thread(finder: &mut Finder<'_>, record: &Record<'_>) -> Result<(), Failure> {
    let (thread, _) = record.parse::<Thread>().map_err(|_| garbled(record.kind))?;
    validate::thread(thread, |tid| finder.has(tid)).map_err(bad)?;
    let park = finder.find(thread.tid.get())?;
    signal::set_masks(
        &park.hold()?,
        Masks {
            blocked: thread.blocked.get(),
            saved: thread.saved_mask.get(),
            restore: thread.flags.get() & RESTORE_MASK != 0,
        },
    );
    if thread.deadline.get() != 0 {
        let (monotonic, _) = park.task().clock_offsets();
        park.set_deadline(thread.deadline.get().saturating_sub(monotonic));
    }
    park.set_exit_addresses(thread.robust_list.get(), thread.clear_child_tid.get());
    park.task()
        .set_rseq(thread)
        .map_err(|_| garbled(record.kind))
}

/// Gives a thread one of its register sets.
pub(super) fn restore_registers(
    finder: &mut Finder<'_>,
    record: &Record<'_>,
) -> Result<(), Failure> {
    let (registers, bytes) = record
        .parse::<Registers>()
        .map_err(|_| garbled(record.kind))?;
    validate::registers(registers, bytes, |tid| finder.has(tid)).map_err(bad)?;
    let (tid, note) = (registers.tid.get(), registers.note.get());
    let park = finder.find(tid)?;
    regset::set(&park.hold()?, note, bytes).map_err(|errno| {
        Failure::new(
            errno,
            format_args!("register set {note:#x} of thread {tid} is not accepted"),
        )
    })
}

/// Gives a thread its restart block.
pub(super) fn restore_restart(finder: &mut Finder<'_>, record: &Record<'_>) -> Result<(), Failure> {
    let (restart, _) = record
        .parse::<Restart>()
        .map_err(|_| garbled(record.kind))?;
    validate::restart(restart, MAX_POLL, |tid| finder.has(tid)).map_err(bad)?;
    let tid = restart.tid.get();
    let park = finder.find(tid)?;
    restart::set(&park.hold()?, restart).map_err(|errno| {
        Failure::new(
            errno,
            format_args!("the interrupted call of thread {tid} is not known here"),
        )
    })
}

// SPDX-License-Identifier: GPL-2.0

//! Threads: identity, registers, the call they were interrupted in.

use super::Records;
use crate::freeze::Parks;
use crate::kx::regset;
use crate::kx::restart;
use crate::kx::signal;
use crate::kx::task::Task;
use kernel::prelude::*;
use pmig_wire::process::facts;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Thread;
use pmig_wire::thread::NOTE_PRSTATUS;
use pmig_wire::thread::NOTE_XSTATE;
use pmig_wire::thread::RESTORE_MASK;
use zerocopy::little_endian::U32;
use zerocopy::FromZeros;

/// Describes the threads of a process that runs, as far as others can see them.
pub(super) fn survey(records: &mut Records, leader: &Task) -> Result {
    for task in leader.threads()? {
        let mut thread = Thread::new_zeroed();
        task.describe_thread(&mut thread);
        records.add(&thread)?;
    }
    Ok(())
}

/// Describes frozen threads with all that they have. Returns facts that stand against moving them.
pub(super) fn capture(records: &mut Records, parks: &Parks) -> Result<u64> {
    let mut found = 0;
    let mut buffer = KVVec::with_capacity(regset::MAX_SIZE, GFP_KERNEL)?;
    for park in parks.iter() {
        let task = park.task();
        let mut thread = Thread::new_zeroed();
        task.describe_thread(&mut thread);
        let held = park.hold()?;
        let masks = signal::masks(&held);
        thread.blocked.set(masks.blocked);
        if masks.restore {
            thread.saved_mask.set(masks.saved);
            thread.flags.set(thread.flags.get() | RESTORE_MASK);
        }
        if park.deadline() != 0 {
            let (monotonic, _) = task.clock_offsets();
            thread
                .deadline
                .set(park.deadline().saturating_add(monotonic));
        }
        records.add(&thread)?;
        for note in [NOTE_PRSTATUS, NOTE_XSTATE] {
            buffer.clear();
            regset::get(&held, note, &mut buffer)?;
            let registers = Registers {
                tid: thread.tid,
                note: U32::new(note),
            };
            records.add_with_tail(&registers, &buffer)?;
        }
        match restart::get(&held) {
            Some(block) => records.add(&block)?,
            None => found |= facts::UNKNOWN_RESTART,
        }
    }
    Ok(found)
}

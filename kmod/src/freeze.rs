// SPDX-License-Identifier: GPL-2.0

//! Freezing and thawing all threads of a process.

use crate::kx::netlink::Failure;
use crate::kx::park::Park;
use crate::kx::park::ParkState;
use crate::kx::task::Task;
use crate::kx::time;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use kernel::sync::Arc;
use kernel::time::Msecs;

/// The parks of one process, the leader's first.
pub(crate) type Parks = KVVec<Arc<Park>>;

/// Lets all tasks of `parks` run.
pub(crate) fn release(parks: &Parks) {
    for park in parks.iter() {
        park.release();
    }
}

fn milliseconds_left(deadline: i64) -> Msecs {
    let left = deadline.saturating_sub(time::monotonic()) / 1_000_000;
    Msecs::try_from(left.max(1)).unwrap_or(1)
}

/// Parks threads until a look at the process finds none that is not parked: a parked thread makes no new ones.
fn park_all(leader: &Task, parks: &mut Parks, deadline: i64) -> Result<(), Failure> {
    let mut known: RBTree<usize, ()> = RBTree::new();
    loop {
        let first = parks.len();
        for thread in leader.threads()? {
            if known.get(&thread.key()).is_some() || thread.is_exiting() {
                continue;
            }
            match Park::queue(thread) {
                Ok(park) => parks.push(park, GFP_KERNEL)?,
                // Exited in between.
                Err(error) if error == ESRCH => {}
                Err(error) => return Err(error.into()),
            }
        }
        let new = parks.get(first..).unwrap_or(&[]);
        if new.is_empty() {
            return Ok(());
        }
        for park in new {
            if time::monotonic() >= deadline && park.state() == ParkState::Queued {
                return Err(cannot_park(park));
            }
            match park.wait_parked(milliseconds_left(deadline)) {
                Ok(()) => {}
                Err(error) if error == ETIMEDOUT => return Err(cannot_park(park)),
                Err(error) => return Err(error.into()),
            }
            known.try_create_and_insert(park.task().key(), (), GFP_KERNEL)?;
        }
    }
}

fn cannot_park(park: &Park) -> Failure {
    let comm = park.task().comm();
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(comm.len());
    let name = comm
        .get(..end)
        .and_then(|name| core::str::from_utf8(name).ok())
        .unwrap_or("?");
    Failure::new(
        EBUSY,
        format_args!(
            "thread {} ({name}) cannot be frozen where it is now",
            park.task().global_tid()
        ),
    )
}

/// Freezes all threads of the process that `leader` leads, within `milliseconds`.
///
/// On failure nothing is left frozen.
pub(crate) fn freeze(leader: &Task, milliseconds: u32) -> Result<Parks, Failure> {
    let deadline =
        time::monotonic().saturating_add(i64::from(milliseconds).saturating_mul(1_000_000));
    let mut parks = Parks::new();
    let result = park_all(leader, &mut parks, deadline).and_then(|()| {
        // Threads that died on the way are none of the process's any more.
        parks.retain(|park| park.is_frozen());
        match parks.first() {
            Some(park) if park.task() == leader => Ok(()),
            _ => Err(Failure::new(
                ESRCH,
                format_args!("the process ended or ran another program"),
            )),
        }
    });
    match result {
        Ok(()) => Ok(parks),
        Err(failure) => {
            release(&parks);
            Err(failure)
        }
    }
}

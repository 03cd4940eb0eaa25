// SPDX-License-Identifier: GPL-2.0

//! Restores what a frozen vessel cannot do for itself: registers, masks, interrupted calls, signals that wait.
//!
//! The records come from a peer. Each is checked before it is used, and the kernel's own functions check again.

mod signals;
mod threads;

use crate::freeze::Parks;
use crate::kx::netlink::Failure;
use crate::kx::park::Park;
use kernel::prelude::*;
use kernel::sync::Arc;
use pmig_core::validate::Reason;
use pmig_wire::record::Kind;
use pmig_wire::record::Reader;

/// Finds parks by TID. Records come in the order of the threads, so the next one is most often the right one.
struct Finder<'a> {
    parks: &'a Parks,
    tids: KVVec<u32>,
    cursor: usize,
}

impl<'a> Finder<'a> {
    fn new(parks: &'a Parks) -> Result<Self> {
        let mut tids = KVVec::with_capacity(parks.len(), GFP_KERNEL)?;
        for park in parks.iter() {
            tids.push(park.task().own_tid(), GFP_KERNEL)?;
        }
        Ok(Self {
            parks,
            tids,
            cursor: 0,
        })
    }

    fn has(&self, tid: u32) -> bool {
        self.tids.get(self.cursor) == Some(&tid) || self.tids.contains(&tid)
    }

    fn find(&mut self, tid: u32) -> Result<&'a Arc<Park>, Failure> {
        for step in 0..self.tids.len() {
            let index = self.cursor.wrapping_add(step) % self.tids.len();
            if self.tids.get(index) == Some(&tid) {
                self.cursor = index;
                return self.parks.get(index).ok_or_else(|| EINVAL.into());
            }
        }
        Err(Failure::new(
            ESRCH,
            format_args!("the vessel has no thread {tid}"),
        ))
    }
}

fn garbled(kind: Kind) -> Failure {
    Failure::new(
        EBADMSG,
        format_args!("a record of kind {kind:?} is garbled"),
    )
}

fn bad(reason: Reason) -> Failure {
    Failure::new(EBADMSG, format_args!("{}", reason.message()))
}

/// Gives the threads of a frozen vessel what `bytes`, a record stream, say.
pub(crate) fn restore(parks: &Parks, bytes: &[u8]) -> Result<(), Failure> {
    let mut finder = Finder::new(parks)?;
    for record in Reader::new(bytes) {
        let record = record.map_err(|error| {
            Failure::new(EBADMSG, format_args!("the records are garbled: {error:?}"))
        })?;
        let result = match record.kind {
            Kind::Thread => threads::restore_thread(&mut finder, &record),
            Kind::Registers => threads::restore_registers(&mut finder, &record),
            Kind::Restart => threads::restore_restart(&mut finder, &record),
            Kind::PendingSignal => signals::restore_pending(&mut finder, &record),
            Kind::PosixTimer => signals::restore_timer(&mut finder, &record),
            kind => Err(Failure::new(
                EBADMSG,
                format_args!("a record of kind {kind:?} has no place here"),
            )),
        };
        result?;
    }
    Ok(())
}

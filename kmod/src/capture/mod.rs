// SPDX-License-Identifier: GPL-2.0

//! Captures a process as a record stream.
//!
//! The same code describes a process that runs (a survey, for admission) and one that is frozen (a capture); what only
//! makes sense of a frozen one comes with its parks.

mod creds;
mod files;
mod mm;
mod process;
mod signals;
mod threads;
mod timers;

use crate::freeze::Parks;
use crate::kx::mm::Mm;
use crate::kx::netlink::Failure;
use crate::kx::task::Task;
use files::Files;
use kernel::prelude::*;
use pmig_wire::record;
use pmig_wire::record::Payload;
use pmig_wire::record::Sink;

/// A record stream that is being written.
pub(crate) struct Records(KVVec<u8>);

impl Sink for Records {
    type Error = Error;

    fn put(&mut self, bytes: &[u8]) -> Result {
        Ok(self.0.extend_from_slice(bytes, GFP_KERNEL)?)
    }
}

impl Records {
    /// Appends a record without a tail.
    fn add<T: Payload>(&mut self, payload: &T) -> Result {
        record::write(self, payload, &[])
    }

    /// Appends a record with a tail.
    fn add_with_tail<T: Payload>(&mut self, payload: &T, tail: &[u8]) -> Result {
        record::write(self, payload, tail)
    }
}

/// Describes the process that `leader` leads. With `parks` it is frozen, and everything is described.
pub(crate) fn capture(leader: &Task, parks: Option<&Parks>) -> Result<KVVec<u8>, Failure> {
    let mut records = Records(KVVec::new());
    let Some(mm) = Mm::of(leader) else {
        // A kernel thread or a process that has ended: its facts say so, and there is no more.
        process::describe_without_memory(&mut records, leader)?;
        return Ok(records.0);
    };
    let mut files = Files::new(leader, parks.is_some())?;
    let mut later = Records(KVVec::new());
    // Descriptors come first: which files have one must be known when the holders of mapped files are counted.
    files.descriptors(&mut later)?;
    let mut facts = 0;
    mm::capture(&mut later, &mm, &mut files)?;
    match parks {
        Some(parks) => facts |= threads::capture(&mut later, parks)?,
        None => threads::survey(&mut later, leader)?,
    }
    creds::capture(&mut later, leader)?;
    if let Some(parks) = parks {
        signals::capture(&mut later, parks)?;
        timers::capture(&mut later, leader)?;
    }
    // The process comes first, but its facts and the identities of its files are known only now.
    process::describe(&mut records, leader, &mm, &mut files, facts)?;
    files.finish(&mut records)?;
    records.0.extend_from_slice(&later.0, GFP_KERNEL)?;
    Ok(records.0)
}

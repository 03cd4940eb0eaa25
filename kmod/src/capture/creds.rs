// SPDX-License-Identifier: GPL-2.0

//! Credentials: the leader's, and those of threads that differ.

use super::Records;
use crate::kx::task::Task;
use kernel::prelude::*;
use pmig_wire::process::facts;
use zerocopy::IntoBytes;

/// Describes the credentials of all threads. Returns facts that they show.
///
/// Threads share one structure until one of them changes its own; after that it may still say the same.
pub(super) fn capture(records: &mut Records, leader: &Task) -> Result<u64> {
    let (first, groups) = leader.credentials()?;
    records.add_with_tail(&first, groups.as_slice().as_bytes())?;
    let mut found = 0;
    for thread in leader.threads()? {
        if thread.cred_key() == leader.cred_key() {
            continue;
        }
        let (own, own_groups) = thread.credentials()?;
        let mut same = own;
        same.tid = first.tid;
        let equal =
            same == first && own_groups.as_slice().as_bytes() == groups.as_slice().as_bytes();
        if !equal {
            found |= facts::MIXED_CREDENTIALS;
        }
        records.add_with_tail(&own, own_groups.as_slice().as_bytes())?;
    }
    Ok(found)
}

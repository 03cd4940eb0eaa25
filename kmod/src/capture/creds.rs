// SPDX-License-Identifier: GPL-2.0

//! Credentials: the leader's, and those of threads that differ.

use super::Records;
use crate::kx::task::Task;
use kernel::prelude::*;
use zerocopy::IntoBytes;

/// Describes the credentials of all threads.
///
/// Threads share one structure until one of them changes its own; after that it may still say the same.
pub(super) fn capture(records: &mut Records, leader: &Task) -> Result {
    let (first, groups) = leader.credentials()?;
    records.add_with_tail(&first, groups.as_slice().as_bytes())?;
    for thread in leader.threads()? {
        if thread.cred_key() == leader.cred_key() {
            continue;
        }
        let (own, own_groups) = thread.credentials()?;
        records.add_with_tail(&own, own_groups.as_slice().as_bytes())?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Credentials: the leader's, and those of threads that differ.

use super::Records;
use crate::kx::task::Task;
use kernel::prelude::*;
use zerocopy::IntoBytes;

fn add(records: &mut Records, task: &Task) -> Result {
    let (credentials, groups) = task.credentials()?;
    records.add_with_tail(&credentials, groups.as_slice().as_bytes())
}

/// Describes the credentials of all threads. Threads share one structure until one of them changes its own.
pub(super) fn capture(records: &mut Records, leader: &Task) -> Result {
    add(records, leader)?;
    for thread in leader.threads()? {
        if thread.cred_key() != leader.cred_key() {
            add(records, &thread)?;
        }
    }
    Ok(())
}

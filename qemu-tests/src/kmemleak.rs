// SPDX-License-Identifier: GPL-2.0

//! Memory that a kernel with kmemleak has lost. Kernels without it lose none that anybody knows of.

use std::time::Duration;

use anyhow::Result;

use crate::guest::Guest;

/// The kernel's list of what nobody points to any more.
const LIST: &str = "/sys/kernel/debug/kmemleak";

/// Looking through all memory takes long in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lets the kernel look for leaks only when it is asked to: a look of its own would fall into some test.
pub fn prepare(guest: &Guest) -> Result<()> {
    guest.run_ok(&format!("[ ! -e {LIST} ] || echo scan=off >{LIST}"))?;
    Ok(())
}

/// What a guest's kernel has lost since it was booted, with the calls that have allocated it.
pub fn leaks(guest: &Guest) -> Result<String> {
    // What is younger than five seconds is not reported, and nothing is the first time it is seen.
    let script = format!(
        "[ -e {LIST} ] || exit 0
        sleep 5
        echo scan >{LIST}
        echo scan >{LIST}
        cat {LIST}"
    );
    guest
        .command(["/bin/bash", "-c", &script])
        .timeout(PATIENCE)
        .output_ok()
}

// SPDX-License-Identifier: GPL-2.0

//! Which kernel the module was built for, and whether it is the one that runs.
//!
//! Debian's kernels have no CONFIG_MODVERSIONS: a module of another build would load and take structures for what they
//! are not.

use crate::sys;
use kernel::prelude::*;

/// Release that the module was built for (`UTS_RELEASE`), without a terminating zero.
pub(crate) const BUILT_FOR: &[u8] = trim(sys::PMIG_UTS_RELEASE);

/// Version of the module.
pub(crate) const MODULE_VERSION: &[u8] = b"0.1.0";

const fn trim(text: &'static [u8]) -> &'static [u8] {
    match text.split_last() {
        Some((0, rest)) => rest,
        _ => text,
    }
}

/// Fails unless the kernel that runs is the one that the module was built for.
pub(crate) fn check() -> Result {
    let running = crate::kx::host::release();
    if running != BUILT_FOR {
        pr_err!("built for another kernel release than the one that runs\n");
        return Err(ENOEXEC);
    }
    Ok(())
}

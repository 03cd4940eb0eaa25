// SPDX-License-Identifier: GPL-2.0

//! Which kernel the module was built for, and whether it is the one that runs.
//!
//! Debian's kernels have no CONFIG_MODVERSIONS: a module of another build would load and take structures for what they
//! are not. So the release must be the same, and so must the kernel's type information (BTF), which says the layout of
//! every structure: an update that keeps the release's name but not the layouts is noticed.

use crate::kx::host;
use crate::sys;
use kernel::prelude::*;

/// Release that the module was built for (`UTS_RELEASE`), without a terminating zero.
pub(crate) const BUILT_FOR: &[u8] = trim(sys::PMIG_UTS_RELEASE);

/// The same as an attribute has it: a netlink string ends with a zero.
pub(crate) const RELEASE: &[u8] = sys::PMIG_UTS_RELEASE;

/// Version of the module, as an attribute has it.
pub(crate) const MODULE_VERSION: &[u8] = b"0.1.0\0";

const fn trim(text: &'static [u8]) -> &'static [u8] {
    match text.split_last() {
        Some((0, rest)) => rest,
        _ => text,
    }
}

/// Fails unless the kernel that runs is the one that the module was built for.
pub(crate) fn check() -> Result {
    if host::release() != BUILT_FOR {
        pr_err!("built for another kernel release than the one that runs\n");
        return Err(ENOEXEC);
    }
    let built_for = host::btf_checksum_of_build();
    if built_for == 0 {
        pr_notice!("built without type information: structure layouts are not checked\n");
        return Ok(());
    }
    let running = host::btf_checksum().inspect_err(|_| {
        pr_err!("the kernel's type information in /sys/kernel/btf/vmlinux cannot be read\n");
    })?;
    if running != built_for {
        pr_err!("built for another build of this kernel release than the one that runs\n");
        return Err(ENOEXEC);
    }
    Ok(())
}

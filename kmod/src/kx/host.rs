// SPDX-License-Identifier: GPL-2.0

//! The kernel that runs.

use crate::sys;
use kernel::prelude::*;

/// Its release, as `uname -r`.
pub(crate) fn release() -> &'static [u8] {
    // SAFETY: The release of the initial UTS namespace is written only at boot and ends with a zero.
    unsafe { CStr::from_char_ptr(sys::pmig_release()) }.to_bytes()
}

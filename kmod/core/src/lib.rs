// SPDX-License-Identifier: GPL-2.0

//! What pmig decides, without kernel or I/O.

#![cfg_attr(not(CONFIG_RUST), no_std)]
#![forbid(unsafe_code)]

/// Whether a capability set holds the capability `number`.
pub fn has_capability(set: u64, number: u32) -> bool {
    set.checked_shr(number).is_some_and(|shifted| shifted & 1 == 1)
}

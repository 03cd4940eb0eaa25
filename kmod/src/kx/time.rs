// SPDX-License-Identifier: GPL-2.0

//! The host's clocks, nanoseconds.

use crate::sys;
use kernel::bindings;

/// `CLOCK_MONOTONIC`.
pub(crate) fn monotonic() -> i64 {
    // SAFETY: May be called anywhere.
    unsafe { bindings::ktime_get() }
}

/// `CLOCK_BOOTTIME`.
pub(crate) fn boottime() -> i64 {
    // SAFETY: May be called anywhere.
    unsafe { sys::pmig_ktime_get_boottime() }
}

/// `CLOCK_REALTIME`.
pub(crate) fn realtime() -> i64 {
    // SAFETY: May be called anywhere.
    unsafe { sys::pmig_ktime_get_real() }
}

/// The scheduler's clock of this CPU, in which it notes when tasks come and go.
pub(super) fn scheduler() -> u64 {
    // SAFETY: May be called anywhere.
    unsafe { sys::pmig_local_clock() }
}

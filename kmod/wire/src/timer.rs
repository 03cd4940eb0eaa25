// SPDX-License-Identifier: GPL-2.0
//! Timers that send signals: those of `setitimer(2)` and of `timer_create(2)`.

use crate::record::payload;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// `ITIMER_REAL` of include/uapi/linux/time.h.
pub const ITIMER_REAL: u32 = 0;
/// `ITIMER_VIRTUAL`
pub const ITIMER_VIRTUAL: u32 = 1;
/// `ITIMER_PROF`
pub const ITIMER_PROF: u32 = 2;

/// An interval timer that is set.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct IntervalTimer {
    /// [`ITIMER_REAL`], [`ITIMER_VIRTUAL`], [`ITIMER_PROF`].
    pub which: U32,
    /// Zero.
    pub reserved: U32,
    /// [`ITIMER_REAL`]: when it expires or has expired, by `CLOCK_MONOTONIC` in the view of the process. The others: the CPU
    /// time until then. Nanoseconds.
    pub expires: I64,
    /// The period, nanoseconds; 0 if it expires once.
    pub interval: U64,
}
const _: () = assert!(size_of::<IntervalTimer>() == 24);
payload!(IntervalTimer, IntervalTimer, reserved = reserved);

/// A POSIX timer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PosixTimer {
    /// As `timer_t`.
    pub id: U32,
    /// As `clockid_t`.
    pub clock: U32,
    /// The clock by which [`PosixTimer::expires`] counts: a span of `CLOCK_REALTIME` is one of `CLOCK_MONOTONIC`.
    pub base: U32,
    /// As `sigev_notify`.
    pub notify: U32,
    /// As `sigev_signo`.
    pub signal: U32,
    /// The thread that the signal is for, in the process's own PID namespace; 0 for the process.
    pub tid: U32,
    /// As `sigev_value`.
    pub value: U64,
    /// When it expires, or has expired if its signal still waits, in the view of the process, nanoseconds; 0 if it is not
    /// set.
    pub expires: I64,
    /// The period, nanoseconds; 0 if it expires once.
    pub interval: U64,
    /// As `timer_getoverrun(2)` says of the last signal.
    pub last_overrun: I64,
}
const _: () = assert!(size_of::<PosixTimer>() == 56);
payload!(PosixTimer, PosixTimer);

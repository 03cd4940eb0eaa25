// SPDX-License-Identifier: GPL-2.0
//! Descriptors by which a program waits for events: eventfd, signalfd, timerfd, epoll. The agent reads and makes them; the
//! module says only which there are.

use crate::record::payload;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// Reads take one from the count, not all of it. A bit of [`Eventfd::flags`].
pub const EVENTFD_SEMAPHORE: u32 = 1;

/// What an eventfd holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Eventfd {
    /// Identity of its [`crate::file::File`].
    pub file: U32,
    /// [`EVENTFD_SEMAPHORE`].
    pub flags: U32,
    /// The count.
    pub count: U64,
}
payload!(Eventfd, Eventfd);

/// What a signalfd waits for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Signalfd {
    /// Identity of its [`crate::file::File`].
    pub file: U32,
    /// Zero.
    pub reserved: U32,
    /// The signals: bit n is signal n + 1.
    pub mask: U64,
}
payload!(Signalfd, Signalfd, reserved = reserved);

/// Was set to an absolute time. A bit of [`Timerfd::flags`].
pub const TIMERFD_ABSOLUTE: u32 = 1;
/// Reads fail when the clock is set. A bit of [`Timerfd::flags`].
pub const TIMERFD_CANCEL_ON_SET: u32 = 2;

/// How a timerfd is set.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Timerfd {
    /// Identity of its [`crate::file::File`].
    pub file: U32,
    /// As `clockid_t`.
    pub clock: U32,
    /// [`TIMERFD_ABSOLUTE`], [`TIMERFD_CANCEL_ON_SET`].
    pub flags: U32,
    /// Zero.
    pub reserved: U32,
    /// Expirations that were not read yet.
    pub ticks: U64,
    /// When it expires next, by [`Timerfd::expiry_clock`] in the view of the process, nanoseconds; 0 if it is not set.
    pub expires: I64,
    /// The period, nanoseconds; 0 if it expires once.
    pub interval: U64,
}
const _: () = assert!(size_of::<Timerfd>() == 40);
payload!(Timerfd, Timerfd, reserved = reserved);

/// `CLOCK_REALTIME` of include/uapi/linux/time.h.
pub const CLOCK_REALTIME: u32 = 0;
/// `CLOCK_MONOTONIC`
pub const CLOCK_MONOTONIC: u32 = 1;
/// `CLOCK_BOOTTIME`
pub const CLOCK_BOOTTIME: u32 = 7;
/// `CLOCK_REALTIME_ALARM`
pub const CLOCK_REALTIME_ALARM: u32 = 8;
/// `CLOCK_BOOTTIME_ALARM`
pub const CLOCK_BOOTTIME_ALARM: u32 = 9;

impl Timerfd {
    /// The clock by which [`Timerfd::expires`] counts; none if there is no timer on such a clock. A span of
    /// `CLOCK_REALTIME` goes on when that is set, as the kernel has it (`hrtimer_setup()`, kernel/time/hrtimer.c).
    pub fn expiry_clock(&self) -> Option<u32> {
        match self.clock.get() {
            CLOCK_REALTIME if self.flags.get() & TIMERFD_ABSOLUTE == 0 => Some(CLOCK_MONOTONIC),
            CLOCK_REALTIME | CLOCK_REALTIME_ALARM => Some(CLOCK_REALTIME),
            CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Some(CLOCK_BOOTTIME),
            CLOCK_MONOTONIC => Some(CLOCK_MONOTONIC),
            _ => None,
        }
    }
}

/// One entry of an epoll set.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct EpollEntry {
    /// Identity of the epoll set's [`crate::file::File`].
    pub file: U32,
    /// Identity of the watched [`crate::file::File`]; 0 if the process has no descriptor of it any more.
    pub target: U32,
    /// The number under which it was added, which may mean another file by now.
    pub fd: U32,
    /// As `epoll_event.events`.
    pub events: U32,
    /// As `epoll_event.data`.
    pub data: U64,
}
payload!(EpollEntry, EpollEntry);

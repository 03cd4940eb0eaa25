// SPDX-License-Identifier: GPL-2.0
//! Signal actions and signals that wait.

use crate::record::payload;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// Number of signals (`_NSIG`).
pub const SIGNAL_COUNT: u32 = 64;

/// Bytes of a `siginfo_t` that the kernel keeps (`sizeof(kernel_siginfo_t)`).
pub const SIGINFO_SIZE: usize = 48;

/// What a signal does. Only actions other than the default are sent.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Action {
    /// 1 to 64.
    pub signal: U32,
    /// Zero.
    pub reserved: U32,
    /// `SIG_IGN` (1) or the handler's address.
    pub handler: U64,
    /// `SA_*`.
    pub flags: U64,
    /// `sa_restorer`.
    pub restorer: U64,
    /// Signals blocked while the handler runs.
    pub mask: U64,
}
payload!(Action, SignalAction, reserved = reserved);

/// A signal that waits to be delivered, in the order of its queue.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Pending {
    /// The thread it is for, in the process's own PID namespace; 0 for the whole process.
    pub tid: U32,
    /// Zero.
    pub reserved: U32,
    /// The beginning of its `siginfo_t`.
    pub siginfo: [u8; SIGINFO_SIZE],
}
const _: () = assert!(size_of::<Pending>() == 56);
payload!(Pending, PendingSignal, reserved = reserved);

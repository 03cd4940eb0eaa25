// SPDX-License-Identifier: GPL-2.0
//! What belongs to one thread: its identity, registers and the system call it was in.

use crate::record::payload;
use zerocopy::little_endian::I32;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// [`Thread::flags`]: [`Thread::saved_mask`] replaces the mask when the system call ends.
pub const RESTORE_MASK: u32 = 1;
/// [`Thread::flags`]: new children get the default scheduling policy.
pub const RESET_ON_FORK: u32 = 2;
/// [`Thread::flags`]: `no_new_privs` is set.
pub const NO_NEW_PRIVS: u32 = 4;
/// [`Thread::flags`]: was told on which CPUs it may run; its [`Placement`] says on which.
pub const PINNED: u32 = 8;

/// One thread. The first is the thread-group leader; its [`Registers`] and [`Restart`] follow it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Thread {
    /// TID in the process's own PID namespace.
    pub tid: U32,
    /// TID in the initial namespace of the capturing host.
    pub host_tid: U32,
    /// [`RESTORE_MASK`], [`RESET_ON_FORK`], [`NO_NEW_PRIVS`], [`PINNED`].
    pub flags: U32,
    /// `SCHED_*` as in the uapi.
    pub policy: U32,
    /// -20 to 19.
    pub nice: I32,
    /// 1 to 99 for the real-time policies, else 0.
    pub priority: U32,
    /// Blocked signals, bit n-1 for signal n.
    pub blocked: U64,
    /// The mask to go back to when [`RESTORE_MASK`] is set.
    pub saved_mask: U64,
    /// Alternate signal stack: address.
    pub altstack_start: U64,
    /// Alternate signal stack: size in bytes.
    pub altstack_size: U64,
    /// Alternate signal stack: `SS_*` flags.
    pub altstack_flags: U32,
    /// As `PR_GET_PDEATHSIG`.
    pub parent_death_signal: U32,
    /// Head of the robust futex list.
    pub robust_list: U64,
    /// Word that the kernel clears and wakes when the thread ends.
    pub clear_child_tid: U64,
    /// Registered rseq area, 0 for none.
    pub rseq_start: U64,
    /// Its length in bytes.
    pub rseq_length: U32,
    /// Its signature.
    pub rseq_signature: U32,
    /// ABI version that the registration chose, 0 without one.
    pub rseq_version: U32,
    /// The CPU number that the kernel last wrote to the area. It refuses an area that says otherwise.
    pub rseq_cpu: U32,
    /// The NUMA node, likewise.
    pub rseq_node: U32,
    /// The concurrency ID, likewise.
    pub rseq_concurrency: U32,
    /// As `PR_GET_TIMERSLACK`, nanoseconds.
    pub timer_slack: U64,
    /// When the interrupted call ends, if it is one that starts anew with the program's own timeout
    /// (`rt_sigtimedwait`, `epoll_wait`): `CLOCK_MONOTONIC` in the view of the process, nanoseconds; 0 for none.
    pub deadline: I64,
    /// Name, padded with zeros.
    pub comm: [u8; 16],
}
const _: () = assert!(size_of::<Thread>() == 144);
payload!(Thread, Thread);

/// One register set as the kernel's user_regset interface shows it; the tail is its bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Registers {
    /// TID in the process's own PID namespace.
    pub tid: U32,
    /// ELF note type: 1 (`NT_PRSTATUS`) or 0x202 (`NT_X86_XSTATE`).
    pub note: U32,
}
payload!(Registers, Registers, tail = true);

/// `NT_PRSTATUS`: general registers, segment bases, `orig_ax`.
pub const NOTE_PRSTATUS: u32 = 1;
/// `NT_X86_XSTATE`: all extended state.
pub const NOTE_XSTATE: u32 = 0x202;

/// Where a thread runs and how its input and output are ranked. The agent reads and sets it. The tail is the set of CPUs, bit
/// n of byte n / 8 for each; empty if it may run on all.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Placement {
    /// TID in the process's own PID namespace.
    pub tid: U32,
    /// As `ioprio_get(2)`: class and level; 0 if it has none of its own.
    pub io_priority: U32,
}
payload!(Placement, Placement, tail = true);

/// The longest set of CPUs, bytes: as many as a kernel can be configured for.
pub const MAX_CPU_SET: usize = 1024;

/// Which system call `restart_syscall` goes on with. 0 is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum RestartKind {
    /// None: `restart_syscall` fails with `EINTR`.
    None = 1,
    /// `nanosleep`, and `clock_nanosleep` with a relative time.
    Nanosleep = 2,
    /// `futex` with a time.
    Futex = 3,
    /// `poll`.
    Poll = 4,
}

impl RestartKind {
    /// Every kind that an agent teaches its module, in the order of the numbers.
    pub const ALL: [RestartKind; 4] = [
        RestartKind::None,
        RestartKind::Nanosleep,
        RestartKind::Futex,
        RestartKind::Poll,
    ];

    /// The kind with this number on the wire.
    pub fn from_wire(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// What the thread's `restart_block` holds (include/linux/restart_block.h). Addresses are the program's own.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Restart {
    /// TID in the process's own PID namespace.
    pub tid: U32,
    /// A [`RestartKind`].
    pub kind: U32,
    /// Nanosleep: the clock (`CLOCK_*`). Futex: the flags. Poll: 1 if a time is set.
    pub selector: U32,
    /// Nanosleep: how the remaining time is returned (`enum timespec_type`). Futex: the value. Poll: number of entries.
    pub argument: U32,
    /// When the call ends: nanoseconds of its clock, in the view of the process.
    pub expires: I64,
    /// Nanosleep: where the remaining time goes. Futex: the word. Poll: the entries.
    pub address: U64,
    /// Zero: no kind of call that goes on has a second address.
    pub address2: U64,
    /// Futex: the bit set.
    pub bitset: U32,
    /// Zero.
    pub reserved: U32,
}
const _: () = assert!(size_of::<Restart>() == 48);
payload!(Restart, Restart, reserved = reserved);

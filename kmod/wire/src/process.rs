// SPDX-License-Identifier: GPL-2.0
//! What belongs to a process as a whole and to no resource of its own.

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

/// Things that are true of a process and decide whether it can be moved. Bits of [`Process::facts`].
pub mod facts {
    /// A kernel thread, or a thread that the kernel made for a process.
    pub const KERNEL_THREAD: u64 = 1 << 0;
    /// The init process of its PID namespace.
    pub const INIT: u64 = 1 << 1;
    /// Has living or unreaped children.
    pub const CHILDREN: u64 = 1 << 2;
    /// A thread is traced by ptrace.
    pub const TRACED: u64 = 1 << 3;
    /// A thread traces another task.
    pub const TRACER: u64 = 1 << 4;
    /// A thread has a seccomp mode or filter.
    pub const SECCOMP: u64 = 1 << 5;
    /// A thread runs 32-bit or x32 code.
    pub const COMPAT: u64 = 1 << 6;
    /// The memory is shared with a task outside the thread group.
    pub const MEMORY_SHARED: u64 = 1 << 7;
    /// The descriptor table is shared with a task outside, or threads have separate ones.
    pub const FILES_SHARED: u64 = 1 << 8;
    /// The working directory is shared with a task outside, or threads have separate ones.
    pub const FS_SHARED: u64 = 1 << 9;
    /// The signal handlers are shared with a task outside the thread group.
    pub const SIGHAND_SHARED: u64 = 1 << 10;
    /// Waits as the parent of a vfork.
    pub const VFORK_PARENT: u64 = 1 << 11;
    /// Was itself made by vfork and has not yet executed a program.
    pub const VFORK_CHILD: u64 = 1 << 12;
    /// Has used io_uring.
    pub const IO_URING: u64 = 1 << 13;
    /// Has an asynchronous I/O context (`io_setup`).
    pub const AIO: u64 = 1 << 14;
    /// Has a POSIX timer (`timer_create`) of CPU time, or one that wakes the host.
    pub const POSIX_TIMER: u64 = 1 << 16;
    /// Is exiting or dumping core.
    pub const EXITING: u64 = 1 << 17;
    /// Has a local descriptor table (`modify_ldt`).
    pub const LDT: u64 = 1 << 18;
    /// Has access to I/O ports (`ioperm`, `iopl`).
    pub const IO_PORTS: u64 = 1 << 19;
    /// Has a hardware breakpoint.
    pub const BREAKPOINT: u64 = 1 << 20;
    /// Has a user-mode shadow stack.
    pub const SHADOW_STACK: u64 = 1 << 21;
    /// May use AMX tiles.
    pub const AMX: u64 = 1 << 22;
    /// Has system-call user dispatch on.
    pub const SYSCALL_DISPATCH: u64 = 1 << 23;
    /// Has a NUMA memory policy.
    pub const NUMA_POLICY: u64 = 1 << 24;
    /// Has performance events open.
    pub const PERF_EVENTS: u64 = 1 << 25;
    /// Has allocated memory protection keys.
    pub const PROTECTION_KEYS: u64 = 1 << 26;
    /// Has GDT entries for thread-local storage (`set_thread_area`).
    pub const TLS_SEGMENTS: u64 = 1 << 30;
    /// Has changed TSC, CPUID or speculation settings for itself.
    pub const CPU_SETTINGS: u64 = 1 << 31;
    /// Has adjustments to undo on System V semaphores (`SEM_UNDO`).
    pub const SEM_UNDO: u64 = 1 << 32;
    /// Has a keyring of its own (thread, process or session).
    pub const KEYRINGS: u64 = 1 << 33;
    /// A thread has an LSM confinement beyond the default.
    pub const LSM_LABEL: u64 = 1 << 34;
    /// A thread uses the deadline or an extensible scheduling class.
    pub const SCHED_SPECIAL: u64 = 1 << 35;
    /// Watches user addresses by uprobes.
    pub const UPROBES: u64 = 1 << 36;
    /// Has a controlling terminal.
    pub const TERMINAL: u64 = 1 << 37;
    /// The program is being watched by userfaultfd, or watches itself.
    pub const USERFAULTFD: u64 = 1 << 39;
    /// A thread other than the first made the process's exit signal or parent differ (`CLONE_PARENT` oddities).
    pub const ODD_PARENT: u64 = 1 << 40;
    /// The first thread has exited while others run.
    pub const LEADER_EXITED: u64 = 1 << 41;
    /// Is a child subreaper.
    pub const SUBREAPER: u64 = 1 << 42;
    /// A mapping exists that this version does not understand.
    pub const UNKNOWN_MAPPING: u64 = 1 << 43;
    /// A frozen system call is of a kind that cannot be resumed elsewhere.
    pub const UNKNOWN_RESTART: u64 = 1 << 44;
}

/// The process itself. One for each process, the first record of its stream.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Process {
    /// PID in the process's own PID namespace: what it believes.
    pub pid: U32,
    /// PID in the initial namespace of the capturing host; 0 is never one.
    pub host_pid: U32,
    /// Parent's PID in the process's own namespace, 0 if outside.
    pub parent_pid: U32,
    /// Process group in the process's own namespace, 0 if outside.
    pub group: U32,
    /// Session in the process's own namespace, 0 if outside.
    pub session: U32,
    /// Number of threads; as many [`crate::thread::Thread`] records follow.
    pub threads: U32,
    /// See [`facts`].
    pub facts: U64,
    /// Identity of the executable's [`crate::file::File`].
    pub executable: U32,
    /// Identity of the working directory's [`crate::file::File`].
    pub working_directory: U32,
    /// Identity of the root directory's [`crate::file::File`].
    pub root_directory: U32,
    /// Signal that the parent gets when the process ends.
    pub exit_signal: U32,
    /// As `umask(2)`.
    pub umask: U32,
    /// As `personality(2)`.
    pub personality: U32,
    /// As `/proc/PID/coredump_filter`.
    pub coredump_filter: U32,
    /// As `/proc/PID/oom_score_adj`.
    pub oom_score_adj: I32,
    /// Signal that stopped the process, 0 while it is not stopped.
    pub stop_signal: U32,
    /// As `PR_GET_DUMPABLE`.
    pub dumpable: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<Process>() == 72);
payload!(Process, Process, reserved = reserved);

/// Number of resource limits on Linux (`RLIM_NLIMITS`, include/uapi/asm-generic/resource.h).
pub const LIMIT_COUNT: usize = 16;

/// One resource limit; `u64::MAX` is no limit.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Limit {
    /// The soft limit.
    pub current: U64,
    /// The hard limit.
    pub maximum: U64,
}

/// All resource limits, indexed by their uapi number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Limits {
    /// By `RLIMIT_*`.
    pub limits: [Limit; LIMIT_COUNT],
}
payload!(Limits, Limits);

/// The process's clocks at one instant.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Clocks {
    /// `CLOCK_REALTIME`, nanoseconds.
    pub realtime: I64,
    /// `CLOCK_MONOTONIC` in the process's view, nanoseconds.
    pub monotonic: I64,
    /// `CLOCK_BOOTTIME` in the process's view, nanoseconds.
    pub boottime: I64,
    /// What the time namespace adds to the host's monotonic clock, nanoseconds.
    pub monotonic_offset: I64,
    /// What the time namespace adds to the host's boottime clock, nanoseconds.
    pub boottime_offset: I64,
}
payload!(Clocks, Clocks);

/// The inode numbers of the namespaces a process is in, as in `/proc/PID/ns`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Namespaces {
    /// Mount namespace.
    pub mnt: U32,
    /// UTS namespace.
    pub uts: U32,
    /// IPC namespace.
    pub ipc: U32,
    /// Network namespace.
    pub net: U32,
    /// PID namespace of the process.
    pub pid: U32,
    /// PID namespace for its children.
    pub pid_for_children: U32,
    /// User namespace of its credentials.
    pub user: U32,
    /// Cgroup namespace.
    pub cgroup: U32,
    /// Time namespace.
    pub time: U32,
    /// Time namespace for its children.
    pub time_for_children: U32,
}
payload!(Namespaces, Namespaces);

// SPDX-License-Identifier: GPL-2.0
//! The memory that the agent and a vessel share: a header, one slot for each thread, an arena for lists and their data.
//!
//! Compiled into both. The file is mapped at one address in the agent and at `stub_start + code_size` in the vessel, so it
//! holds no pointers but those into the vessel's address space.
//!
//! ```text
//! vessel:  stub_start          + code_size        + PAGE            + PAGE * slots
//!          | code (r-x)        | header           | slots           | arena              |
//! file:                        0
//! ```

use core::sync::atomic::AtomicU32;

/// Size of a page, of the header, and of a slot.
pub const PAGE: u64 = 4096;

/// The first field of the header.
pub const MAGIC: u32 = 0x7633_6d70;

/// [`Header::flags`]: a time namespace with the offsets of [`Header::clock_offsets`].
pub const TIME_NAMESPACE: u32 = 1;
/// [`Header::flags`]: a PID namespace with an init and a /proc of its own.
pub const PID_NAMESPACE: u32 = 2;
/// [`Header::flags`]: descriptor 1 is the directory of a cgroup.
pub const INTO_CGROUP: u32 = 4;

/// [`Header::state`]: not yet ready.
pub const STARTING: u32 = 0;
/// [`Header::state`]: the vessel serves its first slot.
pub const READY: u32 = 1;
/// [`Header::state`]: [`Header::failed_step`] and [`Header::errno`] say why there will be no vessel.
pub const FAILED: u32 = 2;

/// [`Header::release`]: wait.
pub const KEEP: u32 = 0;
/// [`Header::release`]: go and leave the child behind.
pub const RELEASE: u32 = 1;
/// [`Header::release`]: kill the child, wait for it, go.
pub const DISCARD: u32 = 2;

/// Name of the init process of a PID namespace made for a moved process.
pub const INIT_NAME: &str = "pmig-init";

/// What the making of a vessel consists of, as it can fail.
pub mod step {
    /// Mapping the shared memory.
    pub const MAP: u32 = 1;
    /// Making the time namespace.
    pub const TIME_NAMESPACE: u32 = 2;
    /// Setting its clocks.
    pub const CLOCK_OFFSETS: u32 = 3;
    /// Making the PID and mount namespaces.
    pub const PID_NAMESPACE: u32 = 4;
    /// Making the process.
    pub const CLONE: u32 = 5;
    /// Mounting the namespace's own /proc.
    pub const MOUNT: u32 = 6;
    /// Making the process inside the namespace.
    pub const CLONE_INSIDE: u32 = 7;
    /// Making a session.
    pub const SESSION: u32 = 8;
    /// Mapping the stub: the addresses are taken by the fresh process.
    pub const STUB: u32 = 9;
    /// Moving the shared memory.
    pub const MOVE: u32 = 10;

    /// What a step does, for messages.
    pub fn name(step: u32) -> &'static str {
        match step {
            MAP => "map the shared memory",
            TIME_NAMESPACE => "make a time namespace",
            CLOCK_OFFSETS => "set the clocks of the time namespace",
            PID_NAMESPACE => "make a PID namespace",
            CLONE => "make the process",
            MOUNT => "mount /proc in the PID namespace",
            CLONE_INSIDE => "make the process in the PID namespace",
            SESSION => "make a session",
            STUB => "map the stub",
            MOVE => "move the shared memory",
            _ => "start",
        }
    }
}

/// What stands at the beginning of the shared memory.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`TIME_NAMESPACE`], [`PID_NAMESPACE`], [`INTO_CGROUP`].
    pub flags: u32,
    /// Address of the stub in the vessel.
    pub stub_start: u64,
    /// Bytes of code, rounded up to pages.
    pub code_size: u64,
    /// Bytes of the shared memory.
    pub control_size: u64,
    /// The PID that the vessel shall have.
    pub pid: u32,
    /// Signal that the parent gets at the vessel's end.
    pub exit_signal: u32,
    /// Bytes of [`Header::clock_offsets`] in use.
    pub clock_offsets_length: u32,
    /// [`STARTING`], [`READY`] or [`FAILED`]; a futex.
    pub state: AtomicU32,
    /// One of [`step`].
    pub failed_step: AtomicU32,
    /// Why it failed.
    pub errno: AtomicU32,
    /// The process that the spawner made, as the spawner sees it: the vessel, or the init of its namespace.
    pub child: AtomicU32,
    /// [`KEEP`], [`RELEASE`] or [`DISCARD`]: what the spawner shall do with its child; a futex.
    pub release: AtomicU32,
    /// What is written to /proc/self/timens_offsets.
    pub clock_offsets: [u8; 128],
}
const _: () = assert!(size_of::<Header>() as u64 <= PAGE);

/// Where a thread gets its lists from. The rest of its page is the thread's stack.
#[repr(C)]
pub struct Slot {
    /// Counts the lists given; a futex that the thread waits for.
    pub sequence: AtomicU32,
    /// [`Slot::sequence`] of the list that was executed last; a futex that the agent waits for.
    pub done: AtomicU32,
    /// Number of entries.
    pub length: AtomicU32,
    /// Number of entries executed as expected: the index of the one that was not, or [`Slot::length`].
    pub completed: AtomicU32,
    /// Address of the first entry in the vessel.
    pub list: u64,
}

/// [`Entry::flags`]: the list ends here if the result is an error.
pub const CHECK_SUCCESS: u32 = 1 << 8;
/// [`Entry::flags`]: the list ends here if the result is not [`Entry::expected`].
pub const CHECK_EQUAL: u32 = 1 << 9;

/// [`Entry::number`]: makes a thread. Arguments: address of a `struct clone_args`, its size, address of the new thread's
/// slot.
pub const SPAWN_THREAD: u32 = 1 << 31;

/// One system call.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Entry {
    /// Its number, or [`SPAWN_THREAD`].
    pub number: u32,
    /// Bit n: argument n is the index of an earlier entry whose result is meant. And [`CHECK_SUCCESS`], [`CHECK_EQUAL`].
    pub flags: u32,
    /// The arguments.
    pub arguments: [u64; 6],
    /// See [`CHECK_EQUAL`].
    pub expected: i64,
    /// What the kernel answered; a negative error number on failure.
    pub result: i64,
}
const _: () = assert!(size_of::<Entry>() == 72);

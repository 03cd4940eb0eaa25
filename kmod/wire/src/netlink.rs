// SPDX-License-Identifier: GPL-2.0
//! The generic netlink family between the module and the tool. `kmod/pmig.yaml` describes the same for other tools; a
//! test keeps the two equal.
//!
//! Every request needs `CAP_SYS_ADMIN` in the initial user namespace. A session belongs to the socket that made it: when
//! the socket closes, a source session thaws what it froze and a destination session kills its vessels, unless the
//! session was committed, in which case it waits for another socket to go on with it.

/// Name of the family.
pub const FAMILY: &str = "pmig";
/// Version of the family.
pub const VERSION: u8 = 1;
/// Name of the multicast group that carries [`Command::Event`].
pub const EVENTS: &str = "events";

/// The requests. `dump` means that the request is made with `NLM_F_DUMP` and answered by several messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Command {
    /// Asks who the module is. Reply: `Abi`, `ModuleVersion`, `Release`, `Harvested`.
    Hello = 1,
    /// Dump. Describes the process `Pid` while it runs, without touching it. Reply: `Records`, several.
    Survey = 2,
    /// Makes a session. Request: `Role`, `Migration`. Reply: `Session`.
    SessionNew = 3,
    /// Ends `Session`. Not committed: as if the owner were gone. Committed: refused while tasks are parked.
    SessionEnd = 4,
    /// Freezes all threads of `Pid` into `Session`. Request: also `DeadlineMs`. Reply: `Threads`. A vessel must have been
    /// given to the session by `Vessel` before. On failure nothing stays frozen, and the extack names the thread.
    Freeze = 5,
    /// Lets all tasks of `Session` run. For a source, as if nothing had happened. For a destination, as the restored
    /// process: the stub is unmapped first. Either way the session ends.
    Thaw = 6,
    /// Dump. Describes everything of the frozen process `Pid` of `Session`. Reply: `Records`, several.
    Capture = 7,
    /// Sends the pages in `Ranges` of `Pid` of `Session` on the connected socket `Socket`. Reply: `Pages`, `ZeroPages`,
    /// `Bytes`. With the flag `Last` the end of the stream is sent too.
    SendPages = 8,
    /// Receives pages for the vessel `Pid` of `Session` from the connected socket `Socket` until the stream ends.
    /// Reply: `Pages`, `Bytes`.
    ReceivePages = 9,
    /// Gives the frozen vessel `Pid` of `Session` what `Records` say: threads, registers, restarts, pending signals.
    Restore = 10,
    /// The point of no return: `Session` outlives its owner from here on.
    Commit = 11,
    /// Kills all tasks of `Session` and ends it.
    Kill = 12,
    /// Dump. Lists the sessions: `Session`, `Role`, `State`, `Migration`, `Pid`, `Threads`, `Owned`.
    Status = 13,
    /// Learns from the frozen process `Pid` of `Session`, which waits in a call of the kind `Kind`
    /// ([`crate::thread::RestartKind`]), how the kernel resumes such calls.
    Harvest = 14,
    /// Multicast. The state of a session has changed: `Session`, `Migration`, `Pid` (0 for none), `State`.
    Event = 15,
    /// Gives the process `Pid` to the destination `Session`: it dies with the session until it is thawed. Request: also
    /// `StubStart` and `StubEnd`, the addresses that are unmapped at the thaw and receive no pages.
    Vessel = 16,
    /// Takes over a committed `Session` whose owner is gone: this socket owns it now.
    Adopt = 17,
}

impl Command {
    /// Every command, in the order of the numbers.
    pub const ALL: [Command; 17] = [
        Command::Hello,
        Command::Survey,
        Command::SessionNew,
        Command::SessionEnd,
        Command::Freeze,
        Command::Thaw,
        Command::Capture,
        Command::SendPages,
        Command::ReceivePages,
        Command::Restore,
        Command::Commit,
        Command::Kill,
        Command::Status,
        Command::Harvest,
        Command::Event,
        Command::Vessel,
        Command::Adopt,
    ];

    /// The command with this number.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|command| *command as u8 == number)
    }
}

/// The attributes, one space for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Attribute {
    /// u32. Names a session on this host; never 0.
    Session = 1,
    /// 16 bytes. Names a migration everywhere.
    Migration = 2,
    /// u8, a [`Role`].
    Role = 3,
    /// u32. A process, in the PID namespace of the caller.
    Pid = 4,
    /// u32. A thread, in the PID namespace of the caller.
    Tid = 5,
    /// u32, milliseconds.
    DeadlineMs = 6,
    /// u32. A number of threads.
    Threads = 7,
    /// u8, a [`SessionState`].
    State = 8,
    /// Bytes: a record stream of whole records.
    Records = 9,
    /// u32. A descriptor of the caller: a connected stream socket.
    Socket = 10,
    /// Bytes: an array of [`crate::pages::PageRange`].
    Ranges = 11,
    /// u64. Pages that went over the socket.
    Pages = 12,
    /// u64. Pages that hold only zeros and were not sent.
    ZeroPages = 13,
    /// u64. Bytes that went over the socket, headers included.
    Bytes = 14,
    /// Flag.
    Last = 15,
    /// u64, an address.
    StubStart = 16,
    /// u64, an address.
    StubEnd = 17,
    /// u32.
    Kind = 18,
    /// String. The kernel release that the module was built for and runs on.
    Release = 19,
    /// String.
    ModuleVersion = 20,
    /// u32, [`crate::ABI_VERSION`].
    Abi = 21,
    /// u32, a bit for each [`crate::thread::RestartKind`] that was harvested.
    Harvested = 22,
    /// u8. 1 if a socket owns the session.
    Owned = 23,
}

impl Attribute {
    /// The highest number.
    pub const MAX: u16 = Attribute::Owned as u16;
}

/// Which side of a migration a session is. 0 is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// The process is here and goes away.
    Source = 1,
    /// Vessels are here and become the process.
    Destination = 2,
}

impl Role {
    /// The role with this number.
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Role::Source),
            2 => Some(Role::Destination),
            _ => None,
        }
    }
}

/// How far a session is. 0 is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SessionState {
    /// Nothing is frozen.
    Open = 1,
    /// Tasks are parked, and thaw (source) or die (destination) with the owner.
    Frozen = 2,
    /// Tasks are parked until they are told what to do, owner or not.
    Committed = 3,
    /// Over.
    Ended = 4,
}

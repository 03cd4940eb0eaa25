// SPDX-License-Identifier: GPL-2.0
//! The kernel module as the agent sees it: one trait with a method for each command of [`pmig_wire::netlink`], spoken over
//! generic netlink ([`netlink`]) or imitated for tests ([`fake`]).
//!
//! A [`Kernel`] is one socket, and a session belongs to the socket that made it: dropping the value is what "the owner is
//! gone" means to the module.
#![forbid(unsafe_code)]

pub mod fake;
mod message;
pub mod netlink;
mod request;

use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrationId;
use pmig_wire::netlink::Command;
use pmig_wire::netlink::Role;
use pmig_wire::netlink::SessionState;
use pmig_wire::pages::PageRange;
use pmig_wire::thread::RestartKind;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Opens connections to the module.
pub trait Device: Send + Sync + fmt::Debug {
    /// Opens one. It owns the sessions that are made through it.
    fn open(&self) -> Result<Box<dyn Kernel>, KernelError>;
}

/// A connection to the module. The methods are the commands of [`Command`] and say nothing that is not said there.
pub trait Kernel: Send + fmt::Debug {
    /// Who the module is.
    fn hello(&mut self) -> Result<ModuleInfo, KernelError>;
    /// Describes the running process `pid`: a record stream.
    fn survey(&mut self, pid: u32) -> Result<Vec<u8>, KernelError>;
    /// Makes a session and returns its name.
    fn session_new(&mut self, role: Role, migration: MigrationId) -> Result<u32, KernelError>;
    /// Ends a session that is not committed.
    fn session_end(&mut self, session: u32) -> Result<(), KernelError>;
    /// Freezes all threads of `pid`, and returns how many there are.
    fn freeze(&mut self, session: u32, pid: u32, deadline: Duration) -> Result<u32, KernelError>;
    /// Lets all tasks of the session run and ends it.
    fn thaw(&mut self, session: u32) -> Result<(), KernelError>;
    /// Describes the frozen process `pid`: a record stream.
    fn capture(&mut self, session: u32, pid: u32) -> Result<Vec<u8>, KernelError>;
    /// Sends the pages in `ranges` on `socket`, and with `last` the end of the stream.
    fn send_pages(
        &mut self,
        session: u32,
        pid: u32,
        socket: BorrowedFd<'_>,
        ranges: &[PageRange],
        last: bool,
    ) -> Result<PageTotals, KernelError>;
    /// Receives pages for the vessel `pid` from `socket` until the stream ends.
    fn receive_pages(
        &mut self,
        session: u32,
        pid: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<PageTotals, KernelError>;
    /// Gives the process `pid`, whose stub occupies the addresses `stub`, to a destination session.
    fn vessel(&mut self, session: u32, pid: u32, stub: Range<u64>) -> Result<(), KernelError>;
    /// Gives the frozen vessel `pid` what `records` say.
    fn restore(&mut self, session: u32, pid: u32, records: &[u8]) -> Result<(), KernelError>;
    /// The point of no return: the session outlives its owner from here on.
    fn commit(&mut self, session: u32) -> Result<(), KernelError>;
    /// Kills all tasks of the session and ends it.
    fn kill(&mut self, session: u32) -> Result<(), KernelError>;
    /// All sessions of the module.
    fn status(&mut self) -> Result<Vec<SessionInfo>, KernelError>;
    /// Learns from a frozen process, which waits in a call of `kind`, how the kernel resumes such calls.
    fn harvest(&mut self, session: u32, pid: u32, kind: RestartKind) -> Result<(), KernelError>;
    /// Takes over a committed session whose owner is gone.
    fn adopt(&mut self, session: u32) -> Result<(), KernelError>;
}

/// What the module says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Its [`pmig_wire::ABI_VERSION`].
    pub abi: u32,
    /// Its version.
    pub version: String,
    /// The kernel release that it was built for.
    pub release: String,
    /// A bit for each [`RestartKind`] that it has learnt.
    pub harvested: u32,
}

impl ModuleInfo {
    /// Whether the module has learnt how calls of `kind` are resumed.
    pub fn has_harvested(&self, kind: RestartKind) -> bool {
        1u32.checked_shl(kind as u32)
            .is_some_and(|bit| self.harvested & bit != 0)
    }
}

/// What went over a page connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageTotals {
    /// Pages.
    pub pages: u64,
    /// Pages that hold only zeros and were not sent.
    pub zero_pages: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

impl PageTotals {
    /// Adds what another call moved.
    pub fn add(&mut self, other: PageTotals) {
        self.pages = self.pages.saturating_add(other.pages);
        self.zero_pages = self.zero_pages.saturating_add(other.zero_pages);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// One session of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its name on this host.
    pub session: u32,
    /// Which side it is.
    pub role: Role,
    /// How far it is.
    pub state: SessionState,
    /// The migration that it belongs to.
    pub migration: MigrationId,
    /// The process, 0 while there is none.
    pub pid: u32,
    /// How many of its threads are parked.
    pub threads: u32,
    /// Whether a socket owns it.
    pub owned: bool,
}

/// Why the module did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The module is not loaded.
    #[error("the kernel module pmig is not loaded")]
    NotLoaded,
    /// The module is of another version.
    #[error("the kernel module speaks version {module}, this tool version {tool}")]
    Version {
        /// The module's ABI version.
        module: u32,
        /// This tool's ABI version.
        tool: u32,
    },
    /// The module refused, and says why.
    #[error("{}", describe_refusal(*.command, *.errno, .message))]
    Refused {
        /// What was asked.
        command: Command,
        /// The error number.
        errno: i32,
        /// The module's own words, empty if it gave none.
        message: String,
    },
    /// The module's answer makes no sense.
    #[error("the kernel module answered {command:?} with nonsense: {problem}")]
    Malformed {
        /// What was asked.
        command: Command,
        /// What is wrong with the answer.
        problem: &'static str,
    },
    /// Netlink itself failed.
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
}

fn describe_refusal(command: Command, errno: i32, message: &str) -> String {
    let error = io::Error::from_raw_os_error(errno);
    if message.is_empty() {
        format!("the kernel module refused {command:?}: {error}")
    } else {
        format!("{message} ({error})")
    }
}

impl KernelError {
    /// The error number of a refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KernelError::Refused { errno, .. } => Some(*errno),
            KernelError::Io(error) => error.raw_os_error(),
            _ => None,
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        let code = match &error {
            KernelError::NotLoaded => FailureCode::ModuleNotLoaded,
            KernelError::Version { .. } => FailureCode::ModuleVersion,
            KernelError::Refused {
                errno: libc::EPERM | libc::EACCES,
                ..
            } => FailureCode::PermissionDenied,
            KernelError::Refused {
                errno: libc::ESRCH,
                command: Command::Survey | Command::Freeze,
                ..
            } => FailureCode::NoSuchProcess,
            KernelError::Refused {
                errno: libc::ESRCH, ..
            } => FailureCode::ProcessDied,
            KernelError::Refused {
                command: Command::Freeze,
                ..
            } => FailureCode::FreezeFailed,
            KernelError::Refused {
                command: Command::Capture,
                ..
            } => FailureCode::CaptureFailed,
            KernelError::Refused {
                command: Command::Restore | Command::Vessel,
                ..
            } => FailureCode::RestoreFailed,
            KernelError::Refused { .. } | KernelError::Malformed { .. } | KernelError::Io(_) => {
                FailureCode::KernelError
            }
        };
        Failure::new(code, error.to_string())
    }
}

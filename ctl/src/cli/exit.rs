// SPDX-License-Identifier: GPL-2.0
//! Exit codes: what a script can tell from how `pmigctl` ended.

use std::process::ExitCode;

/// How a command ended. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done as asked.
    Success = 0,
    /// Something went wrong that has no number of its own.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No such process.
    NoSuchProcess = 3,
    /// Obstacles keep the process from being moved.
    NotMovable = 4,
    /// A kernel thread, an init process, or pmig itself: never moved.
    Protected = 5,
    /// The host is unknown or its agent cannot be reached.
    Unreachable = 6,
    /// The peer speaks another version, or nonsense.
    Protocol = 7,
    /// The kernel module is not loaded, or is of another version.
    Module = 8,
    /// Not allowed.
    Permission = 9,
    /// The migration failed and the process runs on here.
    StillHere = 10,
    /// Not known yet where the process runs, or the copy here is not gone yet.
    InDoubt = 11,
    /// Some processes stayed (`drain`), or a check failed (`doctor`).
    Stayed = 12,
    /// No agent runs on this host.
    NoAgent = 13,
}

impl ExitStatus {
    /// Every status, in the order of the numbers.
    pub const ALL: [ExitStatus; 14] = [
        ExitStatus::Success,
        ExitStatus::Failure,
        ExitStatus::Usage,
        ExitStatus::NoSuchProcess,
        ExitStatus::NotMovable,
        ExitStatus::Protected,
        ExitStatus::Unreachable,
        ExitStatus::Protocol,
        ExitStatus::Module,
        ExitStatus::Permission,
        ExitStatus::StillHere,
        ExitStatus::InDoubt,
        ExitStatus::Stayed,
        ExitStatus::NoAgent,
    ];

    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What it means, as the help says it.
    pub fn description(self) -> &'static str {
        match self {
            ExitStatus::Success => {
                "done as asked; after migrate, the process runs there and is gone here"
            }
            ExitStatus::Failure => "an error without a number of its own",
            ExitStatus::Usage => "the command line makes no sense",
            ExitStatus::NoSuchProcess => "no such process",
            ExitStatus::NotMovable => "not movable: the obstacles are listed",
            ExitStatus::Protected => "a kernel thread, an init process or pmig itself",
            ExitStatus::Unreachable => "unknown host, or its agent cannot be reached",
            ExitStatus::Protocol => "the peer has another version or speaks nonsense",
            ExitStatus::Module => "the kernel module is not loaded or of another version",
            ExitStatus::Permission => "permission denied",
            ExitStatus::StillHere => "the migration failed, the process runs on here",
            ExitStatus::InDoubt => "the outcome is not known yet: see pmigctl status",
            ExitStatus::Stayed => "drain: something stayed; doctor: something is wrong",
            ExitStatus::NoAgent => "no agent runs on this host",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status.number())
    }
}

/// The end of every help text. A test compares it with [`ExitStatus`].
pub(super) const HELP: &str = "\
Exit codes:
   0  done as asked; after migrate, the process runs there and is gone here
   1  an error without a number of its own
   2  the command line makes no sense
   3  no such process
   4  not movable: the obstacles are listed
   5  a kernel thread, an init process or pmig itself
   6  unknown host, or its agent cannot be reached
   7  the peer has another version or speaks nonsense
   8  the kernel module is not loaded or of another version
   9  permission denied
  10  the migration failed, the process runs on here
  11  the outcome is not known yet: see pmigctl status
  12  drain: something stayed; doctor: something is wrong
  13  no agent runs on this host

Environment: PMIG_SOCKET, PMIG_STATE_DIR, PMIG_LOG (log filter), NO_COLOR.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code() {
        for (index, status) in ExitStatus::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(status.number()), index);
            let line = format!("{:>4}  {}", status.number(), status.description());
            assert!(HELP.contains(&line), "{line}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! What a drain did.

use crate::cli::ExitStatus;
use crate::proto::Failure;
use crate::proto::ObstacleReport;
use serde::Serialize;

/// What became, or would become, of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It can be moved.
    WouldMove,
    /// It runs on the destination.
    Moved {
        /// Its PID there.
        destination_pid: u32,
        /// For how long it did not run, microseconds.
        downtime_us: u64,
    },
    /// It cannot be moved; see the obstacles.
    Refused,
    /// Moving it failed.
    Failed {
        /// Why, and where it is now.
        failure: Failure,
    },
    /// It ended by itself before its turn.
    Gone,
    /// An earlier failure made it pointless to try.
    NotTried,
    /// It was not looked at, by default.
    LeftAlone {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Whether the process was selected and is still here.
    pub fn stayed(&self) -> bool {
        match self {
            Outcome::Refused | Outcome::Failed { .. } | Outcome::NotTried => true,
            Outcome::WouldMove
            | Outcome::Moved { .. }
            | Outcome::Gone
            | Outcome::LeftAlone { .. } => false,
        }
    }
}

/// One process of a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its PID.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub command: String,
    /// Its memory, bytes.
    pub resident_bytes: u64,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What stands against moving it, and what it could notice.
    pub obstacles: Vec<ObstacleReport>,
}

/// What a drain did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainReport {
    /// Where to.
    pub destination: String,
    /// Nothing was moved.
    pub dry_run: bool,
    /// The processes, in the order in which they were moved.
    pub processes: Vec<Item>,
}

impl DrainReport {
    /// How many processes were moved, or would be.
    pub fn moved(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Moved { .. } | Outcome::WouldMove))
    }

    /// How many processes stayed although they were selected.
    pub fn stayed(&self) -> usize {
        self.count(Outcome::stayed)
    }

    /// How many processes were left alone.
    pub fn left_alone(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::LeftAlone { .. }))
    }

    fn count(&self, fits: impl Fn(&Outcome) -> bool) -> usize {
        self.processes
            .iter()
            .filter(|item| fits(&item.outcome))
            .count()
    }

    /// How the command ends.
    pub fn exit_status(&self) -> ExitStatus {
        if self.stayed() == 0 {
            ExitStatus::Success
        } else {
            ExitStatus::Stayed
        }
    }
}

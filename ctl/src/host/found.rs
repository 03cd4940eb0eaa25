// SPDX-License-Identifier: GPL-2.0
//! An obstacle that was found, with the words for it.

use crate::proto::ObstacleReport;
use crate::proto::Severity;
use crate::proto::Side;
use pmig_core::obstacle;
use pmig_core::obstacle::Obstacle;
use std::fmt::Display;

/// One obstacle and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub obstacle: &'static Obstacle,
    /// What it is about; empty for the process as a whole.
    pub object: String,
    /// The whole sentence.
    pub message: String,
}

impl Found {
    /// `obstacle`, found in or because of `object`.
    pub fn new(obstacle: &'static Obstacle, object: impl Display) -> Self {
        Self {
            obstacle,
            message: obstacle.message(&object).to_string(),
            object: object.to_string(),
        }
    }

    /// `obstacle`, found in the process as a whole.
    pub fn process(obstacle: &'static Obstacle) -> Self {
        Self {
            obstacle,
            message: obstacle.message(&"the process").to_string(),
            object: String::new(),
        }
    }

    /// Whether this stops the migration.
    pub fn refuses(&self) -> bool {
        self.obstacle.refuses()
    }

    /// The same for the other side and for the user.
    pub fn report(&self) -> ObstacleReport {
        let side = match self.obstacle.side {
            obstacle::Side::Source => Side::Source,
            obstacle::Side::Destination => Side::Destination,
            obstacle::Side::Both => Side::Both,
        };
        ObstacleReport {
            code: self.obstacle.code.to_owned(),
            object: self.object.clone(),
            message: self.message.clone(),
            hint: self.obstacle.hint.to_owned(),
            severity: if self.refuses() {
                Severity::Refusal
            } else {
                Severity::Note
            },
            side,
        }
    }
}

impl From<&ObstacleReport> for Found {
    /// What a peer found. A code that this version does not know still refuses if it did for the peer, who had a reason.
    fn from(report: &ObstacleReport) -> Self {
        match obstacle::find(&report.code) {
            Some(obstacle) => Self {
                obstacle,
                object: report.object.clone(),
                message: report.message.clone(),
            },
            None if report.refuses() => Self::new(
                &obstacle::destination::REFUSED_BY_PEER,
                format!("{} ({})", report.message, report.code),
            ),
            None => Self::new(
                &obstacle::destination::NOTED_BY_PEER,
                format!("{} ({})", report.message, report.code),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_unknown_code_refuses() {
        let report = ObstacleReport {
            code: "from-the-future".into(),
            object: String::new(),
            message: "no".into(),
            hint: String::new(),
            severity: Severity::Refusal,
            side: Side::Destination,
        };
        assert!(Found::from(&report).refuses());
        assert!(Found::from(&report).message.contains("from-the-future"));
    }

    #[test]
    fn a_report_keeps_code_and_words() {
        let found = Found::new(&obstacle::source::SOCKET, "descriptor 5");
        let report = found.report();
        assert_eq!(report.code, "socket");
        assert_eq!(report.message, "descriptor 5 is a socket");
        assert_eq!(Found::from(&report), found);
    }
}

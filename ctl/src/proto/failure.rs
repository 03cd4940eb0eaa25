// SPDX-License-Identifier: GPL-2.0
//! Why something was not done, in a form that travels between agents and to the command line.

use crate::cli::ExitStatus;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Who owns the process after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// It runs on the source, or was never touched there.
    SourceRunning,
    /// It runs on the destination.
    DestinationRunning,
    /// Not known: frozen copies wait for a decision.
    Unknown,
}

impl Owner {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Owner::SourceRunning => "source-running",
            Owner::DestinationRunning => "destination-running",
            Owner::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $exit:ident,)*) => {
        /// What went wrong. The names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum FailureCode {
            $($(#[$doc])* $name,)*
        }

        impl FailureCode {
            /// Every code.
            pub const ALL: &'static [FailureCode] = &[$(FailureCode::$name,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self {
                    $(FailureCode::$name => $text,)*
                }
            }

            fn exit_status(self) -> ExitStatus {
                match self {
                    $(FailureCode::$name => ExitStatus::$exit,)*
                }
            }
        }
    };
}

codes! {
    /// There is no such process.
    NoSuchProcess = "no-such-process" => NoSuchProcess,
    /// Obstacles keep it from being moved.
    NotMovable = "not-movable" => NotMovable,
    /// A kernel thread, an init process or pmig itself.
    Protected = "protected" => Protected,
    /// The name of the host does not resolve.
    UnknownHost = "unknown-host" => Unreachable,
    /// The host's agent cannot be reached.
    CannotConnect = "cannot-connect" => Unreachable,
    /// The peer has another version.
    PeerVersion = "peer-version" => Protocol,
    /// The peer sent something that makes no sense.
    ProtocolError = "protocol-error" => Protocol,
    /// The kernel module is not loaded.
    ModuleNotLoaded = "module-not-loaded" => Module,
    /// The kernel module is of another version than the tool.
    ModuleVersion = "module-version" => Module,
    /// Not allowed.
    PermissionDenied = "permission-denied" => Permission,
    /// No agent runs on this host.
    NoAgent = "no-agent" => NoAgent,
    /// The agent does too much already, or already moves this process.
    Busy = "busy" => StillHere,
    /// Another agent runs on this host.
    AgentRunning = "agent-running" => Failure,
    /// Agents only talk over plain TCP, and the option that allows it was not given.
    InsecureNotAllowed = "insecure-not-allowed" => Usage,
    /// The agent is shutting down.
    ShuttingDown = "shutting-down" => StillHere,
    /// The process could not be frozen in time.
    FreezeFailed = "freeze-failed" => StillHere,
    /// The kernel module refused a step.
    KernelError = "kernel-error" => StillHere,
    /// The connection to the peer was lost.
    LinkLost = "link-lost" => StillHere,
    /// The peer took too long.
    Timeout = "timeout" => StillHere,
    /// The one who asked for it went away or called it off.
    Cancelled = "cancelled" => StillHere,
    /// The destination could not build the process.
    RestoreFailed = "restore-failed" => StillHere,
    /// The source could not read the state of the process.
    CaptureFailed = "capture-failed" => StillHere,
    /// The process ended while it was being moved.
    ProcessDied = "process-died" => StillHere,
    /// The journal could not be written.
    JournalError = "journal-error" => StillHere,
    /// A fault that a test asked for.
    FaultInjected = "fault-injected" => StillHere,
    /// Neither side knows yet how it ended.
    InDoubt = "in-doubt" => InDoubt,
    /// There is no such migration.
    NoSuchMigration = "no-such-migration" => Failure,
    /// What was asked cannot be done with this migration.
    NotResolvable = "not-resolvable" => Failure,
    /// An error of the operating system.
    SystemError = "system-error" => Failure,
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One reason why a process cannot be moved, as it is shown and as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ObstacleReport {
    /// Stable kebab-case code.
    pub code: String,
    /// What it is about: a descriptor, a path, a thread. Empty for the process as a whole.
    pub object: String,
    /// The whole sentence.
    pub message: String,
    /// What can be done about it, empty if nothing is known.
    pub hint: String,
    /// Whether it stops the migration.
    pub severity: Severity,
    /// Which host says so.
    pub side: Side,
}

impl ObstacleReport {
    /// The same in words that are safe to show, whoever sent it.
    pub fn sanitized(self) -> Self {
        Self {
            code: printable(&self.code),
            object: printable(&self.object),
            message: printable(&self.message),
            hint: printable(&self.hint),
            ..self
        }
    }

    /// Whether it stops the migration.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Refusal
    }
}

/// Bytes of obstacles that are listed, so that every list fits into a message.
const MAX_LISTED_BYTES: usize = 256 * 1024;

/// As many of the obstacles as fit into a message, those that refuse first, and at the end how many there are beyond.
pub fn listed(mut obstacles: Vec<ObstacleReport>) -> Vec<ObstacleReport> {
    obstacles.sort_by_key(|obstacle| !obstacle.refuses());
    let mut bytes = 0usize;
    let fits = obstacles.iter().take_while(|obstacle| {
        let texts = [
            &obstacle.code,
            &obstacle.object,
            &obstacle.message,
            &obstacle.hint,
        ];
        bytes = texts.iter().fold(bytes, |sum, text| {
            sum.saturating_add(text.len()).saturating_add(8)
        });
        bytes <= MAX_LISTED_BYTES
    });
    let kept = fits.count();
    let rest = obstacles.split_off(kept);
    if let Some(first) = rest.first() {
        obstacles.push(ObstacleReport {
            code: "more".to_owned(),
            object: String::new(),
            message: format!("{} more are not listed", rest.len()),
            hint: String::new(),
            severity: first.severity,
            side: first.side,
        });
    }
    obstacles
}

/// `text` without what a terminal would take for commands.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// How much an obstacle weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The process could notice the difference, but it is moved.
    Note,
    /// The process is not moved.
    Refusal,
}

/// A host of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Where the process is.
    Source,
    /// Where it goes.
    Destination,
    /// Only the comparison of the two shows it.
    Both,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Source => "source",
            Side::Destination => "destination",
            Side::Both => "both",
        })
    }
}

/// Why something was not done, and who owns the process now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What went wrong.
    pub code: FailureCode,
    /// Who owns the process now.
    pub owner: Owner,
    /// The phase in which it went wrong, empty if it was in none.
    pub phase: String,
    /// Which side it went wrong on.
    pub side: Option<Side>,
    /// The whole sentence.
    pub message: String,
    /// What keeps the process from being moved, if that is the reason.
    pub obstacles: Vec<ObstacleReport>,
}

impl Failure {
    /// A failure before anything was decided: the source owns the process.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            owner: Owner::SourceRunning,
            phase: String::new(),
            side: None,
            message: message.into(),
            obstacles: Vec::new(),
        }
    }

    /// The process cannot be moved.
    pub fn not_movable(obstacles: Vec<ObstacleReport>) -> Self {
        let refusals: Vec<&ObstacleReport> = obstacles
            .iter()
            .filter(|obstacle| obstacle.refuses())
            .collect();
        let message = match refusals.as_slice() {
            [one] => format!("the process cannot be moved: {}", one.message),
            many => format!("the process cannot be moved: {} obstacles", many.len()),
        };
        Self {
            obstacles: listed(obstacles),
            ..Self::new(FailureCode::NotMovable, message)
        }
    }

    /// The same failure with another owner.
    pub fn owned_by(mut self, owner: Owner) -> Self {
        self.owner = owner;
        self
    }

    /// The same failure, having happened on `side` unless it already says where.
    pub fn on(mut self, side: Side) -> Self {
        self.side.get_or_insert(side);
        self
    }

    /// The same failure, having happened in `phase` unless it already says when.
    pub fn in_phase(mut self, phase: &str) -> Self {
        if self.phase.is_empty() {
            self.phase = phase.to_owned();
        }
        self
    }

    /// The same failure in words that are safe to show, whoever sent it.
    pub fn sanitized(self) -> Self {
        Self {
            phase: printable(&self.phase),
            message: printable(&self.message),
            obstacles: self
                .obstacles
                .into_iter()
                .map(ObstacleReport::sanitized)
                .collect(),
            ..self
        }
    }

    /// How a command ends that failed like this.
    pub fn exit_status(&self) -> ExitStatus {
        match self.owner {
            Owner::SourceRunning => self.code.exit_status(),
            Owner::DestinationRunning | Owner::Unknown => ExitStatus::InDoubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_cannot_command_a_terminal() {
        let failure = Failure::new(FailureCode::PeerVersion, "a\x1b[2Jb\n").sanitized();
        assert_eq!(failure.message, "a\u{fffd}[2Jb\u{fffd}");
    }

    #[test]
    fn a_list_of_any_length_fits_into_a_message() {
        let report = |number: usize, severity| ObstacleReport {
            code: "socket".into(),
            object: format!("descriptor {number}"),
            message: "x".repeat(4000),
            hint: String::new(),
            severity,
            side: Side::Source,
        };
        let mut all: Vec<_> = (0..10_000)
            .map(|number| report(number, Severity::Note))
            .collect();
        all.push(report(10_000, Severity::Refusal));
        let listed = listed(all);
        assert!(listed.len() > 10 && listed[0].refuses());
        assert!(listed
            .last()
            .expect("not empty")
            .message
            .ends_with("more are not listed"));
        assert!(serde_json::to_vec(&listed).expect("encoded").len() < 512 * 1024);
        let few = vec![report(1, Severity::Note), report(2, Severity::Note)];
        assert_eq!(super::listed(few.clone()), few);
    }

    #[test]
    fn names_are_those_of_the_json() {
        for code in FailureCode::ALL {
            let json = serde_json::to_string(code).expect("a unit variant");
            assert_eq!(json, format!("\"{}\"", code.name()));
        }
    }
}

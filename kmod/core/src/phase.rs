// SPDX-License-Identifier: GPL-2.0
//! The phases of a migration, who undoes what, and the points at which a test can make it fail.

use core::fmt;
use core::str::FromStr;
use pmig_wire::netlink::Role;

/// One phase. The order is the order of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The agents compare versions, kernels and CPUs.
    Negotiate,
    /// Both sides list every obstacle.
    Admit,
    /// The destination makes namespaces and vessels.
    Prepare,
    /// The source parks every thread.
    Freeze,
    /// The source describes the frozen process.
    Capture,
    /// Records and pages go over.
    Transfer,
    /// The destination turns the vessels into the process.
    Rebuild,
    /// The point of no return: the destination owns the process.
    Commit,
    /// The destination lets the process run.
    Thaw,
    /// The source kills its frozen copy.
    Release,
}

/// What the failure of a phase, or of a later one, leaves one side to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Undo {
    /// Nothing was changed.
    Nothing,
    /// Kill the vessels and remove the namespaces.
    KillVessels,
    /// Let the process run here as if nothing had happened.
    Thaw,
    /// Throw away what was received or read.
    Discard,
    /// There is no way back: ask the other side until its answer is known, then go on.
    AskPeer,
}

impl Undo {
    /// The name, in kebab-case.
    pub const fn name(self) -> &'static str {
        match self {
            Undo::Nothing => "nothing",
            Undo::KillVessels => "kill-vessels",
            Undo::Thaw => "thaw",
            Undo::Discard => "discard",
            Undo::AskPeer => "ask-peer",
        }
    }
}

impl Phase {
    /// Every phase in its order.
    pub const ALL: [Phase; 10] = [
        Phase::Negotiate,
        Phase::Admit,
        Phase::Prepare,
        Phase::Freeze,
        Phase::Capture,
        Phase::Transfer,
        Phase::Rebuild,
        Phase::Commit,
        Phase::Thaw,
        Phase::Release,
    ];

    /// The name, as it is shown and written.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Negotiate => "negotiate",
            Phase::Admit => "admit",
            Phase::Prepare => "prepare",
            Phase::Freeze => "freeze",
            Phase::Capture => "capture",
            Phase::Transfer => "transfer",
            Phase::Rebuild => "rebuild",
            Phase::Commit => "commit",
            Phase::Thaw => "thaw",
            Phase::Release => "release",
        }
    }

    /// The phase with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// The phase after this one.
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| *phase > self)
    }

    /// Whether the source still owns the process when this phase fails.
    pub const fn is_before_commit(self) -> bool {
        !matches!(self, Phase::Commit | Phase::Thaw | Phase::Release)
    }

    /// Whether the process does not run during this phase: its part of the downtime.
    pub const fn is_downtime(self) -> bool {
        matches!(
            self,
            Phase::Freeze
                | Phase::Capture
                | Phase::Transfer
                | Phase::Rebuild
                | Phase::Commit
                | Phase::Thaw
        )
    }

    /// What `role` undoes of this phase. A failed migration undoes its phases in reverse order.
    pub const fn undo(self, role: Role) -> Undo {
        match (self, role) {
            (Phase::Negotiate | Phase::Admit, _) => Undo::Nothing,
            (Phase::Prepare, Role::Destination) => Undo::KillVessels,
            (Phase::Prepare, Role::Source) => Undo::Nothing,
            (Phase::Freeze, Role::Source) => Undo::Thaw,
            (Phase::Freeze, Role::Destination) => Undo::Nothing,
            (Phase::Capture, Role::Source) => Undo::Discard,
            (Phase::Capture, Role::Destination) => Undo::Nothing,
            (Phase::Transfer, _) => Undo::Discard,
            // The vessels that are rebuilt here die by the undo of `prepare`.
            (Phase::Rebuild, _) => Undo::Nothing,
            (Phase::Commit | Phase::Thaw | Phase::Release, _) => Undo::AskPeer,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Which end of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// Before it does anything.
    Begin,
    /// After it has done everything.
    End,
}

/// What happens at a fault point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultAction {
    /// The phase fails.
    Error,
    /// The agent dies on the spot.
    Kill,
    /// The connection to the peer is cut.
    Disconnect,
    /// Nothing happens for so many milliseconds.
    Delay(u32),
}

/// A fault that a test asks for: `side:phase[:edge]:action`, such as `destination:rebuild:kill`,
/// `source:commit:end:disconnect` or `source:transfer:delay=500`. Without an edge it is the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Which agent fails.
    pub role: Role,
    /// In which phase.
    pub phase: Phase,
    /// At which end of it.
    pub edge: Edge,
    /// How.
    pub action: FaultAction,
}

/// The text is not a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseFaultError {
    /// There are too few or too many parts.
    Parts,
    /// The first part is neither `source` nor `destination`.
    Side,
    /// The second part is not a phase.
    Phase,
    /// The third of four parts is neither `begin` nor `end`.
    Edge,
    /// The last part is not an action.
    Action,
}

impl fmt::Display for ParseFaultError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            ParseFaultError::Parts => "a fault is side:phase:action or side:phase:edge:action",
            ParseFaultError::Side => "the side of a fault is source or destination",
            ParseFaultError::Phase => "the fault names no phase of a migration",
            ParseFaultError::Edge => "the edge of a fault is begin or end",
            ParseFaultError::Action => {
                "the action of a fault is error, kill, disconnect or delay=MS"
            }
        })
    }
}

impl core::error::Error for ParseFaultError {}

/// The name of a role.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Destination => "destination",
    }
}

impl FromStr for FaultAction {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(FaultAction::Error),
            "kill" => Ok(FaultAction::Kill),
            "disconnect" => Ok(FaultAction::Disconnect),
            _ => text
                .strip_prefix("delay=")
                .and_then(|number| number.parse().ok())
                .map(FaultAction::Delay)
                .ok_or(ParseFaultError::Action),
        }
    }
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let (side, phase, third) = match (parts.next(), parts.next(), parts.next()) {
            (Some(side), Some(phase), Some(third)) => (side, phase, third),
            _ => return Err(ParseFaultError::Parts),
        };
        let (edge, action) = match (parts.next(), parts.next()) {
            (None, _) => (Edge::Begin, third),
            (Some(action), None) => match third {
                "begin" => (Edge::Begin, action),
                "end" => (Edge::End, action),
                _ => return Err(ParseFaultError::Edge),
            },
            (Some(_), Some(_)) => return Err(ParseFaultError::Parts),
        };
        Ok(Fault {
            role: match side {
                "source" => Role::Source,
                "destination" => Role::Destination,
                _ => return Err(ParseFaultError::Side),
            },
            phase: Phase::from_name(phase).ok_or(ParseFaultError::Phase)?,
            edge,
            action: action.parse()?,
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = match self.edge {
            Edge::Begin => "begin",
            Edge::End => "end",
        };
        write!(
            formatter,
            "{}:{}:{edge}:",
            role_name(self.role),
            self.phase.name()
        )?;
        match self.action {
            FaultAction::Error => formatter.write_str("error"),
            FaultAction::Kill => formatter.write_str("kill"),
            FaultAction::Disconnect => formatter.write_str("disconnect"),
            FaultAction::Delay(milliseconds) => write!(formatter, "delay={milliseconds}"),
        }
    }
}

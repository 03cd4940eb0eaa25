// SPDX-License-Identifier: GPL-2.0
//! What the tool says to the agent of its own host, and what it hears. The reports are also what `--json` prints.

use super::Body;
use super::Failure;
use super::MigrationId;
use super::ObstacleReport;
use pmig_wire::message::MessageKind;
use pmig_wire::netlink;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Which side of a migration this host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The process is here and goes away.
    Source,
    /// The process comes here.
    Destination,
}

impl From<netlink::Role> for Role {
    fn from(role: netlink::Role) -> Self {
        match role {
            netlink::Role::Source => Role::Source,
            netlink::Role::Destination => Role::Destination,
        }
    }
}

impl From<Role> for netlink::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Source => netlink::Role::Source,
            Role::Destination => netlink::Role::Destination,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Source => "source",
            Role::Destination => "destination",
        })
    }
}

/// What the tool asks for. One request a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Move a process. Answered by any number of [`Progress`] and then a [`Reply`]. The tool's end of the connection is
    /// its interest: when it is closed before the commit point, the migration is called off.
    Migrate(MigrateRequest),
    /// What goes on.
    Status,
    /// Decide a migration in doubt.
    Resolve {
        /// Its name, or the beginning of its name.
        migration: String,
        /// What becomes of the copy here.
        decision: Decision,
    },
}

impl Body for Request {
    const KIND: MessageKind = MessageKind::Request;
}

/// Move a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateRequest {
    /// Its PID on this host.
    pub pid: u32,
    /// Name or address of the destination.
    pub host: String,
    /// Port of its agent.
    pub port: u16,
    /// Stop before anything is changed.
    pub dry_run: bool,
    /// Give up after this time.
    pub timeout_ms: Option<u64>,
}

/// What an administrator decides about the copy on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It runs.
    RunHere,
    /// It is killed.
    KillHere,
}

/// Something that happened on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// The migration has a name.
    Started(MigrationId),
    /// A phase began.
    Phase(String),
    /// Memory that is moved, of what has to be moved.
    Bytes {
        /// Moved.
        done: u64,
        /// Of so many.
        total: u64,
    },
}

impl Body for Progress {
    const KIND: MessageKind = MessageKind::Progress;
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The process runs there.
    Migrated(MigrationReport),
    /// What goes on.
    Status(StatusReport),
    /// The migration is decided.
    Resolved(MigrationId),
    /// It was not done.
    Failed(Failure),
}

impl Body for Reply {
    const KIND: MessageKind = MessageKind::Reply;
}

/// A migration that succeeded, or would have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationReport {
    /// Its name.
    pub migration: Option<MigrationId>,
    /// The process on the source.
    pub pid: u32,
    /// The destination as it was asked for.
    pub destination: String,
    /// The process on the destination.
    pub destination_pid: u32,
    /// How its memory was moved.
    pub strategy: String,
    /// Nothing was moved, this only says that it could be.
    pub dry_run: bool,
    /// From the last instruction on the source to the first on the destination, microseconds.
    pub downtime_us: u64,
    /// From the request to the end, microseconds.
    pub total_us: u64,
    /// Bytes sent: records and pages.
    pub bytes: u64,
    /// Pages sent.
    pub pages: u64,
    /// Pages that hold only zeros and were not sent.
    pub zero_pages: u64,
    /// How long each phase took on the source.
    pub phases: Vec<PhaseTime>,
    /// What is different there, and what the process could notice.
    pub notes: Vec<String>,
    /// Obstacles that do not refuse.
    pub obstacles: Vec<ObstacleReport>,
}

/// How long a phase took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// Its name.
    pub phase: String,
    /// Microseconds.
    pub time_us: u64,
}

/// What goes on at a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of the agent.
    pub agent: String,
    /// The agent takes nothing new.
    pub stopping: bool,
    /// Migrations that go on.
    pub active: Vec<ActiveMigration>,
    /// Migrations whose outcome this host does not know.
    pub in_doubt: Vec<DoubtfulMigration>,
    /// Sessions of the kernel module.
    pub sessions: Vec<SessionReport>,
}

/// A migration that goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveMigration {
    /// Its name.
    pub migration: MigrationId,
    /// Which side this host is.
    pub role: Role,
    /// The process on the source.
    pub pid: u32,
    /// The other host.
    pub peer: String,
    /// Where it is.
    pub phase: String,
    /// For how long it has been going on, milliseconds.
    pub age_ms: u64,
}

/// A migration whose outcome is not known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubtfulMigration {
    /// Its name.
    pub migration: MigrationId,
    /// Which side this host is.
    pub role: Role,
    /// The process on this host.
    pub pid: u32,
    /// The other host.
    pub peer: String,
    /// Whether a frozen copy is here.
    pub copy_here: bool,
    /// How often the other host was asked.
    pub attempts: u32,
    /// What the last attempt said.
    pub last_error: String,
}

/// A session of the kernel module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Its number.
    pub session: u32,
    /// Its migration.
    pub migration: MigrationId,
    /// Which side it is.
    pub role: Role,
    /// `open`, `frozen`, `committed` or `ended`.
    pub state: String,
    /// The process, 0 while there is none.
    pub pid: u32,
    /// How many of its threads are parked.
    pub threads: u32,
    /// Whether an agent owns it.
    pub owned: bool,
}

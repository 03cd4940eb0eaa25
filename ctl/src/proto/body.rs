// SPDX-License-Identifier: GPL-2.0
//! What the messages between two agents hold.

use super::Body;
use super::Failure;
use super::MigrationId;
use super::ObstacleReport;
use pmig_wire::message::MessageKind;
use serde::Deserialize;
use serde::Serialize;

macro_rules! body {
    ($type:ty, $kind:ident) => {
        impl Body for $type {
            const KIND: MessageKind = MessageKind::$kind;
        }
    };
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To move a process.
    Migrate(MigrationId),
    /// To carry the pages of a migration that goes on.
    Pages(MigrationId),
    /// To ask how a migration ended.
    Query(MigrationId),
    /// To ask what this host is, and what stands against a process here. Nothing is changed.
    Inspect,
}

/// Names a journal, and with it what the agent remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JournalId(pub u64);

/// The first message of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the calling agent, for messages to people.
    pub agent: String,
    /// What it wants.
    pub purpose: Purpose,
    /// Its journal.
    pub journal: JournalId,
    /// The port on which the calling agent can be asked later.
    pub port: u16,
    /// Facts about the calling host, as its machine describes them.
    pub facts: Vec<u8>,
}
body!(Hello, Hello);

/// The answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Version of the called agent.
    pub agent: String,
    /// Its journal.
    pub journal: JournalId,
    /// Facts about the called host.
    pub facts: Vec<u8>,
}
body!(Welcome, Welcome);

/// Why the sender does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort(pub Failure);
body!(Abort, Abort);

/// Still here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping;
body!(Ping, Ping);

/// What time is it there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRequest;
body!(TimeRequest, TimeRequest);

/// The answer to [`TimeRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeReply {
    /// `CLOCK_REALTIME` of the answering host, nanoseconds.
    pub realtime_ns: i64,
}
body!(TimeReply, TimeReply);

/// A process that may come. Its survey follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its PID on the source.
    pub pid: u32,
    /// Bytes of records that follow.
    pub length: u64,
    /// Bytes that it has in memory, 0 if that is not known.
    pub memory_bytes: u64,
}
body!(Offer, Offer);

/// What stands against a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacles(pub Vec<ObstacleReport>);
body!(Obstacles, Obstacles);

/// Make the vessel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// Real-time clock of the destination minus that of the source, nanoseconds.
    pub clock_offset_ns: i64,
}
body!(Prepare, Prepare);

/// The vessel exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Its PID on the destination.
    pub pid: u32,
    /// What will be different there.
    pub notes: Vec<String>,
}
body!(Prepared, Prepared);

/// The process is frozen. Its state follows, and its pages on their own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Bytes of records that follow.
    pub length: u64,
    /// Bytes of memory that may have to be sent.
    pub memory_bytes: u64,
}
body!(Capture, Capture);

/// All pages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagesSent {
    /// How many.
    pub pages: u64,
    /// In how many bytes.
    pub bytes: u64,
}
body!(PagesSent, PagesSent);

/// The process is rebuilt and parked, and stays so until a decision is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready;
body!(Ready, Ready);

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit;
body!(Commit, Commit);

/// The process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// When it began to, by the destination's `CLOCK_REALTIME`, nanoseconds.
    pub thawed_at_ns: i64,
}
body!(Running, Running);

/// The frozen copy is gone: the destination may forget the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released;
body!(Released, Released);

/// How did this migration end?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Which.
    pub migration: MigrationId,
    /// Who asks, and what it knows.
    pub asker: Asker,
    /// The journal that the asked agent had during the migration.
    pub journal: JournalId,
}
body!(Query, Query);

/// Who asks about a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asker {
    /// The source, which has committed: a destination that is ready runs the process before it answers.
    Source,
    /// The destination, which is ready.
    Destination,
}

/// What is known about a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// From the source: the process is the destination's.
    Committed,
    /// From the source: it kept the process.
    Aborted,
    /// From the destination: the process runs, or ran, there.
    Running,
    /// From the destination: it never ran there, and never will.
    NeverRan,
    /// Not known yet: ask again.
    Undecided,
    /// The asked agent has lost its memory of it.
    Unknown,
}
body!(Answer, Answer);

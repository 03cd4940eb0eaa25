// SPDX-License-Identifier: GPL-2.0
//! What an agent can do on its host, as traits: the protocol is the same on a real machine and on an imitated one.
//!
//! Undo is by value. A [`Source`] that is dropped lets the process run on; a [`Destination`] that is dropped kills its
//! vessel; after [`Source::commit`] or [`Destination::commit`] neither does, and what is left is a [`Parked`] process that
//! waits for the decision.

use crate::kernel::PageTotals;
use crate::kernel::SessionInfo;
use crate::proto::Failure;
use crate::proto::MigrationId;
use crate::proto::ObstacleReport;
use crate::transport::Connection;
use std::fmt;
use std::time::Duration;

/// One host.
pub trait Machine: Send + Sync + fmt::Debug {
    /// Facts about this host, for the other one to compare with its own.
    fn facts(&self) -> Result<Vec<u8>, Failure>;
    /// What the difference between this host and the one with the `facts` forbids.
    fn compare(&self, facts: &[u8]) -> Result<Vec<ObstacleReport>, Failure>;
    /// Describes a running process.
    fn survey(&self, pid: u32) -> Result<Survey, Failure>;
    /// What stands against moving the process away that `records` describe, running or `frozen`.
    fn admit(&self, records: &[u8], frozen: bool) -> Result<Vec<ObstacleReport>, Failure>;
    /// What stands against the process here that `survey` describes and that comes from the host with the `facts`.
    fn receive(&self, survey: &Survey, facts: &[u8]) -> Result<Vec<ObstacleReport>, Failure>;
    /// Begins to move the process `pid` away. Nothing happens to it yet.
    fn source(&self, migration: MigrationId, pid: u32) -> Result<Box<dyn Source>, Failure>;
    /// Makes a vessel for the process that `survey` describes.
    fn destination(
        &self,
        migration: MigrationId,
        survey: &[u8],
        clock_offset_ns: i64,
    ) -> Result<Box<dyn Destination>, Failure>;
    /// The sessions of the module.
    fn sessions(&self) -> Result<Vec<SessionInfo>, Failure>;
    /// Takes over a committed session that nobody owns.
    fn adopt(&self, session: &SessionInfo) -> Result<Box<dyn Parked>, Failure>;
}

/// A running process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Its state: a record stream.
    pub records: Vec<u8>,
    /// Bytes that it has in memory, 0 if that is not known.
    pub memory_bytes: u64,
}

/// What has to be sent of a frozen process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Its state: a record stream.
    pub records: Vec<u8>,
    /// Bytes of memory that may have to be sent.
    pub memory_bytes: u64,
}

/// A process that is being moved away.
pub trait Source: Send + fmt::Debug {
    /// Freezes it.
    fn freeze(&mut self, deadline: Duration) -> Result<(), Failure>;
    /// Describes it, frozen.
    fn capture(&mut self) -> Result<Captured, Failure>;
    /// Sends all pages of the captured process, and the end of the stream. Calls `progress` now and then with what is
    /// sent.
    fn send_pages(
        &mut self,
        connection: &dyn Connection,
        progress: &mut dyn FnMut(PageTotals),
    ) -> Result<PageTotals, Failure>;
    /// Makes the frozen process outlive this agent. From here on it waits for the decision.
    fn commit(self: Box<Self>) -> Result<Box<dyn Parked>, Failure>;
    /// Lets it run on as if nothing had happened, and says if that failed. Dropping does the same in silence.
    fn abort(self: Box<Self>) -> Result<(), Failure>;
}

/// A process that is being built.
pub trait Destination: Send + fmt::Debug {
    /// The PID that it will have on this host.
    fn pid(&self) -> u32;
    /// What will be different here.
    fn notes(&self) -> Vec<String>;
    /// Builds what `captured` describes, as far as it needs no page. Makes a new vessel if the process has changed since
    /// the survey; then [`Destination::pid`] may change too.
    fn build(&mut self, captured: &Captured) -> Result<(), Failure>;
    /// Receives the pages, until their stream ends.
    fn receive_pages(&mut self, connection: &dyn Connection) -> Result<PageTotals, Failure>;
    /// Does what needs the pages, and parks the process as it was on the source.
    fn finish(&mut self) -> Result<(), Failure>;
    /// Makes the parked process outlive this agent. From here on it waits for the decision.
    fn commit(self: Box<Self>) -> Result<Box<dyn Parked>, Failure>;
}

/// A parked process that outlives its agent. Dropping it changes nothing.
pub trait Parked: Send + fmt::Debug {
    /// Its PID on this host.
    fn pid(&self) -> u32;
    /// Lets it run. If this fails, nothing of it runs.
    fn thaw(&mut self) -> Result<(), Failure>;
    /// Kills it.
    fn kill(&mut self) -> Result<(), Failure>;
}

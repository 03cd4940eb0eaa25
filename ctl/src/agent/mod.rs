// SPDX-License-Identifier: GPL-2.0
//! The agent of a host: it moves processes away, takes them in, and remembers what was decided.
//!
//! Everything is synchronous. Each role of a migration is one straight-line `run` ([`source`], [`destination`]) in a thread
//! of its own, because the calls into the kernel module block; what has to reach a running migration from outside goes
//! through its [`Cancel`].
#![forbid(unsafe_code)]

mod cancel;
mod client;
mod destination;
mod doubt;
pub mod fake;
mod harvest;
mod host;
mod machine;
mod peer;
mod peers;
mod phases;
mod recovery;
mod registry;
mod requests;
mod source;

pub use cancel::Cancel;
pub use cancel::CancelGuard;
pub use client::Client;
pub use harvest::HarvestError;
pub use harvest::WAIT_VERB;
pub use host::HostMachine;
pub use machine::Captured;
pub use machine::Destination;
pub use machine::Machine;
pub use machine::Parked;
pub use machine::Source;
pub use machine::Survey;
pub use peer::inspect;
pub use peer::Inspection;
pub use phases::Faults;
pub use phases::Observer;
pub use requests::LocalSocket;

use crate::journal::Journal;
use crate::proto::Decision;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::LinkOptions;
use crate::proto::MigrateRequest;
use crate::proto::MigrationId;
use crate::proto::MigrationReport;
use crate::proto::SessionReport;
use crate::proto::StatusReport;
use crate::transport::Listener;
use crate::transport::Transport;
use doubt::Doubts;
use pmig_wire::netlink::SessionState;
use registry::Registry;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// What can be chosen about an agent.
#[derive(Clone, Debug)]
pub struct Options {
    /// Migrations that may go on at the same time, both roles together.
    pub max_migrations: usize,
    /// Connections that may be open at the same time.
    pub max_connections: usize,
    /// How links watch their peers.
    pub link: LinkOptions,
    /// How long freezing may take.
    pub freeze_deadline: Duration,
    /// How long one side waits for a step of the other, while the other shows that it is alive.
    pub step_limit: Duration,
    /// A migration that is in doubt is asked about again after this time,
    pub doubt_first_delay: Duration,
    /// and after ever longer times up to this one.
    pub doubt_last_delay: Duration,
    /// How long whoever asked for a migration waits for the end of a doubt.
    pub doubt_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_migrations: 8,
            max_connections: 64,
            link: LinkOptions::default(),
            freeze_deadline: Duration::from_secs(5),
            step_limit: Duration::from_secs(600),
            doubt_first_delay: Duration::from_millis(500),
            doubt_last_delay: Duration::from_secs(15),
            doubt_wait: Duration::from_secs(20),
        }
    }
}

/// The agent of one host.
#[derive(Debug)]
pub struct Agent {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) journal: Journal,
    pub(crate) options: Options,
    pub(crate) faults: Faults,
    pub(crate) registry: Registry,
    pub(crate) doubts: Doubts,
    port: AtomicU16,
    ended: AtomicBool,
}

impl Agent {
    /// An agent that does nothing yet.
    pub fn new(
        machine: Arc<dyn Machine>,
        transport: Arc<dyn Transport>,
        journal: Journal,
        options: Options,
        faults: Faults,
    ) -> Arc<Self> {
        let registry = Registry::new(options.max_migrations);
        Arc::new(Self {
            machine,
            transport,
            journal,
            options,
            faults,
            registry,
            doubts: Doubts::default(),
            port: AtomicU16::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// Goes on where the last agent of this host stopped. Has to be done before [`Agent::serve`].
    pub fn recover(&self) -> Result<(), Failure> {
        recovery::recover(self)
    }

    /// Takes connections from other agents, and settles what is in doubt, until [`Agent::end`].
    pub fn serve(self: &Arc<Self>, listener: &dyn Listener) -> io::Result<()> {
        self.port.store(listener.port(), Ordering::Relaxed);
        let agent = self.clone();
        let settling = std::thread::Builder::new()
            .name("doubts".into())
            .spawn(move || doubt::settle_all(&agent))?;
        let result = peers::serve(self, listener);
        self.end();
        drop(settling.join());
        result
    }

    /// Takes requests from the tool, until [`Agent::end`].
    pub fn serve_requests(self: &Arc<Self>, socket: &LocalSocket) -> io::Result<()> {
        requests::serve(self, socket)
    }

    /// Moves a process away. Can be called off through `cancel` until the point of no return.
    pub fn migrate(
        &self,
        request: &MigrateRequest,
        cancel: &Cancel,
        observer: Observer<'_>,
    ) -> Result<MigrationReport, Failure> {
        source::migrate(self, request, cancel, observer)
    }

    /// What goes on.
    pub fn status(&self) -> Result<StatusReport, Failure> {
        let sessions = self.machine.sessions()?;
        Ok(StatusReport {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            stopping: self.registry.is_stopping(),
            active: self.registry.list(),
            in_doubt: self.doubts.list(),
            sessions: sessions
                .into_iter()
                .map(|session| SessionReport {
                    session: session.session,
                    migration: session.migration,
                    role: session.role.into(),
                    state: state_name(session.state).to_owned(),
                    pid: session.pid,
                    threads: session.threads,
                    owned: session.owned,
                })
                .collect(),
        })
    }

    /// Lets an administrator decide a migration that is in doubt. `name` may be the beginning of its name.
    pub fn resolve(&self, name: &str, decision: Decision) -> Result<MigrationId, Failure> {
        doubt::resolve(self, name, decision)
    }

    /// Calls off what can be called off, waits for the rest, and ends. Says whether nothing was left.
    pub fn stop(&self, limit: Duration) -> bool {
        self.registry.stop();
        let is_idle = self.registry.wait_idle(limit);
        self.end();
        is_idle
    }

    /// Ends the serving threads.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.doubts.wake();
    }

    /// Does nothing more and says nothing more, as if this process had died: for tests of what a dead agent leaves behind.
    #[doc(hidden)]
    pub fn crash(&self) {
        self.journal.halt();
        self.end();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The port on which this agent can be called, 0 if it cannot.
    pub(crate) fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }
}

fn state_name(state: SessionState) -> &'static str {
    match state {
        SessionState::Open => "open",
        SessionState::Frozen => "frozen",
        SessionState::Committed => "committed",
        SessionState::Ended => "ended",
    }
}

/// Turns an error of the operating system into a failure.
pub(crate) fn system_error(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(FailureCode::SystemError, format!("{what}: {error}"))
}

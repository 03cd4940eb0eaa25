// SPDX-License-Identifier: GPL-2.0
//! The one hook around each phase: timing, progress, tracing, fault injection, and the look whether the migration was
//! called off.

use super::Agent;
use super::Cancel;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrationId;
use crate::proto::Owner;
use crate::proto::PhaseTime;
use crate::proto::Progress;
use crate::proto::Role;
use crate::proto::Side;
use crate::transport::Connection;
use pmig_core::phase::Edge;
use pmig_core::phase::Fault;
use pmig_core::phase::FaultAction;
use pmig_core::phase::Phase;
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Hears what happens in a migration.
pub type Observer<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What a test wants to go wrong. Each fault happens once.
pub struct Faults {
    pending: Mutex<Vec<Fault>>,
    kill: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Faults {
    /// `faults`, of which those that kill do kill this process.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self::with_kill(faults, Box::new(kill_self))
    }

    /// `faults`, of which those that kill call `kill` instead.
    pub fn with_kill(faults: Vec<Fault>, kill: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            pending: Mutex::new(faults),
            kill,
        }
    }

    fn take(&self, role: Role, phase: Phase, edge: Edge) -> Option<FaultAction> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let index = pending.iter().position(|fault| {
            fault.role == role.into() && fault.phase == phase && fault.edge == edge
        })?;
        Some(pending.remove(index).action)
    }
}

fn kill_self() {
    // Nothing may run after this, not even a destructor.
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    std::process::abort();
}

/// Runs the phases of one role of one migration.
pub(crate) struct Phases<'a> {
    agent: &'a Agent,
    role: Role,
    migration: MigrationId,
    cancel: Cancel,
    observer: Observer<'a>,
    connection: Option<Box<dyn Connection>>,
    times: Vec<PhaseTime>,
}

impl<'a> Phases<'a> {
    pub(crate) fn new(
        agent: &'a Agent,
        role: Role,
        migration: MigrationId,
        cancel: Cancel,
        observer: Observer<'a>,
    ) -> Self {
        Self {
            agent,
            role,
            migration,
            cancel,
            observer,
            connection: None,
            times: Vec::new(),
        }
    }

    /// The connection that a fault cuts.
    pub(crate) fn set_connection(&mut self, connection: &dyn Connection) -> Result<(), Failure> {
        let clone = connection
            .try_clone()
            .map_err(super::system_error("the connection"))?;
        self.connection = Some(clone);
        Ok(())
    }

    /// Runs `body` as `phase`.
    pub(crate) fn run<T>(
        &mut self,
        phase: Phase,
        body: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let begin = Instant::now();
        let span = tracing::info_span!("phase", name = phase.name());
        let _entered = span.enter();
        self.agent
            .registry
            .set_phase(self.migration, self.role, phase.name());
        self.report(Progress::Phase(phase.name().to_owned()));
        let result = self
            .look(phase)
            .and_then(|()| self.fault(phase, Edge::Begin))
            .and_then(|()| body(self))
            .and_then(|value| self.fault(phase, Edge::End).map(|()| value));
        let time = begin.elapsed();
        self.times.push(PhaseTime {
            phase: phase.name().to_owned(),
            time_us: u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
        });
        match &result {
            Ok(_) => tracing::info!(time_us = time.as_micros(), "done"),
            Err(failure) => tracing::info!(%failure, code = failure.code.name(), "failed"),
        }
        let side = match self.role {
            Role::Source => Side::Source,
            Role::Destination => Side::Destination,
        };
        result.map_err(|failure| {
            let failure = failure.in_phase(phase.name()).on(side);
            // Whatever the peer claims.
            if phase.is_before_commit() {
                failure.owned_by(Owner::SourceRunning)
            } else {
                failure
            }
        })
    }

    /// Tells whoever watches.
    pub(crate) fn report(&self, progress: Progress) {
        (self.observer)(progress);
    }

    /// How long the phases took.
    pub(crate) fn into_times(self) -> Vec<PhaseTime> {
        self.times
    }

    fn look(&self, phase: Phase) -> Result<(), Failure> {
        if phase.is_before_commit() {
            self.cancel.check()
        } else {
            Ok(())
        }
    }

    fn fault(&self, phase: Phase, edge: Edge) -> Result<(), Failure> {
        let Some(action) = self.agent.faults.take(self.role, phase, edge) else {
            return Ok(());
        };
        tracing::warn!(?action, ?edge, "a fault was asked for here");
        let failure = || {
            Failure::new(
                FailureCode::FaultInjected,
                format!("a fault was asked for in phase {phase}"),
            )
        };
        match action {
            FaultAction::Error => Err(failure()),
            FaultAction::Kill => {
                (self.agent.faults.kill)();
                Err(failure())
            }
            FaultAction::Disconnect => {
                if let Some(connection) = &self.connection {
                    connection.shutdown();
                }
                Ok(())
            }
            FaultAction::Delay(milliseconds) => {
                // In slices, so that a hanging migration can still be called off.
                let end = Instant::now() + Duration::from_millis(milliseconds.into());
                while Instant::now() < end
                    && (!phase.is_before_commit() || self.cancel.check().is_ok())
                {
                    thread::sleep(Duration::from_millis(10));
                }
                self.look(phase)
            }
        }
    }
}

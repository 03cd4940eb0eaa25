// SPDX-License-Identifier: GPL-2.0
//! The migrations that go on in this agent.

use super::Cancel;
use crate::proto::ActiveMigration;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrationId;
use crate::proto::Role;
use crate::transport::Connection;
use std::collections::HashMap;
use std::sync::mpsc::channel;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

type Key = (MigrationId, Role);

/// All migrations that go on, and their limit.
#[derive(Debug)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    changed: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct Inner {
    active: HashMap<Key, Active>,
    stopping: bool,
}

#[derive(Debug)]
struct Active {
    pid: u32,
    peer: String,
    phase: &'static str,
    since: Instant,
    cancel: Cancel,
    pages: Sender<Box<dyn Connection>>,
}

/// Keeps a migration in the registry while it lives.
#[derive(Debug)]
pub(crate) struct ActiveGuard<'a> {
    registry: &'a Registry,
    key: Key,
    /// The page connections that arrive for it.
    pub(crate) pages: Receiver<Box<dyn Connection>>,
}

impl Registry {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::new(Inner::default()),
            changed: Condvar::new(),
            limit,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a migration, unless there are too many, the process is already being moved, or the agent stops.
    pub(crate) fn begin(
        &self,
        migration: MigrationId,
        role: Role,
        pid: u32,
        peer: String,
        cancel: Cancel,
    ) -> Result<ActiveGuard<'_>, Failure> {
        let mut inner = self.inner();
        if inner.stopping {
            return Err(Failure::new(
                FailureCode::ShuttingDown,
                "the agent is shutting down",
            ));
        }
        if inner.active.len() >= self.limit {
            let message = format!("the agent already does {} migrations", inner.active.len());
            return Err(Failure::new(FailureCode::Busy, message));
        }
        let is_moved = |(key, active): (&Key, &Active)| key.1 == Role::Source && active.pid == pid;
        if role == Role::Source && inner.active.iter().any(is_moved) {
            return Err(Failure::new(
                FailureCode::Busy,
                format!("process {pid} is already being moved"),
            ));
        }
        let key = (migration, role);
        if inner.active.contains_key(&key) {
            return Err(Failure::new(
                FailureCode::ProtocolError,
                "a migration of this name goes on already",
            ));
        }
        let (sender, pages) = channel();
        let active = Active {
            pid,
            peer,
            phase: "negotiate",
            since: Instant::now(),
            cancel,
            pages: sender,
        };
        inner.active.insert(key, active);
        Ok(ActiveGuard {
            registry: self,
            key,
            pages,
        })
    }

    pub(crate) fn set_phase(&self, migration: MigrationId, role: Role, phase: &'static str) {
        if let Some(active) = self.inner().active.get_mut(&(migration, role)) {
            active.phase = phase;
        }
    }

    pub(crate) fn set_pid(&self, migration: MigrationId, role: Role, pid: u32) {
        if let Some(active) = self.inner().active.get_mut(&(migration, role)) {
            active.pid = pid;
        }
    }

    pub(crate) fn is_active(&self, migration: MigrationId, role: Role) -> bool {
        self.inner().active.contains_key(&(migration, role))
    }

    /// Gives a page connection to the destination's side of `migration`.
    pub(crate) fn deliver_pages(
        &self,
        migration: MigrationId,
        connection: Box<dyn Connection>,
    ) -> Result<(), Failure> {
        let unknown = || {
            Failure::new(
                FailureCode::ProtocolError,
                "there is no such migration here",
            )
        };
        let inner = self.inner();
        let active = inner
            .active
            .get(&(migration, Role::Destination))
            .ok_or_else(unknown)?;
        active.pages.send(connection).map_err(|_| unknown())
    }

    /// Takes nothing new, and calls off what can be.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner();
        inner.stopping = true;
        for active in inner.active.values() {
            active.cancel.trip(Failure::new(
                FailureCode::ShuttingDown,
                "the agent is shutting down",
            ));
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.inner().stopping
    }

    /// Waits until nothing goes on any more, and says whether that was in time.
    pub(crate) fn wait_idle(&self, limit: Duration) -> bool {
        let inner = self.inner();
        let wait = self
            .changed
            .wait_timeout_while(inner, limit, |inner| !inner.active.is_empty());
        let (inner, _) = wait.unwrap_or_else(PoisonError::into_inner);
        inner.active.is_empty()
    }

    pub(crate) fn list(&self) -> Vec<ActiveMigration> {
        let inner = self.inner();
        let mut list: Vec<ActiveMigration> = inner
            .active
            .iter()
            .map(|((migration, role), active)| ActiveMigration {
                migration: *migration,
                role: *role,
                pid: active.pid,
                peer: active.peer.clone(),
                phase: active.phase.to_owned(),
                age_ms: u64::try_from(active.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
            .collect();
        list.sort_by_key(|active| std::cmp::Reverse(active.age_ms));
        list
    }
}

impl Drop for ActiveGuard<'_> {
    fn drop(&mut self) {
        self.registry.inner().active.remove(&self.key);
        self.registry.changed.notify_all();
    }
}

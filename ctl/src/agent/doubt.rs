// SPDX-License-Identifier: GPL-2.0
//! Migrations whose outcome this host does not know, and how it finds out.
//!
//! A source that has committed asks the destination until it says that the process runs there (then the frozen copy is
//! killed) or that it never will (then it runs on here). A destination that is ready asks the source until it says what it
//! decided. A peer that has lost its memory decides nothing: then an administrator has to.

use super::peer;
use super::recovery;
use super::Agent;
use super::Parked;
use crate::journal::Entry;
use crate::journal::State;
use crate::proto::Answer;
use crate::proto::Asker;
use crate::proto::Decision;
use crate::proto::DoubtfulMigration;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrationId;
use crate::proto::Owner;
use crate::proto::Query;
use crate::proto::Released;
use crate::proto::Role;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// How often a running agent looks for frozen processes that nobody cares for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How a doubt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process runs on the other side of the migration than the source.
    OnDestination,
    /// The process runs on the source.
    OnSource,
}

/// One migration in doubt.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) migration: MigrationId,
    pub(crate) entry: Entry,
    pub(crate) parked: Option<Box<dyn Parked>>,
    /// Nobody but an administrator can decide.
    pub(crate) manual: bool,
    pub(crate) attempts: u32,
    pub(crate) last_error: String,
    pub(crate) outcome: Option<Outcome>,
    next_attempt: Instant,
    delay: Duration,
}

impl Doubt {
    pub(crate) fn new(
        migration: MigrationId,
        entry: Entry,
        parked: Option<Box<dyn Parked>>,
        first: Duration,
    ) -> Self {
        Self {
            migration,
            entry,
            parked,
            manual: false,
            attempts: 0,
            last_error: String::new(),
            outcome: None,
            next_attempt: Instant::now(),
            delay: first,
        }
    }

    fn report(&self) -> DoubtfulMigration {
        DoubtfulMigration {
            migration: self.migration,
            role: self.entry.role,
            pid: self.entry.pid,
            peer: self.entry.peer.to_string(),
            copy_here: self.parked.is_some(),
            attempts: self.attempts,
            last_error: self.last_error.clone(),
        }
    }

    fn note(&self, agent: &Agent, state: State) -> Result<(), Failure> {
        Ok(agent.journal.write(
            self.migration,
            Entry {
                state,
                ..self.entry.clone()
            },
        )?)
    }

    /// Lets the copy here run.
    fn thaw(&mut self) -> Result<(), Failure> {
        self.parked.as_mut().map_or(Ok(()), |parked| parked.thaw())
    }

    /// Kills the copy here.
    fn kill(&mut self) -> Result<(), Failure> {
        self.parked.as_mut().map_or(Ok(()), |parked| parked.kill())
    }

    /// On the source: the process runs on the destination.
    fn is_running_there(&mut self, agent: &Agent) -> Result<Outcome, Failure> {
        self.kill()?;
        self.parked = None;
        self.note(agent, State::Done)?;
        Ok(Outcome::OnDestination)
    }

    /// On the source: the process never ran on the destination and never will.
    fn never_ran_there(&mut self, agent: &Agent) -> Result<Outcome, Failure> {
        self.note(agent, State::Aborted)?;
        if self.parked.is_none() {
            tracing::error!(migration = %self.migration, "the process ran on neither side any more");
        }
        self.thaw()?;
        self.parked = None;
        Ok(Outcome::OnSource)
    }

    /// On the destination: the process is ours.
    pub(crate) fn run_here(&mut self, agent: &Agent) -> Result<Outcome, Failure> {
        self.note(agent, State::Running)?;
        if let Err(failure) = self.thaw() {
            // Nothing of it has run. Before the source may hear so, nothing of it may run later either.
            self.kill()?;
            self.parked = None;
            self.note(agent, State::Aborted)?;
            tracing::warn!(migration = %self.migration, %failure, "the process could not be thawed");
            return Ok(Outcome::OnSource);
        }
        self.parked = None;
        Ok(Outcome::OnDestination)
    }

    /// On the destination: the source kept the process.
    pub(crate) fn give_up_here(&mut self, agent: &Agent) -> Result<Outcome, Failure> {
        self.note(agent, State::Aborted)?;
        self.kill()?;
        self.parked = None;
        Ok(Outcome::OnSource)
    }
}

/// A doubt that may be asked about, be answered and be resolved at the same time.
type SharedDoubt = Arc<Mutex<Doubt>>;

/// All migrations in doubt.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    list: Mutex<HashMap<(MigrationId, Role), SharedDoubt>>,
    /// Signalled when one is added or settled.
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Doubts {
    pub(crate) fn add(&self, doubt: Doubt) -> SharedDoubt {
        tracing::warn!(migration = %doubt.migration, role = %doubt.entry.role, "the outcome of a migration is in doubt");
        let key = (doubt.migration, doubt.entry.role);
        let doubt = Arc::new(Mutex::new(doubt));
        lock(&self.list).insert(key, doubt.clone());
        self.changed.notify_all();
        doubt
    }

    pub(crate) fn get(&self, migration: MigrationId, role: Role) -> Option<SharedDoubt> {
        lock(&self.list).get(&(migration, role)).cloned()
    }

    pub(crate) fn list(&self) -> Vec<DoubtfulMigration> {
        let doubts: Vec<_> = lock(&self.list).values().cloned().collect();
        // One that is being settled right now is not waited for longer than an attempt takes.
        let mut list: Vec<_> = doubts.iter().map(|doubt| lock(doubt).report()).collect();
        list.sort_by_key(|doubt| (doubt.migration, doubt.role));
        list
    }

    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Marks a doubt as settled and forgets it.
    pub(crate) fn settled(&self, doubt: &mut Doubt, outcome: Outcome) {
        tracing::info!(migration = %doubt.migration, ?outcome, "the outcome of a migration is known");
        doubt.outcome = Some(outcome);
        lock(&self.list).remove(&(doubt.migration, doubt.entry.role));
        self.changed.notify_all();
    }

    /// Waits until `doubt` is settled, at most `limit`.
    pub(crate) fn wait(&self, doubt: &Mutex<Doubt>, limit: Duration) -> Option<Outcome> {
        let end = Instant::now() + limit;
        loop {
            if let Some(outcome) = lock(doubt).outcome {
                return Some(outcome);
            }
            let rest = end.checked_duration_since(Instant::now())?;
            std::thread::sleep(rest.min(Duration::from_millis(10)));
        }
    }

    fn due(&self) -> Vec<SharedDoubt> {
        let doubts: Vec<_> = lock(&self.list).values().cloned().collect();
        let now = Instant::now();
        doubts
            .into_iter()
            .filter(|doubt| {
                let doubt = lock(doubt);
                !doubt.manual && doubt.outcome.is_none() && doubt.next_attempt <= now
            })
            .collect()
    }

    fn sleep(&self, limit: Duration) {
        let list = lock(&self.list);
        drop(
            self.changed
                .wait_timeout(list, limit)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// Asks the peers of all migrations in doubt, again and again, until the agent ends.
pub(crate) fn settle_all(agent: &Agent) {
    let mut swept = Instant::now();
    while !agent.is_ended() {
        if swept.elapsed() >= SWEEP_INTERVAL {
            swept = Instant::now();
            if let Err(failure) = recovery::adopt_orphans(agent) {
                tracing::debug!(%failure, "the module could not be asked for its sessions");
            }
        }
        for doubt in agent.doubts.due() {
            if !agent.is_ended() {
                attempt(agent, &doubt);
            }
        }
        agent.doubts.sleep(
            agent
                .options
                .doubt_first_delay
                .min(Duration::from_millis(200)),
        );
    }
}

fn attempt(agent: &Agent, shared: &Mutex<Doubt>) {
    let (migration, entry) = {
        let doubt = lock(shared);
        (doubt.migration, doubt.entry.clone())
    };
    // Without the lock: the peer may be asking us about the same migration right now.
    let asked = ask(agent, migration, &entry);
    let mut doubt = lock(shared);
    if doubt.outcome.is_some() || agent.is_ended() {
        return;
    }
    doubt.attempts = doubt.attempts.saturating_add(1);
    let result = asked.and_then(|(answer, connection)| {
        let outcome = apply(agent, &mut doubt, &answer)?;
        if (outcome, doubt.entry.role) == (Outcome::OnDestination, Role::Source) {
            // If the peer does not hear it, it remembers the migration for longer than it has to.
            drop(
                connection
                    .map(|mut connection| crate::proto::write_body(connection.as_mut(), &Released)),
            );
        }
        Ok(outcome)
    });
    match result {
        Ok(outcome) => agent.doubts.settled(&mut doubt, outcome),
        Err(failure) => {
            tracing::debug!(migration = %doubt.migration, %failure, "still in doubt");
            doubt.last_error = failure.message;
            doubt.next_attempt = Instant::now() + doubt.delay;
            doubt.delay = (doubt.delay * 2).min(agent.options.doubt_last_delay);
        }
    }
}

type Asked = (Answer, Option<Box<dyn crate::transport::Connection>>);

fn ask(agent: &Agent, migration: MigrationId, entry: &Entry) -> Result<Asked, Failure> {
    let asker = match entry.role {
        Role::Source => Asker::Source,
        Role::Destination => Asker::Destination,
    };
    let query = Query {
        migration,
        asker,
        journal: entry.peer_journal,
    };
    let (answer, connection) = peer::query(agent, &entry.peer, &query)?;
    Ok((answer, Some(connection)))
}

/// Does what the peer's answer demands.
fn apply(agent: &Agent, doubt: &mut Doubt, answer: &Answer) -> Result<Outcome, Failure> {
    match (doubt.entry.role, answer) {
        (Role::Source, Answer::Running) => doubt.is_running_there(agent),
        (Role::Source, Answer::NeverRan) => doubt.never_ran_there(agent),
        (Role::Destination, Answer::Committed) => doubt.run_here(agent),
        (Role::Destination, Answer::Aborted) => doubt.give_up_here(agent),
        (_, Answer::Undecided) => Err(in_doubt("the other host does not know it yet either")),
        (_, Answer::Unknown) => Err(in_doubt(
            "the other host has lost its journal: decide with `pmigctl resolve`, after making sure what runs there",
        )),
        _ => Err(in_doubt("the other host's answer makes no sense")),
    }
}

fn in_doubt(message: &str) -> Failure {
    Failure::new(FailureCode::InDoubt, message).owned_by(Owner::Unknown)
}

/// What this host answers when it is asked about a migration.
pub(crate) fn answer(agent: &Agent, query: &Query) -> Result<Answer, Failure> {
    if query.journal != agent.journal.id() {
        return Ok(Answer::Unknown);
    }
    match query.asker {
        Asker::Destination => {
            // In this order: a migration that ends in between has its decision in the journal already.
            let is_active = agent.registry.is_active(query.migration, Role::Source);
            let state = agent
                .journal
                .entry(query.migration, Role::Source)
                .map(|entry| entry.state);
            Ok(match state {
                Some(State::Committed | State::Done) => Answer::Committed,
                _ if is_active => Answer::Undecided,
                _ => Answer::Aborted,
            })
        }
        Asker::Source => {
            let is_active = agent.registry.is_active(query.migration, Role::Destination);
            if let Some(doubt) = agent.doubts.get(query.migration, Role::Destination) {
                let mut doubt = lock(&doubt);
                if doubt.outcome.is_none() {
                    let outcome = doubt.run_here(agent)?;
                    agent.doubts.settled(&mut doubt, outcome);
                }
            }
            let state = agent
                .journal
                .entry(query.migration, Role::Destination)
                .map(|entry| entry.state);
            Ok(match state {
                Some(State::Running | State::Released) => Answer::Running,
                Some(State::Ready) => Answer::Undecided,
                _ if is_active => Answer::Undecided,
                _ => Answer::NeverRan,
            })
        }
    }
}

/// An administrator decides about the copy on this host.
pub(crate) fn resolve(
    agent: &Agent,
    name: &str,
    decision: Decision,
) -> Result<MigrationId, Failure> {
    let found: Vec<_> = lock(&agent.doubts.list)
        .iter()
        .filter(|((migration, _), _)| !name.is_empty() && migration.to_string().starts_with(name))
        .map(|(_, doubt)| doubt.clone())
        .collect();
    let [shared] = found.as_slice() else {
        let message = match found.len() {
            0 => format!("no migration `{name}` is in doubt on this host"),
            many => format!("`{name}` names {many} migrations in doubt"),
        };
        return Err(Failure::new(FailureCode::NoSuchMigration, message));
    };
    let (migration, entry) = {
        let doubt = lock(shared);
        (doubt.migration, doubt.entry.clone())
    };
    if (entry.role, decision) == (Role::Source, Decision::RunHere) {
        // Two copies must not run. Who cannot be asked cannot be waited for either: that is what this verb is for.
        if let Ok((Answer::Running, _)) = ask(agent, migration, &entry) {
            let message = "the process runs on the destination";
            return Err(Failure::new(FailureCode::NotResolvable, message)
                .owned_by(Owner::DestinationRunning));
        }
    }
    let mut doubt = lock(shared);
    if doubt.outcome.is_some() {
        return Ok(migration);
    }
    tracing::warn!(%migration, role = %entry.role, ?decision, "an administrator decides");
    let outcome = match (entry.role, decision) {
        (Role::Source, Decision::RunHere) => doubt.never_ran_there(agent)?,
        (Role::Destination, Decision::RunHere) => doubt.run_here(agent)?,
        (Role::Destination, Decision::KillHere) => doubt.give_up_here(agent)?,
        (Role::Source, Decision::KillHere) => {
            // The decision stays `committed`: a destination that waits for it must still hear it.
            doubt.kill()?;
            doubt.parked = None;
            return Ok(migration);
        }
    };
    agent.doubts.settled(&mut doubt, outcome);
    Ok(migration)
}

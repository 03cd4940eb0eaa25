// SPDX-License-Identifier: GPL-2.0
//! Answering other agents: who is calling, and what for.

use super::destination;
use super::doubt;
use super::Agent;
use super::Cancel;
use crate::journal::Entry;
use crate::journal::State;
use crate::proto::read_body;
use crate::proto::write_body;
use crate::proto::Abort;
use crate::proto::Answer;
use crate::proto::Asker;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::Hello;
use crate::proto::MigrationId;
use crate::proto::Purpose;
use crate::proto::Query;
use crate::proto::Released;
use crate::proto::Role;
use crate::proto::Welcome;
use crate::transport::Connection;
use crate::transport::Listener;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How often the listening thread looks whether the agent has ended.
const ACCEPT_LIMIT: Duration = Duration::from_millis(200);
/// How long to wait after an error that may go away by itself, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until the agent ends.
pub(crate) fn serve(agent: &Arc<Agent>, listener: &dyn Listener) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    while !agent.is_ended() {
        let connection = match listener.accept(ACCEPT_LIMIT) {
            Ok(Some(connection)) => connection,
            Ok(None) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        let slot = Slot::take(&open);
        if slot.number > agent.options.max_connections {
            refuse(connection, agent.options.max_connections);
            continue;
        }
        let agent = agent.clone();
        let spawned = thread::Builder::new().name("peer".into()).spawn(move || {
            let _slot = slot;
            let peer = connection.peer();
            if let Err(failure) = answer(&agent, connection) {
                tracing::info!(peer, code = failure.code.name(), %failure, "a connection ended");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a connection");
            thread::sleep(ACCEPT_PAUSE);
        }
    }
    Ok(())
}

/// Counts a connection while it lives.
struct Slot {
    open: Arc<AtomicUsize>,
    number: usize,
}

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        let number = open.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        Self {
            open: open.clone(),
            number,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refuse(mut connection: Box<dyn Connection>, limit: usize) {
    // Never wait for a caller that was not let in.
    let _ = connection.set_write_timeout(Some(Duration::from_millis(100)));
    let message = format!("the agent already serves {limit} connections");
    let _ = write_body(
        connection.as_mut(),
        &Abort(Failure::new(FailureCode::Busy, message)),
    );
    connection.shutdown();
}

/// Reads the hello and does what it asks for.
fn answer(agent: &Agent, mut connection: Box<dyn Connection>) -> Result<(), Failure> {
    let silence = agent.options.link.silence;
    connection
        .set_read_timeout(Some(silence))
        .map_err(super::system_error("the connection"))?;
    connection
        .set_write_timeout(Some(silence))
        .map_err(super::system_error("the connection"))?;
    let result = read_body::<Hello>(connection.as_mut()).map_err(Failure::from);
    let hello = match result {
        Ok(hello) => hello,
        Err(failure) => {
            // Whatever the caller speaks, our header tells it our version.
            let _ = write_body(connection.as_mut(), &Abort(failure.clone()));
            connection.shutdown();
            return Err(failure);
        }
    };
    tracing::debug!(peer = connection.peer(), agent = hello.agent, purpose = ?hello.purpose, "hello");
    match hello.purpose {
        Purpose::Migrate(migration) => take_in(agent, connection, &hello, migration),
        Purpose::Pages(migration) => deliver(agent, connection, migration),
        Purpose::Query(migration) => settle(agent, connection, migration),
        Purpose::Inspect => {
            welcome(agent, connection.as_mut(), true)?;
            destination::inspect(agent, connection, &hello)
        }
    }
}

fn welcome(
    agent: &Agent,
    connection: &mut dyn Connection,
    with_facts: bool,
) -> Result<(), Failure> {
    let facts = if with_facts {
        agent.machine.facts()?
    } else {
        Vec::new()
    };
    let agent_version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(write_body(
        connection,
        &Welcome {
            agent: agent_version,
            journal: agent.journal.id(),
            facts,
        },
    )?)
}

fn take_in(
    agent: &Agent,
    mut connection: Box<dyn Connection>,
    hello: &Hello,
    migration: MigrationId,
) -> Result<(), Failure> {
    let cancel = Cancel::new();
    let begun = agent
        .registry
        .begin(
            migration,
            Role::Destination,
            0,
            connection.peer(),
            cancel.clone(),
        )
        .and_then(|active| welcome(agent, connection.as_mut(), true).map(|()| active));
    match begun {
        Ok(active) => destination::take_in(agent, connection, hello, migration, cancel, &active),
        Err(failure) => {
            let _ = write_body(connection.as_mut(), &Abort(failure.clone()));
            connection.shutdown();
            Err(failure)
        }
    }
}

/// Hands the connection over to the migration that it carries the pages of.
fn deliver(
    agent: &Agent,
    mut connection: Box<dyn Connection>,
    migration: MigrationId,
) -> Result<(), Failure> {
    if !agent.registry.is_active(migration, Role::Destination) {
        let failure = Failure::new(
            FailureCode::ProtocolError,
            "there is no such migration here",
        );
        let _ = write_body(connection.as_mut(), &Abort(failure.clone()));
        return Err(failure);
    }
    welcome(agent, connection.as_mut(), false)?;
    connection
        .wait_for_ever()
        .map_err(super::system_error("the page connection"))?;
    agent.registry.deliver_pages(migration, connection)
}

/// Answers how a migration ended.
fn settle(
    agent: &Agent,
    mut connection: Box<dyn Connection>,
    migration: MigrationId,
) -> Result<(), Failure> {
    welcome(agent, connection.as_mut(), false)?;
    let query: Query = read_body(connection.as_mut())?;
    if query.migration != migration {
        return Err(Failure::new(
            FailureCode::ProtocolError,
            "the query is about another migration than the hello",
        ));
    }
    let answer = match doubt::answer(agent, &query) {
        Ok(answer) => answer,
        Err(failure) => {
            let _ = write_body(connection.as_mut(), &Abort(failure.clone()));
            return Err(failure);
        }
    };
    write_body(connection.as_mut(), &answer)?;
    if query.asker == Asker::Source && answer == Answer::Running {
        // The source kills its copy now, and says so.
        if read_body::<Released>(connection.as_mut()).is_ok() {
            if let Some(entry) = agent.journal.entry(migration, Role::Destination) {
                agent.journal.write(
                    migration,
                    Entry {
                        state: State::Released,
                        ..entry
                    },
                )?;
            }
        }
    }
    Ok(())
}

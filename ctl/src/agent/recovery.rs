// SPDX-License-Identifier: GPL-2.0
//! What an agent does first: it compares the sessions that the module still holds with the decisions in the journal.
//!
//! | session in the module | journal | what is done |
//! |---|---|---|
//! | source, committed | committed | asks the destination |
//! | source, committed | nothing | thaws: the last agent died before it decided |
//! | none | source committed | asks the destination, so that it hears the decision |
//! | destination, committed | ready | asks the source |
//! | destination, committed | running | thaws: the last agent died between its note and the deed |
//! | destination, committed | nothing | kills: nobody was told that it is ready |
//! | none | destination ready | notes that the process never ran here |

use super::doubt::Doubt;
use super::Agent;
use super::Parked;
use crate::journal::Entry;
use crate::journal::State;
use crate::kernel::SessionInfo;
use crate::proto::Failure;
use crate::proto::MigrationId;
use crate::proto::Role;
use pmig_wire::netlink::SessionState;
use std::collections::HashSet;

/// Goes on where the last agent of this host stopped.
pub(crate) fn recover(agent: &Agent) -> Result<(), Failure> {
    let seen = adopt_orphans(agent)?;
    for (migration, entry) in agent.journal.entries() {
        if !seen.contains(&(migration, entry.role)) {
            recover_entry(agent, migration, entry)?;
        }
    }
    Ok(())
}

/// Takes over every committed session that nobody owns. Returns all that are committed. A running agent does this now and
/// then too, because a step that failed after the point of no return may have left one behind.
pub(crate) fn adopt_orphans(agent: &Agent) -> Result<HashSet<(MigrationId, Role)>, Failure> {
    let mut seen = HashSet::new();
    for session in agent.machine.sessions()? {
        if session.state != SessionState::Committed {
            continue;
        }
        seen.insert((session.migration, session.role.into()));
        if session.owned {
            // Its owner decides. Without this the journal would seem to have lost its process.
            continue;
        }
        let adopted = agent.machine.adopt(&session);
        if let Err(failure) = adopted.and_then(|parked| recover_session(agent, &session, parked)) {
            tracing::warn!(session = session.session, %failure, "a frozen process waits for another attempt");
        }
    }
    Ok(seen)
}

fn recover_session(
    agent: &Agent,
    session: &SessionInfo,
    mut parked: Box<dyn Parked>,
) -> Result<(), Failure> {
    let role = Role::from(session.role);
    let migration = session.migration;
    let entry = agent.journal.entry(migration, role);
    tracing::warn!(%migration, %role, pid = session.pid, state = ?entry.as_ref().map(|entry| entry.state),
        "the last agent left a frozen process behind");
    match (role, entry) {
        (Role::Source, Some(entry)) if entry.state == State::Committed => {
            add(agent, migration, entry, Some(parked))
        }
        (Role::Source, _) => parked.thaw()?,
        (Role::Destination, Some(entry)) if entry.state == State::Ready => {
            add(agent, migration, entry, Some(parked))
        }
        (Role::Destination, Some(entry)) if entry.state == State::Running => parked.thaw()?,
        (Role::Destination, _) => parked.kill()?,
    }
    Ok(())
}

fn recover_entry(agent: &Agent, migration: MigrationId, entry: Entry) -> Result<(), Failure> {
    match entry.state {
        State::Committed => add(agent, migration, entry, None),
        State::Ready => {
            tracing::warn!(%migration, "a process that was ready here is gone and never ran");
            agent.journal.write(
                migration,
                Entry {
                    state: State::Aborted,
                    ..entry
                },
            )?;
        }
        State::Running | State::Aborted | State::Done | State::Released => {}
    }
    Ok(())
}

fn add(agent: &Agent, migration: MigrationId, entry: Entry, parked: Option<Box<dyn Parked>>) {
    agent.doubts.add(Doubt::new(
        migration,
        entry,
        parked,
        agent.options.doubt_first_delay,
    ));
}

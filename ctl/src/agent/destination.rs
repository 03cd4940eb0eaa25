// SPDX-License-Identifier: GPL-2.0
//! The destination's side of a migration, from the hello to the end.

use super::doubt::Doubt;
use super::peer;
use super::phases::Phases;
use super::registry::ActiveGuard;
use super::source::reason_or;
use super::Agent;
use super::Cancel;
use super::Captured;
use super::Destination;
use super::Survey;
use crate::journal::Entry;
use crate::journal::State;
use crate::kernel::PageTotals;
use crate::proto::listed;
use crate::proto::Abort;
use crate::proto::Capture;
use crate::proto::Commit;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::Hello;
use crate::proto::Link;
use crate::proto::MigrationId;
use crate::proto::Obstacles;
use crate::proto::Offer;
use crate::proto::Owner;
use crate::proto::PagesSent;
use crate::proto::Prepare;
use crate::proto::Prepared;
use crate::proto::Ready;
use crate::proto::Released;
use crate::proto::Role;
use crate::proto::Running;
use crate::proto::Side;
use crate::proto::TimeReply;
use crate::proto::TimeRequest;
use crate::transport::Connection;
use crate::transport::PeerAddress;
use pmig_core::phase::Phase;
use pmig_wire::message::MessageKind;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

/// The most bytes that the state of one process may have, its memory aside.
const MAX_RECORDS: u64 = 256 * 1024 * 1024;
/// How long the source may take between two steps that cost it nothing.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait for the last word of the source, which changes nothing any more.
const RELEASED_LIMIT: Duration = Duration::from_secs(10);
/// How long the source's decision is waited for before it is asked for.
const DECISION_LIMIT: Duration = Duration::from_secs(30);

/// Takes a process in that the other end of `connection` sends. Both sides have said hello.
pub(crate) fn take_in(
    agent: &Agent,
    connection: Box<dyn Connection>,
    hello: &Hello,
    migration: MigrationId,
    cancel: Cancel,
    active: &ActiveGuard<'_>,
) -> Result<(), Failure> {
    let peer = PeerAddress {
        host: connection.peer(),
        port: hello.port,
    };
    let span = tracing::info_span!("migration", %migration, role = "destination", peer = %peer);
    let _entered = span.enter();
    let mut phases = Phases::new(agent, Role::Destination, migration, cancel.clone(), &|_| {});
    phases.set_connection(connection.as_ref())?;
    let link = Link::start(connection, agent.options.link, cancel.clone())
        .map_err(super::system_error("the connection"))?;
    let result = DestinationRun {
        agent,
        link: &link,
        hello,
        peer,
        migration,
        cancel,
        active,
        phases,
    }
    .run()
    .map_err(|failure| failure.on(Side::Destination));
    if let Err(failure) = &result {
        if !agent.is_ended() {
            let _ = link.send(&Abort(failure.clone()));
        }
    }
    result
}

/// Answers what another host wants to know about this one and about a process that might come.
pub(crate) fn inspect(
    agent: &Agent,
    connection: Box<dyn Connection>,
    hello: &Hello,
) -> Result<(), Failure> {
    let link = Link::start(connection, agent.options.link, Cancel::new())
        .map_err(super::system_error("the connection"))?;
    let (_, survey) = receive_offer(&link)?;
    let obstacles = agent.machine.receive(&survey, &hello.facts)?;
    link.send(&Obstacles(listed(obstacles)))?;
    // The other side ends the connection when it has read them.
    let _ = link.receive::<Abort>(STEP_LIMIT);
    Ok(())
}

/// Answers questions for the time until an offer comes, and takes its records.
fn receive_offer(link: &Link) -> Result<(Offer, Survey), Failure> {
    let begin = Instant::now();
    loop {
        let limit = STEP_LIMIT.checked_sub(begin.elapsed()).unwrap_or_default();
        let frame = link.receive_frame(limit)?;
        if frame.kind == MessageKind::TimeRequest {
            frame.parse::<TimeRequest>()?;
            link.send(&TimeReply {
                realtime_ns: peer::realtime_ns(),
            })?;
        } else {
            let offer: Offer = frame.parse()?;
            let records = link.receive_records(offer.length, MAX_RECORDS, STEP_LIMIT)?;
            return Ok((
                offer,
                Survey {
                    records,
                    memory_bytes: offer.memory_bytes,
                },
            ));
        }
    }
}

/// The destination's side of one migration.
struct DestinationRun<'a> {
    agent: &'a Agent,
    link: &'a Link,
    hello: &'a Hello,
    peer: PeerAddress,
    migration: MigrationId,
    cancel: Cancel,
    active: &'a ActiveGuard<'a>,
    phases: Phases<'a>,
}

impl DestinationRun<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let survey = self.negotiate()?;
        let Some(prepare) = self.admit(&survey)? else {
            return Ok(());
        };
        let mut vessel = self.prepare(&survey, prepare)?;
        let captured = self.freeze()?;
        self.capture(vessel.as_mut(), &captured)?;
        self.transfer(vessel.as_mut())?;
        let ready = self.rebuild(vessel)?;
        self.decide(ready)
    }

    fn negotiate(&mut self) -> Result<Survey, Failure> {
        let (agent, link, migration) = (self.agent, self.link, self.migration);
        self.phases.run(Phase::Negotiate, |_| {
            let (offer, survey) = receive_offer(link)?;
            agent
                .registry
                .set_pid(migration, Role::Destination, offer.pid);
            Ok(survey)
        })
    }

    /// Says what stands against the process, and waits whether it comes all the same. A source that stays away now has
    /// nothing to be told.
    fn admit(&mut self, survey: &Survey) -> Result<Option<Prepare>, Failure> {
        let (agent, link, hello) = (self.agent, self.link, self.hello);
        self.phases.run(Phase::Admit, |_| {
            let mut obstacles = agent.machine.receive(survey, &hello.facts)?;
            obstacles.dedup();
            let obstacles = listed(obstacles);
            link.send(&Obstacles(obstacles))?;
            let frame = link.receive_frame(STEP_LIMIT)?;
            if frame.kind == MessageKind::Abort {
                return Ok(None);
            }
            Ok(Some(frame.parse()?))
        })
    }

    fn prepare(
        &mut self,
        survey: &Survey,
        prepare: Prepare,
    ) -> Result<Box<dyn Destination>, Failure> {
        let (agent, link, migration) = (self.agent, self.link, self.migration);
        self.phases.run(Phase::Prepare, |_| {
            let vessel =
                agent
                    .machine
                    .destination(migration, &survey.records, prepare.clock_offset_ns)?;
            link.send(&Prepared {
                pid: vessel.pid(),
                notes: vessel.notes(),
            })?;
            Ok(vessel)
        })
    }

    /// Waits for the frozen process.
    fn freeze(&mut self) -> Result<Captured, Failure> {
        let (link, limit) = (self.link, self.agent.options.step_limit);
        self.phases.run(Phase::Freeze, |_| {
            let capture: Capture = link.receive(limit)?;
            let records = link.receive_records(capture.length, MAX_RECORDS, STEP_LIMIT)?;
            Ok(Captured {
                records,
                memory_bytes: capture.memory_bytes,
            })
        })
    }

    fn capture(
        &mut self,
        vessel: &mut dyn Destination,
        captured: &Captured,
    ) -> Result<(), Failure> {
        let (agent, migration) = (self.agent, self.migration);
        self.phases.run(Phase::Capture, |_| {
            vessel.build(captured)?;
            agent
                .registry
                .set_pid(migration, Role::Destination, vessel.pid());
            Ok(())
        })
    }

    fn transfer(&mut self, vessel: &mut dyn Destination) -> Result<PageTotals, Failure> {
        let (link, cancel, active) = (self.link, &self.cancel, self.active);
        let limit = self.agent.options.step_limit;
        let mut receive = || {
            let pages = wait_for_pages(active, cancel)?;
            let _guard = cancel
                .guard(pages.as_ref())
                .map_err(super::system_error("the page connection"))?;
            let totals = vessel.receive_pages(pages.as_ref())?;
            let sent: PagesSent = link.receive(limit)?;
            if sent.pages != totals.pages {
                let message = format!(
                    "{} pages were sent and {} received",
                    sent.pages, totals.pages
                );
                return Err(Failure::new(FailureCode::ProtocolError, message));
            }
            Ok(totals)
        };
        self.phases.run(Phase::Transfer, |_| {
            receive().map_err(|failure| reason_or(cancel, failure))
        })
    }

    /// Parks the finished process so that it outlives this agent, and remembers that the source may decide from now on.
    /// Nobody has heard of `ready` when this fails, so the copy goes.
    fn rebuild(&mut self, mut vessel: Box<dyn Destination>) -> Result<Doubt, Failure> {
        let (agent, migration, cancel) = (self.agent, self.migration, self.cancel.clone());
        let (peer, peer_journal) = (self.peer.clone(), self.hello.journal);
        let mut made = None;
        let result = self.phases.run(Phase::Rebuild, |_| {
            vessel.finish()?;
            let entry = Entry {
                role: Role::Destination,
                state: State::Ready,
                pid: vessel.pid(),
                peer,
                peer_journal,
            };
            let parked = vessel.commit()?;
            made = Some(Doubt::new(
                migration,
                entry.clone(),
                Some(parked),
                agent.options.doubt_first_delay,
            ));
            // After this only the source decides.
            cancel.seal()?;
            Ok(agent.journal.write(migration, entry)?)
        });
        match (result, made) {
            (Ok(()), Some(doubt)) => Ok(doubt),
            (Ok(()), None) => Err(Failure::new(
                FailureCode::SystemError,
                "no process was built",
            )),
            (Err(failure), Some(mut doubt)) if !agent.is_ended() => {
                if let Err(undo) = doubt.give_up_here(agent) {
                    tracing::warn!(%undo, "the copy that nobody waits for could not be killed");
                }
                Err(failure)
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// Says that everything is ready, hears the decision, and does what it demands.
    fn decide(mut self, mut doubt: Doubt) -> Result<(), Failure> {
        let agent = self.agent;
        let heard = self.wait_for_decision();
        let settled = heard.and_then(|decision| match decision {
            Ok(Commit) => self.thaw(&mut doubt),
            Err(abort) => {
                doubt.give_up_here(agent)?;
                tracing::info!(failure = %abort, "the source kept the process");
                Ok(())
            }
        });
        if let Err(failure) = settled {
            if !agent.is_ended() && doubt.parked.is_some() {
                doubt.last_error.clone_from(&failure.message);
                agent.doubts.add(doubt);
            }
            return Err(failure.owned_by(Owner::Unknown));
        }
        Ok(())
    }

    /// The source's decision, or its reasons to keep the process.
    fn wait_for_decision(&mut self) -> Result<Result<Commit, Failure>, Failure> {
        let link = self.link;
        self.phases.run(Phase::Commit, |_| {
            link.send(&Ready)?;
            match link.receive_sealed_frame(DECISION_LIMIT)? {
                frame if frame.kind == MessageKind::Abort => Ok(Err(frame.parse::<Abort>()?.0)),
                frame => Ok(Ok(frame.parse::<Commit>()?)),
            }
        })
    }

    fn thaw(&mut self, doubt: &mut Doubt) -> Result<(), Failure> {
        let (agent, link, migration) = (self.agent, self.link, self.migration);
        let outcome = self.phases.run(Phase::Thaw, |_| doubt.run_here(agent))?;
        let thawed_at_ns = peer::realtime_ns();
        if outcome != super::doubt::Outcome::OnDestination {
            let message = "the rebuilt process could not be started and is dead";
            return Err(Failure::new(FailureCode::RestoreFailed, message));
        }
        let entry = doubt.entry.clone();
        self.phases.run(Phase::Release, |_| {
            // Whatever happens to the connection now, the source can ask.
            if link.send(&Running { thawed_at_ns }).is_ok()
                && link.receive_sealed::<Released>(RELEASED_LIMIT).is_ok()
            {
                agent.journal.write(
                    migration,
                    Entry {
                        state: State::Released,
                        ..entry
                    },
                )?;
            }
            Ok(())
        })
    }
}

fn wait_for_pages(
    active: &ActiveGuard<'_>,
    cancel: &Cancel,
) -> Result<Box<dyn Connection>, Failure> {
    let begin = Instant::now();
    loop {
        match active.pages.recv_timeout(Duration::from_millis(25)) {
            Ok(connection) => return Ok(connection),
            Err(RecvTimeoutError::Timeout) if begin.elapsed() < STEP_LIMIT => cancel.check()?,
            Err(_) => {
                return Err(Failure::new(
                    FailureCode::Timeout,
                    "the source sent no pages",
                ))
            }
        }
    }
}

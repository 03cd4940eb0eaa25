// SPDX-License-Identifier: GPL-2.0
//! The source's side of a migration, from the request to the end.

use super::doubt::Doubt;
use super::doubt::Outcome;
use super::peer;
use super::phases::Observer;
use super::phases::Phases;
use super::Agent;
use super::Cancel;
use super::Captured;
use super::Parked;
use super::Source;
use super::Survey;
use crate::journal::Entry;
use crate::journal::State;
use crate::kernel::PageTotals;
use crate::proto::listed;
use crate::proto::printable;
use crate::proto::Abort;
use crate::proto::Capture;
use crate::proto::Commit;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::Link;
use crate::proto::MigrateRequest;
use crate::proto::MigrationId;
use crate::proto::MigrationReport;
use crate::proto::ObstacleReport;
use crate::proto::Obstacles;
use crate::proto::Owner;
use crate::proto::PagesSent;
use crate::proto::Prepare;
use crate::proto::Prepared;
use crate::proto::Progress;
use crate::proto::Purpose;
use crate::proto::Ready;
use crate::proto::Released;
use crate::proto::Role;
use crate::proto::Running;
use crate::proto::Welcome;
use crate::strategy::StopAndCopy;
use crate::strategy::Strategy;
use crate::transport::Connection;
use crate::transport::PeerAddress;
use pmig_core::obstacle::selection;
use pmig_core::phase::Phase;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// How long the destination may take from the decision to its answer before the migration is in doubt.
const RUNNING_LIMIT: Duration = Duration::from_secs(30);
/// How long to wait for the reason behind an error.
const REASON_LIMIT: Duration = Duration::from_millis(300);
/// Codes of obstacles that no process gets rid of.
const PROTECTED: [&str; 3] = [
    selection::KERNEL_THREAD.code,
    selection::INIT.code,
    selection::PMIG_ITSELF.code,
];

/// Moves the process away that `request` names.
pub(crate) fn migrate(
    agent: &Agent,
    request: &MigrateRequest,
    cancel: &Cancel,
    observer: Observer<'_>,
) -> Result<MigrationReport, Failure> {
    let address = PeerAddress::parse(&request.host, request.port)
        .map_err(|error| Failure::new(FailureCode::UnknownHost, error.to_string()))?;
    let migration = MigrationId::random().map_err(|error| {
        Failure::new(
            FailureCode::SystemError,
            format!("no random number: {error}"),
        )
    })?;
    let _active = agent.registry.begin(
        migration,
        Role::Source,
        request.pid,
        address.to_string(),
        cancel.clone(),
    )?;
    let span = tracing::info_span!("migration", %migration, pid = request.pid, role = "source");
    let _entered = span.enter();
    observer(Progress::Started(migration));
    let phases = Phases::new(agent, Role::Source, migration, cancel.clone(), observer);
    SourceRun {
        agent,
        request,
        cancel,
        migration,
        address,
        phases,
        strategy: &StopAndCopy,
    }
    .run()
}

/// The source's side of one migration.
struct SourceRun<'a> {
    agent: &'a Agent,
    request: &'a MigrateRequest,
    cancel: &'a Cancel,
    migration: MigrationId,
    address: PeerAddress,
    phases: Phases<'a>,
    strategy: &'a dyn Strategy,
}

/// A peer that both sides have said hello to.
struct Peer {
    link: Link,
    welcome: Welcome,
    clock_offset_ns: i64,
}

impl SourceRun<'_> {
    fn run(mut self) -> Result<MigrationReport, Failure> {
        let begin = Instant::now();
        let (survey, own, peer) = self.negotiate()?;
        match self.move_to(&peer, &survey, own) {
            Ok(mut report) => {
                report.total_us = microseconds(begin.elapsed());
                report.phases = self.phases.into_times();
                Ok(report)
            }
            Err(failure) => {
                // Only a courtesy: the destination asks when it hears nothing, and nothing was decided for it.
                if failure.owner == Owner::SourceRunning && !self.agent.is_ended() {
                    let _ = peer.link.send(&Abort(failure.clone()));
                }
                Err(failure)
            }
        }
    }

    fn move_to(
        &mut self,
        peer: &Peer,
        survey: &Survey,
        own: Vec<ObstacleReport>,
    ) -> Result<MigrationReport, Failure> {
        let obstacles = self.admit(&peer.link, survey, own)?;
        if self.request.dry_run {
            let _ = peer.link.send(&Abort(Failure::new(
                FailureCode::Cancelled,
                "only a dry run",
            )));
            return Ok(MigrationReport {
                dry_run: true,
                obstacles,
                ..self.report()
            });
        }
        let (mut source, prepared) = self.prepare(peer)?;
        let frozen_at = peer::realtime_ns();
        if let Err(failure) = self.freeze(source.as_mut()) {
            return Err(give_back(source, failure));
        }
        let moved = self.capture(source.as_mut()).and_then(|captured| {
            let (totals, pages) = self.transfer(source.as_mut(), &peer.link, &captured)?;
            self.rebuild(&peer.link)?;
            // Only now: the kernel gives a connection up sooner that nobody has open, whatever is still on its way.
            drop(pages);
            Ok((captured, totals))
        });
        let (captured, totals) = match moved {
            Ok(moved) => moved,
            Err(failure) => return Err(give_back(source, failure)),
        };
        let thawed_at = self.decide(source, peer)?;
        let downtime_ns = thawed_at
            .map(|thawed_at| {
                thawed_at
                    .saturating_sub(peer.clock_offset_ns)
                    .saturating_sub(frozen_at)
            })
            .unwrap_or_else(|| peer::realtime_ns().saturating_sub(frozen_at));
        Ok(MigrationReport {
            destination_pid: prepared.pid,
            downtime_us: u64::try_from(downtime_ns / 1_000).unwrap_or(0),
            bytes: totals.bytes.saturating_add(captured.records.len() as u64),
            pages: totals.pages,
            zero_pages: totals.zero_pages,
            notes: prepared.notes.iter().map(|note| printable(note)).collect(),
            obstacles,
            ..self.report()
        })
    }

    fn report(&self) -> MigrationReport {
        MigrationReport {
            migration: Some(self.migration),
            pid: self.request.pid,
            destination: self.address.to_string(),
            strategy: self.strategy.name().to_owned(),
            ..MigrationReport::default()
        }
    }

    /// Looks at the process, calls the destination, and compares clocks.
    fn negotiate(&mut self) -> Result<(Survey, Vec<ObstacleReport>, Peer), Failure> {
        let (agent, cancel) = (self.agent, self.cancel);
        let (migration, address, pid) = (self.migration, self.address.clone(), self.request.pid);
        self.phases.run(Phase::Negotiate, |phases| {
            let survey = agent.machine.survey(pid)?;
            let mut own = agent.machine.admit(&survey.records, false)?;
            if own
                .iter()
                .any(|obstacle| obstacle.refuses() && PROTECTED.contains(&obstacle.code.as_str()))
            {
                return Err(refusal(own));
            }
            let facts = agent.machine.facts()?;
            let mut connection = agent.transport.connect(&address, peer::CONNECT_LIMIT)?;
            phases.set_connection(connection.as_ref())?;
            let hello = peer::hello(agent, Purpose::Migrate(migration), facts);
            let silence = agent.options.link.silence;
            let welcome = peer::greet(connection.as_mut(), &hello, silence)?;
            own.extend(agent.machine.compare(&welcome.facts)?);
            let link = Link::start(connection, agent.options.link, cancel.clone())
                .map_err(super::system_error("the connection"))?;
            let clock_offset_ns = peer::clock_offset_ns(&link)?;
            Ok((
                survey,
                own,
                Peer {
                    link,
                    welcome,
                    clock_offset_ns,
                },
            ))
        })
    }

    /// Lists what stands against the migration on either side, and returns what does not forbid it.
    fn admit(
        &mut self,
        link: &Link,
        survey: &Survey,
        own: Vec<ObstacleReport>,
    ) -> Result<Vec<ObstacleReport>, Failure> {
        let pid = self.request.pid;
        self.phases.run(Phase::Admit, |_| {
            peer::send_offer(link, pid, survey)?;
            let theirs = link.receive::<Obstacles>(peer::REPLY_LIMIT)?.0;
            let mut all = own;
            for obstacle in theirs.into_iter().map(ObstacleReport::sanitized) {
                // Both sides compare the hosts, and say the same in slightly different words.
                let is_known = |other: &ObstacleReport| {
                    other.code == obstacle.code && other.object == obstacle.object
                };
                if !all.iter().any(is_known) {
                    all.push(obstacle);
                }
            }
            if all.iter().any(ObstacleReport::refuses) {
                Err(refusal(all))
            } else {
                Ok(listed(all))
            }
        })
    }

    fn prepare(&mut self, peer: &Peer) -> Result<(Box<dyn Source>, Prepared), Failure> {
        let (agent, migration, pid) = (self.agent, self.migration, self.request.pid);
        self.phases.run(Phase::Prepare, |_| {
            let source = agent.machine.source(migration, pid)?;
            peer.link.send(&Prepare {
                clock_offset_ns: peer.clock_offset_ns,
            })?;
            let prepared = peer.link.receive(agent.options.step_limit)?;
            Ok((source, prepared))
        })
    }

    fn freeze(&mut self, source: &mut dyn Source) -> Result<(), Failure> {
        let deadline = self.agent.options.freeze_deadline;
        self.phases.run(Phase::Freeze, |_| source.freeze(deadline))
    }

    fn capture(&mut self, source: &mut dyn Source) -> Result<Captured, Failure> {
        let machine = &self.agent.machine;
        self.phases.run(Phase::Capture, |_| {
            let captured = source.capture()?;
            // Things may have changed between the survey and the freeze.
            let obstacles = machine.admit(&captured.records, true)?;
            if obstacles.iter().any(ObstacleReport::refuses) {
                return Err(refusal(obstacles));
            }
            Ok(captured)
        })
    }

    fn transfer(
        &mut self,
        source: &mut dyn Source,
        link: &Link,
        captured: &Captured,
    ) -> Result<(PageTotals, Box<dyn Connection>), Failure> {
        let (agent, cancel, strategy) = (self.agent, self.cancel, self.strategy);
        let (migration, address) = (self.migration, self.address.clone());
        let mut send = |phases: &Phases<'_>| {
            let length = captured.records.len() as u64;
            link.send(&Capture {
                length,
                memory_bytes: captured.memory_bytes,
            })?;
            link.send_records(&captured.records)?;
            let mut pages = agent.transport.connect(&address, peer::CONNECT_LIMIT)?;
            let lost = super::system_error("the page connection");
            let _guard = cancel.guard(pages.as_ref()).map_err(&lost)?;
            peer::greet(
                pages.as_mut(),
                &peer::hello(agent, Purpose::Pages(migration), Vec::new()),
                agent.options.link.silence,
            )?;
            // From here on the module waits on this socket, and the link says whether the peer still lives.
            pages.wait_for_ever().map_err(&lost)?;
            let total = captured.memory_bytes;
            let mut progress = |sent: PageTotals| {
                phases.report(Progress::Bytes {
                    done: sent.bytes,
                    total,
                })
            };
            let totals = strategy.transfer(source, pages.as_ref(), &mut progress)?;
            link.send(&PagesSent {
                pages: totals.pages,
                bytes: totals.bytes,
            })?;
            Ok((totals, pages))
        };
        self.phases.run(Phase::Transfer, |phases| {
            send(phases).map_err(|failure| reason_or(cancel, failure))
        })
    }

    fn rebuild(&mut self, link: &Link) -> Result<(), Failure> {
        let limit = self.agent.options.step_limit;
        self.phases
            .run(Phase::Rebuild, |_| link.receive::<Ready>(limit).map(drop))
    }

    /// The point of no return, and what follows from it. Returns when the process began to run on the destination, if that
    /// is known.
    ///
    /// The module is told before the journal: a decision in the journal without the module knowing would leave a process
    /// that thaws when its agent dies, and a destination that may run it too. The other way round, a session that is
    /// committed without a decision is thawed by the next agent.
    fn decide(&mut self, source: Box<dyn Source>, peer: &Peer) -> Result<Option<i64>, Failure> {
        let (agent, cancel, migration) = (self.agent, self.cancel, self.migration);
        let entry = self.entry(peer);
        let mut source = Some(source);
        let mut parked: Option<Box<dyn Parked>> = None;
        let mut decided = false;
        let committed = self.phases.run(Phase::Commit, |_| {
            cancel.seal()?;
            let Some(source) = source.take() else {
                return Err(Failure::new(FailureCode::SystemError, "no process"));
            };
            let copy = parked.insert(source.commit()?);
            if let Err(error) = agent.journal.write(migration, entry.clone()) {
                // Whether a broken journal holds the decision cannot be known: nobody may act on either guess.
                if !agent.journal.is_broken() {
                    copy.thaw()?;
                    parked = None;
                }
                return Err(error.into());
            }
            decided = true;
            Ok(())
        });
        let result = match (committed, source, decided) {
            (Ok(()), ..) => self.hand_over(&mut parked, &entry, peer),
            (Err(failure), Some(source), _) => return Err(give_back(source, failure)),
            (Err(failure), None, false) if parked.is_none() => return Err(failure),
            (Err(failure), ..) => Err(failure),
        };
        match result {
            Ok(running) => Ok(Some(running.thawed_at_ns)),
            Err(failure) if agent.is_ended() => Err(failure.owned_by(Owner::Unknown)),
            Err(failure) => {
                // The old connection is of no use any more, and the destination shall know that.
                peer.link.close();
                self.wait_for_outcome(parked, entry, !decided, failure)
            }
        }
    }

    /// Tells the destination that the process is its own, and lets go of the frozen copy once it runs there.
    fn hand_over(
        &mut self,
        parked: &mut Option<Box<dyn Parked>>,
        entry: &Entry,
        peer: &Peer,
    ) -> Result<Running, Failure> {
        let (agent, migration) = (self.agent, self.migration);
        let running = self.phases.run(Phase::Thaw, |_| {
            peer.link.send(&Commit)?;
            peer.link.receive_sealed::<Running>(RUNNING_LIMIT)
        })?;
        self.phases.run(Phase::Release, |_| {
            if let Some(copy) = parked.as_mut() {
                copy.kill()?;
            }
            *parked = None;
            agent.journal.write(
                migration,
                Entry {
                    state: State::Done,
                    ..entry.clone()
                },
            )?;
            // If the destination does not hear it, it remembers the migration for longer than it has to.
            let _ = peer.link.send(&Released);
            Ok(running)
        })
    }

    /// The decision is made, or may be, and how it ended is not known: hands the frozen copy over to whoever finds out,
    /// and waits for a while.
    fn wait_for_outcome(
        &self,
        parked: Option<Box<dyn Parked>>,
        entry: Entry,
        manual: bool,
        failure: Failure,
    ) -> Result<Option<i64>, Failure> {
        let agent = self.agent;
        let mut doubt = Doubt::new(
            self.migration,
            entry,
            parked,
            agent.options.doubt_first_delay,
        );
        doubt.manual = manual;
        doubt.last_error.clone_from(&failure.message);
        let doubt = agent.doubts.add(doubt);
        match agent.doubts.wait(&doubt, agent.options.doubt_wait) {
            Some(Outcome::OnDestination) => Ok(None),
            Some(Outcome::OnSource) => Err(failure.owned_by(Owner::SourceRunning)),
            None => {
                let message = format!(
                    "{}; the outcome of migration {} is not known yet",
                    failure.message, self.migration
                );
                Err(Failure { message, ..failure }.owned_by(Owner::Unknown))
            }
        }
    }

    fn entry(&self, peer: &Peer) -> Entry {
        Entry {
            role: Role::Source,
            state: State::Committed,
            pid: self.request.pid,
            peer: self.address.clone(),
            peer_journal: peer.welcome.journal,
        }
    }
}

/// Ends a migration before the commit point: the process runs on.
fn give_back(source: Box<dyn Source>, failure: Failure) -> Failure {
    match source.abort() {
        Ok(()) => failure,
        Err(undo) => {
            let message = format!(
                "{}; and then letting the process run again failed: {undo}",
                failure.message
            );
            Failure { message, ..failure }
        }
    }
}

/// Why a migration is not admitted.
fn refusal(obstacles: Vec<ObstacleReport>) -> Failure {
    let protected = obstacles
        .iter()
        .any(|obstacle| obstacle.refuses() && PROTECTED.contains(&obstacle.code.as_str()));
    let failure = Failure::not_movable(obstacles);
    if protected {
        Failure {
            code: FailureCode::Protected,
            ..failure
        }
    } else {
        failure
    }
}

/// What went wrong on a page connection is often only the echo of what went wrong before: the peer gave up, or somebody
/// called the migration off. That reason comes over the link, at about the same time.
pub(crate) fn reason_or(cancel: &Cancel, failure: Failure) -> Failure {
    let begin = Instant::now();
    loop {
        if let Err(reason) = cancel.check() {
            return reason;
        }
        if begin.elapsed() >= REASON_LIMIT {
            return failure;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

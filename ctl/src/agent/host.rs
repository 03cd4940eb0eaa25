// SPDX-License-Identifier: GPL-2.0
//! This host: the kernel module, `/proc`, and vessels.

use super::harvest;
use super::machine::Captured;
use super::machine::Destination;
use super::machine::Machine;
use super::machine::Parked;
use super::machine::Source;
use super::machine::Survey;
use crate::capture;
use crate::host;
use crate::host::admission;
use crate::host::process::Own;
use crate::host::process::ProcessFacts;
use crate::host::Found;
use crate::host::HostClocks;
use crate::host::HostFacts;
use crate::host::HostLimits;
use crate::image::Image;
use crate::image::ImageError;
use crate::kernel::Device;
use crate::kernel::Kernel;
use crate::kernel::PageTotals;
use crate::kernel::SessionInfo;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrationId;
use crate::proto::ObstacleReport;
use crate::proto::Role;
use crate::restore;
use crate::restore::Finding;
use crate::restore::Moment;
use crate::restore::SpawnOptions;
use crate::restore::Vessel;
use crate::sys::process;
use crate::transport::Connection;
use pmig_core::obstacle::selection;
use pmig_wire::pages::PageRange;
use pmig_wire::process::Process;
use pmig_wire::record::Reader;
use std::fmt::Display;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Pages are sent in batches of about this size, so that progress can be shown.
const BATCH_BYTES: u64 = 32 * 1024 * 1024;
/// How long a vessel, which only waits, may take to be frozen.
const VESSEL_DEADLINE: Duration = Duration::from_secs(10);

/// How long the end of a killed vessel is waited for.
const REAP_LIMIT: Duration = Duration::from_secs(2);

/// The machine that this program runs on.
#[derive(Clone, Debug)]
pub struct HostMachine {
    device: Arc<dyn Device>,
}

impl HostMachine {
    /// This machine, with its module behind `device`.
    pub fn new(device: Arc<dyn Device>) -> Self {
        Self { device }
    }

    fn open(&self) -> Result<Box<dyn Kernel>, Failure> {
        Ok(self.device.open()?)
    }

    /// Teaches the module what it does not know: nothing of it outlives being unloaded, which may happen at any time.
    pub fn learn(&self) -> Result<(), Failure> {
        for (kind, error) in harvest::teach(self.device.as_ref())? {
            tracing::warn!(?kind, %error, "the module could not learn how a kind of call is resumed");
        }
        Ok(())
    }

    fn host_facts(&self) -> Result<HostFacts, Failure> {
        self.learn()?;
        let module = self.open()?.hello()?;
        HostFacts::collect(Some(&module)).map_err(failure(FailureCode::SystemError))
    }
}

/// Turns an error into a failure with this code.
fn failure<E: Display>(code: FailureCode) -> impl Fn(E) -> Failure {
    move |error| Failure::new(code, error.to_string())
}

fn own_image(records: &[u8]) -> Result<Image, Failure> {
    Image::from_records(records).map_err(|error: ImageError| {
        Failure::new(
            FailureCode::CaptureFailed,
            format!("what the kernel module says cannot be read: {error}"),
        )
    })
}

/// The PID on this host of the process that `records` describe. A thread of the kernel has little more than that.
fn host_pid(records: &[u8]) -> Result<u32, Failure> {
    let first = Reader::new(records).next().and_then(Result::ok);
    match first.and_then(|record| {
        record
            .parse::<Process>()
            .ok()
            .map(|(process, _)| process.host_pid.get())
    }) {
        Some(pid) => Ok(pid),
        None => Err(Failure::new(
            FailureCode::CaptureFailed,
            "the kernel module describes no process",
        )),
    }
}

fn peer_image(records: &[u8]) -> Result<Image, Failure> {
    Image::from_records(records).map_err(|error: ImageError| {
        Failure::new(
            FailureCode::ProtocolError,
            format!("the process that the peer sent cannot be read: {error}"),
        )
    })
}

fn reports<'a>(found: impl IntoIterator<Item = &'a Found>) -> Vec<ObstacleReport> {
    found.into_iter().map(Found::report).collect()
}

fn found(finding: Finding) -> Found {
    let report = |obstacle| Found {
        obstacle,
        object: finding.object.clone(),
        message: finding.message.clone(),
    };
    match pmig_core::obstacle::find(finding.code) {
        Some(obstacle) => report(obstacle),
        // A finding without an entry in the table still stands in the way.
        None => report(&pmig_core::obstacle::destination::REFUSED_BY_PEER),
    }
}

impl Machine for HostMachine {
    fn facts(&self) -> Result<Vec<u8>, Failure> {
        self.host_facts()?
            .to_bytes()
            .map_err(failure(FailureCode::SystemError))
    }

    fn compare(&self, facts: &[u8]) -> Result<Vec<ObstacleReport>, Failure> {
        let theirs = HostFacts::from_bytes(facts).map_err(failure(FailureCode::ProtocolError))?;
        Ok(reports(&host::compare(&self.host_facts()?, &theirs)))
    }

    fn survey(&self, pid: u32) -> Result<Survey, Failure> {
        let mut records = self.open()?.survey(pid)?;
        // What cannot be read as an image is refused for that.
        if let Ok(mut image) = Image::from_records(&records) {
            capture::describe(pid, &mut image, Moment::Running)
                .map_err(failure(FailureCode::CaptureFailed))?;
            records = image.to_records();
        }
        let process = ProcessFacts::read(pid).map_err(failure(FailureCode::SystemError))?;
        Ok(Survey {
            records,
            memory_bytes: process.map_or(0, |process| process.resident),
        })
    }

    fn admit(&self, records: &[u8], frozen: bool) -> Result<Vec<ObstacleReport>, Failure> {
        let pid = host_pid(records)?;
        let mut all = admission::of_records(records, &admission::context(pid));
        // A frozen process is in the asking migration's own session.
        if !frozen && self.sessions()?.iter().any(|session| session.pid == pid) {
            all.push(Found::new(&selection::IN_SESSION, format!("process {pid}")));
        }
        let system = failure(FailureCode::SystemError);
        if let Some(process) = ProcessFacts::read(pid).map_err(&system)? {
            let own = Own::read().map_err(&system)?;
            for found in process
                .protected(&own)
                .into_iter()
                .chain(admission::notes(&process))
            {
                if !all.iter().any(|other| other.obstacle == found.obstacle) {
                    all.push(found);
                }
            }
        }
        all.sort_by_key(|found| !found.refuses());
        Ok(reports(&all))
    }

    fn receive(&self, survey: &Survey, facts: &[u8]) -> Result<Vec<ObstacleReport>, Failure> {
        let theirs = HostFacts::from_bytes(facts).map_err(failure(FailureCode::ProtocolError))?;
        let image = peer_image(&survey.records)?;
        let mut all = host::compare(&theirs, &self.host_facts()?);
        all.extend(host::limits::check(&image, &HostLimits::read()));
        all.extend(
            restore::check(&image, Moment::Running, survey.memory_bytes)
                .into_iter()
                .map(found),
        );
        Ok(reports(&all))
    }

    fn source(&self, migration: MigrationId, pid: u32) -> Result<Box<dyn Source>, Failure> {
        let mut kernel = self.open()?;
        let session = kernel.session_new(Role::Source.into(), migration)?;
        Ok(Box::new(HostSource {
            kernel,
            session,
            pid,
            ranges: Vec::new(),
        }))
    }

    fn destination(
        &self,
        migration: MigrationId,
        survey: &[u8],
        clock_offset_ns: i64,
    ) -> Result<Box<dyn Destination>, Failure> {
        let image = peer_image(survey)?;
        let options = spawn_options(&image, clock_offset_ns)?;
        let berth = Berth::new(self, migration, &image, &options)?;
        Ok(Box::new(HostDestination {
            machine: self.clone(),
            migration,
            options,
            berth,
            image,
        }))
    }

    fn sessions(&self) -> Result<Vec<SessionInfo>, Failure> {
        Ok(self.open()?.status()?)
    }

    fn adopt(&self, session: &SessionInfo) -> Result<Box<dyn Parked>, Failure> {
        let mut kernel = self.open()?;
        kernel.adopt(session.session)?;
        Ok(Box::new(HostParked {
            kernel,
            session: session.session,
            pid: session.pid,
        }))
    }
}

/// What a time namespace must add here so that the process's clocks go on where they were.
fn spawn_options(image: &Image, clock_offset_ns: i64) -> Result<SpawnOptions, Failure> {
    let here = HostClocks::now().map_err(failure(FailureCode::SystemError))?;
    let then = &image.clocks;
    // What the source's wall clock says now.
    let there = here.realtime.saturating_sub(clock_offset_ns);
    let passed = there.saturating_sub(then.realtime.get()).max(0);
    let offset = |view: i64, host: i64| view.saturating_add(passed).saturating_sub(host);
    Ok(SpawnOptions {
        monotonic_offset: offset(then.monotonic.get(), here.monotonic),
        boottime_offset: offset(then.boottime.get(), here.boottime),
        ..SpawnOptions::default()
    })
}

/// A process of this host that is being moved away.
#[derive(Debug)]
struct HostSource {
    kernel: Box<dyn Kernel>,
    session: u32,
    pid: u32,
    ranges: Vec<PageRange>,
}

impl Source for HostSource {
    fn freeze(&mut self, deadline: Duration) -> Result<(), Failure> {
        Ok(self
            .kernel
            .freeze(self.session, self.pid, deadline)
            .map(drop)?)
    }

    fn capture(&mut self) -> Result<Captured, Failure> {
        let failed = failure(FailureCode::CaptureFailed);
        let records = self.kernel.capture(self.session, self.pid)?;
        let mut image = own_image(&records)?;
        capture::settle_files(self.pid, &mut image).map_err(&failed)?;
        capture::pipe_contents(self.pid, &mut image).map_err(&failed)?;
        capture::describe(self.pid, &mut image, Moment::Frozen).map_err(&failed)?;
        image
            .require_complete()
            .map_err(failure(FailureCode::CaptureFailed))?;
        self.ranges = capture::scan_pages(self.pid, &image).map_err(&failed)?;
        let memory_bytes = self.ranges.iter().map(length).fold(0, u64::saturating_add);
        Ok(Captured {
            records: image.to_records(),
            memory_bytes,
        })
    }

    fn send_pages(
        &mut self,
        connection: &dyn Connection,
        progress: &mut dyn FnMut(PageTotals),
    ) -> Result<PageTotals, Failure> {
        let mut totals = PageTotals::default();
        let mut rest = self.ranges.as_slice();
        loop {
            let (batch, next) = rest.split_at(batch_length(rest));
            let is_last = next.is_empty();
            let sent = self.kernel.send_pages(
                self.session,
                self.pid,
                connection.socket(),
                batch,
                is_last,
            )?;
            totals.add(sent);
            progress(totals);
            if is_last {
                return Ok(totals);
            }
            rest = next;
        }
    }

    fn commit(mut self: Box<Self>) -> Result<Box<dyn Parked>, Failure> {
        self.kernel.commit(self.session)?;
        Ok(Box::new(HostParked {
            kernel: self.kernel,
            session: self.session,
            pid: self.pid,
        }))
    }

    fn abort(mut self: Box<Self>) -> Result<(), Failure> {
        match self.kernel.session_end(self.session) {
            // A session that is over has nothing left to thaw.
            Err(error) if is_gone(self.kernel.as_mut(), self.session) => {
                tracing::debug!(%error, "the session was over already");
                Ok(())
            }
            result => Ok(result?),
        }
    }
}

fn length(range: &PageRange) -> u64 {
    range.end.get().saturating_sub(range.start.get())
}

/// How many of the first ranges make a batch: at least one, if there is one.
fn batch_length(ranges: &[PageRange]) -> usize {
    let mut bytes = 0u64;
    for (index, range) in ranges.iter().enumerate() {
        bytes = bytes.saturating_add(length(range));
        if bytes >= BATCH_BYTES {
            return index.saturating_add(1);
        }
    }
    ranges.len()
}

/// Whether the module does not know the session any more.
fn is_gone(kernel: &mut dyn Kernel, session: u32) -> bool {
    kernel
        .status()
        .is_ok_and(|sessions| sessions.iter().all(|info| info.session != session))
}

/// A vessel and the session that it belongs to.
#[derive(Debug)]
struct Berth {
    // Dropped first: the module kills what is in the session.
    kernel: Box<dyn Kernel>,
    session: u32,
    vessel: Vessel,
}

impl Berth {
    fn new(
        machine: &HostMachine,
        migration: MigrationId,
        image: &Image,
        options: &SpawnOptions,
    ) -> Result<Self, Failure> {
        let mut kernel = machine.open()?;
        let session = kernel.session_new(Role::Destination.into(), migration)?;
        let mut vessel =
            Vessel::spawn(image, options).map_err(failure(FailureCode::RestoreFailed))?;
        kernel.vessel(session, vessel.pid(), vessel.stub())?;
        vessel.detach();
        Ok(Self {
            kernel,
            session,
            vessel,
        })
    }
}

/// A process that is being built on this host.
#[derive(Debug)]
struct HostDestination {
    machine: HostMachine,
    migration: MigrationId,
    options: SpawnOptions,
    berth: Berth,
    image: Image,
}

impl Destination for HostDestination {
    fn pid(&self) -> u32 {
        self.berth.vessel.pid()
    }

    fn notes(&self) -> Vec<String> {
        self.berth.vessel.notes().to_vec()
    }

    fn build(&mut self, captured: &Captured) -> Result<(), Failure> {
        let image = peer_image(&captured.records)?;
        image
            .require_complete()
            .map_err(failure(FailureCode::ProtocolError))?;
        let obstacles: Vec<Found> = restore::check(&image, Moment::Frozen, captured.memory_bytes)
            .into_iter()
            .map(found)
            .collect();
        if obstacles.iter().any(Found::refuses) {
            return Err(Failure::not_movable(reports(&obstacles)));
        }
        if let Err(reason) = self.berth.vessel.suits(&image) {
            tracing::info!(%reason, "the process has changed since the survey: another vessel is made");
            self.replace_vessel(&image)?;
        }
        self.berth
            .vessel
            .build(&image)
            .map_err(failure(FailureCode::RestoreFailed))?;
        self.image = image;
        Ok(())
    }

    fn receive_pages(&mut self, connection: &dyn Connection) -> Result<PageTotals, Failure> {
        let pid = self.pid();
        Ok(self
            .berth
            .kernel
            .receive_pages(self.berth.session, pid, connection.socket())?)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let failed = failure(FailureCode::RestoreFailed);
        let Berth {
            kernel,
            session,
            vessel,
        } = &mut self.berth;
        vessel.finish(&self.image).map_err(&failed)?;
        kernel.freeze(*session, vessel.pid(), VESSEL_DEADLINE)?;
        vessel.send_stop(&self.image).map_err(&failed)?;
        let records = vessel.restore_records(&self.image).map_err(&failed)?;
        Ok(kernel.restore(*session, vessel.pid(), &records)?)
    }

    fn commit(self: Box<Self>) -> Result<Box<dyn Parked>, Failure> {
        let Berth {
            mut kernel,
            session,
            vessel,
        } = self.berth;
        kernel.commit(session)?;
        let pid = vessel.pid();
        vessel.release();
        Ok(Box::new(HostParked {
            kernel,
            session,
            pid,
        }))
    }
}

impl HostDestination {
    /// Makes a new vessel. The old one has to be gone before, because it holds the same PID.
    fn replace_vessel(&mut self, image: &Image) -> Result<(), Failure> {
        let mut kernel = self.machine.open()?;
        let session = kernel.session_new(Role::Destination.into(), self.migration)?;
        self.berth.kernel.kill(self.berth.session)?;
        wait_until_reaped(self.berth.vessel.pidfd(), self.berth.vessel.pid());
        let mut vessel =
            Vessel::spawn(image, &self.options).map_err(failure(FailureCode::RestoreFailed))?;
        kernel.vessel(session, vessel.pid(), vessel.stub())?;
        vessel.detach();
        self.berth = Berth {
            kernel,
            session,
            vessel,
        };
        Ok(())
    }
}

/// Waits until a killed process is dead and its PID is free. Whoever comes with that PID before gets a PID namespace; a
/// parent that does not ask for its dead children is not waited for any longer.
fn wait_until_reaped(pidfd: BorrowedFd<'_>, pid: u32) {
    process::pidfd_wait(pidfd, REAP_LIMIT);
    let path = PathBuf::from(format!("/proc/{pid}"));
    let begin = Instant::now();
    while path.exists() && begin.elapsed() < REAP_LIMIT {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A parked process of this host that waits for the decision.
#[derive(Debug)]
struct HostParked {
    kernel: Box<dyn Kernel>,
    session: u32,
    pid: u32,
}

impl Parked for HostParked {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn thaw(&mut self) -> Result<(), Failure> {
        Ok(self.kernel.thaw(self.session)?)
    }

    fn kill(&mut self) -> Result<(), Failure> {
        // It is parked, or dead already: the number is still its own.
        let pidfd = process::pidfd_open(self.pid).ok();
        match self.kernel.kill(self.session) {
            Err(error) if is_gone(self.kernel.as_mut(), self.session) => {
                tracing::debug!(%error, "the session was over already");
                return Ok(());
            }
            result => result?,
        }
        if let Some(pidfd) = pidfd {
            wait_until_reaped(pidfd.as_fd(), self.pid);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::peer::realtime_ns;

    fn range(pages: u64) -> PageRange {
        PageRange {
            start: 4096.into(),
            end: (4096 + pages * 4096).into(),
        }
    }

    #[test]
    fn batches_end_where_they_are_full() {
        assert_eq!(batch_length(&[]), 0);
        assert_eq!(batch_length(&[range(1), range(1)]), 2);
        assert_eq!(batch_length(&[range(8192), range(1)]), 1);
        assert_eq!(batch_length(&[range(8191), range(1), range(1)]), 2);
    }

    #[test]
    fn clocks_go_on_where_they_were() {
        let mut image = Image::empty(7);
        let hour = 3_600_000_000_000i64;
        image.clocks.realtime = (realtime_ns() - 1_000_000_000 + hour).into();
        image.clocks.monotonic = 5_000_000_000i64.into();
        // The source's clock is an hour ahead, and the survey is a second old.
        let options = spawn_options(&image, -hour).expect("clocks");
        let here = HostClocks::now().expect("clocks").monotonic;
        let view = here + options.monotonic_offset;
        assert!((5_900_000_000..7_000_000_000).contains(&view), "{view}");
    }
}

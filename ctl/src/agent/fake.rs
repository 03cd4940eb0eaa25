// SPDX-License-Identifier: GPL-2.0
//! An imitated machine over [`crate::kernel::fake`]: the whole protocol runs on it without a kernel module, and it can die
//! at any point as an agent dies that is killed.

use super::machine::Captured;
use super::machine::Destination;
use super::machine::Machine;
use super::machine::Parked;
use super::machine::Source;
use super::machine::Survey;
use crate::kernel::fake::FakeHost;
use crate::kernel::Kernel;
use crate::kernel::KernelError;
use crate::kernel::PageTotals;
use crate::kernel::SessionInfo;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrationId;
use crate::proto::ObstacleReport;
use crate::proto::Role;
use crate::proto::Severity;
use crate::proto::Side;
use crate::transport::Connection;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// Bytes of memory of an imitated process.
const MEMORY: u64 = 3 * 4096;

/// An imitated machine, as one agent sees it. It has the connections to the module that the agent has opened, and loses
/// them all when the agent dies.
#[derive(Clone)]
pub struct FakeMachine {
    host: FakeHost,
    life: Arc<Mutex<Life>>,
}

#[derive(Default)]
struct Life {
    is_dead: bool,
    kernels: HashMap<u64, Box<dyn Kernel>>,
    next: u64,
    obstacles: Vec<ObstacleReport>,
    fails: HashSet<&'static str>,
}

impl fmt::Debug for FakeMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeMachine")
            .field("is_dead", &self.life().is_dead)
            .finish_non_exhaustive()
    }
}

impl FakeMachine {
    /// The machine `host`, as a new agent sees it.
    pub fn new(host: FakeHost) -> Self {
        Self {
            host,
            life: Arc::default(),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent dies: its connections to the module are closed, and nothing that is left of it does anything any more.
    pub fn die(&self) {
        let kernels = {
            let mut life = self.life();
            life.is_dead = true;
            std::mem::take(&mut life.kernels)
        };
        drop(kernels);
    }

    /// Something stands against every migration on this machine.
    pub fn add_obstacle(&self, code: &str, side: Side) {
        self.life().obstacles.push(ObstacleReport {
            code: code.to_owned(),
            object: String::new(),
            message: format!("there is a {code}"),
            hint: String::new(),
            severity: Severity::Refusal,
            side,
        });
    }

    /// The next call of `step` fails: `freeze`, `capture`, `send`, `build`, `receive`, `finish`, `commit`, `thaw`, `kill`.
    pub fn fail_once(&self, step: &'static str) {
        self.life().fails.insert(step);
    }

    fn step(&self, step: &'static str) -> Result<(), Failure> {
        let mut life = self.life();
        if life.is_dead {
            return Err(dead());
        }
        if life.fails.remove(step) {
            return Err(Failure::new(
                FailureCode::KernelError,
                format!("{step} fails as a test demands"),
            ));
        }
        Ok(())
    }

    fn obstacles(&self, side: Side) -> Vec<ObstacleReport> {
        self.life()
            .obstacles
            .iter()
            .filter(|obstacle| obstacle.side == side)
            .cloned()
            .collect()
    }

    fn open(&self) -> Result<Handle, Failure> {
        let mut life = self.life();
        if life.is_dead {
            return Err(dead());
        }
        let name = life.next;
        life.next = name.wrapping_add(1);
        life.kernels.insert(name, Box::new(self.host.connect()));
        Ok(Handle {
            machine: self.clone(),
            name,
        })
    }
}

fn dead() -> Failure {
    Failure::new(FailureCode::SystemError, "this agent is dead")
}

/// One connection to the module, kept where [`FakeMachine::die`] can close it.
#[derive(Debug)]
struct Handle {
    machine: FakeMachine,
    name: u64,
}

impl Handle {
    fn call<T>(
        &self,
        call: impl FnOnce(&mut dyn Kernel) -> Result<T, KernelError>,
    ) -> Result<T, Failure> {
        let mut life = self.machine.life();
        let kernel = life.kernels.get_mut(&self.name).ok_or_else(dead)?;
        Ok(call(kernel.as_mut())?)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let kernel = self.machine.life().kernels.remove(&self.name);
        drop(kernel);
    }
}

impl Machine for FakeMachine {
    fn facts(&self) -> Result<Vec<u8>, Failure> {
        Ok(b"fake".to_vec())
    }

    fn compare(&self, facts: &[u8]) -> Result<Vec<ObstacleReport>, Failure> {
        if facts == b"fake" {
            Ok(self.obstacles(Side::Both))
        } else {
            Err(Failure::new(
                FailureCode::ProtocolError,
                "these are no facts",
            ))
        }
    }

    fn survey(&self, pid: u32) -> Result<Survey, Failure> {
        let records = self.open()?.call(|kernel| kernel.survey(pid))?;
        Ok(Survey {
            records,
            memory_bytes: MEMORY,
        })
    }

    fn admit(&self, _records: &[u8], _frozen: bool) -> Result<Vec<ObstacleReport>, Failure> {
        Ok(self.obstacles(Side::Source))
    }

    fn receive(&self, _survey: &Survey, facts: &[u8]) -> Result<Vec<ObstacleReport>, Failure> {
        let mut obstacles = self.compare(facts)?;
        obstacles.extend(self.obstacles(Side::Destination));
        Ok(obstacles)
    }

    fn source(&self, migration: MigrationId, pid: u32) -> Result<Box<dyn Source>, Failure> {
        let kernel = self.open()?;
        let session = kernel.call(|kernel| kernel.session_new(Role::Source.into(), migration))?;
        Ok(Box::new(FakeSource {
            kernel,
            session,
            pid,
        }))
    }

    fn destination(
        &self,
        migration: MigrationId,
        _survey: &[u8],
        _clock_offset_ns: i64,
    ) -> Result<Box<dyn Destination>, Failure> {
        self.step("vessel")?;
        let kernel = self.open()?;
        let session =
            kernel.call(|kernel| kernel.session_new(Role::Destination.into(), migration))?;
        let pid = (1000u32..)
            .find(|pid| self.host.spawn_vessel(*pid, session))
            .unwrap_or(0);
        kernel.call(|kernel| kernel.vessel(session, pid, 0..4096))?;
        Ok(Box::new(FakeDestination {
            kernel,
            session,
            pid,
            captured: Vec::new(),
        }))
    }

    fn sessions(&self) -> Result<Vec<SessionInfo>, Failure> {
        self.open()?.call(|kernel| kernel.status())
    }

    fn adopt(&self, session: &SessionInfo) -> Result<Box<dyn Parked>, Failure> {
        let kernel = self.open()?;
        kernel.call(|kernel| kernel.adopt(session.session))?;
        Ok(Box::new(FakeParked {
            kernel,
            session: session.session,
            pid: session.pid,
        }))
    }
}

#[derive(Debug)]
struct FakeSource {
    kernel: Handle,
    session: u32,
    pid: u32,
}

impl Source for FakeSource {
    fn freeze(&mut self, deadline: Duration) -> Result<(), Failure> {
        self.kernel.machine.step("freeze")?;
        self.kernel
            .call(|kernel| kernel.freeze(self.session, self.pid, deadline))
            .map(drop)
    }

    fn capture(&mut self) -> Result<Captured, Failure> {
        self.kernel.machine.step("capture")?;
        let records = self
            .kernel
            .call(|kernel| kernel.capture(self.session, self.pid))?;
        Ok(Captured {
            records,
            memory_bytes: MEMORY,
        })
    }

    fn send_pages(
        &mut self,
        connection: &dyn Connection,
        progress: &mut dyn FnMut(PageTotals),
    ) -> Result<PageTotals, Failure> {
        self.kernel.machine.step("send")?;
        let lost = |error: std::io::Error| {
            Failure::new(FailureCode::KernelError, format!("send_pages: {error}"))
        };
        let mut stream = connection.try_clone().map_err(lost)?;
        stream.write_all(&[7; MEMORY as usize]).map_err(lost)?;
        let totals = PageTotals {
            pages: MEMORY / 4096,
            zero_pages: 1,
            bytes: MEMORY,
        };
        progress(totals);
        Ok(totals)
    }

    fn commit(self: Box<Self>) -> Result<Box<dyn Parked>, Failure> {
        self.kernel.machine.step("commit")?;
        self.kernel.call(|kernel| kernel.commit(self.session))?;
        Ok(Box::new(FakeParked {
            kernel: self.kernel,
            session: self.session,
            pid: self.pid,
        }))
    }

    fn abort(self: Box<Self>) -> Result<(), Failure> {
        if self.kernel.machine.life().is_dead {
            return Ok(());
        }
        self.kernel.call(|kernel| kernel.session_end(self.session))
    }
}

#[derive(Debug)]
struct FakeDestination {
    kernel: Handle,
    session: u32,
    pid: u32,
    captured: Vec<u8>,
}

impl Destination for FakeDestination {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn notes(&self) -> Vec<String> {
        vec!["it has another PID here".to_owned()]
    }

    fn build(&mut self, captured: &Captured) -> Result<(), Failure> {
        self.kernel.machine.step("build")?;
        self.captured.clone_from(&captured.records);
        Ok(())
    }

    fn receive_pages(&mut self, connection: &dyn Connection) -> Result<PageTotals, Failure> {
        self.kernel.machine.step("receive")?;
        let lost = |error: std::io::Error| {
            Failure::new(FailureCode::KernelError, format!("receive_pages: {error}"))
        };
        let mut stream = connection.try_clone().map_err(lost)?;
        stream.read_exact(&mut [0; MEMORY as usize]).map_err(lost)?;
        Ok(PageTotals {
            pages: MEMORY / 4096,
            zero_pages: 0,
            bytes: MEMORY,
        })
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.kernel.machine.step("finish")?;
        let (session, pid) = (self.session, self.pid);
        self.kernel
            .call(|kernel| kernel.freeze(session, pid, Duration::from_secs(1)))?;
        self.kernel
            .call(|kernel| kernel.restore(session, pid, &self.captured))
    }

    fn commit(self: Box<Self>) -> Result<Box<dyn Parked>, Failure> {
        self.kernel.machine.step("commit")?;
        self.kernel.call(|kernel| kernel.commit(self.session))?;
        Ok(Box::new(FakeParked {
            kernel: self.kernel,
            session: self.session,
            pid: self.pid,
        }))
    }
}

#[derive(Debug)]
struct FakeParked {
    kernel: Handle,
    session: u32,
    pid: u32,
}

impl Parked for FakeParked {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn thaw(&mut self) -> Result<(), Failure> {
        self.kernel.machine.step("thaw")?;
        self.kernel.call(|kernel| kernel.thaw(self.session))
    }

    fn kill(&mut self) -> Result<(), Failure> {
        self.kernel.machine.step("kill")?;
        self.kernel.call(|kernel| kernel.kill(self.session))
    }
}

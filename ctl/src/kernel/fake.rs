// SPDX-License-Identifier: GPL-2.0
//! An imitated module: processes with a counter for memory, sessions that follow the same state machine as the real
//! module's ([`pmig_core::session`]). What it is told and what it does is what tests of the agent look at.

use super::Device;
use super::Kernel;
use super::KernelError;
use super::ModuleInfo;
use super::PageTotals;
use super::SessionInfo;
use crate::proto::MigrationId;
use pmig_core::session::Action;
use pmig_core::session::Event;
use pmig_core::session::Session;
use pmig_wire::netlink::Command;
use pmig_wire::netlink::Role;
use pmig_wire::netlink::SessionState;
use pmig_wire::pages::PageRange;
use pmig_wire::thread::RestartKind;
use pmig_wire::ABI_VERSION;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// What an imitated process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs.
    Running,
    /// It is parked in this session.
    Parked(u32),
    /// It is an empty vessel of this session.
    Vessel(u32),
}

/// An imitated process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeProcess {
    /// What it does.
    pub activity: Activity,
    /// What makes it this process and no other: it moves with it.
    pub identity: u64,
}

/// An imitated host: processes and sessions. Clones are the same host.
#[derive(Clone, Debug, Default)]
pub struct FakeHost {
    inner: Arc<Mutex<World>>,
    next_owner: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct World {
    processes: BTreeMap<u32, FakeProcess>,
    sessions: BTreeMap<u32, FakeSession>,
    next_session: u32,
}

#[derive(Debug)]
struct FakeSession {
    core: Session,
    owner: u64,
    migration: MigrationId,
    pid: u32,
}

impl FakeHost {
    fn world(&self) -> MutexGuard<'_, World> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process.
    pub fn start(&self, pid: u32, identity: u64) {
        self.world().processes.insert(
            pid,
            FakeProcess {
                activity: Activity::Running,
                identity,
            },
        );
    }

    /// The process with this PID.
    pub fn process(&self, pid: u32) -> Option<FakeProcess> {
        self.world().processes.get(&pid).copied()
    }

    /// The processes that run and are `identity`.
    pub fn running(&self, identity: u64) -> usize {
        let is_it = |process: &&FakeProcess| {
            process.activity == Activity::Running && process.identity == identity
        };
        self.world().processes.values().filter(is_it).count()
    }

    /// The sessions that are not over.
    pub fn sessions(&self) -> usize {
        self.world().sessions.len()
    }

    /// The machine is switched off and on: every process and session is gone.
    pub fn reboot(&self) {
        let mut world = self.world();
        world.processes.clear();
        world.sessions.clear();
    }

    /// Makes an empty vessel with this PID, which nothing runs in yet.
    pub fn spawn_vessel(&self, pid: u32, session: u32) -> bool {
        let mut world = self.world();
        if world.processes.contains_key(&pid) {
            return false;
        }
        world.processes.insert(
            pid,
            FakeProcess {
                activity: Activity::Vessel(session),
                identity: 0,
            },
        );
        true
    }

    /// A connection to the imitated module.
    pub fn connect(&self) -> FakeKernel {
        let owner = self
            .next_owner
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        FakeKernel {
            host: self.clone(),
            owner,
        }
    }
}

impl Device for FakeHost {
    fn open(&self) -> Result<Box<dyn Kernel>, KernelError> {
        Ok(Box::new(self.connect()))
    }
}

/// A connection to an imitated module.
#[derive(Debug)]
pub struct FakeKernel {
    host: FakeHost,
    owner: u64,
}

impl Drop for FakeKernel {
    fn drop(&mut self) {
        let mut world = self.host.world();
        let owned: Vec<u32> = world
            .sessions
            .iter()
            .filter(|(_, session)| session.core.owned && session.owner == self.owner)
            .map(|(number, _)| *number)
            .collect();
        for number in owned {
            // The state machine has an answer for this in every state.
            let _ = world.apply(number, Event::OwnerGone, Command::SessionEnd);
        }
    }
}

fn refused(command: Command, errno: i32, message: &str) -> KernelError {
    KernelError::Refused {
        command,
        errno,
        message: message.to_owned(),
    }
}

impl World {
    /// Does to the session what `event` demands.
    fn apply(&mut self, number: u32, event: Event, command: Command) -> Result<(), KernelError> {
        let no_session = || refused(command, libc::ENOENT, "no such session");
        let session = self.sessions.get_mut(&number).ok_or_else(no_session)?;
        let (next, action) = session
            .core
            .on(event)
            .map_err(|error| refused(command, libc::EBUSY, error.message()))?;
        session.core = next;
        let pid = session.pid;
        let is_over = next.state == SessionState::Ended;
        match action {
            Action::Nothing | Action::Disown | Action::Own => {}
            Action::Park => self.set_activity(pid, Activity::Parked(number)),
            Action::Release => self.set_activity(pid, Activity::Running),
            Action::Kill => drop(self.processes.remove(&pid)),
        }
        if is_over {
            self.sessions.remove(&number);
        }
        Ok(())
    }

    fn set_activity(&mut self, pid: u32, activity: Activity) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.activity = activity;
        }
    }
}

impl FakeKernel {
    fn apply(&self, session: u32, event: Event, command: Command) -> Result<(), KernelError> {
        let mut world = self.host.world();
        match world.sessions.get(&session) {
            None => Err(refused(command, libc::ENOENT, "no such session")),
            Some(found)
                if event != Event::Adopt && (!found.core.owned || found.owner != self.owner) =>
            {
                Err(refused(
                    command,
                    libc::EPERM,
                    "the session belongs to somebody else",
                ))
            }
            Some(_) => world.apply(session, event, command),
        }
    }

    fn identity(&self, pid: u32, command: Command) -> Result<u64, KernelError> {
        let no_process = || refused(command, libc::ESRCH, "no such process");
        self.host
            .process(pid)
            .map(|process| process.identity)
            .ok_or_else(no_process)
    }
}

impl Kernel for FakeKernel {
    fn hello(&mut self) -> Result<ModuleInfo, KernelError> {
        Ok(ModuleInfo {
            abi: ABI_VERSION,
            version: "fake".into(),
            release: "fake".into(),
            harvested: u32::MAX,
        })
    }

    fn survey(&mut self, pid: u32) -> Result<Vec<u8>, KernelError> {
        Ok(self.identity(pid, Command::Survey)?.to_le_bytes().to_vec())
    }

    fn session_new(&mut self, role: Role, migration: MigrationId) -> Result<u32, KernelError> {
        let mut world = self.host.world();
        world.next_session = world.next_session.wrapping_add(1);
        let number = world.next_session;
        let session = FakeSession {
            core: Session::new(role),
            owner: self.owner,
            migration,
            pid: 0,
        };
        world.sessions.insert(number, session);
        Ok(number)
    }

    fn session_end(&mut self, session: u32) -> Result<(), KernelError> {
        self.apply(session, Event::End, Command::SessionEnd)
    }

    fn freeze(&mut self, session: u32, pid: u32, _deadline: Duration) -> Result<u32, KernelError> {
        let identity = self.identity(pid, Command::Freeze)?;
        match self.host.process(pid).map(|process| process.activity) {
            Some(Activity::Running) if identity != 0 => {
                if let Some(found) = self.host.world().sessions.get_mut(&session) {
                    found.pid = pid;
                }
            }
            Some(Activity::Vessel(owner)) if owner == session => {}
            _ => {
                return Err(refused(
                    Command::Freeze,
                    libc::EBUSY,
                    "the process is parked already",
                ))
            }
        }
        self.apply(session, Event::Freeze, Command::Freeze)?;
        Ok(1)
    }

    fn thaw(&mut self, session: u32) -> Result<(), KernelError> {
        self.apply(session, Event::Thaw, Command::Thaw)
    }

    fn capture(&mut self, _session: u32, pid: u32) -> Result<Vec<u8>, KernelError> {
        Ok(self.identity(pid, Command::Capture)?.to_le_bytes().to_vec())
    }

    fn send_pages(
        &mut self,
        _session: u32,
        pid: u32,
        _socket: BorrowedFd<'_>,
        ranges: &[PageRange],
        _last: bool,
    ) -> Result<PageTotals, KernelError> {
        self.identity(pid, Command::SendPages)?;
        Ok(PageTotals {
            pages: ranges.len() as u64,
            ..PageTotals::default()
        })
    }

    fn receive_pages(
        &mut self,
        _session: u32,
        pid: u32,
        _socket: BorrowedFd<'_>,
    ) -> Result<PageTotals, KernelError> {
        self.identity(pid, Command::ReceivePages)?;
        Ok(PageTotals::default())
    }

    fn vessel(&mut self, session: u32, pid: u32, _stub: Range<u64>) -> Result<(), KernelError> {
        let mut world = self.host.world();
        match world.sessions.get_mut(&session) {
            Some(found) => found.pid = pid,
            None => return Err(refused(Command::Vessel, libc::ENOENT, "no such session")),
        }
        world.set_activity(pid, Activity::Vessel(session));
        Ok(())
    }

    fn restore(&mut self, _session: u32, pid: u32, records: &[u8]) -> Result<(), KernelError> {
        let bytes = records
            .try_into()
            .map_err(|_| refused(Command::Restore, libc::EINVAL, "no identity"))?;
        match self.host.world().processes.get_mut(&pid) {
            Some(process) => process.identity = u64::from_le_bytes(bytes),
            None => return Err(refused(Command::Restore, libc::ESRCH, "the vessel is dead")),
        }
        Ok(())
    }

    fn commit(&mut self, session: u32) -> Result<(), KernelError> {
        self.apply(session, Event::Commit, Command::Commit)
    }

    fn kill(&mut self, session: u32) -> Result<(), KernelError> {
        self.apply(session, Event::Kill, Command::Kill)
    }

    fn status(&mut self) -> Result<Vec<SessionInfo>, KernelError> {
        let world = self.host.world();
        Ok(world
            .sessions
            .iter()
            .map(|(number, session)| SessionInfo {
                session: *number,
                role: session.core.role,
                state: session.core.state,
                migration: session.migration,
                pid: session.pid,
                threads: 1,
                owned: session.core.owned,
            })
            .collect())
    }

    fn harvest(&mut self, _session: u32, pid: u32, _kind: RestartKind) -> Result<(), KernelError> {
        self.identity(pid, Command::Harvest).map(drop)
    }

    fn adopt(&mut self, session: u32) -> Result<(), KernelError> {
        self.apply(session, Event::Adopt, Command::Adopt)?;
        if let Some(found) = self.host.world().sessions.get_mut(&session) {
            found.owner = self.owner;
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Sessions: who owns the tasks that are parked, and what becomes of them when the owner goes away.
//!
//! A session belongs to the netlink socket that made it. While it is not committed it ends with that socket: a source
//! session thaws its processes, a destination session kills its vessels. A committed session waits for a new owner.

use crate::freeze;
use crate::freeze::Parks;
use crate::kx::module::ModuleRef;
use crate::kx::netlink::announce;
use crate::kx::netlink::Failure;
use crate::kx::signal::Census;
use crate::kx::table;
use crate::kx::task::Task;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use pmig_core::session as core_session;
use pmig_core::session::Action;
use pmig_core::session::Event;
use pmig_core::session::Refused;
use pmig_core::validate::Span;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Role;
use pmig_wire::netlink::SessionState;

/// The most sessions at a time.
const MAX_SESSIONS: usize = 1024;

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

/// One process of a session.
pub(crate) struct Member {
    /// The thread-group leader.
    pub(crate) leader: Task,
    /// Empty while the process runs.
    pub(crate) parks: Parks,
    /// Addresses of a vessel's stub; none for a source.
    pub(crate) stub: Option<Span>,
    /// What others had done to it when it was captured.
    pub(crate) captured: Option<Census>,
}

impl Member {
    /// Whether all of it is frozen.
    fn is_frozen(&self) -> bool {
        !self.parks.is_empty()
    }

    /// What others have done to it. Fails if it was killed while it was frozen.
    pub(crate) fn census(&self) -> Result<Census, Failure> {
        let mut census = Census::default();
        for park in self.parks.iter() {
            let held = park.hold().map_err(|errno| {
                Failure::new(
                    errno,
                    format_args!("the process was killed while it was frozen"),
                )
            })?;
            census.add(&held);
        }
        Ok(census)
    }

    /// Whether it may live on elsewhere as it was captured.
    fn is_as_captured(&self) -> Result<(), Failure> {
        let now = self.census()?;
        match self.captured {
            Some(then) if then != now => Err(Failure::new(
                EAGAIN,
                format_args!(
                    "the process was sent a signal, continued or traced while it was frozen"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The last steps before a vessel runs as the process that it has become.
    fn prepare_restored(&self) -> Result<(), Failure> {
        let (Some(first), Some(stub)) = (self.parks.first(), self.stub) else {
            return Err(Failure::new(EBUSY, format_args!("a vessel is not frozen")));
        };
        for park in self.parks.iter() {
            park.mark_restored();
        }
        first.unmap_stub(stub.start, stub.end).map_err(|errno| {
            Failure::new(errno, format_args!("the vessel's stub cannot be unmapped"))
        })
    }
}

/// What changes in a session.
pub(crate) struct Inner {
    /// Decides what the session may do.
    pub(crate) core: core_session::Session,
    pub(crate) members: KVec<Member>,
}

impl Inner {
    /// The process that the task leads.
    pub(crate) fn member(&mut self, leader: &Task) -> Result<&mut Member, Failure> {
        self.members
            .iter_mut()
            .find(|member| member.leader == *leader)
            .ok_or_else(|| {
                Failure::new(
                    ESRCH,
                    format_args!("the session does not hold this process"),
                )
            })
    }

    /// The frozen process that the task leads.
    pub(crate) fn frozen(&mut self, leader: &Task) -> Result<&mut Member, Failure> {
        let member = self.member(leader)?;
        if member.is_frozen() {
            Ok(member)
        } else {
            Err(Failure::new(
                EBUSY,
                format_args!("the process is not frozen"),
            ))
        }
    }

    /// What `event` asks for, or why it is refused.
    fn ask(&self, event: Event) -> Result<(core_session::Session, Action), Failure> {
        self.core.on(event).map_err(|refused| {
            let errno = if refused == Refused::Ended {
                ENOENT
            } else {
                EBUSY
            };
            Failure::new(errno, format_args!("{}", refused.message()))
        })
    }
}

/// One side of one migration on this host.
#[pin_data]
pub(crate) struct Session {
    pub(crate) id: u32,
    pub(crate) migration: [u8; 16],
    pub(crate) role: Role,
    /// Port ID of the owner's socket, 0 for none.
    owner: AtomicU32,
    #[pin]
    pub(crate) inner: Mutex<Inner>,
    _module: ModuleRef,
}

impl Session {
    /// Opens a session for the socket `owner`.
    pub(crate) fn open(owner: u32, role: Role, migration: [u8; 16]) -> Result<u32, Failure> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed).max(1);
        let core = core_session::Session::new(role);
        let module = ModuleRef::new()?;
        let session = Arc::pin_init(
            pin_init!(Self {
                id,
                migration,
                role,
                owner: AtomicU32::new(owner),
                inner <- new_mutex!(Inner {
                    core,
                    members: KVec::new(),
                }),
                _module: module,
            }),
            GFP_KERNEL,
        )?;
        table::with(|sessions| {
            if sessions.len() >= MAX_SESSIONS {
                return Err(Failure::new(EMFILE, format_args!("too many sessions")));
            }
            sessions.push(session, GFP_KERNEL)?;
            Ok(id)
        })
    }

    /// The session with this ID.
    pub(crate) fn find(id: u32) -> Result<Arc<Self>, Failure> {
        table::with(|sessions| sessions.iter().find(|session| session.id == id).cloned())
            .ok_or_else(|| Failure::new(ENOENT, format_args!("there is no session {id}")))
    }

    /// Fails unless the socket `port` owns it.
    pub(crate) fn require_owner(&self, port: u32) -> Result<(), Failure> {
        match self.owner.load(Ordering::Relaxed) {
            owner if owner == port => Ok(()),
            0 => Err(Failure::new(
                EPERM,
                format_args!("nobody owns the session: it has to be adopted first"),
            )),
            _ => Err(Failure::new(
                EPERM,
                format_args!("another socket owns the session"),
            )),
        }
    }

    /// All sessions.
    pub(crate) fn all() -> Result<KVVec<Arc<Self>>> {
        table::with(|sessions| {
            let mut all = KVVec::with_capacity(sessions.len(), GFP_KERNEL)?;
            for session in sessions.iter() {
                all.push(session.clone(), GFP_KERNEL)?;
            }
            Ok(all)
        })
    }

    fn forget(&self) {
        // Dropped after the table is unlocked: the last reference may sleep.
        let _removed = table::with(|sessions| {
            let index = sessions.iter().position(|session| session.id == self.id)?;
            sessions.remove(index).ok()
        });
    }

    /// Does what a transition asks for, and takes it.
    fn apply(&self, inner: &mut Inner, next: core_session::Session, action: Action) {
        match action {
            Action::Release => inner
                .members
                .iter()
                .for_each(|member| freeze::release(&member.parks)),
            Action::Kill => inner.members.iter().for_each(|member| member.leader.kill()),
            Action::Nothing | Action::Park | Action::Disown | Action::Own => {}
        }
        let changed = inner.core.state != next.state;
        inner.core = next;
        if changed {
            self.announce(inner);
        }
        if next.state == SessionState::Ended {
            inner.members.clear();
            self.forget();
        }
    }

    /// Tells who listens how far the session is. A listener that hears nothing for lack of memory can still ask.
    fn announce(&self, inner: &Inner) {
        let pid = inner
            .members
            .first()
            .map_or(0, |member| member.leader.global_tgid());
        let _ = announce(&[
            (Attribute::Session, &self.id.to_ne_bytes()),
            (Attribute::Migration, &self.migration),
            (Attribute::Pid, &pid.to_ne_bytes()),
            (Attribute::State, &[inner.core.state as u8]),
        ]);
    }

    fn handle(&self, event: Event) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        let (next, action) = inner.ask(event)?;
        self.apply(&mut inner, next, action);
        Ok(())
    }

    /// Freezes a process into the session. Returns the number of threads.
    pub(crate) fn freeze(&self, leader: &Task, milliseconds: u32) -> Result<usize, Failure> {
        let mut inner = self.inner.lock();
        let (next, action) = inner.ask(Event::Freeze)?;
        if Self::holds(leader)?.is_some_and(|id| id != self.id) {
            return Err(Failure::new(
                EBUSY,
                format_args!("another session holds the process"),
            ));
        }
        let known = inner
            .members
            .iter()
            .position(|member| member.leader == *leader);
        match known.and_then(|index| inner.members.get(index)) {
            Some(member) if member.is_frozen() => {
                return Err(Failure::new(
                    EALREADY,
                    format_args!("the process is frozen already"),
                ));
            }
            None if self.role == Role::Destination => {
                return Err(Failure::new(
                    ENOENT,
                    format_args!("no vessel with this PID"),
                ));
            }
            _ => {}
        }
        // Room first, so that nothing fails once the process is frozen.
        inner.members.reserve(1, GFP_KERNEL)?;
        let parks = freeze::freeze(leader, milliseconds)?;
        let threads = parks.len();
        match known.and_then(|index| inner.members.get_mut(index)) {
            Some(member) => member.parks = parks,
            None => {
                let member = Member {
                    leader: leader.clone(),
                    parks,
                    stub: None,
                    captured: None,
                };
                inner.members.push(member, GFP_KERNEL)?;
            }
        }
        self.apply(&mut inner, next, action);
        Ok(threads)
    }

    /// The ID of the session that holds a process, if there is one that is not being changed right now.
    fn holds(leader: &Task) -> Result<Option<u32>> {
        for session in Self::all()? {
            let Some(inner) = session.inner.try_lock() else {
                continue;
            };
            if inner.members.iter().any(|member| member.leader == *leader) {
                return Ok(Some(session.id));
            }
        }
        Ok(None)
    }

    /// Gives a vessel to the session.
    pub(crate) fn add_vessel(&self, leader: Task, stub: Span) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        if self.role != Role::Destination || inner.core.state != SessionState::Open {
            return Err(Failure::new(
                EBUSY,
                format_args!("the session takes no vessel"),
            ));
        }
        inner.members.push(
            Member {
                leader,
                parks: Parks::new(),
                stub: Some(stub),
                captured: None,
            },
            GFP_KERNEL,
        )?;
        Ok(())
    }

    /// Lets everything run: a source as if nothing had happened, a destination as the process that it has become.
    pub(crate) fn thaw(&self) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        let (next, action) = inner.ask(Event::Thaw)?;
        if self.role == Role::Destination {
            for member in inner.members.iter() {
                member.prepare_restored()?;
            }
        }
        self.apply(&mut inner, next, action);
        Ok(())
    }

    /// Kills everything.
    pub(crate) fn kill(&self) -> Result<(), Failure> {
        self.handle(Event::Kill)
    }

    /// The point of no return. A process that was killed while it was frozen does not pass it, because it would live
    /// again; nor does one that was sent a signal, because that would be lost.
    pub(crate) fn commit(&self) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        let (next, action) = inner.ask(Event::Commit)?;
        for member in inner.members.iter() {
            member.is_as_captured()?;
        }
        self.apply(&mut inner, next, action);
        Ok(())
    }

    /// Undoes everything, unless the session is committed.
    pub(crate) fn abort(&self) -> Result<(), Failure> {
        self.handle(Event::End)
    }

    /// Makes `port` the owner of a committed session that has none.
    pub(crate) fn adopt(&self, port: u32) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        let (next, action) = inner.ask(Event::Adopt)?;
        self.owner.store(port, Ordering::Relaxed);
        self.apply(&mut inner, next, action);
        Ok(())
    }

    /// The socket `port` was closed.
    pub(crate) fn owner_gone(port: u32) {
        // One at a time, so that nothing has to be allocated: this cannot fail.
        while let Some(session) = table::with(|sessions| {
            let owned = |session: &&Arc<Self>| session.owner.load(Ordering::Relaxed) == port;
            sessions.iter().find(owned).cloned()
        }) {
            let mut inner = session.inner.lock();
            session.owner.store(0, Ordering::Relaxed);
            let Ok((next, action)) = inner.ask(Event::OwnerGone) else {
                continue;
            };
            let held = inner.members.iter().any(|member| member.is_frozen());
            session.apply(&mut inner, next, action);
            if held && next.state == SessionState::Ended {
                pr_info!("the owner of session {} is gone: undone\n", session.id);
            }
        }
    }
}

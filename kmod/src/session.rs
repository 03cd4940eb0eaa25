// SPDX-License-Identifier: GPL-2.0

//! Sessions: who owns the tasks that are parked, and what becomes of them when the owner goes away.
//!
//! A session belongs to the netlink socket that made it. While it is not committed it ends with that socket: a source
//! session thaws its processes, a destination session kills its vessels. A committed session waits for a new owner.

use crate::freeze;
use crate::freeze::Parks;
use crate::kx::module::ModuleRef;
use crate::kx::netlink::Failure;
use crate::kx::table;
use crate::kx::task::Task;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::Mutex;
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
    /// Addresses of a vessel's stub; 0 and 0 for a source.
    pub(crate) stub: (u64, u64),
}

impl Member {
    /// Whether all of it is frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        !self.parks.is_empty()
    }
}

/// What changes in a session.
pub(crate) struct Inner {
    pub(crate) state: SessionState,
    /// Port ID of the owner's socket, 0 for none.
    pub(crate) owner: u32,
    pub(crate) members: KVec<Member>,
}

impl Inner {
    /// The process that the task leads.
    pub(crate) fn member(&mut self, leader: &Task) -> Result<&mut Member, Failure> {
        self.members
            .iter_mut()
            .find(|member| member.leader == *leader)
            .ok_or_else(|| Failure::new(ESRCH, format_args!("the session does not hold this process")))
    }

    /// The frozen process that the task leads.
    pub(crate) fn frozen(&mut self, leader: &Task) -> Result<&mut Member, Failure> {
        let member = self.member(leader)?;
        if member.is_frozen() {
            Ok(member)
        } else {
            Err(Failure::new(EBUSY, format_args!("the process is not frozen")))
        }
    }
}

/// One side of one migration on this host.
#[pin_data]
pub(crate) struct Session {
    pub(crate) id: u32,
    pub(crate) migration: [u8; 16],
    pub(crate) role: Role,
    #[pin]
    pub(crate) inner: Mutex<Inner>,
    _module: ModuleRef,
}

impl Session {
    /// Makes a session for the socket `owner`.
    pub(crate) fn open(owner: u32, role: Role, migration: [u8; 16]) -> Result<u32, Failure> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed).max(1);
        let session = Arc::pin_init(
            pin_init!(Self {
                id,
                migration,
                role,
                inner <- new_mutex!(Inner {
                    state: SessionState::Open,
                    owner,
                    members: KVec::new(),
                }),
                _module: ModuleRef::new(),
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

    fn end(&self, inner: &mut Inner) -> KVec<Member> {
        inner.state = SessionState::Ended;
        self.forget();
        core::mem::replace(&mut inner.members, KVec::new())
    }

    /// Freezes a process into the session. Returns the number of threads.
    pub(crate) fn freeze(&self, leader: &Task, milliseconds: u32) -> Result<usize, Failure> {
        let mut inner = self.inner.lock();
        if !matches!(inner.state, SessionState::Open | SessionState::Frozen) {
            return Err(EBUSY.into());
        }
        if Self::holds(leader)?.is_some_and(|id| id != self.id) {
            return Err(Failure::new(EBUSY, format_args!("another session holds the process")));
        }
        let known = inner.members.iter().position(|member| member.leader == *leader);
        match known.and_then(|index| inner.members.get(index)) {
            Some(member) if member.is_frozen() => {
                return Err(Failure::new(EALREADY, format_args!("the process is frozen already")));
            }
            None if self.role == Role::Destination => {
                return Err(Failure::new(ENOENT, format_args!("no vessel with this PID")));
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
                let member = Member { leader: leader.clone(), parks, stub: (0, 0) };
                inner.members.push(member, GFP_KERNEL)?;
            }
        }
        inner.state = SessionState::Frozen;
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
    pub(crate) fn add_vessel(&self, leader: Task, stub: (u64, u64)) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        if self.role != Role::Destination || inner.state != SessionState::Open {
            return Err(EBUSY.into());
        }
        let (start, end) = stub;
        let page = pmig_wire::PAGE_SIZE;
        if start >= end || start % page != 0 || end % page != 0 {
            return Err(Failure::new(EINVAL, format_args!("the stub's addresses make no sense")));
        }
        inner.members.push(Member { leader, parks: Parks::new(), stub }, GFP_KERNEL)?;
        Ok(())
    }

    /// Lets everything run: a source as if nothing had happened, a destination as the process that it has become.
    pub(crate) fn thaw(&self) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        if inner.state == SessionState::Ended {
            return Err(ENOENT.into());
        }
        if self.role == Role::Destination {
            for member in inner.members.iter() {
                let Some(first) = member.parks.first() else {
                    return Err(Failure::new(EBUSY, format_args!("a vessel is not frozen")));
                };
                for park in member.parks.iter() {
                    park.mark_restored();
                }
                if first.task().is_exiting() {
                    return Err(Failure::new(ESRCH, format_args!("the restored process is dead")));
                }
                first.unmap_stub(member.stub.0, member.stub.1).map_err(|errno| {
                    Failure::new(errno, format_args!("the vessel's stub cannot be unmapped"))
                })?;
            }
        }
        for member in self.end(&mut inner) {
            freeze::release(&member.parks);
        }
        Ok(())
    }

    /// Kills everything.
    pub(crate) fn kill(&self) {
        let mut inner = self.inner.lock();
        for member in self.end(&mut inner) {
            member.leader.kill();
        }
    }

    /// The point of no return.
    pub(crate) fn commit(&self) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        match inner.state {
            SessionState::Frozen => {
                inner.state = SessionState::Committed;
                Ok(())
            }
            SessionState::Committed => Ok(()),
            _ => Err(Failure::new(EBUSY, format_args!("the session is not frozen"))),
        }
    }

    /// Makes `port` the owner of a committed session that has none.
    pub(crate) fn adopt(&self, port: u32) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        if inner.state != SessionState::Committed {
            return Err(Failure::new(EBUSY, format_args!("the session is not committed")));
        }
        if inner.owner != 0 && inner.owner != port {
            return Err(Failure::new(EBUSY, format_args!("the session has an owner")));
        }
        inner.owner = port;
        Ok(())
    }

    /// Undoes everything, unless the session is committed.
    pub(crate) fn abort(&self) -> Result<(), Failure> {
        let mut inner = self.inner.lock();
        match inner.state {
            SessionState::Committed => {
                Err(Failure::new(EBUSY, format_args!("the session is committed")))
            }
            SessionState::Ended => Ok(()),
            SessionState::Open | SessionState::Frozen => {
                for member in self.end(&mut inner) {
                    match self.role {
                        Role::Source => freeze::release(&member.parks),
                        Role::Destination => member.leader.kill(),
                    }
                }
                Ok(())
            }
        }
    }

    /// The socket `port` was closed.
    pub(crate) fn owner_gone(port: u32) {
        let Ok(sessions) = Self::all() else {
            // Out of memory for a few pointers: the sessions stay, and `pmigctl status` shows them.
            return;
        };
        for session in sessions {
            let is_owner = {
                let mut inner = session.inner.lock();
                let is_owner = inner.owner == port;
                if is_owner {
                    inner.owner = 0;
                }
                is_owner
            };
            if is_owner && session.abort().is_ok() {
                pr_info!("the owner of session {} is gone: undone\n", session.id);
            }
        }
    }
}

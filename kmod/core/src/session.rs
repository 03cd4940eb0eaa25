// SPDX-License-Identifier: GPL-2.0
//! The states of a session in the module, and what each request does to it.
//!
//! Before the commit point a session does what keeps the process at its origin when its owner goes away: a source thaws,
//! a destination kills its vessels. After it, nothing happens without a word from an owner, so that at no time two copies
//! run.
//!
//! | | freeze | thaw | commit | owner gone | kill | adopt | end |
//! |---|---|---|---|---|---|---|---|
//! | open | frozen | | | ended | ended (destination) | | ended |
//! | frozen | frozen | ended (source) | committed | ended | ended (destination) | | ended |
//! | committed | | ended | | committed, no owner | ended | committed, owned | |

use pmig_wire::netlink::Role;
use pmig_wire::netlink::SessionState;

/// Something that a session is asked for, or that happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Freeze a process into the session.
    Freeze,
    /// Let the tasks run.
    Thaw,
    /// Pass the point of no return.
    Commit,
    /// The owner's socket was closed.
    OwnerGone,
    /// Kill the tasks.
    Kill,
    /// Another socket wants to own the session.
    Adopt,
    /// The owner wants no more of it.
    End,
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 7] = [
        Event::Freeze,
        Event::Thaw,
        Event::Commit,
        Event::OwnerGone,
        Event::Kill,
        Event::Adopt,
        Event::End,
    ];
}

/// What the module has to do for a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Park the threads of the process.
    Park,
    /// Let all tasks run.
    Release,
    /// Kill all tasks.
    Kill,
    /// Forget the owner, and keep the tasks parked.
    Disown,
    /// Make the asking socket the owner.
    Own,
}

/// Why a session does not do what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Nothing is frozen.
    NotFrozen,
    /// Only a committed session does that.
    NotCommitted,
    /// A committed session does not do that any more.
    Committed,
    /// The session has an owner.
    Owned,
    /// The session is over.
    Ended,
}

impl Refused {
    /// A line for the extack.
    pub const fn message(self) -> &'static str {
        match self {
            Refused::NotFrozen => "nothing is frozen in this session",
            Refused::NotCommitted => "the session is not committed",
            Refused::Committed => "the session is committed",
            Refused::Owned => "the session has an owner",
            Refused::Ended => "the session is over",
        }
    }
}

/// The part of a session that decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// Which side of the migration it is. Never changes.
    pub role: Role,
    /// How far it is.
    pub state: SessionState,
    /// Whether a socket owns it.
    pub owned: bool,
}

impl Session {
    /// A session as its owner makes it.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            state: SessionState::Open,
            owned: true,
        }
    }

    const fn with(self, state: SessionState) -> Self {
        Self { state, ..self }
    }

    /// What `event` makes of the session, and what has to be done for it.
    ///
    /// The caller does the action first and keeps the old session if that fails.
    pub const fn on(self, event: Event) -> Result<(Session, Action), Refused> {
        match self.state {
            SessionState::Open => self.open(event),
            SessionState::Frozen => self.frozen(event),
            SessionState::Committed => self.committed(event),
            SessionState::Ended => match event {
                Event::OwnerGone => Ok((self.disowned(event), Action::Nothing)),
                _ => Err(Refused::Ended),
            },
        }
    }

    const fn disowned(self, event: Event) -> Self {
        match event {
            Event::OwnerGone => Self {
                owned: false,
                ..self
            },
            _ => self,
        }
    }

    /// The end of a session that is not committed: the process stays, or stays alone, on the source.
    const fn abort(self, event: Event) -> (Session, Action) {
        let action = match (self.role, self.state) {
            (Role::Destination, _) => Action::Kill,
            (Role::Source, SessionState::Frozen) => Action::Release,
            (Role::Source, _) => Action::Nothing,
        };
        (self.disowned(event).with(SessionState::Ended), action)
    }

    const fn open(self, event: Event) -> Result<(Session, Action), Refused> {
        match event {
            Event::Freeze => Ok((self.with(SessionState::Frozen), Action::Park)),
            Event::Thaw | Event::Commit => Err(Refused::NotFrozen),
            Event::Adopt => Err(Refused::NotCommitted),
            Event::OwnerGone | Event::End => Ok(self.abort(event)),
            Event::Kill => match self.role {
                Role::Source => Err(Refused::NotFrozen),
                Role::Destination => Ok(self.abort(event)),
            },
        }
    }

    const fn frozen(self, event: Event) -> Result<(Session, Action), Refused> {
        match event {
            Event::Freeze => Ok((self, Action::Park)),
            Event::Thaw => match self.role {
                Role::Source => Ok((self.with(SessionState::Ended), Action::Release)),
                // The source may still thaw its copy.
                Role::Destination => Err(Refused::NotCommitted),
            },
            Event::Commit => Ok((self.with(SessionState::Committed), Action::Nothing)),
            Event::Adopt => Err(Refused::NotCommitted),
            Event::OwnerGone | Event::End => Ok(self.abort(event)),
            Event::Kill => match self.role {
                // The only copy.
                Role::Source => Err(Refused::NotCommitted),
                Role::Destination => Ok(self.abort(event)),
            },
        }
    }

    const fn committed(self, event: Event) -> Result<(Session, Action), Refused> {
        match event {
            Event::Freeze | Event::Commit | Event::End => Err(Refused::Committed),
            Event::Thaw => Ok((self.with(SessionState::Ended), Action::Release)),
            Event::Kill => Ok((self.with(SessionState::Ended), Action::Kill)),
            Event::OwnerGone => Ok((self.disowned(event), Action::Disown)),
            Event::Adopt if self.owned => Err(Refused::Owned),
            Event::Adopt => Ok((
                Self {
                    owned: true,
                    ..self
                },
                Action::Own,
            )),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The session's states, exhaustively.

use pmig_core::session::Action;
use pmig_core::session::Event;
use pmig_core::session::Refused;
use pmig_core::session::Session;
use pmig_wire::netlink::Role;
use pmig_wire::netlink::SessionState;
use std::collections::HashSet;
use Action as A;
use Event as E;
use Refused as R;
use SessionState as S;

const ROLES: [Role; 2] = [Role::Source, Role::Destination];
const STATES: [S; 4] = [S::Open, S::Frozen, S::Committed, S::Ended];

/// Every transition of an owned session, said once more in another form.
fn expected(role: Role, state: S, event: Event) -> Result<(S, bool, Action), Refused> {
    let abort = match (role, state) {
        (Role::Destination, _) => A::Kill,
        (Role::Source, S::Frozen) => A::Release,
        (Role::Source, _) => A::Nothing,
    };
    match (role, state, event) {
        (_, S::Open | S::Frozen, E::Freeze) => Ok((S::Frozen, true, A::Park)),
        (_, S::Open, E::Thaw | E::Commit) => Err(R::NotFrozen),
        (Role::Source, S::Open, E::Kill) => Err(R::NotFrozen),
        (Role::Destination, S::Open | S::Frozen, E::Kill) => Ok((S::Ended, true, A::Kill)),

        (Role::Source, S::Frozen, E::Thaw) => Ok((S::Ended, true, A::Release)),
        (Role::Destination, S::Frozen, E::Thaw) => Err(R::NotCommitted),
        (Role::Source, S::Frozen, E::Kill) => Err(R::NotCommitted),
        (_, S::Frozen, E::Commit) => Ok((S::Committed, true, A::Nothing)),
        (_, S::Open | S::Frozen, E::Adopt) => Err(R::NotCommitted),
        (_, S::Open | S::Frozen, E::End) => Ok((S::Ended, true, abort)),
        (_, S::Open | S::Frozen, E::OwnerGone) => Ok((S::Ended, false, abort)),

        (_, S::Committed, E::Freeze | E::Commit | E::End) => Err(R::Committed),
        (_, S::Committed, E::Thaw) => Ok((S::Ended, true, A::Release)),
        (_, S::Committed, E::Kill) => Ok((S::Ended, true, A::Kill)),
        (_, S::Committed, E::OwnerGone) => Ok((S::Committed, false, A::Disown)),
        (_, S::Committed, E::Adopt) => Err(R::Owned),

        (_, S::Ended, E::OwnerGone) => Ok((S::Ended, false, A::Nothing)),
        (_, S::Ended, _) => Err(R::Ended),
    }
}

#[test]
fn every_transition_of_an_owned_session() {
    for role in ROLES {
        for state in STATES {
            for event in Event::ALL {
                let outcome = Session {
                    role,
                    state,
                    owned: true,
                }
                .on(event)
                .map(|(next, action)| {
                    assert_eq!(next.role, role);
                    (next.state, next.owned, action)
                });
                assert_eq!(
                    outcome,
                    expected(role, state, event),
                    "{role:?} {state:?} {event:?}"
                );
            }
        }
    }
}

#[test]
fn only_a_committed_session_without_owner_is_adopted() {
    for role in ROLES {
        for state in STATES {
            let outcome = Session {
                role,
                state,
                owned: false,
            }
            .on(E::Adopt);
            match state {
                S::Committed => assert_eq!(
                    outcome,
                    Ok((
                        Session {
                            role,
                            state,
                            owned: true
                        },
                        A::Own
                    ))
                ),
                S::Ended => assert_eq!(outcome, Err(R::Ended)),
                S::Open | S::Frozen => assert_eq!(outcome, Err(R::NotCommitted)),
            }
        }
    }
}

/// Everything that can happen from the start, and the sessions that it leads to.
fn reachable(role: Role) -> HashSet<Session> {
    let mut seen = HashSet::new();
    let mut open = vec![Session::new(role)];
    while let Some(session) = open.pop() {
        if seen.insert(session) {
            let next = Event::ALL
                .into_iter()
                .filter_map(|event| session.on(event).ok());
            open.extend(next.map(|(session, _)| session));
        }
    }
    seen
}

#[test]
fn a_session_without_owner_is_committed_or_over() {
    for role in ROLES {
        for session in reachable(role) {
            assert!(
                session.owned || matches!(session.state, S::Committed | S::Ended),
                "{session:?}"
            );
        }
    }
}

#[test]
fn nothing_leaves_the_end() {
    for role in ROLES {
        for event in Event::ALL {
            if let Ok((next, action)) = (Session {
                role,
                state: S::Ended,
                owned: true,
            })
            .on(event)
            {
                assert_eq!((next.state, action), (S::Ended, A::Nothing));
            }
        }
    }
}

/// Exactly one copy: before its commit point a source never kills and a destination never releases.
#[test]
fn before_the_commit_point_the_process_belongs_to_the_source() {
    for role in ROLES {
        for session in reachable(role)
            .into_iter()
            .filter(|session| session.state != S::Committed)
        {
            for event in Event::ALL {
                let Ok((_, action)) = session.on(event) else {
                    continue;
                };
                let forbidden = match role {
                    Role::Source => A::Kill,
                    Role::Destination => A::Release,
                };
                assert_ne!(action, forbidden, "{session:?} {event:?}");
            }
        }
    }
}

/// After its commit point a session does nothing to its tasks unless an owner asks for just that.
#[test]
fn after_the_commit_point_only_thaw_and_kill_touch_a_task() {
    for role in ROLES {
        for owned in [true, false] {
            for event in Event::ALL {
                let Ok((_, action)) = (Session {
                    role,
                    state: S::Committed,
                    owned,
                })
                .on(event) else {
                    continue;
                };
                let touches = matches!(action, A::Release | A::Kill | A::Park);
                assert_eq!(touches, matches!(event, E::Thaw | E::Kill), "{event:?}");
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The phases, their undo, and fault points as text.

use pmig_core::phase::Edge;
use pmig_core::phase::Fault;
use pmig_core::phase::FaultAction;
use pmig_core::phase::ParseFaultError;
use pmig_core::phase::Phase;
use pmig_core::phase::Undo;
use pmig_wire::netlink::Role;
use proptest::prelude::*;

#[test]
fn phases_follow_each_other() {
    let mut phase = Phase::ALL[0];
    for expected in &Phase::ALL[1..] {
        let next = phase.next().expect("not the last");
        assert_eq!(next, *expected);
        phase = next;
    }
    assert_eq!(phase.next(), None);
}

#[test]
fn names_are_read_back() {
    for phase in Phase::ALL {
        assert_eq!(Phase::from_name(phase.name()), Some(phase));
    }
    assert_eq!(Phase::from_name("nonsense"), None);
}

#[test]
fn there_is_a_way_back_exactly_until_commit() {
    for phase in Phase::ALL {
        for role in [Role::Source, Role::Destination] {
            assert_eq!(phase.undo(role) == Undo::AskPeer, !phase.is_before_commit());
            assert_eq!(phase.is_before_commit(), phase < Phase::Commit);
        }
    }
    assert_eq!(Phase::Freeze.undo(Role::Source), Undo::Thaw);
    assert_eq!(Phase::Prepare.undo(Role::Destination), Undo::KillVessels);
}

#[test]
fn faults_are_parsed() {
    let fault = |text: &str| text.parse::<Fault>();
    assert_eq!(
        fault("destination:rebuild:kill"),
        Ok(Fault {
            role: Role::Destination,
            phase: Phase::Rebuild,
            edge: Edge::Begin,
            action: FaultAction::Kill
        })
    );
    assert_eq!(
        fault("source:commit:end:delay=250"),
        Ok(Fault {
            role: Role::Source,
            phase: Phase::Commit,
            edge: Edge::End,
            action: FaultAction::Delay(250)
        })
    );
    for (text, error) in [
        ("", ParseFaultError::Parts),
        ("source:commit", ParseFaultError::Parts),
        ("source:commit:end:kill:x", ParseFaultError::Parts),
        ("both:commit:kill", ParseFaultError::Side),
        ("source:commits:kill", ParseFaultError::Phase),
        ("source:commit:middle:kill", ParseFaultError::Edge),
        ("source:commit:delay=", ParseFaultError::Action),
        ("source:commit:delay=-1", ParseFaultError::Action),
        ("source:commit:explode", ParseFaultError::Action),
    ] {
        assert_eq!(fault(text), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn faults_are_read_back(
        source: bool,
        phase in prop::sample::select(Phase::ALL.to_vec()),
        end: bool,
        action in prop_oneof![
            Just(FaultAction::Error),
            Just(FaultAction::Kill),
            Just(FaultAction::Disconnect),
            any::<u32>().prop_map(FaultAction::Delay),
        ],
    ) {
        let fault = Fault {
            role: if source { Role::Source } else { Role::Destination },
            phase,
            edge: if end { Edge::End } else { Edge::Begin },
            action,
        };
        prop_assert_eq!(fault.to_string().parse(), Ok(fault));
    }

    #[test]
    fn any_text_is_refused_or_read_back(text in ".{0,40}") {
        if let Ok(fault) = text.parse::<Fault>() {
            prop_assert_eq!(fault.to_string().parse(), Ok(fault));
        }
    }
}

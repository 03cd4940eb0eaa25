// SPDX-License-Identifier: GPL-2.0
//! The whole protocol between two agents on imitated machines: whatever fails, exactly one copy runs.

mod common;

use common::*;
use pmig_core::phase::Phase;
use pmig_ctl::agent::Cancel;
use pmig_ctl::proto::Decision;
use pmig_ctl::proto::Failure;
use pmig_ctl::proto::FailureCode;
use pmig_ctl::proto::MigrateRequest;
use pmig_ctl::proto::Owner;
use pmig_ctl::proto::Progress;
use pmig_ctl::proto::Side;
use pmig_ctl::transport::Network;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

#[test]
fn a_process_moves_there_and_back() {
    let (_network, a, b) = two_hosts(&[], &[]);
    let phases = Mutex::new(Vec::new());
    let observer = |progress: Progress| {
        if let Progress::Phase(name) = progress {
            phases.lock().expect("not poisoned").push(name);
        }
    };
    let report = a
        .agent
        .migrate(&request(PID, "b"), &Cancel::new(), &observer)
        .expect("moved");
    settle("there", &a, &b);
    assert!(!runs_on_source("there", &a, &b));
    assert_eq!(a.fake.process(PID), None);
    assert_eq!(
        *phases.lock().expect("not poisoned"),
        Phase::ALL.map(|phase| phase.name().to_owned())
    );
    assert_eq!(report.destination_pid, pid_on(&b));
    assert_eq!((report.pages, report.zero_pages), (3, 1));
    assert!(report.downtime_us > 0 && report.downtime_us <= report.total_us);
    assert_eq!(report.phases.len(), Phase::ALL.len());
    b.migrate(report.destination_pid, "a").expect("moved back");
    settle("back", &a, &b);
    assert!(runs_on_source("back", &a, &b));
}

/// Lets `fault` happen, puts the agents back on their feet, and looks.
fn survive(fault: &str) {
    let faults = [fault];
    let (source_faults, destination_faults): (&[&str], &[&str]) = if fault.starts_with("source") {
        (&faults, &[])
    } else {
        (&[], &faults)
    };
    let (_network, mut a, mut b) = two_hosts(source_faults, destination_faults);
    let result = a.migrate(PID, "b");
    assert!(
        a.fake.running(IDENTITY) + b.fake.running(IDENTITY) <= 1,
        "{fault}: two copies"
    );
    if fault.ends_with("kill") {
        let dead = if fault.starts_with("source") {
            &mut a
        } else {
            &mut b
        };
        dead.restart(&[]);
    }
    settle(fault, &a, &b);
    let stayed = runs_on_source(fault, &a, &b);
    match &result {
        Ok(_) => assert!(!stayed, "{fault}: said to be moved, but it is not"),
        Err(failure) => {
            assert!(!failure.message.is_empty());
            match failure.owner {
                Owner::SourceRunning => assert!(stayed, "{fault}: {failure:?}"),
                Owner::DestinationRunning => assert!(!stayed, "{fault}: {failure:?}"),
                Owner::Unknown => {}
            }
        }
    }
    // Whatever happened, the next attempt works.
    let (from, to) = if stayed { (&a, &b) } else { (&b, &a) };
    from.migrate(pid_on(from), to.name)
        .unwrap_or_else(|failure| panic!("{fault}: second attempt: {failure:?}"));
    settle(fault, &a, &b);
    assert_ne!(
        runs_on_source(fault, &a, &b),
        stayed,
        "{fault}: second attempt"
    );
}

fn survive_everything(side: &'static str, action: &'static str) {
    let cases: Vec<String> = Phase::ALL
        .iter()
        .flat_map(|phase| ["begin", "end"].map(|edge| format!("{side}:{phase}:{edge}:{action}")))
        .collect();
    let cases = Mutex::new(cases);
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| loop {
                let Some(case) = cases.lock().expect("not poisoned").pop() else {
                    return;
                };
                survive(&case);
            });
        }
    });
}

#[test]
fn one_copy_after_an_error_on_the_source() {
    survive_everything("source", "error");
}

#[test]
fn one_copy_after_an_error_on_the_destination() {
    survive_everything("destination", "error");
}

#[test]
fn one_copy_after_the_source_agent_is_killed() {
    survive_everything("source", "kill");
}

#[test]
fn one_copy_after_the_destination_agent_is_killed() {
    survive_everything("destination", "kill");
}

#[test]
fn one_copy_after_a_disconnect_by_the_source() {
    survive_everything("source", "disconnect");
}

#[test]
fn one_copy_after_a_disconnect_by_the_destination() {
    survive_everything("destination", "disconnect");
}

#[test]
fn a_failing_step_leaves_the_process_where_it_was_and_is_named() {
    for (on_source, step) in [
        (true, "freeze"),
        (true, "capture"),
        (true, "send"),
        (true, "commit"),
        (false, "vessel"),
        (false, "build"),
        (false, "receive"),
        (false, "finish"),
        (false, "commit"),
        (false, "thaw"),
    ] {
        let (_network, a, b) = two_hosts(&[], &[]);
        if on_source { &a } else { &b }.machine.fail_once(step);
        let failure = a.migrate(PID, "b").expect_err(step);
        settle(step, &a, &b);
        assert!(runs_on_source(step, &a, &b), "{step}");
        assert_eq!(failure.owner, Owner::SourceRunning, "{step}: {failure:?}");
        let side = if on_source {
            Side::Source
        } else {
            Side::Destination
        };
        assert_eq!(failure.side, Some(side), "{step}: {failure:?}");
        a.migrate(PID, "b").expect(step);
    }
}

#[test]
fn the_copy_that_cannot_be_killed_at_once_is_killed_later() {
    let (_network, a, b) = two_hosts(&[], &[]);
    a.machine.fail_once("kill");
    a.migrate(PID, "b").expect("moved in the end");
    settle("kill", &a, &b);
    assert!(!runs_on_source("kill", &a, &b));
}

#[test]
fn obstacles_of_both_sides_are_listed_before_anything_is_touched() {
    let (_network, a, b) = two_hosts(&[], &[]);
    a.machine.add_obstacle("socket", Side::Source);
    b.machine.add_obstacle("file-missing", Side::Destination);
    let failure = a.migrate(PID, "b").expect_err("refused");
    assert_eq!(failure.code, FailureCode::NotMovable);
    let codes: Vec<&str> = failure
        .obstacles
        .iter()
        .map(|obstacle| obstacle.code.as_str())
        .collect();
    assert_eq!(codes, ["socket", "file-missing"]);
    settle("obstacles", &a, &b);
    assert!(runs_on_source("obstacles", &a, &b));
}

#[test]
fn a_dry_run_moves_nothing() {
    let (_network, a, b) = two_hosts(&[], &[]);
    let request = MigrateRequest {
        dry_run: true,
        ..request(PID, "b")
    };
    let report = a
        .agent
        .migrate(&request, &Cancel::new(), &|_| {})
        .expect("movable");
    assert!(report.dry_run);
    settle("dry run", &a, &b);
    assert!(runs_on_source("dry run", &a, &b));
}

#[test]
fn who_cannot_be_reached_is_named() {
    let (network, a, _b) = two_hosts(&[], &[]);
    assert_eq!(
        a.migrate(PID, "c").expect_err("nobody").code,
        FailureCode::CannotConnect
    );
    network.cut();
    assert_eq!(
        a.migrate(PID, "b").expect_err("cut").code,
        FailureCode::CannotConnect
    );
    assert_eq!(
        a.migrate(PID, "not a host").expect_err("no name").code,
        FailureCode::UnknownHost
    );
    assert_eq!(
        a.migrate(PID + 1, "b").expect_err("no process").code,
        FailureCode::NoSuchProcess
    );
}

#[test]
fn whoever_asked_can_call_it_off_in_every_phase_before_the_commit() {
    for phase in Phase::ALL
        .into_iter()
        .filter(|phase| phase.is_before_commit())
    {
        for side in ["source", "destination"] {
            let fault = format!("{side}:{phase}:delay=20000");
            let faults = [fault.as_str()];
            let (source_faults, destination_faults): (&[&str], &[&str]) = if side == "source" {
                (&faults, &[])
            } else {
                (&[], &faults)
            };
            let (_network, a, b) = two_hosts(source_faults, destination_faults);
            let cancel = Cancel::new();
            let failure = thread::scope(|scope| {
                let running = scope.spawn(|| a.agent.migrate(&request(PID, "b"), &cancel, &|_| {}));
                thread::sleep(Duration::from_millis(100));
                assert!(cancel.trip(Failure::new(FailureCode::Cancelled, "enough")));
                running.join().expect("no panic").expect_err("called off")
            });
            assert_eq!(
                (failure.code, failure.owner),
                (FailureCode::Cancelled, Owner::SourceRunning),
                "{fault}"
            );
            wait_until("the process runs again", || a.fake.running(IDENTITY) == 1);
            settle(&fault, &a, &b);
            assert!(runs_on_source(&fault, &a, &b));
        }
    }
}

/// Moves the process, and cuts the network at the moment in which the decision has been written but not told.
fn cut_at_the_decision() -> (Network, Host, Host) {
    let (network, a, b) = two_hosts(&["source:thaw:delay=400"], &[]);
    let failure = thread::scope(|scope| {
        let running = scope.spawn(|| a.migrate(PID, "b"));
        wait_until("the source has decided", || {
            a.agent
                .status()
                .expect("a status")
                .active
                .iter()
                .any(|active| active.phase == "thaw")
        });
        network.cut();
        running.join().expect("no panic").expect_err("cut off")
    });
    assert_eq!(failure.owner, Owner::Unknown);
    (network, a, b)
}

#[test]
fn a_cut_at_the_decision_stays_in_doubt_until_the_link_is_back() {
    let (network, a, b) = cut_at_the_decision();
    for host in [&a, &b] {
        wait_until("in doubt", || {
            host.agent.status().expect("a status").in_doubt.len() == 1
        });
        assert!(host.agent.status().expect("a status").in_doubt[0].copy_here);
    }
    assert_eq!(a.fake.running(IDENTITY) + b.fake.running(IDENTITY), 0);
    network.heal();
    settle("healed", &a, &b);
    assert!(!runs_on_source("healed", &a, &b));
}

#[test]
fn both_agents_may_die_while_in_doubt() {
    let (network, mut a, mut b) = cut_at_the_decision();
    a.restart(&[]);
    b.restart(&[]);
    network.heal();
    settle("restarted", &a, &b);
    assert!(!runs_on_source("restarted", &a, &b));
}

#[test]
fn the_destination_may_lose_its_power_while_in_doubt() {
    let (network, a, mut b) = cut_at_the_decision();
    b.kill();
    b.fake.reboot();
    b.start(&[]);
    network.heal();
    settle("rebooted", &a, &b);
    assert!(runs_on_source("rebooted", &a, &b));
}

#[test]
fn the_source_may_lose_its_power_while_in_doubt() {
    let (network, mut a, b) = cut_at_the_decision();
    a.kill();
    a.fake.reboot();
    a.start(&[]);
    network.heal();
    settle("rebooted", &a, &b);
    assert!(!runs_on_source("rebooted", &a, &b));
}

#[test]
fn a_destination_without_memory_decides_nothing() {
    let (network, a, mut b) = cut_at_the_decision();
    b.kill();
    b.fake.reboot();
    std::fs::remove_file(b.dir.path().join(pmig_ctl::journal::FILE_NAME)).expect("removed");
    b.start(&[]);
    network.heal();
    let doubt = || a.agent.status().expect("a status").in_doubt;
    wait_until("the source has been told", || {
        doubt()
            .iter()
            .any(|doubt| doubt.last_error.contains("journal"))
    });
    assert_eq!(a.fake.running(IDENTITY), 0);
    let name = doubt()[0].migration.to_string();
    a.agent
        .resolve(&name[..6], Decision::RunHere)
        .expect("resolved");
    settle("resolved", &a, &b);
    assert!(runs_on_source("resolved", &a, &b));
}

#[test]
fn an_administrator_decides_on_either_side() {
    for (on_source, decision, stays) in [
        (true, Decision::RunHere, true),
        (true, Decision::KillHere, false),
        (false, Decision::RunHere, false),
        (false, Decision::KillHere, true),
    ] {
        let case = format!("{on_source} {decision:?}");
        let (network, a, b) = cut_at_the_decision();
        let host = if on_source { &a } else { &b };
        wait_until("in doubt", || {
            host.agent.status().expect("a status").in_doubt.len() == 1
        });
        assert_eq!(
            host.agent
                .resolve("nonsense", decision)
                .map_err(|failure| failure.code),
            Err(FailureCode::NoSuchMigration)
        );
        let name = host.agent.status().expect("a status").in_doubt[0]
            .migration
            .to_string();
        host.agent.resolve(&name, decision).expect("resolved");
        network.heal();
        settle(&case, &a, &b);
        assert_eq!(runs_on_source(&case, &a, &b), stays, "{case}");
    }
}

#[test]
fn a_second_copy_is_not_started_by_hand() {
    let (network, a, b) = cut_at_the_decision();
    let name = a.agent.status().expect("a status").in_doubt[0]
        .migration
        .to_string();
    b.agent.resolve(&name, Decision::RunHere).expect("resolved");
    network.heal();
    // The source may have found out by itself in the meantime, but it never runs its copy.
    let result = a.agent.resolve(&name, Decision::RunHere);
    assert!(matches!(
        result.map_err(|failure| failure.code),
        Err(FailureCode::NotResolvable | FailureCode::NoSuchMigration) | Ok(_)
    ));
    settle("by hand", &a, &b);
    assert!(!runs_on_source("by hand", &a, &b));
}

#[test]
fn an_agent_that_is_told_to_stop_gives_back_what_it_can() {
    let (_network, a, b) = two_hosts(&["source:transfer:delay=20000"], &[]);
    let failure = thread::scope(|scope| {
        let running = scope.spawn(|| a.migrate(PID, "b"));
        wait_until("frozen", || a.fake.running(IDENTITY) == 0);
        assert!(a.agent.stop(Duration::from_secs(5)));
        running.join().expect("no panic").expect_err("stopped")
    });
    assert_eq!(
        (failure.code, failure.owner),
        (FailureCode::ShuttingDown, Owner::SourceRunning)
    );
    assert_eq!(
        a.migrate(PID, "b").expect_err("stopping").code,
        FailureCode::ShuttingDown
    );
    assert!(runs_on_source("stopped", &a, &b));
}

#[test]
fn one_process_is_moved_once_at_a_time_and_not_too_many_at_all() {
    let network = Network::default();
    let limited = pmig_ctl::agent::Options {
        max_migrations: 2,
        ..options()
    };
    let faults = ["source:prepare:delay=20000", "source:prepare:delay=20000"];
    let a = Host::with_options(&network, "a", &faults, limited);
    let b = Host::new(&network, "b", &[]);
    for pid in 1..=3 {
        a.fake.start(pid, u64::from(pid));
    }
    let cancel = Cancel::new();
    thread::scope(|scope| {
        for pid in 1..=2 {
            let (a, cancel) = (&a, &cancel);
            scope.spawn(move || a.agent.migrate(&request(pid, "b"), cancel, &|_| {}));
        }
        let phases =
            |agent: &pmig_ctl::agent::Agent| agent.status().expect("a status").active.len();
        wait_until("two migrations", || phases(&a.agent) == 2);
        assert_eq!(
            a.migrate(1, "b").expect_err("twice").code,
            FailureCode::Busy
        );
        assert_eq!(
            a.migrate(3, "b").expect_err("too many").code,
            FailureCode::Busy
        );
        cancel.trip(Failure::new(FailureCode::Cancelled, "enough"));
    });
    settle("limits", &a, &b);
}

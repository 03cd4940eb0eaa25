// SPDX-License-Identifier: GPL-2.0
//! Moving the selected processes one after another.

use super::report::DrainReport;
use super::report::Item;
use super::report::Outcome;
use super::selection::select;
use super::selection::Choice;
use super::selection::Criteria;
use super::selection::LeftAlone;
use crate::host::process::Own;
use crate::host::process::ProcessFacts;
use crate::host::Found;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrationReport;
use crate::proto::ObstacleReport;

/// What a drain needs of its host.
pub trait Host {
    /// Everything that stands against moving the process, and what it could notice.
    fn explain(&mut self, process: &ProcessFacts) -> Result<Vec<Found>, Failure>;
    /// Moves the process.
    fn migrate(&mut self, pid: u32) -> Result<MigrationReport, Failure>;
}

/// A drain, planned and not yet done.
#[derive(Debug)]
pub struct Drain {
    report: DrainReport,
}

impl Drain {
    /// Chooses processes and looks at each of them. Nothing is moved.
    pub fn plan(
        destination: &str,
        processes: &[ProcessFacts],
        criteria: &Criteria,
        own: &Own,
        host: &mut dyn Host,
    ) -> Result<Self, Failure> {
        let mut items = Vec::new();
        for choice in select(processes, criteria, own) {
            items.push(match choice {
                Choice::Selected(process) => look(&process, host)?,
                Choice::Impossible(process, found) => {
                    item(&process, Outcome::Refused, vec![found.report()])
                }
                Choice::Left(process, reason) => {
                    let reason = match reason {
                        LeftAlone::Protected(found) => found.message,
                        LeftAlone::SystemDaemon => "a system daemon".to_owned(),
                        LeftAlone::OwnSession => {
                            "part of the session that drain was started from".to_owned()
                        }
                    };
                    item(&process, Outcome::LeftAlone { reason }, Vec::new())
                }
            });
        }
        // If there is not enough time, many small ones are worth more than one that is not finished.
        items.sort_by_key(|item| {
            (
                item.outcome != Outcome::WouldMove,
                item.resident_bytes,
                item.pid,
            )
        });
        Ok(Self {
            report: DrainReport {
                destination: destination.to_owned(),
                dry_run: true,
                processes: items,
            },
        })
    }

    /// What would be done.
    pub fn report(&self) -> &DrainReport {
        &self.report
    }

    /// Moves what can be moved. `progress` hears of each process before its turn and after it.
    pub fn run(self, host: &mut dyn Host, mut progress: impl FnMut(&Item)) -> DrainReport {
        let mut report = self.report;
        report.dry_run = false;
        let mut hopeless = false;
        for item in &mut report.processes {
            if item.outcome != Outcome::WouldMove {
                continue;
            }
            if hopeless {
                item.outcome = Outcome::NotTried;
                continue;
            }
            progress(item);
            match host.migrate(item.pid) {
                Ok(migration) => {
                    item.outcome = Outcome::Moved {
                        destination_pid: migration.destination_pid,
                        downtime_us: migration.downtime_us,
                    };
                }
                Err(failure) => {
                    hopeless = concerns_all(failure.code);
                    (item.outcome, item.obstacles) =
                        after(failure, std::mem::take(&mut item.obstacles));
                }
            }
            progress(item);
        }
        report
    }
}

fn look(process: &ProcessFacts, host: &mut dyn Host) -> Result<Item, Failure> {
    match host.explain(process) {
        Ok(found) => {
            let outcome = if found.iter().any(Found::refuses) {
                Outcome::Refused
            } else {
                Outcome::WouldMove
            };
            Ok(item(
                process,
                outcome,
                found.iter().map(Found::report).collect(),
            ))
        }
        Err(failure)
            if matches!(
                failure.code,
                FailureCode::NoSuchProcess | FailureCode::ProcessDied
            ) =>
        {
            Ok(item(process, Outcome::Gone, Vec::new()))
        }
        // Without the module nothing can be said about any process.
        Err(failure) if concerns_all(failure.code) => Err(failure),
        Err(failure) => Ok(item(process, Outcome::Failed { failure }, Vec::new())),
    }
}

fn item(process: &ProcessFacts, outcome: Outcome, obstacles: Vec<ObstacleReport>) -> Item {
    Item {
        pid: process.pid,
        uid: process.uid,
        name: process.comm.clone(),
        command: process.command.clone(),
        resident_bytes: process.resident,
        outcome,
        obstacles,
    }
}

/// What a process that was not moved is listed as, with what stands against it.
fn after(mut failure: Failure, known: Vec<ObstacleReport>) -> (Outcome, Vec<ObstacleReport>) {
    match failure.code {
        FailureCode::NoSuchProcess | FailureCode::ProcessDied => (Outcome::Gone, known),
        FailureCode::NotMovable => (Outcome::Refused, std::mem::take(&mut failure.obstacles)),
        _ => (Outcome::Failed { failure }, known),
    }
}

/// Whether the next process would fail for the same reason.
fn concerns_all(code: FailureCode) -> bool {
    matches!(
        code,
        FailureCode::NoAgent
            | FailureCode::UnknownHost
            | FailureCode::CannotConnect
            | FailureCode::PeerVersion
            | FailureCode::ModuleNotLoaded
            | FailureCode::ModuleVersion
            | FailureCode::PermissionDenied
            | FailureCode::ShuttingDown
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ExitStatus;
    use crate::proto::Owner;
    use pmig_core::obstacle::source;

    /// A host on which each PID has a fate.
    #[derive(Default)]
    struct Fates {
        tried: Vec<u32>,
        peer_lost_at: u32,
    }

    const SOCKET: u32 = 10;
    const VANISHES: u32 = 11;
    const VANISHES_LATER: u32 = 12;
    const FAILS: u32 = 13;
    const REFUSED_THERE: u32 = 14;
    const NOTED: u32 = 15;

    impl Host for Fates {
        fn explain(&mut self, process: &ProcessFacts) -> Result<Vec<Found>, Failure> {
            match process.pid {
                SOCKET => Ok(vec![Found::new(&source::SOCKET, "descriptor 3")]),
                VANISHES => Err(Failure::new(FailureCode::NoSuchProcess, "gone")),
                NOTED => Ok(vec![Found::process(&source::PARENT_CHANGES)]),
                _ => Ok(Vec::new()),
            }
        }

        fn migrate(&mut self, pid: u32) -> Result<MigrationReport, Failure> {
            self.tried.push(pid);
            if self.peer_lost_at != 0 && pid >= self.peer_lost_at {
                return Err(Failure::new(FailureCode::CannotConnect, "no route"));
            }
            match pid {
                VANISHES_LATER => Err(Failure::new(FailureCode::ProcessDied, "gone")),
                FAILS => Err(Failure::new(FailureCode::LinkLost, "cut")),
                REFUSED_THERE => Err(Failure::not_movable(vec![Found::new(
                    &source::INOTIFY,
                    "descriptor 4",
                )
                .report()])),
                _ => Ok(MigrationReport {
                    destination_pid: pid,
                    downtime_us: 7,
                    ..MigrationReport::default()
                }),
            }
        }
    }

    fn process(pid: u32) -> ProcessFacts {
        ProcessFacts {
            pid,
            thread_group: pid,
            session: pid,
            state: 'S',
            ..ProcessFacts::default()
        }
    }

    fn plan(pids: &[u32], host: &mut Fates) -> Drain {
        let processes: Vec<_> = pids.iter().map(|pid| process(*pid)).collect();
        Drain::plan("b", &processes, &Criteria::default(), &Own::default(), host).expect("a plan")
    }

    fn outcome(report: &DrainReport, pid: u32) -> &Outcome {
        &report
            .processes
            .iter()
            .find(|item| item.pid == pid)
            .expect("in the report")
            .outcome
    }

    #[test]
    fn a_plan_moves_nothing() {
        let mut host = Fates::default();
        let drain = plan(&[5, SOCKET, VANISHES, NOTED], &mut host);
        let report = drain.report();
        assert!(report.dry_run && host.tried.is_empty());
        assert_eq!((report.moved(), report.stayed()), (2, 1));
        assert_eq!(outcome(report, SOCKET), &Outcome::Refused);
        assert_eq!(outcome(report, VANISHES), &Outcome::Gone);
        assert_eq!(outcome(report, NOTED), &Outcome::WouldMove);
        assert_eq!(report.exit_status(), ExitStatus::Stayed);
    }

    #[test]
    fn movable_ones_are_moved_and_the_others_reported() {
        let mut host = Fates::default();
        let mut heard = 0;
        let report = plan(
            &[5, SOCKET, VANISHES_LATER, FAILS, REFUSED_THERE],
            &mut host,
        )
        .run(&mut host, |_| heard += 1);
        assert_eq!(host.tried, [5, VANISHES_LATER, FAILS, REFUSED_THERE]);
        assert_eq!(heard, 8);
        assert_eq!(
            outcome(&report, 5),
            &Outcome::Moved {
                destination_pid: 5,
                downtime_us: 7
            }
        );
        assert_eq!(outcome(&report, VANISHES_LATER), &Outcome::Gone);
        assert_eq!(outcome(&report, REFUSED_THERE), &Outcome::Refused);
        assert!(matches!(
            outcome(&report, FAILS),
            Outcome::Failed { failure } if failure.owner == Owner::SourceRunning
        ));
        let refused = report
            .processes
            .iter()
            .find(|item| item.pid == REFUSED_THERE)
            .expect("there");
        assert_eq!(refused.obstacles[0].code, "inotify");
        assert_eq!((report.moved(), report.stayed()), (1, 3));
        assert_eq!(report.exit_status(), ExitStatus::Stayed);
    }

    #[test]
    fn nothing_stayed_is_success() {
        let mut host = Fates::default();
        let report = plan(&[5, 6, VANISHES_LATER], &mut host).run(&mut host, |_| {});
        assert_eq!(report.exit_status(), ExitStatus::Success);
        let report = plan(&[], &mut host).run(&mut host, |_| {});
        assert_eq!(report.exit_status(), ExitStatus::Success);
    }

    #[test]
    fn a_lost_peer_ends_the_attempts() {
        let mut host = Fates {
            peer_lost_at: 6,
            ..Fates::default()
        };
        let report = plan(&[5, 6, 7, 8], &mut host).run(&mut host, |_| {});
        assert_eq!(host.tried, [5, 6]);
        assert!(matches!(outcome(&report, 6), Outcome::Failed { .. }));
        assert_eq!(outcome(&report, 7), &Outcome::NotTried);
        assert_eq!((report.moved(), report.stayed()), (1, 3));
    }

    #[test]
    fn small_ones_go_first() {
        let mut host = Fates::default();
        let sized = |pid, resident| ProcessFacts {
            resident,
            ..process(pid)
        };
        let processes = [sized(5, 300), sized(6, 100), sized(7, 200)];
        let drain = Drain::plan(
            "b",
            &processes,
            &Criteria::default(),
            &Own::default(),
            &mut host,
        )
        .expect("a plan");
        drain.run(&mut host, |_| {});
        assert_eq!(host.tried, [6, 7, 5]);
    }

    #[test]
    fn the_report_is_json_of_a_known_form() {
        let mut host = Fates::default();
        let report = plan(&[5, FAILS], &mut host).run(&mut host, |_| {});
        let json = serde_json::to_value(&report).expect("serializable");
        assert_eq!(json["processes"][0]["outcome"], "moved");
        assert_eq!(json["processes"][0]["downtime_us"], 7);
        assert_eq!(json["processes"][1]["outcome"], "failed");
        assert_eq!(json["processes"][1]["failure"]["code"], "link-lost");
    }
}

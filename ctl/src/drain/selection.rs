// SPDX-License-Identifier: GPL-2.0
//! Which processes a drain is about.

use crate::host::process::Own;
use crate::host::process::ProcessFacts;
use crate::host::Found;
use pmig_core::obstacle::selection::NO_SUCH_PROCESS;

/// What was asked for. Different criteria narrow each other; several values of one widen it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    /// Users. Empty: all.
    pub users: Vec<u32>,
    /// Processes. Empty: all.
    pub pids: Vec<u32>,
    /// Cgroups with everything below, as in `/proc/PID/cgroup`. Empty: all.
    pub cgroups: Vec<String>,
    /// System daemons as well.
    pub system: bool,
}

/// Why a process is no candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftAlone {
    /// It is never moved.
    Protected(Found),
    /// It belongs to the system, and nobody asked for it by PID or cgroup.
    SystemDaemon,
    /// It belongs to the session that the drain was started from, and nobody asked for it by PID.
    OwnSession,
}

/// What becomes of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is a candidate.
    Selected(ProcessFacts),
    /// It was asked for by its PID but is no candidate.
    Impossible(ProcessFacts, Found),
    /// It fits the criteria but is left alone.
    Left(ProcessFacts, LeftAlone),
}

/// Chooses among `processes`. What does not fit the criteria is not in the result; a PID that was asked for always is.
pub fn select(processes: &[ProcessFacts], criteria: &Criteria, own: &Own) -> Vec<Choice> {
    let mut choices: Vec<Choice> = processes
        .iter()
        .filter(|process| criteria.fit(process))
        .map(|process| choose(process, criteria, own))
        .collect();
    for pid in &criteria.pids {
        if processes.iter().all(|process| process.pid != *pid) {
            let missing = ProcessFacts {
                pid: *pid,
                ..ProcessFacts::default()
            };
            let found = Found::new(&NO_SUCH_PROCESS, format_args!("process {pid}"));
            choices.push(Choice::Impossible(missing, found));
        }
    }
    choices
}

fn choose(process: &ProcessFacts, criteria: &Criteria, own: &Own) -> Choice {
    let by_pid = criteria.pids.contains(&process.pid);
    let by_cgroup = !criteria.cgroups.is_empty();
    let process = process.clone();
    match process.protected(own) {
        Some(found) if by_pid => Choice::Impossible(process, found),
        Some(found) => Choice::Left(process, LeftAlone::Protected(found)),
        None if by_pid => Choice::Selected(process),
        None if process.session == own.session && own.session != 0 => {
            Choice::Left(process, LeftAlone::OwnSession)
        }
        None if !by_cgroup && !criteria.system && is_system_daemon(&process.cgroup) => {
            Choice::Left(process, LeftAlone::SystemDaemon)
        }
        None => Choice::Selected(process),
    }
}

impl Criteria {
    fn fit(&self, process: &ProcessFacts) -> bool {
        (self.users.is_empty() || self.users.contains(&process.uid))
            && (self.pids.is_empty() || self.pids.contains(&process.pid))
            && (self.cgroups.is_empty()
                || self
                    .cgroups
                    .iter()
                    .any(|path| is_below(&process.cgroup, path)))
    }
}

/// Whether the cgroup `path` is `ancestor` or below it.
fn is_below(path: &str, ancestor: &str) -> bool {
    let ancestor = ancestor.trim_matches('/');
    let path = path.trim_start_matches('/');
    match path.strip_prefix(ancestor) {
        Some(rest) => ancestor.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// Whether a process in this cgroup is a part of the system: of its service manager, of a user's service manager, or of
/// a service that is not a transient one. A unit that `systemd-run` made holds somebody's work, and that of the agent
/// holds the processes that came from other hosts.
pub fn is_system_daemon(cgroup: &str) -> bool {
    let mut parts = cgroup.split('/').filter(|part| !part.is_empty());
    match parts.next() {
        Some("init.scope") => true,
        Some("system.slice") => !parts.next().is_some_and(holds_work),
        Some("user.slice") => parts.any(|part| part == "init.scope"),
        _ => false,
    }
}

fn holds_work(unit: &str) -> bool {
    let transient =
        unit.starts_with("run-") && (unit.ends_with(".service") || unit.ends_with(".scope"));
    transient || unit == AGENT_UNIT
}

/// The agent's unit, see `packaging/pmig-agent.service`.
const AGENT_UNIT: &str = "pmig-agent.service";

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, uid: u32, cgroup: &str) -> ProcessFacts {
        ProcessFacts {
            pid,
            thread_group: pid,
            parent: 1,
            session: pid,
            uid,
            state: 'S',
            comm: format!("p{pid}"),
            cgroup: cgroup.into(),
            namespace_pids: vec![pid],
            ..ProcessFacts::default()
        }
    }

    /// A host with one of everything.
    fn host() -> Vec<ProcessFacts> {
        vec![
            process(1, 0, "/init.scope"),
            ProcessFacts {
                kernel_thread: true,
                ..process(2, 0, "/")
            },
            process(10, 0, "/system.slice/cron.service"),
            process(11, 33, "/system.slice/run-u7.service"),
            process(
                20,
                1000,
                "/user.slice/user-1000.slice/user@1000.service/init.scope",
            ),
            process(
                21,
                1000,
                "/user.slice/user-1000.slice/user@1000.service/app.slice/job.service",
            ),
            process(22, 1001, "/user.slice/user-1001.slice/session-3.scope"),
            process(30, 0, "/pmig.slice"),
            ProcessFacts {
                state: 'Z',
                ..process(31, 0, "/pmig.slice")
            },
            // The shell that the drain was started from, the drain, and something else in that session.
            process(40, 1000, "/user.slice/user-1000.slice/session-1.scope"),
            ProcessFacts {
                session: 40,
                ..process(41, 0, "/user.slice/user-1000.slice/session-1.scope")
            },
            ProcessFacts {
                session: 40,
                ..process(42, 1000, "/user.slice/user-1000.slice/session-1.scope")
            },
        ]
    }

    fn own() -> Own {
        Own {
            line: vec![41, 40, 1],
            executable: "/usr/bin/pmigctl".into(),
            session: 40,
        }
    }

    fn selected(criteria: &Criteria) -> Vec<u32> {
        select(&host(), criteria, &own())
            .into_iter()
            .filter_map(|choice| match choice {
                Choice::Selected(process) => Some(process.pid),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn defaults_take_work_and_leave_the_system_alone() {
        assert_eq!(selected(&Criteria::default()), [11, 21, 22, 30]);
    }

    #[test]
    fn what_is_left_alone_is_said() {
        let left: Vec<_> = select(&host(), &Criteria::default(), &own())
            .into_iter()
            .filter_map(|choice| match choice {
                Choice::Left(process, reason) => Some((process.pid, reason)),
                _ => None,
            })
            .collect();
        let reason = |pid| {
            left.iter()
                .find(|(own, _)| *own == pid)
                .map(|(_, reason)| reason.clone())
        };
        let code = |pid| match reason(pid) {
            Some(LeftAlone::Protected(found)) => found.obstacle.code,
            _ => "",
        };
        assert_eq!(code(1), "init-process");
        assert_eq!(code(2), "kernel-thread");
        assert_eq!(code(31), "exiting");
        assert_eq!(code(40), "pmig-itself");
        assert_eq!(code(41), "pmig-itself");
        assert_eq!(reason(10), Some(LeftAlone::SystemDaemon));
        assert_eq!(reason(20), Some(LeftAlone::SystemDaemon));
        assert_eq!(reason(42), Some(LeftAlone::OwnSession));
    }

    #[test]
    fn system_takes_daemons_but_nothing_protected() {
        let criteria = Criteria {
            system: true,
            ..Criteria::default()
        };
        assert_eq!(selected(&criteria), [10, 11, 20, 21, 22, 30]);
    }

    #[test]
    fn what_came_from_another_host_is_work() {
        assert!(!is_system_daemon("/system.slice/pmig-agent.service"));
        assert!(!is_system_daemon("/system.slice/run-r12ab.scope"));
        assert!(is_system_daemon("/system.slice/run-parts.timer"));
        assert!(is_system_daemon("/system.slice/pmig-drain.service"));
        assert!(!is_system_daemon("/"));
        assert!(!is_system_daemon(""));
    }

    #[test]
    fn criteria_narrow_each_other() {
        let users = Criteria {
            users: vec![1000, 1001],
            ..Criteria::default()
        };
        assert_eq!(selected(&users), [21, 22]);
        let both = Criteria {
            cgroups: vec!["/user.slice/user-1001.slice".into()],
            ..users
        };
        assert_eq!(selected(&both), [22]);
    }

    #[test]
    fn a_cgroup_selects_all_below_it_system_or_not() {
        let below = |path: &str| {
            selected(&Criteria {
                cgroups: vec![path.into()],
                ..Criteria::default()
            })
        };
        assert_eq!(below("/system.slice"), [10, 11]);
        assert_eq!(below("system.slice/"), [10, 11]);
        assert_eq!(below("/system"), [0; 0]);
        assert_eq!(below("/"), [10, 11, 20, 21, 22, 30]);
    }

    #[test]
    fn a_pid_overrides_every_default() {
        let criteria = Criteria {
            pids: vec![10, 42],
            ..Criteria::default()
        };
        assert_eq!(selected(&criteria), [10, 42]);
    }

    #[test]
    fn a_pid_that_cannot_be_is_told() {
        let criteria = Criteria {
            pids: vec![1, 41, 99],
            ..Criteria::default()
        };
        let codes: Vec<_> = select(&host(), &criteria, &own())
            .into_iter()
            .map(|choice| match choice {
                Choice::Impossible(process, found) => (process.pid, found.obstacle.code),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            codes,
            [
                (1, "init-process"),
                (41, "pmig-itself"),
                (99, "no-such-process")
            ]
        );
    }

    #[test]
    fn a_drain_without_a_session_takes_all_sessions() {
        let own = Own {
            session: 0,
            ..own()
        };
        let mut processes = host();
        processes.push(ProcessFacts {
            session: 0,
            ..process(50, 0, "/")
        });
        let choices = select(&processes, &Criteria::default(), &own);
        assert!(choices.contains(&Choice::Selected(processes[12].clone())));
    }
}

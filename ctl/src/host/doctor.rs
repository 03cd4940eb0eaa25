// SPDX-License-Identifier: GPL-2.0
//! What a host lacks to move processes, and what keeps two hosts from moving them between each other.

use super::compare;
use super::facts::read;
use super::Found;
use super::HostFacts;
use crate::kernel::KernelError;
use crate::kernel::ModuleInfo;
use crate::proto::Failure;
use nix::unistd::access;
use nix::unistd::AccessFlags;
use pmig_wire::thread::RestartKind;
use serde::Serialize;
use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
    /// All is well.
    Ok,
    /// Migrations work, with a difference.
    Warn,
    /// Migrations do not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name in kebab-case.
    pub name: String,
    /// How it ended.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty if nothing has to be done.
    pub hint: String,
}

impl Check {
    fn new(name: &str, status: CheckStatus, detail: impl Into<String>, hint: &str) -> Self {
        let hint = if status == CheckStatus::Ok { "" } else { hint };
        Self {
            name: name.to_owned(),
            status,
            detail: detail.into(),
            hint: hint.to_owned(),
        }
    }

    fn of(name: &str, good: bool, detail: impl Into<String>, hint: &str) -> Self {
        let status = if good {
            CheckStatus::Ok
        } else {
            CheckStatus::Fail
        };
        Self::new(name, status, detail, hint)
    }
}

/// Where things are on this host.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    /// Socket of the agent.
    pub socket: &'a Path,
    /// Directory of the journal.
    pub state_directory: &'a Path,
}

/// Looks at this host.
pub fn check_host(module: &Result<ModuleInfo, KernelError>, places: &Places<'_>) -> Vec<Check> {
    let mut checks = vec![architecture(), capabilities(), proc_mount()];
    checks.extend(check_module(
        module,
        &read("/proc/sys/kernel/osrelease").unwrap_or_default(),
    ));
    checks.extend(namespaces());
    checks.push(checkpoint_restore());
    checks.push(cgroups());
    checks.push(agent(places.socket));
    checks.push(journal(places.state_directory));
    checks
}

/// Looks at the two hosts together.
pub fn check_peer(here: &HostFacts, there: &HostFacts) -> Vec<Check> {
    let found = compare(here, there);
    let status = |found: &Found| {
        if found.refuses() {
            CheckStatus::Fail
        } else {
            CheckStatus::Warn
        }
    };
    let mut checks: Vec<Check> = found
        .iter()
        .map(|found| {
            Check::new(
                found.obstacle.code,
                status(found),
                found.message.clone(),
                found.obstacle.hint,
            )
        })
        .collect();
    let named: BTreeSet<&str> = found.iter().map(|found| found.obstacle.code).collect();
    for (code, detail) in [
        ("abi-version", format!("both speak version {}", here.abi)),
        (
            "module-version",
            format!("both have {}", here.module_version),
        ),
        ("kernel-release", format!("both run {}", here.release)),
        ("kernel-build", "the same build".to_owned()),
        ("vdso", "the same code".to_owned()),
        ("page-size", format!("both have {} bytes", here.page_size)),
        (
            "cpu-features",
            "the peer has all that programs can see here".to_owned(),
        ),
        (
            "cpu-state",
            "the peer saves all register state of this CPU".to_owned(),
        ),
        ("clock-skew", "the clocks agree".to_owned()),
    ] {
        // Builds of different releases are not compared.
        let moot = code == "kernel-build" && named.contains("kernel-release");
        if !named.contains(code) && !moot {
            checks.push(Check::new(code, CheckStatus::Ok, detail, ""));
        }
    }
    checks.sort_by_key(|check| std::cmp::Reverse(check.status));
    checks
}

/// What is said of a peer that cannot be asked.
pub fn unreachable_peer(failure: &Failure) -> Check {
    Check::new(
        "peer",
        CheckStatus::Fail,
        failure.message.clone(),
        "start the agent there, open its port in the firewall, and use the same version of pmig",
    )
}

fn architecture() -> Check {
    let name = std::env::consts::ARCH;
    Check::of(
        "architecture",
        name == "x86_64",
        name,
        "pmig knows only x86-64",
    )
}

/// Capabilities without which the agent cannot work, with their numbers (include/uapi/linux/capability.h).
const CAPABILITIES: [(u32, &str); 10] = [
    (0, "chown"),
    (1, "dac_override"),
    (5, "kill"),
    (6, "setgid"),
    (7, "setuid"),
    (8, "setpcap"),
    (19, "sys_ptrace"),
    (21, "sys_admin"),
    (23, "sys_nice"),
    (24, "sys_resource"),
];

fn capabilities() -> Check {
    let effective = read("/proc/self/status")
        .ok()
        .and_then(|status| {
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:"))?
                .trim();
            u64::from_str_radix(value, 16).ok()
        })
        .unwrap_or(0);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(number, _)| !pmig_core::has_capability(effective, *number))
        .map(|(_, name)| *name)
        .collect();
    let detail = if missing.is_empty() {
        "all there".to_owned()
    } else {
        format!("missing: {}", missing.join(", "))
    };
    Check::of(
        "capabilities",
        missing.is_empty(),
        detail,
        "run pmigctl as root, outside containers",
    )
}

fn proc_mount() -> Check {
    let options = read("/proc/self/mountinfo").ok().and_then(|mounts| {
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/proc"))?;
        Some(line.to_owned())
    });
    match options {
        None => Check::new(
            "proc",
            CheckStatus::Fail,
            "/proc is not mounted",
            "mount -t proc proc /proc",
        ),
        Some(line) if line.contains("hidepid=") => Check::new(
            "proc",
            CheckStatus::Warn,
            "/proc hides processes",
            "run pmigctl as root, or mount /proc without hidepid",
        ),
        Some(_) => Check::new("proc", CheckStatus::Ok, "mounted", ""),
    }
}

fn check_module(module: &Result<ModuleInfo, KernelError>, release: &str) -> Vec<Check> {
    let info = match module {
        Ok(info) => info,
        Err(error) => {
            let hint = match error {
                KernelError::NotLoaded => {
                    "insmod pmig.ko, or modprobe pmig; the kernel log says why it does not load"
                }
                KernelError::Version { .. } => "install pmig.ko and pmigctl of the same version",
                _ => "run pmigctl as root; see the kernel log",
            };
            return vec![Check::new(
                "module",
                CheckStatus::Fail,
                error.to_string(),
                hint,
            )];
        }
    };
    let tool = pmig_wire::ABI_VERSION;
    let learnt = RestartKind::ALL
        .into_iter()
        .all(|kind| kind == RestartKind::None || info.has_harvested(kind));
    vec![
        Check::of(
            "module",
            info.abi == tool,
            format!(
                "loaded, {}, ABI {} (pmigctl has {tool})",
                info.version, info.abi
            ),
            "install pmig.ko and pmigctl of the same version",
        ),
        Check::of(
            "module-release",
            info.release == release,
            format!("built for {}, running on {release}", info.release),
            "build or install pmig.ko for the running kernel",
        ),
        Check::new(
            "restart-learnt",
            if learnt {
                CheckStatus::Ok
            } else {
                CheckStatus::Warn
            },
            if learnt {
                "the module knows how calls are resumed"
            } else {
                "the module does not know all calls yet"
            },
            "start the agent: it teaches the module",
        ),
    ]
}

fn namespaces() -> Vec<Check> {
    let kind = |name: &str, file: &str, limit: &str, hint: &str| {
        let there = Path::new("/proc/self/ns").join(file).exists();
        let allowed = read(limit)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0);
        let detail = match (there, allowed) {
            (false, _) => "not in this kernel".to_owned(),
            (true, 0) => format!("forbidden by {limit}"),
            (true, _) => "available".to_owned(),
        };
        Check::of(name, there && allowed > 0, detail, hint)
    };
    vec![
        kind(
            "time-namespaces",
            "time",
            "/proc/sys/user/max_time_namespaces",
            "boot a kernel with CONFIG_TIME_NS and raise user.max_time_namespaces: clocks would jump",
        ),
        kind(
            "pid-namespaces",
            "pid",
            "/proc/sys/user/max_pid_namespaces",
            "boot a kernel with CONFIG_PID_NS and raise user.max_pid_namespaces: taken PIDs could not be kept",
        ),
    ]
}

/// `CONFIG_CHECKPOINT_RESTORE` shows by a file that it alone makes; it is needed to choose PIDs and to place the vdso.
fn checkpoint_restore() -> Check {
    let there = Path::new("/proc/sys/kernel/ns_last_pid").exists();
    let detail = if there {
        "in this kernel"
    } else {
        "not in this kernel"
    };
    Check::of(
        "checkpoint-restore",
        there,
        detail,
        "boot a kernel with CONFIG_CHECKPOINT_RESTORE",
    )
}

fn cgroups() -> Check {
    let there = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    Check::new(
        "cgroup2",
        if there {
            CheckStatus::Ok
        } else {
            CheckStatus::Warn
        },
        if there {
            "mounted"
        } else {
            "not mounted at /sys/fs/cgroup"
        },
        "drain chooses processes by cgroup; without, it knows no system daemons",
    )
}

fn agent(socket: &Path) -> Check {
    match UnixStream::connect(socket) {
        Ok(_) => Check::new(
            "agent",
            CheckStatus::Ok,
            format!("listens at {}", socket.display()),
            "",
        ),
        Err(error) => Check::new(
            "agent",
            CheckStatus::Fail,
            format!("{}: {error}", socket.display()),
            "start it: systemctl start pmig-agent, or pmigctl agent --insecure",
        ),
    }
}

fn journal(directory: &Path) -> Check {
    // The agent makes the directory itself if it can.
    let there = directory
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => Check::new(
            "journal",
            CheckStatus::Ok,
            format!("{} is writable", there.display()),
            "",
        ),
        Err(error) => Check::new(
            "journal",
            CheckStatus::Fail,
            format!("{}: {error}", there.display()),
            "give the agent a writable directory (--state-dir)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module() -> ModuleInfo {
        ModuleInfo {
            abi: pmig_wire::ABI_VERSION,
            version: "0.1.0".into(),
            release: "7.3.4".into(),
            harvested: u32::MAX,
        }
    }

    fn statuses(checks: &[Check]) -> Vec<(&str, CheckStatus)> {
        checks
            .iter()
            .map(|check| (check.name.as_str(), check.status))
            .collect()
    }

    #[test]
    fn a_good_module_is_ok() {
        let checks = check_module(&Ok(module()), "7.3.4");
        assert!(
            checks
                .iter()
                .all(|check| check.status == CheckStatus::Ok && check.hint.is_empty()),
            "{checks:?}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_module_is_said() {
        use CheckStatus::Fail;
        use CheckStatus::Warn;
        let checks = check_module(
            &Ok(ModuleInfo {
                abi: 99,
                harvested: 0,
                ..module()
            }),
            "7.3.5",
        );
        assert_eq!(
            statuses(&checks),
            [
                ("module", Fail),
                ("module-release", Fail),
                ("restart-learnt", Warn)
            ]
        );
        assert!(checks.iter().all(|check| !check.hint.is_empty()));
        assert_eq!(
            statuses(&check_module(&Err(KernelError::NotLoaded), "7.3.4")),
            [("module", Fail)]
        );
    }

    #[test]
    fn two_hosts_are_checked_line_by_line() {
        let here = HostFacts {
            boot_id: "a".into(),
            harvested: u32::MAX,
            release: "1".into(),
            ..HostFacts::default()
        };
        let mut there = HostFacts {
            boot_id: "b".into(),
            ..here.clone()
        };
        let checks = check_peer(&here, &there);
        assert_eq!(checks.len(), 9);
        assert!(
            checks.iter().all(|check| check.status == CheckStatus::Ok),
            "{checks:?}"
        );
        there.release = "2".into();
        there.clocks.realtime = i64::MAX;
        let checks = check_peer(&here, &there);
        assert_eq!(
            statuses(&checks)[..2],
            [
                ("kernel-release", CheckStatus::Fail),
                ("clock-skew", CheckStatus::Warn)
            ]
        );
        assert!(!checks.iter().any(|check| check.name == "kernel-build"));
    }

    #[test]
    fn every_check_of_this_host_has_a_name_of_its_own() {
        let places = Places {
            socket: Path::new("/nonexistent/socket"),
            state_directory: Path::new("/tmp/a/b"),
        };
        let checks = check_host(&Ok(module()), &places);
        let names: BTreeSet<_> = checks.iter().map(|check| &check.name).collect();
        assert_eq!(names.len(), checks.len());
        let agent = checks
            .iter()
            .find(|check| check.name == "agent")
            .expect("checked");
        assert_eq!(agent.status, CheckStatus::Fail);
        for check in &checks {
            assert_eq!(
                check.hint.is_empty(),
                check.status == CheckStatus::Ok,
                "{check:?}"
            );
        }
    }
}

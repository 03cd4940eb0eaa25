// SPDX-License-Identifier: GPL-2.0
//! Namespaces that pmig makes: for PIDs where a number is taken, for time where clocks differ.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Name of the init process of such a namespace, as the vessel's program sets it.
const INIT_NAME: &str = "pmig-init";

fn status(pid: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// The numbers of a process in the PID namespaces from this one inwards.
fn numbers(pid: u32) -> Vec<u32> {
    let line = status(pid, "NSpid:").unwrap_or_default();
    line.split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn namespace(pid: u32, kind: &str) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?.ino())
}

/// See [`super::is_pmig_namespace`].
pub(super) fn is_pmig(pid: u32) -> bool {
    if numbers(pid).len() == 1 {
        return has_only_its_clocks(pid);
    }
    if numbers(pid).len() != 2 {
        return false;
    }
    let own = namespace(pid, "pid");
    let mut parent = pid;
    // The process is a child of the init, or a descendant of a child.
    for _ in 0..64 {
        let Some(next) = status(parent, "PPid:").and_then(|text| text.parse().ok()) else {
            return false;
        };
        parent = next;
        if parent == 0 || namespace(parent, "pid") != own {
            return false;
        }
        if numbers(parent).last() == Some(&1) {
            return is_init(parent);
        }
    }
    false
}

/// A moved process that got its own PID lives on the host but in a time namespace, so that its clocks go on. Who made it
/// cannot be told, and need not: it holds two numbers, which every capture takes along.
fn has_only_its_clocks(pid: u32) -> bool {
    let own = std::process::id();
    let same_clocks = namespace(pid, "time") == namespace(own, "time");
    !same_clocks
        && ["mnt", "user"]
            .iter()
            .all(|kind| namespace(pid, kind) == namespace(own, kind))
}

/// Anybody can make a PID namespace and choose names in it, but not as root of the initial user namespace.
fn is_init(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let user = status(pid, "Uid:").unwrap_or_default();
    let root = user.split_ascii_whitespace().all(|id| id == "0");
    name.trim() == INIT_NAME
        && root
        && namespace(pid, "user") == namespace(std::process::id(), "user")
}

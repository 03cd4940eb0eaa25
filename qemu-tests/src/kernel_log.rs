// SPDX-License-Identifier: GPL-2.0

//! What a clean kernel log is.

use crate::protocol::KmsgRecord;

/// Something in the log that must not be there.
const COMPLAINTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "BUG ",
    "INFO: task ",
    "INFO: rcu",
    "INFO: trying to register",
    "INFO: possible",
    "INFO: NMI",
    "Oops",
    "Kernel panic",
    "general protection",
    "Internal error",
    "Unable to handle",
    "unable to handle",
    "divide error",
    "invalid opcode",
    "soft lockup",
    "hard LOCKUP",
    "rcu_preempt",
    "rcu_sched",
    "self-detected stall",
    "detected stalls",
    "blocked for more than",
    "kmemleak",
    "leak",
    "UBSAN",
    "KASAN",
    "KCSAN",
    "list_add corruption",
    "list_del corruption",
    "refcount_t",
    "possible circular locking",
    "possible recursive locking",
    "suspicious RCU usage",
    "sleeping function called",
    "scheduling while atomic",
    "bad page state",
    "Bad page map",
    "Bad rss-counter",
    "non-zero pgtables_bytes",
    "not stopped when",
    "Call Trace:",
    "cut here",
    "stack segment",
    "double fault",
    "use-after-free",
    "pmig: error",
];

/// Lines that look like complaints and are none, and why.
const HARMLESS: &[(&str, &str)] = &[
    ("rcu: \tOffload", "rcu's banner"),
    ("rcu: Hierarchical", "rcu's banner"),
    ("rcu: Preemptible", "rcu's banner"),
    (
        "kmemleak: Kernel memory leak detector initialized",
        "kmemleak's banner on the debug kernel",
    ),
    (
        "kmemleak: Automatic memory scanning thread started",
        "kmemleak's banner on the debug kernel",
    ),
    ("KASAN init", "KASAN's banner on the debug kernel"),
    (
        "RCU callback double-/use-after-free debug is enabled",
        "rcu's banner on the debug kernel",
    ),
];

/// The lines that are complaints.
pub fn complaints(records: &[KmsgRecord]) -> Vec<&KmsgRecord> {
    records
        .iter()
        .filter(|record| is_complaint(&record.text))
        .collect()
}

fn is_complaint(line: &str) -> bool {
    // Said by the runner about a guest that is not what a test expects, which is as bad.
    if line.starts_with("pmig-runner:") {
        return true;
    }
    COMPLAINTS.iter().any(|complaint| line.contains(complaint))
        && !HARMLESS.iter().any(|(harmless, _)| line.contains(harmless))
}

/// The last line of a kernel that will not do anything any more; its reason is in it, its call trace before it.
pub fn is_fatal(line: &str) -> bool {
    line.contains("---[ end Kernel panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_from_banners() {
        assert!(is_complaint(
            "WARNING: CPU: 0 PID: 1 at kernel/exit.c:900 do_exit+0x1/0x2"
        ));
        assert!(is_complaint(
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [python3:123]"
        ));
        assert!(is_complaint(
            "INFO: task python3:12 blocked for more than 120 seconds."
        ));
        assert!(is_complaint(
            "rcu: INFO: rcu_preempt self-detected stall on CPU"
        ));
        assert!(!is_complaint(
            "rcu: Preemptible hierarchical RCU implementation."
        ));
        assert!(!is_complaint(
            "pmig: loading out-of-tree module taints kernel."
        ));
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The kinds of state that pmig knows of, and how much of each it moves today.

/// How much of a feature is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// All of it.
    Moved,
    /// Part of it; the rest is refused by name.
    Part,
    /// None; a process that uses it is refused by name.
    Refused,
    /// None, and the process can notice that; it is told as a note.
    Noted,
}

impl Coverage {
    /// One word for a table.
    pub const fn name(self) -> &'static str {
        match self {
            Coverage::Moved => "moved",
            Coverage::Part => "in part",
            Coverage::Refused => "refused",
            Coverage::Noted => "noted",
        }
    }
}

/// One kind of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Stable identifier, such as `M1`.
    pub id: &'static str,
    /// What it is.
    pub name: &'static str,
    /// How much of it is moved.
    pub coverage: Coverage,
}

/// Every kind of state, in the order of the identifiers: memory, tasks, files.
pub const FEATURES: &[Feature] = &[
    feature(
        "M1",
        "anonymous private memory, heap, stack that grows",
        Coverage::Moved,
    ),
    feature(
        "M2",
        "private file mappings with copied-on-write pages",
        Coverage::Moved,
    ),
    feature("M3", "shared file mappings", Coverage::Moved),
    feature("M4", "shared anonymous memory", Coverage::Part),
    feature(
        "M5",
        "System V shared memory, semaphores, messages",
        Coverage::Refused,
    ),
    feature(
        "M6",
        "POSIX shared memory, tmpfs files, memfd",
        Coverage::Part,
    ),
    feature("M7", "hugetlb memory", Coverage::Refused),
    feature(
        "M8",
        "transparent huge pages; copy-on-write sharing between processes",
        Coverage::Part,
    ),
    feature(
        "M9",
        "madvise, mlock, NUMA policy, mseal, guard regions",
        Coverage::Part,
    ),
    feature("T1", "threads with the same TIDs", Coverage::Moved),
    feature(
        "T2",
        "process trees, sessions, process groups, zombies",
        Coverage::Refused,
    ),
    feature(
        "T3",
        "the same PID, in a PID namespace where it is taken",
        Coverage::Moved,
    ),
    feature(
        "T4",
        "signal actions, pending signals, masks, alternate stacks, stopped state",
        Coverage::Moved,
    ),
    feature(
        "T5",
        "interrupted system calls with their remaining time",
        Coverage::Moved,
    ),
    feature(
        "T6",
        "interval timers, POSIX timers, timerfd",
        Coverage::Part,
    ),
    feature(
        "T7",
        "continuous CLOCK_MONOTONIC and CLOCK_BOOTTIME (CLOCK_MONOTONIC_RAW follows each host's own drift)",
        Coverage::Moved,
    ),
    feature("T8", "continuous start time and CPU time", Coverage::Noted),
    feature("T9", "x87, SSE, AVX, AVX-512, PKRU", Coverage::Moved),
    feature("T10", "AMX", Coverage::Refused),
    feature("T11", "shadow stacks", Coverage::Refused),
    feature("T12", "rseq", Coverage::Moved),
    feature("T13", "robust lists, clear_child_tid", Coverage::Moved),
    feature("T14", "tracer and tracee", Coverage::Refused),
    feature("T15", "nice values and scheduling classes", Coverage::Part),
    feature(
        "T16",
        "CPU affinity, I/O priority, timer slack",
        Coverage::Moved,
    ),
    feature(
        "T17",
        "credentials, capabilities, limits, LSM labels, keyrings",
        Coverage::Part,
    ),
    feature("T18", "seccomp", Coverage::Refused),
    feature("T19", "namespaces", Coverage::Refused),
    feature("T20", "cgroup placement and limits", Coverage::Noted),
    feature(
        "F1",
        "regular files and directories by path, identity verified",
        Coverage::Moved,
    ),
    feature(
        "F2",
        "contents of files that are not on a shared file system",
        Coverage::Refused,
    ),
    feature("F3", "deleted files that are still open", Coverage::Refused),
    feature("F4", "pipes with their contents", Coverage::Part),
    feature(
        "F5",
        "pipes and terminals whose other end stays behind",
        Coverage::Refused,
    ),
    feature("F6", "unix sockets", Coverage::Refused),
    feature("F7", "listening TCP sockets", Coverage::Refused),
    feature(
        "F8",
        "TCP connections whose address moves along",
        Coverage::Refused,
    ),
    feature(
        "F9",
        "TCP connections whose address stays",
        Coverage::Refused,
    ),
    feature("F10", "UDP sockets", Coverage::Refused),
    feature(
        "F11",
        "MPTCP, SCTP, vsock, AF_ALG sockets",
        Coverage::Refused,
    ),
    feature(
        "F12",
        "raw, packet and netlink sockets, tun",
        Coverage::Refused,
    ),
    feature(
        "F13",
        "epoll, eventfd, signalfd, inotify, userfaultfd",
        Coverage::Part,
    ),
    feature("F14", "pidfds", Coverage::Refused),
    feature(
        "F15",
        "fanotify, BPF, performance events",
        Coverage::Refused,
    ),
    feature("F16", "terminals", Coverage::Refused),
    feature("F17", "file locks and leases", Coverage::Part),
    feature("F18", "POSIX message queues", Coverage::Refused),
    feature("F19", "io_uring, asynchronous I/O", Coverage::Refused),
];

const fn feature(id: &'static str, name: &'static str, coverage: Coverage) -> Feature {
    Feature { id, name, coverage }
}

/// The feature with this identifier, if it is a kind of state.
pub fn find(id: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.id == id)
}

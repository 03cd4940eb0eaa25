// SPDX-License-Identifier: GPL-2.0
//! Admission reports exactly what is there, and all of it.

use pmig_core::admission;
use pmig_core::admission::Context;
use pmig_core::obstacle;
use pmig_core::obstacle::Object;
use pmig_wire::event::EpollEntry;
use pmig_wire::file::open;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileKind;
use pmig_wire::file::FileLock;
use pmig_wire::file::LockKind;
use pmig_wire::mm::vma;
use pmig_wire::mm::Memory;
use pmig_wire::mm::Vma;
use pmig_wire::process::facts;
use pmig_wire::process::Namespaces;
use pmig_wire::process::Process;
use pmig_wire::record;
use pmig_wire::record::Payload;
use pmig_wire::record::Reader;
use pmig_wire::thread::Restart;
use pmig_wire::thread::Thread;
use proptest::prelude::*;
use std::convert::Infallible;
use zerocopy::FromZeros;

/// Every fact with its code. Spelled out once more, so that a wrong line in the table is noticed.
const FACTS: [(u64, &str); 40] = [
    (facts::KERNEL_THREAD, "kernel-thread"),
    (facts::INIT, "init-process"),
    (facts::CHILDREN, "children"),
    (facts::TRACED, "traced"),
    (facts::TRACER, "tracer"),
    (facts::SECCOMP, "seccomp"),
    (facts::COMPAT, "32-bit"),
    (facts::MEMORY_SHARED, "memory-shared"),
    (facts::FILES_SHARED, "files-shared"),
    (facts::FS_SHARED, "fs-shared"),
    (facts::SIGHAND_SHARED, "signal-handlers-shared"),
    (facts::VFORK_PARENT, "vfork-parent"),
    (facts::VFORK_CHILD, "vfork-child"),
    (facts::IO_URING, "io-uring"),
    (facts::AIO, "aio"),
    (facts::POSIX_TIMER, "posix-timer"),
    (facts::EXITING, "exiting"),
    (facts::LDT, "local-descriptor-table"),
    (facts::IO_PORTS, "io-ports"),
    (facts::BREAKPOINT, "hardware-breakpoint"),
    (facts::SHADOW_STACK, "shadow-stack"),
    (facts::AMX, "amx"),
    (facts::SYSCALL_DISPATCH, "syscall-user-dispatch"),
    (facts::NUMA_POLICY, "numa-policy"),
    (facts::PERF_EVENTS, "perf-events"),
    (facts::PROTECTION_KEYS, "protection-keys"),
    (facts::TLS_SEGMENTS, "tls-segments"),
    (facts::CPU_SETTINGS, "cpu-settings"),
    (facts::SEM_UNDO, "semaphore-undo"),
    (facts::KEYRINGS, "keyrings"),
    (facts::LSM_LABEL, "lsm-label"),
    (facts::SCHED_SPECIAL, "scheduling-class"),
    (facts::UPROBES, "uprobes"),
    (facts::TERMINAL, "controlling-terminal"),
    (facts::USERFAULTFD, "userfaultfd"),
    (facts::ODD_PARENT, "odd-parent"),
    (facts::LEADER_EXITED, "leader-exited"),
    (facts::SUBREAPER, "subreaper"),
    (facts::UNKNOWN_MAPPING, "unknown-mapping"),
    (facts::UNKNOWN_RESTART, "unknown-restart"),
];

const MAPPING_FLAGS: [(u64, &str); 11] = [
    (vma::HUGETLB, "hugetlb"),
    (vma::DEVICE, "device-memory"),
    (vma::USERFAULTFD, "mapping-userfaultfd"),
    (vma::POLICY, "mapping-numa-policy"),
    (vma::PROTECTION_KEY, "mapping-protection-key"),
    (vma::SHADOW_STACK, "mapping-shadow-stack"),
    (vma::SYNC, "mapping-sync"),
    (vma::OUTSIDERS, "shared-anonymous-outside"),
    (vma::UNKNOWN, "unknown-mapping"),
    (vma::SYSV, "sysv-shared-memory"),
    (vma::MAYBE_GUARD, "guard-region"),
];

/// The first bit of [`vma`] without a meaning.
const FIRST_UNKNOWN_VMA_FLAG: u32 = 34;

/// A process that leads its group and session and has init for a parent: nothing to say about it.
fn plain() -> Process {
    let mut process = Process::new_zeroed();
    process.pid.set(1000);
    process.host_pid.set(1000);
    process.parent_pid.set(1);
    process.group.set(1000);
    process.session.set(1000);
    process
}

fn of_process(process: &Process, context: &Context) -> Vec<&'static str> {
    let mut codes = Vec::new();
    admission::process(process, context, &mut |obstacle, _| {
        codes.push(obstacle.code)
    });
    codes
}

fn of_facts(facts: u64) -> Vec<&'static str> {
    let mut process = plain();
    process.facts.set(facts);
    of_process(&process, &Context::default())
}

fn of_mapping(flags: u64) -> Vec<&'static str> {
    let mut mapping = Vma::new_zeroed();
    mapping.flags.set(flags);
    let mut codes = Vec::new();
    admission::mapping(&mapping, &mut |obstacle, _| codes.push(obstacle.code));
    codes
}

fn file(kind: FileKind, flags: u32, outside: u32) -> File {
    let mut file = File::new_zeroed();
    file.id.set(1);
    file.kind.set(kind as u16);
    file.flags.set(flags);
    file.outside.set(outside);
    file
}

fn of_file(file: &File) -> Vec<&'static str> {
    let mut codes = Vec::new();
    admission::file(file, Object::File { file: 1 }, &mut |obstacle, _| {
        codes.push(obstacle.code)
    });
    codes
}

#[test]
fn no_fact_no_obstacle() {
    assert_eq!(of_facts(0), [""; 0]);
}

/// What is reported for a bit; numbers that were given up mean nothing.
fn code_of(bit: u32) -> &'static str {
    let known = FACTS.iter().find(|(fact, _)| *fact == 1 << bit);
    known.map_or("unknown-fact", |(_, code)| code)
}

#[test]
fn each_fact_alone_gives_exactly_its_code() {
    for (bit, code) in FACTS {
        assert_eq!(of_facts(bit), [code]);
    }
}

#[test]
fn each_unknown_fact_is_reported() {
    for bit in (0..64).filter(|bit| code_of(*bit) == "unknown-fact") {
        let mut process = plain();
        process.facts.set(1 << bit);
        let mut found = Vec::new();
        admission::process(&process, &Context::default(), &mut |obstacle, object| {
            found.push((obstacle.code, object));
        });
        assert_eq!(found, [("unknown-fact", Object::Bit { bit })]);
    }
}

#[test]
fn locks_go_along_unless_they_are_shared_or_of_an_unknown_kind() {
    let lock = |kind: u32| FileLock {
        file: 1.into(),
        kind: kind.into(),
        exclusive: 1.into(),
        reserved: 0.into(),
        start: 0.into(),
        last: 9.into(),
    };
    let found = |kind| {
        Bytes::complete()
            .with(&file(FileKind::Regular, open::READ, 0), b"/x")
            .with(&descriptor(4, 1), b"")
            .with(&lock(kind), b"")
            .found()
    };
    let object = Object::Descriptor { fd: 4, file: 1 };
    for kind in [LockKind::Process, LockKind::Whole, LockKind::OpenFile] {
        assert_eq!(found(kind as u32), [("file-lock-leaves", object)]);
    }
    assert_eq!(found(LockKind::Other as u32), [("file-lock", object)]);
    assert_eq!(found(77), [("file-lock", object)]);
    let held = |flags, outside| of_file(&file(FileKind::Regular, flags | open::LOCKED, outside));
    assert_eq!(held(open::APPEND | open::WRITE, 0), [""; 0]);
    assert_eq!(held(open::NOT_A_DESCRIPTOR, 0), ["file-lock"]);
    assert_eq!(
        held(open::APPEND | open::WRITE, 1),
        ["file-lock", "file-description-parted"]
    );
}

#[test]
fn relations_to_those_who_stay_are_notes() {
    let mut process = plain();
    process.parent_pid.set(7);
    process.group.set(0);
    process.session.set(0);
    let codes = of_process(&process, &Context::default());
    assert_eq!(
        codes,
        ["parent-changes", "group-changes", "session-changes"]
    );
    for code in codes {
        assert!(!obstacle::find(code).expect("in the table").refuses());
    }
}

#[test]
fn pmig_does_not_move_itself() {
    let context = Context {
        own_pid: 1000,
        ..Context::default()
    };
    assert_eq!(of_process(&plain(), &context), ["pmig-itself"]);
}

#[test]
fn each_mapping_flag_alone_gives_exactly_its_code() {
    for (bit, code) in MAPPING_FLAGS {
        assert_eq!(of_mapping(bit), [code]);
    }
    let refused = MAPPING_FLAGS.iter().fold(0, |sum, (bit, _)| sum | bit);
    for bit in (0..FIRST_UNKNOWN_VMA_FLAG).map(|bit| 1 << bit) {
        if refused & bit == 0 {
            assert_eq!(of_mapping(bit), [""; 0], "{bit:#x}");
        }
    }
    for bit in FIRST_UNKNOWN_VMA_FLAG..64 {
        assert_eq!(of_mapping(1 << bit), ["unknown-mapping-flag"]);
    }
}

#[test]
fn kinds_of_files_are_moved_or_refused() {
    let movable = [
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Pipe,
        FileKind::MemoryDevice,
        FileKind::Epoll,
        FileKind::Eventfd,
        FileKind::Signalfd,
        FileKind::Timerfd,
    ];
    let mut seen = Vec::new();
    for kind in FileKind::ALL {
        let codes = of_file(&file(kind, open::READ, 0));
        if movable.contains(&kind) {
            assert_eq!(codes, [""; 0], "{kind:?}");
        } else {
            assert_eq!(codes.len(), 1, "{kind:?}");
            assert!(!seen.contains(&codes[0]), "{kind:?} has a code of its own");
            seen.extend(codes);
        }
    }
    let mut unknown = file(FileKind::Regular, 0, 0);
    unknown.kind.set(0);
    assert_eq!(of_file(&unknown), ["unknown-file-kind"]);
}

#[test]
fn states_of_files_are_refused() {
    let regular = |flags| of_file(&file(FileKind::Regular, flags, 0));
    assert_eq!(regular(open::UNLINKED), ["deleted-file"]);
    assert_eq!(
        regular(open::UNLINKED | open::NOT_A_DESCRIPTOR),
        ["deleted-file"]
    );
    assert_eq!(regular(open::UNLINKED | open::TMPFILE), ["deleted-file"]);
    assert_eq!(regular(open::TMPFILE), ["unnamed-file"]);
    assert_eq!(regular(open::OWNER | open::ASYNC), ["signal-driven-io"]);
    assert_eq!(regular(open::NO_PATH), ["path-too-long"]);
    assert_eq!(regular(open::PATH), ["path-descriptor"]);
    assert_eq!(regular(1 << 31), ["unknown-file-flag"]);
    assert_eq!(
        of_file(&file(FileKind::Path, open::PATH, 0)),
        ["path-descriptor"]
    );
}

#[test]
fn a_pipe_must_be_inside_with_both_ends() {
    assert_eq!(of_file(&file(FileKind::Pipe, open::WRITE, 0)), [""; 0]);
    assert_eq!(
        of_file(&file(FileKind::Pipe, open::WRITE, 1)),
        ["pipe-outside"]
    );
}

#[test]
fn what_waits_for_events_must_be_the_processs_own() {
    for kind in [
        FileKind::Epoll,
        FileKind::Eventfd,
        FileKind::Signalfd,
        FileKind::Timerfd,
    ] {
        assert_eq!(of_file(&file(kind, open::NONBLOCK, 0)), [""; 0]);
        assert_eq!(
            of_file(&file(kind, open::NONBLOCK, 1)),
            ["event-descriptor-shared"]
        );
    }
}

#[test]
fn an_epoll_set_watches_files_of_the_process() {
    let entry = |target: u32| EpollEntry {
        file: 1.into(),
        target: target.into(),
        fd: 7.into(),
        events: 1.into(),
        data: 0.into(),
    };
    let found = |target| {
        Bytes::complete()
            .with(&file(FileKind::Epoll, 0, 0), b"")
            .with(&descriptor(4, 1), b"")
            .with(&entry(target), b"")
            .found()
    };
    assert_eq!(found(1), []);
    assert_eq!(
        found(0),
        [("epoll-target", Object::Descriptor { fd: 4, file: 1 })]
    );
}

#[test]
fn a_shared_position_is_refused_where_it_matters() {
    let shared = |kind, flags| of_file(&file(kind, flags, 2));
    let regular = FileKind::Regular;
    assert_eq!(shared(regular, open::WRITE), ["file-position-shared"]);
    assert_eq!(
        shared(regular, open::READ | open::WRITE | open::APPEND),
        ["file-position-shared"]
    );
    assert_eq!(
        shared(regular, open::WRITE | open::APPEND),
        ["file-description-parted"]
    );
    assert_eq!(
        shared(FileKind::Directory, open::READ),
        ["file-description-parted"]
    );
    assert_eq!(
        shared(FileKind::MemoryDevice, open::READ | open::WRITE),
        [""; 0]
    );
    assert_eq!(
        shared(regular, open::READ | open::NOT_A_DESCRIPTOR),
        [""; 0]
    );
}

#[test]
fn namespaces_are_compared_one_by_one() {
    let host: [u32; 10] = [1, 2, 3, 4, 5, 5, 6, 7, 8, 8];
    let named = |numbers: [u32; 10]| {
        let [mnt, uts, ipc, net, pid, pid_for_children, user, cgroup, time, time_for_children] =
            numbers.map(Into::into);
        Namespaces {
            mnt,
            uts,
            ipc,
            net,
            pid,
            pid_for_children,
            user,
            cgroup,
            time,
            time_for_children,
        }
    };
    let codes = |numbers, made_by_pmig| {
        let context = Context {
            host: Some(named(host)),
            made_by_pmig,
            ..Context::default()
        };
        let mut codes = Vec::new();
        admission::namespaces(&named(numbers), &context, &mut |obstacle, _| {
            codes.push(obstacle.code)
        });
        codes
    };
    assert_eq!(codes(host, false), [""; 0]);
    let cases: [(&[usize], &str, bool); 8] = [
        (&[0], "mount-namespace", true),
        (&[1], "uts-namespace", false),
        (&[2], "ipc-namespace", false),
        (&[3], "network-namespace", false),
        (&[4, 5], "pid-namespace", true),
        (&[6], "user-namespace", false),
        (&[7], "cgroup-namespace", false),
        (&[8, 9], "time-namespace", true),
    ];
    for (indices, code, makes) in cases {
        let mut own = host;
        for index in indices {
            own[*index] = 99;
        }
        assert_eq!(codes(own, false), [code]);
        let expected: &[&str] = if makes { &[] } else { &[code] };
        assert_eq!(codes(own, true), expected);
    }
    for index in [5, 9] {
        let mut own = host;
        own[index] = 99;
        assert_eq!(codes(own, false), ["child-namespace"]);
        assert_eq!(codes(own, true), ["child-namespace"]);
    }
}

#[test]
fn threads_and_restarts_of_unknown_kinds_are_refused() {
    for policy in 0..10 {
        let mut thread = Thread::new_zeroed();
        thread.tid.set(5);
        thread.policy.set(policy);
        let mut found = Vec::new();
        admission::thread(&thread, &mut |obstacle, object| {
            found.push((obstacle.code, object))
        });
        let expected: &[_] = if [0, 1, 2, 3, 5].contains(&policy) {
            &[]
        } else {
            &[("scheduling-class", Object::Thread { tid: 5 })]
        };
        assert_eq!(found, expected, "{policy}");
    }
    for kind in 0..8 {
        let mut restart = Restart::new_zeroed();
        restart.kind.set(kind);
        let mut codes = Vec::new();
        admission::restart(&restart, &mut |obstacle, _| codes.push(obstacle.code));
        assert_eq!(codes.is_empty(), (1..=4).contains(&kind), "{kind}");
    }
}

#[test]
fn what_has_no_memory_is_described_by_one_record() {
    for (fact, code) in [
        (facts::KERNEL_THREAD, "kernel-thread"),
        (facts::EXITING, "exiting"),
    ] {
        let mut process = plain();
        process.facts.set(fact);
        let found = Bytes(Vec::new()).with(&process, b"").found();
        assert_eq!(found, [(code, Object::Process)]);
    }
}

struct Bytes(Vec<u8>);

impl record::Sink for Bytes {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Bytes {
    /// The records that no description lacks.
    fn complete() -> Self {
        Bytes(Vec::new())
            .with(&plain(), b"")
            .with(&Namespaces::new_zeroed(), b"")
            .with(&Memory::new_zeroed(), b"")
            .with(&Thread::new_zeroed(), b"")
    }

    fn with<T: Payload>(mut self, payload: &T, tail: &[u8]) -> Self {
        record::write(&mut self, payload, tail).expect("infallible");
        self
    }

    fn found(&self) -> Vec<(&'static str, Object)> {
        let mut found = Vec::new();
        admission::records(
            &Reader::new(&self.0),
            &Context::default(),
            &mut |obstacle, object| {
                found.push((obstacle.code, object));
            },
        );
        found
    }
}

fn descriptor(fd: u32, file: u32) -> Descriptor {
    Descriptor {
        fd: fd.into(),
        file: file.into(),
        flags: 0.into(),
    }
}

#[test]
fn a_whole_stream_is_searched_and_files_are_named_by_descriptor() {
    let found = Bytes::complete()
        .with(&file(FileKind::Socket, 0, 0), b"")
        .with(&descriptor(3, 9), b"")
        .with(&descriptor(4, 1), b"")
        .with(&descriptor(5, 1), b"")
        .found();
    assert_eq!(found, [("socket", Object::Descriptor { fd: 4, file: 1 })]);
}

#[test]
fn a_memory_file_is_told_by_its_mapping() {
    let memfd = file(FileKind::Memfd, open::NOT_A_DESCRIPTOR | open::UNLINKED, 0);
    let mapping = |flags| {
        let mut mapping = Vma::new_zeroed();
        mapping.start.set(0x1000);
        mapping.end.set(0x2000);
        mapping.file.set(1);
        mapping.flags.set(flags);
        mapping
    };
    let stream = |flags| {
        Bytes::complete()
            .with(&memfd, b"")
            .with(&mapping(flags), b"")
            .found()
    };
    let object = Object::Mapping {
        start: 0x1000,
        end: 0x2000,
    };
    assert_eq!(stream(vma::SHARED | vma::SHARED_ANONYMOUS), []);
    assert_eq!(stream(vma::SHARED | vma::FILE), [("memfd", object)]);
    assert_eq!(
        stream(vma::SHARED | vma::SYSV),
        [("sysv-shared-memory", object)]
    );
}

#[test]
fn a_damaged_or_incomplete_stream_is_refused() {
    let whole = Bytes::complete();
    assert_eq!(whole.found(), []);
    for length in 0..whole.0.len() {
        let codes: Vec<_> = Bytes(whole.0[..length].to_vec())
            .found()
            .into_iter()
            .map(|(code, _)| code)
            .collect();
        assert!(
            codes == ["unknown-record"] || codes == ["incomplete-records"],
            "{length}: {codes:?}"
        );
    }
}

proptest! {
    #[test]
    fn facts_are_reported_all_at_once_and_nothing_else(word: u64) {
        // What is not known comes last.
        let mut expected: Vec<&str> = (0..64)
            .filter(|bit| word & (1 << bit) != 0)
            .map(code_of)
            .collect();
        expected.sort_by_key(|code| *code == "unknown-fact");
        prop_assert_eq!(of_facts(word), expected);
    }

    #[test]
    fn mapping_flags_are_reported_all_at_once(word: u64) {
        let mut expected: Vec<&str> =
            MAPPING_FLAGS.iter().filter(|(bit, _)| word & bit != 0).map(|(_, code)| *code).collect();
        if word >> FIRST_UNKNOWN_VMA_FLAG != 0 {
            expected.push("unknown-mapping-flag");
        }
        let mut found = of_mapping(word);
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_file_is_judged_without_a_code_twice(kind: u16, flags: u32, outside: u32) {
        let mut file = file(FileKind::Regular, flags, outside);
        file.kind.set(kind % 30);
        let codes = of_file(&file);
        let mut unique = codes.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), codes.len());
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(!Bytes(bytes).found().is_empty());
    }
}

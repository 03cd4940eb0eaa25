// SPDX-License-Identifier: GPL-2.0
//! The bytes of version 1, kept in `golden/v1.txt`: a change of any of them is a new version.
//!
//! `UPDATE=1 cargo test -p pmig-wire` writes the file anew. Do that only for what is added.

use pmig_wire::cred::Credentials;
use pmig_wire::event::EpollEntry;
use pmig_wire::event::Eventfd;
use pmig_wire::event::Signalfd;
use pmig_wire::event::Timerfd;
use pmig_wire::file::open;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileKind;
use pmig_wire::file::FileLock;
use pmig_wire::file::PipeData;
use pmig_wire::message::MessageHeader;
use pmig_wire::message::MessageKind;
use pmig_wire::message::MESSAGE_MAGIC;
use pmig_wire::mm::vma;
use pmig_wire::mm::Memory;
use pmig_wire::mm::Vma;
use pmig_wire::netlink::Command;
use pmig_wire::pages::PageHeader;
use pmig_wire::pages::PageRange;
use pmig_wire::pages::PAGE_MAGIC;
use pmig_wire::process::facts;
use pmig_wire::process::Clocks;
use pmig_wire::process::Limit;
use pmig_wire::process::Limits;
use pmig_wire::process::Namespaces;
use pmig_wire::process::Process;
use pmig_wire::process::LIMIT_COUNT;
use pmig_wire::record;
use pmig_wire::record::Kind;
use pmig_wire::record::Payload;
use pmig_wire::record::Reader;
use pmig_wire::record::Sink;
use pmig_wire::signal::Action;
use pmig_wire::signal::Pending;
use pmig_wire::signal::SIGINFO_SIZE;
use pmig_wire::thread::Placement;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Restart;
use pmig_wire::thread::RestartKind;
use pmig_wire::thread::Thread;
use pmig_wire::timer::IntervalTimer;
use pmig_wire::timer::PosixTimer;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use zerocopy::IntoBytes;

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn record<T: Payload>(payload: &T, tail: &[u8]) -> Vec<u8> {
    let mut bytes = Bytes(Vec::new());
    record::write(&mut bytes, payload, tail).expect("infallible");
    bytes.0
}

/// A number for each field, different from all others and with different bytes.
const fn word(index: u64) -> u64 {
    0x8877_6655_4433_2200 + index
}

fn half(index: u32) -> u32 {
    0x4433_2200 + index
}

/// One of each kind, every field of its own value, so that a field that moves is noticed.
fn records() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("process", record(&process(), b"")),
        ("limits", record(&limits(), b"")),
        ("clocks", record(&clocks(), b"")),
        ("namespaces", record(&namespaces(), b"")),
        ("memory", record(&memory(), &[1, 2, 3])),
        ("vma", record(&mapping(), b"")),
        ("file", record(&file(), b"/etc/hostname")),
        (
            "descriptor",
            record(
                &Descriptor {
                    fd: half(1).into(),
                    file: half(2).into(),
                    flags: half(3).into(),
                },
                b"",
            ),
        ),
        (
            "pipe-data",
            record(
                &PipeData {
                    inode: word(1).into(),
                },
                b"waiting",
            ),
        ),
        (
            "eventfd",
            record(
                &Eventfd {
                    file: half(1).into(),
                    flags: half(2).into(),
                    count: word(1).into(),
                },
                b"",
            ),
        ),
        (
            "signalfd",
            record(
                &Signalfd {
                    file: half(1).into(),
                    reserved: 0.into(),
                    mask: word(1).into(),
                },
                b"",
            ),
        ),
        (
            "timerfd",
            record(
                &Timerfd {
                    file: half(1).into(),
                    clock: half(2).into(),
                    flags: half(3).into(),
                    reserved: 0.into(),
                    ticks: word(1).into(),
                    expires: 0x0877_6655_4433_2202.into(),
                    interval: word(3).into(),
                },
                b"",
            ),
        ),
        (
            "epoll-entry",
            record(
                &EpollEntry {
                    file: half(1).into(),
                    target: half(2).into(),
                    fd: half(3).into(),
                    events: half(4).into(),
                    data: word(1).into(),
                },
                b"",
            ),
        ),
        (
            "file-lock",
            record(
                &FileLock {
                    file: half(1).into(),
                    kind: half(2).into(),
                    exclusive: half(3).into(),
                    reserved: 0.into(),
                    start: word(1).into(),
                    last: word(2).into(),
                },
                b"",
            ),
        ),
        ("thread", record(&thread(), b"")),
        (
            "registers",
            record(
                &Registers {
                    tid: half(1).into(),
                    note: half(2).into(),
                },
                &[9; 5],
            ),
        ),
        ("restart", record(&restart(), b"")),
        (
            "placement",
            record(
                &Placement {
                    tid: half(1).into(),
                    io_priority: half(2).into(),
                },
                &[5, 1],
            ),
        ),
        (
            "credentials",
            record(&credentials(), &[7, 0, 0, 0, 8, 0, 0, 0]),
        ),
        ("signal-action", record(&action(), b"")),
        ("pending-signal", record(&pending(), b"")),
        (
            "interval-timer",
            record(
                &IntervalTimer {
                    which: half(1).into(),
                    reserved: 0.into(),
                    expires: 0x0877_6655_4433_2201.into(),
                    interval: word(2).into(),
                },
                b"",
            ),
        ),
        (
            "posix-timer",
            record(
                &PosixTimer {
                    id: half(1).into(),
                    clock: half(2).into(),
                    base: half(3).into(),
                    notify: half(4).into(),
                    signal: half(5).into(),
                    tid: half(6).into(),
                    value: word(1).into(),
                    expires: 0x0877_6655_4433_2202.into(),
                    interval: word(3).into(),
                    last_overrun: 0x0877_6655_4433_2204.into(),
                },
                b"",
            ),
        ),
    ]
}

fn process() -> Process {
    Process {
        pid: half(1).into(),
        host_pid: half(2).into(),
        parent_pid: half(3).into(),
        group: half(4).into(),
        session: half(5).into(),
        threads: half(6).into(),
        facts: word(7).into(),
        executable: half(8).into(),
        working_directory: half(9).into(),
        root_directory: half(10).into(),
        exit_signal: half(11).into(),
        umask: half(12).into(),
        personality: half(13).into(),
        coredump_filter: half(14).into(),
        oom_score_adj: (-15).into(),
        stop_signal: half(16).into(),
        dumpable: 17,
        reserved: [0; 3],
    }
}

fn limits() -> Limits {
    let mut index = 0;
    let mut next = || {
        index += 1;
        word(index).into()
    };
    Limits {
        limits: [(); LIMIT_COUNT].map(|()| Limit {
            current: next(),
            maximum: next(),
        }),
    }
}

fn clocks() -> Clocks {
    Clocks {
        realtime: (word(1) as i64).into(),
        monotonic: 2.into(),
        boottime: 3.into(),
        monotonic_offset: (-4).into(),
        boottime_offset: (-5).into(),
    }
}

fn namespaces() -> Namespaces {
    Namespaces {
        mnt: half(1).into(),
        uts: half(2).into(),
        ipc: half(3).into(),
        net: half(4).into(),
        pid: half(5).into(),
        pid_for_children: half(6).into(),
        user: half(7).into(),
        cgroup: half(8).into(),
        time: half(9).into(),
        time_for_children: half(10).into(),
    }
}

fn memory() -> Memory {
    Memory {
        start_code: word(1).into(),
        end_code: word(2).into(),
        start_data: word(3).into(),
        end_data: word(4).into(),
        start_brk: word(5).into(),
        brk: word(6).into(),
        start_stack: word(7).into(),
        arg_start: word(8).into(),
        arg_end: word(9).into(),
        env_start: word(10).into(),
        env_end: word(11).into(),
        vvar_start: word(12).into(),
        vdso_start: word(13).into(),
        vdso_end: word(14).into(),
        lock_flags: half(15).into(),
        settings: half(30).into(),
    }
}

fn mapping() -> Vma {
    Vma {
        start: word(1).into(),
        end: word(2).into(),
        offset: word(3).into(),
        flags: word(4).into(),
        file: half(5).into(),
        reserved: 0.into(),
    }
}

fn file() -> File {
    File {
        id: half(1).into(),
        kind: (FileKind::Pipe as u16).into(),
        reserved: 0.into(),
        flags: half(2).into(),
        mode: half(3).into(),
        position: word(4).into(),
        device: word(5).into(),
        inode: word(6).into(),
        size: word(7).into(),
        mtime_seconds: (-8).into(),
        mtime_nanoseconds: half(9).into(),
        outside: half(10).into(),
        special: word(11).into(),
    }
}

fn thread() -> Thread {
    Thread {
        tid: half(1).into(),
        host_tid: half(2).into(),
        flags: half(3).into(),
        policy: half(4).into(),
        nice: (-5).into(),
        priority: half(6).into(),
        blocked: word(7).into(),
        saved_mask: word(8).into(),
        altstack_start: word(9).into(),
        altstack_size: word(10).into(),
        altstack_flags: half(11).into(),
        parent_death_signal: half(12).into(),
        robust_list: word(13).into(),
        clear_child_tid: word(14).into(),
        rseq_start: word(15).into(),
        rseq_length: half(16).into(),
        rseq_signature: half(17).into(),
        rseq_version: half(18).into(),
        rseq_cpu: half(20).into(),
        rseq_node: half(21).into(),
        rseq_concurrency: half(22).into(),
        timer_slack: word(19).into(),
        deadline: (-23).into(),
        comm: *b"a-thread's-name\0",
    }
}

fn restart() -> Restart {
    Restart {
        tid: half(1).into(),
        kind: (RestartKind::Futex as u32).into(),
        selector: half(2).into(),
        argument: half(3).into(),
        expires: (-4).into(),
        address: word(5).into(),
        address2: word(6).into(),
        bitset: half(7).into(),
        reserved: 0.into(),
    }
}

fn credentials() -> Credentials {
    Credentials {
        tid: half(1).into(),
        securebits: half(2).into(),
        uid: half(3).into(),
        euid: half(4).into(),
        suid: half(5).into(),
        fsuid: half(6).into(),
        gid: half(7).into(),
        egid: half(8).into(),
        sgid: half(9).into(),
        fsgid: half(10).into(),
        inheritable: word(11).into(),
        permitted: word(12).into(),
        effective: word(13).into(),
        bounding: word(14).into(),
        ambient: word(15).into(),
    }
}

fn action() -> Action {
    Action {
        signal: half(1).into(),
        reserved: 0.into(),
        handler: word(2).into(),
        flags: word(3).into(),
        restorer: word(4).into(),
        mask: word(5).into(),
    }
}

fn pending() -> Pending {
    let mut siginfo = [0; SIGINFO_SIZE];
    for (index, byte) in siginfo.iter_mut().enumerate() {
        *byte = index as u8;
    }
    Pending {
        tid: half(1).into(),
        reserved: 0.into(),
        siginfo,
    }
}

/// What is not a record.
fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let message = MessageHeader {
        magic: MESSAGE_MAGIC.into(),
        version: 0x2211.into(),
        kind: 0x4433.into(),
        length: half(1).into(),
        checksum: half(2).into(),
    };
    let pages = PageHeader {
        magic: PAGE_MAGIC.into(),
        pages: half(1).into(),
        address: word(2).into(),
    };
    let range = PageRange {
        start: word(1).into(),
        end: word(2).into(),
    };
    vec![
        ("message-header", message.as_bytes().to_vec()),
        ("page-header", pages.as_bytes().to_vec()),
        ("page-range", range.as_bytes().to_vec()),
    ]
}

/// Numbers whose meaning never changes.
fn numbers() -> String {
    let mut text = String::new();
    let mut line = |name: &str, number: u32| {
        writeln!(text, "{name} = {number}").expect("a string takes everything")
    };
    for kind in Kind::ALL {
        line(&format!("Kind::{kind:?}"), kind as u32);
    }
    for kind in FileKind::ALL {
        line(&format!("FileKind::{kind:?}"), kind as u32);
    }
    for kind in RestartKind::ALL {
        line(&format!("RestartKind::{kind:?}"), kind as u32);
    }
    for command in Command::ALL {
        line(&format!("Command::{command:?}"), command as u32);
    }
    for kind in MessageKind::ALL {
        line(&format!("MessageKind::{kind:?}"), kind as u32);
    }
    for (name, bits) in flags() {
        writeln!(text, "{name} = bit {}", bits.trailing_zeros())
            .expect("a string takes everything");
    }
    text
}

macro_rules! flags {
    ($($module:ident: $($name:ident)*;)*) => {
        /// Every flag with its name.
        fn flags() -> Vec<(&'static str, u64)> {
            vec![$($((concat!(stringify!($module), "::", stringify!($name)), u64::from($module::$name)),)*)*]
        }
    };
}

flags! {
    facts:
        KERNEL_THREAD
        INIT
        CHILDREN
        TRACED
        TRACER
        SECCOMP
        COMPAT
        MEMORY_SHARED
        FILES_SHARED
        FS_SHARED
        SIGHAND_SHARED
        VFORK_PARENT
        VFORK_CHILD
        IO_URING
        AIO
        POSIX_TIMER
        EXITING
        LDT
        IO_PORTS
        BREAKPOINT
        SHADOW_STACK
        AMX
        SYSCALL_DISPATCH
        NUMA_POLICY
        PERF_EVENTS
        PROTECTION_KEYS
        TLS_SEGMENTS
        CPU_SETTINGS
        SEM_UNDO
        KEYRINGS
        LSM_LABEL
        SCHED_SPECIAL
        UPROBES
        TERMINAL
        USERFAULTFD
        ODD_PARENT
        LEADER_EXITED
        SUBREAPER
        UNKNOWN_MAPPING
        UNKNOWN_RESTART;
    vma:
        READ
        WRITE
        EXEC
        SHARED
        GROWSDOWN
        NORESERVE
        FILE
        SHARED_ANONYMOUS
        SPECIAL
        LOCKED
        LOCK_ON_FAULT
        DONTFORK
        DONTDUMP
        WIPEONFORK
        SEQUENTIAL
        RANDOM
        HUGEPAGE
        NOHUGEPAGE
        MERGEABLE
        DROPPABLE
        SEALED
        MAYBE_GUARD
        HUGETLB
        DEVICE
        USERFAULTFD
        POLICY
        PROTECTION_KEY
        SHADOW_STACK
        SYNC
        OUTSIDERS
        MAY_WRITE
        UNKNOWN
        ACCOUNT
        SYSV;
    open:
        READ
        WRITE
        APPEND
        NONBLOCK
        DIRECT
        SYNC
        DSYNC
        NOATIME
        PATH
        DIRECTORY
        NOFOLLOW
        ASYNC
        TMPFILE
        UNLINKED
        OWNER
        LOCKED
        NO_PATH
        NOT_A_DESCRIPTOR;
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        let gap = if index % 32 == 0 { "\n " } else { "" };
        write!(text, "{gap}{byte:02x}").expect("a string takes everything");
    }
    text
}

#[test]
fn bytes_are_those_of_version_1() {
    let mut now = String::from("# The bytes of version 1. See ../golden.rs.\n\n");
    for (name, bytes) in records().into_iter().chain(headers()) {
        writeln!(now, "{name} {}{}\n", bytes.len(), hex(&bytes))
            .expect("a string takes everything");
    }
    now.push_str(&numbers());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a file")).expect("a directory");
        fs::write(&path, &now).expect("writable");
    }
    let kept = fs::read_to_string(&path).expect("the golden bytes");
    for (line, (now, kept)) in now.lines().zip(kept.lines()).enumerate() {
        assert_eq!(now, kept, "line {} of {}", line + 1, path.display());
    }
    assert_eq!(now.lines().count(), kept.lines().count());
}

#[test]
fn there_are_golden_bytes_of_every_kind() {
    let all: Vec<u8> = records().into_iter().flat_map(|(_, bytes)| bytes).collect();
    let kinds: BTreeSet<_> = Reader::new(&all)
        .map(|record| record.expect("good records").kind)
        .collect();
    assert_eq!(kinds, Kind::ALL.into_iter().collect());
}

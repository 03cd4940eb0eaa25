// SPDX-License-Identifier: GPL-2.0

//! One test for each feature: a program that uses it moves and finds everything as it was.

use std::time::Duration;

use anyhow::ensure;
use anyhow::Result;
use qemu_tests::rig::scaled;
use qemu_tests::Case;
use qemu_tests::Cluster;

use crate::cases::workload::agents;
use crate::cases::workload::migrate;
use crate::cases::workload::move_and_check;
use crate::cases::workload::travel;
use crate::cases::workload::Workload;

/// Name, program with its arguments.
const MOVES: &[(&str, &str)] = &[
    (
        "m1_anonymous_memory: heap, stack and mappings of every protection",
        "m1_anonymous_memory",
    ),
    (
        "m1_sparse_memory: few pages in 64 GiB, holes, zero pages",
        "m1_sparse_memory size=256",
    ),
    (
        "m1_vdso_and_auxv: the vdso answers at its address",
        "m1_vdso_and_auxv pause=150",
    ),
    ("m2_private_file: pages copied on write", "m2_private_file"),
    (
        "m3_shared_file: dirty pages of a shared file",
        "m3_shared_file anonymous=0",
    ),
    (
        "m4_shared_anonymous_alone: shared memory that nobody else has",
        "m3_shared_file file=0",
    ),
    (
        "m9_settings: barriers, huge pages, no writable code, sealed memory",
        "m9_settings",
    ),
    (
        "m9_settings_advised: huge pages where they were asked for",
        "m9_settings advised=1",
    ),
    (
        "t1_threads: 64 threads with mutexes, conditions, a barrier, a semaphore",
        "t1_threads",
    ),
    (
        "t4_signals: actions, masks, alternate stacks, queued signals with their values",
        "t4_signals pause=150",
    ),
    (
        "t6_timers: interval timers and POSIX timers count every expiration",
        "t6_timers early=20",
    ),
    ("t7_clocks: no clock goes back or jumps", "t7_clocks"),
    ("t9_registers: all that the CPU has", "t9_registers"),
    (
        "t9_registers_avx: up to YMM registers",
        "t9_registers isa=avx",
    ),
    (
        "t9_registers_sse: up to XMM registers",
        "t9_registers isa=sse",
    ),
    (
        "t12_rseq: restartable sequences stay registered",
        "t12_rseq",
    ),
    (
        "t13_robust: robust mutexes, and the end of threads",
        "t13_robust",
    ),
    (
        "t13_priority_inheritance: a held mutex with waiters",
        "t13_robust pi=1",
    ),
    (
        "t15_scheduling: classes, priorities, nice values",
        "t15_scheduling",
    ),
    (
        "t16_placement: CPUs, priorities for input and output, timer slack",
        "t16_placement",
    ),
    (
        "t17_credentials: another user, groups, capabilities, secure bits, limits",
        "t17_credentials pause=150",
    ),
    (
        "t17_capabilities_of_root: root with few capabilities",
        "t17_credentials keep_root=1 pause=150",
    ),
    (
        "t17_credentials_without_nnp: the same without no_new_privs",
        "t17_credentials nnp=0 pause=150",
    ),
    (
        "t17_threads: each thread its own user, groups and capabilities",
        "t17_threads",
    ),
    (
        "t17_environment: umask, directory, names, personality, filters, scores",
        "t17_environment pause=150",
    ),
    (
        "t17_chroot: another root directory",
        "t17_environment chroot=/shared pause=150",
    ),
    (
        "f1_files: positions, flags, shared descriptions, a directory half-way",
        "f1_files",
    ),
    ("f1_devices: null, zero, full, random", "f1_devices"),
    (
        "f4_pipes: bytes in full and large pipes, numbers in flow",
        "f4_pipes",
    ),
    (
        "f4_pipes_with_one_end: the other end closed",
        "f4_pipes one_end=1",
    ),
    (
        "f4_pipes_in_packet_mode: packets stay packets",
        "f4_pipes packets=1",
    ),
    (
        "f13_events: eventfds, signalfds, timerfds, epoll sets in every mode",
        "f13_events early=20",
    ),
    (
        "f17_locks: locks of the process, of open files, of whole files",
        "f17_locks",
    ),
];

/// What waits in a call that ends by itself or by a second thread.
const CALLS: &[&str] = &[
    "nanosleep",
    "clock_nanosleep-relative-monotonic",
    "clock_nanosleep-absolute-monotonic",
    "clock_nanosleep-relative-realtime",
    "clock_nanosleep-absolute-realtime",
    "clock_nanosleep-relative-boottime",
    "clock_nanosleep-absolute-boottime",
    "pipe-read",
    "pipe-write",
    "futex",
    "futex-timeout",
    "futex-absolute",
    "poll",
    "poll-timeout",
    "ppoll",
    "select",
    "pselect",
    "pause",
    "sigsuspend",
    "sigtimedwait",
    "sigwaitinfo",
    "epoll_wait",
    "eventfd-read",
    "timerfd-read",
    "timerfd-realtime-read",
    "signalfd-read",
];

/// What the kernel does not restart with the time that is left.
const STARTED_ANEW: &[&str] = &[
    "sigtimedwait",
    "epoll_wait-timeout",
    "epoll_pwait-timeout",
    "epoll_pwait2-timeout",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = MOVES
        .iter()
        .map(|&(name, command)| Case::new(name, move |cluster| move_and_check(cluster, command)))
        .collect();
    cases.extend([
        Case::new(
            "t1_thousand: a thousand threads asleep and in futexes",
            |cluster| move_and_check(cluster, "t1_thousand"),
        )
        .timeout(180),
        Case::new("m1_swapped: memory that is swapped out", swapped),
        Case::new(
            "t4_stopped: what is stopped stays stopped until it is continued",
            stopped,
        ),
        Case::new(
            "t5_blocked_calls: every call waits for its remaining time, without EINTR",
            |cluster| blocked_calls(cluster, CALLS, 3000),
        )
        .timeout(240),
        Case::new(
            "t5_time_left: what the kernel would start anew takes only the time that is left",
            time_left,
        )
        .timeout(180),
        Case::new(
            "t5_one_long_call: a sleep goes on over three moves",
            long_call,
        )
        .timeout(120),
        Case::new(
            "o8_there_and_back: back where it came from, and there again",
            |cluster| travel(cluster, "m1_anonymous_memory large=16", &[1, 0, 1, 0]),
        )
        .timeout(120),
        Case::new(
            "o8_threads_there_and_back: the same with 64 threads",
            |cluster| travel(cluster, "t1_threads", &[1, 0, 1, 0]),
        )
        .timeout(120),
        Case::new(
            "o8_signals_there_and_back: the same with queued signals and timers",
            |cluster| {
                travel(cluster, "t4_signals", &[1, 0])?;
                travel(cluster, "t6_timers early=40", &[1, 0])
            },
        ),
        Case::new(
            "o8_files_there_and_back: the same with files, pipes and events",
            |cluster| {
                travel(cluster, "f1_files", &[1, 0])?;
                travel(cluster, "f4_pipes", &[1, 0])?;
                travel(cluster, "f13_events early=40", &[1, 0])?;
                travel(cluster, "f17_locks", &[1, 0])
            },
        )
        .timeout(120),
    ]);
    cases
}

/// Swaps out all anonymous memory of a process.
const PAGE_OUT: &str = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
PROCESS_MADVISE, MADV_PAGEOUT = 440, 21
pid = int(sys.argv[1])
process = os.pidfd_open(pid)
for line in open(f'/proc/{pid}/maps'):
    span, protection, _, device = line.split()[:4]
    start, end = (int(word, 16) for word in span.split('-'))
    if device == '00:00' and 'p' in protection and '[v' not in line:
        vector = struct.pack('QQ', start, end - start)
        libc.syscall(PROCESS_MADVISE, process, vector, 1, MADV_PAGEOUT, 0)
";

fn swapped(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    node1.run_ok(
        "modprobe zram && echo 128M >/sys/block/zram0/disksize && mkswap /dev/zram0 && swapon /dev/zram0",
    )?;
    let workload = Workload::start(node1, "m1_anonymous_memory large=16")?;
    let pid = workload.pid;
    // Stopped, so that it does not fetch its memory back before it is frozen.
    node1.run_ok(&format!("kill -STOP {pid}"))?;
    node1.wait_until(10, &format!("grep -q '^State:.T' /proc/{pid}/status"))?;
    node1
        .command(["python3", "-c", PAGE_OUT, &pid.to_string()])
        .output_ok()?;
    let swapped: u64 = node1
        .run_ok(&format!(
            "awk '/^VmSwap:/ {{ print $2 }}' /proc/{pid}/status"
        ))?
        .parse()?;
    ensure!(swapped > 12 * 1024, "only {swapped} KiB are swapped out");
    migrate(cluster, &agents, &workload, 0, 1)?;
    node2.run_ok(&format!("kill -CONT {pid}"))?;
    workload.wait_for_beat(node2)?;
    workload.finish(node2)?;
    node1.run_ok("swapoff /dev/zram0 && modprobe -r zram")?;
    Ok(())
}

fn stopped(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let workload = Workload::start(node1, "t4_stopped continued=1")?;
    let pid = workload.pid;
    node1.run_ok(&format!("kill -STOP {pid}"))?;
    node1.wait_until(10, &format!("grep -q '^State:.T' /proc/{pid}/status"))?;
    let beat = workload.beat(node1)?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    node2.wait_until(10, &format!("grep -q '^State:.T' /proc/{pid}/status"))?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(
        workload.beat(node2)? == beat,
        "it has run while it was stopped:\n{}",
        workload.text(node2)?
    );
    node2.run_ok(&format!("kill -CONT {pid}"))?;
    workload.wait_for_beat(node2)?;
    workload.finish(node2)?;
    Ok(())
}

/// All calls at once, each in a process of its own; what fails is named.
fn blocked_calls(cluster: &Cluster, calls: &[&str], wait: u32) -> Result<()> {
    let agents = agents(cluster)?;
    let mut failures = Vec::new();
    let mut moved = Vec::new();
    for call in calls {
        let command = format!("t5_blocked_call call={call} wait={wait} slack=2500 skew=3000");
        let workload = Workload::start(cluster.guest(0), &command)?;
        // In the middle of the first wait.
        std::thread::sleep(Duration::from_millis(300));
        match migrate(cluster, &agents, &workload, 0, 1) {
            Ok(_) => moved.push((call, workload)),
            Err(error) => failures.push(format!("{call}: {error:#}")),
        }
    }
    for (call, workload) in moved {
        if let Err(error) = workload.finish(cluster.guest(1)) {
            failures.push(format!("{call}: {error:#}"));
        }
    }
    ensure!(
        failures.is_empty(),
        "{} calls failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}

/// Moved when most of the wait is over: with all of its time again it would end far too late.
fn time_left(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let wait = scaled(Duration::from_secs(24)).min(Duration::from_secs(60));
    let (half, slack) = (wait / 2, wait / 3);
    let mut moved = Vec::new();
    for call in STARTED_ANEW {
        let command = format!(
            "t5_blocked_call call={call} wait={} slack={} rounds=1",
            wait.as_millis(),
            slack.as_millis()
        );
        moved.push(Workload::start(cluster.guest(0), &command)?);
    }
    std::thread::sleep(half);
    for workload in &moved {
        migrate(cluster, &agents, workload, 0, 1)?;
    }
    for workload in moved {
        workload.finish(cluster.guest(1))?;
    }
    Ok(())
}

fn long_call(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    // Long enough for three moves, also where they take long.
    let wait = scaled(Duration::from_secs(15)).min(Duration::from_secs(60));
    let command = format!(
        "t5_blocked_call call=nanosleep wait={} slack=2000 rounds=1",
        wait.as_millis()
    );
    let workload = Workload::start(cluster.guest(0), &command)?;
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        std::thread::sleep(Duration::from_secs(1));
        migrate(cluster, &agents, &workload, from, to)?;
    }
    workload.finish(cluster.guest(1))?;
    Ok(())
}

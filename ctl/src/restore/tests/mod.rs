// SPDX-License-Identifier: GPL-2.0
//! Real vessels on this machine, looked at through /proc.

mod build;

use super::testing::*;
use super::*;
use crate::sys::process;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use std::fs;
use std::path::Path;

#[test]
fn a_vessel_has_the_pid_that_it_must_have() {
    if !possible() {
        return;
    }
    let pid = free_pid(1);
    let image = image(pid);
    let vessel = vessel(&image, &SpawnOptions::default());
    assert_eq!(vessel.pid(), pid);
    assert!(!vessel.in_namespace());
    // Nothing but the stub is mapped.
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let stub = vessel.stub();
    for line in maps.lines().filter(|line| !line.contains("[vsyscall]")) {
        let start = u64::from_str_radix(line.split('-').next().expect("start"), 16).expect("hex");
        assert!(stub.contains(&start), "{line}");
    }
    assert_eq!(
        fs::read_dir(format!("/proc/{pid}/fd")).expect("fd").count(),
        0
    );
    assert_eq!(status(pid, "SigBlk:"), "fffffffffffbfeff");
    vessel.kill();
    assert_ne!(status(pid, "State:").chars().next(), Some('S'));
}

#[test]
fn another_file_under_the_same_name_is_refused() {
    if !possible() {
        return;
    }
    let pid = free_pid(1);
    let mut image = image(pid);
    let directory = directory();
    let path = directory.path().join("data");
    fs::write(&path, b"before").expect("write");
    let file = add_file(&mut image, FileKind::Regular, &path, open::READ);
    add_descriptor(&mut image, 3, file, 0);
    assert_eq!(check(&image, Moment::Frozen, 0), []);
    fs::write(&path, b"afterwards").expect("write");
    let codes: Vec<_> = check(&image, Moment::Frozen, 0)
        .iter()
        .map(|found| found.code)
        .collect();
    assert_eq!(codes, ["file-differs"]);
    let error = vessel(&image, &SpawnOptions::default())
        .build(&image)
        .expect_err("refused");
    assert!(matches!(error, VesselError::FileDiffers { .. }), "{error}");
    fs::remove_file(&path).expect("remove");
    let codes: Vec<_> = check(&image, Moment::Frozen, 0)
        .iter()
        .map(|found| found.code)
        .collect();
    assert_eq!(codes, ["file-missing"]);
    let error = vessel(&image, &SpawnOptions::default())
        .build(&image)
        .expect_err("refused");
    assert_eq!(error.errno(), Some(libc::ENOENT), "{error}");
}

#[test]
fn a_thousand_threads_have_their_tids() {
    if !possible() {
        return;
    }
    let pid = free_pid(1001);
    let mut image = image(pid);
    add_threads(&mut image, pid + 1..pid + 1000);
    let start = std::time::Instant::now();
    let mut vessel = vessel(&image, &SpawnOptions::default());
    println!("spawn: {:?}", start.elapsed());
    assert_eq!(vessel.thread_count(), 1000);
    assert_eq!(status(pid, "Threads:"), "1000");
    // Some ended, some came until the process was frozen.
    image.threads.truncate(899);
    add_threads(&mut image, std::iter::once(pid + 1000));
    vessel.build(&image).expect("build");
    assert_eq!(status(pid, "Threads:"), "900");
    let start = std::time::Instant::now();
    vessel.finish(&image).expect("finish");
    println!("finish: {:?}", start.elapsed());
    let comm = fs::read_to_string(format!("/proc/{pid}/task/{}/comm", pid + 1000)).expect("comm");
    assert_eq!(comm.trim(), "worker");
    assert_eq!(vessel.host_tid(pid + 5), Some(pid + 5));
}

/// By hand, because of the memory that it takes. In a namespace, where all numbers are free.
#[test]
#[ignore = "makes ten thousand threads"]
fn ten_thousand_threads_have_their_tids() {
    if !possible() {
        return;
    }
    let mut image = image(20_000);
    add_threads(&mut image, 20_001..30_000);
    let options = SpawnOptions {
        place: PidPlace::Namespace,
        ..SpawnOptions::default()
    };
    let start = std::time::Instant::now();
    let mut vessel = vessel(&image, &options);
    println!("spawn: {:?}", start.elapsed());
    vessel.build(&image).expect("build");
    assert_eq!(status(vessel.pid(), "Threads:"), "10000");
    let start = std::time::Instant::now();
    vessel.finish(&image).expect("finish");
    println!("finish: {:?}", start.elapsed());
}

#[test]
fn a_taken_pid_is_had_in_a_namespace() {
    if !possible() {
        return;
    }
    let own = std::process::id();
    let mut image = image(own);
    add_threads(&mut image, [own + 1, own + 7].into_iter());
    let host = SpawnOptions {
        place: PidPlace::Host,
        ..SpawnOptions::default()
    };
    let error = Vessel::spawn(&image, &host).expect_err("taken");
    assert!(matches!(error, VesselError::PidTaken { .. }), "{error}");

    let mut vessel = vessel(&image, &SpawnOptions::default());
    assert!(vessel.in_namespace());
    assert_ne!(vessel.pid(), own);
    let inside = |task: u32| {
        status(task, "NSpid:")
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(inside(vessel.pid()), own.to_string());
    assert_eq!(
        inside(vessel.host_tid(own + 7).expect("made")),
        (own + 7).to_string()
    );
    vessel.build(&image).expect("build");
    vessel.finish(&image).expect("finish");
    let pid = vessel.pid();
    let init: u32 = status(pid, "PPid:").parse().expect("number");
    assert_eq!(
        fs::read_to_string(format!("/proc/{init}/comm"))
            .expect("comm")
            .trim(),
        "pmig-init"
    );
    assert!(crate::capture::is_pmig_namespace(pid));
    assert!(!crate::capture::is_pmig_namespace(own));
    // The namespace has its own /proc.
    let seen = fs::read_to_string(format!("/proc/{pid}/root/proc/{own}/comm")).expect("own proc");
    assert_eq!(seen.trim(), "moved1");
    vessel.kill();
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        !Path::new(&format!("/proc/{init}/root/proc/1")).exists(),
        "the namespace is gone"
    );
}

#[test]
fn clocks_go_on_in_a_time_namespace() {
    if !possible() {
        return;
    }
    let image = image(free_pid(1));
    let options = SpawnOptions {
        monotonic_offset: 5_000_000_000_000,
        boottime_offset: 7_000_000_000_001,
        ..SpawnOptions::default()
    };
    let vessel = match Vessel::spawn(&image, &options) {
        Err(VesselError::Spawn { step, source }) if step.contains("time") => {
            println!("skipped: {source}");
            return;
        }
        vessel => vessel.expect("spawn"),
    };
    let text =
        fs::read_to_string(format!("/proc/{}/timens_offsets", vessel.pid())).expect("offsets");
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(numbers, ["monotonic", "5000", "0", "boottime", "7000", "1"]);
    let ns = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/time")).expect("ns");
    assert_ne!(ns(&vessel.pid().to_string()), ns("self"));
}

#[test]
fn a_thread_becomes_its_user() {
    if !possible() {
        return;
    }
    let pid = free_pid(2);
    let mut image = image(pid);
    add_threads(&mut image, [pid + 1].into_iter());
    let (_, bounding) = process::own_capabilities();
    let own = image.threads[0]
        .credentials
        .as_mut()
        .expect("made with them");
    own.groups = vec![4, 24, 70000];
    for field in [
        &mut own.credentials.uid,
        &mut own.credentials.euid,
        &mut own.credentials.suid,
        &mut own.credentials.fsuid,
    ] {
        field.set(1234);
    }
    own.credentials.gid.set(2345);
    own.credentials.egid.set(2346);
    own.credentials.sgid.set(2347);
    own.credentials.fsgid.set(2346);
    own.credentials.permitted.set(1 << 10 | 1 << 12);
    own.credentials.effective.set(1 << 10);
    own.credentials.inheritable.set(1 << 10);
    own.credentials.ambient.set(1 << 10);
    own.credentials.bounding.set(bounding & !(1 << 21));
    own.credentials.securebits.set(1 << 4);
    image.threads[1]
        .thread
        .flags
        .set(pmig_wire::thread::NO_NEW_PRIVS);
    image.threads[1].thread.nice.set(5);
    image.threads[1].thread.timer_slack.set(77_000);
    image.process.dumpable = 1;
    image.process.oom_score_adj.set(17);
    image.process.coredump_filter.set(0x13);
    image.limits.limits[libc::RLIMIT_CORE as usize]
        .current
        .set(0);
    image.limits.limits[libc::RLIMIT_NOFILE as usize]
        .current
        .set(100);
    // A file that only the user may read, opened in the user's name.
    let directory = directory();
    let path = directory.path().join("private");
    fs::write(&path, b"x").expect("write");
    std::os::unix::fs::chown(&path, Some(1234), Some(2345)).expect("chown");
    let file = add_file(&mut image, FileKind::Regular, &path, open::READ);
    add_descriptor(&mut image, 3, file, 0);

    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    vessel.finish(&image).expect("finish");
    for tid in [pid, pid + 1] {
        assert_eq!(status(tid, "Uid:"), "1234\t1234\t1234\t1234");
        assert_eq!(status(tid, "Gid:"), "2345\t2346\t2347\t2346");
        assert_eq!(status(tid, "Groups:"), "4 24 70000");
        assert_eq!(
            status(tid, "CapPrm:"),
            format!("{:016x}", 1 << 10 | 1 << 12)
        );
        assert_eq!(status(tid, "CapEff:"), format!("{:016x}", 1 << 10));
        assert_eq!(status(tid, "CapInh:"), format!("{:016x}", 1 << 10));
        assert_eq!(status(tid, "CapAmb:"), format!("{:016x}", 1 << 10));
        assert_eq!(
            status(tid, "CapBnd:"),
            format!("{:016x}", bounding & !(1 << 21))
        );
    }
    assert_eq!(status(pid, "NoNewPrivs:"), "0");
    assert_eq!(status(pid + 1, "NoNewPrivs:"), "1");
    assert_eq!(status(pid, "Name:"), "moved1");
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("proc");
    assert_eq!(read("oom_score_adj").trim(), "17");
    assert_eq!(read("coredump_filter").trim(), "00000013");
    let slack = fs::read_to_string(format!("/proc/{}/timerslack_ns", pid + 1)).expect("slack");
    assert_eq!(slack.trim(), "77000");
    assert!(read("limits").lines().any(|line| {
        line.starts_with("Max open files") && line.split_whitespace().nth(3) == Some("100")
    }));
    let nice = read(&format!("task/{}/stat", pid + 1));
    let fields: Vec<&str> = nice
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .collect();
    assert_eq!(fields[16], "5");
}

#[test]
fn a_vessel_without_spawner_outlives_its_release() {
    if !possible() {
        return;
    }
    let image = image(free_pid(1));
    let mut vessel = vessel(&image, &SpawnOptions::default());
    let pid = vessel.pid();
    vessel.detach();
    assert_ne!(status(pid, "PPid:"), std::process::id().to_string());
    vessel.release();
    // Asleep, or on its way there.
    let state = status(pid, "State:");
    assert!(state.starts_with(['S', 'R']), "{state}");
    let pidfd = process::pidfd_open(pid).expect("lives");
    process::pidfd_send_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL).expect("kill");
}

#[test]
fn a_killed_vessel_is_noticed() {
    if !possible() {
        return;
    }
    let image = image(free_pid(1));
    let mut vessel = vessel(&image, &SpawnOptions::default());
    process::pidfd_send_signal(vessel.pidfd(), libc::SIGKILL).expect("kill");
    let error = vessel.build(&image).expect_err("dead");
    assert!(
        matches!(error, VesselError::Died | VesselError::Agent { .. }),
        "{error}"
    );
}

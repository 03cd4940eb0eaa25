// SPDX-License-Identifier: GPL-2.0
//! Real vessels on this machine, looked at through /proc.

use super::testing::*;
use super::*;
use crate::image::PipeBytes;
use crate::sys::process;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use pmig_wire::file::DESCRIPTOR_CLOEXEC;
use pmig_wire::mm::vma;
use pmig_wire::signal::Action;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use zerocopy::FromZeros;

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
fn mappings_come_to_lie_at_their_addresses() {
    if !possible() {
        return;
    }
    let pid = free_pid(1);
    let mut image = image(pid);
    let rw = vma::READ | vma::WRITE | vma::MAY_WRITE;
    add_vma(&mut image, 0x40_0000, 16, rw);
    add_vma(&mut image, 0x50_0000, 2, vma::MAY_WRITE);
    add_vma(
        &mut image,
        0x60_0000,
        1,
        vma::READ | vma::EXEC | vma::MAY_WRITE,
    );
    add_vma(
        &mut image,
        0x7000_0000,
        1 << 24,
        rw | vma::NORESERVE | vma::DONTDUMP | vma::NOHUGEPAGE,
    );
    add_vma(&mut image, 0x7ffc_0000_0000, 33, rw | vma::GROWSDOWN);
    let directory = directory();
    let path = directory.path().join("mapped");
    fs::write(&path, vec![7u8; 8192]).expect("write");
    let file = add_file(
        &mut image,
        FileKind::Regular,
        &path,
        open::READ | open::WRITE,
    );
    let flags = rw | vma::FILE | vma::SHARED;
    add_vma(&mut image, 0x6000_0000, 2, flags).file.set(file);
    let private = add_vma(&mut image, 0x6100_0000, 1, rw | vma::FILE);
    private.file.set(file);
    private.offset.set(4096);
    // One shared object with two views and a part that is not mapped.
    let shared = add_file(
        &mut image,
        FileKind::Memfd,
        Path::new(""),
        open::READ | open::WRITE,
    );
    image
        .files
        .last_mut()
        .expect("added")
        .file
        .size
        .set(8 * 4096);
    let flags = rw | vma::SHARED | vma::SHARED_ANONYMOUS;
    add_vma(&mut image, 0x6200_0000, 4, flags).file.set(shared);
    let view = add_vma(&mut image, 0x6300_0000, 2, flags & !vma::WRITE);
    view.file.set(shared);
    view.offset.set(2 * 4096);

    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    for want in [
        "00400000-00410000 rw-p",
        "00500000-00502000 ---p",
        "00600000-00601000 r-xp",
        "60000000-60002000 rw-s",
        "61000000-61001000 rw-p 00001000",
        "62000000-62004000 rw-s 00000000",
        "63000000-63002000 rw-s 00002000",
        "70000000-1070000000 rw-p",
        "7ffc00000000-7ffc00021000 rw-p",
    ] {
        assert!(maps.contains(want), "{want}\n{maps}");
    }
    // What is written through one view is seen through the other.
    let memory = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"));
    let memory = memory.expect("mem");
    use std::os::unix::fs::FileExt;
    memory
        .write_all_at(b"both", 0x6200_0000 + 2 * 4096)
        .expect("write");
    let mut bytes = [0; 4];
    memory.read_exact_at(&mut bytes, 0x6300_0000).expect("read");
    assert_eq!(&bytes, b"both");
    memory.read_exact_at(&mut bytes, 0x6100_0000).expect("read");
    assert_eq!(bytes, [7; 4]);

    vessel.finish(&image).expect("finish");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    assert!(maps.contains("63000000-63002000 r--s 00002000"), "{maps}");
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
    assert!(smaps
        .lines()
        .any(|line| line.starts_with("VmFlags") && line.contains(" gd")));
    assert!(smaps
        .lines()
        .any(|line| line.starts_with("VmFlags") && line.contains(" dd")));
}

#[test]
fn descriptors_get_their_numbers() {
    if !possible() {
        return;
    }
    let pid = free_pid(1);
    let mut image = image(pid);
    let directory = directory();
    let path = directory.path().join("log");
    fs::write(&path, b"0123456789").expect("write");
    let log = add_file(
        &mut image,
        FileKind::Regular,
        &path,
        open::WRITE | open::APPEND,
    );
    let input = add_file(&mut image, FileKind::Regular, &path, open::READ);
    image.files.last_mut().expect("added").file.position.set(4);
    let null = add_file(
        &mut image,
        FileKind::MemoryDevice,
        Path::new("/dev/null"),
        open::READ | open::WRITE,
    );
    let here = add_file(
        &mut image,
        FileKind::Directory,
        directory.path(),
        open::READ | open::DIRECTORY,
    );
    let reader = add_file(&mut image, FileKind::Pipe, Path::new(""), open::READ);
    let writer = add_file(&mut image, FileKind::Pipe, Path::new(""), open::WRITE);
    let second = add_file(
        &mut image,
        FileKind::Pipe,
        Path::new(""),
        open::WRITE | open::NONBLOCK,
    );
    for id in [reader, writer, second] {
        let of = image.file_mut(id).expect("added");
        of.file.inode.set(99);
        of.file.special.set(131072);
    }
    let half = add_file(&mut image, FileKind::Pipe, Path::new(""), open::READ);
    image.file_mut(half).expect("added").file.inode.set(98);
    for bytes in [&b"hello "[..], b"pipe"] {
        image.pipe_data.push(PipeBytes {
            inode: 99,
            bytes: bytes.to_vec(),
        });
    }
    for (fd, file, flags) in [
        (0, null, 0),
        (1, log, 0),
        (2, log, DESCRIPTOR_CLOEXEC),
        (3, input, 0),
        (4, reader, 0),
        (5, writer, 0),
        (6, second, DESCRIPTOR_CLOEXEC),
        (7, half, 0),
        (900, here, 0),
        (901, input, 0),
    ] {
        add_descriptor(&mut image, fd, file, flags);
    }
    image.process.working_directory.set(here);
    image.process.umask.set(0o077);

    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    let info = |fd: u32, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).expect("fdinfo");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim().to_owned()
    };
    let link = |fd: u32| fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("link");
    let mut all: Vec<u32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("fd")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .parse()
                .expect("number")
        })
        .collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 900, 901]);
    assert_eq!(link(0), Path::new("/dev/null"));
    assert_eq!(link(1), path);
    assert_eq!(link(900), directory.path());
    assert_eq!(info(3, "pos:"), "4");
    assert_eq!(info(1, "flags:"), "0102001");
    assert_eq!(info(2, "flags:"), "02102001");
    // O_LARGEFILE as after any open.
    assert_eq!(info(6, "flags:"), "02104001");
    assert_eq!(link(4), link(6));
    assert_ne!(link(4), link(7));
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd"),
        directory.path()
    );
    assert_eq!(status(pid, "Umask:"), "0077");

    // Descriptors of one description share their position.
    let take = |fd| process::pidfd_getfd(vessel.pidfd(), fd).expect("getfd");
    let mut first = fs::File::from(take(3));
    let mut text = [0; 3];
    first.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"456");
    assert_eq!(info(901, "pos:"), "7");
    // The pipe holds what waited, and its size.
    let mut pipe = fs::File::from(take(4));
    let mut text = [0; 10];
    pipe.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"hello pipe");
    let size = crate::sys::file::pipe_size(std::os::fd::AsFd::as_fd(&pipe)).expect("size");
    assert_eq!(size, 131072);
    // A pipe whose writers are gone is at its end.
    assert_eq!(fs::File::from(take(7)).read(&mut text).expect("read"), 0);
    let mut log = fs::File::from(take(1));
    log.write_all(b"more").expect("write");
    assert_eq!(fs::read(&path).expect("read"), b"0123456789more");
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
fn signals_and_boundaries_are_set() {
    if !possible() {
        return;
    }
    let pid = free_pid(1);
    let mut image = image(pid);
    let program = Path::new("/bin/true").canonicalize().expect("true");
    let executable = add_file(&mut image, FileKind::Regular, &program, open::READ);
    image.process.executable.set(executable);
    let rw = vma::READ | vma::WRITE | vma::MAY_WRITE;
    add_vma(&mut image, 0x50_0000, 4, rw);
    add_vma(&mut image, 0x7ffc_0000_0000, 4, rw | vma::GROWSDOWN);
    let memory = &mut image.memory;
    memory.start_code.set(0x40_0000);
    memory.end_code.set(0x40_1000);
    memory.start_data.set(0x41_0000);
    memory.end_data.set(0x41_1000);
    memory.start_brk.set(0x50_0000);
    memory.brk.set(0x50_4000);
    memory.start_stack.set(0x7ffc_0000_1000);
    memory.arg_start.set(0x7ffc_0000_2000);
    memory.arg_end.set(0x7ffc_0000_2010);
    memory.env_start.set(0x7ffc_0000_2010);
    memory.env_end.set(0x7ffc_0000_2020);
    image.auxv = [6u64, 4096, 25, 0x1234, 0, 0]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let mut action = Action::new_zeroed();
    action.signal.set(libc::SIGUSR1 as u32);
    action.handler.set(0x40_0100);
    action.flags.set(0x0400_0000);
    action.restorer.set(0x40_0200);
    image.actions.push(action);
    action.signal.set(libc::SIGPIPE as u32);
    action.handler.set(1);
    image.actions.push(action);

    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    assert!(
        maps.contains("[heap]") && maps.contains("[stack]"),
        "{maps}"
    );
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/exe")).expect("exe"),
        program
    );
    let auxv = fs::read(format!("/proc/{pid}/auxv")).expect("auxv");
    assert_eq!(auxv.get(..48), image.auxv.get(..48));
    assert_eq!(
        status(pid, "SigCgt:"),
        format!("{:016x}", 1 << (libc::SIGUSR1 - 1))
    );
    assert_eq!(
        status(pid, "SigIgn:"),
        format!("{:016x}", 1 << (libc::SIGPIPE - 1))
    );
    vessel.finish(&image).expect("finish");
}

#[test]
fn the_vdso_moves_to_its_place() {
    if !possible() {
        return;
    }
    // The layout of this process's own vdso, somewhere else.
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let special: Vec<(u64, u64)> = maps
        .lines()
        .filter(|line| line.contains("[vvar") || line.contains("[vdso]"))
        .filter_map(|line| line.split_once(' ')?.0.split_once('-'))
        .map(|(start, end)| {
            let hex = |text| u64::from_str_radix(text, 16).expect("hex");
            (hex(start), hex(end))
        })
        .collect();
    let (Some(first), Some(last)) = (special.first(), special.last()) else {
        println!("skipped: no vdso");
        return;
    };
    let pid = free_pid(1);
    let mut image = image(pid);
    let shift = first.0.wrapping_sub(0x7ffd_1234_5000);
    for (start, end) in &special {
        add_vma(
            &mut image,
            start.wrapping_sub(shift),
            (end - start) / 4096,
            vma::READ | vma::SPECIAL,
        );
    }
    let rw = vma::READ | vma::WRITE | vma::MAY_WRITE | vma::GROWSDOWN;
    add_vma(&mut image, 0x7ffd_1230_0000, 33, rw);
    image.memory.vvar_start.set(first.0.wrapping_sub(shift));
    image.memory.vdso_start.set(last.0.wrapping_sub(shift));
    image.memory.vdso_end.set(last.1.wrapping_sub(shift));
    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    assert!(
        maps.contains(&format!(
            "{:x}-{:x} r-xp",
            last.0.wrapping_sub(shift),
            last.1.wrapping_sub(shift)
        )),
        "{maps}"
    );
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
    assert_eq!(status(pid, "State:").chars().next(), Some('S'));
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

// SPDX-License-Identifier: GPL-2.0
//! Mappings, descriptors, boundaries of real vessels.

use crate::image::PipeBytes;
use crate::restore::testing::*;
use crate::restore::*;
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

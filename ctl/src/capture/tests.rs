// SPDX-License-Identifier: GPL-2.0
//! Captures of vessels, whose state is known because it was made here.

use super::*;
use crate::image::PipeBytes;
use crate::restore::testing::*;
use crate::restore::SpawnOptions;
use pmig_wire::event::EpollEntry;
use pmig_wire::event::Eventfd;
use pmig_wire::event::Signalfd;
use pmig_wire::event::Timerfd;
use pmig_wire::event::CLOCK_MONOTONIC;
use pmig_wire::event::EVENTFD_SEMAPHORE;
use pmig_wire::event::TIMERFD_ABSOLUTE;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use pmig_wire::mm::vma;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

const PAGE: u64 = 4096;
const RW: u64 = vma::READ | vma::WRITE | vma::MAY_WRITE;

fn ranges(found: &[PageRange]) -> Vec<Range<u64>> {
    found
        .iter()
        .map(|range| range.start.get()..range.end.get())
        .collect()
}

fn memory(pid: u32) -> fs::File {
    let path = format!("/proc/{pid}/mem");
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("mem")
}

#[test]
fn only_pages_with_contents_are_found_and_quickly() {
    if !possible() {
        return;
    }
    let mut image = image(free_pid(1));
    let sparse = 0x1000_0000_0000;
    add_vma(
        &mut image,
        sparse,
        (64 << 30) / PAGE,
        RW | vma::NORESERVE | vma::NOHUGEPAGE,
    );
    let directory = directory();
    let path = directory.path().join("mapped");
    fs::write(&path, vec![7u8; 16384]).expect("write");
    let file = add_file(&mut image, FileKind::Regular, &path, open::READ);
    add_vma(&mut image, 0x6100_0000, 4, RW | vma::FILE)
        .file
        .set(file);
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
        .set(8 * PAGE);
    let flags = RW | vma::SHARED | vma::SHARED_ANONYMOUS;
    add_vma(&mut image, 0x6200_0000, 8, flags).file.set(shared);
    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    let pid = vessel.pid();
    let memory = memory(pid);
    let write = |address: u64| memory.write_all_at(b"x", address).expect("write");
    write(sparse);
    write(sparse + PAGE);
    write(sparse + (40 << 30));
    write(0x6100_0000 + PAGE);
    write(0x6200_0000 + 5 * PAGE);
    let mut byte = [0];
    // Reading leaves the page of zeros, or the file's own page, which are not sent.
    memory
        .read_exact_at(&mut byte, sparse + (9 << 30))
        .expect("read");
    memory.read_exact_at(&mut byte, 0x6100_0000).expect("read");
    let start = Instant::now();
    let found = ranges(&scan_pages(pid, &image).expect("scan"));
    let elapsed = start.elapsed();
    println!("scan: {elapsed:?}");
    assert_eq!(
        found,
        [
            0x6100_1000..0x6100_2000,
            0x6200_5000..0x6200_6000,
            sparse..sparse + 2 * PAGE,
            sparse + (40 << 30)..sparse + (40 << 30) + PAGE,
        ]
    );
    assert!(elapsed < Duration::from_millis(100), "{elapsed:?}");
    assert!(resident_bytes(pid) >= 5 * PAGE);
}

#[test]
fn pipes_are_read_without_being_consumed() {
    if !possible() {
        return;
    }
    let mut image = image(free_pid(1));
    let mut ends = Vec::new();
    for (inode, flags) in [
        (7, open::READ),
        (7, open::WRITE),
        (8, open::READ),
        (8, open::WRITE | open::DIRECT),
    ] {
        let end = add_file(&mut image, FileKind::Pipe, Path::new(""), flags);
        image.file_mut(end).expect("added").file.inode.set(inode);
        image
            .file_mut(end)
            .expect("added")
            .file
            .special
            .set(1 << 20);
        add_descriptor(&mut image, end + 2, end, 0);
        ends.push(end);
    }
    let long: Vec<u8> = (0..700_000u32).map(|number| number as u8).collect();
    for (inode, bytes) in [
        (7, long.get(..32768).expect("long")),
        (7, long.get(32768..).expect("long")),
    ] {
        for piece in bytes.chunks(32768) {
            image.pipe_data.push(PipeBytes {
                inode,
                bytes: piece.to_vec(),
            });
        }
    }
    for packet in [&b"one"[..], b"and two"] {
        image.pipe_data.push(PipeBytes {
            inode: 8,
            bytes: packet.to_vec(),
        });
    }
    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    let mut copy = image.clone();
    for _ in 0..2 {
        copy.pipe_data.clear();
        pipe_contents(vessel.pid(), &mut copy).expect("pipes");
        let of = |image: &Image, inode| -> Vec<u8> {
            let parts = image.pipe_data.iter().filter(|data| data.inode == inode);
            parts.flat_map(|data| data.bytes.clone()).collect()
        };
        assert!(of(&copy, 7) == long);
        let packets: Vec<&[u8]> = copy
            .pipe_data
            .iter()
            .filter(|data| data.inode == 8)
            .map(|data| data.bytes.as_slice())
            .collect();
        assert_eq!(packets, [&b"one"[..], b"and two"]);
    }
}

#[test]
fn files_are_settled() {
    if !possible() {
        return;
    }
    let mut image = image(free_pid(1));
    let directory = directory();
    let [log, gone, moved] = ["log", "gone", "moved"].map(|name| directory.path().join(name));
    for path in [&log, &gone, &moved] {
        fs::write(path, b"0123").expect("write");
    }
    let files = [&log, &gone, &moved].map(|path| {
        let file = add_file(
            &mut image,
            FileKind::Regular,
            path,
            open::READ | open::WRITE,
        );
        add_descriptor(&mut image, file, file, 0);
        file
    });
    let cwd = add_file(
        &mut image,
        FileKind::Directory,
        directory.path(),
        open::NOT_A_DESCRIPTOR,
    );
    image.process.working_directory.set(cwd);
    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    fs::write(&log, b"0123456789").expect("write");
    fs::remove_file(&gone).expect("remove");
    fs::rename(&moved, directory.path().join("elsewhere")).expect("rename");
    fs::write(&moved, b"another").expect("write");
    settle_files(vessel.pid(), &mut image).expect("settle");
    let of = |id| image.file(id).expect("there");
    let [log, gone, moved] = files.map(of);
    assert_eq!(log.file.size.get(), 10);
    assert!(!log.has(open::UNLINKED));
    assert!(gone.has(open::UNLINKED));
    assert!(moved.has(open::UNLINKED));
    assert_eq!(moved.file.size.get(), 4);
    assert!(!of(cwd).has(open::UNLINKED));
}

/// A clock of this host, nanoseconds.
fn monotonic() -> i64 {
    crate::host::HostClocks::now().expect("clocks").monotonic
}

#[test]
fn what_waits_for_events_is_described_as_it_was_made() {
    if !possible() {
        return;
    }
    let mut image = image(free_pid(1));
    let none = Path::new("");
    let both = open::READ | open::WRITE;
    let count = add_file(&mut image, FileKind::Eventfd, none, both | open::NONBLOCK);
    let signals = add_file(&mut image, FileKind::Signalfd, none, both);
    let timers = [(); 5].map(|()| add_file(&mut image, FileKind::Timerfd, none, both));
    let set = add_file(&mut image, FileKind::Epoll, none, both);
    for (fd, file) in [(3, count), (30, count), (4, signals), (6, set)] {
        add_descriptor(&mut image, fd, file, 0);
    }
    for (fd, file) in (10..).zip(timers) {
        add_descriptor(&mut image, fd, file, 0);
    }
    image.eventfds.push(Eventfd {
        file: count.into(),
        flags: EVENTFD_SEMAPHORE.into(),
        count: (u64::from(u32::MAX) + 9).into(),
    });
    image.signalfds.push(Signalfd {
        file: signals.into(),
        reserved: 0.into(),
        mask: (1 << 9 | 1 << 62).into(),
    });
    let now = monotonic();
    let second = 1_000_000_000;
    // Not set, set once, set again and again, due already, not set but with a period.
    for (file, ticks, expires, interval) in [
        (timers[0], 0, 0, 0),
        (timers[1], 0, now + 50 * second, 0),
        (timers[2], 4, now + 60 * second, 3 * second),
        (timers[3], 2, now - 9 * second, 10 * second),
        (timers[4], 0, 0, 5 * second),
    ] {
        image.timerfds.push(Timerfd {
            file: file.into(),
            clock: CLOCK_MONOTONIC.into(),
            flags: TIMERFD_ABSOLUTE.into(),
            reserved: 0.into(),
            ticks: ticks.into(),
            expires: expires.into(),
            interval: (interval as u64).into(),
        });
    }
    let (errors, once) = (0x18, libc::EPOLLONESHOT as u32);
    // By its number; by a number that means another file; by one that means none; one that has reported its event.
    for (target, fd, events) in [
        (count, 3, errors | 1),
        (signals, 3, errors | 1 | libc::EPOLLET as u32),
        (timers[0], 90, errors | 4),
        (count, 30, once),
    ] {
        image.epoll_entries.push(EpollEntry {
            file: set.into(),
            target: target.into(),
            fd: fd.into(),
            events: events.into(),
            data: (u64::from(fd) << 40).into(),
        });
    }
    let mut vessel = vessel(&image, &SpawnOptions::default());
    vessel.build(&image).expect("build");
    let mut copy = image.clone();
    describe(vessel.pid(), &mut copy, Moment::Frozen).expect("described");
    assert_eq!(copy.eventfds, image.eventfds);
    assert_eq!(copy.signalfds, image.signalfds);
    let sorted = |image: &Image| {
        let mut all = image.epoll_entries.clone();
        all.sort_by_key(|entry| (entry.fd.get(), entry.target.get()));
        all
    };
    assert_eq!(sorted(&copy), sorted(&image));
    let mut timers = copy.timerfds.clone();
    timers.sort_by_key(|timer| timer.file.get());
    let found: Vec<_> = timers
        .iter()
        .map(|timer| (timer.ticks.get(), timer.interval.get() as i64))
        .collect();
    let expected = [
        (0, 0),
        (0, 0),
        (4, 3 * second),
        (3, 10 * second),
        (0, 5 * second),
    ];
    assert_eq!(found, expected);
    assert_eq!((timers[0].expires.get(), timers[4].expires.get()), (0, 0));
    for (timer, expected) in timers.iter().zip([0, 50, 60, 1]).skip(1) {
        let late = timer.expires.get() - now - expected * second;
        assert!((0..second / 10).contains(&late), "{late} ns late");
    }
}

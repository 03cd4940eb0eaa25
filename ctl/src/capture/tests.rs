// SPDX-License-Identifier: GPL-2.0
//! Captures of vessels, whose state is known because it was made here.

use super::*;
use crate::image::PipeBytes;
use crate::restore::testing::*;
use crate::restore::SpawnOptions;
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

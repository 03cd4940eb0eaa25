// SPDX-License-Identifier: GPL-2.0
//! Images and vessels for tests.

use super::SpawnOptions;
use super::Vessel;
use crate::image::Image;
use crate::image::OpenFile;
use crate::image::ThreadImage;
use crate::sys::process;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileKind;
use pmig_wire::mm::Vma;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use zerocopy::FromZeros;

/// Whether real vessels can be made here. Prints why not.
pub(crate) fn possible() -> bool {
    let (effective, _) = process::own_capabilities();
    let needed = 1 << 21; // CAP_SYS_ADMIN
    if effective & needed == 0 {
        println!("skipped: needs root");
        return false;
    }
    true
}

/// Lower numbers are the kernel's own tasks.
const FIRST: u32 = 512;

/// A PID that is free, with room for threads behind it, far from what the kernel gives out next.
pub(crate) fn free_pid(count: u32) -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let most: u32 = fs::read_to_string("/proc/sys/kernel/pid_max")
        .unwrap_or_default()
        .trim()
        .parse()
        .unwrap_or(32768);
    // The kernel gives out numbers in their order, and this process has got its own not long ago.
    let away = std::process::id() + most / 2;
    loop {
        let next = away + NEXT.fetch_add(count + 1, Ordering::Relaxed);
        let pid = FIRST + next % (most - FIRST - count);
        if (pid..pid + count).all(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            return pid;
        }
    }
}

pub(crate) fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim().to_owned()
}

/// An image of a process that has the limits and the capabilities of the test.
pub(crate) fn image(pid: u32) -> Image {
    let mut image = Image::empty(pid);
    for (resource, limit) in image.limits.limits.iter_mut().enumerate() {
        let (soft, hard) = process::limit(0, resource as u32).expect("own limit");
        limit.current.set(soft);
        limit.maximum.set(hard);
    }
    let (effective, bounding) = process::own_capabilities();
    let own = image.threads[0]
        .credentials
        .as_mut()
        .expect("made with them");
    own.credentials.permitted.set(effective);
    own.credentials.effective.set(effective);
    own.credentials.bounding.set(bounding);
    image.threads[0].thread.comm[..6].copy_from_slice(b"moved1");
    let memory = &mut image.memory;
    for (index, boundary) in [
        &mut memory.start_code,
        &mut memory.end_code,
        &mut memory.start_data,
        &mut memory.end_data,
        &mut memory.start_brk,
        &mut memory.brk,
        &mut memory.start_stack,
        &mut memory.arg_start,
        &mut memory.arg_end,
        &mut memory.env_start,
        &mut memory.env_end,
    ]
    .into_iter()
    .enumerate()
    {
        boundary.set(0x40_0000 + 16 * index as u64);
    }
    image
}

pub(crate) fn add_vma(image: &mut Image, start: u64, pages: u64, flags: u64) -> &mut Vma {
    let mut vma = Vma::new_zeroed();
    vma.start.set(start);
    vma.end.set(start + pages * 4096);
    vma.flags.set(flags);
    image.vmas.push(vma);
    image.vmas.sort_by_key(|vma| vma.start.get());
    image
        .vmas
        .iter_mut()
        .find(|vma| vma.start.get() == start)
        .expect("just added")
}

pub(crate) fn add_file(image: &mut Image, kind: FileKind, path: &Path, flags: u32) -> u32 {
    let id = image.files.len() as u32 + 1;
    let mut file = File::new_zeroed();
    file.id.set(id);
    file.kind.set(kind as u16);
    file.flags.set(flags);
    if let Ok(metadata) = fs::metadata(path) {
        file.mode.set(metadata.mode());
        file.size.set(metadata.size());
        file.inode.set(metadata.ino());
        file.special.set(metadata.rdev());
        file.mtime_seconds.set(metadata.mtime());
        file.mtime_nanoseconds.set(metadata.mtime_nsec() as u32);
    }
    let path = path.as_os_str().as_bytes().to_vec();
    image.files.push(OpenFile { file, path });
    id
}

pub(crate) fn add_descriptor(image: &mut Image, fd: u32, file: u32, flags: u32) {
    let mut descriptor = Descriptor::new_zeroed();
    descriptor.fd.set(fd);
    descriptor.file.set(file);
    descriptor.flags.set(flags);
    image.descriptors.push(descriptor);
    image
        .descriptors
        .sort_by_key(|descriptor| descriptor.fd.get());
}

pub(crate) fn add_threads(image: &mut Image, tids: impl Iterator<Item = u32>) {
    for tid in tids {
        let mut thread: ThreadImage = image.threads[0].clone();
        thread.thread.tid.set(tid);
        thread.credentials = None;
        thread.thread.comm = *b"worker\0\0\0\0\0\0\0\0\0\0";
        image.threads.push(thread);
    }
    image.process.threads.set(image.threads.len() as u32);
}

/// A temporary directory that every user can look into.
pub(crate) fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    directory
}

pub(crate) fn vessel(image: &Image, options: &SpawnOptions) -> Vessel {
    Vessel::spawn(image, options).expect("spawn")
}

// SPDX-License-Identifier: GPL-2.0
//! Regular files of a frozen process: their data on storage, their identity up to date.

use super::io;
use super::CaptureError;
use crate::image::Image;
use crate::image::OpenFile;
use crate::image::Uses;
use crate::sys::file;
use crate::sys::file::Status;
use crate::sys::process;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use pmig_wire::mm::vma;
use pmig_wire::mm::Vma;
use std::ffi::CString;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// Files whose state is on storage.
const SETTLED: [FileKind; 2] = [FileKind::Regular, FileKind::Directory];

/// See [`super::settle_files`].
pub(super) fn settle(pid: u32, image: &mut Image) -> Result<(), CaptureError> {
    let process = process::pidfd_open(pid).map_err(io(format!("find process {pid}")))?;
    let found = {
        let uses = image.uses();
        let settles = |of: &&OpenFile| SETTLED.contains(&of.kind());
        let mut found = Vec::new();
        for of in image.files.iter().filter(settles) {
            if let Some(file) = reach(pid, process.as_fd(), image, &uses, of)? {
                let status = settled(&uses, of, file.as_fd())?;
                let linked = of.path.is_empty() || leads_to(of, &status);
                found.push((of.id(), status, linked));
            }
        }
        found
    };
    for (id, status, linked) in found {
        if let Some(of) = image.file_mut(id) {
            update(of, &status, linked);
        }
    }
    Ok(())
}

/// The file itself, not what its name leads to: a copy of a descriptor, or what a mapping or another link of procfs has.
fn reach(
    pid: u32,
    process: BorrowedFd<'_>,
    image: &Image,
    uses: &Uses<'_>,
    of: &OpenFile,
) -> Result<Option<OwnedFd>, CaptureError> {
    if let Some(descriptor) = uses.descriptors(of.id()).first() {
        let fd = descriptor.fd.get();
        let what = format!("copy descriptor {fd}");
        return process::pidfd_getfd(process, fd)
            .map(Some)
            .map_err(io(what));
    }
    let through = if let Some(one) = uses.vmas(of.id()).first() {
        format!("map_files/{:x}-{:x}", one.start.get(), one.end.get())
    } else if image.process.executable.get() == of.id() {
        "exe".to_owned()
    } else if image.process.working_directory.get() == of.id() {
        "cwd".to_owned()
    } else if image.process.root_directory.get() == of.id() {
        "root".to_owned()
    } else {
        return Ok(None);
    };
    let path = format!("/proc/{pid}/{through}");
    match File::open(&path) {
        Ok(file) => Ok(Some(file.into())),
        Err(source) => {
            let what = format!("open {} through {path}", of.display());
            Err(CaptureError::Io { what, source })
        }
    }
}

/// Whether the process may have changed the file's content.
fn is_written(uses: &Uses<'_>, of: &OpenFile) -> bool {
    let shared = |one: &&Vma| {
        let flags = one.flags.get();
        flags & vma::SHARED != 0 && flags & (vma::WRITE | vma::MAY_WRITE) != 0
    };
    of.is_writable() || uses.vmas(of.id()).iter().any(shared)
}

/// Brings the data to storage and asks what the file is now.
fn settled(uses: &Uses<'_>, of: &OpenFile, file: BorrowedFd<'_>) -> Result<Status, CaptureError> {
    if of.kind() == FileKind::Regular && is_written(uses, of) && !of.has(open::PATH) {
        file::sync(file).map_err(io(format!("write {} out to storage", of.display())))?;
    }
    file::status_of(file).map_err(io(format!("look at {}", of.display())))
}

/// Whether the name still leads to the file.
fn leads_to(of: &OpenFile, status: &Status) -> bool {
    let Ok(path) = CString::new(of.path.clone()) else {
        return false;
    };
    match file::status_of_path(&path, false) {
        Ok(found) => (found.device, found.inode) == (status.device, status.inode),
        // A file server may trust the user of the process and not root: then only the destination can tell.
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

fn update(of: &mut OpenFile, status: &Status, linked: bool) {
    let file = &mut of.file;
    file.mode.set(status.mode);
    file.size.set(status.size);
    file.device.set(status.device);
    file.inode.set(status.inode);
    file.mtime_seconds.set(status.mtime_seconds);
    file.mtime_nanoseconds.set(status.mtime_nanoseconds);
    if !linked {
        file.flags.set(file.flags.get() | open::UNLINKED);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! What waits in pipes.

use super::io;
use super::CaptureError;
use crate::image::Image;
use crate::image::PipeBytes;
use crate::sys::file;
use crate::sys::process;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

/// Most bytes of one record; below the limit of a record's payload.
const PIECE: usize = 32 * 1024;

/// See [`super::pipe_contents`].
pub(super) fn contents(pid: u32, image: &mut Image) -> Result<(), CaptureError> {
    // One descriptor to read from for each pipe. A pipe that nobody can read has contents that nobody misses.
    let mut readers: BTreeMap<u64, u32> = BTreeMap::new();
    for descriptor in &image.descriptors {
        let Some(of) = image.file(descriptor.file.get()) else {
            continue;
        };
        if of.kind() == FileKind::Pipe && of.has(open::READ) {
            readers
                .entry(of.file.inode.get())
                .or_insert(descriptor.fd.get());
        }
    }
    let process = process::pidfd_open(pid).map_err(io(format!("find process {pid}")))?;
    let mut all = Vec::new();
    for (inode, fd) in readers {
        let what = format!("copy descriptor {fd}");
        let pipe = process::pidfd_getfd(process.as_fd(), fd).map_err(io(what))?;
        copy(inode, pipe.as_fd(), &mut all)?;
    }
    image.pipe_data = all;
    Ok(())
}

/// Copies what waits in one pipe.
fn copy(inode: u64, pipe: BorrowedFd<'_>, all: &mut Vec<PipeBytes>) -> Result<(), CaptureError> {
    let what = || format!("read the pipe {inode} without consuming it");
    let waiting = file::pipe_waiting(pipe).map_err(io(what()))?;
    if waiting == 0 {
        return Ok(());
    }
    let size = file::pipe_size(pipe).map_err(io(what()))?;
    let (reader, writer) = file::pipe().map_err(io(what()))?;
    // `tee` duplicates buffers, so the copy needs as many as the pipe has.
    file::set_pipe_size(writer.as_fd(), size).map_err(io(what()))?;
    let most = usize::try_from(waiting).unwrap_or(usize::MAX);
    let copied = file::tee(pipe, writer.as_fd(), most).map_err(io(what()))?;
    if copied != most {
        let text = format!("only {copied} of {most} bytes of the pipe {inode} could be read");
        return Err(CaptureError::Lost(text));
    }
    let mut left = copied;
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        // In packet mode each read gives one packet, and a packet is no longer than a page.
        let count = file::read(reader.as_fd(), &mut buffer).map_err(io(what()))?;
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if bytes.is_empty() {
            break;
        }
        left = left.saturating_sub(count);
        all.push(PipeBytes { inode, bytes });
    }
    Ok(())
}

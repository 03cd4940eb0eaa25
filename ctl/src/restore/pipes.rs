// SPDX-License-Identifier: GPL-2.0
//! Pipes whose both ends are inside: made anew, with what waits in them.

use super::files::access;
use super::files::status_flags;
use super::files::Files;
use super::list::args;
use super::list::List;
use super::VesselError;
use crate::image::OpenFile;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use std::collections::BTreeMap;

/// Bytes of contents that are written with one list.
const BATCH: usize = 1 << 20;

/// Makes all pipes.
pub(super) fn build(files: &Files<'_>) -> Result<(), VesselError> {
    let mut pipes: BTreeMap<u64, Vec<&OpenFile>> = BTreeMap::new();
    for of in files
        .image
        .files
        .iter()
        .filter(|of| of.kind() == FileKind::Pipe)
    {
        pipes.entry(of.file.inode.get()).or_default().push(of);
    }
    pipes
        .into_iter()
        .try_for_each(|(inode, ends)| pipe(files, inode, &ends))
}

fn pipe(files: &Files<'_>, inode: u64, ends: &[&OpenFile]) -> Result<(), VesselError> {
    let packets = ends.iter().any(|of| of.has(open::WRITE | open::DIRECT));
    let [reader, writer] = make(files, packets)?;
    let capacity = ends
        .iter()
        .map(|of| of.file.special.get())
        .max()
        .unwrap_or(0);
    fill(files, inode, capacity, writer)?;
    let mut list = List::new();
    let mut taken = [false; 2];
    for of in ends {
        let end = match (of.has(open::READ), of.has(open::WRITE)) {
            (true, false) => Some(0),
            (false, true) => Some(1),
            _ => None,
        };
        let first = end.and_then(|end| taken.get_mut(end)).is_some_and(|taken| {
            let first = !*taken;
            *taken = true;
            first
        });
        let made = if end == Some(1) { writer } else { reader };
        if first {
            let arguments = args![made, libc::F_SETFL, status_flags(of)];
            list.call("set the flags of a pipe", libc::SYS_fcntl, arguments);
            files.place(&mut list, of, made);
        } else {
            // Another description of the same end.
            let path = list.path(format!("/proc/self/fd/{made}").as_bytes());
            let how = access(of) | libc::O_NONBLOCK | libc::O_CLOEXEC;
            let arguments = args![libc::AT_FDCWD, path, how, 0];
            let opened = list.call("open a pipe again", libc::SYS_openat, arguments);
            let call = files.lift(&mut list, opened);
            let arguments = args![call, libc::F_SETFL, status_flags(of)];
            list.call("set the flags of a pipe", libc::SYS_fcntl, arguments);
            files.place(&mut list, of, call);
            list.call("close a pipe", libc::SYS_close, args![call]);
        }
    }
    // An end that nobody has open is closed by this, as it is on the source.
    list.call("close a pipe", libc::SYS_close, args![reader]);
    list.call("close a pipe", libc::SYS_close, args![writer]);
    files.vessel.run(&list)?;
    Ok(())
}

/// Makes a pipe. Returns the numbers of both ends, which are in nobody's way.
fn make(files: &Files<'_>, packets: bool) -> Result<[u32; 2], VesselError> {
    let mut list = List::new();
    let room = list.room(8);
    let how = libc::O_NONBLOCK | libc::O_CLOEXEC | if packets { libc::O_DIRECT } else { 0 };
    files.opener.begin(&mut list);
    let made = list.attempt("make a pipe", libc::SYS_pipe2, args![room, how]);
    files.opener.end(&mut list);
    let answers = files.vessel.run(&list)?;
    if answers.of(made) < 0 {
        return Err(VesselError::call("make a pipe", answers.of(made)));
    }
    let mut fresh = answers.bytes(room, 8).chunks_exact(4).map(|bytes| {
        bytes
            .first_chunk::<4>()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    });
    let (reader, writer) = (fresh.next().unwrap_or(0), fresh.next().unwrap_or(0));
    let mut list = List::new();
    let lifted = [files.lift(&mut list, reader), files.lift(&mut list, writer)];
    let answers = files.vessel.run(&list)?;
    Ok(lifted.map(|call| answers.of(call) as u32))
}

/// Sets the capacity and writes what waits.
fn fill(files: &Files<'_>, inode: u64, capacity: u64, writer: u32) -> Result<(), VesselError> {
    let mut list = List::new();
    if capacity != 0 {
        let arguments = args![writer, libc::F_SETPIPE_SZ, capacity];
        list.call("set the size of a pipe", libc::SYS_fcntl, arguments);
    }
    for data in files
        .image
        .pipe_data
        .iter()
        .filter(|data| data.inode == inode)
    {
        let bytes = list.data(&data.bytes);
        let count = data.bytes.len();
        list.expect(
            "fill a pipe",
            libc::SYS_write,
            args![writer, bytes, count],
            count as u64,
        );
        if list.size() >= BATCH {
            files.vessel.run(&std::mem::take(&mut list))?;
        }
    }
    files.vessel.run(&list)?;
    Ok(())
}

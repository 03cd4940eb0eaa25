// SPDX-License-Identifier: GPL-2.0
//! Locks on files, as `/proc/PID/fdinfo` shows them (`lock_get_status()`, fs/locks.c).

use super::io;
use super::CaptureError;
use crate::image::Image;
use crate::restore::Moment;
use pmig_wire::file::open;
use pmig_wire::file::FileLock;
use pmig_wire::file::LockKind;
use std::fs;
use zerocopy::FromZeros;

/// Describes the locks that the process holds on files.
pub(super) fn describe(pid: u32, image: &mut Image, moment: Moment) -> Result<(), CaptureError> {
    let mut locks = Vec::new();
    let uses = image.uses();
    for of in image.files.iter().filter(|of| of.has(open::LOCKED)) {
        let Some(descriptor) = uses.descriptors(of.id()).first() else {
            continue;
        };
        let fd = descriptor.fd.get();
        let path = format!("/proc/{pid}/fdinfo/{fd}");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // A descriptor that a running process has closed since.
            Err(_) if moment == Moment::Running => continue,
            Err(error) => return Err(io(format!("read {path}"))(error)),
        };
        for line in text.lines().filter_map(|line| line.strip_prefix("lock:")) {
            let mut lock = lock(line).ok_or_else(|| {
                let text = format!(
                    "a lock of descriptor {fd} is shown as {line:?}, which is not understood"
                );
                CaptureError::Lost(text)
            })?;
            lock.file.set(of.id());
            locks.push(lock);
        }
    }
    image.locks = locks;
    Ok(())
}

/// Such as `1: POSIX  ADVISORY  WRITE 4711 08:01:12345 0 EOF`.
fn lock(line: &str) -> Option<FileLock> {
    let mut lock = FileLock::new_zeroed();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, kind, _, how, _, _, start, last] = words.try_into().ok()?;
    let kind = match kind {
        "POSIX" => LockKind::Process,
        "FLOCK" => LockKind::Whole,
        "OFDLCK" => LockKind::OpenFile,
        _ => LockKind::Other,
    };
    lock.kind.set(kind as u32);
    lock.exclusive.set(match how {
        "WRITE" => 1,
        "READ" => 0,
        _ if kind == LockKind::Other => 0,
        _ => return None,
    });
    lock.start.set(start.parse().ok()?);
    lock.last.set(match last {
        "EOF" => u64::MAX,
        number => number.parse().ok()?,
    });
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_read() {
        let words = |line: &str| {
            let lock = lock(line)?;
            let (kind, exclusive) = (lock.kind.get(), lock.exclusive.get());
            Some((kind, exclusive, lock.start.get(), lock.last.get()))
        };
        let all = [
            (
                "\t1: POSIX  ADVISORY  WRITE 12 08:01:5 100 109",
                Some((1, 1, 100, 109)),
            ),
            (
                "\t2: FLOCK  ADVISORY  READ 12 08:01:5 0 EOF",
                Some((2, 0, 0, u64::MAX)),
            ),
            (
                "\t3: OFDLCK ADVISORY  READ -1 00:2f:5 7 EOF",
                Some((3, 0, 7, u64::MAX)),
            ),
            (
                "\t4: LEASE  ACTIVE    READ 12 08:01:5 0 EOF",
                Some((4, 0, 0, u64::MAX)),
            ),
            ("\t5: POSIX  ADVISORY  UNLCK 12 08:01:5 0 EOF", None),
            ("\t6: POSIX  ADVISORY  WRITE 12", None),
        ];
        for (line, expected) in all {
            assert_eq!(words(line), expected, "{line}");
        }
    }
}

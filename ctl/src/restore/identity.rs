// SPDX-License-Identifier: GPL-2.0
//! Whether a file of this host is the one that the process has open.

use super::Moment;
use crate::image::OpenFile;
use crate::sys::file::Status;
use pmig_wire::file::FileKind;

/// How a file of this host differs from the one in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// Not the same kind of file.
    Kind(String),
    /// The same kind, but another file.
    Content(String),
}

impl Difference {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Kind(text) | Self::Content(text) => text,
        }
    }
}

fn kind_name(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "a regular file",
        libc::S_IFDIR => "a directory",
        libc::S_IFLNK => "a symbolic link",
        libc::S_IFCHR => "a character device",
        libc::S_IFBLK => "a block device",
        libc::S_IFIFO => "a named pipe",
        libc::S_IFSOCK => "a socket",
        _ => "something else",
    }
}

/// Compares what can be compared between two hosts: device and inode numbers cannot.
pub(super) fn compare(open: &OpenFile, status: &Status, moment: Moment) -> Option<Difference> {
    let mode = open.file.mode.get();
    if mode & libc::S_IFMT != status.kind() {
        let (here, there) = (kind_name(status.mode), kind_name(mode));
        return Some(Difference::Kind(format!(
            "{here} here, {there} on the source"
        )));
    }
    match open.kind() {
        FileKind::MemoryDevice if open.file.special.get() != status.special => {
            Some(Difference::Kind("another device".into()))
        }
        FileKind::Regular if moment == Moment::Frozen || !open.is_writable() => {
            content(open, status)
        }
        _ => None,
    }
}

fn content(open: &OpenFile, status: &Status) -> Option<Difference> {
    let size = open.file.size.get();
    if size != status.size {
        let text = format!("{} bytes here, {size} on the source", status.size);
        return Some(Difference::Content(text));
    }
    let (seconds, nanoseconds) = (
        open.file.mtime_seconds.get(),
        open.file.mtime_nanoseconds.get(),
    );
    if (seconds, nanoseconds) != (status.mtime_seconds, status.mtime_nanoseconds) {
        let text = format!(
            "changed at {}.{:09} here, at {seconds}.{nanoseconds:09} on the source",
            status.mtime_seconds, status.mtime_nanoseconds
        );
        return Some(Difference::Content(text));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use pmig_wire::file::open;
    use pmig_wire::file::File;
    use zerocopy::FromZeros;

    fn regular(flags: u32) -> (OpenFile, Status) {
        let mut file = File::new_zeroed();
        file.kind.set(FileKind::Regular as u16);
        file.flags.set(flags);
        file.mode.set(libc::S_IFREG | 0o644);
        file.size.set(10);
        file.mtime_seconds.set(100);
        let status = Status {
            mode: libc::S_IFREG | 0o600,
            size: 10,
            mtime_seconds: 100,
            ..Status::default()
        };
        let path = b"/x".to_vec();
        (OpenFile { file, path }, status)
    }

    #[test]
    fn permissions_do_not_make_another_file() {
        let (open, status) = regular(open::READ);
        assert_eq!(compare(&open, &status, Moment::Frozen), None);
    }

    #[test]
    fn another_size_or_time_makes_another_file() {
        let (open, mut status) = regular(open::READ);
        status.size = 11;
        assert!(compare(&open, &status, Moment::Running).is_some());
        status.size = 10;
        status.mtime_nanoseconds = 1;
        assert!(compare(&open, &status, Moment::Running).is_some());
    }

    #[test]
    fn what_a_running_process_writes_may_differ() {
        let (open, mut status) = regular(open::READ | open::WRITE);
        status.size = 11;
        assert_eq!(compare(&open, &status, Moment::Running), None);
        assert!(compare(&open, &status, Moment::Frozen).is_some());
    }

    #[test]
    fn a_directory_is_no_file() {
        let (open, mut status) = regular(open::READ | open::WRITE);
        status.mode = libc::S_IFDIR | 0o755;
        let Some(Difference::Kind(_)) = compare(&open, &status, Moment::Running) else {
            panic!("not noticed");
        };
    }
}

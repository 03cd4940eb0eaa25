// SPDX-License-Identifier: GPL-2.0
//! Files and pipes.

use super::answer;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::ptr;

/// What identifies a file and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Type and permissions.
    pub mode: u32,
    /// Device of the inode, in the encoding of `makedev(3)`.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Device that a device file stands for.
    pub special: u64,
    /// Time of the last change of the content, seconds.
    pub mtime_seconds: i64,
    /// Its nanoseconds.
    pub mtime_nanoseconds: u32,
}

/// Bytes of the kernel's `struct statx`.
pub const STATX_SIZE: usize = size_of::<libc::statx>();
/// What `statx` is asked for.
pub const STATX_MASK: u32 = libc::STATX_BASIC_STATS;
/// `statx` of a descriptor, with what a network file system's server says now.
pub const STATX_FLAGS: i32 = libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC;

impl From<&libc::statx> for Status {
    fn from(status: &libc::statx) -> Self {
        Self {
            mode: status.stx_mode.into(),
            device: libc::makedev(status.stx_dev_major, status.stx_dev_minor),
            inode: status.stx_ino,
            size: status.stx_size,
            special: libc::makedev(status.stx_rdev_major, status.stx_rdev_minor),
            mtime_seconds: status.stx_mtime.tv_sec,
            mtime_nanoseconds: status.stx_mtime.tv_nsec,
        }
    }
}

impl Status {
    /// From the bytes of a `struct statx`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < STATX_SIZE {
            return None;
        }
        // SAFETY: long enough, and every pattern of bytes is a valid `statx`.
        let status = unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<libc::statx>()) };
        Some(Self::from(&status))
    }

    /// The type alone.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
}

fn statx(directory: i32, path: &CStr, flags: i32) -> io::Result<Status> {
    // SAFETY: a structure of integers.
    let mut status: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, the structure lives as long as the call.
    let result = unsafe { libc::statx(directory, path.as_ptr(), flags, STATX_MASK, &mut status) };
    answer(result.into())?;
    Ok(Status::from(&status))
}

/// The status of what `path` leads to, or of the symbolic link that it is.
pub fn status_of_path(path: &CStr, follow: bool) -> io::Result<Status> {
    let link = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    statx(libc::AT_FDCWD, path, libc::AT_STATX_FORCE_SYNC | link)
}

/// The status of an open file.
pub fn status_of(file: BorrowedFd<'_>) -> io::Result<Status> {
    statx(file.as_raw_fd(), c"", STATX_FLAGS)
}

/// A pipe: the end to read from and the end to write to. Neither blocks.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    answer(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }.into())?;
    // SAFETY: the kernel has just made these descriptors for us.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// The capacity of a pipe in bytes.
pub fn pipe_size(pipe: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: no memory is passed.
    let size = answer(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) }.into())?;
    Ok(size as u64)
}

/// Sets the capacity of a pipe in bytes.
pub fn set_pipe_size(pipe: BorrowedFd<'_>, size: u64) -> io::Result<()> {
    let size = libc::c_int::try_from(size).map_err(io::Error::other)?;
    // SAFETY: no memory is passed.
    answer(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, size) }.into())?;
    Ok(())
}

/// How many bytes wait in a pipe.
pub fn pipe_waiting(pipe: BorrowedFd<'_>) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD stores one int.
    answer(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &mut count) }.into())?;
    Ok(count as u64)
}

/// Copies what waits in the pipe `from` to the pipe `to` without consuming it. Returns the number of bytes.
pub fn tee(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    // SAFETY: no memory is passed.
    let count = answer(unsafe {
        libc::tee(
            from.as_raw_fd(),
            to.as_raw_fd(),
            most,
            libc::SPLICE_F_NONBLOCK,
        )
    } as libc::c_long)?;
    Ok(count as usize)
}

/// Reads into `buffer`.
pub fn read(from: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer has this many bytes.
    let count =
        answer(
            unsafe { libc::read(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
                as libc::c_long,
        )?;
    Ok(count as usize)
}

/// Lets a timerfd count the expirations that it has not counted yet, and set itself to the next one. Whoever reads it gets the
/// same as without (`timerfd_gettime(2)`).
pub fn settle_timer(timer: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a structure of integers.
    let mut now: libc::itimerspec = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives as long as the call.
    answer(unsafe { libc::timerfd_gettime(timer.as_raw_fd(), &mut now) }.into())?;
    Ok(())
}

/// Writes an open file's data and size out to storage.
pub fn sync(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    answer(unsafe { libc::fsync(file.as_raw_fd()) }.into())?;
    Ok(())
}

/// The next byte at or behind `offset` that holds data (`hole` false) or none (`hole` true); `None` at the end.
pub fn seek_content(file: BorrowedFd<'_>, offset: u64, hole: bool) -> io::Result<Option<u64>> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let whence = if hole {
        libc::SEEK_HOLE
    } else {
        libc::SEEK_DATA
    };
    // SAFETY: no memory is passed.
    match answer(unsafe { libc::lseek(file.as_raw_fd(), offset, whence) }) {
        Ok(found) => Ok(Some(found as u64)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a mount forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountFlags {
    /// Writing.
    pub read_only: bool,
    /// Executing.
    pub no_exec: bool,
}

/// What the mount that `path` is on forbids.
pub fn mount_flags(path: &CStr) -> io::Result<MountFlags> {
    // SAFETY: a structure of integers.
    let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, the structure lives as long as the call.
    answer(unsafe { libc::statvfs(path.as_ptr(), &mut status) }.into())?;
    Ok(MountFlags {
        read_only: status.f_flag & libc::ST_RDONLY != 0,
        no_exec: status.f_flag & libc::ST_NOEXEC != 0,
    })
}

/// Whether the file cannot be opened for writing because it is being executed. Opens it for a moment, and changes nothing.
pub fn is_busy(path: &CStr) -> bool {
    let flags =
        libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: the path ends with a zero.
    match answer(unsafe { libc::open(path.as_ptr(), flags) }.into()) {
        Ok(fd) => {
            // SAFETY: the kernel has just made this descriptor for us.
            drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
            false
        }
        Err(error) => error.raw_os_error() == Some(libc::ETXTBSY),
    }
}

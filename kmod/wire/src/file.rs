// SPDX-License-Identifier: GPL-2.0
//! Open files, the descriptors that name them, and what pipes hold.

use crate::record::payload;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// What an open file is. The number on the wire never changes its meaning; 0 is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum FileKind {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// An anonymous pipe.
    Pipe = 3,
    /// A named pipe.
    Fifo = 4,
    /// `/dev/null`, `zero`, `full`, `random`, `urandom`: state-less character devices, opened again by path.
    MemoryDevice = 5,
    /// A terminal.
    Terminal = 6,
    /// Any other character device.
    CharDevice = 7,
    /// A block device.
    BlockDevice = 8,
    /// A socket.
    Socket = 9,
    /// epoll.
    Epoll = 10,
    /// eventfd.
    Eventfd = 11,
    /// signalfd.
    Signalfd = 12,
    /// timerfd.
    Timerfd = 13,
    /// inotify.
    Inotify = 14,
    /// fanotify.
    Fanotify = 15,
    /// userfaultfd.
    Userfaultfd = 16,
    /// io_uring.
    IoUring = 17,
    /// pidfd.
    Pidfd = 18,
    /// Performance event.
    PerfEvent = 19,
    /// BPF object.
    Bpf = 20,
    /// memfd or another file without a name on tmpfs, and the kernel's own shared anonymous memory.
    Memfd = 21,
    /// A file of procfs, sysfs or another file system whose content is made by the kernel.
    Kernel = 22,
    /// POSIX message queue.
    MessageQueue = 23,
    /// A symbolic link or anything else opened with `O_PATH`.
    Path = 24,
    /// Anything else.
    Other = 25,
}

impl FileKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [FileKind; 25] = [
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Pipe,
        FileKind::Fifo,
        FileKind::MemoryDevice,
        FileKind::Terminal,
        FileKind::CharDevice,
        FileKind::BlockDevice,
        FileKind::Socket,
        FileKind::Epoll,
        FileKind::Eventfd,
        FileKind::Signalfd,
        FileKind::Timerfd,
        FileKind::Inotify,
        FileKind::Fanotify,
        FileKind::Userfaultfd,
        FileKind::IoUring,
        FileKind::Pidfd,
        FileKind::PerfEvent,
        FileKind::Bpf,
        FileKind::Memfd,
        FileKind::Kernel,
        FileKind::MessageQueue,
        FileKind::Path,
        FileKind::Other,
    ];

    /// The kind with this number on the wire.
    pub fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// Properties of an open file. Bits of [`File::flags`].
pub mod open {
    /// Opened for reading.
    pub const READ: u32 = 1 << 0;
    /// Opened for writing.
    pub const WRITE: u32 = 1 << 1;
    /// `O_APPEND`
    pub const APPEND: u32 = 1 << 2;
    /// `O_NONBLOCK`
    pub const NONBLOCK: u32 = 1 << 3;
    /// `O_DIRECT`; packet mode on a pipe.
    pub const DIRECT: u32 = 1 << 4;
    /// `O_SYNC`
    pub const SYNC: u32 = 1 << 5;
    /// `O_DSYNC`
    pub const DSYNC: u32 = 1 << 6;
    /// `O_NOATIME`
    pub const NOATIME: u32 = 1 << 7;
    /// `O_PATH`
    pub const PATH: u32 = 1 << 8;
    /// `O_DIRECTORY`
    pub const DIRECTORY: u32 = 1 << 9;
    /// `O_NOFOLLOW`
    pub const NOFOLLOW: u32 = 1 << 10;
    /// `O_ASYNC`
    pub const ASYNC: u32 = 1 << 11;
    /// `O_TMPFILE`
    pub const TMPFILE: u32 = 1 << 12;
    /// The name that [`super::File`] carries no longer leads to the file: it was deleted or covered.
    pub const UNLINKED: u32 = 1 << 16;
    /// Signals somebody (`F_SETOWN`) when input is ready.
    pub const OWNER: u32 = 1 << 17;
    /// The process holds a lock or a lease on the file, through this open file or another.
    pub const LOCKED: u32 = 1 << 18;
    /// Not readable by the path that the file system shows: the path is longer than the kernel's limit.
    pub const NO_PATH: u32 = 1 << 19;
    /// No descriptor: known only as an executable, a directory or a mapping.
    pub const NOT_A_DESCRIPTOR: u32 = 1 << 20;
}

/// One open file (an open file description), however many descriptors and mappings name it. The tail is its path as seen
/// from the initial root, without a terminating zero; empty for what has none.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct File {
    /// Names the open file within its stream; never 0.
    pub id: U32,
    /// A [`FileKind`].
    pub kind: U16,
    /// Zero.
    pub reserved: U16,
    /// See [`open`].
    pub flags: U32,
    /// Type and permissions as `st_mode`.
    pub mode: U32,
    /// The file position, bytes; the cookie of a directory.
    pub position: U64,
    /// Device of the inode as `st_dev`, in the encoding of `makedev(3)`.
    pub device: U64,
    /// Inode number as `st_ino`. With [`File::device`] it says which pipes are the same.
    pub inode: U64,
    /// Size in bytes.
    pub size: U64,
    /// Time of the last change of the content, seconds.
    pub mtime_seconds: I64,
    /// Its nanoseconds.
    pub mtime_nanoseconds: U32,
    /// References to the open file (or, for a pipe, to an end of it) held by others than this process.
    pub outside: U32,
    /// Device number of a device file as `st_rdev`; capacity of a pipe in bytes.
    pub special: U64,
}
const _: () = assert!(size_of::<File>() == 72);
payload!(File, File, tail = true, reserved = reserved);

/// Closed by a successful `execve`. A bit of [`Descriptor::flags`].
pub const DESCRIPTOR_CLOEXEC: u32 = 1;

/// One file descriptor.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Descriptor {
    /// Its number.
    pub fd: U32,
    /// Identity of the [`File`].
    pub file: U32,
    /// [`DESCRIPTOR_CLOEXEC`].
    pub flags: U32,
}
payload!(Descriptor, Descriptor);

/// Some of the bytes that wait in a pipe. The tail is the bytes; several records of one pipe follow each other in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PipeData {
    /// Inode number of the pipe, as in [`File::inode`].
    pub inode: U64,
}
payload!(PipeData, PipeData, tail = true);

/// What a lock is and to whom it belongs. The number on the wire never changes its meaning; 0 is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum LockKind {
    /// Of a part of the file, the process's (`F_SETLK`).
    Process = 1,
    /// Of the whole file, the open file's (`flock`).
    Whole = 2,
    /// Of a part of the file, the open file's (`F_OFD_SETLK`).
    OpenFile = 3,
    /// A lease, or what pmig does not know.
    Other = 4,
}

impl LockKind {
    /// The kind with this number on the wire.
    pub fn from_wire(number: u32) -> Option<Self> {
        [Self::Process, Self::Whole, Self::OpenFile, Self::Other]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// One lock. The agent reads them; the module says only which files have any.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct FileLock {
    /// Identity of the [`File`] through which it was taken.
    pub file: U32,
    /// A [`LockKind`].
    pub kind: U32,
    /// 1 if nobody else may hold one, 0 if others may hold such as well.
    pub exclusive: U32,
    /// Zero.
    pub reserved: U32,
    /// First byte.
    pub start: U64,
    /// Last byte; [`u64::MAX`] for the end of the file, wherever that is.
    pub last: U64,
}
const _: () = assert!(size_of::<FileLock>() == 32);
payload!(FileLock, FileLock, reserved = reserved);

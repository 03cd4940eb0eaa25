// SPDX-License-Identifier: GPL-2.0

//! Open files: which there are, what they are, who else holds them.

use super::Records;
use crate::kx::file;
use crate::kx::file::Attributes;
use crate::kx::file::DirectoryRef;
use crate::kx::file::FileRef;
use crate::kx::mm::Mm;
use crate::kx::task::Task;
use kernel::bindings;
use kernel::prelude::*;
use kernel::rbtree::RBTree;
use pmig_wire::file::open;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileKind;
use pmig_wire::file::DESCRIPTOR_CLOEXEC;
use pmig_wire::mm::vma;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromZeros;

/// Identity of the first directory that is no open file; open files count from 1.
const FIRST_PLACE: u32 = 0x8000_0000;

/// The longest path that a record carries, bytes.
const MAX_PATH: usize = 4096;

/// An open file that was come across.
struct Known {
    file: FileRef,
    /// How many descriptors and mappings of the process hold it.
    held: usize,
    is_descriptor: bool,
}

/// A directory that is no open file.
struct Place {
    directory: DirectoryRef,
    id: u32,
}

/// Collects the open files of one process.
pub(super) struct Files {
    task: Task,
    /// How many references the calls that the process is in may hold.
    calls: usize,
    known: KVVec<Known>,
    ids: RBTree<usize, u32>,
    /// How many open files of each pipe are known.
    pipes: RBTree<usize, u32>,
    places: KVec<Place>,
}

/// File systems whose files the kernel makes up as they are read (include/uapi/linux/magic.h).
const KERNEL_FILE_SYSTEMS: [u64; 9] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0xcafe_4a11, // bpf
    0x7363_6673, // securityfs
    0x6e73_6673, // nsfs
    0xde5e_81e4, // efivarfs
];
const MQUEUE: u64 = 0x1980_0202;
const PIDFS: u64 = 0x5049_4446;
const PIPEFS: u64 = 0x5049_5045;
const TMPFS: u64 = 0x0102_1994;

/// What an anonymous inode is, by the name that the kernel gave it.
const ANONYMOUS: [(&[u8], FileKind); 11] = [
    (b"anon_inode:[eventpoll]", FileKind::Epoll),
    (b"anon_inode:[eventfd]", FileKind::Eventfd),
    (b"anon_inode:[signalfd]", FileKind::Signalfd),
    (b"anon_inode:[timerfd]", FileKind::Timerfd),
    (b"anon_inode:inotify", FileKind::Inotify),
    (b"anon_inode:[fanotify]", FileKind::Fanotify),
    (b"anon_inode:[userfaultfd]", FileKind::Userfaultfd),
    (b"anon_inode:[io_uring]", FileKind::IoUring),
    (b"anon_inode:[pidfd]", FileKind::Pidfd),
    (b"anon_inode:[perf_event]", FileKind::PerfEvent),
    (b"anon_inode:bpf", FileKind::Bpf),
];

/// Character devices of the memory driver that have no state (drivers/char/mem.c): null, zero, full, random, urandom.
const MEMORY_MAJOR: u64 = 1;
const STATELESS_MINORS: [u64; 5] = [3, 5, 7, 8, 9];

fn character_device(special: u64) -> FileKind {
    let major = (special >> 8) & 0xfff;
    let minor = (special & 0xff) | ((special >> 12) & 0xfff00);
    match major {
        MEMORY_MAJOR if STATELESS_MINORS.contains(&minor) => FileKind::MemoryDevice,
        // tty, console, virtual consoles, ptmx, pseudo terminals, serial lines (Documentation/admin-guide/devices.txt).
        4 | 5 | 136..=143 | 204 => FileKind::Terminal,
        _ => FileKind::CharDevice,
    }
}

/// Whether the kernel made up the name of an unlinked file of tmpfs: it never had one (mm/shmem.c, mm/memfd.c, ipc/shm.c).
fn is_nameless(name: &[u8]) -> bool {
    name == b"/dev/zero" || name.starts_with(b"/memfd:") || name.starts_with(b"/SYSV")
}

fn kind_of(attributes: &Attributes, name: &[u8], unlinked: bool, flags: u32) -> FileKind {
    if flags & bindings::O_PATH != 0 {
        return FileKind::Path;
    }
    if attributes.magic == PIDFS {
        return FileKind::Pidfd;
    }
    for (prefix, kind) in ANONYMOUS {
        if name.starts_with(prefix) {
            return kind;
        }
    }
    if attributes.magic == MQUEUE {
        return FileKind::MessageQueue;
    }
    if KERNEL_FILE_SYSTEMS.contains(&attributes.magic) {
        return FileKind::Kernel;
    }
    match attributes.mode & bindings::S_IFMT {
        bindings::S_IFREG if attributes.magic == TMPFS && unlinked && is_nameless(name) => {
            FileKind::Memfd
        }
        bindings::S_IFREG => FileKind::Regular,
        bindings::S_IFDIR => FileKind::Directory,
        bindings::S_IFIFO if attributes.magic == PIPEFS => FileKind::Pipe,
        bindings::S_IFIFO => FileKind::Fifo,
        bindings::S_IFCHR => character_device(attributes.special),
        bindings::S_IFBLK => FileKind::BlockDevice,
        bindings::S_IFSOCK => FileKind::Socket,
        _ => FileKind::Other,
    }
}

fn flags_of(file: &FileRef) -> u32 {
    const SAME: [(u32, u32); 9] = [
        (bindings::O_APPEND, open::APPEND),
        (bindings::O_NONBLOCK, open::NONBLOCK),
        (bindings::O_DIRECT, open::DIRECT),
        (bindings::O_DSYNC, open::DSYNC),
        (bindings::O_NOATIME, open::NOATIME),
        (bindings::O_PATH, open::PATH),
        (bindings::O_DIRECTORY, open::DIRECTORY),
        (bindings::O_NOFOLLOW, open::NOFOLLOW),
        (bindings::FASYNC, open::ASYNC),
    ];
    let flags = file.open_flags();
    let mut wire = 0;
    for (kernel, ours) in SAME {
        if flags & kernel != 0 {
            wire |= ours;
        }
    }
    // O_SYNC and O_TMPFILE are more than one bit.
    if flags & bindings::O_SYNC == bindings::O_SYNC {
        wire |= open::SYNC;
    }
    if flags & bindings::O_TMPFILE == bindings::O_TMPFILE {
        wire |= open::TMPFILE;
    }
    let mode = file.mode();
    if mode & 1 != 0 {
        wire |= open::READ;
    }
    if mode & 2 != 0 {
        wire |= open::WRITE;
    }
    if file.has_owner() {
        wire |= open::OWNER;
    }
    wire
}

fn fill(record: &mut File, attributes: &Attributes) {
    record.mode = U32::new(attributes.mode);
    record.device = U64::new(attributes.device);
    record.inode = U64::new(attributes.inode);
    record.size = U64::new(attributes.size);
    record.mtime_seconds = I64::new(attributes.mtime_seconds);
    record.mtime_nanoseconds = U32::new(attributes.mtime_nanoseconds);
    record.special = U64::new(attributes.special);
}

fn empty_record(id: u32) -> File {
    let mut record = File::new_zeroed();
    record.id = U32::new(id);
    record
}

impl Files {
    /// A collection for the process that `leader` leads.
    pub(super) fn new(leader: &Task, is_frozen: bool) -> Result<Self> {
        let calls = match is_frozen {
            true => 0,
            false => leader.calls_with_files()?,
        };
        Ok(Self {
            task: leader.clone(),
            calls,
            known: KVVec::new(),
            ids: RBTree::new(),
            pipes: RBTree::new(),
            places: KVec::new(),
        })
    }

    /// Makes an open file known. Identities of open files are their place in `known`, plus one.
    fn know(&mut self, file: FileRef, held: usize, is_descriptor: bool) -> Result<u32> {
        let key = file.key();
        if let Some(id) = self.ids.get(&key).copied() {
            if let Some(known) = self.entry(id) {
                known.held = known.held.saturating_add(held);
                known.is_descriptor |= is_descriptor;
            }
            return Ok(id);
        }
        let id = u32::try_from(self.known.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        self.ids.try_create_and_insert(key, id, GFP_KERNEL)?;
        if let Some(pipe) = file.pipe() {
            let ends = self.pipes.get(&pipe.key).copied().unwrap_or(0);
            self.pipes
                .try_create_and_insert(pipe.key, ends.saturating_add(1), GFP_KERNEL)?;
        }
        self.known.push(
            Known {
                file,
                held,
                is_descriptor,
            },
            GFP_KERNEL,
        )?;
        Ok(id)
    }

    fn entry(&mut self, id: u32) -> Option<&mut Known> {
        self.known.get_mut((id as usize).checked_sub(1)?)
    }

    /// Makes the file of a mapping known. Returns its identity and what it means for the mapping's flags.
    pub(super) fn mapped(&mut self, file: FileRef) -> Result<(u32, u64)> {
        let mut buffer = [0; 64];
        let flags = match file.name(&mut buffer) {
            // The kernel's own names for shared anonymous memory and System V segments (mm/shmem.c, ipc/shm.c).
            Ok((b"/dev/zero", true)) => vma::SHARED_ANONYMOUS,
            Ok((name, true)) if name.starts_with(b"/SYSV") => vma::SYSV,
            _ => 0,
        };
        Ok((self.know(file, 1, false)?, flags))
    }

    /// Whether others than the process hold an open file of which all mappings are known.
    pub(super) fn has_outsiders(&self, id: u32) -> bool {
        let index = (id as usize).wrapping_sub(1);
        self.known
            .get(index)
            .is_some_and(|known| self.outside(known) > 0)
    }

    /// Describes all descriptors, and makes their files known.
    pub(super) fn descriptors(&mut self, records: &mut Records) -> Result {
        let mut fd = 0;
        while let Some(file) = FileRef::next_of(&self.task, &mut fd) {
            let flags = if file::close_on_exec(&self.task, fd) {
                DESCRIPTOR_CLOEXEC
            } else {
                0
            };
            let id = self.know(file, 1, true)?;
            records.add(&Descriptor {
                fd: U32::new(fd),
                file: U32::new(id),
                flags: U32::new(flags),
            })?;
            fd = fd.saturating_add(1);
        }
        Ok(())
    }

    /// Makes the executable known.
    pub(super) fn executable(&mut self, mm: &Mm) -> Result<u32> {
        match mm.executable() {
            Some(file) => self.know(file, 1, false),
            None => Ok(0),
        }
    }

    fn place(&mut self, directory: Option<DirectoryRef>) -> Result<u32> {
        let Some(directory) = directory else {
            return Ok(0);
        };
        let id = FIRST_PLACE.saturating_add(u32::try_from(self.places.len()).unwrap_or(0));
        self.places.push(Place { directory, id }, GFP_KERNEL)?;
        Ok(id)
    }

    /// Makes the working directory known.
    pub(super) fn working_directory(&mut self) -> Result<u32> {
        self.place(DirectoryRef::working(&self.task))
    }

    /// Makes the root directory known.
    pub(super) fn root_directory(&mut self) -> Result<u32> {
        self.place(DirectoryRef::root(&self.task))
    }

    /// References to an open file that the process does not hold itself.
    fn outside(&self, known: &Known) -> usize {
        // One reference is the collection's own, and while the process runs, its calls hold some.
        let calls = if known.is_descriptor { self.calls } else { 0 };
        let excess = known
            .file
            .references()
            .saturating_sub(known.held)
            .saturating_sub(1);
        if excess <= calls {
            0
        } else {
            excess
        }
    }

    fn describe_file(
        &self,
        records: &mut Records,
        id: u32,
        known: &Known,
        buffer: &mut [u8],
    ) -> Result {
        let attributes = known.file.attributes()?;
        let mut record = empty_record(id);
        fill(&mut record, &attributes);
        let mut flags = flags_of(&known.file);
        let (name, unlinked) = match known.file.name(buffer) {
            Ok(name) => name,
            Err(_) => {
                flags |= open::NO_PATH;
                (&[][..], false)
            }
        };
        let kind = kind_of(&attributes, name, unlinked, known.file.open_flags());
        let is_named =
            !matches!(kind, FileKind::Pipe | FileKind::Socket) && !name.starts_with(b"anon_inode:");
        if unlinked && is_named {
            flags |= open::UNLINKED;
        }
        if !known.is_descriptor {
            flags |= open::NOT_A_DESCRIPTOR;
        }
        if known.file.has_locks(&self.task) {
            flags |= open::LOCKED;
        }
        let mut outside = self.outside(known);
        if let Some(pipe) = known.file.pipe() {
            record.special = U64::new(pipe.capacity);
            let inside = self.pipes.get(&pipe.key).copied().unwrap_or(0);
            outside = outside.saturating_add(pipe.files.saturating_sub(inside) as usize);
        }
        record.kind = U16::new(kind as u16);
        record.flags = U32::new(flags);
        record.position = U64::new(known.file.position());
        record.outside = U32::new(u32::try_from(outside).unwrap_or(u32::MAX));
        let tail = if is_named { name } else { &[] };
        records.add_with_tail(&record, tail)
    }

    /// Describes all files that became known.
    pub(super) fn finish(&mut self, records: &mut Records) -> Result {
        let mut buffer = KVec::from_elem(0u8, MAX_PATH, GFP_KERNEL)?;
        for (index, known) in self.known.iter().enumerate() {
            let id = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            self.describe_file(records, id, known, &mut buffer)?;
        }
        for place in self.places.iter() {
            let mut record = empty_record(place.id);
            fill(&mut record, &place.directory.attributes()?);
            let mut flags = open::NOT_A_DESCRIPTOR | open::READ;
            let name = match place.directory.name(&mut buffer) {
                Ok((name, unlinked)) => {
                    if unlinked {
                        flags |= open::UNLINKED;
                    }
                    name
                }
                Err(_) => {
                    flags |= open::NO_PATH;
                    &[]
                }
            };
            record.kind = U16::new(FileKind::Directory as u16);
            record.flags = U32::new(flags);
            records.add_with_tail(&record, name)?;
        }
        Ok(())
    }
}

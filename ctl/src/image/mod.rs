// SPDX-License-Identifier: GPL-2.0
//! A process as owned values, read from and written to a record stream.
//!
//! An [`Image`] is what one module exported of one process, decoded once and checked once: every reference resolves,
//! counts are bounded, mappings are in order and disjoint. The code behind it can rely on that and never looks at the
//! bytes of a peer again.
#![forbid(unsafe_code)]

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod validate;

use pmig_wire::cred::Credentials;
use pmig_wire::event::EpollEntry;
use pmig_wire::event::Eventfd;
use pmig_wire::event::Signalfd;
use pmig_wire::event::Timerfd;
use pmig_wire::file::open;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileKind;
use pmig_wire::file::FileLock;
use pmig_wire::mm::vma;
use pmig_wire::mm::Memory;
use pmig_wire::mm::Vma;
use pmig_wire::process::facts;
use pmig_wire::process::Clocks;
use pmig_wire::process::Limits;
use pmig_wire::process::Namespaces;
use pmig_wire::process::Process;
use pmig_wire::record::DecodeError;
use pmig_wire::record::Kind;
use pmig_wire::signal::Action;
use pmig_wire::signal::Pending;
use pmig_wire::thread::Placement;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Restart;
use pmig_wire::thread::Thread;
use pmig_wire::timer::IntervalTimer;
use pmig_wire::timer::PosixTimer;
use std::collections::HashMap;
use std::ops::Range;
use zerocopy::FromZeros;

pub use encode::chunks;

/// The most mappings of one process.
pub const MAX_VMAS: usize = 1 << 20;
/// The most open files, and the most descriptors, of one process.
pub const MAX_FILES: usize = 1 << 20;
/// The most threads of one process: `PID_MAX_LIMIT` on 64 bits is 1 << 22.
pub const MAX_THREADS: usize = 1 << 18;
/// The most signals that wait.
pub const MAX_PENDING: usize = 1 << 20;
/// The most bytes that wait in the pipes of one process.
pub const MAX_PIPE_BYTES: usize = 1 << 30;
/// The most locks of one process.
pub const MAX_LOCKS: usize = 1 << 20;
/// The most POSIX timers of one process.
pub const MAX_TIMERS: usize = 1 << 20;
/// The most entries of all epoll sets of one process.
pub const MAX_EPOLL_ENTRIES: usize = 1 << 20;
/// The end of the addresses that a program gets without asking for more than 47 bits.
pub const ADDRESS_END: u64 = (1 << 47) - pmig_wire::PAGE_SIZE;

/// Why a record stream is not the image of a process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The bytes are not records.
    #[error("the record stream is damaged: {0:?}")]
    Decode(DecodeError),
    /// A record of a known kind that an image has no place for.
    #[error("a record of the kind {0:?} has no place in an image")]
    Unconsumed(Kind),
    /// A record that every image needs is not there.
    #[error("the record {0:?} is missing")]
    Missing(Kind),
    /// Two records say what only one can say.
    #[error("the record {0:?} of {1} comes twice")]
    Duplicate(Kind, u64),
    /// More records of a kind than an image may have.
    #[error("too many records of the kind {0:?}")]
    TooMany(Kind),
    /// A record names something that no other record describes.
    #[error("the record {kind:?} of {object:#x} refers to {target:?} {reference}, which is not in the image")]
    Unresolved {
        /// The record that refers.
        kind: Kind,
        /// Which one of its kind.
        object: u64,
        /// What it refers to.
        target: Kind,
        /// By which number.
        reference: u64,
    },
    /// A value that cannot be.
    #[error("the record {kind:?} of {object:#x} is invalid: {reason}")]
    Invalid {
        /// The record.
        kind: Kind,
        /// Which one of its kind.
        object: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// An open file and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// The fixed part.
    pub file: File,
    /// Its path as seen from the initial root; empty for what has none.
    pub path: Vec<u8>,
}

impl OpenFile {
    /// What it is.
    pub fn kind(&self) -> FileKind {
        FileKind::from_wire(self.file.kind.get()).unwrap_or(FileKind::Other)
    }

    /// Names it within the image.
    pub fn id(&self) -> u32 {
        self.file.id.get()
    }

    /// Whether all of these bits of [`open`] are set.
    pub fn has(&self, flags: u32) -> bool {
        self.file.flags.get() & flags == flags
    }

    /// Whether it can be written through.
    pub fn is_writable(&self) -> bool {
        self.has(open::WRITE)
    }

    /// The path for a message.
    pub fn display(&self) -> String {
        if self.path.is_empty() {
            format!("{:?} {}", self.kind(), self.file.inode.get())
        } else {
            String::from_utf8_lossy(&self.path).into_owned()
        }
    }
}

/// Some of the bytes that wait in a pipe; one packet of a pipe in packet mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipeBytes {
    /// Inode number of the pipe, as in [`File::inode`].
    pub inode: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// One register set of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterSet {
    /// Which.
    pub registers: Registers,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The credentials of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadCredentials {
    /// The fixed part.
    pub credentials: Credentials,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Where a thread runs and how its input and output are ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadPlacement {
    /// The fixed part.
    pub placement: Placement,
    /// The CPUs, as [`Placement`] says; empty for all.
    pub cpus: Vec<u8>,
}

/// All that is known of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadImage {
    /// The fixed part.
    pub thread: Thread,
    /// Its register sets; none in a survey of a running process.
    pub registers: Vec<RegisterSet>,
    /// The call it was in; none in a survey of a running process.
    pub restart: Option<Restart>,
    /// Its own credentials, if they are not those of the leader.
    pub credentials: Option<ThreadCredentials>,
    /// Where it runs; none in a survey of a thread that runs anywhere.
    pub placement: Option<ThreadPlacement>,
}

impl ThreadImage {
    /// TID in the process's own PID namespace.
    pub fn tid(&self) -> u32 {
        self.thread.tid.get()
    }
}

/// Which descriptors and mappings belong to which open file.
#[derive(Debug, Default)]
pub struct Uses<'a> {
    descriptors: HashMap<u32, Vec<&'a Descriptor>>,
    vmas: HashMap<u32, Vec<&'a Vma>>,
}

impl<'a> Uses<'a> {
    /// The descriptors that name the open file `id`.
    pub fn descriptors(&self, id: u32) -> &[&'a Descriptor] {
        self.descriptors.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The mappings of the open file `id`.
    pub fn vmas(&self, id: u32) -> &[&'a Vma] {
        self.vmas.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Whether anything names the open file `id`.
    pub fn any(&self, id: u32) -> bool {
        !self.descriptors(id).is_empty() || !self.vmas(id).is_empty()
    }
}

/// The one of a list, in ascending order of files, that belongs to the open file `id`.
fn of_file<T>(list: &[T], id: u32, file: impl Fn(&T) -> u32) -> Option<&T> {
    let index = list.binary_search_by_key(&id, file).ok()?;
    list.get(index)
}

/// All that is known of one process, except the contents of its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The process itself.
    pub process: Process,
    /// Resource limits.
    pub limits: Limits,
    /// Its clocks.
    pub clocks: Clocks,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// The boundaries of its address space.
    pub memory: Memory,
    /// The auxiliary vector.
    pub auxv: Vec<u8>,
    /// Mappings in ascending order.
    pub vmas: Vec<Vma>,
    /// Open files in ascending order of their identity.
    pub files: Vec<OpenFile>,
    /// Descriptors in ascending order.
    pub descriptors: Vec<Descriptor>,
    /// What waits in the pipes, in order for each pipe.
    pub pipe_data: Vec<PipeBytes>,
    /// What the eventfds hold, in ascending order of their files.
    pub eventfds: Vec<Eventfd>,
    /// What the signalfds wait for, likewise.
    pub signalfds: Vec<Signalfd>,
    /// How the timerfds are set, likewise.
    pub timerfds: Vec<Timerfd>,
    /// What the epoll sets watch.
    pub epoll_entries: Vec<EpollEntry>,
    /// Locks that are held.
    pub locks: Vec<FileLock>,
    /// Threads, the leader first.
    pub threads: Vec<ThreadImage>,
    /// Signal actions other than the default.
    pub actions: Vec<Action>,
    /// Signals that wait, in the order of their queues.
    pub pending: Vec<Pending>,
    /// Timers of `setitimer` that are set.
    pub interval_timers: Vec<IntervalTimer>,
    /// Timers of `timer_create`.
    pub posix_timers: Vec<PosixTimer>,
}

impl Image {
    /// Reads an image from a whole record stream and checks it.
    pub fn from_records(bytes: &[u8]) -> Result<Self, ImageError> {
        let image = decode::decode(bytes)?;
        validate::validate(&image)?;
        Ok(image)
    }

    /// The record stream of the image.
    pub fn to_records(&self) -> Vec<u8> {
        encode::encode(self)
    }

    /// The records that the module gives to a vessel: threads, registers, restarts, pending signals, timers. `host_tid`
    /// says which thread of this host a thread of the image has become; none if it does not know one.
    pub fn restore_records(&self, host_tid: impl Fn(u32) -> Option<u32>) -> Option<Vec<u8>> {
        encode::restore_records(self, host_tid)
    }

    /// Checks that nothing is missing that a process needs to go on: a survey of a running process lacks registers.
    pub fn require_complete(&self) -> Result<(), ImageError> {
        validate::require_complete(self)
    }

    /// An image with one mapping-less, file-less process of these numbers, for tests of what works on images.
    pub fn empty(pid: u32) -> Self {
        let mut process = Process::new_zeroed();
        process.pid.set(pid);
        process.host_pid.set(pid);
        process.threads.set(1);
        process.group.set(pid);
        process.session.set(pid);
        process.exit_signal.set(libc::SIGCHLD as u32);
        process.umask.set(0o022);
        process.coredump_filter.set(0x33);
        process.dumpable = 1;
        let mut limits = Limits::new_zeroed();
        for limit in &mut limits.limits {
            limit.current.set(u64::MAX);
            limit.maximum.set(u64::MAX);
        }
        let mut thread = Thread::new_zeroed();
        thread.tid.set(pid);
        thread.host_tid.set(pid);
        let mut credentials = Credentials::new_zeroed();
        credentials.tid.set(pid);
        Self {
            process,
            limits,
            clocks: Clocks::new_zeroed(),
            namespaces: Namespaces::new_zeroed(),
            memory: Memory::new_zeroed(),
            auxv: Vec::new(),
            vmas: Vec::new(),
            files: Vec::new(),
            descriptors: Vec::new(),
            pipe_data: Vec::new(),
            eventfds: Vec::new(),
            signalfds: Vec::new(),
            timerfds: Vec::new(),
            epoll_entries: Vec::new(),
            locks: Vec::new(),
            threads: vec![ThreadImage {
                thread,
                registers: Vec::new(),
                restart: None,
                credentials: Some(ThreadCredentials {
                    credentials,
                    groups: Vec::new(),
                }),
                placement: None,
            }],
            actions: Vec::new(),
            pending: Vec::new(),
            interval_timers: Vec::new(),
            posix_timers: Vec::new(),
        }
    }

    /// PID in the process's own PID namespace.
    pub fn pid(&self) -> u32 {
        self.process.pid.get()
    }

    /// Whether all of these bits of [`facts`] are set.
    pub fn has_fact(&self, fact: u64) -> bool {
        self.process.facts.get() & fact == fact
    }

    /// Whether the process has memory and files of its own: kernel threads and exiting processes have none.
    pub fn is_alive(&self) -> bool {
        self.process.facts.get() & (facts::KERNEL_THREAD | facts::EXITING) == 0
    }

    /// The open file with this identity.
    pub fn file(&self, id: u32) -> Option<&OpenFile> {
        let index = self.files.binary_search_by_key(&id, OpenFile::id).ok()?;
        self.files.get(index)
    }

    /// The open file with this identity, to bring it up to date.
    pub fn file_mut(&mut self, id: u32) -> Option<&mut OpenFile> {
        let index = self.files.binary_search_by_key(&id, OpenFile::id).ok()?;
        self.files.get_mut(index)
    }

    /// What the eventfd with this identity holds.
    pub fn eventfd(&self, id: u32) -> Option<&Eventfd> {
        of_file(&self.eventfds, id, |one| one.file.get())
    }

    /// What the signalfd with this identity waits for.
    pub fn signalfd(&self, id: u32) -> Option<&Signalfd> {
        of_file(&self.signalfds, id, |one| one.file.get())
    }

    /// How the timerfd with this identity is set.
    pub fn timerfd(&self, id: u32) -> Option<&Timerfd> {
        of_file(&self.timerfds, id, |one| one.file.get())
    }

    /// Which descriptors and mappings belong to which open file.
    pub fn uses(&self) -> Uses<'_> {
        let mut uses = Uses::default();
        for descriptor in &self.descriptors {
            uses.descriptors
                .entry(descriptor.file.get())
                .or_default()
                .push(descriptor);
        }
        for vma in self.vmas.iter().filter(|vma| vma.file.get() != 0) {
            uses.vmas.entry(vma.file.get()).or_default().push(vma);
        }
        uses
    }

    /// The credentials of a thread: its own, or those of the leader.
    pub fn credentials_of<'a>(&'a self, thread: &'a ThreadImage) -> Option<&'a ThreadCredentials> {
        thread
            .credentials
            .as_ref()
            .or_else(|| self.threads.first()?.credentials.as_ref())
    }

    /// The addresses that a mapping covers.
    pub fn range(vma: &Vma) -> Range<u64> {
        vma.start.get()..vma.end.get()
    }

    /// Bytes of the mappings whose contents travel, an upper bound of what is in memory.
    pub fn movable_bytes(&self) -> u64 {
        let moves = |flags: u64| flags & (vma::SPECIAL | vma::DEVICE) == 0;
        self.vmas
            .iter()
            .filter(|vma| moves(vma.flags.get()))
            .map(|vma| vma.end.get().saturating_sub(vma.start.get()))
            .fold(0, u64::saturating_add)
    }
}

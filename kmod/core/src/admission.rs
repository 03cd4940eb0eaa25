// SPDX-License-Identifier: GPL-2.0
//! Admission: from what the module says about a process to everything that stands in the way of moving it.
//!
//! All obstacles are reported, never only the first. The same function looks at the survey of a running process and at
//! the capture of a frozen one.

use crate::obstacle::selection;
use crate::obstacle::source as found;
use crate::obstacle::Object;
use crate::obstacle::Obstacle;
use pmig_wire::event::EpollEntry;
use pmig_wire::file::open;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileKind;
use pmig_wire::file::FileLock;
use pmig_wire::file::LockKind;
use pmig_wire::mm::setting;
use pmig_wire::mm::vma;
use pmig_wire::mm::Memory;
use pmig_wire::mm::Vma;
use pmig_wire::process::facts;
use pmig_wire::process::Namespaces;
use pmig_wire::process::Process;
use pmig_wire::record::DecodeError;
use pmig_wire::record::Kind;
use pmig_wire::record::Reader;
use pmig_wire::record::Record;
use pmig_wire::thread::Restart;
use pmig_wire::thread::RestartKind;
use pmig_wire::thread::Thread;

/// What has to be known beside the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The namespaces that count as the host's own: those of its init process.
    pub host: Option<Namespaces>,
    /// The process runs in namespaces that pmig made to keep its PID and its clocks; they are no obstacle.
    pub made_by_pmig: bool,
    /// PID of pmig on this host, 0 if that does not matter.
    pub own_pid: u32,
}

/// What each bit of [`Process::facts`] means for a migration.
pub static FACTS: &[(u64, &Obstacle)] = &[
    (facts::KERNEL_THREAD, &selection::KERNEL_THREAD),
    (facts::INIT, &selection::INIT),
    (facts::CHILDREN, &found::CHILDREN),
    (facts::TRACED, &found::TRACED),
    (facts::TRACER, &found::TRACER),
    (facts::SECCOMP, &found::SECCOMP),
    (facts::COMPAT, &found::COMPAT),
    (facts::MEMORY_SHARED, &found::MEMORY_SHARED),
    (facts::FILES_SHARED, &found::FILES_SHARED),
    (facts::FS_SHARED, &found::FS_SHARED),
    (facts::SIGHAND_SHARED, &found::SIGHAND_SHARED),
    (facts::VFORK_PARENT, &found::VFORK_PARENT),
    (facts::VFORK_CHILD, &found::VFORK_CHILD),
    (facts::IO_URING, &found::IO_URING),
    (facts::AIO, &found::AIO),
    (facts::POSIX_TIMER, &found::POSIX_TIMER),
    (facts::EXITING, &selection::EXITING),
    (facts::LDT, &found::LDT),
    (facts::IO_PORTS, &found::IO_PORTS),
    (facts::BREAKPOINT, &found::BREAKPOINT),
    (facts::SHADOW_STACK, &found::SHADOW_STACK),
    (facts::AMX, &found::AMX),
    (facts::SYSCALL_DISPATCH, &found::SYSCALL_DISPATCH),
    (facts::NUMA_POLICY, &found::NUMA_POLICY),
    (facts::PERF_EVENTS, &found::PERF_EVENTS),
    (facts::PROTECTION_KEYS, &found::PROTECTION_KEYS),
    (facts::TLS_SEGMENTS, &found::TLS_SEGMENTS),
    (facts::CPU_SETTINGS, &found::CPU_SETTINGS),
    (facts::SEM_UNDO, &found::SEM_UNDO),
    (facts::KEYRINGS, &found::KEYRINGS),
    (facts::LSM_LABEL, &found::LSM_LABEL),
    (facts::SCHED_SPECIAL, &found::SCHED_SPECIAL),
    (facts::UPROBES, &found::UPROBES),
    (facts::TERMINAL, &found::TERMINAL),
    (facts::USERFAULTFD, &found::USERFAULTFD),
    (facts::ODD_PARENT, &found::ODD_PARENT),
    (facts::LEADER_EXITED, &found::LEADER_EXITED),
    (facts::SUBREAPER, &found::SUBREAPER),
    (facts::UNKNOWN_MAPPING, &found::UNKNOWN_MAPPING),
    (facts::UNKNOWN_RESTART, &found::UNKNOWN_RESTART),
];

/// What each property of a mapping that is not movable means.
pub static MAPPING_FLAGS: &[(u64, &Obstacle)] = &[
    (vma::HUGETLB, &found::HUGETLB),
    (vma::DEVICE, &found::DEVICE_MEMORY),
    (vma::USERFAULTFD, &found::MAPPING_USERFAULTFD),
    (vma::POLICY, &found::MAPPING_POLICY),
    (vma::PROTECTION_KEY, &found::MAPPING_PROTECTION_KEY),
    (vma::SHADOW_STACK, &found::MAPPING_SHADOW_STACK),
    (vma::SYNC, &found::MAPPING_SYNC),
    (vma::OUTSIDERS, &found::MAPPING_SHARED),
    (vma::UNKNOWN, &found::UNKNOWN_MAPPING),
    (vma::SYSV, &found::MAPPING_SYSV),
    (vma::MAYBE_GUARD, &found::MAPPING_GUARD),
];

/// The properties of a mapping that are rebuilt, or that follow from others.
pub const MOVABLE_MAPPING_FLAGS: u64 = vma::READ
    | vma::WRITE
    | vma::EXEC
    | vma::SHARED
    | vma::GROWSDOWN
    | vma::NORESERVE
    | vma::FILE
    | vma::SHARED_ANONYMOUS
    | vma::SPECIAL
    | vma::LOCKED
    | vma::LOCK_ON_FAULT
    | vma::DONTFORK
    | vma::DONTDUMP
    | vma::WIPEONFORK
    | vma::SEQUENTIAL
    | vma::RANDOM
    | vma::HUGEPAGE
    | vma::NOHUGEPAGE
    | vma::MERGEABLE
    | vma::DROPPABLE
    | vma::SEALED
    | vma::MAY_WRITE
    | vma::ACCOUNT;

/// The properties of an open file that this version knows.
pub const KNOWN_FILE_FLAGS: u32 = open::READ
    | open::WRITE
    | open::APPEND
    | open::NONBLOCK
    | open::DIRECT
    | open::SYNC
    | open::DSYNC
    | open::NOATIME
    | open::PATH
    | open::DIRECTORY
    | open::NOFOLLOW
    | open::ASYNC
    | open::TMPFILE
    | open::UNLINKED
    | open::OWNER
    | open::LOCKED
    | open::NO_PATH
    | open::NOT_A_DESCRIPTOR;

/// What every migration changes, so that it is told without being looked for.
pub static ALWAYS: &[&Obstacle] = &[&found::CPU_TIME_RESTARTS, &found::SESSION_KEYRING];

/// The obstacle that a kind of file is, `None` for a kind that is moved.
pub const fn file_kind(kind: FileKind) -> Option<&'static Obstacle> {
    match kind {
        FileKind::Regular
        | FileKind::Directory
        | FileKind::Pipe
        | FileKind::MemoryDevice
        | FileKind::Epoll
        | FileKind::Eventfd
        | FileKind::Signalfd
        | FileKind::Timerfd => None,
        FileKind::Fifo => Some(&found::FIFO),
        FileKind::Terminal => Some(&found::TERMINAL_FILE),
        FileKind::CharDevice => Some(&found::CHAR_DEVICE),
        FileKind::BlockDevice => Some(&found::BLOCK_DEVICE),
        FileKind::Socket => Some(&found::SOCKET),
        FileKind::Inotify => Some(&found::INOTIFY),
        FileKind::Fanotify => Some(&found::FANOTIFY),
        FileKind::Userfaultfd => Some(&found::USERFAULTFD_FILE),
        FileKind::IoUring => Some(&found::IO_URING_FILE),
        FileKind::Pidfd => Some(&found::PIDFD),
        FileKind::PerfEvent => Some(&found::PERF_EVENT_FILE),
        FileKind::Bpf => Some(&found::BPF),
        FileKind::Memfd => Some(&found::MEMFD),
        FileKind::Kernel => Some(&found::KERNEL_FILE),
        FileKind::MessageQueue => Some(&found::MESSAGE_QUEUE),
        FileKind::Path => Some(&found::PATH_FILE),
        FileKind::Other => Some(&found::OTHER_FILE),
    }
}

/// Reports the obstacles in one `Process` record.
pub fn process(
    process: &Process,
    context: &Context,
    report: &mut impl FnMut(&'static Obstacle, Object),
) {
    let mut rest = process.facts.get();
    for (bit, obstacle) in FACTS {
        if rest & bit == 0 {
            continue;
        }
        rest &= !bit;
        report(obstacle, Object::Process);
    }
    unknown_bits(rest, |bit| {
        report(&found::UNKNOWN_FACT, Object::Bit { bit })
    });

    let pid = process.pid.get();
    if context.own_pid != 0 && process.host_pid.get() == context.own_pid {
        report(&selection::PMIG_ITSELF, Object::Process);
    }
    // An orphan has its namespace's init for a parent here as there.
    if process.parent_pid.get() != 1 {
        report(&found::PARENT_CHANGES, Object::Process);
    }
    if process.group.get() != pid {
        report(&found::GROUP_CHANGES, Object::Process);
    }
    if process.session.get() != pid {
        report(&found::SESSION_CHANGES, Object::Process);
    }
}

/// Reports the obstacles in one `Namespaces` record.
pub fn namespaces(
    own: &Namespaces,
    context: &Context,
    report: &mut impl FnMut(&'static Obstacle, Object),
) {
    let children = own.pid_for_children != own.pid || own.time_for_children != own.time;
    if children {
        report(&found::CHILD_NAMESPACE, Object::Process);
    }
    let Some(host) = &context.host else {
        return;
    };
    // The columns: the process's, the host's, whether pmig makes this kind to keep a PID or the clocks.
    let kinds = [
        (own.mnt, host.mnt, true, &found::MOUNT_NAMESPACE),
        (own.uts, host.uts, false, &found::UTS_NAMESPACE),
        (own.ipc, host.ipc, false, &found::IPC_NAMESPACE),
        (own.net, host.net, false, &found::NETWORK_NAMESPACE),
        (own.pid, host.pid, true, &found::PID_NAMESPACE),
        (own.user, host.user, false, &found::USER_NAMESPACE),
        (own.cgroup, host.cgroup, false, &found::CGROUP_NAMESPACE),
        (own.time, host.time, true, &found::TIME_NAMESPACE),
    ];
    for (number, expected, makes, obstacle) in kinds {
        if number != expected && !(makes && context.made_by_pmig) {
            report(obstacle, Object::Process);
        }
    }
}

/// Reports the obstacles in one `Thread` record.
pub fn thread(thread: &Thread, report: &mut impl FnMut(&'static Obstacle, Object)) {
    if !crate::validate::policy_is_known(thread.policy.get()) {
        let tid = thread.tid.get();
        report(&found::SCHED_SPECIAL, Object::Thread { tid });
    }
}

/// Reports the obstacles in one `Restart` record.
pub fn restart(restart: &Restart, report: &mut impl FnMut(&'static Obstacle, Object)) {
    if RestartKind::from_wire(restart.kind.get()).is_none() {
        let tid = restart.tid.get();
        report(&found::UNKNOWN_RESTART, Object::Thread { tid });
    }
}

/// Reports the obstacles in one `Vma` record.
pub fn mapping(mapping: &Vma, report: &mut impl FnMut(&'static Obstacle, Object)) {
    let object = Object::Mapping {
        start: mapping.start.get(),
        end: mapping.end.get(),
    };
    let mut rest = mapping.flags.get() & !MOVABLE_MAPPING_FLAGS;
    for (bit, obstacle) in MAPPING_FLAGS {
        if rest & bit != 0 {
            rest &= !bit;
            report(obstacle, object);
        }
    }
    if rest != 0 {
        report(&found::UNKNOWN_MAPPING_FLAG, object);
    }
}

/// Reports the obstacles in one `File` record. `object` says how the process names the file.
///
/// A memory file that no descriptor names is left to the mappings that use it: [`records`] looks at those.
pub fn file(file: &File, object: Object, report: &mut impl FnMut(&'static Obstacle, Object)) {
    let flags = file.flags.get();
    let has = |bit: u32| flags & bit != 0;
    let kind = FileKind::from_wire(file.kind.get());
    match kind {
        None => report(&found::UNKNOWN_FILE_KIND, object),
        Some(FileKind::Memfd) if has(open::NOT_A_DESCRIPTOR) => {}
        Some(kind) => {
            if let Some(obstacle) = file_kind(kind) {
                report(obstacle, object);
            }
        }
    }
    if flags & !KNOWN_FILE_FLAGS != 0 {
        report(&found::UNKNOWN_FILE_FLAG, object);
    }
    if has(open::OWNER) || has(open::ASYNC) {
        report(&found::FILE_OWNER, object);
    }
    // A lock that belongs to the open file is nobody's to give away who is not its only owner.
    if has(open::LOCKED) && (file.outside.get() != 0 || has(open::NOT_A_DESCRIPTOR)) {
        report(&found::FILE_LOCK, object);
    }
    // The rest concerns kinds that are found again by their name or by both of their ends; others are refused already.
    let Some(kind) = kind else { return };
    if file_kind(kind).is_some() {
        return;
    }
    let named = matches!(
        kind,
        FileKind::Regular | FileKind::Directory | FileKind::MemoryDevice
    );
    if has(open::PATH) {
        report(&found::PATH_FILE, object);
    }
    if named && has(open::UNLINKED) {
        report(&found::UNLINKED, object);
    } else if named && has(open::TMPFILE) {
        report(&found::UNNAMED, object);
    }
    if named && has(open::NO_PATH) {
        report(&found::NO_PATH, object);
    }
    if file.outside.get() == 0 || has(open::NOT_A_DESCRIPTOR) {
        return;
    }
    match kind {
        FileKind::Pipe => report(&found::PIPE_OUTSIDE, object),
        // Who only appends does not use the position; that of a directory is a detail of its file system.
        FileKind::Regular if !has(open::APPEND) || has(open::READ) => {
            report(&found::DESCRIPTION_SHARED, object);
        }
        FileKind::Regular | FileKind::Directory => report(&found::DESCRIPTION_PARTED, object),
        FileKind::Epoll | FileKind::Eventfd | FileKind::Signalfd | FileKind::Timerfd => {
            report(&found::EVENTS_SHARED, object);
        }
        _ => {}
    }
}

/// Reports everything in a whole survey or capture of one process.
///
/// A record that cannot be decoded is an obstacle too, and ends the search.
pub fn records(
    records: &Reader<'_>,
    context: &Context,
    report: &mut impl FnMut(&'static Obstacle, Object),
) {
    let mut seen = Seen::default();
    for item in records.clone() {
        let outcome = item.and_then(|item| {
            seen.note(&item);
            record(&item, records, context, report)
        });
        if outcome.is_err() {
            report(&found::UNKNOWN_RECORD, Object::Process);
            return;
        }
    }
    if !seen.is_complete() {
        report(&found::NO_CAPTURE, Object::Process);
    }
}

/// Which of the records that no description lacks have been seen. What has no memory has only the first.
#[derive(Default)]
struct Seen {
    process: bool,
    no_memory: bool,
    namespaces: bool,
    memory: bool,
    thread: bool,
}

impl Seen {
    fn note(&mut self, item: &Record<'_>) {
        match item.kind {
            Kind::Process => {
                self.process = true;
                let gone = facts::KERNEL_THREAD | facts::EXITING;
                self.no_memory = item
                    .parse::<Process>()
                    .is_ok_and(|(process, _)| process.facts.get() & gone != 0);
            }
            Kind::Namespaces => self.namespaces = true,
            Kind::Memory => self.memory = true,
            Kind::Thread => self.thread = true,
            _ => {}
        }
    }

    fn is_complete(&self) -> bool {
        self.process && (self.no_memory || (self.namespaces && self.memory && self.thread))
    }
}

fn record(
    item: &Record<'_>,
    records: &Reader<'_>,
    context: &Context,
    report: &mut impl FnMut(&'static Obstacle, Object),
) -> Result<(), DecodeError> {
    match item.kind {
        Kind::Process => process(item.parse()?.0, context, report),
        Kind::Namespaces => namespaces(item.parse()?.0, context, report),
        Kind::Memory => {
            let (memory, _) = item.parse::<Memory>()?;
            unknown_bits((memory.settings.get() & !setting::ALL).into(), |bit| {
                report(&found::UNKNOWN_FACT, Object::Bit { bit });
            });
        }
        Kind::Vma => mapping(item.parse()?.0, report),
        Kind::Thread => thread(item.parse()?.0, report),
        Kind::Restart => restart(item.parse()?.0, report),
        Kind::File => {
            let (entry, _) = item.parse::<File>()?;
            let id = entry.id.get();
            // The records are only searched for a descriptor once something is to be reported.
            file(entry, Object::File { file: id }, &mut |obstacle, _| {
                report(obstacle, named(records, id));
            });
            if is_mapped_memfd(entry) {
                mapped_memfd(records, id, report);
            }
        }
        Kind::FileLock => {
            let (lock, _) = item.parse::<FileLock>()?;
            let obstacle = match LockKind::from_wire(lock.kind.get()) {
                Some(LockKind::Process | LockKind::Whole | LockKind::OpenFile) => {
                    &found::FILE_LOCK_LEAVES
                }
                _ => &found::FILE_LOCK,
            };
            report(obstacle, named(records, lock.file.get()));
        }
        Kind::EpollEntry => {
            let (entry, _) = item.parse::<EpollEntry>()?;
            if entry.target.get() == 0 {
                report(&found::EPOLL_TARGET, named(records, entry.file.get()));
            }
        }
        _ => {}
    }
    Ok(())
}

/// How the process names the open file `id`: by its first descriptor, if it has one.
fn named(records: &Reader<'_>, id: u32) -> Object {
    descriptors(records)
        .find(|descriptor| descriptor.file.get() == id)
        .map_or(Object::File { file: id }, |descriptor| Object::Descriptor {
            fd: descriptor.fd.get(),
            file: id,
        })
}

fn descriptors<'a>(records: &Reader<'a>) -> impl Iterator<Item = &'a Descriptor> {
    parsed(records, Kind::Descriptor)
}

fn parsed<'a, T: pmig_wire::record::Payload + 'a>(
    records: &Reader<'a>,
    kind: Kind,
) -> impl Iterator<Item = &'a T> {
    records
        .clone()
        .filter_map(Result::ok)
        .filter(move |item| item.kind == kind)
        .filter_map(|item| item.parse::<T>().ok().map(|(payload, _)| payload))
}

fn is_mapped_memfd(file: &File) -> bool {
    file.kind.get() == FileKind::Memfd as u16 && file.flags.get() & open::NOT_A_DESCRIPTOR != 0
}

/// Shared anonymous memory is such a file as well; what is mapped as anything else is a memfd whose descriptor is closed.
fn mapped_memfd(records: &Reader<'_>, id: u32, report: &mut impl FnMut(&'static Obstacle, Object)) {
    let explained = vma::SHARED_ANONYMOUS | vma::SYSV;
    for mapping in parsed::<Vma>(records, Kind::Vma) {
        if mapping.file.get() == id && mapping.flags.get() & explained == 0 {
            report(
                &found::MEMFD,
                Object::Mapping {
                    start: mapping.start.get(),
                    end: mapping.end.get(),
                },
            );
        }
    }
}

/// Calls `each` with the number of every bit that is set.
fn unknown_bits(mut word: u64, mut each: impl FnMut(u32)) {
    while word != 0 {
        let bit = word.trailing_zeros();
        each(bit);
        word &= word.wrapping_sub(1);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! What must hold in every image.

use super::Image;
use super::ImageError;
use super::OpenFile;
use pmig_wire::event::EVENTFD_SEMAPHORE;
use pmig_wire::event::TIMERFD_ABSOLUTE;
use pmig_wire::event::TIMERFD_CANCEL_ON_SET;
use pmig_wire::file::open;
use pmig_wire::file::FileKind;
use pmig_wire::file::LockKind;
use pmig_wire::mm::setting;
use pmig_wire::mm::vma;
use pmig_wire::record::Kind;
use pmig_wire::signal::SIGNAL_COUNT;
use pmig_wire::thread::RestartKind;
use pmig_wire::thread::MAX_CPU_SET;
use pmig_wire::thread::NOTE_PRSTATUS;
use pmig_wire::thread::NOTE_XSTATE;
use pmig_wire::thread::PINNED;
use pmig_wire::timer::ITIMER_PROF;
use pmig_wire::timer::ITIMER_REAL;
use pmig_wire::timer::ITIMER_VIRTUAL;
use pmig_wire::PAGE_SIZE;
use std::collections::HashSet;

/// The longest path, without its terminating zero (`PATH_MAX` counts it).
const PATH_MOST: usize = 4095;
/// The largest descriptor number is below this (`sysctl_nr_open_max`).
const FD_END: u32 = 1 << 30;
/// The longest auxiliary vector (`AT_VECTOR_SIZE`, with room).
const AUXV_MOST: usize = 1024;
/// Clocks that POSIX timers may be made on and can be set again.
const TIMER_CLOCKS: [u32; 4] = [
    libc::CLOCK_REALTIME as u32,
    libc::CLOCK_MONOTONIC as u32,
    libc::CLOCK_BOOTTIME as u32,
    libc::CLOCK_TAI as u32,
];
/// The end of all user addresses, with five levels of page tables.
const USER_END: u64 = 1 << 56;

fn invalid<T>(kind: Kind, object: u64, reason: &'static str) -> Result<T, ImageError> {
    Err(ImageError::Invalid {
        kind,
        object,
        reason,
    })
}

fn resolve(image: &Image, kind: Kind, object: u64, id: u32) -> Result<&OpenFile, ImageError> {
    image.file(id).ok_or(ImageError::Unresolved {
        kind,
        object,
        target: Kind::File,
        reference: id.into(),
    })
}

/// Checks an image that was just read.
pub(super) fn validate(image: &Image) -> Result<(), ImageError> {
    process(image)?;
    memory(image)?;
    files(image)?;
    events(image)?;
    locks(image)?;
    threads(image)?;
    signals(image)?;
    timers(image)
}

fn process(image: &Image) -> Result<(), ImageError> {
    let process = &image.process;
    let pid = u64::from(process.pid.get());
    if process.pid.get() == 0 || process.host_pid.get() == 0 {
        return invalid(Kind::Process, pid, "no process has the PID 0");
    }
    if process.pid.get() > i32::MAX as u32 {
        return invalid(Kind::Process, pid, "the PID is too large");
    }
    if process.exit_signal.get() > SIGNAL_COUNT || process.stop_signal.get() > SIGNAL_COUNT {
        return invalid(Kind::Process, pid, "there is no such signal");
    }
    if process.umask.get() & !0o777 != 0 {
        return invalid(
            Kind::Process,
            pid,
            "the umask has other bits than permissions",
        );
    }
    if process.dumpable > 2 {
        return invalid(Kind::Process, pid, "dumpable is 0, 1 or 2");
    }
    if !(-1000..=1000).contains(&process.oom_score_adj.get()) {
        return invalid(Kind::Process, pid, "oom_score_adj is from -1000 to 1000");
    }
    if image.is_alive() {
        for id in [
            process.executable,
            process.working_directory,
            process.root_directory,
        ] {
            if id.get() != 0 {
                resolve(image, Kind::Process, pid, id.get())?;
            }
        }
    }
    Ok(())
}

fn memory(image: &Image) -> Result<(), ImageError> {
    if image.auxv.len() > AUXV_MOST || image.auxv.len() % 8 != 0 {
        return invalid(
            Kind::Memory,
            0,
            "the auxiliary vector has an impossible length",
        );
    }
    let boundaries = &image.memory;
    if boundaries.settings.get() & !setting::ALL != 0 {
        return invalid(Kind::Memory, 0, "unknown settings");
    }
    let vdso = [
        boundaries.vvar_start,
        boundaries.vdso_start,
        boundaries.vdso_end,
    ];
    if !vdso.is_sorted_by_key(|address| address.get()) {
        return invalid(Kind::Memory, 0, "the vdso is out of order");
    }
    let mut end = 0;
    for one in &image.vmas {
        let (start, stop, flags) = (one.start.get(), one.end.get(), one.flags.get());
        if start >= stop || stop > USER_END {
            return invalid(
                Kind::Vma,
                start,
                "the mapping is empty or outside user addresses",
            );
        }
        if start % PAGE_SIZE != 0 || stop % PAGE_SIZE != 0 || one.offset.get() % PAGE_SIZE != 0 {
            return invalid(Kind::Vma, start, "the mapping is not a range of pages");
        }
        if start < end {
            return invalid(Kind::Vma, start, "the mappings are not in order or overlap");
        }
        end = stop;
        if one.offset.get().checked_add(stop - start).is_none() {
            return invalid(Kind::Vma, start, "the offset is too large");
        }
        let backed = flags & (vma::FILE | vma::SHARED_ANONYMOUS) != 0;
        if backed {
            resolve(image, Kind::Vma, start, one.file.get())?;
        } else if one.file.get() != 0 {
            return invalid(Kind::Vma, start, "an anonymous mapping names a file");
        }
        if flags & vma::SHARED_ANONYMOUS != 0 && flags & vma::SHARED == 0 {
            return invalid(Kind::Vma, start, "shared anonymous memory is not shared");
        }
    }
    Ok(())
}

fn files(image: &Image) -> Result<(), ImageError> {
    let mut last = 0;
    for open in &image.files {
        let id = u64::from(open.id());
        if open.id() == 0 {
            return invalid(Kind::File, id, "0 names no open file");
        }
        if open.id() == last {
            return Err(ImageError::Duplicate(Kind::File, id));
        }
        last = open.id();
        if FileKind::from_wire(open.file.kind.get()).is_none() {
            return invalid(Kind::File, id, "the kind is unknown");
        }
        if open.path.len() > PATH_MOST || open.path.contains(&0) {
            return invalid(
                Kind::File,
                id,
                "the path is too long or contains a zero byte",
            );
        }
        if open.file.mtime_nanoseconds.get() >= 1_000_000_000 {
            return invalid(Kind::File, id, "a second has a billion nanoseconds");
        }
    }
    let mut last = None;
    for descriptor in &image.descriptors {
        let fd = descriptor.fd.get();
        if fd >= FD_END {
            return invalid(Kind::Descriptor, fd.into(), "the number is too large");
        }
        if last == Some(fd) {
            return Err(ImageError::Duplicate(Kind::Descriptor, fd.into()));
        }
        last = Some(fd);
        if descriptor.flags.get() & !pmig_wire::file::DESCRIPTOR_CLOEXEC != 0 {
            return invalid(Kind::Descriptor, fd.into(), "unknown flags");
        }
        resolve(image, Kind::Descriptor, fd.into(), descriptor.file.get())?;
    }
    let pipes: HashSet<u64> = image
        .files
        .iter()
        .filter(|open| open.kind() == FileKind::Pipe)
        .map(|open| open.file.inode.get())
        .collect();
    for data in &image.pipe_data {
        if !pipes.contains(&data.inode) {
            return Err(ImageError::Unresolved {
                kind: Kind::PipeData,
                object: data.inode,
                target: Kind::File,
                reference: data.inode,
            });
        }
    }
    Ok(())
}

/// Each record belongs to a file of its kind, and no file has two.
fn events(image: &Image) -> Result<(), ImageError> {
    let mut seen = HashSet::new();
    let mut belongs = |kind: Kind, id: u32, to: FileKind| {
        if resolve(image, kind, id.into(), id)?.kind() != to {
            return invalid(kind, id.into(), "the file is of another kind");
        }
        if seen.insert(id) {
            Ok(())
        } else {
            Err(ImageError::Duplicate(kind, id.into()))
        }
    };
    for one in &image.eventfds {
        belongs(Kind::Eventfd, one.file.get(), FileKind::Eventfd)?;
        if one.flags.get() & !EVENTFD_SEMAPHORE != 0 {
            return invalid(Kind::Eventfd, one.file.get().into(), "unknown flags");
        }
    }
    for one in &image.signalfds {
        belongs(Kind::Signalfd, one.file.get(), FileKind::Signalfd)?;
    }
    for one in &image.timerfds {
        let id = u64::from(one.file.get());
        belongs(Kind::Timerfd, one.file.get(), FileKind::Timerfd)?;
        if one.flags.get() & !(TIMERFD_ABSOLUTE | TIMERFD_CANCEL_ON_SET) != 0 {
            return invalid(Kind::Timerfd, id, "unknown flags");
        }
        if one.expiry_clock().is_none() {
            return invalid(Kind::Timerfd, id, "there is no timer on such a clock");
        }
        if one.expires.get() < 0 || one.interval.get() > i64::MAX as u64 {
            return invalid(Kind::Timerfd, id, "the time is out of range");
        }
    }
    let mut seen = HashSet::new();
    for entry in &image.epoll_entries {
        let (id, target, fd) = (entry.file.get(), entry.target.get(), entry.fd.get());
        if resolve(image, Kind::EpollEntry, id.into(), id)?.kind() != FileKind::Epoll {
            return invalid(Kind::EpollEntry, id.into(), "the file is of another kind");
        }
        if fd >= FD_END {
            return invalid(Kind::EpollEntry, fd.into(), "the number is too large");
        }
        if target != 0 {
            resolve(image, Kind::EpollEntry, id.into(), target)?;
            if !seen.insert((id, target, fd)) {
                return Err(ImageError::Duplicate(Kind::EpollEntry, fd.into()));
            }
        }
    }
    Ok(())
}

fn locks(image: &Image) -> Result<(), ImageError> {
    for lock in &image.locks {
        let id = lock.file.get();
        resolve(image, Kind::FileLock, id.into(), id)?;
        if LockKind::from_wire(lock.kind.get()).is_none() || lock.exclusive.get() > 1 {
            return invalid(Kind::FileLock, id.into(), "there is no such lock");
        }
        let (start, last) = (lock.start.get(), lock.last.get());
        let is_offset = |offset: u64| i64::try_from(offset).is_ok();
        if start > last || !is_offset(start) || !(last == u64::MAX || is_offset(last)) {
            return invalid(Kind::FileLock, id.into(), "the range is none");
        }
    }
    Ok(())
}

fn threads(image: &Image) -> Result<(), ImageError> {
    let leader = image
        .threads
        .first()
        .ok_or(ImageError::Missing(Kind::Thread))?;
    if leader.tid() != image.pid() {
        return invalid(
            Kind::Thread,
            leader.tid().into(),
            "the first thread is not the leader",
        );
    }
    if image.is_alive() && leader.credentials.is_none() {
        return Err(ImageError::Missing(Kind::Credentials));
    }
    for one in &image.threads {
        let tid = u64::from(one.tid());
        if one.tid() == 0 || one.tid() > i32::MAX as u32 {
            return invalid(Kind::Thread, tid, "the TID is not one");
        }
        if !(-20..=19).contains(&one.thread.nice.get()) || one.thread.priority.get() > 99 {
            return invalid(Kind::Thread, tid, "nice or priority is out of range");
        }
        if one.thread.parent_death_signal.get() > SIGNAL_COUNT {
            return invalid(Kind::Thread, tid, "there is no such signal");
        }
        if let Some(restart) = &one.restart {
            if RestartKind::from_wire(restart.kind.get()).is_none() {
                return invalid(Kind::Restart, tid, "the kind is unknown");
            }
        }
        if let Some(own) = &one.placement {
            let is_empty = own.cpus.iter().all(|byte| *byte == 0);
            if own.cpus.len() > MAX_CPU_SET || (is_empty && !own.cpus.is_empty()) {
                return invalid(Kind::Placement, tid, "the set of CPUs is none");
            }
        }
        for set in &one.registers {
            if ![NOTE_PRSTATUS, NOTE_XSTATE].contains(&set.registers.note.get()) {
                return invalid(Kind::Registers, tid, "the register set is unknown");
            }
        }
    }
    Ok(())
}

fn signals(image: &Image) -> Result<(), ImageError> {
    let mut seen = HashSet::new();
    for action in &image.actions {
        let signal = action.signal.get();
        let fixed = [libc::SIGKILL as u32, libc::SIGSTOP as u32].contains(&signal);
        if signal == 0 || signal > SIGNAL_COUNT || fixed {
            return invalid(Kind::SignalAction, signal.into(), "there is no such action");
        }
        if !seen.insert(signal) {
            return Err(ImageError::Duplicate(Kind::SignalAction, signal.into()));
        }
    }
    let tids: HashSet<u32> = image.threads.iter().map(|one| one.tid()).collect();
    for pending in &image.pending {
        let tid = pending.tid.get();
        if tid != 0 && !tids.contains(&tid) {
            return Err(ImageError::Unresolved {
                kind: Kind::PendingSignal,
                object: tid.into(),
                target: Kind::Thread,
                reference: tid.into(),
            });
        }
        let number = pending
            .siginfo
            .first_chunk::<4>()
            .map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if number == 0 || number > SIGNAL_COUNT {
            return invalid(Kind::PendingSignal, tid.into(), "there is no such signal");
        }
    }
    Ok(())
}

fn timers(image: &Image) -> Result<(), ImageError> {
    let is_span = |time: u64| i64::try_from(time).is_ok();
    let mut seen = HashSet::new();
    for timer in &image.interval_timers {
        let which = timer.which.get();
        if ![ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF].contains(&which) {
            return invalid(Kind::IntervalTimer, which.into(), "there is no such timer");
        }
        if !seen.insert(which) {
            return Err(ImageError::Duplicate(Kind::IntervalTimer, which.into()));
        }
        if timer.expires.get() < 0 || !is_span(timer.interval.get()) {
            return invalid(
                Kind::IntervalTimer,
                which.into(),
                "the time is out of range",
            );
        }
    }
    let tids: HashSet<u32> = image.threads.iter().map(|one| one.tid()).collect();
    let mut seen = HashSet::new();
    for timer in &image.posix_timers {
        let id = timer.id.get();
        let wrong = |reason| invalid(Kind::PosixTimer, id.into(), reason);
        if id > i32::MAX as u32 {
            return wrong("there is no such number");
        }
        if !seen.insert(id) {
            return Err(ImageError::Duplicate(Kind::PosixTimer, id.into()));
        }
        if ![timer.clock, timer.base]
            .iter()
            .all(|clock| TIMER_CLOCKS.contains(&clock.get()))
        {
            return wrong("there is no timer on such a clock");
        }
        let notify = timer.notify.get() as i32;
        let known = [
            libc::SIGEV_SIGNAL,
            libc::SIGEV_NONE,
            libc::SIGEV_THREAD,
            libc::SIGEV_THREAD_ID,
        ];
        if !known.contains(&notify) {
            return wrong("it tells of itself in an unknown way");
        }
        if notify != libc::SIGEV_NONE && !(1..=SIGNAL_COUNT).contains(&timer.signal.get()) {
            return wrong("there is no such signal");
        }
        if notify == libc::SIGEV_THREAD_ID && !tids.contains(&timer.tid.get()) {
            return wrong("its thread is not there");
        }
        if timer.expires.get() < 0 || !is_span(timer.interval.get()) {
            return wrong("the time is out of range");
        }
    }
    Ok(())
}

/// Checks that a captured image has all that a thread needs to go on.
pub(super) fn require_complete(image: &Image) -> Result<(), ImageError> {
    if !image.is_alive() {
        return invalid(
            Kind::Process,
            image.pid().into(),
            "the process has no memory of its own",
        );
    }
    if image.process.threads.get() as usize != image.threads.len() {
        return invalid(
            Kind::Process,
            image.pid().into(),
            "the number of threads is another",
        );
    }
    complete_events(image)?;
    complete_locks(image)?;
    for one in &image.threads {
        for note in [NOTE_PRSTATUS, NOTE_XSTATE] {
            if !one
                .registers
                .iter()
                .any(|set| set.registers.note.get() == note)
            {
                return Err(ImageError::Missing(Kind::Registers));
            }
        }
        if one.restart.is_none() {
            return Err(ImageError::Missing(Kind::Restart));
        }
        let is_pinned = one.thread.flags.get() & PINNED != 0;
        if is_pinned && one.placement.as_ref().is_none_or(|own| own.cpus.is_empty()) {
            return Err(ImageError::Missing(Kind::Placement));
        }
    }
    Ok(())
}

/// Each descriptor that waits for events has its record, and each epoll entry its target.
fn complete_events(image: &Image) -> Result<(), ImageError> {
    let mut described: HashSet<u32> = HashSet::new();
    described.extend(image.eventfds.iter().map(|one| one.file.get()));
    described.extend(image.signalfds.iter().map(|one| one.file.get()));
    described.extend(image.timerfds.iter().map(|one| one.file.get()));
    for open in &image.files {
        let kind = match open.kind() {
            FileKind::Eventfd => Kind::Eventfd,
            FileKind::Signalfd => Kind::Signalfd,
            FileKind::Timerfd => Kind::Timerfd,
            _ => continue,
        };
        if !described.contains(&open.id()) {
            return Err(ImageError::Missing(kind));
        }
    }
    match image
        .epoll_entries
        .iter()
        .find(|entry| entry.target.get() == 0)
    {
        Some(entry) => invalid(
            Kind::EpollEntry,
            entry.fd.get().into(),
            "it watches no file of the process",
        ),
        None => Ok(()),
    }
}

/// A file on which the process holds locks has them described, through itself or another open file of the same inode.
fn complete_locks(image: &Image) -> Result<(), ImageError> {
    let inode = |of: &OpenFile| (of.file.device.get(), of.file.inode.get());
    let described: HashSet<(u64, u64)> = image
        .locks
        .iter()
        .filter_map(|lock| image.file(lock.file.get()))
        .map(inode)
        .collect();
    let is_held = |of: &&OpenFile| of.has(open::LOCKED);
    match image
        .files
        .iter()
        .filter(is_held)
        .all(|of| described.contains(&inode(of)))
    {
        true => Ok(()),
        false => Err(ImageError::Missing(Kind::FileLock)),
    }
}

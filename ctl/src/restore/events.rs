// SPDX-License-Identifier: GPL-2.0
//! Descriptors that wait for events: eventfd, signalfd, timerfd, epoll.

use super::clock;
use super::files::status_flags;
use super::files::Files;
use super::list::args;
use super::list::Call;
use super::list::List;
use super::VesselError;
use crate::image::OpenFile;
use pmig_wire::event::EpollEntry;
use pmig_wire::event::Timerfd;
use pmig_wire::event::CLOCK_MONOTONIC;
use pmig_wire::event::EVENTFD_SEMAPHORE;
use pmig_wire::event::TIMERFD_CANCEL_ON_SET;
use pmig_wire::file::FileKind;
use pmig_wire::file::DESCRIPTOR_CLOEXEC;
use pmig_wire::record::Kind;
use std::collections::BTreeMap;

/// `TFD_IOC_SET_TICKS` of include/uapi/linux/timerfd.h.
const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
/// The largest count that can be written to an eventfd.
const MAX_COUNT: u64 = u64::MAX - 1;
/// How often a timer is set that expires again and again meanwhile.
const ATTEMPTS: usize = 8;

/// What an epoll entry keeps when it has reported its one event (`EP_PRIVATE_BITS`, fs/eventpoll.c).
const PRIVATE: u32 =
    (libc::EPOLLWAKEUP | libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLEXCLUSIVE) as u32;
/// What nearly every file is ready for.
const ANYTHING: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP) as u32;

/// Makes one of them and places its descriptors. What an epoll set watches comes later.
pub(super) fn make(files: &Files<'_>, of: &OpenFile) -> Result<(), VesselError> {
    match of.kind() {
        FileKind::Eventfd => eventfd(files, of),
        FileKind::Signalfd => signalfd(files, of),
        FileKind::Timerfd => timerfd(files, of),
        _ => {
            let mut list = List::new();
            let how = args![libc::EPOLL_CLOEXEC];
            let made = list.call("make an epoll set", libc::SYS_epoll_create1, how);
            finish(files, of, &mut list, made, |_, _| ())
        }
    }
}

/// Adds the rest of the making, and executes the list.
fn finish(
    files: &Files<'_>,
    of: &OpenFile,
    list: &mut List,
    made: Call,
    fill: impl FnOnce(&mut List, Call),
) -> Result<(), VesselError> {
    let lifted = files.lift(list, made);
    fill(list, lifted);
    let arguments = args![lifted, libc::F_SETFL, status_flags(of)];
    list.call("set flags", libc::SYS_fcntl, arguments);
    files.place(list, of, lifted);
    list.call("close a descriptor", libc::SYS_close, args![lifted]);
    files.vessel.run(list)?;
    Ok(())
}

fn eventfd(files: &Files<'_>, of: &OpenFile) -> Result<(), VesselError> {
    let one = files
        .image
        .eventfd(of.id())
        .ok_or(VesselError::Incomplete(Kind::Eventfd))?;
    let semaphore = one.flags.get() & EVENTFD_SEMAPHORE != 0;
    let how = libc::EFD_CLOEXEC | if semaphore { libc::EFD_SEMAPHORE } else { 0 };
    let mut list = List::new();
    let made = list.call("make an eventfd", libc::SYS_eventfd2, args![0, how]);
    let fill = |list: &mut List, made: Call| {
        if one.count.get() != 0 {
            let count = list.words(&[one.count.get().min(MAX_COUNT)]);
            let what = "fill an eventfd";
            list.expect(what, libc::SYS_write, args![made, count, 8], 8);
        }
    };
    finish(files, of, &mut list, made, fill)
}

fn signalfd(files: &Files<'_>, of: &OpenFile) -> Result<(), VesselError> {
    let one = files
        .image
        .signalfd(of.id())
        .ok_or(VesselError::Incomplete(Kind::Signalfd))?;
    let mut list = List::new();
    let mask = list.words(&[one.mask.get()]);
    let arguments = args![-1, mask, 8, libc::SFD_CLOEXEC];
    let made = list.call("make a signalfd", libc::SYS_signalfd4, arguments);
    finish(files, of, &mut list, made, |_, _| ())
}

fn timerfd(files: &Files<'_>, of: &OpenFile) -> Result<(), VesselError> {
    let one = files
        .image
        .timerfd(of.id())
        .ok_or(VesselError::Incomplete(Kind::Timerfd))?;
    let mut list = List::new();
    let arguments = args![one.clock.get(), libc::TFD_CLOEXEC];
    let made = list.call("make a timerfd", libc::SYS_timerfd_create, arguments);
    finish(files, of, &mut list, made, |_, _| ())?;
    let fd = files
        .number_of(of.id())
        .ok_or(VesselError::Incomplete(Kind::Descriptor))?;
    set(files, fd, one)
}

/// How far a timer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    ticks: u64,
    /// 0 if it is not set.
    expires: i64,
    interval: i64,
}

impl Progress {
    fn of(timer: &Timerfd) -> Self {
        Self {
            ticks: timer.ticks.get(),
            expires: timer.expires.get(),
            interval: i64::try_from(timer.interval.get()).unwrap_or(i64::MAX),
        }
    }

    /// Counts what has expired until `now`.
    fn at(self, now: i64) -> Self {
        if self.expires == 0 || self.expires > now {
            return self;
        }
        if self.interval == 0 {
            return Self {
                ticks: self.ticks.saturating_add(1),
                expires: 0,
                ..self
            };
        }
        let times = (now - self.expires) / self.interval + 1;
        Self {
            ticks: self.ticks.saturating_add(times as u64),
            expires: self
                .expires
                .saturating_add(times.saturating_mul(self.interval)),
            ..self
        }
    }
}

/// Sets a timer. Setting it forgets what it has counted, and counting it by hand forgets what expires meanwhile: so this is
/// done until nothing expires meanwhile.
fn set(files: &Files<'_>, fd: u32, timer: &Timerfd) -> Result<(), VesselError> {
    let base = timer
        .expiry_clock()
        .ok_or(VesselError::Incomplete(Kind::Timerfd))?;
    // A span of CLOCK_REALTIME is one of CLOCK_MONOTONIC, and can only be set as a span.
    let is_span = base == CLOCK_MONOTONIC && timer.clock.get() != CLOCK_MONOTONIC;
    let mut how = if is_span { 0 } else { libc::TFD_TIMER_ABSTIME };
    if timer.flags.get() & TIMERFD_CANCEL_ON_SET != 0 {
        how |= libc::TFD_TIMER_CANCEL_ON_SET;
    }
    let mut progress = Progress::of(timer);
    let mut now = clock::now(files.vessel, base)?;
    for _ in 0..ATTEMPTS {
        progress = progress.at(now);
        let value = match progress.expires {
            0 => 0,
            expires if is_span => (expires - now).max(1),
            expires => expires,
        };
        let mut list = List::new();
        let words = list.words(&clock::itimerspec(progress.interval, value));
        let arguments = args![fd, how, words, 0];
        list.call("set a timerfd", libc::SYS_timerfd_settime, arguments);
        if progress.ticks != 0 {
            let ticks = list.words(&[progress.ticks]);
            let arguments = args![fd, TFD_IOC_SET_TICKS, ticks];
            list.call("count expirations", libc::SYS_ioctl, arguments);
        }
        files.vessel.run(&list)?;
        if progress.ticks == 0 || progress.expires == 0 {
            // Nothing is counted by hand, or nothing expires.
            return Ok(());
        }
        now = clock::now(files.vessel, base)?;
        if now < progress.expires {
            return Ok(());
        }
    }
    // It expires faster than it can be set: whoever reads it knows only that it was often.
    Ok(())
}

/// Lets the epoll sets watch what they watched. All descriptors are placed.
pub(super) fn watch(files: &Files<'_>) -> Result<(), VesselError> {
    let mut sets: BTreeMap<u32, Vec<&EpollEntry>> = BTreeMap::new();
    for entry in &files.image.epoll_entries {
        sets.entry(entry.file.get()).or_default().push(entry);
    }
    for (id, mut entries) in sets {
        let set = files
            .number_of(id)
            .ok_or(VesselError::Incomplete(Kind::Descriptor))?;
        // Those that have reported their one event first: to see which can be brought there, the set is waited on.
        entries.sort_by_key(|entry| !has_reported(entry));
        let (reported, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| has_reported(entry));
        for entry in reported {
            exhaust(files, set, entry)?;
        }
        let mut list = List::new();
        for entry in others {
            add(files, &mut list, set, entry, entry.events.get())?;
            if list.len() >= 4096 {
                files.vessel.run(&std::mem::take(&mut list))?;
            }
        }
        files.vessel.run(&list)?;
    }
    Ok(())
}

fn has_reported(entry: &EpollEntry) -> bool {
    let events = entry.events.get();
    events & libc::EPOLLONESHOT as u32 != 0 && events & !PRIVATE == 0
}

/// `struct epoll_event`, which is packed.
fn event(entry: &EpollEntry, events: u32) -> Vec<u8> {
    let mut bytes = events.to_le_bytes().to_vec();
    bytes.extend(entry.data.get().to_le_bytes());
    bytes
}

/// Adds an entry that waits for nothing until the program arms it again. The kernel adds errors to whatever an entry waits
/// for, so it reports an event here that nobody sees; a file that is ready for nothing may still report an error later.
fn exhaust(files: &Files<'_>, set: u32, entry: &EpollEntry) -> Result<(), VesselError> {
    let mut list = List::new();
    let own = entry.events.get();
    add(files, &mut list, set, entry, own | ANYTHING)?;
    let room = list.room(12);
    let what = "let an epoll set report";
    let waited = list.call(what, libc::SYS_epoll_wait, args![set, room, 1, 0]);
    if files.vessel.run(&list)?.of(waited) == 1 {
        return Ok(());
    }
    let mut list = List::new();
    control(files, &mut list, set, entry, libc::EPOLL_CTL_MOD, own)?;
    files.vessel.run(&list)?;
    Ok(())
}

fn add(
    files: &Files<'_>,
    list: &mut List,
    set: u32,
    entry: &EpollEntry,
    events: u32,
) -> Result<(), VesselError> {
    control(files, list, set, entry, libc::EPOLL_CTL_ADD, events)
}

/// Adds a change of an epoll set. An entry is known by its file and the number under which that was added: if the number
/// means another file by now, or none, it means the old one for a moment.
fn control(
    files: &Files<'_>,
    list: &mut List,
    set: u32,
    entry: &EpollEntry,
    operation: i32,
    events: u32,
) -> Result<(), VesselError> {
    let fd = entry.fd.get();
    let target = entry.target.get();
    let there = files.descriptor(fd);
    let is_there = there.is_some_and(|one| one.file.get() == target);
    let mut kept = None;
    if !is_there {
        let from = files
            .number_of(target)
            .ok_or(VesselError::Incomplete(Kind::Descriptor))?;
        if there.is_some() {
            let arguments = args![fd, libc::F_DUPFD_CLOEXEC, files.scratch];
            kept = Some(list.call("keep a descriptor", libc::SYS_fcntl, arguments));
        }
        let arguments = args![from, fd, libc::O_CLOEXEC];
        list.expect("borrow a number", libc::SYS_dup3, arguments, fd.into());
    }
    let event = list.data(&event(entry, events));
    let what = format!("let an epoll set watch descriptor {fd}");
    list.call(what, libc::SYS_epoll_ctl, args![set, operation, fd, event]);
    match (is_there, kept, there) {
        (true, ..) => {}
        (false, Some(kept), Some(there)) => {
            let cloexec = there.flags.get() & DESCRIPTOR_CLOEXEC != 0;
            let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
            let what = "put a descriptor back";
            list.expect(what, libc::SYS_dup3, args![kept, fd, flags], fd.into());
            list.call("close a descriptor", libc::SYS_close, args![kept]);
        }
        _ => {
            list.call("give a number back", libc::SYS_close, args![fd]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_counted() {
        let timer = Progress {
            ticks: 2,
            expires: 1000,
            interval: 300,
        };
        assert_eq!(timer.at(999), timer);
        let next = |ticks, expires| Progress {
            ticks,
            expires,
            ..timer
        };
        assert_eq!(timer.at(1000), next(3, 1300));
        assert_eq!(timer.at(1299), next(3, 1300));
        assert_eq!(timer.at(1900), next(6, 2200));
        let once = Progress {
            interval: 0,
            ..timer
        };
        let over = Progress {
            ticks: 3,
            expires: 0,
            interval: 0,
        };
        assert_eq!(once.at(5000), over);
        assert_eq!(over.at(6000), over);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Descriptors that wait for events, as `/proc/PID/fdinfo` shows them (Documentation/filesystems/proc.rst).

use super::io;
use super::CaptureError;
use crate::host::HostClocks;
use crate::image::Image;
use crate::image::OpenFile;
use crate::restore::Moment;
use crate::sys::file;
use crate::sys::process;
use pmig_wire::event::EpollEntry;
use pmig_wire::event::Eventfd;
use pmig_wire::event::Signalfd;
use pmig_wire::event::Timerfd;
use pmig_wire::event::CLOCK_BOOTTIME;
use pmig_wire::event::CLOCK_MONOTONIC;
use pmig_wire::event::EVENTFD_SEMAPHORE;
use pmig_wire::event::TIMERFD_ABSOLUTE;
use pmig_wire::event::TIMERFD_CANCEL_ON_SET;
use pmig_wire::file::FileKind;
use pmig_wire::process::Clocks;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;
use zerocopy::FromZeros;

/// A timer that is due is counted within this time.
const DUE: Duration = Duration::from_millis(2);
/// How often a timer is looked at that expires again and again meanwhile.
const LOOKS: usize = 5;

/// Describes the eventfds, signalfds, timerfds and epoll sets.
pub(super) fn describe(pid: u32, image: &mut Image, moment: Moment) -> Result<(), CaptureError> {
    let mut found = Found::new(pid, image, moment);
    let mut idle = Vec::new();
    for (of, fd) in found.files() {
        match found.describe(of, fd) {
            Ok(true) => {}
            Ok(false) => idle.push((of, fd)),
            // A descriptor that a running process has closed since.
            Err(_) if moment == Moment::Running => {}
            Err(error) => return Err(error),
        }
    }
    if moment == Moment::Frozen && !idle.is_empty() {
        // What looks as if it were not set may be due right now.
        thread::sleep(DUE);
    }
    for (of, fd) in idle {
        match found.timerfd(of, fd) {
            Ok(timer) => found.timerfds.push(timer),
            Err(_) if moment == Moment::Running => {}
            Err(error) => return Err(error),
        }
    }
    let Found {
        eventfds,
        signalfds,
        timerfds,
        epoll_entries,
        ..
    } = found;
    image.eventfds = eventfds;
    image.signalfds = signalfds;
    image.timerfds = timerfds;
    image.epoll_entries = epoll_entries;
    Ok(())
}

/// What has been found so far.
struct Found<'a> {
    pid: u32,
    image: &'a Image,
    moment: Moment,
    eventfds: Vec<Eventfd>,
    signalfds: Vec<Signalfd>,
    timerfds: Vec<Timerfd>,
    epoll_entries: Vec<EpollEntry>,
}

impl<'a> Found<'a> {
    fn new(pid: u32, image: &'a Image, moment: Moment) -> Self {
        Self {
            pid,
            image,
            moment,
            eventfds: Vec::new(),
            signalfds: Vec::new(),
            timerfds: Vec::new(),
            epoll_entries: Vec::new(),
        }
    }

    /// The open files that wait for events, each with its first descriptor.
    fn files(&self) -> Vec<(&'a OpenFile, u32)> {
        let kinds = [
            FileKind::Eventfd,
            FileKind::Signalfd,
            FileKind::Timerfd,
            FileKind::Epoll,
        ];
        let uses = self.image.uses();
        let waits = |of: &&OpenFile| kinds.contains(&of.kind());
        let first = |of: &'a OpenFile| {
            let descriptor = uses.descriptors(of.id()).first()?;
            Some((of, descriptor.fd.get()))
        };
        self.image
            .files
            .iter()
            .filter(waits)
            .filter_map(first)
            .collect()
    }

    fn fdinfo(&self, fd: u32) -> Result<String, CaptureError> {
        let path = format!("/proc/{}/fdinfo/{fd}", self.pid);
        fs::read_to_string(&path).map_err(io(format!("read {path}")))
    }

    /// Describes one file. False for a timer that may be due just now.
    fn describe(&mut self, of: &'a OpenFile, fd: u32) -> Result<bool, CaptureError> {
        let unknown = |text: &str| {
            let text = format!("descriptor {fd} is shown as {text:?}, which is not understood");
            CaptureError::Lost(text)
        };
        match of.kind() {
            FileKind::Timerfd => {
                let timer = self.timerfd(of, fd)?;
                if timer.expires.get() == 0 && timer.ticks.get() == 0 {
                    return Ok(false);
                }
                self.timerfds.push(timer);
            }
            FileKind::Eventfd => {
                let text = self.fdinfo(fd)?;
                let mut one = eventfd(&text).ok_or_else(|| unknown(&text))?;
                one.file.set(of.id());
                self.eventfds.push(one);
            }
            FileKind::Signalfd => {
                let text = self.fdinfo(fd)?;
                let mut one = signalfd(&text).ok_or_else(|| unknown(&text))?;
                one.file.set(of.id());
                self.signalfds.push(one);
            }
            _ => {
                let text = self.fdinfo(fd)?;
                let entries = epoll(&text).ok_or_else(|| unknown(&text))?;
                self.epoll(of, fd, entries)?;
            }
        }
        Ok(true)
    }

    fn timerfd(&self, of: &OpenFile, fd: u32) -> Result<Timerfd, CaptureError> {
        let process = process::pidfd_open(self.pid);
        let process = process.map_err(io(format!("find process {}", self.pid)))?;
        let mut looks = 0;
        loop {
            let text = self.fdinfo(fd)?;
            // Read after the timer was looked at: it may expire a little late, and never too early.
            let now = HostClocks::now().map_err(|error| CaptureError::Lost(error.to_string()))?;
            let Some((mut timer, left)) = timerfd(&text) else {
                let text = format!("descriptor {fd} is shown as {text:?}, which is not understood");
                return Err(CaptureError::Lost(text));
            };
            looks += 1;
            timer.file.set(of.id());
            // One that is not set may have a period as well, but nothing to read.
            let waits = left == 0 && timer.interval.get() != 0 && timer.ticks.get() != 0;
            if waits && self.moment == Moment::Frozen && looks < LOOKS {
                // It has expired, and counts on when it is looked at.
                let copy = process::pidfd_getfd(process.as_fd(), fd);
                let copy = copy.map_err(io(format!("copy descriptor {fd}")))?;
                file::settle_timer(copy.as_fd()).map_err(io(format!("look at timer {fd}")))?;
                continue;
            }
            if left != 0 || waits {
                let now = in_view(&now, &self.image.clocks, timer.expiry_clock());
                timer.expires.set(now.saturating_add(left).max(1));
            }
            return Ok(timer);
        }
    }

    fn epoll(
        &mut self,
        of: &OpenFile,
        set: u32,
        entries: Vec<EpollEntry>,
    ) -> Result<(), CaptureError> {
        // Several files may have been added under one number, one after the other; the kernel counts them.
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for mut entry in entries {
            let fd = entry.fd.get();
            let count = counts.entry(fd).or_default();
            let target = self.target(set, fd, *count)?;
            *count += 1;
            entry.file.set(of.id());
            entry.target.set(target);
            self.epoll_entries.push(entry);
        }
        Ok(())
    }

    /// The file that an entry watches, 0 if no descriptor names it.
    fn target(&self, set: u32, fd: u32, index: u32) -> Result<u32, CaptureError> {
        let watches = |candidate: u32| {
            let is_closed = || {
                let path = format!("/proc/{}/fd/{candidate}", self.pid);
                fs::symlink_metadata(path).is_err()
            };
            match process::epoll_watches(self.pid, set, fd, index, candidate) {
                // A running process has closed the candidate since.
                Err(error) if error.raw_os_error() == Some(libc::EBADF) && is_closed() => Ok(false),
                result => {
                    let what = format!("find what the epoll set {set} watches as {fd}");
                    result.map_err(io(what))
                }
            }
        };
        let descriptors = &self.image.descriptors;
        let same = descriptors
            .binary_search_by_key(&fd, |descriptor| descriptor.fd.get())
            .ok()
            .and_then(|index| descriptors.get(index));
        if let Some(descriptor) = same {
            if watches(fd)? {
                return Ok(descriptor.file.get());
            }
        }
        // The number means another file by now, or none: the file may have further descriptors.
        let mut tried = HashSet::new();
        for descriptor in descriptors {
            let file = descriptor.file.get();
            if tried.insert(file) && watches(descriptor.fd.get())? {
                return Ok(file);
            }
        }
        Ok(0)
    }
}

/// A clock in the view of the process.
fn in_view(now: &HostClocks, offsets: &Clocks, clock: Option<u32>) -> i64 {
    match clock {
        Some(CLOCK_MONOTONIC) => now.monotonic.saturating_add(offsets.monotonic_offset.get()),
        Some(CLOCK_BOOTTIME) => now.boottime.saturating_add(offsets.boottime_offset.get()),
        _ => now.realtime,
    }
}

/// What follows `name` in its line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim())
}

fn eventfd(text: &str) -> Option<Eventfd> {
    let mut one = Eventfd::new_zeroed();
    let count = field(text, "eventfd-count:")?;
    one.count.set(u64::from_str_radix(count, 16).ok()?);
    match field(text, "eventfd-semaphore:")? {
        "0" => {}
        "1" => one.flags.set(EVENTFD_SEMAPHORE),
        _ => return None,
    }
    Some(one)
}

fn signalfd(text: &str) -> Option<Signalfd> {
    let mut one = Signalfd::new_zeroed();
    let mask = field(text, "sigmask:")?;
    one.mask.set(u64::from_str_radix(mask, 16).ok()?);
    Some(one)
}

/// A timer, and the nanoseconds until it expires; 0 if it is not set or has expired.
fn timerfd(text: &str) -> Option<(Timerfd, i64)> {
    let mut timer = Timerfd::new_zeroed();
    timer.clock.set(field(text, "clockid:")?.parse().ok()?);
    timer.ticks.set(field(text, "ticks:")?.parse().ok()?);
    let flags = u32::from_str_radix(field(text, "settime flags:")?, 8).ok()?;
    let known = [
        (libc::TFD_TIMER_ABSTIME, TIMERFD_ABSOLUTE),
        (libc::TFD_TIMER_CANCEL_ON_SET, TIMERFD_CANCEL_ON_SET),
    ];
    let set = known
        .iter()
        .filter(|(kernel, _)| flags & *kernel as u32 != 0);
    timer.flags.set(set.fold(0, |sum, (_, ours)| sum | ours));
    let interval = span(field(text, "it_interval:")?)?;
    timer.interval.set(interval.try_into().ok()?);
    Some((timer, span(field(text, "it_value:")?)?))
}

/// Nanoseconds of `(seconds, nanoseconds)`.
fn span(text: &str) -> Option<i64> {
    let (seconds, nanoseconds) = text
        .strip_prefix('(')?
        .strip_suffix(')')?
        .split_once(", ")?;
    let seconds: i64 = seconds.parse().ok()?;
    let nanoseconds: i64 = nanoseconds.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

fn epoll(text: &str) -> Option<Vec<EpollEntry>> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let mut next = |name: &str, base: u32| {
            let value = (words.next()? == name).then(|| words.next())??;
            u64::from_str_radix(value, base).ok()
        };
        let mut entry = EpollEntry::new_zeroed();
        entry.fd.set(next("tfd:", 10)?.try_into().ok()?);
        entry.events.set(next("events:", 16)?.try_into().ok()?);
        entry.data.set(next("data:", 16)?);
        Some(entry)
    };
    text.lines()
        .filter(|line| line.starts_with("tfd:"))
        .map(of_line)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "pos:\t0\nflags:\t02004002\nmnt_id:\t16\nino:\t53\n";

    fn shown(rest: &str) -> String {
        format!("{HEAD}{rest}")
    }

    #[test]
    fn eventfds_are_read() {
        let text = "eventfd-count:               1f\neventfd-id: 4\neventfd-semaphore: 1\n";
        let one = eventfd(&shown(text)).expect("readable");
        assert_eq!((one.count.get(), one.flags.get()), (31, EVENTFD_SEMAPHORE));
        assert_eq!(eventfd(HEAD), None);
    }

    #[test]
    fn signalfds_are_read() {
        let one = signalfd(&shown("sigmask:\t8000000000000200\n")).expect("readable");
        assert_eq!(one.mask.get(), 1 << 63 | 1 << 9);
    }

    #[test]
    fn timers_are_read() {
        let text =
            "clockid: 0\nticks: 3\nsettime flags: 03\nit_value: (2, 5)\nit_interval: (0, 7)\n";
        let (timer, left) = timerfd(&shown(text)).expect("readable");
        assert_eq!((timer.clock.get(), timer.ticks.get()), (0, 3));
        assert_eq!(timer.flags.get(), TIMERFD_ABSOLUTE | TIMERFD_CANCEL_ON_SET);
        assert_eq!((left, timer.interval.get()), (2_000_000_005, 7));
        assert!(timerfd(&shown("clockid: 0\n")).is_none());
    }

    #[test]
    fn epoll_sets_are_read() {
        let text = "tfd:        5 events:       19 data:                5  pos:0 ino:61af sdev:7\n\
                    tfd:       17 events: 80000001 data: ffffffffffffffff  pos:0 ino:61af sdev:7\n";
        let entries = epoll(&shown(text)).expect("readable");
        let words = |entry: &EpollEntry| (entry.fd.get(), entry.events.get(), entry.data.get());
        let words: Vec<_> = entries.iter().map(words).collect();
        assert_eq!(words, [(5, 0x19, 5), (17, 0x8000_0001, u64::MAX)]);
        assert_eq!(epoll(&shown("tfd: x\n")), None);
        assert_eq!(epoll(HEAD), Some(Vec::new()));
    }
}

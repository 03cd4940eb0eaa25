// SPDX-License-Identifier: GPL-2.0
//! Timers that send signals. A vessel blocks all signals, so those of timers that have expired meanwhile wait.

use super::clock;
use super::list::args;
use super::list::List;
use super::vessel::Vessel;
use super::VesselError;
use crate::image::Image;
use pmig_wire::event::CLOCK_MONOTONIC;
use pmig_wire::timer::IntervalTimer;
use pmig_wire::timer::PosixTimer;
use pmig_wire::timer::ITIMER_REAL;

/// How often an expiration is waited for, a millisecond each time.
const ATTEMPTS: usize = 1000;
const MILLISECOND: u64 = 1_000_000;

/// Makes and sets all timers.
pub(super) fn set(vessel: &Vessel, image: &Image) -> Result<(), VesselError> {
    for timers in image.posix_timers.chunks(4096) {
        make(vessel, timers)?;
    }
    for timer in &image.interval_timers {
        interval_timer(vessel, timer)?;
    }
    Ok(())
}

/// Makes POSIX timers under their own numbers and sets them. One that has expired expires again at once, so that its signal
/// waits as it did, and counts what it has missed.
fn make(vessel: &Vessel, timers: &[PosixTimer]) -> Result<(), VesselError> {
    const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;
    let now = clock::now(vessel, CLOCK_MONOTONIC)?;
    let mut list = List::new();
    let with_ids = |list: &mut List, on: u64| {
        let arguments = args![PR_TIMER_CREATE_RESTORE_IDS, on, 0, 0, 0];
        list.call("choose the numbers of timers", libc::SYS_prctl, arguments);
    };
    with_ids(&mut list, 1);
    for timer in timers {
        let id = timer.id.get();
        let signal = u64::from(timer.signal.get());
        let notify = u64::from(timer.notify.get());
        // struct sigevent: value, signal and kind, thread; 64 bytes.
        let event = [
            timer.value.get(),
            signal | notify << 32,
            timer.tid.get().into(),
            0,
            0,
            0,
            0,
            0,
        ];
        let event = list.words(&event);
        let number = list.data(&id.to_le_bytes());
        let arguments = args![timer.clock.get(), event, number];
        let what = format!("make timer {id}");
        list.call(what, libc::SYS_timer_create, arguments);
        let expires = timer.expires.get();
        if expires == 0 {
            continue;
        }
        let is_span = timer.base.get() != timer.clock.get();
        let (how, value) = match is_span {
            true => (0, expires.saturating_sub(now).max(1)),
            false => (libc::TIMER_ABSTIME, expires),
        };
        let interval = i64::try_from(timer.interval.get()).unwrap_or(i64::MAX);
        let setting = list.words(&clock::itimerspec(interval, value));
        let what = format!("set timer {id}");
        list.call(what, libc::SYS_timer_settime, args![id, how, setting, 0]);
    }
    with_ids(&mut list, 0);
    vessel.run(&list)?;
    Ok(())
}

fn interval_timer(vessel: &Vessel, timer: &IntervalTimer) -> Result<(), VesselError> {
    let interval = i64::try_from(timer.interval.get()).unwrap_or(i64::MAX);
    let expires = timer.expires.get();
    if timer.which.get() != ITIMER_REAL {
        return start(vessel, timer, interval, expires);
    }
    let now = clock::now(vessel, CLOCK_MONOTONIC)?;
    if expires > now {
        return start(vessel, timer, interval, expires - now);
    }
    expire(vessel, timer)?;
    if interval == 0 {
        return Ok(());
    }
    // The kernel would set it to the next multiple of the period when its signal is taken; it comes to the same.
    let now = clock::now(vessel, CLOCK_MONOTONIC)?;
    let passed = (now - expires) / interval + 1;
    let next = expires.saturating_add(passed.saturating_mul(interval));
    start(vessel, timer, interval, next - now)
}

fn start(
    vessel: &Vessel,
    timer: &IntervalTimer,
    interval: i64,
    value: i64,
) -> Result<(), VesselError> {
    let mut list = List::new();
    let setting = list.words(&clock::itimerval(interval, value.max(1)));
    let arguments = args![timer.which.get(), setting, 0];
    list.call("set an interval timer", libc::SYS_setitimer, arguments);
    vessel.run(&list)?;
    Ok(())
}

/// Lets it expire now, and waits until it has.
fn expire(vessel: &Vessel, timer: &IntervalTimer) -> Result<(), VesselError> {
    start(vessel, timer, 0, 1)?;
    for _ in 0..ATTEMPTS {
        let mut list = List::new();
        let pause = list.words(&[0, MILLISECOND]);
        list.call("wait", libc::SYS_nanosleep, args![pause, 0]);
        let room = list.room(32);
        let arguments = args![timer.which.get(), room];
        list.call("look at an interval timer", libc::SYS_getitimer, arguments);
        let answers = vessel.run(&list)?;
        let left = answers.bytes(room, 32).get(16..).unwrap_or_default();
        if clock::pair(left) == [0, 0] {
            return Ok(());
        }
    }
    let what = "let a timer expire".to_owned();
    Err(VesselError::Timeout { what })
}

// SPDX-License-Identifier: GPL-2.0

//! Timers of a process that send signals (kernel/time/itimer.c, kernel/time/posix-timers.c).

use super::task::Task;
use crate::sys;
use core::mem::MaybeUninit;
use core::ptr;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::rcu;

pub(crate) use crate::sys::pmig_posix_timer as PosixTimer;

/// An interval timer that is set.
#[derive(Clone, Copy)]
pub(crate) struct IntervalTimer {
    /// `ITIMER_*`.
    pub(crate) which: u32,
    /// `ITIMER_REAL`: by `CLOCK_MONOTONIC`; the others: the CPU time that is left. Nanoseconds.
    pub(crate) expires: i64,
    /// Nanoseconds.
    pub(crate) interval: i64,
}

/// The interval timers that are set in the process that `leader` leads. Exact for a frozen one.
pub(crate) fn interval_timers(leader: &Task) -> [Option<IntervalTimer>; 3] {
    // SAFETY: `signal` lives as long as the task; single words are read. While a timer of CPU time is set, the kernel keeps
    // the sums of the process up to date (include/linux/sched/cputime.h).
    unsafe {
        let signal = &*leader.raw().signal;
        let is_set = sys::pmig_timer_active(&signal.real_timer) || signal.it_real_incr != 0;
        let real = is_set.then(|| IntervalTimer {
            which: bindings::ITIMER_REAL,
            expires: sys::pmig_timer_expires(&signal.real_timer),
            interval: signal.it_real_incr,
        });
        let sums = &signal.cputimer.cputime_atomic;
        let user = ptr::addr_of!(sums.utime.counter).read_volatile();
        let system = ptr::addr_of!(sums.stime.counter).read_volatile();
        let cpu = |which: u32, index: usize, now: i64| {
            let timer = signal.it.get(index).filter(|timer| timer.expires != 0)?;
            Some(IntervalTimer {
                which,
                expires: (timer.expires as i64).saturating_sub(now).max(1),
                interval: timer.incr as i64,
            })
        };
        // `CPUCLOCK_PROF` is 0 and `CPUCLOCK_VIRT` is 1 (include/uapi/linux/time.h has neither).
        let prof = cpu(bindings::ITIMER_PROF, 0, user.saturating_add(system));
        let virt = cpu(bindings::ITIMER_VIRTUAL, 1, user);
        [real, virt, prof]
    }
}

/// Calls `body` with each POSIX timer of the process that `leader` leads, without sleeping.
fn each_posix_timer(leader: &Task, mut body: impl FnMut(PosixTimer)) {
    let _guard = rcu::read_lock();
    let mut timer = ptr::null_mut();
    loop {
        // SAFETY: RCU keeps the list and the timers; the task is kept, and with it its `signal`. A task that has been
        // released has no timers.
        let read = unsafe {
            timer = sys::pmig_next_posix_timer(leader.as_ptr(), timer);
            if timer.is_null() || !sys::pmig_pid_alive(leader.as_ptr()) {
                return;
            }
            let mut read = MaybeUninit::<PosixTimer>::zeroed();
            sys::pmig_read_posix_timer(leader.as_ptr(), timer, read.as_mut_ptr());
            read.assume_init()
        };
        body(read);
    }
}

/// Whether a timer is of a kind that can be set again on another host.
fn is_movable(timer: &PosixTimer) -> bool {
    const CLOCKS: [u32; 4] = [
        bindings::CLOCK_REALTIME,
        bindings::CLOCK_MONOTONIC,
        bindings::CLOCK_BOOTTIME,
        bindings::CLOCK_TAI,
    ];
    u32::try_from(timer.clock).is_ok_and(|clock| CLOCKS.contains(&clock))
}

/// Whether all POSIX timers of the process that `leader` leads can be set again on another host.
pub(crate) fn are_movable(leader: &Task) -> bool {
    let mut all = true;
    each_posix_timer(leader, |timer| all &= is_movable(&timer));
    all
}

/// All POSIX timers of the frozen process that `leader` leads.
pub(crate) fn posix_timers(leader: &Task) -> Result<KVVec<PosixTimer>> {
    // Nothing can be allocated while they are read.
    let mut count = 0usize;
    each_posix_timer(leader, |_| count = count.saturating_add(1));
    let mut timers = KVVec::with_capacity(count, GFP_KERNEL)?;
    each_posix_timer(leader, |timer| {
        // A frozen process makes no new ones.
        let _ = timers.push_within_capacity(timer);
    });
    Ok(timers)
}

/// Sets what `timer_getoverrun` says of a timer's last signal.
pub(crate) fn set_last_overrun(leader: &Task, id: u32, overrun: i64) -> Result {
    let id = i32::try_from(id).map_err(|_| EINVAL)?;
    // SAFETY: The task is kept; the helper takes the locks that it needs.
    match unsafe { sys::pmig_set_last_overrun(leader.as_ptr(), id, overrun) } {
        true => Ok(()),
        false => Err(ENOENT),
    }
}

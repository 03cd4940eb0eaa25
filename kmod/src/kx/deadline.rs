// SPDX-License-Identifier: GPL-2.0

//! Calls with a time that the kernel starts anew, with all of their time, after an interruption: `rt_sigtimedwait` and the
//! kinds of `epoll_wait`.
//!
//! The kernel restarts `nanosleep`, `poll` and `futex` with the time that is left. These calls return `EINTR` instead, and
//! the freeze turns that into a restart from the beginning, with the program's own timeout: nothing that the
//! program could see may be changed. So the module remembers when the call would have ended, and ends it then: it wakes
//! the thread and gives the call the result that it has when its time is over.

use crate::kx::park;
use crate::kx::task::Task;
use crate::kx::time;
use crate::sys;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use kernel::bindings;
use kernel::impl_has_hr_timer;
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::sync::ArcBorrow;
use kernel::time::hrtimer::ArcHrTimerHandle;
use kernel::time::hrtimer::HrTimer;
use kernel::time::hrtimer::HrTimerCallback;
use kernel::time::hrtimer::HrTimerCallbackContext;
use kernel::time::hrtimer::HrTimerPointer;
use kernel::time::hrtimer::HrTimerRestart;
use kernel::time::hrtimer::RelativeMode;
use kernel::time::Delta;
use kernel::time::Monotonic;
use kernel::uaccess::UserPtr;
use kernel::uaccess::UserSlice;

/// The shortest time that a restarted call gets, nanoseconds: it has to come to its wait first.
const SHORTEST: i64 = 20_000_000;

/// How many times [`SHORTEST`] a thread gets that has not come to any wait yet: on a busy host it may take a while.
const ATTEMPTS: u32 = 50;

/// How a call is told how long it may take.
enum Limit {
    /// Milliseconds in the fourth argument, negative for no limit.
    Milliseconds,
    /// The argument is the address of a `struct __kernel_timespec`, null for no limit.
    Timespec(fn(&bindings::pt_regs) -> usize),
}

/// A call that starts anew, and ends.
struct Timed {
    call: u32,
    limit: Limit,
    /// What it answers when its time is over.
    over: i64,
}

/// fs/eventpoll.c, kernel/signal.c.
static CALLS: [Timed; 4] = [
    Timed {
        call: bindings::__NR_rt_sigtimedwait,
        limit: Limit::Timespec(|regs| regs.dx),
        over: -(bindings::EAGAIN as i64),
    },
    Timed {
        call: bindings::__NR_epoll_wait,
        limit: Limit::Milliseconds,
        over: 0,
    },
    Timed {
        call: bindings::__NR_epoll_pwait,
        limit: Limit::Milliseconds,
        over: 0,
    },
    Timed {
        call: bindings::__NR_epoll_pwait2,
        limit: Limit::Timespec(|regs| regs.r10),
        over: 0,
    },
];

impl Limit {
    /// How long the call that the current task is in may take, nanoseconds.
    fn length(&self) -> Option<i64> {
        match self {
            Self::Milliseconds => {
                let milliseconds = u64::try_from(registers().r10 as i32).ok()?;
                i64::try_from(milliseconds.checked_mul(1_000_000)?).ok()
            }
            Self::Timespec(address) => {
                let address = address(registers());
                if address == 0 {
                    return None;
                }
                // Seconds and nanoseconds.
                let mut reader = UserSlice::new(UserPtr::from_addr(address), 16).reader();
                let seconds = reader.read::<i64>().ok()?;
                let nanoseconds = reader.read::<i64>().ok()?;
                seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
            }
        }
    }
}

/// Which call, at which place of the program.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Frame {
    call: i64,
    ip: usize,
    sp: usize,
}

fn registers() -> &'static mut bindings::pt_regs {
    // SAFETY: The current task's saved user registers are its own; no other reference to them lives while this one does.
    unsafe { &mut *sys::pmig_task_pt_regs(bindings::get_current()) }
}

impl Frame {
    /// The current task's.
    fn current() -> Self {
        let regs = registers();
        Self {
            call: regs.orig_ax as i64,
            ip: regs.ip,
            sp: regs.sp,
        }
    }

    /// What kind of call it is, if it is one that ends.
    fn timed(&self) -> Option<&'static Timed> {
        CALLS
            .iter()
            .find(|timed| i64::from(timed.call) == self.call)
    }
}

/// A call that ends at a certain time.
#[pin_data]
#[repr(C)]
struct Deadline {
    work: UnsafeCell<bindings::callback_head>,
    task: Task,
    frame: Frame,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    ends: i64,
    /// How often the thread had gone to sleep before the restart.
    sleeps: AtomicU64,
    attempts: AtomicU32,
    fired: AtomicBool,
    #[pin]
    timer: HrTimer<Self>,
}

// SAFETY: `work` belongs to the kernel once the timer has fired, and is touched by nobody else; the rest is `Sync`.
unsafe impl Sync for Deadline {}
// SAFETY: Nothing in it is bound to a task.
unsafe impl Send for Deadline {}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Deadline {
        mode: RelativeMode<Monotonic>, field: self.timer
    }
}

impl HrTimerCallback for Deadline {
    type Pointer<'a> = Arc<Self>;

    fn run(
        this: ArcBorrow<'_, Self>,
        mut context: HrTimerCallbackContext<'_, Self>,
    ) -> HrTimerRestart {
        let is_late = this.slept() == 0
            && this.attempts.fetch_add(1, Ordering::Relaxed) < ATTEMPTS
            && !this.task.is_exiting();
        if is_late {
            context.forward_now(Delta::from_nanos(SHORTEST));
            return HrTimerRestart::Restart;
        }
        this.fire();
        HrTimerRestart::NoRestart
    }
}

impl Deadline {
    /// How often the thread has gone to sleep since the restart.
    fn slept(&self) -> u64 {
        let before = self.sleeps.load(Ordering::Relaxed);
        self.task.sleeps().wrapping_sub(before)
    }

    /// Wakes the thread if it still waits in the call. In interrupt context.
    fn fire(self: ArcBorrow<'_, Self>) {
        // The restarted call is the first thing that the thread sleeps in. If it has slept more often, it is in another
        // call by now, or was woken and has gone on waiting: that one takes all of its time again.
        let waits = self.slept() == 1 && self.task.sleeps_since().is_some();
        if self.fired.swap(true, Ordering::AcqRel) || !waits {
            return;
        }
        // SAFETY: May be called in interrupt context; fails if the module is about to go.
        if !unsafe { sys::pmig_module_try_get() } {
            return;
        }
        let work = self.work.get();
        let queued = Arc::into_raw(Arc::from(self));
        // SAFETY: `queued` keeps the work until `wake_callback` has run. May be called in interrupt context.
        let result = unsafe {
            bindings::task_work_add(
                (*queued).task.as_ptr(),
                work,
                bindings::task_work_notify_mode_TWA_SIGNAL,
            )
        };
        if result != 0 {
            // SAFETY: Not queued, so both references are ours again. The list of deadlines holds another of the first.
            unsafe {
                drop(Arc::from_raw(queued));
                sys::pmig_module_put();
            }
        }
    }

    /// Gives the call its result. In the context of the thread.
    fn end_call(&self) {
        let regs = registers();
        let interrupted = regs.ax as i64 == -i64::from(bindings::EINTR);
        let is_this = interrupted && Frame::current() == self.frame;
        match self.frame.timed().filter(|_| is_this) {
            Some(timed) => regs.ax = timed.over as usize,
            // It was in another call after all, which goes on.
            None => {
                park::restart_interrupted_call();
            }
        }
    }
}

/// What the kernel calls in the context of the thread.
///
/// # Safety
///
/// Only as the function of a work that `Deadline::fire` has queued.
unsafe extern "C" fn wake_callback(work: *mut bindings::callback_head) {
    // SAFETY: `work` is the field of a deadline whose reference `fire` gave away for this call.
    let deadline = unsafe {
        let deadline = work
            .cast::<u8>()
            .sub(offset_of!(Deadline, work))
            .cast::<Deadline>();
        Arc::from_raw(deadline.cast_const())
    };
    if !deadline.task.is_exiting() {
        deadline.end_call();
    }
    drop(deadline);
    // SAFETY: Gives back the reference that `fire` took; see `park::drain`.
    unsafe { sys::pmig_module_put() };
}

/// A deadline and what keeps its timer going.
type Armed = (Arc<Deadline>, ArcHrTimerHandle<Deadline>);

kernel::sync::global_lock! {
    // SAFETY: `init` runs in the module's init, before a task is parked.
    unsafe(uninit) static DEADLINES: Mutex<KVVec<Armed>> = KVVec::new();
}

/// Sets the list of deadlines up.
///
/// # Safety
///
/// May be called once, before anything else here.
pub(super) unsafe fn init() {
    // SAFETY: As the caller says.
    unsafe { DEADLINES.init() };
}

/// Forgets all deadlines: the calls go on for all of their time. For the module's exit.
pub(crate) fn clear() {
    // Dropped after the list is unlocked: that waits for timers that fire just now.
    let _all = core::mem::replace(&mut *DEADLINES.lock(), KVVec::new());
}

/// Takes out the deadlines that `is_done`.
fn take_out(is_done: impl Fn(&Deadline) -> bool) -> KVVec<Armed> {
    let mut taken = KVVec::new();
    let mut list = DEADLINES.lock();
    let mut index = 0;
    while let Some((deadline, _)) = list.get(index) {
        if is_done(deadline) && taken.reserve(1, GFP_KERNEL).is_ok() {
            if let Ok(armed) = list.remove(index) {
                // There is room. Should there be none after all, the timer is cancelled here.
                let _ = taken.push(armed, GFP_KERNEL);
            }
        } else {
            index = index.saturating_add(1);
        }
    }
    taken
}

/// When the call ends that the freeze has just interrupted, if it is one of those that start anew: `CLOCK_MONOTONIC`,
/// nanoseconds. `slept_since` is when the current task went to sleep, in the same.
pub(super) fn of_interrupted_call(task: &Task, slept_since: i64) -> Option<i64> {
    let frame = Frame::current();
    let timed = frame.timed()?;
    let before = take_out(|deadline| deadline.task == *task);
    if let Some((deadline, _)) = before
        .first()
        .filter(|(deadline, _)| deadline.frame == frame)
    {
        return Some(deadline.ends);
    }
    let length = timed.limit.length()?;
    slept_since.checked_add(length)
}

/// Lets the call that the current task is about to start anew end at `ends`.
pub(super) fn arm(task: &Task, ends: i64) {
    if Frame::current().timed().is_none() {
        return;
    }
    let _done = take_out(|deadline| {
        deadline.fired.load(Ordering::Acquire)
            || deadline.task.is_exiting()
            || deadline.task == *task
    });
    let deadline = Arc::pin_init(
        pin_init!(Deadline {
            work: UnsafeCell::new(bindings::callback_head {
                next: core::ptr::null_mut(),
                func: Some(wake_callback),
            }),
            task: task.clone(),
            frame: Frame::current(),
            ends,
            sleeps: AtomicU64::new(0),
            attempts: AtomicU32::new(0),
            fired: AtomicBool::new(false),
            timer <- HrTimer::new(),
        }),
        GFP_KERNEL,
    );
    let mut list = DEADLINES.lock();
    // Without memory for it the call takes all of its time again.
    if let (Ok(deadline), Ok(())) = (deadline, list.reserve(1, GFP_KERNEL)) {
        // Only now: taking the lock may have been sleep.
        deadline.sleeps.store(task.sleeps(), Ordering::Relaxed);
        let left = ends.saturating_sub(time::monotonic()).max(SHORTEST);
        let handle = deadline.clone().start(Delta::from_nanos(left));
        let _ = list.push((deadline, handle), GFP_KERNEL);
    }
}

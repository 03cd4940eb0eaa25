// SPDX-License-Identifier: GPL-2.0

//! Parking a task: it stops at the point where it would go back to user mode, and waits there.
//!
//! A [`Park`] is queued on a task with `task_work_add(TWA_SIGNAL)` (kernel/task_work.c). The task runs the callback at
//! the top of `get_signal()`, before a signal is dequeued, with its complete user frame saved. Nothing of this is visible
//! to the program or its parent: no signal is sent and no job-control state changes.
//!
//! # Who owns a park
//!
//! The session holds one reference, the queued work another. `task_work_cancel` is not exported, so a work that was queued
//! stays queued until the task runs it; [`Park::release`] before that makes the callback return at once. The work's
//! reference, and the reference to the module that goes with it, are dropped by the callback. The callback's last
//! instructions run after that: [`drain`] waits for them before the module goes away.
//!
//! A task that job control has stopped may not run for days. When it is released, its work becomes one that only frees
//! itself, with a function of the kernel, and both references are dropped at once.

use crate::kx::deadline;
use crate::kx::mm;
use crate::kx::signal;
use crate::kx::task::Task;
use crate::kx::time;
use crate::sys;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicI64;
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;
use kernel::bindings;
use kernel::ffi::c_int;
use kernel::new_mutex;
use kernel::prelude::*;
use kernel::sync::lock::mutex::MutexGuard;
use kernel::sync::Arc;
use kernel::sync::Mutex;
use kernel::time::msecs_to_jiffies;
use kernel::time::Msecs;
use kernel::types::Opaque;

/// How far a park is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ParkState {
    /// The task has not come to the callback yet.
    Queued = 0,
    /// The task waits in the callback, or is about to.
    Parked = 1,
    /// The task has left the callback and runs.
    Released = 2,
    /// The task was killed or exits.
    Dead = 3,
}

/// What a parked task is told to do.
#[repr(u32)]
enum Command {
    None = 0,
    Release = 1,
    UnmapStub = 2,
}

/// How long a task that was stopped and is continued may take to come to the callback, milliseconds.
const CONTINUED: Msecs = 1000;

/// A completion of C. That of the `kernel` crate has no killable wait.
fn new_completion() -> impl PinInit<Opaque<bindings::completion>> {
    Opaque::ffi_init(|slot: *mut bindings::completion| {
        // SAFETY: `slot` is valid for writes and stays where it is, as `ffi_init` guarantees.
        unsafe { bindings::init_completion(slot) };
    })
}

/// What is queued on a task. It is its own allocation, because a stopped task keeps it for longer than the park lives.
#[repr(C)]
struct Work {
    head: bindings::callback_head,
    /// A counted reference.
    park: *const Park,
}

/// One task that is or will be parked.
#[pin_data]
pub(crate) struct Park {
    /// The [`Work`], null once it was taken back. Looked at only while the task cannot run it, because running frees it.
    work: AtomicPtr<Work>,
    task: Task,
    state: AtomicU32,
    command: AtomicU32,
    /// The task becomes another process when it is released.
    restored: AtomicBool,
    /// When the task went to sleep before it was woken for this: `CLOCK_MONOTONIC`, nanoseconds.
    slept_since: i64,
    /// When the interrupted call ends, if it starts anew: likewise, 0 for none.
    deadline: AtomicI64,
    robust_list: AtomicU64,
    clear_child_tid: AtomicU64,
    stub_start: AtomicU64,
    stub_end: AtomicU64,
    #[pin]
    wake: Opaque<bindings::completion>,
    #[pin]
    arrived: Opaque<bindings::completion>,
    /// Locked while the frozen task is read or written, and by the task before it dies.
    #[pin]
    access: Mutex<()>,
}

// SAFETY: Completions are made to be shared; the rest is `Sync` by itself.
unsafe impl Sync for Park {}
// SAFETY: Nothing in a park is bound to the task that made it.
unsafe impl Send for Park {}

/// By less than this part the scheduler's clock runs faster than `CLOCK_MONOTONIC`.
const DRIFT: i64 = 1000;

impl Park {
    /// Queues a park on `task`.
    ///
    /// Fails with `ESRCH` if the task is exiting.
    pub(crate) fn queue(task: Task) -> Result<Arc<Self>> {
        let now = time::monotonic();
        let slept_since = match task.sleeps_since() {
            Some(since) => {
                let slept = time::scheduler().saturating_sub(since);
                let slept = i64::try_from(slept).unwrap_or(0);
                // The scheduler's clock is not disciplined. A wait may end a little late, and never too early.
                now.saturating_sub(slept.saturating_sub(slept / DRIFT))
            }
            None => now,
        };
        let park = Arc::pin_init(
            try_pin_init!(Self {
                work: AtomicPtr::new(core::ptr::null_mut()),
                task,
                state: AtomicU32::new(ParkState::Queued as u32),
                command: AtomicU32::new(Command::None as u32),
                restored: AtomicBool::new(false),
                slept_since,
                deadline: AtomicI64::new(0),
                robust_list: AtomicU64::new(0),
                clear_child_tid: AtomicU64::new(0),
                stub_start: AtomicU64::new(0),
                stub_end: AtomicU64::new(0),
                wake <- new_completion(),
                arrived <- new_completion(),
                access <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )?;
        let work = KBox::new(
            Work {
                head: bindings::callback_head {
                    next: core::ptr::null_mut(),
                    func: Some(park_callback),
                },
                park: core::ptr::null(),
            },
            GFP_KERNEL,
        )?;
        let work = KBox::into_raw(work);
        park.work.store(work, Ordering::Release);
        // SAFETY: The session that this is done for has a reference, so there is one to add to.
        unsafe { sys::pmig_module_get() };
        // SAFETY: The work is not queued yet, so it is ours. The task is kept by `Task`. The work stays valid until its
        // function has run, because only that, or `take_back` through the function that it leaves there, frees it.
        let result = unsafe {
            (*work).park = Arc::into_raw(park.clone());
            bindings::task_work_add(
                park.task.as_ptr(),
                &raw mut (*work).head,
                bindings::task_work_notify_mode_TWA_SIGNAL,
            )
        };
        if result != 0 {
            // SAFETY: The work was not queued, so it and both references are ours again.
            unsafe {
                drop(Self::from_work(work));
                sys::pmig_module_put();
            }
            return Err(ESRCH);
        }
        Ok(park)
    }

    /// Frees a work and gives its reference.
    ///
    /// # Safety
    ///
    /// `work` must be one that `queue` has made, and nobody may use it any more.
    unsafe fn from_work(work: *mut Work) -> Arc<Self> {
        // SAFETY: As the caller says; `queue` has made it a box and counted the reference.
        unsafe { Arc::from_raw(KBox::from_raw(work).park) }
    }

    /// The task.
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    /// How far the park is.
    pub(crate) fn state(&self) -> ParkState {
        match self.state.load(Ordering::Acquire) {
            0 => ParkState::Queued,
            1 => ParkState::Parked,
            2 => ParkState::Released,
            _ => ParkState::Dead,
        }
    }

    fn arrive(&self, state: ParkState) {
        self.state.store(state as u32, Ordering::Release);
        // SAFETY: The completion was initialised and lives as long as the park.
        unsafe { bindings::complete_all(self.arrived.get()) };
    }

    /// Waits until the task is parked and off its CPU, is stopped by job control, or is dead.
    ///
    /// A stopped task does not run the callback before it continues, and runs it then before anything else: it counts as
    /// parked. Returns `ETIMEDOUT` if none of this happens within `timeout` milliseconds, `EINTR` if the caller is killed.
    pub(crate) fn wait_parked(&self, timeout: Msecs) -> Result {
        let mut left = msecs_to_jiffies(timeout).max(1);
        loop {
            if self.state() != ParkState::Queued || self.task.is_stopped() {
                self.task.wait_off_cpu();
                return Ok(());
            }
            // A stopped task sends no event, so look again from time to time.
            let slice = left.min(msecs_to_jiffies(20).max(1));
            // SAFETY: The completion was initialised and lives as long as the park.
            let result = unsafe {
                bindings::wait_for_completion_killable_timeout(self.arrived.get(), slice)
            };
            if result < 0 {
                return Err(EINTR);
            }
            if result == 0 {
                left = left.saturating_sub(slice);
                if left == 0 {
                    return Err(ETIMEDOUT);
                }
            }
        }
    }

    /// Whether the task can be captured: it is parked or stopped.
    pub(crate) fn is_frozen(&self) -> bool {
        match self.state() {
            ParkState::Parked => true,
            ParkState::Queued => self.task.is_stopped(),
            ParkState::Released | ParkState::Dead => false,
        }
    }

    /// Keeps the frozen task from going away. Fails with `ESRCH` if it was killed.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        let access = self.access.lock();
        while !self.is_frozen() {
            if self.state() != ParkState::Queued {
                return Err(ESRCH);
            }
            // It was stopped and is continued just now, so it comes to the callback.
            self.wait_parked(CONTINUED)?;
        }
        Ok(Held {
            park: self,
            _access: access,
        })
    }

    /// The last step of the callback of a task that was killed.
    fn die(&self) {
        self.arrive(ParkState::Dead);
        // Whoever holds the task found it frozen, and needs its stack and its signal handlers for a moment.
        drop(self.access.lock());
    }

    fn tell(&self, command: Command) {
        self.command.store(command as u32, Ordering::Release);
        // SAFETY: The completion was initialised and lives as long as the park.
        unsafe { bindings::complete(self.wake.get()) };
    }

    /// Lets the task run, whether it has come to the callback already or not.
    pub(crate) fn release(&self) {
        if !self.take_back() {
            self.tell(Command::Release);
        }
    }

    /// Makes the work of a stopped task one that has nothing to do with this module. Says whether it could.
    fn take_back(&self) -> bool {
        if self.state() != ParkState::Queued || !self.task.is_stopped() {
            return false;
        }
        let Ok(held) = self.hold() else {
            return false;
        };
        let taken = signal::while_stopped(&held, || {
            let work = match self.state() {
                ParkState::Queued => self.work.swap(core::ptr::null_mut(), Ordering::AcqRel),
                _ => core::ptr::null_mut(),
            };
            if work.is_null() {
                return None;
            }
            // SAFETY: The task has not run the work, and cannot before this returns.
            let (head, park) = unsafe { (&raw mut (*work).head, (*work).park) };
            // SAFETY: The two types are called alike, with one pointer. The work is a box of its own and begins with
            // `head`, so the kernel frees all of it.
            unsafe {
                (*head).func = Some(core::mem::transmute::<
                    unsafe extern "C" fn(*const core::ffi::c_void),
                    unsafe extern "C" fn(*mut bindings::callback_head),
                >(bindings::kfree));
            }
            Some(park)
        });
        drop(held);
        let Some(park) = taken.flatten() else {
            return false;
        };
        // SAFETY: Both references were the callback's, which does not run any more. The session has another of each.
        unsafe {
            drop(Arc::from_raw(park));
            sys::pmig_module_put();
        }
        true
    }

    /// Makes the release one into another life: user state was replaced while the task was parked.
    pub(crate) fn mark_restored(&self) {
        self.restored.store(true, Ordering::Release);
    }

    /// Sets the addresses that the kernel writes to when the thread ends. They take effect with the release.
    pub(crate) fn set_exit_addresses(&self, robust_list: u64, clear_child_tid: u64) {
        self.robust_list.store(robust_list, Ordering::Relaxed);
        self.clear_child_tid
            .store(clear_child_tid, Ordering::Relaxed);
    }

    /// Makes the parked task unmap `start..end` of its own memory and wait again.
    pub(crate) fn unmap_stub(&self, start: u64, end: u64) -> Result {
        self.stub_start.store(start, Ordering::Relaxed);
        self.stub_end.store(end, Ordering::Relaxed);
        self.state
            .store(ParkState::Queued as u32, Ordering::Release);
        // SAFETY: The completion was initialised, and nobody waits for it: the caller holds the session.
        unsafe { sys::pmig_reinit_completion(self.arrived.get()) };
        self.tell(Command::UnmapStub);
        self.wait_parked(10_000)?;
        match (self.state(), self.stub_end.load(Ordering::Acquire)) {
            (ParkState::Parked, 0) => Ok(()),
            (ParkState::Parked, _) => Err(EFAULT),
            _ => Err(ESRCH),
        }
    }

    /// Waits in the parked task's own context until it is released or killed.
    fn wait(&self) {
        loop {
            self.arrive(ParkState::Parked);
            // Killable, so that SIGKILL ends a frozen process at once; not counted as load; does not hold up suspend.
            let state = bindings::TASK_KILLABLE | bindings::TASK_NOLOAD | bindings::TASK_FREEZABLE;
            // SAFETY: The completion was initialised and lives as long as the park; this is process context.
            if unsafe { bindings::wait_for_completion_state(self.wake.get(), state) } != 0 {
                self.die();
                return;
            }
            let command = self.command.swap(Command::None as u32, Ordering::AcqRel);
            if command == Command::Release as u32 {
                break;
            }
            if command == Command::UnmapStub as u32 {
                let start = self.stub_start.load(Ordering::Relaxed);
                let end = self.stub_end.load(Ordering::Relaxed);
                if mm::unmap_own(start, end).is_ok() {
                    self.stub_end.store(0, Ordering::Release);
                }
            }
        }
        if self.restored.load(Ordering::Acquire) {
            Task::refresh_restored_current(
                self.robust_list.load(Ordering::Relaxed),
                self.clear_child_tid.load(Ordering::Relaxed),
            );
        }
        self.leave();
    }

    /// The last step of the callback of a task that goes on.
    fn leave(&self) {
        match self.deadline() {
            0 => {}
            ends => deadline::arm(&self.task, ends),
        }
        self.arrive(ParkState::Released);
    }

    /// When the interrupted call ends, if it is one that starts anew: `CLOCK_MONOTONIC`, nanoseconds; 0 for none.
    pub(crate) fn deadline(&self) -> i64 {
        self.deadline.load(Ordering::Acquire)
    }

    /// Sets when the call ends that starts anew with the release.
    pub(crate) fn set_deadline(&self, ends: i64) {
        self.deadline.store(ends, Ordering::Release);
    }

    /// The callback's work, in the context of the task.
    fn run(&self) {
        if self.task.is_exiting() {
            self.die();
            return;
        }
        // Also if the freeze was given up meanwhile: it is what has interrupted the call.
        if restart_interrupted_call() {
            let ends = deadline::of_interrupted_call(&self.task, self.slept_since);
            self.deadline.store(ends.unwrap_or(0), Ordering::Release);
        }
        if self.command.load(Ordering::Acquire) != Command::Release as u32 {
            self.wait();
        } else {
            self.leave();
        }
    }
}

/// A frozen task that does not go away as long as this lives, even if it is killed: its registers, its stack and its signal
/// handlers stay what they are.
///
/// A killed task runs the callback before it gives any of them up, also one that was stopped by job control: at the latest
/// in `exit_task_work()` (kernel/exit.c).
pub(crate) struct Held<'a> {
    park: &'a Park,
    _access: MutexGuard<'a, ()>,
}

impl Held<'_> {
    /// The task.
    pub(crate) fn task(&self) -> &Task {
        &self.park.task
    }
}

/// Turns the `EINTR` of a call that the freeze interrupted, and that the kernel never restarts by itself, into a restart.
///
/// `ERESTARTNOHAND` becomes `EINTR` again if a signal handler is about to run (arch/x86/kernel/signal.c).
/// Says whether it was one.
pub(super) fn restart_interrupted_call() -> bool {
    const ERESTARTNOHAND: c_int = 514;
    const CALLS: [u32; 15] = [
        bindings::__NR_epoll_wait,
        bindings::__NR_epoll_pwait,
        bindings::__NR_epoll_pwait2,
        bindings::__NR_rt_sigtimedwait,
        bindings::__NR_semop,
        bindings::__NR_semtimedop,
        bindings::__NR_io_getevents,
        bindings::__NR_io_pgetevents,
        bindings::__NR_recvfrom,
        bindings::__NR_recvmsg,
        bindings::__NR_recvmmsg,
        bindings::__NR_sendto,
        bindings::__NR_sendmsg,
        bindings::__NR_accept,
        bindings::__NR_accept4,
    ];
    // SAFETY: The current task's saved user registers are its own to change.
    let regs = unsafe { &mut *sys::pmig_task_pt_regs(bindings::get_current()) };
    let interrupted = regs.ax as i64 == -i64::from(bindings::EINTR);
    let call = regs.orig_ax as i64;
    if interrupted && CALLS.iter().any(|number| i64::from(*number) == call) {
        regs.ax = (-i64::from(ERESTARTNOHAND)) as usize;
        return true;
    }
    false
}

/// What the kernel calls in the context of the task.
///
/// # Safety
///
/// Only as the function of a work that `Park::queue` has queued.
unsafe extern "C" fn park_callback(head: *mut bindings::callback_head) {
    // SAFETY: `head` is the first field of a work that `queue` gave away for this call.
    let park = unsafe { Park::from_work(head.cast()) };
    park.work.store(core::ptr::null_mut(), Ordering::Release);
    park.run();
    drop(park);
    // SAFETY: Gives back the reference that `queue` took. `drain` keeps the code here until this task has left it.
    unsafe { sys::pmig_module_put() };
}

/// Waits until no task is in the last instructions of the callback. For the module's exit.
pub(crate) fn drain() {
    // SAFETY: May sleep here. Every task that was in the callback has switched voluntarily or gone to user mode after
    // this (kernel/rcu/tasks.h), so none is in the callback, which does neither after dropping its reference.
    unsafe { bindings::synchronize_rcu_tasks() };
}

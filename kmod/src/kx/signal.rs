// SPDX-License-Identifier: GPL-2.0

//! Signal state of a frozen task, read and written under its siglock.

use crate::kx::park::Held;
use crate::kx::task::Task;
use crate::sys;
use core::mem::MaybeUninit;
use core::ptr::addr_of_mut;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use pmig_wire::signal::SIGINFO_SIZE;

const _: () = assert!(size_of::<bindings::kernel_siginfo>() == SIGINFO_SIZE);

/// Holds the siglock of a task while it lives.
struct SiglockGuard<'a>(&'a Task);

impl<'a> SiglockGuard<'a> {
    fn lock(held: &'a Held<'_>) -> Self {
        // SAFETY: A held task has not been released, so it has its sighand.
        unsafe { sys::pmig_lock_siglock(held.task().as_ptr()) };
        Self(held.task())
    }
}

impl Drop for SiglockGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked when the guard was made.
        unsafe { sys::pmig_unlock_siglock(self.0.as_ptr()) };
    }
}

/// Runs `body` if job control has stopped the task, which can neither continue nor die meanwhile: both need the siglock
/// (`prepare_signal()` and `get_signal()`, kernel/signal.c).
pub(super) fn while_stopped<T>(held: &Held<'_>, body: impl FnOnce() -> T) -> Option<T> {
    let _guard = SiglockGuard::lock(held);
    held.task().is_stopped().then(body)
}

/// One action.
#[derive(Clone, Copy, Default)]
pub(crate) struct Action {
    pub(crate) handler: u64,
    pub(crate) flags: u64,
    pub(crate) restorer: u64,
    pub(crate) mask: u64,
}

/// The three masks of a thread.
#[derive(Clone, Copy, Default)]
pub(crate) struct Masks {
    pub(crate) blocked: u64,
    pub(crate) saved: u64,
    /// Whether `saved` replaces `blocked` when the interrupted call ends.
    pub(crate) restore: bool,
}

/// A signal that waits.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) shared: bool,
    pub(crate) info: [u8; SIGINFO_SIZE],
}

/// What signal `number` (1 to 64) does in the process of `held`.
pub(crate) fn action(held: &Held<'_>, number: u32) -> Result<Action> {
    let index = number.checked_sub(1).ok_or(EINVAL)? as usize;
    let task = held.task();
    let _guard = SiglockGuard::lock(held);
    // SAFETY: The siglock is held.
    let actions = unsafe { &(*task.raw().sighand).action };
    let action = &actions.get(index).ok_or(EINVAL)?.sa;
    Ok(Action {
        handler: action
            .sa_handler
            .map_or(0, |handler| handler as usize as u64),
        flags: action.sa_flags as u64,
        restorer: action
            .sa_restorer
            .map_or(0, |restorer| restorer as usize as u64),
        mask: action.sa_mask.sig[0] as u64,
    })
}

/// The masks of a frozen thread.
pub(crate) fn masks(held: &Held<'_>) -> Masks {
    let task = held.task();
    let _guard = SiglockGuard::lock(held);
    Masks {
        blocked: task.raw().blocked.sig[0] as u64,
        saved: task.raw().saved_sigmask.sig[0] as u64,
        // SAFETY: The task is alive.
        restore: unsafe { sys::pmig_restore_sigmask(task.as_ptr()) },
    }
}

/// Gives a parked thread its masks. The thread looks again at what waits when it is released.
pub(crate) fn set_masks(held: &Held<'_>, masks: Masks) {
    const KILL_AND_STOP: u64 = (1 << (bindings::SIGKILL - 1)) | (1 << (bindings::SIGSTOP - 1));
    let task = held.task();
    let _guard = SiglockGuard::lock(held);
    // SAFETY: The siglock is held and the task is parked; nobody else writes its masks.
    unsafe {
        let task = task.as_ptr();
        (*task).blocked.sig[0] = (masks.blocked & !KILL_AND_STOP) as usize;
        (*task).saved_sigmask.sig[0] = (masks.saved & !KILL_AND_STOP) as usize;
        sys::pmig_set_restore_sigmask(task, masks.restore);
    }
}

/// Appends the signals that wait for a frozen thread, and for its whole process if it is the leader, in their order.
pub(crate) fn waiting(held: &Held<'_>, found: &mut KVVec<Waiting>) -> Result {
    const MOST: usize = 4096;
    let task = held.task();
    found.reserve(MOST, GFP_KERNEL)?;
    let room = found.capacity();
    let _guard = SiglockGuard::lock(held);
    // SAFETY: The siglock is held; both lists and their entries are stable under it.
    unsafe {
        let own = addr_of_mut!((*task.as_ptr()).pending.list);
        let shared = addr_of_mut!((*(*task.as_ptr()).signal).shared_pending.list);
        for (head, is_shared) in [(own, false), (shared, true)] {
            if is_shared && !task.is_leader() {
                continue;
            }
            let mut entry = (*head).next;
            while entry != head {
                let queue = kernel::container_of!(entry, bindings::sigqueue, list);
                if is_of_timer(queue) {
                    // It belongs to its timer, which sends it again.
                    entry = (*entry).next;
                    continue;
                }
                let mut info = [0; SIGINFO_SIZE];
                core::ptr::copy_nonoverlapping(
                    core::ptr::addr_of!((*queue).info).cast::<u8>(),
                    info.as_mut_ptr(),
                    SIGINFO_SIZE,
                );
                if found.len() >= room {
                    return Err(E2BIG);
                }
                found.push(
                    Waiting {
                        shared: is_shared,
                        info,
                    },
                    GFP_ATOMIC,
                )?;
                entry = (*entry).next;
            }
        }
    }
    Ok(())
}

/// Whether a queued signal is part of a POSIX timer.
///
/// # Safety
///
/// `queue` must be valid.
unsafe fn is_of_timer(queue: *const bindings::sigqueue) -> bool {
    // SAFETY: As the caller says.
    unsafe { (*queue).flags & bindings::SIGQUEUE_PREALLOC as i32 != 0 }
}

/// Whether a queued signal comes from a timer of the process: those go on while it is frozen, and expire on the other host
/// too.
///
/// # Safety
///
/// `queue` must be valid.
unsafe fn is_from_timer(queue: *const bindings::sigqueue) -> bool {
    const SI_KERNEL: i32 = 0x80;
    // SAFETY: As the caller says.
    unsafe {
        let info = &(*queue).info.__bindgen_anon_1;
        let is_alarm = info.si_signo == bindings::SIGALRM as i32 && info.si_code == SI_KERNEL;
        is_of_timer(queue) || is_alarm
    }
}

/// What others may do to frozen threads: the signals that wait for them and for their process, whether it is stopped,
/// whether it is traced. Signals only become more as long as they are frozen.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Census {
    entries: usize,
    numbers: u64,
    stop_signal: u32,
    is_traced: bool,
}

impl Census {
    /// Counts what waits for this thread, and for its whole process if it is the leader.
    pub(crate) fn add(&mut self, held: &Held<'_>) {
        let task = held.task();
        let _guard = SiglockGuard::lock(held);
        self.is_traced |= task.is_traced();
        if task.is_leader() {
            self.stop_signal = task.stop_signal();
        }
        // SAFETY: The siglock is held; both lists and their entries are stable under it.
        unsafe {
            let own = addr_of_mut!((*task.as_ptr()).pending);
            let shared = addr_of_mut!((*(*task.as_ptr()).signal).shared_pending);
            for (pending, is_shared) in [(own, false), (shared, true)] {
                if is_shared && !task.is_leader() {
                    continue;
                }
                let mut numbers = (*pending).signal.sig[0] as u64;
                let head = addr_of_mut!((*pending).list);
                let mut entry = (*head).next;
                while entry != head {
                    let queue = kernel::container_of!(entry, bindings::sigqueue, list);
                    if is_from_timer(queue) {
                        let number = (*queue).info.__bindgen_anon_1.si_signo;
                        numbers &= !(1 << (number.saturating_sub(1) & 63));
                    } else {
                        self.entries = self.entries.saturating_add(1);
                    }
                    entry = (*entry).next;
                }
                self.numbers |= numbers;
            }
        }
    }
}

/// The last entry of a queue that is not a timer's: those come at any time. `list` itself if there is none.
///
/// # Safety
///
/// `list` must be the head of a queue whose siglock is held.
unsafe fn last_ordinary(list: *mut bindings::list_head) -> *mut bindings::list_head {
    // SAFETY: As the caller says; the entries are stable under the lock.
    unsafe {
        let mut entry = (*list).prev;
        while entry != list && is_of_timer(kernel::container_of!(entry, bindings::sigqueue, list)) {
            entry = (*entry).prev;
        }
        entry
    }
}

/// Lets a signal wait for a parked thread, all of whose signals are blocked.
///
/// `send_sig_info` queues to the thread in 7.3 (kernel/signal.c), and changes the sender's PID and UID as it sees fit; so
/// what it queued is then given the contents that it had, and moved if it is for the whole process.
pub(crate) fn queue(held: &Held<'_>, signal: &Waiting) -> Result {
    let task = held.task();
    let mut info = MaybeUninit::<bindings::kernel_siginfo>::zeroed();
    // SAFETY: Plain bytes of the same size.
    let mut info = unsafe {
        core::ptr::copy_nonoverlapping(
            signal.info.as_ptr(),
            info.as_mut_ptr().cast::<u8>(),
            SIGINFO_SIZE,
        );
        info.assume_init()
    };
    let number = info.__bindgen_anon_1.si_signo;
    if !(1..=64).contains(&number) || number == bindings::SIGKILL as i32 {
        return Err(EINVAL);
    }
    // SAFETY: The task is alive and parked; the queue and the sets are only touched under the siglock.
    unsafe {
        let raw = task.as_ptr();
        let bit = 1usize << (number - 1);
        let list = addr_of_mut!((*raw).pending.list);
        let shared_set = addr_of_mut!((*(*raw).signal).shared_pending.signal.sig[0]);
        let before = {
            let _guard = SiglockGuard::lock(held);
            if signal.shared && number < bindings::SIGRTMIN as i32 && *shared_set & bit != 0 {
                // A standard signal that waits already is not queued twice.
                return Ok(());
            }
            last_ordinary(list)
        };
        to_result(bindings::send_sig_info(number, &mut info, raw))?;
        let _guard = SiglockGuard::lock(held);
        let entry = last_ordinary(list);
        if entry == before || entry == list {
            return Ok(());
        }
        let queued = kernel::container_of!(entry, bindings::sigqueue, list);
        (*queued).info = info;
        if signal.shared {
            let shared = addr_of_mut!((*(*raw).signal).shared_pending);
            sys::pmig_list_move_tail(entry, addr_of_mut!((*shared).list));
            (*shared).signal.sig[0] |= bit;
            let mut set = 0;
            let mut entry = (*list).next;
            while entry != list {
                let queued = kernel::container_of!(entry, bindings::sigqueue, list);
                let number = (*queued).info.__bindgen_anon_1.si_signo;
                set |= 1 << (number - 1);
                entry = (*entry).next;
            }
            (*raw).pending.signal.sig[0] = set;
        }
    }
    Ok(())
}

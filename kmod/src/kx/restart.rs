// SPDX-License-Identifier: GPL-2.0

//! The restart block of a thread: how an interrupted call goes on (include/linux/restart_block.h).
//!
//! The block names a function of the kernel that is not exported. The agent teaches the module which one belongs to which
//! kind of call: it lets a process block in such a call, freezes it and asks the module to remember what it finds.

use crate::kx::park::Held;
use crate::kx::task::Task;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering;
use kernel::bindings;
use kernel::prelude::*;
use pmig_wire::thread::Restart;
use pmig_wire::thread::RestartKind;
use zerocopy::FromZeros;

const KINDS: usize = RestartKind::ALL.len() + 1;

/// By kind: the address of the function, 0 while unknown.
static FUNCTIONS: [AtomicUsize; KINDS] = [const { AtomicUsize::new(0) }; KINDS];

fn slot(kind: RestartKind) -> Option<&'static AtomicUsize> {
    FUNCTIONS.get(kind as usize)
}

fn function(held: &Held<'_>) -> usize {
    held.task()
        .raw()
        .restart_block
        .fn_
        .map_or(0, |function| function as usize)
}

/// Remembers that the frozen thread waits in a call of this kind.
pub(crate) fn learn(held: &Held<'_>, kind: RestartKind) -> Result {
    let address = function(held);
    if address == 0 {
        return Err(EINVAL);
    }
    slot(kind).ok_or(EINVAL)?.store(address, Ordering::Release);
    Ok(())
}

/// A bit for each kind that is known.
pub(crate) fn known() -> u32 {
    let mut bits = 0;
    for kind in RestartKind::ALL {
        if slot(kind).is_some_and(|slot| slot.load(Ordering::Acquire) != 0) {
            bits |= 1 << (kind as u32);
        }
    }
    bits
}

/// The offset that turns a time of `clock` on this host into the view of `task`.
fn view(task: &Task, clock: u32) -> i64 {
    let (monotonic, boottime) = task.clock_offsets();
    match clock {
        bindings::CLOCK_MONOTONIC => monotonic,
        bindings::CLOCK_BOOTTIME => boottime,
        _ => 0,
    }
}

/// `FLAGS_CLOCKRT` of kernel/futex/futex.h: the time is one of `CLOCK_REALTIME`.
const FUTEX_REALTIME: u32 = 0x20;

fn futex_clock(flags: u32) -> u32 {
    if flags & FUTEX_REALTIME != 0 {
        bindings::CLOCK_REALTIME
    } else {
        bindings::CLOCK_MONOTONIC
    }
}

const NANOSECONDS: i64 = 1_000_000_000;

/// What the restart block of a frozen thread says. None if its function is one that nobody taught.
pub(crate) fn get(held: &Held<'_>) -> Option<Restart> {
    let task = held.task();
    let address = function(held);
    let kind = RestartKind::ALL
        .into_iter()
        .find(|kind| slot(*kind).is_some_and(|slot| slot.load(Ordering::Acquire) == address))?;
    let mut restart = Restart::new_zeroed();
    restart.tid.set(task.own_tid());
    restart.kind.set(kind as u32);
    let block = &task.raw().restart_block;
    // SAFETY: The function says which member of the union is in use; all are plain words.
    unsafe {
        match kind {
            RestartKind::None => {}
            RestartKind::Nanosleep => {
                let sleep = &block.__bindgen_anon_1.nanosleep;
                let clock = sleep.clockid as u32;
                restart.selector.set(clock);
                restart.argument.set(sleep.type_);
                restart
                    .expires
                    .set(sleep.expires.saturating_add(view(task, clock)));
                restart.address.set(sleep.__bindgen_anon_1.rmtp as u64);
            }
            RestartKind::Futex => {
                let futex = &block.__bindgen_anon_1.futex;
                let offset = view(task, futex_clock(futex.flags));
                restart.selector.set(futex.flags);
                restart.argument.set(futex.val);
                restart.bitset.set(futex.bitset);
                restart.expires.set(futex.time.saturating_add(offset));
                restart.address.set(futex.uaddr as u64);
            }
            RestartKind::Poll => {
                let poll = &block.__bindgen_anon_1.poll;
                let end = poll.end_time.tv_sec.saturating_mul(NANOSECONDS);
                let end = end.saturating_add(poll.end_time.tv_nsec as i64);
                restart.selector.set(u32::from(poll.has_timeout != 0));
                restart.argument.set(poll.nfds as u32);
                restart
                    .expires
                    .set(end.saturating_add(view(task, bindings::CLOCK_MONOTONIC)));
                restart.address.set(poll.ufds as u64);
            }
        }
    }
    Some(restart)
}

/// Gives a parked thread its restart block, which [`pmig_core::validate::restart`] has found good.
pub(crate) fn set(held: &Held<'_>, restart: &Restart) -> Result {
    let kind = RestartKind::from_wire(restart.kind.get()).ok_or(EINVAL)?;
    let address = slot(kind).ok_or(EINVAL)?.load(Ordering::Acquire);
    let task = held.task();
    if address == 0 {
        return Err(EINVAL);
    }
    // SAFETY: The address was read from a restart block of this kernel, so it is a function of that type.
    let function = unsafe {
        core::mem::transmute::<
            usize,
            unsafe extern "C" fn(*mut bindings::restart_block) -> kernel::ffi::c_long,
        >(address)
    };
    let expires = restart.expires.get();
    let details = match kind {
        RestartKind::None => bindings::restart_block__bindgen_ty_1::default(),
        RestartKind::Nanosleep => {
            let clock = restart.selector.get();
            bindings::restart_block__bindgen_ty_1 {
                nanosleep: bindings::restart_block__bindgen_ty_1__bindgen_ty_2 {
                    clockid: clock as i32,
                    type_: restart.argument.get(),
                    expires: expires.saturating_sub(view(task, clock)),
                    __bindgen_anon_1:
                        bindings::restart_block__bindgen_ty_1__bindgen_ty_2__bindgen_ty_1 {
                            rmtp: restart.address.get() as usize as *mut _,
                        },
                },
            }
        }
        RestartKind::Futex => {
            let flags = restart.selector.get();
            bindings::restart_block__bindgen_ty_1 {
                futex: bindings::restart_block__bindgen_ty_1__bindgen_ty_1 {
                    uaddr: restart.address.get() as usize as *mut _,
                    val: restart.argument.get(),
                    flags,
                    bitset: restart.bitset.get(),
                    time: expires.saturating_sub(view(task, futex_clock(flags))),
                    uaddr2: core::ptr::null_mut(),
                },
            }
        }
        RestartKind::Poll => {
            let end = expires
                .saturating_sub(view(task, bindings::CLOCK_MONOTONIC))
                .max(0);
            bindings::restart_block__bindgen_ty_1 {
                poll: bindings::restart_block__bindgen_ty_1__bindgen_ty_3 {
                    ufds: restart.address.get() as usize as *mut _,
                    nfds: i32::try_from(restart.argument.get()).map_err(|_| EINVAL)?,
                    has_timeout: i32::from(restart.selector.get() != 0),
                    end_time: bindings::timespec64 {
                        tv_sec: end / NANOSECONDS,
                        tv_nsec: (end % NANOSECONDS) as isize,
                    },
                },
            }
        }
    };
    let block = bindings::restart_block {
        arch_data: 0,
        fn_: Some(function),
        __bindgen_anon_1: details,
    };
    // SAFETY: The task is held: nobody else touches its restart block.
    unsafe { (*task.as_ptr()).restart_block = block };
    Ok(())
}

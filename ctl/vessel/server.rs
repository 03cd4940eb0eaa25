// SPDX-License-Identifier: GPL-2.0
//! What each thread of a vessel does: it executes lists until the module makes it something else.

use crate::abi::Entry;
use crate::abi::Slot;
use crate::abi::CHECK_EQUAL;
use crate::abi::CHECK_SUCCESS;
use crate::abi::SPAWN_THREAD;
use crate::sys;
use core::ptr;
use core::sync::atomic::Ordering;

/// Where a thread begins that [`sys::pmig_clone_thread`] made.
///
/// # Safety
///
/// `slot` is the thread's own slot.
pub unsafe extern "C" fn pmig_thread(slot: *mut Slot) -> ! {
    // SAFETY: as the caller says.
    unsafe { serve(slot) }
}

/// Serves `slot` for ever.
///
/// # Safety
///
/// `slot` is the calling thread's own slot, and the agent writes only lists that are valid.
pub unsafe fn serve(slot: *mut Slot) -> ! {
    // SAFETY: the slot is mapped as long as the stub is.
    let shared = unsafe { &*slot };
    let mut seen = 0;
    loop {
        let sequence = shared.sequence.load(Ordering::Acquire);
        if sequence == seen {
            // Without a timeout, so that the kernel can restart the call if the module lets it go on.
            // SAFETY: a null timeout.
            unsafe { sys::wait(&shared.sequence, seen, ptr::null()) };
            continue;
        }
        // SAFETY: the agent wrote the list before the sequence, and writes no more until `done`.
        let completed = unsafe {
            let list = ptr::read_volatile(ptr::addr_of!((*slot).list)) as *mut Entry;
            execute(list, shared.length.load(Ordering::Relaxed))
        };
        shared.completed.store(completed, Ordering::Relaxed);
        seen = sequence;
        shared.done.store(sequence, Ordering::Release);
        sys::wake(&shared.done);
    }
}

/// Executes a list. Returns the number of entries that were executed as expected.
///
/// # Safety
///
/// `list` is the address of `length` entries.
unsafe fn execute(list: *mut Entry, length: u32) -> u32 {
    for index in 0..length {
        // SAFETY: inside the list.
        let entry = unsafe { list.add(index as usize) };
        // SAFETY: the agent vouches for what the list does; references are to earlier entries.
        let good = unsafe {
            let number = (*entry).number;
            let flags = (*entry).flags;
            let mut arguments = (*entry).arguments;
            let mut bit = 0;
            for argument in &mut arguments {
                if flags & (1 << bit) != 0 {
                    *argument = (*list.add(*argument as usize)).result as u64;
                }
                bit += 1;
            }
            let result = if number == SPAWN_THREAD {
                let [clone_arguments, size, slot, ..] = arguments;
                sys::pmig_clone_thread(clone_arguments, size, slot)
            } else {
                sys::syscall(number.into(), arguments)
            };
            (*entry).result = result;
            let failed = (-4095..0).contains(&result);
            !(flags & CHECK_SUCCESS != 0 && failed)
                && !(flags & CHECK_EQUAL != 0 && result != (*entry).expected)
        };
        if !good {
            return index;
        }
    }
    length
}

// SPDX-License-Identifier: GPL-2.0

//! Registers of a frozen task through the kernel's user_regset interface (include/linux/regset.h).

use crate::kx::park::Held;
use crate::sys;
use kernel::error::to_result;
use kernel::prelude::*;

/// The most bytes that a register set may have: all state components that x86 defines fit.
pub(crate) const MAX_SIZE: usize = 32 * 1024;

fn find(held: &Held<'_>, note: u32) -> Result<&'static sys::user_regset> {
    // SAFETY: The task is alive; the views are constants of the kernel.
    unsafe {
        let view = &*sys::task_user_regset_view(held.task().as_ptr());
        core::slice::from_raw_parts(view.regsets, view.n as usize)
            .iter()
            .find(|set| set.core_note_type == note)
            .ok_or(ENODEV)
    }
}

/// Appends the register set `note` of a frozen task to `buffer`.
pub(crate) fn get(held: &Held<'_>, note: u32, buffer: &mut KVVec<u8>) -> Result {
    let set = find(held, note)?;
    let size = (set.n as usize)
        .checked_mul(set.size as usize)
        .filter(|size| *size <= MAX_SIZE);
    let size = size.ok_or(EOVERFLOW)?;
    let start = buffer.len();
    buffer.resize(start.saturating_add(size), 0, GFP_KERNEL)?;
    let room = buffer.get_mut(start..).ok_or(EINVAL)?;
    // SAFETY: The task is held and off its CPU, so its registers are in memory; `room` is `size` bytes long.
    let result = unsafe {
        sys::regset_get(
            held.task().as_ptr(),
            set,
            size as u32,
            room.as_mut_ptr().cast(),
        )
    };
    let used = usize::try_from(result).map_err(|_| Error::from_errno(result))?;
    buffer.truncate(start.saturating_add(used.min(size)));
    Ok(())
}

/// Gives the register set `note` to a parked task.
///
/// The kernel checks the contents as it does for a debugger: selectors, flags, segment bases, reserved bits of the
/// extended state (arch/x86/kernel/ptrace.c, arch/x86/kernel/fpu/regset.c).
pub(crate) fn set(held: &Held<'_>, note: u32, bytes: &[u8]) -> Result {
    let set = find(held, note)?;
    let function = set.set.ok_or(ENODEV)?;
    let size = (set.n as usize)
        .checked_mul(set.size as usize)
        .ok_or(EOVERFLOW)?;
    if bytes.len() > size {
        return Err(EINVAL);
    }
    // SAFETY: The task is held, off its CPU and not the current one, which is what the function asks for; it reads no
    // more than `bytes.len()` bytes.
    to_result(unsafe {
        function(
            held.task().as_ptr(),
            set,
            0,
            bytes.len() as u32,
            bytes.as_ptr().cast(),
            core::ptr::null(),
        )
    })
}

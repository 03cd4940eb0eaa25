// SPDX-License-Identifier: GPL-2.0

//! The memory of a process: its boundaries, its mappings, its pages.

use crate::kx::file::FileRef;
use crate::kx::task::Task;
use crate::sys;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use pmig_wire::mm::vma;

/// A counted reference to the memory of a process, as `get_task_mm` gives it.
pub(crate) struct Mm(NonNull<bindings::mm_struct>);

// SAFETY: A reference to an mm may be used and dropped anywhere that may sleep.
unsafe impl Send for Mm {}
// SAFETY: Methods take the locks that they need.
unsafe impl Sync for Mm {}

impl Drop for Mm {
    fn drop(&mut self) {
        // SAFETY: The reference is ours to drop, and this may sleep.
        unsafe { bindings::mmput(self.0.as_ptr()) };
    }
}

/// The boundaries of an address space, as `struct mm_struct` has them (include/linux/mm_types.h).
#[derive(Clone, Copy, Default)]
pub(crate) struct Boundaries {
    pub(crate) start_code: u64,
    pub(crate) end_code: u64,
    pub(crate) start_data: u64,
    pub(crate) end_data: u64,
    pub(crate) start_brk: u64,
    pub(crate) brk: u64,
    pub(crate) start_stack: u64,
    pub(crate) arg_start: u64,
    pub(crate) arg_end: u64,
    pub(crate) env_start: u64,
    pub(crate) env_end: u64,
    pub(crate) vdso: u64,
    pub(crate) locks_future: bool,
    pub(crate) locks_on_fault: bool,
}

/// One mapping, as it was when the lock was held.
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Byte offset in the file.
    pub(crate) offset: u64,
    /// In the bits of [`pmig_wire::mm::vma`], without those that need the file.
    pub(crate) flags: u64,
    pub(crate) file: Option<FileRef>,
}

/// What a process may have done to its memory as a whole.
pub(crate) struct Peculiarities {
    pub(crate) flags: usize,
    pub(crate) has_ldt: bool,
    pub(crate) has_aio: bool,
    pub(crate) has_protection_keys: bool,
    /// `MEMBARRIER_STATE_*` of include/linux/sched/mm.h.
    pub(crate) membarrier: u32,
}

/// Kernel flag and wire flag, where one says what the other says.
const SAME: [(u64, u64); 23] = [
    (sys::pmig_vm_PMIG_VM_READ as u64, vma::READ),
    (sys::pmig_vm_PMIG_VM_WRITE as u64, vma::WRITE),
    (sys::pmig_vm_PMIG_VM_EXEC as u64, vma::EXEC),
    (sys::pmig_vm_PMIG_VM_MAYSHARE as u64, vma::SHARED),
    (sys::pmig_vm_PMIG_VM_GROWSDOWN as u64, vma::GROWSDOWN),
    (sys::pmig_vm_PMIG_VM_NORESERVE as u64, vma::NORESERVE),
    (sys::pmig_vm_PMIG_VM_LOCKED as u64, vma::LOCKED),
    (sys::pmig_vm_PMIG_VM_LOCKONFAULT as u64, vma::LOCK_ON_FAULT),
    (sys::pmig_vm_PMIG_VM_DONTCOPY as u64, vma::DONTFORK),
    (sys::pmig_vm_PMIG_VM_DONTDUMP as u64, vma::DONTDUMP),
    (sys::pmig_vm_PMIG_VM_WIPEONFORK as u64, vma::WIPEONFORK),
    (sys::pmig_vm_PMIG_VM_SEQ_READ as u64, vma::SEQUENTIAL),
    (sys::pmig_vm_PMIG_VM_RAND_READ as u64, vma::RANDOM),
    (sys::pmig_vm_PMIG_VM_HUGEPAGE as u64, vma::HUGEPAGE),
    (sys::pmig_vm_PMIG_VM_NOHUGEPAGE as u64, vma::NOHUGEPAGE),
    (sys::pmig_vm_PMIG_VM_MERGEABLE as u64, vma::MERGEABLE),
    (sys::pmig_vm_PMIG_VM_DROPPABLE as u64, vma::DROPPABLE),
    (sys::pmig_vm_PMIG_VM_SEALED as u64, vma::SEALED),
    (sys::pmig_vm_PMIG_VM_MAYBE_GUARD as u64, vma::MAYBE_GUARD),
    (sys::pmig_vm_PMIG_VM_HUGETLB as u64, vma::HUGETLB),
    (sys::pmig_vm_PMIG_VM_SHADOW_STACK as u64, vma::SHADOW_STACK),
    (sys::pmig_vm_PMIG_VM_MAYWRITE as u64, vma::MAY_WRITE),
    (sys::pmig_vm_PMIG_VM_ACCOUNT as u64, vma::ACCOUNT),
];

const DEVICE: u64 = sys::pmig_vm_PMIG_VM_IO as u64
    | sys::pmig_vm_PMIG_VM_PFNMAP as u64
    | sys::pmig_vm_PMIG_VM_MIXEDMAP as u64;
const USERFAULTFD: u64 = sys::pmig_vm_PMIG_VM_UFFD_MISSING as u64
    | sys::pmig_vm_PMIG_VM_UFFD_WP as u64
    | sys::pmig_vm_PMIG_VM_UFFD_MINOR as u64;
const PKEYS: u64 = sys::pmig_vm_PMIG_VM_PKEYS as u64;
const SYNC: u64 = sys::pmig_vm_PMIG_VM_SYNC as u64;
/// Flags that follow from others, or say nothing that a program could notice.
const IMPLIED: u64 = sys::pmig_vm_PMIG_VM_SHARED as u64
    | sys::pmig_vm_PMIG_VM_MAYREAD as u64
    | sys::pmig_vm_PMIG_VM_MAYEXEC as u64
    | sys::pmig_vm_PMIG_VM_DONTEXPAND as u64
    | sys::pmig_vm_PMIG_VM_SOFTDIRTY as u64;

/// The flags of the wire for `kernel` flags of an ordinary mapping. What is not understood is said to be so.
fn flags_to_wire(kernel: u64) -> u64 {
    let mut flags = 0;
    let mut known = IMPLIED | DEVICE | USERFAULTFD | PKEYS | SYNC;
    for (from, to) in SAME {
        known |= from;
        if kernel & from != 0 {
            flags |= to;
        }
    }
    for (from, to) in [
        (DEVICE, vma::DEVICE),
        (USERFAULTFD, vma::USERFAULTFD),
        (PKEYS, vma::PROTECTION_KEY),
        (SYNC, vma::SYNC),
        (!known, vma::UNKNOWN),
    ] {
        if kernel & from != 0 {
            flags |= to;
        }
    }
    flags
}

impl Mm {
    /// The memory of `task`; none for a kernel thread or a task that has exited.
    pub(crate) fn of(task: &Task) -> Option<Self> {
        // SAFETY: The task is alive; the call returns a counted reference or null.
        NonNull::new(unsafe { bindings::get_task_mm(task.as_ptr()) }).map(Self)
    }

    /// For other wrappers of this directory.
    pub(super) fn as_ptr(&self) -> *mut bindings::mm_struct {
        self.0.as_ptr()
    }

    /// Holds the lock for reading while `body` runs.
    pub(super) fn with_lock<T>(&self, body: impl FnOnce(*mut bindings::mm_struct) -> T) -> T {
        let mm = self.0.as_ptr();
        // SAFETY: The mm is alive.
        unsafe { bindings::mmap_read_lock(mm) };
        let result = body(mm);
        // SAFETY: Locked above.
        unsafe { bindings::mmap_read_unlock(mm) };
        result
    }

    fn fields(&self) -> &bindings::mm_struct__bindgen_ty_1 {
        // SAFETY: The mm is alive; the fields that are read through this are words whose races need no more than a
        // hint, or the process is frozen.
        unsafe { &(*self.0.as_ptr()).__bindgen_anon_1 }
    }

    /// Its boundaries.
    pub(crate) fn boundaries(&self) -> Boundaries {
        let mm = self.fields();
        // SAFETY: Both views of the union are plain words.
        let future = unsafe { mm.__bindgen_anon_2.def_flags } as u64;
        Boundaries {
            start_code: mm.start_code as u64,
            end_code: mm.end_code as u64,
            start_data: mm.start_data as u64,
            end_data: mm.end_data as u64,
            start_brk: mm.start_brk as u64,
            brk: mm.brk as u64,
            start_stack: mm.start_stack as u64,
            arg_start: mm.arg_start as u64,
            arg_end: mm.arg_end as u64,
            env_start: mm.env_start as u64,
            env_end: mm.env_end as u64,
            // SAFETY: The mm is alive.
            vdso: unsafe { sys::pmig_mm_vdso(self.0.as_ptr()) } as u64,
            locks_future: future & sys::pmig_vm_PMIG_VM_LOCKED as u64 != 0,
            locks_on_fault: future & sys::pmig_vm_PMIG_VM_LOCKONFAULT as u64 != 0,
        }
    }

    /// The auxiliary vector that the program got, as bytes in the machine's order.
    pub(crate) fn auxv(&self) -> Result<KVec<u8>> {
        let words = &self.fields().saved_auxv;
        let mut bytes = KVec::with_capacity(size_of_val(words), GFP_KERNEL)?;
        for word in words {
            bytes.extend_from_slice(&word.to_ne_bytes(), GFP_KERNEL)?;
        }
        Ok(bytes)
    }

    /// What decides whether it can be moved, apart from its mappings.
    pub(crate) fn peculiarities(&self) -> Peculiarities {
        let mm = self.0.as_ptr();
        // SAFETY: The mm is alive; all of these are reads of one word.
        unsafe {
            Peculiarities {
                flags: sys::pmig_mm_flags(mm),
                has_ldt: sys::pmig_mm_has_ldt(mm),
                has_aio: sys::pmig_mm_has_aio(mm),
                // Key 0 is everybody's.
                has_protection_keys: sys::pmig_mm_pkeys(mm) & !1 != 0,
                membarrier: sys::pmig_mm_membarrier(mm) as u32,
            }
        }
    }

    /// The executable.
    pub(crate) fn executable(&self) -> Option<FileRef> {
        // SAFETY: The mm is alive; the call returns a counted reference or null.
        unsafe { FileRef::from_counted(sys::pmig_mm_exe_file(self.0.as_ptr())) }
    }

    /// Number of mappings.
    pub(crate) fn mapping_count(&self) -> usize {
        usize::try_from(self.fields().map_count).unwrap_or(0)
    }

    /// All mappings in ascending order.
    pub(crate) fn mappings(&self) -> Result<KVVec<Mapping>> {
        let mut mappings =
            KVVec::with_capacity(self.mapping_count().saturating_add(16), GFP_KERNEL)?;
        // SAFETY: The mm is alive.
        let vdso = unsafe { sys::pmig_mm_vdso(self.0.as_ptr()) };
        self.with_lock(|mm| {
            // SAFETY: The lock is held, which is what finding and reading mappings needs (mm/mmap.c).
            unsafe {
                let special = match vdso {
                    0 => core::ptr::null(),
                    address => match NonNull::new(bindings::find_vma(mm, address)) {
                        Some(vma) => vma.as_ref().vm_ops,
                        None => core::ptr::null(),
                    },
                };
                let mut address = 0;
                while let Some(found) = NonNull::new(bindings::find_vma(mm, address)) {
                    let found = found.as_ref();
                    let bounds = found.__bindgen_anon_1.__bindgen_anon_1;
                    let kernel = found.__bindgen_anon_2.vm_flags as u64;
                    let file = FileRef::count(found.vm_file);
                    let is_special =
                        file.is_none() && !special.is_null() && found.vm_ops == special;
                    let mut flags = if is_special {
                        vma::SPECIAL
                    } else {
                        flags_to_wire(kernel)
                    };
                    if is_special {
                        flags |= flags_to_wire(kernel) & (vma::READ | vma::WRITE | vma::EXEC);
                    } else if file.is_some() {
                        flags |= vma::FILE;
                    } else if !found.vm_ops.is_null() {
                        // Neither anonymous nor a file: a mapping of a driver or of the kernel.
                        flags |= vma::UNKNOWN;
                    }
                    if sys::pmig_vma_has_numa_policy(found) && file.is_none() {
                        flags |= vma::POLICY;
                    }
                    let offset = if file.is_some() {
                        (found.vm_pgoff as u64).wrapping_shl(bindings::PAGE_SHIFT)
                    } else {
                        0
                    };
                    mappings.push(
                        Mapping {
                            start: bounds.vm_start as u64,
                            end: bounds.vm_end as u64,
                            offset,
                            flags,
                            file,
                        },
                        GFP_KERNEL,
                    )?;
                    address = bounds.vm_end;
                }
            }
            Ok::<(), Error>(())
        })?;
        Ok(mappings)
    }
}

/// Unmaps a range of the current task's memory.
pub(crate) fn unmap_own(start: u64, end: u64) -> Result {
    let length = end.checked_sub(start).ok_or(EINVAL)?;
    // SAFETY: The task is in process context with no lock held; the call checks its arguments (mm/mmap.c).
    to_result(unsafe { bindings::vm_munmap(start as usize, length as usize) })
}

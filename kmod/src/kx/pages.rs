// SPDX-License-Identifier: GPL-2.0

//! Pages of a process that is not the current one, held for a moment.

use crate::kx::mm::Mm;
use crate::sys;
use core::ptr;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;

/// The most pages of one batch, as of one frame.
const CAPACITY: usize = pmig_wire::pages::MAX_PAGES as usize;

/// What the pages are taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read what is there; a page of zeros that nobody wrote is none.
    Read,
    /// To write into, whatever the protection of a private mapping says.
    Write,
}

/// Counts references to up to `pages.len()` pages from `address` on. Returns how many.
fn get(mm: &Mm, address: u64, flags: u32, pages: &mut [*mut bindings::page]) -> Result<usize> {
    let mut locked = 1;
    // SAFETY: The mm is alive and locked; `pages` has room for as many as are asked for; `locked` says afterwards whether
    // the lock is still held.
    let result = unsafe {
        bindings::mmap_read_lock(mm.as_ptr());
        let result = bindings::get_user_pages_remote(
            mm.as_ptr(),
            address as usize,
            pages.len(),
            flags,
            pages.as_mut_ptr(),
            &mut locked,
        );
        if locked != 0 {
            bindings::mmap_read_unlock(mm.as_ptr());
        }
        result
    };
    usize::try_from(result).map_err(|_| Error::from_errno(result as i32))
}

/// Fails if what is at `address` cannot be read: a page in broken memory, or one that cannot be read back from swap. To
/// `FOLL_DUMP` that is the same as a page of zeros (mm/gup.c).
fn ensure_readable(mm: &Mm, address: u64) -> Result {
    let mut page = [ptr::null_mut()];
    let flags = bindings::FOLL_FORCE | bindings::FOLL_HWPOISON;
    let taken = get(mm, address, flags, &mut page)?;
    for page in page.iter().take(taken) {
        // SAFETY: The reference is ours to drop.
        unsafe { sys::pmig_put_page(*page) };
    }
    Ok(())
}

/// Counted references to some pages, in ascending order of addresses.
pub(crate) struct PageBatch {
    pages: KVec<*mut bindings::page>,
    vectors: KVec<bindings::bio_vec>,
    access: Access,
}

// SAFETY: References to pages may be used and dropped anywhere.
unsafe impl Send for PageBatch {}

impl Drop for PageBatch {
    fn drop(&mut self) {
        self.clear();
    }
}

impl PageBatch {
    /// An empty batch with room for a whole frame.
    pub(crate) fn new(access: Access) -> Result<Self> {
        Ok(Self {
            pages: KVec::with_capacity(CAPACITY, GFP_KERNEL)?,
            vectors: KVec::with_capacity(CAPACITY, GFP_KERNEL)?,
            access,
        })
    }

    /// Number of pages.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Lets go of all pages.
    pub(crate) fn clear(&mut self) {
        for page in self.pages.iter() {
            // SAFETY: The reference is ours to drop. A page that was written is made dirty first, under its lock, so
            // that it is not taken for a clean copy of a file or of swap (mm/gup.c).
            unsafe {
                if self.access == Access::Write {
                    bindings::set_page_dirty_lock(*page);
                }
                sys::pmig_put_page(*page);
            }
        }
        self.pages.clear();
        self.vectors.clear();
    }

    /// Adds up to `count` pages from `address` on, and says how many. None if there is a page of zeros at `address` that
    /// nobody wrote. Fails for a page whose content cannot be had.
    pub(crate) fn take(&mut self, mm: &Mm, address: u64, count: usize) -> Result<usize> {
        let mut pages = [ptr::null_mut(); 32];
        let room = CAPACITY
            .saturating_sub(self.pages.len())
            .min(count)
            .min(pages.len());
        let flags = match self.access {
            // FOLL_DUMP: the page of zeros is an error, and a hole stays one.
            Access::Read => bindings::FOLL_FORCE | bindings::FOLL_DUMP,
            Access::Write => bindings::FOLL_FORCE | bindings::FOLL_WRITE,
        };
        let taken = match get(mm, address, flags, pages.get_mut(..room).ok_or(EINVAL)?) {
            Err(error) if error == EFAULT && self.access == Access::Read => {
                ensure_readable(mm, address)?;
                return Ok(0);
            }
            result => result?,
        };
        for page in pages.iter().take(taken) {
            // There is room: the vectors were made with the capacity of a whole batch.
            self.pages.push(*page, GFP_KERNEL)?;
        }
        Ok(taken)
    }

    /// Makes the vectors that the network reads, one for each page.
    pub(crate) fn prepare(&mut self) -> Result {
        self.vectors.clear();
        for page in self.pages.iter() {
            self.vectors.push(
                bindings::bio_vec {
                    bv_page: *page,
                    bv_len: bindings::PAGE_SIZE as u32,
                    bv_offset: 0,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(())
    }

    /// The vectors of some pages, after [`PageBatch::prepare`].
    pub(super) fn vectors(&self, first: usize, count: usize) -> Result<&[bindings::bio_vec]> {
        let end = first.checked_add(count).ok_or(EINVAL)?;
        self.vectors.get(first..end).ok_or(EINVAL)
    }

    fn page(&self, index: usize) -> Option<NonNull<bindings::page>> {
        NonNull::new(*self.pages.get(index)?)
    }

    /// Whether a page belongs to the process alone and not to a file.
    pub(crate) fn is_anonymous(&self, index: usize) -> bool {
        self.page(index).is_some_and(|page| {
            // SAFETY: The batch holds the page.
            unsafe { sys::pmig_page_is_anonymous(page.as_ptr()) }
        })
    }

    /// Whether a page holds only zeros.
    pub(crate) fn is_zero(&self, index: usize) -> bool {
        self.page(index).is_some_and(|page| {
            // SAFETY: The batch holds the page.
            unsafe { sys::pmig_page_is_zero(page.as_ptr()) }
        })
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Memory that two processes share, and waiting for words in it.

use super::answer;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::ptr;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Makes a file that exists only in memory. `executable` says whether it can be a program.
pub fn memfd(name: &CStr, executable: bool) -> io::Result<OwnedFd> {
    const MFD_NOEXEC_SEAL: libc::c_uint = 8;
    const MFD_EXEC: libc::c_uint = 16;
    let wanted = if executable {
        MFD_EXEC
    } else {
        MFD_NOEXEC_SEAL
    };
    let create = |flags: libc::c_uint| {
        // SAFETY: the name ends with a zero.
        answer(unsafe { libc::memfd_create(name.as_ptr(), flags) }.into())
    };
    let fd = create(libc::MFD_CLOEXEC | wanted).or_else(|error| match error.raw_os_error() {
        // Before Linux 6.3 there was no such distinction.
        Some(libc::EINVAL) => create(libc::MFD_CLOEXEC),
        _ => Err(error),
    })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A file in memory, mapped shared. The other side may change its bytes at any time, so they are only copied in and out,
/// or used as atomic words.
#[derive(Debug)]
pub struct SharedMemory {
    file: OwnedFd,
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to the value, not to a thread, and all access goes through copies and atomic words.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes `size` bytes of zeros.
    pub fn new(name: &CStr, size: usize) -> io::Result<Self> {
        let file = memfd(name, false)?;
        let length = libc::off_t::try_from(size).map_err(io::Error::other)?;
        // SAFETY: the descriptor is ours.
        answer(unsafe { libc::ftruncate(file.as_raw_fd(), length) }.into())?;
        // SAFETY: a new mapping of a file that is as long as the mapping; it is never truncated.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { file, start, size })
    }

    /// The file, to be given to the other process.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Number of bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    fn at(&self, offset: usize, length: usize) -> Option<*mut u8> {
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.size);
        // SAFETY: the offset lies inside the mapping.
        inside.then(|| unsafe { self.start.as_ptr().add(offset) })
    }

    /// Copies `bytes` to `offset`. False if they do not fit.
    #[must_use]
    pub fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        match self.at(offset, bytes.len()) {
            // SAFETY: `at` has checked the range; the slice is no part of the mapping, to which there are no references
            // but to atomic words.
            Some(to) => unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) },
            None => return false,
        }
        true
    }

    /// Copies `length` bytes at `offset`. None if they are not there.
    pub fn read(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let from = self.at(offset, length)?;
        let mut bytes = vec![0; length];
        // SAFETY: `at` has checked the range; the vector has room.
        unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), length) };
        Some(bytes)
    }

    /// The word at `offset`, a multiple of four.
    pub fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let word = self.at(offset, size_of::<AtomicU32>())?.cast::<u32>();
        // SAFETY: aligned, inside the mapping, which lives as long as `self`; both sides use it as an atomic word.
        word.is_aligned()
            .then(|| unsafe { AtomicU32::from_ptr(word) })
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: made by `new`; no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

/// Waits while `word` is `value`, at most for `timeout`. May return earlier.
pub fn wait(word: &AtomicU32, value: u32, timeout: Duration) {
    let time = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word and the time live as long as the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            ptr::from_ref(&time),
            0,
            0,
        );
    }
}

/// Wakes all who wait for `word`.
pub fn wake(word: &AtomicU32) {
    // SAFETY: the word lives as long as the call, which does not touch it.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            i32::MAX,
            0,
            0,
            0,
        )
    };
}

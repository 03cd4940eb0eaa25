// SPDX-License-Identifier: GPL-2.0

//! A connected stream socket that the agent handed over, for page frames.

use crate::kx::pages::PageBatch;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;

/// A counted reference to a socket.
pub(crate) struct Socket(NonNull<bindings::socket>);

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: `sockfd_lookup` counted a reference to the socket's file.
        unsafe { bindings::fput(self.0.as_ref().file) };
    }
}

// SAFETY: A counted reference; the socket has its own lock.
unsafe impl Send for Socket {}

fn transferred(result: i32) -> Result<usize> {
    match usize::try_from(result) {
        Ok(0) => Err(EPIPE),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(Error::from_errno(result)),
    }
}

impl Socket {
    /// The stream socket behind a descriptor of the calling task.
    pub(crate) fn from_fd(fd: u32) -> Result<Self> {
        let fd = i32::try_from(fd).map_err(|_| EBADF)?;
        let mut error = 0;
        // SAFETY: Called in the context of the task whose descriptor it is; returns a counted reference or null.
        let socket = unsafe { bindings::sockfd_lookup(fd, &mut error) };
        let Some(socket) = NonNull::new(socket) else {
            return Err(Error::from_errno(error));
        };
        let socket = Self(socket);
        // SAFETY: The reference keeps it alive.
        if unsafe { socket.0.as_ref().type_ } as u32 != bindings::sock_type_SOCK_STREAM {
            return Err(EPROTOTYPE);
        }
        Ok(socket)
    }

    /// Sends all of `bytes`; `more` says that something follows at once.
    pub(crate) fn send(&self, bytes: &[u8], more: bool) -> Result {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            // SAFETY: Zeroes are a valid msghdr; the kernel only reads from the buffer.
            let result = unsafe {
                let mut message = MaybeUninit::<bindings::msghdr>::zeroed().assume_init();
                message.msg_flags = bindings::MSG_NOSIGNAL;
                if more {
                    message.msg_flags |= bindings::MSG_MORE;
                }
                let mut vector = bindings::kvec {
                    iov_base: rest.as_ptr().cast_mut().cast(),
                    iov_len: rest.len(),
                };
                bindings::kernel_sendmsg(self.0.as_ptr(), &mut message, &mut vector, 1, rest.len())
            };
            sent = sent.saturating_add(transferred(result)?);
        }
        Ok(())
    }

    /// Fills all of `bytes`.
    pub(crate) fn receive(&self, bytes: &mut [u8]) -> Result {
        let length = bytes.len();
        // SAFETY: Zeroes are a valid msghdr; the kernel writes no more than `length` bytes.
        let result = unsafe {
            let mut message = MaybeUninit::<bindings::msghdr>::zeroed().assume_init();
            let mut vector = bindings::kvec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: length,
            };
            bindings::kernel_recvmsg(
                self.0.as_ptr(),
                &mut message,
                &mut vector,
                1,
                length,
                bindings::MSG_WAITALL as i32,
            )
        };
        if transferred(result)? != length {
            return Err(EPIPE);
        }
        Ok(())
    }

    /// Sends the pages `first..first + count` of the batch without copying them: the network holds references until the
    /// peer has acknowledged them.
    pub(crate) fn send_pages(&self, batch: &PageBatch, first: usize, count: usize) -> Result {
        let vectors = batch.vectors(first, count)?;
        let bytes = count.saturating_mul(bindings::PAGE_SIZE);
        // SAFETY: Zeroes are a valid msghdr. The iterator points to `vectors`, which outlive it, and sends whole pages
        // that the batch holds. None of them is a slab page: they were mapped by a process.
        unsafe {
            let mut message = MaybeUninit::<bindings::msghdr>::zeroed().assume_init();
            message.msg_flags =
                bindings::MSG_NOSIGNAL | bindings::MSG_MORE | bindings::MSG_SPLICE_PAGES;
            bindings::iov_iter_bvec(
                &mut message.msg_iter,
                bindings::ITER_SOURCE,
                vectors.as_ptr(),
                vectors.len(),
                bytes,
            );
            let mut sent = 0;
            while sent < bytes {
                let result = bindings::sock_sendmsg(self.0.as_ptr(), &mut message);
                sent = sent.saturating_add(transferred(result)?);
            }
        }
        Ok(())
    }

    /// Fills all pages of the batch, with one copy, straight from the received segments.
    pub(crate) fn receive_pages(&self, batch: &PageBatch) -> Result {
        let vectors = batch.vectors(0, batch.len())?;
        let bytes = batch.len().saturating_mul(bindings::PAGE_SIZE);
        // SAFETY: As in `send_pages`; the pages are writable memory of the vessel.
        let result = unsafe {
            let mut message = MaybeUninit::<bindings::msghdr>::zeroed().assume_init();
            bindings::iov_iter_bvec(
                &mut message.msg_iter,
                bindings::ITER_DEST,
                vectors.as_ptr(),
                vectors.len(),
                bytes,
            );
            bindings::sock_recvmsg(self.0.as_ptr(), &mut message, bindings::MSG_WAITALL as i32)
        };
        if transferred(result)? != bytes {
            return Err(EPIPE);
        }
        Ok(())
    }
}

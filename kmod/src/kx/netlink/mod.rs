// SPDX-License-Identifier: GPL-2.0

//! The generic netlink family: registration, requests, answers, dumps and events.
//!
//! The `kernel` crate has families and multicast but no requests, so this is on top of the raw calls
//! (include/net/genetlink.h).

use core::fmt::Write;
use core::ptr;
use kernel::bindings;
use kernel::ffi::c_int;
use kernel::prelude::*;
use pmig_wire::netlink::Attribute;

mod dump;
mod event;
mod family;
mod reply;
mod request;

pub(crate) use dump::Dump;
pub(crate) use event::announce;
pub(crate) use family::Registration;
pub(crate) use reply::Reply;
pub(super) use request::Asker;
pub(crate) use request::Request;

/// What the module does with requests.
pub(crate) trait Handler {
    /// Work that takes long and is done after netlink has let go of its locks.
    type Job: Send;
    /// Answers a request, or says what is to be done before it is answered.
    fn request(request: &Request<'_>) -> Result<Option<Self::Job>, Failure>;
    /// Does such work. The numbers are the answer.
    fn perform(job: Self::Job) -> Result<[(Attribute, u64); 3], Failure>;
    /// Makes the records that a dump sends.
    fn dump(request: &Request<'_>) -> Result<Dump, Failure>;
    /// The socket with this port ID was closed.
    fn closed(port: u32);
}

/// Why a request failed, in words that netlink's extended acknowledgement carries to the user.
pub(crate) struct Failure {
    errno: Error,
    text: [u8; 80],
    length: usize,
}

impl Write for Failure {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            // The last byte stays zero.
            if self.length.saturating_add(1) < self.text.len() {
                if let Some(place) = self.text.get_mut(self.length) {
                    *place = byte;
                    self.length = self.length.saturating_add(1);
                }
            }
        }
        Ok(())
    }
}

impl Failure {
    /// Puts the words where netlink finds them.
    ///
    /// # Safety
    ///
    /// `extack` must be null or valid, and nobody else may use it.
    pub(super) unsafe fn write_to(&self, extack: *mut bindings::netlink_ext_ack) {
        if self.length == 0 || extack.is_null() {
            return;
        }
        // SAFETY: Valid, as the caller says; the buffer is in it.
        unsafe {
            let buffer = ptr::addr_of_mut!((*extack)._msg_buf).cast::<u8>();
            let length = self.text.len().min(size_of_val(&(*extack)._msg_buf));
            ptr::copy_nonoverlapping(self.text.as_ptr(), buffer, length);
            (*extack)._msg = buffer.cast();
        }
    }

    /// The error number.
    pub(super) fn errno(&self) -> c_int {
        self.errno.to_errno()
    }

    /// A failure with words, which are cut off at 79 bytes.
    pub(crate) fn new(errno: Error, text: core::fmt::Arguments<'_>) -> Self {
        let mut failure = Self {
            errno,
            text: [0; 80],
            length: 0,
        };
        // Writing never fails.
        let _ = failure.write_fmt(text);
        failure
    }
}

impl From<Error> for Failure {
    fn from(errno: Error) -> Self {
        Self {
            errno,
            text: [0; 80],
            length: 0,
        }
    }
}

impl From<kernel::alloc::AllocError> for Failure {
    fn from(_: kernel::alloc::AllocError) -> Self {
        ENOMEM.into()
    }
}

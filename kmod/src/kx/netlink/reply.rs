// SPDX-License-Identifier: GPL-2.0

//! What goes out.

use super::family;
use super::Asker;
use super::Request;
use crate::sys;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_int;
use kernel::ffi::c_void;
use kernel::prelude::*;
use pmig_wire::netlink::Attribute;

/// An answer to a request.
pub(crate) struct Reply {
    skb: NonNull<bindings::sk_buff>,
    header: NonNull<c_void>,
    port: u32,
}

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: Not sent, so still ours.
        unsafe { sys::pmig_consume_skb(self.skb.as_ptr()) };
    }
}

impl Reply {
    /// An empty answer to `request` with room for `size` bytes of attributes.
    pub(crate) fn new(request: &Request<'_>, size: usize) -> Result<Self> {
        Self::to(request.asker(), size)
    }

    /// An empty answer for `asker`.
    pub(in crate::kx) fn to(asker: Asker, size: usize) -> Result<Self> {
        // SAFETY: Both calls return null if there is no room.
        unsafe {
            let skb = NonNull::new(sys::pmig_genlmsg_new(size)).ok_or(ENOMEM)?;
            let header = bindings::genlmsg_put(
                skb.as_ptr(),
                asker.port,
                asker.sequence,
                family::raw(),
                0,
                asker.command as u8,
            );
            match NonNull::new(header) {
                Some(header) => Ok(Self {
                    skb,
                    header,
                    port: asker.port,
                }),
                None => {
                    sys::pmig_consume_skb(skb.as_ptr());
                    Err(EMSGSIZE)
                }
            }
        }
    }

    /// Appends an attribute.
    pub(crate) fn put(self, attribute: Attribute, bytes: &[u8]) -> Result<Self> {
        put(self.skb, attribute, bytes)?;
        Ok(self)
    }

    /// Sends the answer.
    pub(crate) fn send(self) -> Result {
        let port = self.port;
        let message = self.into_message();
        // SAFETY: The message is complete; sending takes it over, whatever comes of it.
        to_result(unsafe { sys::pmig_genlmsg_unicast(message.as_ptr(), port) })
    }

    /// The complete message. It is the caller's to send.
    pub(super) fn into_message(self) -> NonNull<bindings::sk_buff> {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: The message is ours, and `header` is where it begins.
        unsafe { sys::pmig_genlmsg_end(this.skb.as_ptr(), this.header.as_ptr()) };
        this.skb
    }
}

/// Appends an attribute to a message.
pub(super) fn put(skb: NonNull<bindings::sk_buff>, attribute: Attribute, bytes: &[u8]) -> Result {
    let length = c_int::try_from(bytes.len()).map_err(|_| EMSGSIZE)?;
    // SAFETY: The message is ours; the call checks that there is room.
    to_result(unsafe {
        bindings::nla_put(
            skb.as_ptr(),
            attribute as c_int,
            length,
            bytes.as_ptr().cast(),
        )
    })
}

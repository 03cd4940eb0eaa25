// SPDX-License-Identifier: GPL-2.0

//! What comes in.

use super::Failure;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::ffi::c_int;
use kernel::prelude::*;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;

/// A request, with one method for each way to read an attribute.
pub(crate) struct Request<'a> {
    info: &'a bindings::genl_info,
    skb: *mut bindings::sk_buff,
    command: Command,
}

impl<'a> Request<'a> {
    /// What is asked for.
    pub(crate) fn command(&self) -> Command {
        self.command
    }

    /// The port ID of the socket that asks.
    pub(crate) fn port(&self) -> u32 {
        self.info.snd_portid
    }

    /// The payload of an attribute, if it is there.
    pub(crate) fn bytes(&self, attribute: Attribute) -> Option<&[u8]> {
        // SAFETY: `attrs` has an entry for each attribute of the family's policy; the message outlives the request; the
        // policy has checked the lengths.
        unsafe {
            let header = NonNull::new(*self.info.attrs.add(attribute as usize))?;
            let length =
                usize::from(header.as_ref().nla_len).saturating_sub(size_of::<bindings::nlattr>());
            let data = header.as_ptr().add(1).cast::<u8>();
            Some(core::slice::from_raw_parts(data, length))
        }
    }

    /// Whether a flag is set.
    pub(crate) fn flag(&self, attribute: Attribute) -> bool {
        self.bytes(attribute).is_some()
    }

    fn need(&self, attribute: Attribute) -> Result<&[u8], Failure> {
        self.bytes(attribute)
            .ok_or_else(|| Failure::new(EINVAL, format_args!("attribute {attribute:?} is missing")))
    }

    /// Bytes that must be there.
    pub(crate) fn blob(&self, attribute: Attribute) -> Result<&[u8], Failure> {
        self.need(attribute)
    }

    /// Exactly `N` bytes that must be there.
    pub(crate) fn array<const N: usize>(&self, attribute: Attribute) -> Result<[u8; N], Failure> {
        self.need(attribute)?.try_into().map_err(|_| {
            Failure::new(
                EINVAL,
                format_args!("attribute {attribute:?} has a wrong length"),
            )
        })
    }

    /// A number that must be there.
    pub(crate) fn u8(&self, attribute: Attribute) -> Result<u8, Failure> {
        Ok(u8::from_ne_bytes(self.array(attribute)?))
    }

    /// A number that must be there.
    pub(crate) fn u32(&self, attribute: Attribute) -> Result<u32, Failure> {
        Ok(u32::from_ne_bytes(self.array(attribute)?))
    }

    /// A number that must be there.
    pub(crate) fn u64(&self, attribute: Attribute) -> Result<u64, Failure> {
        Ok(u64::from_ne_bytes(self.array(attribute)?))
    }

    /// Wraps what generic netlink has parsed.
    pub(super) fn new(
        info: &'a bindings::genl_info,
        skb: *mut bindings::sk_buff,
        command: Command,
    ) -> Self {
        Self { info, skb, command }
    }

    /// Whether the sender has `CAP_SYS_ADMIN` in the initial user namespace, as had who opened the socket.
    pub(super) fn is_allowed(&self) -> bool {
        // SAFETY: The message is the one that is being handled.
        unsafe { bindings::netlink_capable(self.skb, bindings::CAP_SYS_ADMIN as c_int) }
    }

    /// Where the answer goes.
    pub(super) fn asker(&self) -> Asker {
        Asker {
            port: self.info.snd_portid,
            sequence: self.info.snd_seq,
            command: self.command,
        }
    }

    /// Puts the words of a failure where netlink finds them, and gives its number.
    pub(super) fn report(&self, failure: &Failure) -> c_int {
        // SAFETY: The extended acknowledgement belongs to the request that is being handled.
        unsafe { failure.write_to(self.info.extack) };
        failure.errno.to_errno()
    }
}

/// Who asked for what.
#[derive(Clone, Copy)]
pub(in crate::kx) struct Asker {
    pub(super) port: u32,
    pub(super) sequence: u32,
    pub(super) command: Command,
}

// SPDX-License-Identifier: GPL-2.0

//! Answers of several messages.

use super::family;
use super::reply::put;
use super::Failure;
use super::Handler;
use super::Request;
use crate::sys;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::ffi::c_int;
use kernel::prelude::*;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;

/// What a dump sends: messages, each of them attributes that are put as they are.
pub(crate) struct Dump {
    bytes: KVVec<u8>,
    /// Where each message's payload ends, and the attributes it is made of.
    parts: Parts,
    sent: usize,
}

/// How the bytes of a dump become messages.
enum Parts {
    /// The bytes are a record stream; each message carries as many whole records as fit.
    Records,
    /// Each element is one message: attributes as (number, length) over the bytes.
    Messages(KVVec<KVec<(Attribute, usize)>>),
}

impl Dump {
    /// A dump of a record stream.
    pub(crate) fn records(bytes: KVVec<u8>) -> Self {
        Self {
            bytes,
            parts: Parts::Records,
            sent: 0,
        }
    }

    /// A dump of messages.
    pub(crate) fn messages(bytes: KVVec<u8>, messages: KVVec<KVec<(Attribute, usize)>>) -> Self {
        Self {
            bytes,
            parts: Parts::Messages(messages),
            sent: 0,
        }
    }
}

/// Bytes of records in one message: with header and alignment it fits into the 16 KiB that a reader offers at first, or
/// into one page frame more if a record is longer.
const MESSAGE_BYTES: usize = 14 * 1024;

/// Room that a dump asks netlink for: the longest record, and its frame.
const DUMP_BYTES: u32 = pmig_wire::record::MAX_PAYLOAD as u32 + 4096;

/// How many bytes of whole records, at least one, make the next message.
fn next_records(bytes: &[u8]) -> usize {
    let mut length = 0;
    for record in pmig_wire::record::Reader::new(bytes).flatten() {
        let with = record.bytes.len().saturating_add(length);
        if length > 0 && with > MESSAGE_BYTES {
            break;
        }
        length = with;
    }
    length
}

struct DumpState {
    dump: Dump,
    offset: usize,
}

/// Makes the state of a dump that is about to begin.
///
/// # Safety
///
/// Only for generic netlink, as `genl_ops::start`.
pub(super) unsafe extern "C" fn start<H: Handler>(cb: *mut bindings::netlink_callback) -> c_int {
    // SAFETY: Generic netlink calls this with a dump that it is about to begin; `args` is ours.
    let (info, skb) = unsafe { (&*sys::pmig_genl_info_dump(cb), (*cb).skb) };
    // SAFETY: As above.
    let Some(command) = Command::from_wire(unsafe { (*info.genlhdr).cmd }) else {
        return EOPNOTSUPP.to_errno();
    };
    let request = Request::new(info, skb, command);
    let result = match request.is_allowed() {
        true => H::dump(&request),
        false => Err(EPERM.into()),
    };
    let state = result.and_then(|dump| {
        KBox::new(DumpState { dump, offset: 0 }, GFP_KERNEL).map_err(Failure::from)
    });
    match state {
        Ok(state) => {
            // SAFETY: The callback's storage is ours until `done`.
            unsafe {
                (*cb).min_dump_alloc = DUMP_BYTES;
                (*cb).__bindgen_anon_1.args[0] = KBox::into_raw(state) as isize;
            }
            0
        }
        Err(failure) => request.report(&failure),
    }
}

fn fill(
    state: &mut DumpState,
    skb: NonNull<bindings::sk_buff>,
    port: u32,
    seq: u32,
    cmd: u8,
) -> Result<bool> {
    let dump = &mut state.dump;
    let rest = dump.bytes.get(state.offset..).unwrap_or(&[]);
    let (attributes, length): (&[(Attribute, usize)], usize) = match &dump.parts {
        Parts::Records => {
            let length = next_records(rest);
            if length == 0 {
                return Ok(false);
            }
            (&[(Attribute::Records, length)], length)
        }
        Parts::Messages(messages) => match messages.get(dump.sent) {
            None => return Ok(false),
            Some(parts) => (parts, parts.iter().map(|part| part.1).sum()),
        },
    };
    // SAFETY: The message belongs to the dump; the call returns null if there is no room.
    let header = unsafe {
        bindings::genlmsg_put(
            skb.as_ptr(),
            port,
            seq,
            family::raw(),
            bindings::NLM_F_MULTI as c_int,
            cmd,
        )
    };
    let header = NonNull::new(header).ok_or(EMSGSIZE)?;
    let mut from = 0;
    for (attribute, length) in attributes {
        let end = length.saturating_add(from);
        let result = match rest.get(from..end) {
            Some(bytes) => put(skb, *attribute, bytes),
            None => Err(EINVAL),
        };
        if let Err(error) = result {
            // SAFETY: Takes back what was put after `header`.
            unsafe { sys::pmig_genlmsg_cancel(skb.as_ptr(), header.as_ptr()) };
            return Err(error);
        }
        from = end;
    }
    // SAFETY: The message is complete.
    unsafe { sys::pmig_genlmsg_end(skb.as_ptr(), header.as_ptr()) };
    state.offset = state.offset.saturating_add(length);
    dump.sent = dump.sent.saturating_add(1);
    Ok(true)
}

/// Fills the next message of a dump.
///
/// # Safety
///
/// Only for generic netlink, as `genl_ops::dumpit` after `start` has succeeded.
pub(super) unsafe extern "C" fn dumpit(
    skb: *mut bindings::sk_buff,
    cb: *mut bindings::netlink_callback,
) -> c_int {
    // SAFETY: `start` left the state there; only one call of a dump runs at a time (nl_cb_mutex).
    let (state, info) = unsafe {
        (
            &mut *((*cb).__bindgen_anon_1.args[0] as usize as *mut DumpState),
            &*sys::pmig_genl_info_dump(cb),
        )
    };
    // SAFETY: As above.
    let (port, cmd) = unsafe { (info.snd_portid, (*info.genlhdr).cmd) };
    let Some(message) = NonNull::new(skb) else {
        return EINVAL.to_errno();
    };
    let mut any = false;
    loop {
        match fill(state, message, port, info.snd_seq, cmd) {
            Ok(true) => any = true,
            // Nothing left: 0 ends the dump once nothing was put.
            Ok(false) => break,
            Err(_) if any => break,
            Err(error) => return error.to_errno(),
        }
    }
    // SAFETY: The length is a plain word.
    unsafe { (*skb).len as c_int }
}

/// Drops the state of a dump.
///
/// # Safety
///
/// Only for generic netlink, as `genl_ops::done`.
pub(super) unsafe extern "C" fn done(cb: *mut bindings::netlink_callback) -> c_int {
    // SAFETY: `start` left the state there, or zero if it failed.
    unsafe {
        let state = (*cb).__bindgen_anon_1.args[0] as usize as *mut DumpState;
        (*cb).__bindgen_anon_1.args[0] = 0;
        if !state.is_null() {
            drop(KBox::from_raw(state));
        }
    }
    0
}

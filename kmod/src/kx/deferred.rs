// SPDX-License-Identifier: GPL-2.0

//! Requests whose work takes long.
//!
//! Generic netlink holds a lock for reading while it handles a request (`cb_lock`), and whoever wants to register a family
//! waits for it, and everybody else behind that one. So a stream of pages is not handled there: the asking task does it on
//! its way back to user mode, as a task work, and sends answer and acknowledgement itself. To the asker it looks the same.

use crate::kx::module::ModuleRef;
use crate::kx::netlink::Asker;
use crate::kx::netlink::Failure;
use crate::kx::netlink::Handler;
use crate::kx::netlink::Reply;
use crate::sys;
use core::mem::MaybeUninit;
use core::ptr;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;

/// The request's message, and the socket that it came from.
struct Message {
    skb: NonNull<bindings::sk_buff>,
    socket: NonNull<bindings::sock>,
    header: *const bindings::nlmsghdr,
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: Both references are ours to drop.
        unsafe {
            sys::pmig_consume_skb(self.skb.as_ptr());
            sys::pmig_sock_put(self.socket.as_ptr());
        }
    }
}

impl Message {
    fn acknowledge(&self, result: Result<(), Failure>) {
        // SAFETY: Message and socket are kept; zeroes are an empty extended acknowledgement.
        unsafe {
            let mut extack = MaybeUninit::<bindings::netlink_ext_ack>::zeroed().assume_init();
            let errno = match result {
                Ok(()) if u32::from((*self.header).nlmsg_flags) & bindings::NLM_F_ACK == 0 => {
                    return
                }
                Ok(()) => 0,
                Err(failure) => {
                    failure.write_to(&mut extack);
                    failure.errno()
                }
            };
            bindings::netlink_ack(self.skb.as_ptr(), self.header.cast_mut(), errno, &extack);
        }
    }
}

#[repr(C)]
struct Deferred<H: Handler> {
    work: bindings::callback_head,
    job: H::Job,
    asker: Asker,
    message: Message,
    _module: ModuleRef,
}

/// Leaves `job` to the current task's way back to user mode.
///
/// # Safety
///
/// `skb` must be the message that is being handled, and `header` the request in it.
pub(super) unsafe fn defer<H: Handler>(
    job: H::Job,
    asker: Asker,
    skb: *mut bindings::sk_buff,
    header: *const bindings::nlmsghdr,
) -> Result<(), Failure> {
    // SAFETY: The message is valid, as the caller says, and so is the socket that it came from while it is handled.
    let message = unsafe {
        Message {
            skb: NonNull::new(sys::pmig_skb_get(skb)).ok_or(EINVAL)?,
            socket: NonNull::new(sys::pmig_netlink_sock_hold(skb)).ok_or(EINVAL)?,
            header,
        }
    };
    let work = bindings::callback_head {
        next: ptr::null_mut(),
        func: Some(run::<H>),
    };
    let deferred = KBox::new(
        Deferred::<H> {
            work,
            job,
            asker,
            message,
            _module: ModuleRef::new()?,
        },
        GFP_KERNEL,
    )?;
    let deferred = KBox::into_raw(deferred);
    // SAFETY: The current task is alive; the work stays valid until `run` takes it back.
    let result = unsafe {
        bindings::task_work_add(
            bindings::get_current(),
            deferred.cast(),
            bindings::task_work_notify_mode_TWA_RESUME,
        )
    };
    if result != 0 {
        // SAFETY: It was not queued, so it is ours again.
        drop(unsafe { KBox::from_raw(deferred) });
        return Err(ESRCH.into());
    }
    Ok(())
}

fn answer(asker: Asker, numbers: [(pmig_wire::netlink::Attribute, u64); 3]) -> Result<(), Failure> {
    let mut reply = Reply::to(asker, 128)?;
    for (attribute, number) in numbers {
        reply = reply.put(attribute, &number.to_ne_bytes())?;
    }
    Ok(reply.send()?)
}

/// Does the work.
///
/// # Safety
///
/// Only as the function of a work that `defer` has queued.
unsafe extern "C" fn run<H: Handler>(work: *mut bindings::callback_head) {
    // SAFETY: The work is the first field of what `defer` gave away.
    let deferred = KBox::into_inner(unsafe { KBox::from_raw(work.cast::<Deferred<H>>()) });
    // SAFETY: Only a flag of the current task is read.
    let is_exiting = unsafe { (*bindings::get_current()).flags } & bindings::PF_EXITING != 0;
    if is_exiting {
        return;
    }
    let asker = deferred.asker;
    let result = H::perform(deferred.job).and_then(|numbers| answer(asker, numbers));
    deferred.message.acknowledge(result);
}

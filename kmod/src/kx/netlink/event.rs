// SPDX-License-Identifier: GPL-2.0

//! What is told to everybody who listens.

use super::family;
use super::reply::Reply;
use super::Asker;
use crate::sys;
use kernel::error::to_result;
use kernel::prelude::*;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;

/// Room for the attributes of an event, bytes.
const EVENT_BYTES: usize = 128;

/// Tells all listeners of the multicast group. Sleeps. That nobody listens is no failure.
pub(crate) fn announce(attributes: &[(Attribute, &[u8])]) -> Result {
    let nobody = Asker {
        port: 0,
        sequence: 0,
        command: Command::Event,
    };
    let mut event = Reply::to(nobody, EVENT_BYTES)?;
    for (attribute, bytes) in attributes {
        event = event.put(*attribute, bytes)?;
    }
    let message = event.into_message();
    // SAFETY: The message is complete; sending takes it over, whatever comes of it. The family is registered: requests
    // and the end of sockets come only while it is, and this happens in the course of them.
    match unsafe { to_result(sys::pmig_genlmsg_multicast(family::raw(), message.as_ptr())) } {
        Err(error) if error == ESRCH => Ok(()),
        result => result,
    }
}

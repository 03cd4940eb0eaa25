// SPDX-License-Identifier: GPL-2.0

//! Signals that wait, and timers that send them.

use super::bad;
use super::garbled;
use super::Finder;
use crate::kx::netlink::Failure;
use crate::kx::signal;
use crate::kx::signal::Waiting;
use crate::kx::timer;
use kernel::prelude::*;
use pmig_core::validate;
use pmig_wire::record::Record;
use pmig_wire::signal::Pending;
use pmig_wire::timer::PosixTimer;

/// Gives a timer, which the vessel has made, what no system call sets.
pub(super) fn restore_timer(finder: &mut Finder<'_>, record: &Record<'_>) -> Result<(), Failure> {
    let (timer, _) = record
        .parse::<PosixTimer>()
        .map_err(|_| garbled(record.kind))?;
    let (id, overrun) = (timer.id.get(), timer.last_overrun.get());
    let leader = finder.parks.first().ok_or(ESRCH)?;
    timer::set_last_overrun(leader.hold()?.task(), id, overrun)
        .map_err(|errno| Failure::new(errno, format_args!("the vessel has no timer {id}")))
}

/// Lets a signal wait again.
pub(super) fn restore_pending(finder: &mut Finder<'_>, record: &Record<'_>) -> Result<(), Failure> {
    let (pending, _) = record
        .parse::<Pending>()
        .map_err(|_| garbled(record.kind))?;
    validate::pending(pending, |tid| finder.has(tid)).map_err(bad)?;
    let shared = pending.tid.get() == 0;
    let park = match shared {
        true => finder.parks.first().ok_or(ESRCH)?,
        false => finder.find(pending.tid.get())?,
    };
    signal::queue(
        &park.hold()?,
        &Waiting {
            shared,
            info: pending.siginfo,
        },
    )
    .map_err(|errno| {
        Failure::new(
            errno,
            format_args!("a signal that waits could not be queued"),
        )
    })
}

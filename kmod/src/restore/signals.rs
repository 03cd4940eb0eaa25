// SPDX-License-Identifier: GPL-2.0

//! Signals that wait.

use super::bad;
use super::garbled;
use super::Finder;
use crate::kx::netlink::Failure;
use crate::kx::signal;
use crate::kx::signal::Waiting;
use kernel::prelude::*;
use pmig_core::validate;
use pmig_wire::record::Record;
use pmig_wire::signal::Pending;

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

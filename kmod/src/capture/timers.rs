// SPDX-License-Identifier: GPL-2.0

//! Timers that send signals.

use super::Records;
use crate::kx::task::Task;
use crate::kx::timer;
use kernel::bindings;
use kernel::prelude::*;
use pmig_wire::timer::IntervalTimer;
use pmig_wire::timer::PosixTimer;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;

/// Describes the timers of a frozen process.
pub(super) fn capture(records: &mut Records, leader: &Task) -> Result {
    let (monotonic, boottime) = leader.clock_offsets();
    for found in timer::interval_timers(leader).into_iter().flatten() {
        let offset = match found.which {
            bindings::ITIMER_REAL => monotonic,
            _ => 0,
        };
        records.add(&IntervalTimer {
            which: U32::new(found.which),
            reserved: U32::new(0),
            expires: I64::new(found.expires.saturating_add(offset)),
            interval: U64::new(found.interval as u64),
        })?;
    }
    for found in timer::posix_timers(leader)?.iter() {
        let offset = match found.base as u32 {
            bindings::CLOCK_MONOTONIC => monotonic,
            bindings::CLOCK_BOOTTIME => boottime,
            _ => 0,
        };
        let expires = match found.expires {
            0 => 0,
            expires => expires.saturating_add(offset),
        };
        records.add(&PosixTimer {
            id: U32::new(found.id as u32),
            clock: U32::new(found.clock as u32),
            base: U32::new(found.base as u32),
            notify: U32::new(found.notify as u32),
            signal: U32::new(found.signal as u32),
            tid: U32::new(found.tid as u32),
            value: U64::new(found.value),
            expires: I64::new(expires),
            interval: U64::new(found.interval as u64),
            last_overrun: I64::new(found.last_overrun),
        })?;
    }
    Ok(())
}

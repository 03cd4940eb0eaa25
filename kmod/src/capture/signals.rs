// SPDX-License-Identifier: GPL-2.0

//! Signal actions, and signals that wait.

use super::Records;
use crate::freeze::Parks;
use crate::kx::signal;
use kernel::prelude::*;
use pmig_wire::signal::Action;
use pmig_wire::signal::Pending;
use pmig_wire::signal::SIGNAL_COUNT;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;

/// Describes the actions that are not the default, and all signals that wait.
pub(super) fn capture(records: &mut Records, parks: &Parks) -> Result {
    let Some(leader) = parks.first() else {
        return Ok(());
    };
    for number in 1..=SIGNAL_COUNT {
        let action = signal::action(&leader.hold()?, number)?;
        let is_default = action.handler == 0 && action.flags == 0 && action.mask == 0;
        if is_default {
            continue;
        }
        records.add(&Action {
            signal: U32::new(number),
            reserved: U32::new(0),
            handler: U64::new(action.handler),
            flags: U64::new(action.flags),
            restorer: U64::new(action.restorer),
            mask: U64::new(action.mask),
        })?;
    }
    let mut waiting = KVVec::new();
    for park in parks.iter() {
        waiting.clear();
        signal::waiting(&park.hold()?, &mut waiting)?;
        for signal in waiting.iter() {
            let tid = if signal.shared {
                0
            } else {
                park.task().own_tid()
            };
            records.add(&Pending {
                tid: U32::new(tid),
                reserved: U32::new(0),
                siginfo: signal.info,
            })?;
        }
    }
    Ok(())
}

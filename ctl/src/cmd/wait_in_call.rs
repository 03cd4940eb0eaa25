// SPDX-License-Identifier: GPL-2.0
//! The hidden verb that waits in a system call, so that the module can learn how the kernel resumes it.

use crate::cli::ExitStatus;
use crate::cli::WaitCall;
use nix::poll::poll;
use nix::poll::PollTimeout;
use nix::sys::time::TimeSpec;
use nix::time::clock_nanosleep;
use nix::time::ClockId;
use nix::time::ClockNanosleepFlags;
use std::thread;
use std::time::Duration;

/// Long enough for whoever looks, and not for ever: the one who started this may die.
const SECONDS: u16 = 60;

/// Waits.
pub(super) fn run(call: WaitCall) -> anyhow::Result<ExitStatus> {
    // How the wait ends is of no interest.
    match call {
        WaitCall::Pause => nix::unistd::pause(),
        WaitCall::Nanosleep => {
            let time = TimeSpec::new(SECONDS.into(), 0);
            let _ = clock_nanosleep(
                ClockId::CLOCK_MONOTONIC,
                ClockNanosleepFlags::empty(),
                &time,
            );
        }
        WaitCall::Futex => thread::park_timeout(Duration::from_secs(SECONDS.into())),
        WaitCall::Poll => {
            let _ = poll(&mut [], PollTimeout::from(60_000u16));
        }
    }
    Ok(ExitStatus::Success)
}

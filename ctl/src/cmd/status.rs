// SPDX-License-Identifier: GPL-2.0
//! `pmigctl status`

use super::Context;
use crate::cli::ExitStatus;
use anyhow::bail;

/// Runs the verb.
pub(super) fn run(_context: &Context) -> anyhow::Result<ExitStatus> {
    bail!("not in this build");
}

// SPDX-License-Identifier: GPL-2.0
//! `pmigctl drain`

use super::Context;
use crate::cli::DrainArgs;
use crate::cli::ExitStatus;
use anyhow::bail;

/// Runs the verb.
pub(super) fn run(_context: &Context, _arguments: &DrainArgs) -> anyhow::Result<ExitStatus> {
    bail!("not in this build");
}

// SPDX-License-Identifier: GPL-2.0
//! `pmigctl explain`

use super::Context;
use crate::cli::ExplainArgs;
use crate::cli::ExitStatus;
use anyhow::bail;

/// Runs the verb.
pub(super) fn run(_context: &Context, _arguments: &ExplainArgs) -> anyhow::Result<ExitStatus> {
    bail!("not in this build");
}

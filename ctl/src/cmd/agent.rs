// SPDX-License-Identifier: GPL-2.0
//! `pmigctl agent`

use super::Context;
use crate::cli::AgentArgs;
use crate::cli::ExitStatus;
use anyhow::bail;

/// Runs the verb.
pub(super) fn run(_context: &Context, _arguments: &AgentArgs) -> anyhow::Result<ExitStatus> {
    bail!("not in this build");
}

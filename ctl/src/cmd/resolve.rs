// SPDX-License-Identifier: GPL-2.0
//! `pmigctl resolve`

use super::Context;
use crate::cli::ExitStatus;
use crate::cli::ResolveArgs;
use anyhow::bail;

/// Runs the verb.
pub(super) fn run(_context: &Context, _arguments: &ResolveArgs) -> anyhow::Result<ExitStatus> {
    bail!("not in this build");
}

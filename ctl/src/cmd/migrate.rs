// SPDX-License-Identifier: GPL-2.0
//! `pmigctl migrate`

use super::Context;
use crate::cli::ExitStatus;
use crate::cli::MigrateArgs;
use anyhow::bail;

/// Runs the verb.
pub(super) fn run(_context: &Context, _arguments: &MigrateArgs) -> anyhow::Result<ExitStatus> {
    bail!("not in this build");
}

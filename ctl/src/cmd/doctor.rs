// SPDX-License-Identifier: GPL-2.0
//! `pmigctl doctor`

use super::Context;
use crate::cli::DoctorArgs;
use crate::cli::ExitStatus;
use anyhow::bail;

/// Runs the verb.
pub(super) fn run(_context: &Context, _arguments: &DoctorArgs) -> anyhow::Result<ExitStatus> {
    bail!("not in this build");
}

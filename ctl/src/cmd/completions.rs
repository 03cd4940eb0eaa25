// SPDX-License-Identifier: GPL-2.0
//! `pmigctl completions <shell>`

use crate::cli::Cli;
use crate::cli::CompletionsArgs;
use crate::cli::ExitStatus;
use clap::CommandFactory;
use std::io;
use std::io::Write;

/// Prints the completions.
pub(super) fn run(arguments: &CompletionsArgs) -> anyhow::Result<ExitStatus> {
    // Through a buffer: clap_complete panics when the writer fails, as a closed pipe does.
    let mut buffer = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "pmigctl", &mut buffer);
    io::stdout().write_all(&buffer)?;
    Ok(ExitStatus::Success)
}

// SPDX-License-Identifier: GPL-2.0
//! `pmigctl man`

use crate::cli::Cli;
use crate::cli::ExitStatus;
use clap::CommandFactory;
use std::io;
use std::io::Write;

/// Prints the manual pages, that of the tool first and then one for each verb.
pub(super) fn run() -> anyhow::Result<ExitStatus> {
    let mut command = Cli::command();
    command.build();
    let mut buffer = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut buffer)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        clap_mangen::Man::new(verb.clone())
            .title(format!("pmigctl-{}", verb.get_name()))
            .render(&mut buffer)?;
    }
    io::stdout().write_all(&buffer)?;
    Ok(ExitStatus::Success)
}

// SPDX-License-Identifier: GPL-2.0
//! The verbs of `pmigctl`, one file each. They ask, and print what they hear; what is done is done elsewhere.
#![forbid(unsafe_code)]

mod agent;
mod completions;
mod doctor;
mod drain;
mod explain;
mod man;
mod migrate;
mod resolve;
mod status;
mod table;
mod wait_in_call;

use crate::cli;
use crate::cli::Cli;
use crate::cli::Command;
use crate::cli::ExitStatus;
use crate::proto::Failure;
use crate::proto::FailureCode;
use clap::Parser;
use std::io;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// What every verb needs to know.
#[derive(Clone, Debug)]
pub struct Context {
    /// Print one JSON document.
    pub json: bool,
    /// Socket of this host's agent.
    pub socket: PathBuf,
}

/// Parses the command line, does what it asks, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stdout or stderr changes nothing about the outcome.
            drop(error.print());
            let status = if error.use_stderr() {
                ExitStatus::Usage
            } else {
                ExitStatus::Success
            };
            return status.into();
        }
    };
    // A daemon says what it does; a tool only what it must.
    let is_agent = matches!(cli.command, Command::Agent(_));
    start_log(cli.global.verbose.saturating_add(is_agent.into()));
    let context = Context {
        json: cli.global.json,
        socket: cli.global.socket,
    };
    let (name, result) = match cli.command {
        Command::Migrate(arguments) => ("migrate", migrate::run(&context, &arguments)),
        Command::Agent(arguments) => ("agent", agent::run(&context, &arguments)),
        Command::Explain(arguments) => ("explain", explain::run(&context, &arguments)),
        Command::Status => ("status", status::run(&context)),
        Command::Resolve(arguments) => ("resolve", resolve::run(&context, &arguments)),
        Command::Doctor(arguments) => ("doctor", doctor::run(&context, &arguments)),
        Command::Drain(arguments) => ("drain", drain::run(&context, &arguments)),
        Command::Completions(arguments) => ("completions", completions::run(&arguments)),
        Command::Man => ("man", man::run()),
        Command::WaitInCall { call } => ("wait-in-call", wait_in_call::run(call)),
    };
    result
        .unwrap_or_else(|error| fail(name, &error, context.json))
        .into()
}

/// Prints `error`, which made the verb `name` fail, and chooses the exit code.
fn fail(name: &str, error: &anyhow::Error, json: bool) -> ExitStatus {
    if error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        // Whoever read the result has read enough.
        return ExitStatus::Success;
    }
    let failure = match error.downcast_ref::<Failure>() {
        Some(failure) => failure.clone(),
        None => Failure::new(FailureCode::SystemError, format!("{error:#}")),
    };
    drop(cli::print_failure(name, &failure, json));
    failure.exit_status()
}

/// Sends the log to stderr. `PMIG_LOG` overrides the option.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("PMIG_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("pmig_ctl={level}")));
    let colors = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colors)
        .with_target(false)
        .init();
}

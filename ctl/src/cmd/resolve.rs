// SPDX-License-Identifier: GPL-2.0
//! `pmigctl resolve`

use super::Context;
use crate::agent::Client;
use crate::cli;
use crate::cli::ExitStatus;
use crate::cli::ResolveArgs;
use crate::proto::Decision;
use crate::proto::MigrationId;
use serde::Serialize;
use std::io;
use std::io::Write;

#[derive(Serialize)]
struct Resolved {
    migration: MigrationId,
    decision: Decision,
}

/// Decides a migration in doubt.
pub(super) fn run(context: &Context, arguments: &ResolveArgs) -> anyhow::Result<ExitStatus> {
    let decision = if arguments.decision.run_here {
        Decision::RunHere
    } else {
        Decision::KillHere
    };
    let migration = Client::connect(&context.socket)?.resolve(&arguments.migration, decision)?;
    if context.json {
        cli::print_json(
            "resolve",
            Resolved {
                migration,
                decision,
            },
        )?;
    } else {
        let done = match decision {
            Decision::RunHere => "runs here",
            Decision::KillHere => "is killed here",
        };
        writeln!(io::stdout(), "the process of migration {migration} {done}")?;
    }
    Ok(ExitStatus::Success)
}

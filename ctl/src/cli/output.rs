// SPDX-License-Identifier: GPL-2.0
//! How results are printed: text for people, JSON with a schema number for programs. The result goes to stdout, and
//! everything else to stderr.

use crate::proto::Failure;
use serde::Serialize;
use std::io;
use std::io::Write;

/// Version of the JSON documents. It changes when a field changes its meaning or goes away, not when one is added.
pub const SCHEMA: u32 = 1;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Document<'a, T: Serialize> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The verb that was asked for.
    pub command: &'a str,
    /// Its result.
    #[serde(flatten)]
    pub result: T,
}

/// Prints `result` of `command` as one JSON document.
pub fn print_json<T: Serialize>(command: &str, result: T) -> io::Result<()> {
    let document = Document {
        schema: SCHEMA,
        command,
        result,
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &document)?;
    out.write_all(b"\n")
}

/// Prints why something was not done: to stderr for people, or to stdout as a document with the member `error`.
pub fn print_failure(command: &str, failure: &Failure, json: bool) -> io::Result<()> {
    #[derive(Serialize)]
    struct Outcome<'a> {
        error: &'a Failure,
    }
    if json {
        return print_json(command, Outcome { error: failure });
    }
    let mut out = io::stderr().lock();
    write!(out, "pmigctl: {} [{}]", failure.message, failure.code)?;
    if let Some(side) = failure.side {
        write!(out, " on the {side}")?;
    }
    if !failure.phase.is_empty() {
        write!(out, " in phase {}", failure.phase)?;
    }
    // Other verbs touch no process.
    if matches!(command, "migrate" | "drain" | "resolve") {
        write!(out, "; process: {}", failure.owner)?;
    }
    writeln!(out)?;
    for obstacle in &failure.obstacles {
        writeln!(
            out,
            "  {} [{}] ({})",
            obstacle.message, obstacle.code, obstacle.side
        )?;
    }
    Ok(())
}

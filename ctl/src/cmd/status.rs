// SPDX-License-Identifier: GPL-2.0
//! `pmigctl status`

use super::Context;
use crate::agent::Client;
use crate::cli;
use crate::cli::ExitStatus;
use crate::proto::StatusReport;
use std::io;
use std::io::Write;

/// Shows what goes on. Something in doubt makes it fail, so that a script notices.
pub(super) fn run(context: &Context) -> anyhow::Result<ExitStatus> {
    let report = Client::connect(&context.socket)?.status()?;
    if context.json {
        cli::print_json("status", &report)?;
    } else {
        print(&report)?;
    }
    Ok(if report.in_doubt.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::InDoubt
    })
}

fn print(report: &StatusReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let stopping = if report.stopping { ", stopping" } else { "" };
    writeln!(out, "agent {}{stopping}", report.agent)?;
    if report.active.is_empty() && report.in_doubt.is_empty() && report.sessions.is_empty() {
        writeln!(out, "nothing goes on")?;
    }
    for active in &report.active {
        writeln!(
            out,
            "active   {} {} process {} with {}, phase {}, for {} ms",
            active.migration, active.role, active.pid, active.peer, active.phase, active.age_ms
        )?;
    }
    for doubt in &report.in_doubt {
        writeln!(
            out,
            "in doubt {} {} process {} with {}, {}, asked {} times: {}",
            doubt.migration,
            doubt.role,
            doubt.pid,
            doubt.peer,
            if doubt.copy_here {
                "a frozen copy is here"
            } else {
                "no copy is here"
            },
            doubt.attempts,
            doubt.last_error
        )?;
    }
    for session in &report.sessions {
        writeln!(
            out,
            "session  {} of {} {} {}, process {}, {} threads parked{}",
            session.session,
            session.migration,
            session.role,
            session.state,
            session.pid,
            session.threads,
            if session.owned {
                ""
            } else {
                ", without an owner"
            }
        )?;
    }
    Ok(())
}

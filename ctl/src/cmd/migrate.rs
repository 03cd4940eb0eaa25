// SPDX-License-Identifier: GPL-2.0
//! `pmigctl migrate`

use super::Context;
use crate::agent::Client;
use crate::cli;
use crate::cli::ExitStatus;
use crate::cli::MigrateArgs;
use crate::proto;
use crate::proto::MigrateRequest;
use crate::proto::MigrationReport;
use std::io;
use std::io::Write;

/// Moves the process.
pub(super) fn run(context: &Context, arguments: &MigrateArgs) -> anyhow::Result<ExitStatus> {
    let request = MigrateRequest {
        pid: arguments.pid,
        host: arguments.host.clone(),
        port: arguments.to_port,
        dry_run: arguments.dry_run,
        timeout_ms: arguments
            .timeout
            .map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
    };
    let progress = cli::Progress::new(
        &format!("{} → {}", arguments.pid, arguments.host),
        context.json,
    );
    let result = Client::connect(&context.socket)?.migrate(&request, |event| match event {
        proto::Progress::Started(migration) => tracing::info!(%migration, "started"),
        proto::Progress::Phase(name) => progress.phase(&name),
        proto::Progress::Bytes { done, total } => progress.bytes(done, total),
    });
    progress.finish();
    let report = result?;
    if context.json {
        cli::print_json("migrate", &report)?;
    } else {
        print(&report)?;
    }
    Ok(ExitStatus::Success)
}

fn print(report: &MigrationReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if report.dry_run {
        writeln!(out, "{} can be moved to {}", report.pid, report.destination)?;
    } else {
        writeln!(
            out,
            "{} runs on {} as {}",
            report.pid, report.destination, report.destination_pid
        )?;
        writeln!(out, "  downtime  {}", milliseconds(report.downtime_us))?;
        writeln!(out, "  total     {}", milliseconds(report.total_us))?;
        writeln!(
            out,
            "  sent      {:.1} MiB in {} pages ({} pages of zeros not sent)",
            report.bytes as f64 / f64::from(1 << 20),
            report.pages,
            report.zero_pages
        )?;
        writeln!(out, "  strategy  {}", report.strategy)?;
        for (index, phase) in report.phases.iter().enumerate() {
            let title = if index == 0 { "phases" } else { "" };
            writeln!(
                out,
                "  {title:<8}  {:<10} {:>12}",
                phase.phase,
                milliseconds(phase.time_us)
            )?;
        }
    }
    for note in &report.notes {
        writeln!(out, "  note      {note}")?;
    }
    for obstacle in &report.obstacles {
        writeln!(out, "  note      {} [{}]", obstacle.message, obstacle.code)?;
    }
    Ok(())
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1_000, microseconds % 1_000)
}

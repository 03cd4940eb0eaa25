// SPDX-License-Identifier: GPL-2.0
//! `pmigctl drain`

use super::explain;
use super::table;
use super::Context;
use crate::agent::Client;
use crate::agent::HostMachine;
use crate::cli;
use crate::cli::DrainArgs;
use crate::cli::ExitStatus;
use crate::cli::Progress;
use crate::drain::Criteria;
use crate::drain::Drain;
use crate::drain::DrainReport;
use crate::drain::Host;
use crate::drain::Item;
use crate::drain::Outcome;
use crate::host::process::Own;
use crate::host::process::ProcessFacts;
use crate::host::Found;
use crate::kernel::netlink::Netlink;
use crate::proto;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrateRequest;
use crate::proto::MigrationReport;
use crate::transport::PeerAddress;
use anyhow::bail;
use anyhow::Context as _;
use nix::unistd::User;
use serde::Serialize;
use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Runs the verb.
pub(super) fn run(context: &Context, arguments: &DrainArgs) -> anyhow::Result<ExitStatus> {
    let address = PeerAddress::parse(&arguments.to, arguments.to_port)
        .map_err(|error| Failure::new(FailureCode::UnknownHost, error.to_string()))?;
    let criteria = Criteria {
        users: arguments
            .user
            .iter()
            .map(|name| user(name))
            .collect::<anyhow::Result<_>>()?,
        pids: arguments.pid.clone(),
        cgroups: arguments.cgroup.clone(),
        system: arguments.system,
    };
    let processes = ProcessFacts::all().context("cannot list the processes")?;
    let mut host = LocalHost {
        machine: HostMachine::new(Arc::new(Netlink)),
        socket: context.socket.clone(),
        address: address.clone(),
        timeout_ms: arguments
            .timeout
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        silent: context.json,
    };
    let plan = Drain::plan(
        &address.to_string(),
        &processes,
        &criteria,
        &Own::read()?,
        &mut host,
    )?;
    if arguments.dry_run {
        return finish(context, plan.report());
    }
    if !context.json {
        print_plan(plan.report())?;
    }
    let report = plan.run(&mut host, |_| {});
    finish(context, &report)
}

fn user(name: &str) -> anyhow::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match User::from_name(name)? {
        Some(user) => Ok(user.uid.as_raw()),
        None => bail!("there is no user `{name}`"),
    }
}

/// This host, as a drain sees it.
struct LocalHost {
    machine: HostMachine,
    socket: PathBuf,
    address: PeerAddress,
    timeout_ms: Option<u64>,
    silent: bool,
}

impl Host for LocalHost {
    fn explain(&mut self, process: &ProcessFacts) -> Result<Vec<Found>, Failure> {
        explain::find(&self.machine, process)
    }

    fn migrate(&mut self, pid: u32) -> Result<MigrationReport, Failure> {
        let request = MigrateRequest {
            pid,
            host: self.address.host.clone(),
            port: self.address.port,
            dry_run: false,
            timeout_ms: self.timeout_ms,
        };
        let progress = Progress::new(&format!("moving {pid}"), self.silent);
        let result = Client::connect(&self.socket)?.migrate(&request, |step| match step {
            proto::Progress::Started(_) => {}
            proto::Progress::Phase(name) => progress.phase(&name),
            proto::Progress::Bytes { done, total } => progress.bytes(done, total),
        });
        progress.finish();
        result
    }
}

fn finish(context: &Context, report: &DrainReport) -> anyhow::Result<ExitStatus> {
    if context.json {
        #[derive(Serialize)]
        struct Totals<'a> {
            moved: usize,
            stayed: usize,
            left_alone: usize,
            #[serde(flatten)]
            report: &'a DrainReport,
        }
        let totals = Totals {
            moved: report.moved(),
            stayed: report.stayed(),
            left_alone: report.left_alone(),
            report,
        };
        cli::print_json("drain", totals)?;
    } else if report.dry_run {
        print_plan(report)?;
    } else {
        print_result(report)?;
    }
    Ok(report.exit_status())
}

fn print_plan(report: &DrainReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Drain to {}: {} to move, {} cannot be moved, {} left alone",
        report.destination,
        report.moved(),
        report.stayed(),
        report.left_alone()
    )?;
    print_items(&mut out, report)
}

fn print_result(report: &DrainReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Drained to {}: {} moved, {} stayed",
        report.destination,
        report.moved(),
        report.stayed()
    )?;
    print_items(&mut out, report)
}

/// What was left alone by default is only counted: it is most of a host.
fn print_items(out: &mut dyn Write, report: &DrainReport) -> io::Result<()> {
    let shown = report
        .processes
        .iter()
        .filter(|item| !matches!(item.outcome, Outcome::LeftAlone { .. }));
    let rows: Vec<Vec<String>> = shown.flat_map(rows).collect();
    table::write_rows(out, &rows)
}

fn rows(item: &Item) -> Vec<Vec<String>> {
    let name = if item.command.is_empty() {
        &item.name
    } else {
        &item.command
    };
    let (word, detail) = match &item.outcome {
        Outcome::WouldMove => ("move", String::new()),
        Outcome::Moved {
            destination_pid,
            downtime_us,
        } => (
            "moved",
            format!(
                "PID {destination_pid} there, downtime {} ms",
                downtime_us.div_ceil(1000)
            ),
        ),
        Outcome::Refused => ("stays", String::new()),
        Outcome::Failed { failure } => (
            "failed",
            format!(
                "{} [{}]; process: {}",
                failure.message, failure.code, failure.owner
            ),
        ),
        Outcome::Gone => ("ended", "by itself".to_owned()),
        Outcome::NotTried => ("stays", "not tried after the failure above".to_owned()),
        Outcome::LeftAlone { reason } => ("left", reason.clone()),
    };
    let mut rows = vec![vec![
        format!("  {word}"),
        item.pid.to_string(),
        table::size(item.resident_bytes),
        table::shortened(name, 48),
        detail,
    ]];
    for obstacle in item.obstacles.iter().filter(|obstacle| obstacle.refuses()) {
        rows.push(vec![
            String::new(),
            String::new(),
            String::new(),
            format!("→ {}", obstacle.code),
            obstacle.message.clone(),
        ]);
    }
    rows
}

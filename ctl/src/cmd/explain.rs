// SPDX-License-Identifier: GPL-2.0
//! `pmigctl explain`

use super::table;
use super::Context;
use crate::agent;
use crate::agent::HostMachine;
use crate::agent::Machine;
use crate::cli;
use crate::cli::ExitStatus;
use crate::cli::ExplainArgs;
use crate::host::process::Own;
use crate::host::process::ProcessFacts;
use crate::host::Found;
use crate::kernel::netlink::Netlink;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::ObstacleReport;
use crate::transport::PeerAddress;
use crate::transport::TcpTransport;
use serde::Serialize;
use std::io;
use std::io::Write;
use std::sync::Arc;

/// What is known about one process.
#[derive(Debug, Serialize)]
struct Explanation {
    pid: u32,
    name: String,
    command: String,
    resident_bytes: u64,
    movable: bool,
    obstacles: Vec<ObstacleReport>,
}

/// Runs the verb.
pub(super) fn run(context: &Context, arguments: &ExplainArgs) -> anyhow::Result<ExitStatus> {
    let process = ProcessFacts::read(arguments.pid)?.ok_or_else(|| {
        Failure::new(
            FailureCode::NoSuchProcess,
            format!("there is no process {}", arguments.pid),
        )
    })?;
    let protected = process.protected(&Own::read()?);
    let is_protected = protected.is_some();
    let obstacles = match protected {
        Some(found) => vec![found.report()],
        None => look(&process, arguments)?,
    };
    let explanation = Explanation {
        pid: process.pid,
        name: process.comm,
        command: process.command,
        resident_bytes: process.resident,
        movable: !obstacles.iter().any(ObstacleReport::refuses),
        obstacles,
    };
    let status = match (explanation.movable, is_protected) {
        (true, _) => ExitStatus::Success,
        (false, true) => ExitStatus::Protected,
        (false, false) => ExitStatus::NotMovable,
    };
    if context.json {
        cli::print_json("explain", &explanation)?;
    } else {
        print(&explanation)?;
    }
    Ok(status)
}

fn look(process: &ProcessFacts, arguments: &ExplainArgs) -> anyhow::Result<Vec<ObstacleReport>> {
    let machine = HostMachine::new(Arc::new(Netlink));
    let survey = machine.survey(process.pid)?;
    let mut obstacles = machine.admit(&survey.records, false)?;
    if let Some(host) = &arguments.to {
        let address = PeerAddress::parse(host, arguments.to_port)
            .map_err(|error| Failure::new(FailureCode::UnknownHost, error.to_string()))?;
        let inspection = agent::inspect(&TcpTransport, &address, machine.facts()?, Some(&survey))?;
        // Both sides compare the hosts, and say the same in slightly different words.
        for obstacle in inspection.obstacles {
            let known = obstacles
                .iter()
                .any(|other| other.code == obstacle.code && other.object == obstacle.object);
            if !known {
                obstacles.push(obstacle);
            }
        }
    }
    obstacles.sort_by_key(|obstacle| !obstacle.refuses());
    Ok(obstacles)
}

fn print(explanation: &Explanation) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let refusals = explanation
        .obstacles
        .iter()
        .filter(|obstacle| obstacle.refuses())
        .count();
    let verdict = match refusals {
        0 => "can be moved".to_owned(),
        1 => "cannot be moved: 1 obstacle".to_owned(),
        many => format!("cannot be moved: {many} obstacles"),
    };
    let name = if explanation.command.is_empty() {
        &explanation.name
    } else {
        &explanation.command
    };
    writeln!(
        out,
        "{} ({}): {verdict}",
        explanation.pid,
        table::shortened(name, 60)
    )?;
    table::write_rows(
        &mut out,
        &table::obstacle_rows("  ", &explanation.obstacles),
    )
}

/// Everything that stands against moving a process, and what it could notice, as `explain` says it.
pub(super) fn find(machine: &HostMachine, process: &ProcessFacts) -> Result<Vec<Found>, Failure> {
    let survey = machine.survey(process.pid)?;
    Ok(machine
        .admit(&survey.records, false)?
        .iter()
        .map(Found::from)
        .collect())
}

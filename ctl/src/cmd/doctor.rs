// SPDX-License-Identifier: GPL-2.0
//! `pmigctl doctor`

use super::table;
use super::Context;
use crate::agent;
use crate::cli;
use crate::cli::DoctorArgs;
use crate::cli::ExitStatus;
use crate::host::doctor;
use crate::host::doctor::Check;
use crate::host::doctor::CheckStatus;
use crate::host::doctor::Places;
use crate::host::HostFacts;
use crate::kernel::netlink::NetlinkKernel;
use crate::kernel::Kernel;
use crate::kernel::KernelError;
use crate::kernel::ModuleInfo;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::transport::PeerAddress;
use crate::transport::TcpTransport;
use serde::Serialize;
use std::env;
use std::io;
use std::io::Write;
use std::path::PathBuf;

/// What was found.
#[derive(Debug, Serialize)]
struct Diagnosis {
    healthy: bool,
    host: Vec<Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<PeerDiagnosis>,
}

/// What was found between this host and another.
#[derive(Debug, Serialize)]
struct PeerDiagnosis {
    address: String,
    checks: Vec<Check>,
}

/// Runs the verb.
pub(super) fn run(context: &Context, arguments: &DoctorArgs) -> anyhow::Result<ExitStatus> {
    let module = module();
    let state_directory = env::var_os("PMIG_STATE_DIR")
        .map_or_else(|| PathBuf::from(cli::DEFAULT_STATE_DIR), PathBuf::from);
    let places = Places {
        socket: &context.socket,
        state_directory: &state_directory,
    };
    let host = doctor::check_host(&module, &places);
    let peer = match &arguments.peer {
        Some(peer) => {
            let address = PeerAddress::parse(peer, arguments.to_port)
                .map_err(|error| Failure::new(FailureCode::UnknownHost, error.to_string()))?;
            Some(PeerDiagnosis {
                checks: peer_checks(&address, module.as_ref().ok())?,
                address: address.to_string(),
            })
        }
        None => None,
    };
    let all = host.iter().chain(peer.iter().flat_map(|peer| &peer.checks));
    let healthy = all
        .map(|check| check.status)
        .all(|status| status != CheckStatus::Fail);
    let diagnosis = Diagnosis {
        healthy,
        host,
        peer,
    };
    if context.json {
        cli::print_json("doctor", &diagnosis)?;
    } else {
        print(&diagnosis)?;
    }
    Ok(if healthy {
        ExitStatus::Success
    } else {
        ExitStatus::Stayed
    })
}

fn module() -> Result<ModuleInfo, KernelError> {
    NetlinkKernel::connect_any_version()?.hello()
}

/// A peer that cannot be asked is a finding too, not the end of the diagnosis.
fn peer_checks(address: &PeerAddress, module: Option<&ModuleInfo>) -> anyhow::Result<Vec<Check>> {
    let here = HostFacts::collect(module)?;
    let there =
        agent::inspect(&TcpTransport, address, here.to_bytes()?, None).and_then(|inspection| {
            HostFacts::from_bytes(&inspection.facts)
                .map_err(|error| Failure::new(FailureCode::ProtocolError, error.to_string()))
        });
    Ok(match there {
        Ok(there) => doctor::check_peer(&here, &there),
        Err(failure) => vec![doctor::unreachable_peer(&failure)],
    })
}

fn print(diagnosis: &Diagnosis) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "This host")?;
    table::write_rows(&mut out, &rows(&diagnosis.host))?;
    if let Some(peer) = &diagnosis.peer {
        writeln!(out, "\nThis host and {}", peer.address)?;
        table::write_rows(&mut out, &rows(&peer.checks))?;
    }
    Ok(())
}

fn rows(checks: &[Check]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for check in checks {
        let status = match check.status {
            CheckStatus::Ok => "  ok",
            CheckStatus::Warn => "  warn",
            CheckStatus::Fail => "  FAIL",
        };
        rows.push(vec![
            status.to_owned(),
            check.name.clone(),
            check.detail.clone(),
        ]);
        if !check.hint.is_empty() {
            rows.push(vec![
                String::new(),
                String::new(),
                format!("→ {}", check.hint),
            ]);
        }
    }
    rows
}

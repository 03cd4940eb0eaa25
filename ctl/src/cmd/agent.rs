// SPDX-License-Identifier: GPL-2.0
//! `pmigctl agent`

use super::Context;
use crate::agent::Agent;
use crate::agent::Faults;
use crate::agent::HostMachine;
use crate::agent::LocalSocket;
use crate::agent::Options;
use crate::cli::AgentArgs;
use crate::cli::ExitStatus;
use crate::journal::Journal;
use crate::kernel::netlink::Netlink;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::LinkOptions;
use crate::transport::TcpPort;
use crate::transport::TcpTransport;
use anyhow::Context as _;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use nix::sys::resource::Resource;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a migration that is past its point of no return may still take when the agent is told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Runs the agent until it is told to stop.
pub(super) fn run(context: &Context, arguments: &AgentArgs) -> anyhow::Result<ExitStatus> {
    if !arguments.insecure {
        let message =
            "agents talk over plain TCP, without encryption and without asking who is calling: \
                       whoever reaches the port can start programs here as any user. \
                       On a network where that is acceptable, say --insecure";
        return Err(Failure::new(FailureCode::InsecureNotAllowed, message).into());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(
            Failure::new(FailureCode::PermissionDenied, "the agent must run as root").into(),
        );
    }
    // Held until the end. The first is for the host, the second for the journal.
    let _host = lock(&context.socket.with_extension("lock"))?;
    let _state = lock(&arguments.state_dir.join("lock"))?;
    let journal = Journal::open(&arguments.state_dir)?;
    let device = Arc::new(Netlink);
    let machine = Arc::new(HostMachine::new(device));
    machine.learn()?;
    // Before the listener, so that nobody is called who does not know his own decisions.
    let options = Options {
        max_migrations: arguments.max_migrations as usize,
        link: LinkOptions {
            silence: arguments.peer_timeout,
            ..LinkOptions::default()
        },
        ..Options::default()
    };
    let faults = Faults::new(arguments.fault.clone());
    let agent = Agent::new(machine, Arc::new(TcpTransport), journal, options, faults);
    agent.recover()?;
    let port = TcpPort::listen(arguments.listen)
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let socket = LocalSocket::listen(&context.socket)
        .with_context(|| format!("cannot listen at {}", context.socket.display()))?;
    raise_file_limit();
    stop_on_signal(agent.clone())?;
    tracing::info!(listen = %arguments.listen, socket = %context.socket.display(), "the agent is ready");
    thread::scope(|scope| -> anyhow::Result<()> {
        let requests = scope.spawn(|| agent.serve_requests(&socket));
        let result = agent.serve(&port);
        agent.end();
        match requests.join() {
            Ok(served) => served?,
            Err(_) => anyhow::bail!("the thread that takes requests has panicked"),
        }
        Ok(result?)
    })?;
    Ok(ExitStatus::Success)
}

/// Takes a lock that ends with this process.
fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let at = || format!("cannot lock {}", path.display());
    if let Some(dir) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .with_context(at)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(at)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => {
            let message = format!(
                "another agent runs on this host (it holds {})",
                path.display()
            );
            Failure::new(FailureCode::AgentRunning, message).into()
        }
        error => anyhow::Error::new(error).context(at()),
    })
}

/// Every migration and every connection takes descriptors.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Migrations that can be called off are, the others come to their end, and then the agent ends.
fn stop_on_signal(agent: Arc<Agent>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                tracing::info!(signal, "stopping");
                if !agent.stop(STOP_LIMIT) {
                    tracing::warn!(
                        "a migration is still going on; the next agent will find out how it ended"
                    );
                }
            }
        })?;
    Ok(())
}

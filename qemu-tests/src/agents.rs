// SPDX-License-Identifier: GPL-2.0

//! pmig itself in the guests of a cluster: the module loaded, an agent listening.

use std::fmt::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use crate::cluster::Cluster;
use crate::command::Output;
use crate::command::Running;
use crate::guest::Guest;
use crate::rig::scaled;

/// The module as guests see it.
pub const MODULE: &str = "/pmig/pmig.ko";

/// The tool as guests see it.
pub const TOOL: &str = "/pmig/pmigctl";

/// The documented port of agents.
pub const PORT: u16 = 7788;

/// How long an agent hears nothing of its peer before it gives it up, by default.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long loading and starting may take.
const PATIENCE: Duration = Duration::from_secs(40);

impl Cluster {
    /// Loads the module in every guest and starts an agent in each. They are stopped when the result is dropped.
    pub fn with_agents(&self) -> Result<Agents<'_>> {
        let agents = Agents {
            cluster: self,
            running: self.guests().iter().map(|_| Mutex::new(None)).collect(),
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.guests().len())
                .map(|index| {
                    let agents = &agents;
                    scope.spawn(move || {
                        agents.load(index)?;
                        agents.start(index)
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("panic while starting an agent"))?
            })
        })?;
        Ok(agents)
    }

    /// Whether the build has left both products.
    pub fn has_products(&self) -> bool {
        let products = self.guest(0).spec().rig.products();
        products.join("pmig.ko").exists() && products.join("pmigctl").exists()
    }
}

/// The agents of a cluster.
#[derive(Debug)]
pub struct Agents<'cluster> {
    cluster: &'cluster Cluster,
    running: Vec<Mutex<Option<Running>>>,
}

impl Agents<'_> {
    fn guest(&self, index: usize) -> &Guest {
        self.cluster.guest(index)
    }

    fn running(&self, index: usize) -> MutexGuard<'_, Option<Running>> {
        self.running[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the module in guest `index`, unless it is.
    pub fn load(&self, index: usize) -> Result<()> {
        self.guest(index)
            .run_ok(&format!("[ -d /sys/module/pmig ] || insmod {MODULE}"))
            .context("cannot load the module")?;
        Ok(())
    }

    /// Unloads the module in guest `index`.
    pub fn unload(&self, index: usize) -> Result<()> {
        self.guest(index)
            .run_ok("rmmod pmig")
            .context("cannot unload the module")?;
        Ok(())
    }

    /// Starts the agent of guest `index` and waits until it answers.
    pub fn start(&self, index: usize) -> Result<()> {
        self.start_with(index, &[])
    }

    /// The same with more options, for instance to inject a fault.
    pub fn start_with(&self, index: usize, options: &[&str]) -> Result<()> {
        let guest = self.guest(index);
        // Longer on a slow rig, where threads may not run for seconds; not as long as commands may take.
        let timeout = (scaled(PEER_TIMEOUT).min(PEER_TIMEOUT * 4))
            .as_secs()
            .to_string();
        let words = [TOOL, "agent", "--insecure", "--peer-timeout", &timeout];
        let mut agent = guest
            .command(words.iter().chain(options).copied())
            .spawn()
            .context("cannot start the agent")?;
        let address: SocketAddr = format!("{}:{PORT}", guest.address()).parse()?;
        let deadline = Instant::now() + scaled(PATIENCE);
        self.cluster.network().inside(|| loop {
            match TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
                Ok(_) => return Ok(()),
                Err(_) if agent.has_ended()? => {
                    bail!(
                        "the agent of {} has ended: {}",
                        guest.name(),
                        agent.so_far()?
                    )
                }
                Err(error) if Instant::now() > deadline => {
                    let log = agent.so_far()?;
                    bail!(
                        "the agent of {} does not answer at {address}: {error}\n{log}",
                        guest.name()
                    )
                }
                // Nothing tells when somebody begins to listen on another machine.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        })??;
        *self.running(index) = Some(agent);
        Ok(())
    }

    /// Kills the agent of guest `index`, which cannot do anything about it.
    pub fn kill(&self, index: usize) -> Result<()> {
        self.end(index, libc::SIGKILL).map(drop)
    }

    /// Asks the agent of guest `index` to end; gives how it has.
    pub fn stop(&self, index: usize) -> Result<Option<Output>> {
        self.end(index, libc::SIGTERM)
    }

    /// Waits until the agent of guest `index` has died by itself.
    pub fn wait_for_death(&self, index: usize, patience: Duration) -> Result<()> {
        let Some(agent) = self.running(index).take() else {
            bail!("no agent runs in {}", self.guest(index).name());
        };
        let output = agent.wait(patience).context("the agent has not died")?;
        self.keep_log(index, &output);
        Ok(())
    }

    fn end(&self, index: usize, signal: i32) -> Result<Option<Output>> {
        let Some(agent) = self.running(index).take() else {
            return Ok(None);
        };
        agent.signal(signal)?;
        let output = agent.wait(PATIENCE)?;
        self.keep_log(index, &output);
        Ok(Some(output))
    }

    /// What the agent of guest `index` has logged since it was started.
    pub fn log(&self, index: usize) -> Result<String> {
        match self.running(index).as_mut() {
            Some(agent) => Ok(agent.so_far()?.to_string()),
            None => Ok(String::new()),
        }
    }

    /// Waits until the agent of guest `index` has logged a line with this text.
    pub fn wait_for_log(&self, index: usize, text: &str, patience: Duration) -> Result<String> {
        match self.running(index).as_mut() {
            Some(agent) => agent.wait_for_line(text, patience),
            None => bail!("no agent runs in {}", self.guest(index).name()),
        }
    }

    /// Runs `pmigctl` in guest `index`.
    pub fn pmigctl(&self, index: usize, arguments: &str) -> Result<Output> {
        self.guest(index).run(&format!("{TOOL} {arguments}"))
    }

    /// Migrates a process from one guest to another; gives what `pmigctl migrate --json` prints.
    pub fn migrate(&self, from: usize, pid: u32, to: usize) -> Result<String> {
        let command = format!("{TOOL} migrate --json {pid} {}", self.guest(to).name());
        let output = self.guest(from).run(&command)?;
        if !output.success() {
            let mut message = format!("{}: {command}\n{output}", self.guest(from).name());
            for index in [from, to] {
                write!(
                    message,
                    "\n--- agent of {}\n{}",
                    self.guest(index).name(),
                    self.log(index)?
                )?;
            }
            bail!("{message}");
        }
        Ok(output.text())
    }

    fn keep_log(&self, index: usize, output: &Output) {
        use std::io::Write;
        let path = self
            .cluster
            .logs()
            .join(format!("{}.agent", self.guest(index).name()));
        // A log that cannot be kept is not worth failing for.
        if let Ok(mut file) = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
        {
            let _ = writeln!(file, "{output}\n");
        }
    }
}

impl Drop for Agents<'_> {
    fn drop(&mut self) {
        for index in 0..self.running.len() {
            let agent = self.running(index).take();
            if let Some(mut agent) = agent {
                if let Ok(output) = agent.so_far() {
                    self.keep_log(index, &output.clone());
                }
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! One guest: commands, files, its kernel log, its power switch.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::anyhow;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use crate::command::Command;
use crate::command::Output;
use crate::command::Running;
use crate::command::PATIENCE;
use crate::kernel_log;
use crate::link::Link;
use crate::protocol::KmsgRecord;
use crate::protocol::Reply;
use crate::protocol::Request;
use crate::protocol::CHUNK;
use crate::qemu::Machine;
use crate::qemu::Spec;
use crate::rig::scaled;

/// One guest of a cluster.
#[derive(Debug)]
pub struct Guest {
    spec: Spec,
    machine: Mutex<Option<Machine>>,
    /// Up to where the kernel log is known to be clean: boot and next record.
    mark: Mutex<(String, u64)>,
    /// No operation lasts beyond this.
    limit: Arc<Mutex<Option<Instant>>>,
}

impl Guest {
    pub(crate) fn new(spec: Spec, limit: Arc<Mutex<Option<Instant>>>) -> Self {
        Self {
            spec,
            machine: Mutex::default(),
            mark: Mutex::default(),
            limit,
        }
    }

    /// Its host name: node1, node2, node3.
    pub fn name(&self) -> String {
        self.spec.name()
    }

    /// Its address on the cluster's network.
    pub fn address(&self) -> String {
        crate::network::address(self.spec.index)
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// What has come out of its console so far.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.spec.console_log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn link(&self) -> Result<Arc<Link>> {
        let machine = self.machine();
        Ok(machine
            .as_ref()
            .ok_or_else(|| anyhow!("{} is switched off", self.name()))?
            .link
            .clone())
    }

    /// When everything must be over.
    pub(crate) fn limit(&self) -> Arc<Mutex<Option<Instant>>> {
        self.limit.clone()
    }

    /// When something that begins now and may take `patience` must be over.
    pub(crate) fn deadline(&self, patience: Duration) -> Instant {
        let deadline = Instant::now() + scaled(patience);
        let limit = *self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.map_or(deadline, |limit| limit.min(deadline))
    }

    // ---- commands

    /// Runs a shell command to its end.
    pub fn run(&self, script: &str) -> Result<Output> {
        self.command(["/bin/bash", "-c", script]).output()
    }

    /// Runs a shell command that must succeed, and gives what it prints.
    pub fn run_ok(&self, script: &str) -> Result<String> {
        self.command(["/bin/bash", "-c", script]).output_ok()
    }

    /// Runs a shell command that may take long and must succeed.
    pub fn run_ok_within(&self, seconds: u64, script: &str) -> Result<String> {
        self.command(["/bin/bash", "-c", script])
            .timeout(Duration::from_secs(seconds))
            .output_ok()
    }

    /// Waits until a shell condition holds. It is asked for in the guest, twenty times a second at most.
    pub fn wait_until(&self, seconds: u64, condition: &str) -> Result<()> {
        let script = format!("until {condition}; do sleep 0.05; done >/dev/null 2>&1");
        self.run_ok_within(seconds, &script)
            .with_context(|| format!("waiting for `{condition}`"))?;
        Ok(())
    }

    /// Starts a shell command whose streams are connected to the harness. It is killed when the handle is dropped.
    pub fn spawn(&self, script: &str) -> Result<Running> {
        self.command(["/bin/bash", "-c", script]).spawn()
    }

    /// Starts a program on its own, not connected to the harness by anything: its stdin is /dev/null, its output is
    /// appended to a file. Gives its process number. This is how to start what is to be migrated.
    pub fn start(&self, script: &str, log: &str) -> Result<u32> {
        self.command(["/bin/bash", "-c", &format!("exec {script}")])
            .detached(log)
            .spawn()?
            .leave()
    }

    /// A command with all its options.
    pub fn command<S: Into<String>>(&self, argv: impl IntoIterator<Item = S>) -> Command<'_> {
        Command::new(self, argv)
    }

    /// All processes: number and command line, its words separated by spaces.
    pub fn processes(&self) -> Result<Vec<(u32, String)>> {
        let deadline = self.deadline(PATIENCE);
        let exchange = self.link()?.open()?;
        exchange.send(&Request::Processes { id: exchange.id() })?;
        match exchange.next(deadline).with_context(|| self.name())? {
            Reply::Processes { processes, .. } => Ok(processes),
            Reply::Failed { message, .. } => bail!("{}: {message}", self.name()),
            other => bail!("{}: unexpected reply {other:?}", self.name()),
        }
    }

    // ---- files

    /// Writes a file in the guest.
    pub fn put(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let deadline = self.deadline(PATIENCE);
        let exchange = self.link()?.open()?;
        let id = exchange.id();
        let pieces: Vec<&[u8]> = if content.is_empty() {
            vec![content]
        } else {
            content.chunks(CHUNK).collect()
        };
        for (index, piece) in pieces.into_iter().enumerate() {
            let request = Request::Write {
                id,
                path: path.into(),
                mode,
                append: index > 0,
                data: piece.to_vec(),
            };
            exchange.send(&request)?;
            match exchange.next(deadline).with_context(|| self.name())? {
                Reply::Failed { message, .. } => bail!("{}: {message}", self.name()),
                _ => continue,
            }
        }
        Ok(())
    }

    /// Copies a file of this machine into the guest.
    pub fn put_file(&self, from: &Path, path: &str, mode: u32) -> Result<()> {
        self.put(
            path,
            &std::fs::read(from).with_context(|| from.display().to_string())?,
            mode,
        )
    }

    /// The file of this machine that guests see below /shared, if the path is one.
    pub fn shared_file(&self, path: &str) -> Option<PathBuf> {
        let below = path.strip_prefix("/shared/")?;
        Some(self.spec.shared.join(below))
    }

    /// Reads a file in the guest.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let deadline = self.deadline(PATIENCE);
        let exchange = self.link()?.open()?;
        exchange.send(&Request::Read {
            id: exchange.id(),
            path: path.into(),
        })?;
        let mut content = Vec::new();
        loop {
            match exchange.next(deadline).with_context(|| self.name())? {
                Reply::Output { data, .. } => content.extend(data),
                Reply::Failed { message, .. } => bail!("{}: {message}", self.name()),
                _ => return Ok(content),
            }
        }
    }

    /// Reads a text file in the guest.
    pub fn get_text(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.get(path)?).into_owned())
    }

    /// Flushes the guest's file systems.
    pub fn sync(&self) -> Result<()> {
        let exchange = self.link()?.open()?;
        exchange.send(&Request::Sync { id: exchange.id() })?;
        exchange
            .next(self.deadline(PATIENCE))
            .with_context(|| self.name())?;
        Ok(())
    }

    // ---- kernel log

    fn records(&self, since: u64) -> Result<Vec<KmsgRecord>> {
        let deadline = self.deadline(PATIENCE);
        let exchange = self.link()?.open()?;
        exchange.send(&Request::Kmsg {
            id: exchange.id(),
            since,
        })?;
        let mut all = Vec::new();
        loop {
            match exchange
                .next(deadline)
                .with_context(|| format!("kernel log of {}", self.name()))?
            {
                Reply::Kmsg { records, .. } if !records.is_empty() => all.extend(records),
                Reply::Failed { message, .. } => bail!("{}: {message}", self.name()),
                _ => return Ok(all),
            }
        }
    }

    /// The kernel log since boot.
    pub fn dmesg(&self) -> Result<String> {
        Ok(print(&self.records(0)?))
    }

    /// The kernel log since the last mark.
    pub fn dmesg_since_mark(&self) -> Result<String> {
        Ok(print(&self.records(self.marked()?)?))
    }

    fn marked(&self) -> Result<u64> {
        let boot = self.link()?.boot_id().unwrap_or_default();
        let mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(if mark.0 == boot { mark.1 } else { 0 })
    }

    /// What comes before is somebody else's business.
    pub fn mark_log(&self) -> Result<()> {
        let boot = self.link()?.boot_id().unwrap_or_default();
        let next = self
            .records(self.marked()?)?
            .last()
            .map_or(self.marked()?, |record| record.sequence + 1);
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = (boot, next);
        Ok(())
    }

    /// Fails if the kernel has complained about anything since the last mark.
    pub fn assert_clean_log(&self) -> Result<()> {
        let records = self.records(self.marked()?)?;
        let complaints = kernel_log::complaints(&records);
        if complaints.is_empty() {
            return Ok(());
        }
        bail!(
            "the kernel of {} has complained:\n{}",
            self.name(),
            print(&records)
                .lines()
                .take(200)
                .collect::<Vec<_>>()
                .join("\n")
        )
    }

    // ---- power

    pub(crate) fn power_on(&self) -> Result<()> {
        let machine = self.spec.power_on()?;
        *self.machine() = Some(machine);
        Ok(())
    }

    /// Waits until it is ready for commands.
    ///
    /// Emulated machines sometimes hang before they have started their second processor, about one boot in a hundred
    /// when this machine is busy. That is no test's fault: such a guest is switched off and on again, twice at most.
    pub(crate) fn wait_ready(&self) -> Result<()> {
        let mut hung = 0;
        loop {
            let begin = Instant::now();
            let Err(error) = self
                .link()?
                .wait_for_boot(1, self.deadline(boot_patience()))
            else {
                return Ok(());
            };
            if begin.elapsed() < boot_patience() || hung == 2 || self.has_failed() {
                let console = self.console();
                let tail: Vec<_> = console.lines().rev().take(20).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                return Err(error).with_context(|| {
                    format!("{} does not boot:\n{}", self.name(), tail.join("\n"))
                });
            }
            hung += 1;
            eprintln!(
                "{} hangs while it boots; switching it off and on again",
                self.name()
            );
            self.kill_qemu();
            self.power_on()?;
        }
    }

    /// Whether its initramfs or its runner has said why it does not get ready.
    fn has_failed(&self) -> bool {
        let console = self.console();
        console
            .lines()
            .last()
            .is_some_and(|line| line.contains("initramfs:") || line.contains("pmig-runner"))
    }

    /// Whether it is on and its kernel has not given up.
    pub fn is_alive(&self) -> bool {
        self.command(["true"])
            .timeout(Duration::from_secs(20))
            .output_ok()
            .is_ok()
    }

    /// The host crashes: nothing is written, nothing is said.
    pub fn kill_qemu(&self) {
        let machine = self.machine().take();
        drop(machine);
    }

    /// Switches a guest on whose host has crashed, with the disk as it was.
    pub fn power_on_again(&self) -> Result<()> {
        self.kill_qemu();
        self.power_on()?;
        self.wait_ready()
    }

    /// Stops its virtual processors, as a host that hangs; [`Guest::resume`] lets them go on.
    pub fn pause(&self) -> Result<()> {
        self.signal_machine(nix::sys::signal::Signal::SIGSTOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.signal_machine(nix::sys::signal::Signal::SIGCONT)
    }

    fn signal_machine(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        let machine = self.machine();
        let machine = machine
            .as_ref()
            .ok_or_else(|| anyhow!("{} is switched off", self.name()))?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(machine.id().cast_signed()),
            signal,
        )?;
        Ok(())
    }

    /// Reboots, with everything that its init does on the way, and waits until it is back.
    pub fn reboot_wait(&self) -> Result<()> {
        let link = self.link()?;
        let boots = link.boots();
        match self.spec.mode {
            crate::Mode::Fast => link.send(&Request::Reset)?,
            // It may be gone before it can say that all went well.
            crate::Mode::Systemd => drop(self.run("systemctl reboot")),
        }
        link.wait_for_boot(boots + 1, self.deadline(3 * boot_patience()))
            .with_context(|| self.name())
    }

    /// How often it has booted since it was switched on, for those who reboot it in their own way.
    pub fn boots(&self) -> Result<u32> {
        Ok(self.link()?.boots())
    }

    /// Waits until it has booted that often.
    pub fn wait_for_boots(&self, boots: u32) -> Result<()> {
        self.link()?
            .wait_for_boot(boots, self.deadline(3 * boot_patience()))
            .with_context(|| self.name())
    }

    /// The processes on this machine that are this guest, for those who look after them by themselves.
    pub fn host_processes(&self) -> Vec<u32> {
        self.machine()
            .as_ref()
            .map(Machine::ids)
            .unwrap_or_default()
    }

    pub(crate) fn release(&self) {
        if let Some(machine) = self.machine().as_mut() {
            machine.release();
        }
    }

    pub fn shell_socket(&self) -> PathBuf {
        self.spec.shell_socket()
    }
}

/// How long a guest may take to boot: generous, because the machine may be busy with others.
pub(crate) fn boot_patience() -> Duration {
    Duration::from_secs(90)
}

fn print(records: &[KmsgRecord]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for record in records {
        let (seconds, rest) = (
            record.microseconds / 1_000_000,
            record.microseconds % 1_000_000,
        );
        let _ = writeln!(text, "[{seconds:5}.{rest:06}] {}", record.text);
    }
    text
}

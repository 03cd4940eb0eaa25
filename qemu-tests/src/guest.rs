// SPDX-License-Identifier: GPL-2.0

//! One guest: commands, files, its kernel log, its power switch.

use std::fmt;
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

use crate::kernel_log;
use crate::link::Exchange;
use crate::link::Link;
use crate::protocol::Exec;
use crate::protocol::KmsgRecord;
use crate::protocol::Reply;
use crate::protocol::Request;
use crate::protocol::Stream;
use crate::protocol::CHUNK;
use crate::qemu::Machine;
use crate::qemu::Spec;
use crate::rig::scaled;

/// How long a command may take unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a command has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code, unless a signal has killed it.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// What it has printed, without the last newline.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}")?,
            (None, Some(signal)) => write!(f, "killed by signal {signal}")?,
            (None, None) => write!(f, "end unknown")?,
        }
        for (name, text) in [("stdout", self.text()), ("stderr", self.errors())] {
            if !text.is_empty() {
                write!(f, "\n--- {name}\n{text}")?;
            }
        }
        Ok(())
    }
}

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

    fn link(&self) -> Result<Arc<Link>> {
        let machine = self.machine();
        Ok(machine
            .as_ref()
            .ok_or_else(|| anyhow!("{} is switched off", self.name()))?
            .link
            .clone())
    }

    /// When something that begins now and may take `patience` must be over.
    fn deadline(&self, patience: Duration) -> Instant {
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
        let exec = Exec {
            argv: argv.into_iter().map(Into::into).collect(),
            stdout: Stream::Pipe,
            stderr: Stream::Pipe,
            ..Exec::default()
        };
        Command {
            guest: self,
            exec,
            input: None,
            patience: PATIENCE,
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

/// A command that has not been started yet.
#[derive(Debug)]
#[must_use = "nothing happens before it is started"]
pub struct Command<'guest> {
    guest: &'guest Guest,
    exec: Exec,
    input: Option<Vec<u8>>,
    patience: Duration,
}

impl Command<'_> {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.exec.env.push((name.into(), value.into()));
        self
    }

    pub fn cwd(mut self, directory: &str) -> Self {
        self.exec.cwd = Some(directory.into());
        self
    }

    /// As this user and the group of the same number.
    pub fn user(mut self, user: u32) -> Self {
        self.exec.user = Some((user, user));
        self
    }

    /// Bytes for its stdin, which then ends.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.exec.stdin = Stream::Pipe;
        self.input = Some(bytes.into());
        self
    }

    /// A stdin that [`Running::write`] writes to.
    pub fn piped_input(mut self) -> Self {
        self.exec.stdin = Stream::Pipe;
        self
    }

    /// Connected to nothing: stdin from /dev/null, the others appended to a file in the guest.
    pub fn detached(mut self, log: &str) -> Self {
        self.exec.stdin = Stream::Null;
        self.exec.stdout = Stream::File(log.into());
        self.exec.stderr = Stream::File(log.into());
        self
    }

    pub fn stdin_file(mut self, path: &str) -> Self {
        self.exec.stdin = Stream::File(path.into());
        self
    }

    pub fn stdout_file(mut self, path: &str) -> Self {
        self.exec.stdout = Stream::File(path.into());
        self
    }

    pub fn stderr_file(mut self, path: &str) -> Self {
        self.exec.stderr = Stream::File(path.into());
        self
    }

    pub fn timeout(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn describe(&self) -> String {
        let words = match self.exec.argv.as_slice() {
            [shell, option, script] if shell == "/bin/bash" && option == "-c" => script.clone(),
            words => words.join(" "),
        };
        format!("{}: {words}", self.guest.name())
    }

    /// Runs it to its end.
    pub fn output(self) -> Result<Output> {
        let patience = self.patience;
        self.spawn()?.wait(patience)
    }

    /// Runs it to its end, which must be exit code 0; gives what it prints.
    pub fn output_ok(self) -> Result<String> {
        let what = self.describe();
        let output = self.output()?;
        if !output.success() {
            bail!("{what}\n{output}");
        }
        Ok(output.text())
    }

    /// Starts it.
    pub fn spawn(self) -> Result<Running> {
        let what = self.describe();
        let link = self.guest.link()?;
        let exchange = link.open()?;
        let id = exchange.id();
        link.send(&Request::Exec {
            id,
            exec: self.exec,
        })
        .with_context(|| what.clone())?;
        let pid = match exchange
            .next(self.guest.deadline(PATIENCE))
            .with_context(|| what.clone())?
        {
            Reply::Started { pid, .. } => pid,
            Reply::Failed { message, .. } => bail!("{what}\n{message}"),
            other => bail!("{what}\nunexpected reply {other:?}"),
        };
        let running = Running {
            exchange,
            what,
            pid,
            limit: self.guest.limit.clone(),
            output: Output {
                code: None,
                signal: None,
                stdout: Vec::new(),
                stderr: Vec::new(),
            },
            ended: false,
        };
        if let Some(input) = self.input {
            running.write(&input)?;
            running.close_input()?;
        }
        Ok(running)
    }
}

/// A command that runs in a guest. Dropping it kills it and its process group; [`Running::leave`] does not.
#[derive(Debug)]
pub struct Running {
    exchange: Exchange,
    what: String,
    pid: u32,
    limit: Arc<Mutex<Option<Instant>>>,
    output: Output,
    ended: bool,
}

impl Running {
    /// Its process number in the guest.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn deadline(&self, patience: Duration) -> Instant {
        let deadline = Instant::now() + scaled(patience);
        let limit = *self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.map_or(deadline, |limit| limit.min(deadline))
    }

    /// Writes to its stdin.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        for data in bytes.chunks(CHUNK) {
            self.exchange.send(&Request::Stdin {
                id: self.exchange.id(),
                data: data.to_vec(),
            })?;
        }
        Ok(())
    }

    pub fn close_input(&self) -> Result<()> {
        self.exchange.send(&Request::Stdin {
            id: self.exchange.id(),
            data: Vec::new(),
        })
    }

    /// Sends a signal to its process group.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.exchange.send(&Request::Signal {
            id: self.exchange.id(),
            signal,
        })
    }

    fn take(&mut self, reply: Reply) -> Result<()> {
        match reply {
            Reply::Output {
                error: false, data, ..
            } => self.output.stdout.extend(data),
            Reply::Output {
                error: true, data, ..
            } => self.output.stderr.extend(data),
            Reply::Exited { code, signal, .. } => {
                self.output.code = code;
                self.output.signal = signal;
                self.ended = true;
            }
            other => bail!("{}\nunexpected reply {other:?}", self.what),
        }
        Ok(())
    }

    /// Waits for its end. The output is everything that it has printed since it was started.
    pub fn wait(mut self, patience: Duration) -> Result<Output> {
        let deadline = self.deadline(patience);
        while !self.ended {
            let reply = self
                .exchange
                .next(deadline)
                .with_context(|| format!("{}\nuntil then: {}", self.what, self.output))?;
            self.take(reply)?;
        }
        Ok(self.output.clone())
    }

    /// Waits until a line with this text has come out of it, and gives the line.
    pub fn wait_for_line(&mut self, text: &str, patience: Duration) -> Result<String> {
        let deadline = self.deadline(patience);
        loop {
            for stream in [&self.output.stdout, &self.output.stderr] {
                let printed = String::from_utf8_lossy(stream);
                if let Some(line) = printed
                    .split_inclusive('\n')
                    .find(|l| l.ends_with('\n') && l.contains(text))
                {
                    return Ok(line.trim_end().to_owned());
                }
            }
            if self.ended {
                bail!(
                    "{}\nended without printing {text:?}: {}",
                    self.what,
                    self.output
                );
            }
            let reply = self.exchange.next(deadline).with_context(|| {
                format!(
                    "{}\nwaiting for {text:?}; until then: {}",
                    self.what, self.output
                )
            })?;
            self.take(reply)?;
        }
    }

    /// What has come out of it so far.
    pub fn so_far(&mut self) -> Result<&Output> {
        while let Some(reply) = self.exchange.poll() {
            self.take(reply)?;
        }
        Ok(&self.output)
    }

    /// Whether it has ended, as far as is known by now.
    pub fn has_ended(&mut self) -> Result<bool> {
        self.so_far()?;
        Ok(self.ended)
    }

    /// Lets it run on unobserved; gives its process number.
    pub fn leave(mut self) -> Result<u32> {
        self.ended = true;
        Ok(self.pid)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // The guest may be gone, and the command with it.
            let _ = self.signal(libc::SIGKILL);
        }
    }
}

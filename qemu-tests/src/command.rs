// SPDX-License-Identifier: GPL-2.0

//! Commands in a guest.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use crate::guest::Guest;
use crate::link::Exchange;
use crate::protocol::Exec;
use crate::protocol::Reply;
use crate::protocol::Request;
use crate::protocol::Stream;
use crate::protocol::CHUNK;
use crate::rig::scaled;

/// How long a command may take unless it says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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

/// A command that has not been started yet.
#[derive(Debug)]
#[must_use = "nothing happens before it is started"]
pub struct Command<'guest> {
    guest: &'guest Guest,
    exec: Exec,
    input: Option<Vec<u8>>,
    patience: Duration,
}

impl<'guest> Command<'guest> {
    pub(crate) fn new<S: Into<String>>(
        guest: &'guest Guest,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        let exec = Exec {
            argv: argv.into_iter().map(Into::into).collect(),
            stdout: Stream::Pipe,
            stderr: Stream::Pipe,
            ..Exec::default()
        };
        Self {
            guest,
            exec,
            input: None,
            patience: PATIENCE,
        }
    }

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
            limit: self.guest.limit(),
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

// SPDX-License-Identifier: GPL-2.0

//! A self-checking program of `workloads/` that runs somewhere in a cluster, and the usual test: move it, let it check
//! itself, let it end.

use std::fs;
use std::fs::File;
use std::io::ErrorKind;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use qemu_tests::agents::Agents;
use qemu_tests::case::skip;
use qemu_tests::rig::scaled;
use qemu_tests::Cluster;
use qemu_tests::Guest;

/// Where guests see the programs.
pub(crate) const PROGRAMS: &str = "/pmig/workloads";

/// How long a program may take to prepare its state, and to end when it may.
const PATIENCE: u64 = 60;

/// A program that was started.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Its PID, as it sees it itself.
    pub(crate) pid: u32,
    /// Its log, the same file in every guest.
    pub(crate) log: String,
    name: String,
}

impl Workload {
    /// Starts `PROGRAM [key=value …]` in a guest and waits until its state is prepared.
    pub(crate) fn start(guest: &Guest, command: &str) -> Result<Self> {
        let program = command.split(' ').next().unwrap_or(command);
        let arguments = command.strip_prefix(program).unwrap_or("");
        let log = fresh_log(program);
        let script = format!(
            "{} {PROGRAMS}/{program} {log}{arguments}",
            interpreter(program)
        );
        let output = guest.command(["/bin/bash", "-c", &script]).output()?;
        let text = read(guest, &log)?;
        if let Some(reason) = text.lines().find_map(|line| line.strip_prefix("SKIP ")) {
            bail!(Unavailable(reason.to_owned()));
        }
        ensure!(
            output.success(),
            "{command} does not start\n{text}\n{output}"
        );
        Self::found(program, log, &text)
    }

    /// Starts a program that knows of no test, or that does not leave its starter by itself: `command` says how, with
    /// `LOG` for the log, to which `READY <pid>` must be written. Some word of its command line must begin with that.
    pub(crate) fn launch(guest: &Guest, name: &str, command: &str) -> Result<Self> {
        let log = fresh_log(name);
        guest.start(&command.replace("LOG", &log), &log)?;
        guest.wait_until(PATIENCE, &format!("grep -q ^READY {log}"))?;
        Self::found(name, log.clone(), &read(guest, &log)?)
    }

    fn found(name: &str, log: String, text: &str) -> Result<Self> {
        let pid = text
            .lines()
            .find_map(|line| line.strip_prefix("READY "))
            .and_then(|pid| pid.trim().parse().ok())
            .with_context(|| format!("{name} is not ready:\n{text}"))?;
        Ok(Self {
            pid,
            log,
            name: name.to_owned(),
        })
    }

    /// What it has logged.
    pub(crate) fn text(&self, guest: &Guest) -> Result<String> {
        read(guest, &self.log)
    }

    /// The number of its last heartbeat.
    pub(crate) fn beat(&self, guest: &Guest) -> Result<u64> {
        let text = read(guest, &format!("{}.beat", self.log))?;
        Ok(text.trim().parse().unwrap_or(0))
    }

    /// Waits until it has gone on working, wherever it is.
    pub(crate) fn wait_for_beat(&self, guest: &Guest) -> Result<()> {
        let before = self.beat(guest)?;
        let deadline = Instant::now() + scaled(Duration::from_secs(20));
        while self.beat(guest)? <= before {
            self.ensure_unharmed(guest)?;
            ensure!(
                Instant::now() < deadline,
                "{} does not go on after heartbeat {before}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Fails if it has found something wrong.
    pub(crate) fn ensure_unharmed(&self, guest: &Guest) -> Result<()> {
        let text = self.text(guest)?;
        ensure!(!text.contains("FAIL "), "{}:\n{text}", self.name);
        Ok(())
    }

    /// The processes of a guest that are this program, by the numbers that the guest sees.
    pub(crate) fn processes(&self, guest: &Guest) -> Result<Vec<u32>> {
        // Files of the program have the log's name and another ending.
        let is_its = |line: &str| {
            line.match_indices(&self.log).any(|(at, log)| {
                let rest = &line[at + log.len()..];
                let word = rest.split(' ').next().unwrap_or("");
                word.is_empty()
                    || word
                        .strip_prefix('.')
                        .is_some_and(|ending| ending.bytes().all(|byte| byte.is_ascii_lowercase()))
            })
        };
        let all = guest.processes()?;
        Ok(all
            .into_iter()
            .filter(|(_, line)| is_its(line))
            .map(|(pid, _)| pid)
            .collect())
    }

    /// Fails unless it runs in one guest and not in the other, under its own number.
    pub(crate) fn ensure_only_in(&self, cluster: &Cluster, index: usize) -> Result<()> {
        for (other, guest) in cluster.guests().iter().enumerate() {
            let found = self.processes(guest)?;
            let expected: &[u32] = if other == index { &[self.pid] } else { &[] };
            ensure!(
                found == expected,
                "{} in {}: expected {expected:?}, found {found:?}\n{}",
                self.name,
                guest.name(),
                self.text(guest)?
            );
        }
        Ok(())
    }

    /// Waits until exactly one guest has it and it goes on working there; gives which.
    pub(crate) fn wait_for_one_copy(&self, cluster: &Cluster) -> Result<usize> {
        let deadline = Instant::now() + scaled(Duration::from_secs(60));
        loop {
            let mut places = Vec::new();
            for (index, guest) in cluster.guests().iter().enumerate() {
                places.extend(self.processes(guest)?.iter().map(|_| index));
            }
            self.ensure_unharmed(cluster.guest(0))?;
            if let [index] = places[..] {
                if self.wait_for_beat(cluster.guest(index)).is_ok() {
                    return Ok(index);
                }
            }
            ensure!(
                Instant::now() < deadline,
                "{}: copies in guests {places:?}, none or not exactly one goes on\n{}",
                self.name,
                self.text(cluster.guest(0))?
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Lets it check everything once more and end; fails unless it says that all is well and is gone.
    pub(crate) fn finish(&self, guest: &Guest) -> Result<String> {
        let finish = format!("{}.finish", self.log);
        match guest.shared_file(&finish) {
            Some(file) => drop(File::create(file)?),
            None => bail!("{finish} is not in /shared"),
        }
        self.wait_for_end(guest, PATIENCE)?;
        let text = self.text(guest)?;
        ensure!(
            text.contains("OK "),
            "{} has ended without OK:\n{text}",
            self.name
        );
        ensure!(!text.contains("FAIL "), "{}:\n{text}", self.name);
        Ok(text)
    }

    /// Waits until no process of it is left in a guest.
    pub(crate) fn wait_for_end(&self, guest: &Guest, seconds: u64) -> Result<()> {
        let deadline = Instant::now() + scaled(Duration::from_secs(seconds));
        while !self.processes(guest)?.is_empty() {
            if Instant::now() >= deadline {
                let pid = self.processes(guest)?.first().copied().unwrap_or(self.pid);
                let state = guest.run(&format!(
                    "cat /proc/{pid}/status /proc/{pid}/wchan /proc/{pid}/stack /proc/{pid}/syscall"
                ))?;
                bail!("{} does not end\n{}\n{state}", self.name, self.text(guest)?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The reason that a program gave why its test cannot be made on this kernel.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// A file in /shared, which this machine has; nothing if it is not there.
fn read(guest: &Guest, path: &str) -> Result<String> {
    let file = guest
        .shared_file(path)
        .with_context(|| format!("{path} is not in /shared"))?;
    match fs::read(file) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).context(path.to_owned()),
    }
}

/// A name that no other workload of this run has.
fn fresh_log(program: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let stem = program.split('.').next().unwrap_or(program);
    format!("/shared/{stem}-{number}.log")
}

fn interpreter(program: &str) -> &'static str {
    match program.rsplit_once('.') {
        Some((_, "py")) => "python3",
        Some((_, "pl")) => "perl",
        Some((_, "sh")) => "bash",
        _ => "exec",
    }
}

/// Agents in all guests; a reason to skip if there is nothing to test yet.
pub(crate) fn agents(cluster: &Cluster) -> Result<Agents<'_>> {
    if !cluster.has_products() {
        skip("pmig.ko or pmigctl is not built")?;
    }
    cluster.with_agents()
}

/// Moves a program from one guest to another; it must be gone from the first and have its number in the second.
pub(crate) fn migrate(
    cluster: &Cluster,
    agents: &Agents<'_>,
    workload: &Workload,
    from: usize,
    to: usize,
) -> Result<String> {
    let report = migrate_patiently(agents, workload.pid, from, to)
        .with_context(|| workload.text(cluster.guest(from)).unwrap_or_default())?;
    workload.ensure_unharmed(cluster.guest(to))?;
    workload
        .ensure_only_in(cluster, to)
        .with_context(|| format!("after {report}"))?;
    Ok(report)
}

/// Moves a process that may have a file of procfs open just now, which is an obstacle that goes away by itself.
pub(crate) fn migrate_patiently(
    agents: &Agents<'_>,
    pid: u32,
    from: usize,
    to: usize,
) -> Result<String> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match agents.migrate(from, pid, to) {
            Err(error) if attempts < 6 && is_fleeting(&format!("{error:#}")) => {}
            other => return other,
        }
    }
}

/// Whether the only thing that is refused is a file of the kernel's.
fn is_fleeting(report: &str) -> bool {
    let count = |text: &str| report.matches(text).count();
    let refusals = count("\"severity\": \"refusal\"");
    refusals > 0 && refusals == count("\"code\": \"kernel-file\"")
}

/// Starts a program in the first guest, moves it to the second, lets it work on, check itself and end.
pub(crate) fn move_and_check(cluster: &Cluster, command: &str) -> Result<()> {
    travel(cluster, command, &[1])
}

/// The same by way of several guests.
pub(crate) fn travel(cluster: &Cluster, command: &str, stations: &[usize]) -> Result<()> {
    let agents = agents(cluster)?;
    let workload = match Workload::start(cluster.guest(0), command) {
        Err(error) if error.is::<Unavailable>() => return skip(format!("{error}")),
        other => other?,
    };
    let mut here = 0;
    for &there in stations {
        migrate(cluster, &agents, &workload, here, there)?;
        workload.wait_for_beat(cluster.guest(there))?;
        here = there;
    }
    workload.finish(cluster.guest(here))?;
    Ok(())
}

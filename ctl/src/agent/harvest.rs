// SPDX-License-Identifier: GPL-2.0
//! Teaches the module how the kernel resumes interrupted calls.
//!
//! Where the kernel goes on with a call that was interrupted is the address of one of its own functions, which differs with
//! every boot and which the module may not look up. It learns it from processes that wait in such a call: this program
//! again, as a [`crate::cmd`] that does nothing but wait.

use crate::kernel::Device;
use crate::kernel::KernelError;
use crate::proto::MigrationId;
use pmig_wire::netlink::Role;
use pmig_wire::thread::RestartKind;
use std::fs;
use std::io;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// The hidden verb of this program that waits.
pub const WAIT_VERB: &str = "wait-in-call";
/// How long a fresh process may take until it waits.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long freezing one that waits may take.
const FREEZE_LIMIT: Duration = Duration::from_secs(5);

/// Why the module could not learn something.
#[derive(Debug, thiserror::Error)]
pub enum HarvestError {
    /// The module refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// No process could be made that waits.
    #[error("a process that waits in a call: {0}")]
    Process(#[from] io::Error),
    /// There are no random numbers.
    #[error("no random number: {0}")]
    Random(#[from] getrandom::Error),
}

/// The name of a kind, as the hidden verb takes it, and the number of its system call on x86-64.
fn call_of(kind: RestartKind) -> (&'static str, u32) {
    match kind {
        RestartKind::None => ("pause", 34),
        RestartKind::Nanosleep => ("nanosleep", 230),
        RestartKind::Futex => ("futex", 202),
        RestartKind::Poll => ("poll", 7),
    }
}

/// Teaches the module everything that it does not know yet. Returns what it could not learn.
pub(super) fn teach(device: &dyn Device) -> Result<Vec<(RestartKind, HarvestError)>, KernelError> {
    let module = device.open()?.hello()?;
    let mut failed = Vec::new();
    for kind in RestartKind::ALL
        .into_iter()
        .filter(|kind| !module.has_harvested(*kind))
    {
        if let Err(error) = teach_one(device, kind) {
            failed.push((kind, error));
        }
    }
    Ok(failed)
}

fn teach_one(device: &dyn Device, kind: RestartKind) -> Result<(), HarvestError> {
    let mut kernel = device.open()?;
    let child = Waiting::start(kind)?;
    let pid = child.0.id();
    let session = kernel.session_new(Role::Source, MigrationId::random()?)?;
    kernel.freeze(session, pid, FREEZE_LIMIT)?;
    kernel.harvest(session, pid, kind)?;
    kernel.session_end(session)?;
    Ok(())
}

/// A process that waits in a system call, until the value is dropped.
struct Waiting(Child);

impl Waiting {
    fn start(kind: RestartKind) -> io::Result<Self> {
        let (name, number) = call_of(kind);
        let child = Command::new("/proc/self/exe")
            .args([WAIT_VERB, name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let waiting = Self(child);
        let path = format!("/proc/{}/syscall", waiting.0.id());
        let begin = Instant::now();
        loop {
            // The call that it waits in comes first on the line.
            let line = fs::read_to_string(&path)?;
            if line.split_ascii_whitespace().next() == Some(&number.to_string()) {
                return Ok(waiting);
            }
            if begin.elapsed() > START_LIMIT {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // One that is dead already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

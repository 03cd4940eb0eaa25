// SPDX-License-Identifier: GPL-2.0
//! The making of the process that becomes the moved one.

use super::abi;
use super::abi::step;
use super::control::Control;
use super::control::Orders;
use super::SpawnOptions;
use super::VesselError;
use crate::sys::memory;
use crate::sys::process;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

/// The program.
static VESSEL: &[u8] = include_bytes!(env!("PMIG_VESSEL_ELF"));

/// A process that serves lists in its first slot.
#[derive(Debug)]
pub(super) struct Spawned {
    /// PID on this host.
    pub(super) pid: u32,
    /// The process.
    pub(super) pidfd: OwnedFd,
    /// The shared memory.
    pub(super) control: Control,
    /// The spawner, which is the process's parent (or its namespace's) until it is let go.
    pub(super) spawner: Option<Child>,
}

/// What `/proc/self/timens_offsets` takes.
fn clock_offsets(options: &SpawnOptions) -> String {
    const BILLION: i64 = 1_000_000_000;
    // The kernel wants nanoseconds that are not negative.
    let parts = |offset: i64| (offset.div_euclid(BILLION), offset.rem_euclid(BILLION));
    let (monotonic, monotonic_rest) = parts(options.monotonic_offset);
    let (boottime, boottime_rest) = parts(options.boottime_offset);
    format!("monotonic {monotonic} {monotonic_rest}\nboottime {boottime} {boottime_rest}\n")
}

/// Makes the process with the stub at `stub_start`. `inside` says whether it gets a PID namespace.
pub(super) fn spawn(
    pid: u32,
    exit_signal: u32,
    slots: usize,
    stub_start: u64,
    inside: bool,
    options: &SpawnOptions,
) -> Result<Spawned, VesselError> {
    let mut flags = 0;
    if options.monotonic_offset != 0 || options.boottime_offset != 0 {
        flags |= abi::TIME_NAMESPACE;
    }
    if inside {
        flags |= abi::PID_NAMESPACE;
    }
    if options.cgroup.is_some() {
        flags |= abi::INTO_CGROUP;
    }
    let orders = Orders {
        stub_start,
        flags,
        pid,
        exit_signal,
        clock_offsets: clock_offsets(options),
    };
    let control = Control::new(slots, &orders)?;
    let mut spawner = start(&control, options)?;
    match arrive(&control, &mut spawner, pid, inside, options.timeout) {
        Ok((host_pid, pidfd)) => Ok(Spawned {
            pid: host_pid,
            pidfd,
            control,
            spawner: Some(spawner),
        }),
        Err(error) => {
            control.release(abi::DISCARD);
            finish(&mut spawner);
            Err(error)
        }
    }
}

/// The program as a file that can be executed.
fn program() -> io::Result<BorrowedFd<'static>> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.as_fd());
    }
    let mut writable = File::from(memory::memfd(c"pmig-vessel", true)?);
    writable.write_all(VESSEL)?;
    // A file that is open for writing cannot be executed.
    let program = File::open(format!("/proc/self/fd/{}", writable.as_raw_fd()))?;
    drop(writable);
    Ok(PROGRAM.get_or_init(|| program.into()).as_fd())
}

/// Starts the spawner: the shared memory is its standard input, the cgroup's directory its standard output.
fn start(control: &Control, options: &SpawnOptions) -> Result<Child, VesselError> {
    const ATTEMPTS: u32 = 100;
    let error = || VesselError::agent("start the vessel's program");
    let program = program().map_err(error())?;
    let mut attempt = 0;
    loop {
        let input = control.file().try_clone_to_owned().map_err(error())?;
        let output = match &options.cgroup {
            Some(directory) => {
                let what = format!("open the cgroup {}", directory.display());
                Stdio::from(File::open(directory).map_err(VesselError::agent(what))?)
            }
            None => Stdio::null(),
        };
        let result = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0("pmig-vessel")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(output)
            .stderr(Stdio::null())
            .spawn();
        attempt += 1;
        match result {
            // Another thread of the agent forked while the program was being written, and its child has not yet
            // executed anything.
            Err(busy) if busy.raw_os_error() == Some(libc::ETXTBSY) && attempt < ATTEMPTS => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.map_err(error()),
        }
    }
}

/// Waits until the vessel serves, and finds it.
fn arrive(
    control: &Control,
    spawner: &mut Child,
    pid: u32,
    inside: bool,
    timeout: Duration,
) -> Result<(u32, OwnedFd), VesselError> {
    let deadline = Instant::now() + timeout;
    let what = "start".to_owned();
    loop {
        match control.state().load(Ordering::Acquire) {
            abi::READY => break,
            abi::FAILED => return Err(failure(control, pid)),
            state => memory::wait(control.state(), state, Duration::from_millis(50)),
        }
        // The state may have changed just before the spawner ended.
        let over = control.state().load(Ordering::Acquire) == abi::STARTING
            && matches!(spawner.try_wait(), Ok(Some(_)));
        if over && control.state().load(Ordering::Acquire) == abi::STARTING {
            return Err(VesselError::Died);
        }
        if Instant::now() >= deadline {
            return Err(VesselError::Timeout { what });
        }
    }
    let mut child = control.child();
    while child == 0 && Instant::now() < deadline {
        // The child was quicker than its parent.
        std::thread::sleep(Duration::from_micros(50));
        child = control.child();
    }
    let host_pid = if inside {
        only_child(child).ok_or(VesselError::Died)?
    } else {
        child
    };
    // Nobody has waited for the process: its parent, the spawner or an init that has not lost it yet, is still there, or
    // the look below does not find the numbers that it must have.
    let pidfd = process::pidfd_open(host_pid).map_err(VesselError::agent("find the vessel"))?;
    let numbers = namespace_pids(host_pid);
    if numbers.last() != Some(&pid) || process::pidfd_wait(pidfd.as_fd(), Duration::ZERO) {
        return Err(VesselError::Died);
    }
    Ok((host_pid, pidfd))
}

fn failure(control: &Control, pid: u32) -> VesselError {
    let (failed, errno) = control.failure();
    if [step::CLONE, step::CLONE_INSIDE].contains(&failed) && errno == libc::EEXIST {
        return VesselError::PidTaken { tid: pid };
    }
    VesselError::Spawn {
        step: step::name(failed),
        source: io::Error::from_raw_os_error(errno),
    }
}

/// The PID of the only child of a process.
fn only_child(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let mut children = text
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok());
    let child = children.next()?;
    children.next().is_none().then_some(child)
}

/// The numbers of a task in the PID namespaces from this one inwards (`NSpid`).
pub(super) fn namespace_pids(task: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{task}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers = line.unwrap_or_default().split_ascii_whitespace();
    numbers.filter_map(|word| word.parse().ok()).collect()
}

/// Waits for the end of a spawner that was let go.
pub(super) fn finish(spawner: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        if !matches!(spawner.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let _ = spawner.kill();
    let _ = spawner.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_offsets_have_no_negative_nanoseconds() {
        let options = SpawnOptions {
            monotonic_offset: -1,
            boottime_offset: 2_500_000_000,
            ..SpawnOptions::default()
        };
        assert_eq!(
            clock_offsets(&options),
            "monotonic -1 999999999\nboottime 2 500000000\n"
        );
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A few guests on a network of their own.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use nix::fcntl::Flock;
use nix::fcntl::FlockArg;

use crate::children;
use crate::guest::Guest;
use crate::network::Network;
use crate::qemu::Spec;
use crate::rig::Rig;

/// What the names of temporary directories begin with.
const PREFIX: &str = "pmig-guests-";

/// What runs in a guest besides what a test starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The runner is init. Ready in seconds.
    #[default]
    Fast,
    /// The distribution's own init, with its services, shutdown and reboot.
    Systemd,
}

/// What a cluster is to be like. Two clusters with equal shapes are as good as each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub guests: usize,
    pub mode: Mode,
    /// QEMU's `-cpu`, one for each guest; the last one stands for the rest.
    pub cpu: Vec<String>,
    pub cpus: u32,
    pub memory_mib: u32,
    /// More words for the kernel's command line.
    pub append: String,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            guests: 2,
            mode: Mode::Fast,
            cpu: vec!["max".into()],
            cpus: 2,
            memory_mib: 1024,
            append: String::new(),
        }
    }
}

/// Makes a cluster.
#[derive(Clone, Debug)]
pub struct Builder {
    shape: Shape,
    logs: Option<PathBuf>,
    outlive: bool,
}

impl Builder {
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            logs: None,
            outlive: false,
        }
    }

    pub fn guests(mut self, guests: usize) -> Self {
        self.shape.guests = guests;
        self
    }

    pub fn mode(mut self, mode: Mode) -> Self {
        self.shape.mode = mode;
        self
    }

    /// QEMU's `-cpu` for each guest.
    pub fn cpu<S: Into<String>>(mut self, models: impl IntoIterator<Item = S>) -> Self {
        self.shape.cpu = models.into_iter().map(Into::into).collect();
        self
    }

    pub fn memory_mib(mut self, memory: u32) -> Self {
        self.shape.memory_mib = memory;
        self
    }

    /// Where console output and other logs go; otherwise `target/pmig/logs/cluster`.
    pub fn logs(mut self, directory: PathBuf) -> Self {
        self.logs = Some(directory);
        self
    }

    /// The guests can be left running with [`Cluster::leave_running`].
    pub fn may_outlive(mut self) -> Self {
        self.outlive = true;
        self
    }

    /// Boots all guests at once and waits until they are ready.
    pub fn boot(self) -> Result<Cluster> {
        if !(1..=3).contains(&self.shape.guests) {
            bail!("a cluster has one to three guests");
        }
        let begin = Instant::now();
        let rig = Rig::find()?;
        let logs = match self.logs {
            Some(logs) => logs,
            None => rig.fresh_logs("cluster")?,
        };
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        children::remove_on_signals(directory.path());
        let owner = claim(directory.path())?;
        remove_orphans(directory.path());
        let shared = directory.path().join("shared");
        fs::create_dir(&shared)?;
        let network = Network::new(self.shape.guests)?;
        let limit = Arc::new(Mutex::new(None));
        let mut guests = Vec::new();
        for index in 0..self.shape.guests {
            let cpu = self
                .shape
                .cpu
                .get(index)
                .or(self.shape.cpu.last())
                .map_or("max", String::as_str);
            let spec = Spec {
                rig: rig.clone(),
                index,
                mode: self.shape.mode,
                cpu: cpu.to_owned(),
                cpus: self.shape.cpus,
                memory_mib: self.shape.memory_mib,
                append: self.shape.append.clone(),
                directory: directory.path().to_owned(),
                shared: shared.clone(),
                logs: logs.clone(),
                namespace: network.namespace().clone(),
                outlive: self.outlive,
            };
            spec.make_disk()?;
            let guest = Guest::new(spec, limit.clone());
            guest
                .power_on()
                .with_context(|| format!("cannot start node{}", index + 1))?;
            guests.push(guest);
        }
        for guest in &guests {
            guest.wait_ready()?;
        }
        Ok(Cluster {
            guests,
            network,
            shape: self.shape,
            limit,
            logs,
            boot_time: begin.elapsed(),
            directory,
            owner,
        })
    }
}

/// The file that tells who looks after a directory.
const OWNER: &str = "owner";

fn claim(directory: &Path) -> Result<Flock<File>> {
    // Under another name until it is locked: a file that nobody holds tells others to remove the directory.
    let new = directory.join("owner.new");
    let file = Flock::lock(File::create(&new)?, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| error)
        .context("cannot lock the cluster's directory")?;
    fs::rename(&new, directory.join(OWNER))?;
    Ok(file)
}

/// Removes what harnesses that were killed have left beside this directory.
fn remove_orphans(directory: &Path) {
    let Some(Ok(entries)) = directory.parent().map(fs::read_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_ours || path == directory {
            continue;
        }
        // None: left running on purpose, or not made by a harness.
        if let Ok(file) = File::open(path.join(OWNER)) {
            if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// Guests, their network and their shared directory. All of it ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they have to go.
    guests: Vec<Guest>,
    network: Network,
    shape: Shape,
    limit: Arc<Mutex<Option<Instant>>>,
    logs: PathBuf,
    boot_time: Duration,
    directory: tempfile::TempDir,
    /// Locked while somebody looks after the directory.
    owner: Flock<File>,
}

impl Cluster {
    pub fn builder() -> Builder {
        Builder::new(Shape::default())
    }

    /// Guest `index`, from 0.
    ///
    /// # Panics
    ///
    /// If the cluster has fewer.
    pub fn guest(&self, index: usize) -> &Guest {
        &self.guests[index]
    }

    pub fn guests(&self) -> &[Guest] {
        &self.guests
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How long it took until all were ready.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// The directory that guests see as /shared.
    pub fn shared(&self) -> PathBuf {
        self.directory.path().join("shared")
    }

    /// Where sockets and disks are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the console output and other logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// No operation in any guest lasts beyond this point of time.
    pub fn set_limit(&self, limit: Option<Instant>) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    // ---- the network's faults

    /// Nothing passes from or to guest `index` any more; nobody is told.
    pub fn cut_link(&self, index: usize) -> Result<()> {
        self.network.cut(index)
    }

    pub fn restore_link(&self, index: usize) -> Result<()> {
        self.network.restore(index)
    }

    /// What guest `index` sends takes that much longer, and a share of it is lost. Both 0: as before.
    ///
    /// The queue is in the guest itself: its kernel has netem, this machine's may not.
    pub fn delay_link(&self, index: usize, milliseconds: u32, loss_percent: u32) -> Result<()> {
        let guest = self.guest(index);
        if milliseconds == 0 && loss_percent == 0 {
            guest.run("tc qdisc del dev eth0 root")?;
        } else {
            guest.run_ok(&format!(
                "tc qdisc replace dev eth0 root netem limit 10000 delay {milliseconds}ms loss {loss_percent}%"
            ))?;
        }
        Ok(())
    }

    /// What guest `index` sends is limited to that many Mbit/s; 0: not.
    pub fn limit_link(&self, index: usize, megabits: u32) -> Result<()> {
        let guest = self.guest(index);
        if megabits == 0 {
            guest.run("tc qdisc del dev eth0 root")?;
        } else {
            guest.run_ok(&format!(
                "tc qdisc replace dev eth0 root netem limit 10000 rate {megabits}mbit"
            ))?;
        }
        Ok(())
    }

    // ---- kernel logs

    pub fn mark_logs(&self) -> Result<()> {
        self.guests.iter().try_for_each(Guest::mark_log)
    }

    /// Fails if any kernel has complained since the last mark.
    pub fn assert_clean_logs(&self) -> Result<()> {
        self.guests.iter().try_for_each(Guest::assert_clean_log)
    }

    // ---- the end

    /// Lets the guests run on when this process ends; gives the directory with their sockets and disks, and the
    /// processes that somebody must end some day.
    pub fn leave_running(self) -> (PathBuf, Vec<u32>) {
        let Self {
            guests,
            directory,
            owner,
            ..
        } = self;
        // Without its file nobody takes the directory for an orphan.
        drop(owner);
        let _ = fs::remove_file(directory.path().join(OWNER));
        children::forget_directory(directory.path());
        let processes = guests.iter().flat_map(Guest::host_processes).collect();
        guests.iter().for_each(Guest::release);
        (directory.keep(), processes)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Guests that an earlier run has left running.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use nix::sys::signal::kill;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Where they are, and what they are made of.
pub(crate) struct Kept {
    pub(crate) directory: PathBuf,
    pub(crate) processes: Vec<u32>,
}

impl Kept {
    pub(crate) fn save(&self, state: &Path) -> Result<()> {
        let processes: Vec<String> = self.processes.iter().map(u32::to_string).collect();
        fs::write(
            state,
            format!("{}\n{}\n", self.directory.display(), processes.join(" ")),
        )?;
        Ok(())
    }

    pub(crate) fn load(state: &Path) -> Result<Self> {
        let text = fs::read_to_string(state).context("no guests have been left running")?;
        let mut lines = text.lines();
        let directory = PathBuf::from(lines.next().context("empty state file")?);
        let processes = lines
            .next()
            .unwrap_or("")
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        Ok(Self {
            directory,
            processes,
        })
    }

    /// Its own processes, not others that have got their numbers since.
    fn running(&self) -> impl Iterator<Item = Pid> + '_ {
        self.processes.iter().filter_map(|&process| {
            let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
            let directory = self.directory.to_str()?;
            String::from_utf8_lossy(&line)
                .contains(directory)
                .then(|| Pid::from_raw(process.cast_signed()))
        })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running().next().is_some()
    }

    pub(crate) fn stop(&self) {
        for process in self.running() {
            let _ = kill(process, Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

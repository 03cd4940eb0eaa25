// SPDX-License-Identifier: GPL-2.0

//! Two guests, for a demonstration: boots them, shows progress, and can leave them running.

use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use nix::sys::signal::kill;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use qemu_tests::children;
use qemu_tests::rig::Rig;
use qemu_tests::shell;
use qemu_tests::Cluster;

/// Boots two guests with the stock kernel on a private network.
#[derive(Debug, Parser)]
struct Arguments {
    /// Leave both guests running at the end
    #[arg(long)]
    keep: bool,
    /// Open a shell in a guest (1 or 2) that an earlier run has left running
    #[arg(long, value_name = "N", conflicts_with = "keep")]
    shell: Option<u32>,
    /// End the guests that an earlier run has left running
    #[arg(long, conflicts_with_all = ["keep", "shell"])]
    stop: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let rig = Rig::find()?;
    let state = rig.products().join("demo.state");
    if let Some(number) = arguments.shell {
        let kept = Kept::load(&state)?;
        let code = shell::run(&kept.directory.join(format!("node{number}.shell")))?;
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)));
    }
    if arguments.stop {
        Kept::load(&state)?.stop();
        fs::remove_file(&state)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Ok(kept) = Kept::load(&state) {
        if kept.is_running() {
            bail!("an earlier run has left its guests running: end them first with scripts/demo --stop");
        }
    }
    children::end_on_signals()?;
    let begin = Instant::now();
    let say = |text: &str| {
        let bold = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        eprintln!(
            "{}[{:5.1} s]{} {text}",
            bold.0,
            begin.elapsed().as_secs_f64(),
            bold.1
        );
    };
    say("booting two guests");
    let mut builder = Cluster::builder().guests(2).logs(rig.fresh_logs("demo")?);
    if arguments.keep {
        builder = builder.may_outlive();
    }
    let cluster = builder.boot()?;
    say(&format!(
        "both run {}",
        cluster.guest(0).run_ok("uname -r")?
    ));
    if arguments.keep {
        let (directory, processes) = cluster.leave_running();
        Kept {
            directory,
            processes,
        }
        .save(&state)?;
        say("both guests go on; a shell on each: scripts/demo --shell 1, scripts/demo --shell 2; to end: scripts/demo --stop");
    }
    Ok(ExitCode::SUCCESS)
}

/// Guests that were left running.
struct Kept {
    directory: PathBuf,
    processes: Vec<u32>,
}

impl Kept {
    fn save(&self, state: &PathBuf) -> Result<()> {
        let processes: Vec<String> = self.processes.iter().map(u32::to_string).collect();
        fs::write(
            state,
            format!("{}\n{}\n", self.directory.display(), processes.join(" ")),
        )?;
        Ok(())
    }

    fn load(state: &PathBuf) -> Result<Self> {
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

    fn is_running(&self) -> bool {
        self.running().next().is_some()
    }

    fn stop(&self) {
        for process in self.running() {
            let _ = kill(process, Signal::SIGKILL);
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The demonstration: two guests, a program that works in the first, and goes on in the second.

mod kept;
mod screen;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use clap::Parser;
use qemu_tests::agents::MODULE;
use qemu_tests::agents::PORT;
use qemu_tests::agents::TOOL;
use qemu_tests::children;
use qemu_tests::rig::Rig;
use qemu_tests::shell;
use qemu_tests::Cluster;
use qemu_tests::Guest;

use kept::Kept;
use screen::Log;
use screen::Report;
use screen::Screen;

/// Where guests see the program.
const PROGRAM: &str = "/pmig/workloads/demo.py";

/// What it is told: live data in MiB, milliseconds between two lines and between two pieces of work.
const OPTIONS: &str = "size=64 progress=400 pause=10";

/// Where the program writes to, and where guests see that.
const LOG: &str = "demo.log";
const GUEST_LOG: &str = "/shared/demo.log";

/// How many lines are shown before the program is moved, and after.
const LINES: usize = 6;

/// How long a migration may take, and the last check of what the program has written.
const PATIENCE: Duration = Duration::from_secs(120);

/// Moves a running program from one host with the stock kernel to another.
#[derive(Debug, Parser)]
#[command(name = "scripts/demo")]
struct Arguments {
    /// Leave both guests and the program running at the end
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
        std::fs::remove_file(&state)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Ok(kept) = Kept::load(&state) {
        if kept.is_running() {
            bail!("an earlier run has left its guests running: end them first with scripts/demo --stop");
        }
    }
    children::end_on_signals()?;
    let screen = Screen::new();
    match demonstrate(&rig, &screen, arguments.keep, &state) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            screen.step(&format!("failed: {error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn demonstrate(rig: &Rig, screen: &Screen, keep: bool, state: &Path) -> Result<()> {
    screen.step("booting two guests, node1 and node2, with the distribution's own kernel");
    let mut builder = Cluster::builder().guests(2).logs(rig.fresh_logs("demo")?);
    if keep {
        builder = builder.may_outlive();
    }
    let cluster = builder.boot()?;
    cluster.mark_logs()?;
    screen.note(&cluster.guest(0).run_ok("uname -srv")?);
    let result = migrate(&cluster, screen, keep);
    if result.is_err() {
        keep_agent_logs(&cluster, screen);
    }
    if keep {
        let pid = result.as_ref().ok().copied().flatten();
        leave(cluster, screen, state, pid)?;
    }
    result.map(drop)
}

/// Gives the number of the program if it was left running.
fn migrate(cluster: &Cluster, screen: &Screen, keep: bool) -> Result<Option<u32>> {
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    screen.step("on each: insmod pmig.ko; pmigctl agent --insecure");
    for guest in cluster.guests() {
        guest.run_ok(&format!("insmod {MODULE}"))?;
        guest.start(&format!("{TOOL} agent --insecure"), "/run/agent.log")?;
    }
    for guest in cluster.guests() {
        let name = guest.name();
        guest
            .wait_until(30, &format!("(: </dev/tcp/{name}/{PORT})"))
            .with_context(|| {
                let log = guest.get_text("/run/agent.log").unwrap_or_default();
                format!("the agent of {name} does not answer\n{log}")
            })?;
    }

    screen.step(&format!("on node1: python3 demo.py {OPTIONS}"));
    let mut log = Log::new(cluster.shared().join(LOG));
    node1.run_ok_within(60, &format!("python3 {PROGRAM} {GUEST_LOG} {OPTIONS}"))?;
    let pid: u32 = node1
        .run_ok(&format!("sed -n 's/^READY //p' {GUEST_LOG}"))?
        .parse()
        .context("the program has not said its number")?;
    screen.note(&format!(
        "it is process {pid}, and counts and hashes over 64 MiB of live data"
    ));
    log.show(screen, LINES)?;

    screen.step(&format!("on node1: pmigctl migrate {pid} node2"));
    let report = run_migrate(node1, pid, &mut log, screen)?;
    log.show(screen, LINES)?;
    let last = log.last.as_ref().map(|line| line.node.clone());
    ensure!(
        last.as_deref() == Some("node2"),
        "the program still writes from {last:?}"
    );
    ensure!(
        !node1.run(&format!("[ -e /proc/{pid} ]"))?.success(),
        "the process is still on node1"
    );
    let there = report.destination_pid;
    let line = node2.run_ok(&format!("tr '\\0' ' ' </proc/{there}/cmdline"))?;
    ensure!(
        line.contains(PROGRAM),
        "process {there} on node2 is {line:?}"
    );
    screen.step(&format!(
        "it is gone from node1 and runs on node2, as process {there}"
    ));
    report.show(screen);

    if !keep {
        screen.step("the program checks all its data and ends");
        node2.run_ok(&format!("touch {GUEST_LOG}.finish"))?;
        node2.wait_until(60, &format!("grep -qE '^(OK|FAIL) ' {GUEST_LOG}"))?;
        log.follow(screen)?;
        let word = node2.run_ok(&format!("grep -E '^(OK|FAIL) ' {GUEST_LOG}"))?;
        ensure!(word.starts_with("OK "), "{word}");
        screen.note(&word);
    }
    screen.step("another run from nothing compares every line that the program has written");
    let verified = node1
        .command(["python3", PROGRAM, "verify", GUEST_LOG])
        .timeout(PATIENCE)
        .output_ok()?;
    screen.note(&verified);
    cluster.assert_clean_logs()?;
    screen.step("all is well");
    Ok(keep.then_some(there))
}

/// Runs `pmigctl migrate` and shows the program's log meanwhile.
fn run_migrate(node1: &Guest, pid: u32, log: &mut Log, screen: &Screen) -> Result<Report> {
    let mut migration = node1.spawn(&format!("exec {TOOL} migrate --json {pid} node2"))?;
    while !migration.has_ended()? {
        log.follow(screen)?;
        screen::pause();
    }
    let output = migration.wait(PATIENCE)?;
    if !output.success() {
        bail!("pmigctl migrate has failed: {output}");
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cannot read what pmigctl migrate says: {}", output.text()))
}

fn keep_agent_logs(cluster: &Cluster, screen: &Screen) {
    for guest in cluster.guests() {
        let log = guest.get_text("/run/agent.log").unwrap_or_default();
        let path = cluster.logs().join(format!("{}.agent", guest.name()));
        // A log that cannot be kept must not hide the failure.
        let _ = std::fs::write(path, log);
    }
    screen.note(&format!("logs are in {}", cluster.logs().display()));
}

fn leave(cluster: Cluster, screen: &Screen, state: &Path, pid: Option<u32>) -> Result<()> {
    let (directory, processes) = cluster.leave_running();
    Kept {
        directory,
        processes,
    }
    .save(state)?;
    screen.step("both guests go on");
    screen.note("a shell on each:  scripts/demo --shell 1, scripts/demo --shell 2");
    if let Some(pid) = pid {
        screen.note(&format!("on node2:         tail -f {GUEST_LOG}"));
        screen.note(&format!("                  {TOOL} migrate {pid} node1"));
    }
    screen.note("to end them:      scripts/demo --stop");
    Ok(())
}

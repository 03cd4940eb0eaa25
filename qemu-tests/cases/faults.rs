// SPDX-License-Identifier: GPL-2.0

//! Something goes wrong at each point of a migration: exactly one copy runs in the end, and the next attempt works.

use std::time::Duration;
use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use qemu_tests::agents::Agents;
use qemu_tests::agents::TOOL;
use qemu_tests::Case;
use qemu_tests::Cluster;

use crate::cases::refusals::exit;
use crate::cases::workload::agents;
use crate::cases::workload::migrate;
use crate::cases::workload::Workload;

/// What can go wrong on either side, and at which points of a migration. A phase is meant at its beginning.
const FAULTS: &[(&str, &[&str])] = &[
    (
        "kill",
        &[
            "negotiate",
            "admit",
            "prepare",
            "freeze",
            "capture",
            "transfer",
            "rebuild",
            "rebuild:end",
            "commit",
            "commit:end",
            "thaw",
            "thaw:end",
            "release",
        ],
    ),
    (
        "disconnect",
        &["prepare", "freeze", "transfer", "rebuild", "commit", "thaw"],
    ),
    (
        "error",
        &["prepare", "freeze", "capture", "transfer", "rebuild"],
    ),
];

/// The phases in which the link is cut.
const CUTS: &[&str] = &["prepare", "freeze", "transfer", "commit", "thaw"];

/// The name of each side, by the number of its guest.
const SIDES: [&str; 2] = ["source", "destination"];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &(action, points) in FAULTS {
        for (index, side) in SIDES.iter().enumerate() {
            let name = format!("o11_exactly_one: {action} on the {side} in each phase");
            cases.push(
                Case::new(name, move |cluster| {
                    each_point(cluster, index, action, points)
                })
                .timeout(900),
            );
        }
    }
    cases.extend([
        Case::new(
            "o11_exactly_one: the link is cut in each phase and comes back",
            |cluster| cut(cluster, Duration::from_secs(4)),
        )
        .timeout(600),
        Case::new(
            "o11_exactly_one: the link is cut for long around the commit",
            cut_around_commit,
        )
        .timeout(300),
        Case::new(
            "o12_source_resumes: the destination runs out of memory",
            out_of_memory,
        )
        .timeout(180),
        Case::new(
            "o12_source_resumes: the time for a migration is over",
            timeout,
        )
        .timeout(120),
        Case::new(
            "a destination that takes its time gets all pages",
            slow_destination,
        )
        .timeout(120),
        Case::new(
            "both agents die while a process is frozen, and come back",
            both_die,
        )
        .timeout(180),
        Case::new(
            "an administrator decides where a host has gone for good",
            resolved_by_hand,
        )
        .timeout(120),
        Case::new(
            "the parent hears nothing of a migration that was aborted",
            parent,
        )
        .timeout(120),
    ]);
    cases
}

/// Lets the agent of a guest have one fault.
pub(crate) fn with_fault(agents: &Agents<'_>, index: usize, fault: &str) -> Result<()> {
    agents.stop(index)?;
    agents.start_with(index, &["--fault", fault])
}

/// An agent without faults again.
pub(crate) fn without_fault(agents: &Agents<'_>, index: usize) -> Result<()> {
    agents.stop(index)?;
    agents.start(index)
}

/// The fault has had its effect: everybody is well again, one copy runs, and it can be moved.
fn recover(
    cluster: &Cluster,
    agents: &Agents<'_>,
    workload: &Workload,
    during: &str,
) -> Result<()> {
    let here = workload
        .wait_for_one_copy(cluster)
        .with_context(|| during.to_owned())?;
    let there = 1 - here;
    // What is left of the failed attempt may take a moment to be noticed; but not for ever.
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        match migrate(cluster, agents, workload, here, there) {
            Ok(_) => break,
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{during}: the second attempt fails")))
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
        workload.wait_for_one_copy(cluster)?;
        if workload.processes(cluster.guest(there))? == [workload.pid] {
            break;
        }
    }
    workload.finish(cluster.guest(there))?;
    let status = agents.pmigctl(0, "status --json")?;
    ensure!(status.success(), "{during}: {status}");
    Ok(())
}

fn each_point(cluster: &Cluster, index: usize, action: &str, points: &[&str]) -> Result<()> {
    let agents = agents(cluster)?;
    let side = SIDES.get(index).context("there are two sides")?;
    let mut failures = Vec::new();
    for point in points {
        let fault = format!("{side}:{point}:{action}");
        if let Err(error) = one_fault(cluster, &agents, index, &fault) {
            failures.push(format!("{fault}: {error:#}"));
            begin_anew(cluster, &agents)?;
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        points.len(),
        failures.join("\n\n")
    );
    Ok(())
}

/// As if nothing had been.
fn begin_anew(cluster: &Cluster, agents: &Agents<'_>) -> Result<()> {
    for (index, guest) in cluster.guests().iter().enumerate() {
        cluster.restore_link(index)?;
        // An agent that has died already cannot be killed.
        let _ = agents.kill(index);
        guest.run(
            "pkill -KILL -x pmigctl; pkill -KILL -f '^[/]pmig/workloads'; sleep 0.2
            rm -rf /var/lib/pmig /run/pmig",
        )?;
        agents.start(index)?;
    }
    Ok(())
}

fn one_fault(cluster: &Cluster, agents: &Agents<'_>, index: usize, fault: &str) -> Result<()> {
    let node1 = cluster.guest(0);
    let workload = Workload::start(node1, "m1_anonymous_memory large=8")?;
    with_fault(agents, index, fault)?;
    let output = agents.pmigctl(
        0,
        &format!("migrate --json --timeout 20 {} node2", workload.pid),
    )?;
    if fault.ends_with(":kill") {
        agents
            .wait_for_death(index, Duration::from_secs(20))
            .with_context(|| format!("{output}"))?;
        agents.start(index)?;
    } else {
        workload
            .wait_for_one_copy(cluster)
            .with_context(|| format!("{output}"))?;
        without_fault(agents, index)?;
    }
    recover(cluster, agents, &workload, &format!("{output}"))
}

/// Cuts the link while the source waits in each phase.
fn cut(cluster: &Cluster, gone: Duration) -> Result<()> {
    let agents = agents(cluster)?;
    let mut failures = Vec::new();
    for phase in CUTS {
        let fault = format!("source:{phase}:delay=1500");
        let one = || -> Result<()> {
            let node1 = cluster.guest(0);
            let workload = Workload::start(node1, "m1_anonymous_memory large=8")?;
            with_fault(&agents, 0, &fault)?;
            let migration = node1.spawn(&format!(
                "exec {TOOL} migrate --json --timeout 30 {} node2",
                workload.pid
            ))?;
            std::thread::sleep(Duration::from_millis(700));
            cluster.cut_link(1)?;
            std::thread::sleep(gone);
            cluster.restore_link(1)?;
            let output = migration.wait(Duration::from_secs(90))?;
            workload
                .wait_for_one_copy(cluster)
                .with_context(|| format!("{output}"))?;
            without_fault(&agents, 0)?;
            recover(cluster, &agents, &workload, &format!("{output}"))
        };
        if let Err(error) = one() {
            failures.push(format!("{phase}: {error:#}"));
            begin_anew(cluster, &agents)?;
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        CUTS.len(),
        failures.join("\n\n")
    );
    Ok(())
}

/// The link is gone for longer than anybody waits, just when the decision is made. Meanwhile no copy or one copy runs.
fn cut_around_commit(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    for point in [
        "source:commit:begin",
        "source:commit:end",
        "source:thaw:begin",
    ] {
        let workload = Workload::start(node1, "m1_anonymous_memory large=8")?;
        with_fault(&agents, 0, &format!("{point}:delay=1500"))?;
        let migration = node1.spawn(&format!(
            "exec {TOOL} migrate --json {} node2",
            workload.pid
        ))?;
        std::thread::sleep(Duration::from_millis(800));
        cluster.cut_link(1)?;
        for _ in 0..25 {
            workload.ensure_unharmed(node1)?;
            std::thread::sleep(Duration::from_secs(1));
        }
        cluster.restore_link(1)?;
        let output = migration.wait(Duration::from_secs(60))?;
        workload
            .wait_for_one_copy(cluster)
            .with_context(|| format!("{point}: {output}"))?;
        without_fault(&agents, 0)?;
        recover(cluster, &agents, &workload, &format!("{point}: {output}"))?;
    }
    Ok(())
}

fn out_of_memory(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let workload = Workload::start(node1, "m1_anonymous_memory large=96")?;
    // The vessel is a child of the agent, so it is in the agent's cgroup.
    node2.run_ok(
        "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
        echo +memory >/sys/fs/cgroup/cgroup.subtree_control
        mkdir -p /sys/fs/cgroup/small
        echo 40M >/sys/fs/cgroup/small/memory.max
        echo 0 >/sys/fs/cgroup/small/memory.swap.max 2>/dev/null || true
        pgrep -o -f '^[/]pmig/pmigctl agent' >/sys/fs/cgroup/small/cgroup.procs",
    )?;
    let output = agents.pmigctl(
        0,
        &format!("migrate --json --timeout 60 {} node2", workload.pid),
    )?;
    ensure!(
        !output.success(),
        "it has found memory that is not there\n{output}"
    );
    let here = workload.wait_for_one_copy(cluster)?;
    ensure!(here == 0, "it is not where it was\n{output}");
    let _ = agents.kill(1);
    node2.run("for pid in $(cat /sys/fs/cgroup/small/cgroup.procs); do kill -KILL $pid; done; sleep 0.5; rmdir /sys/fs/cgroup/small")?;
    node2.mark_log()?; // the kernel has told of the lack of memory
    agents.start(1)?;
    recover(cluster, &agents, &workload, &format!("{output}"))
}

fn timeout(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    let workload = Workload::start(node1, "m1_anonymous_memory large=8")?;
    with_fault(&agents, 0, "source:transfer:delay=8000")?;
    let output = agents.pmigctl(
        0,
        &format!("migrate --json --timeout 2 {} node2", workload.pid),
    )?;
    ensure!(!output.success(), "{output}");
    ensure!(
        workload.wait_for_one_copy(cluster)? == 0,
        "it is not where it was\n{output}"
    );
    without_fault(&agents, 0)?;
    recover(cluster, &agents, &workload, &format!("{output}"))
}

/// For longer than a peer may be silent, and than the kernel tries to get rid of what it has to send.
fn slow_destination(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let workload = Workload::start(cluster.guest(0), "m1_anonymous_memory large=64")?;
    with_fault(&agents, 1, "destination:transfer:delay=12000")?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    workload.finish(cluster.guest(1))?;
    without_fault(&agents, 1)
}

fn both_die(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    for phase in ["capture", "transfer", "commit", "thaw"] {
        let workload = Workload::start(node1, "m1_anonymous_memory large=8")?;
        with_fault(&agents, 0, &format!("source:{phase}:end:kill"))?;
        with_fault(&agents, 1, &format!("destination:{phase}:end:kill"))?;
        let output = agents.pmigctl(
            0,
            &format!("migrate --json --timeout 20 {} node2", workload.pid),
        )?;
        // Whoever has not met its fault ends now.
        agents.kill(0)?;
        agents.kill(1)?;
        agents.start(0)?;
        agents.start(1)?;
        recover(cluster, &agents, &workload, &format!("{phase}: {output}"))?;
    }
    Ok(())
}

/// The source is gone when the copy on the destination waits for its decision. It comes back too late.
fn resolved_by_hand(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let workload = Workload::start(node1, "t1_threads")?;
    with_fault(&agents, 0, "source:commit:end:kill")?;
    let output = agents.pmigctl(0, &format!("migrate --json {} node2", workload.pid))?;
    agents
        .wait_for_death(0, Duration::from_secs(20))
        .with_context(|| format!("{output}"))?;
    node2.wait_until(30, &format!("{TOOL} status | grep -q '^in doubt'"))?;
    let status = agents.pmigctl(1, "status")?;
    ensure!(status.code == Some(exit::IN_DOUBT), "{status}");
    let text = status.text();
    let migration = text
        .lines()
        .find_map(|line| line.strip_prefix("in doubt "))
        .and_then(|rest| rest.split(' ').next())
        .context("no migration is named")?;
    let unknown = agents.pmigctl(1, "resolve --run-here 0123456789")?;
    ensure!(!unknown.success(), "{unknown}");
    let resolved = agents.pmigctl(1, &format!("resolve --run-here {migration}"))?;
    ensure!(resolved.success(), "{status}\n{resolved}");
    workload.wait_for_beat(node2)?;
    agents.start(0)?;
    workload.wait_for_end(node1, 30)?;
    workload.ensure_only_in(cluster, 1)?;
    workload.finish(node2)?;
    for index in 0..2 {
        cluster
            .guest(index)
            .wait_until(30, &format!("{TOOL} status >/dev/null"))?;
    }
    Ok(())
}

fn parent(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    for fault in [
        "source:transfer:error",
        "destination:rebuild:error",
        "source:capture:end:disconnect",
    ] {
        let workload = Workload::start(node1, "parent")?;
        let index = usize::from(fault.starts_with("destination"));
        with_fault(&agents, index, fault)?;
        let output = agents.pmigctl(
            0,
            &format!("migrate --json --timeout 20 {} node2", workload.pid),
        )?;
        ensure!(!output.success(), "{fault}: {output}");
        workload.wait_for_beat(node1)?;
        // Moved and aborted again, for good measure.
        let _ = agents.pmigctl(0, &format!("explain {}", workload.pid))?;
        let text = workload.finish(node1)?;
        ensure!(
            text.lines()
                .filter(|line| line.starts_with("PARENT"))
                .count()
                == 1,
            "{fault}: the parent has heard more than the end\n{text}"
        );
        without_fault(&agents, index)?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! A node gives its work away: when it is told to, and before it reboots.

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use qemu_tests::agents::MODULE;
use qemu_tests::agents::PORT;
use qemu_tests::agents::TOOL;
use qemu_tests::Case;
use qemu_tests::Cluster;
use qemu_tests::Guest;
use serde_json::Value;

use crate::cases::refusals::exit;
use crate::cases::workload::agents;
use crate::cases::workload::Workload;
use crate::cases::workload::PROGRAMS;

/// The units as an administrator installs them.
const UNITS: &[(&str, &str)] = &[
    (
        "pmig-agent.service",
        include_str!("../../packaging/pmig-agent.service"),
    ),
    (
        "pmig-drain.service",
        include_str!("../../packaging/pmig-drain.service"),
    ),
    (
        "run-.service.d/50-pmig-drain.conf",
        include_str!("../../packaging/drop-ins/run-.service.d/50-pmig-drain.conf"),
    ),
];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "o2_drain: what can be moved moves, what stays is named",
            selected,
        )
        .timeout(120),
        Case::new(
            "o2_drain: a node that is told to reboot moves its work away first",
            reboot,
        )
        .systemd()
        .spoils()
        .timeout(300),
    ]
}

/// What became of a process, as the report says.
fn outcome(report: &Value, pid: u32) -> Option<&str> {
    report["processes"]
        .as_array()?
        .iter()
        .find(|item| item["pid"] == pid)?["outcome"]
        .as_str()
}

fn selected(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let movable = [
        Workload::start(node1, "m1_anonymous_memory large=8")?,
        Workload::start(node1, "f4_pipes")?,
    ];
    let socket = Workload::start(node1, "refused kind=tcp-listening")?;
    let other = Workload::start(node1, "t1_threads")?;
    let drain = |options: &str| -> Result<(Option<i32>, Value)> {
        let selection: String = movable
            .iter()
            .chain([&socket])
            .map(|workload| format!(" --pid {}", workload.pid))
            .collect();
        let output = agents.pmigctl(0, &format!("drain --json --to node2 {options}{selection}"))?;
        let report = serde_json::from_str(&output.text()).with_context(|| format!("{output}"))?;
        Ok((output.code, report))
    };

    let (code, plan) = drain("--dry-run")?;
    ensure!(code == Some(exit::STAYED), "{plan:#}");
    for workload in &movable {
        ensure!(
            outcome(&plan, workload.pid) == Some("would-move"),
            "{plan:#}"
        );
        workload.ensure_only_in(cluster, 0)?;
    }
    ensure!(outcome(&plan, socket.pid) == Some("refused"), "{plan:#}");

    let (code, report) = drain("")?;
    ensure!(code == Some(exit::STAYED), "{report:#}");
    for workload in &movable {
        ensure!(
            outcome(&report, workload.pid) == Some("moved"),
            "{report:#}"
        );
        workload.ensure_only_in(cluster, 1)?;
        workload.finish(node2)?;
    }
    ensure!(
        outcome(&report, socket.pid) == Some("refused"),
        "{report:#}"
    );
    for stayed in [&socket, &other] {
        stayed.ensure_only_in(cluster, 0)?;
        stayed.wait_for_beat(node1)?;
        stayed.finish(node1)?;
    }
    // Nothing that was asked for is left.
    let last = Workload::start(node1, "t1_threads")?;
    let output = agents.pmigctl(0, &format!("drain --to node2 --pid {}", last.pid))?;
    ensure!(output.success(), "{output}");
    last.finish(node2)?;
    // Without a choice, the system itself is left alone.
    let output = agents.pmigctl(0, "drain --to node2 --dry-run --json")?;
    let plan: Value = serde_json::from_str(&output.text()).with_context(|| format!("{output}"))?;
    ensure!(
        outcome(&plan, 1).is_none_or(|outcome| outcome == "left-alone"),
        "init would be moved: {plan:#}"
    );
    Ok(())
}

/// Installs pmig as packaging/README.md says.
fn install(guest: &Guest, defaults: &str) -> Result<()> {
    guest.run_ok("mkdir -p /etc/systemd/system/run-.service.d")?;
    for (name, content) in UNITS {
        let path = format!("/etc/systemd/system/{name}");
        guest.put(&path, content.as_bytes(), 0o644)?;
    }
    guest.put("/etc/default/pmig", defaults.as_bytes(), 0o644)?;
    guest.run_ok_within(
        60,
        &format!(
            "cp {TOOL} /usr/sbin/pmigctl
            mkdir -p /lib/modules/$(uname -r)/updates
            cp {MODULE} /lib/modules/$(uname -r)/updates/
            depmod -a
            systemctl daemon-reload
            systemctl enable --now pmig-agent pmig-drain"
        ),
    )?;
    guest
        .wait_until(60, &format!("ss -Htln | grep -q ':{PORT} '"))
        .with_context(|| {
            guest
                .run("systemctl status pmig-agent; journalctl -u pmig-agent")
                .map(|output| output.to_string())
                .unwrap_or_default()
        })
}

fn reboot(cluster: &Cluster) -> Result<()> {
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let agent = "PMIG_AGENT_OPTIONS=\"--insecure\"\n";
    install(node1, &format!("{agent}PMIG_DRAIN_TO=\"node2\"\n"))?;
    install(node2, agent)?;
    let workload = Workload::launch(
        node1,
        "t1_threads",
        &format!(
            "systemd-run --quiet --property StandardOutput=append:LOG --property StandardError=append:LOG \\
            {PROGRAMS}/t1_threads LOG foreground=1"
        ),
    )?;
    workload.wait_for_beat(node1)?;
    node1.reboot_wait()?;
    workload.ensure_only_in(cluster, 1).with_context(|| {
        node2
            .run("journalctl -u pmig-agent")
            .map(|output| output.to_string())
            .unwrap_or_default()
    })?;
    workload.wait_for_beat(node2)?;
    workload.finish(node2)?;
    Ok(())
}

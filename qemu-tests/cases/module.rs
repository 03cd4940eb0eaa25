// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading the module.

use std::time::Duration;

use anyhow::ensure;
use anyhow::Result;
use qemu_tests::agents::MODULE;
use qemu_tests::agents::TOOL;
use qemu_tests::case::skip;
use qemu_tests::Case;
use qemu_tests::Cluster;

use crate::cases::refusals::exit;
use crate::cases::workload::agents;
use crate::cases::workload::Workload;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "the module loads into the stock kernel, unloads, and loads again",
            load,
        ),
        Case::new(
            "the module refuses a kernel that it was not built for",
            other_kernel,
        )
        .unclean(),
        Case::new(
            "the module is in use as long as it holds a process, and lets it go unharmed",
            in_use,
        ),
        Case::new(
            "the module can be unloaded while a process that it froze is stopped",
            stopped_meanwhile,
        ),
    ]
}

fn load(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    if !guest.run(&format!("[ -f {MODULE} ]"))?.success() {
        return skip("pmig.ko is not built");
    }
    for _ in 0..3 {
        guest.run_ok(&format!("insmod {MODULE}"))?;
        ensure!(guest.run_ok("cat /sys/module/pmig/initstate")? == "live");
        guest.run_ok("rmmod pmig")?;
    }
    Ok(())
}

/// Makes a copy of the module that was built for something else. The kernel's own check, of `vermagic`, is left alone.
const SPOIL: &str = "
import os, sys, zlib
module = open(sys.argv[1], 'rb').read()
release = os.uname().release.encode()
if sys.argv[2] == 'release':
    parts = module.split(release)
    spoiled = parts[0]
    for before, after in zip(parts, parts[1:]):
        own = release if before.endswith(b'vermagic=') else release[:-1] + b'?'
        spoiled += own + after
else:
    btf = zlib.crc32(open('/sys/kernel/btf/vmlinux', 'rb').read())
    spoiled = module.replace(btf.to_bytes(4, 'little'), (btf ^ 1).to_bytes(4, 'little'))
assert spoiled != module, 'nothing to change'
open(sys.argv[3], 'wb').write(spoiled)
";

fn other_kernel(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    for (what, words) in [
        (
            "release",
            "built for another kernel release than the one that runs",
        ),
        ("types", "built for another build of this kernel release"),
    ] {
        guest
            .command(["python3", "-c", SPOIL, MODULE, what, "/tmp/other.ko"])
            .output_ok()?;
        let output = guest.run("insmod /tmp/other.ko")?;
        ensure!(!output.success(), "it loads: {output}");
        let log = guest.dmesg_since_mark()?;
        ensure!(log.contains(words), "{what}: {output}\n{log}");
    }
    guest.run_ok(&format!("insmod {MODULE} && rmmod pmig"))?;
    Ok(())
}

fn in_use(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    let workload = Workload::start(node1, "t1_threads")?;
    // An agent that does nothing is no reason to stay.
    agents.unload(1)?;
    agents.load(1)?;
    agents.stop(0)?;
    agents.start_with(0, &["--fault", "source:transfer:delay=4000"])?;
    let migration = node1.spawn(&format!("exec {TOOL} migrate {} node2", workload.pid))?;
    agents.wait_for_log(0, "a fault was asked for here", Duration::from_secs(30))?;
    let refused = node1.run("rmmod pmig")?;
    ensure!(
        !refused.success() && refused.errors().contains("in use"),
        "{refused}"
    );
    agents.kill(0)?;
    let ended = migration.wait(Duration::from_secs(30))?;
    ensure!(!ended.success(), "{ended}");
    workload.wait_for_beat(node1)?;
    node1.wait_until(20, "rmmod pmig")?;
    workload.finish(node1)?;
    Ok(())
}

fn stopped_meanwhile(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    let workload = Workload::start(node1, "t4_stopped continued=2")?;
    let pid = workload.pid;
    let stop = || -> Result<()> {
        node1.run_ok(&format!("kill -STOP {pid}"))?;
        node1.wait_until(10, &format!("grep -q '^State:.T' /proc/{pid}/status"))
    };
    stop()?;
    for _ in 0..3 {
        agents.stop(0)?;
        agents.start_with(0, &["--fault", "source:transfer:error"])?;
        let output = agents.pmigctl(0, &format!("migrate {pid} node2"))?;
        ensure!(output.code == Some(exit::STILL_HERE), "{output}");
    }
    agents.stop(0)?;
    agents.unload(0)?;
    // Nothing of the module is left on the process, which goes on, and can be frozen by the module that comes next.
    node1.run_ok(&format!("kill -CONT {pid}"))?;
    workload.wait_for_beat(node1)?;
    agents.load(0)?;
    agents.start(0)?;
    stop()?;
    agents.migrate(0, pid, 1)?;
    let node2 = cluster.guest(1);
    node2.run_ok(&format!("kill -CONT {pid}"))?;
    workload.wait_for_beat(node2)?;
    workload.finish(node2)?;
    Ok(())
}

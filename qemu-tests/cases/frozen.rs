// SPDX-License-Identifier: GPL-2.0

//! What others do to a process while it is frozen, and what cannot be frozen or read.

use std::time::Duration;

use anyhow::ensure;
use anyhow::Result;
use qemu_tests::agents::TOOL;
use qemu_tests::case::skip;
use qemu_tests::rig::scaled;
use qemu_tests::Case;
use qemu_tests::Cluster;

use crate::cases::faults::with_fault;
use crate::cases::faults::without_fault;
use crate::cases::refusals::exit;
use crate::cases::workload::agents;
use crate::cases::workload::Workload;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "a thread that cannot be frozen is named, and nobody notices",
            unfreezable,
        )
        .timeout(120),
        Case::new("a frozen process can be killed", killed_while_frozen).timeout(120),
        Case::new(
            "a frozen process that is stopped, continued or traced stays here, and it takes effect",
            touched_while_frozen,
        )
        .timeout(120),
        Case::new(
            "memory that cannot be read is not taken for zeros",
            broken_memory,
        )
        .unclean(),
    ]
}

/// One thread waits uninterruptibly, because a file system is frozen; another waits in a call that every freeze interrupts.
fn unfreezable(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    node1.run_ok(
        "modprobe -q loop
        mkdir -p /run/stuck && truncate -s 16M /run/stuck.image && mkfs.ext4 -q /run/stuck.image
        mount -o loop /run/stuck.image /run/stuck",
    )?;
    // Its time may be over while it is frozen in vain.
    let slack = scaled(Duration::from_secs(5)).as_millis();
    let command =
        format!("t5_blocked_call call=sigtimedwait wait=20000 slack={slack} stuck=/run/stuck");
    let workload = Workload::start(node1, &command)?;
    node1.run_ok("fsfreeze -f /run/stuck")?;
    node1.wait_until(
        20,
        &format!("grep -q '^State:.D' /proc/{}/task/*/status", workload.pid),
    )?;
    let output = agents.pmigctl(0, &format!("migrate {} node2", workload.pid));
    let again = agents.pmigctl(0, &format!("migrate {} node2", workload.pid));
    node1.run_ok("fsfreeze -u /run/stuck")?;
    for output in [output?, again?] {
        ensure!(
            output.code == Some(exit::STILL_HERE)
                && output
                    .errors()
                    .contains("(t5_blocked_call) cannot be frozen where it is now"),
            "{output}"
        );
    }
    workload.ensure_only_in(cluster, 0)?;
    workload.finish(node1)?;
    node1.run_ok("umount /run/stuck && rm /run/stuck.image")?;
    Ok(())
}

fn killed_while_frozen(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    // While it is being copied, and when its copy waits for the decision; also by a signal that waits for the thaw.
    for (phase, signal) in [("transfer", "KILL"), ("commit", "KILL"), ("commit", "TERM")] {
        let workload = Workload::start(node1, "t1_threads")?;
        with_fault(&agents, 0, &format!("source:{phase}:delay=3000"))?;
        let migration = node1.spawn(&format!(
            "exec {TOOL} migrate --json --timeout 20 {} node2",
            workload.pid
        ))?;
        agents.wait_for_log(0, "a fault was asked for here", Duration::from_secs(30))?;
        let explained = agents.pmigctl(0, &format!("explain --json {}", workload.pid))?;
        ensure!(
            explained.code == Some(exit::NOT_MOVABLE)
                && explained.text().contains("\"in-session\""),
            "{explained}"
        );
        node1.run_ok(&format!("kill -{signal} {}", workload.pid))?;
        if signal == "KILL" {
            workload.wait_for_end(node1, 5)?;
        }
        let output = migration.wait(Duration::from_secs(60))?;
        ensure!(!output.success(), "{phase}, {signal}: {output}");
        workload.wait_for_end(node1, 5)?;
        // Whatever is left of the copy goes when the destination hears of it.
        workload.wait_for_end(cluster.guest(1), 20)?;
        workload.ensure_unharmed(node1)?;
        ensure!(
            workload.processes(node1)?.is_empty(),
            "{phase}, {signal}: it lives again\n{output}"
        );
        without_fault(&agents, 0)?;
    }
    Ok(())
}

/// Traces a process until it is killed itself.
const SEIZE: &str = "
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
assert libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0, ctypes.get_errno()
print('traces', flush=True)
time.sleep(600)
";

fn touched_while_frozen(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    for touch in ["stop", "continue", "trace"] {
        with_fault(&agents, 0, "source:transfer:delay=3000")?;
        let continued = u32::from(touch != "trace");
        let workload = Workload::start(node1, &format!("t4_stopped continued={continued}"))?;
        let pid = workload.pid;
        let is_stopped = format!("grep -q '^State:.T' /proc/{pid}/status");
        if touch == "continue" {
            node1.run_ok(&format!("kill -STOP {pid}"))?;
            node1.wait_until(10, &is_stopped)?;
        }
        let migration = node1.spawn(&format!(
            "exec {TOOL} migrate --json --timeout 20 {pid} node2"
        ))?;
        agents.wait_for_log(0, "a fault was asked for here", Duration::from_secs(30))?;
        let mut tracer = None;
        match touch {
            "stop" => drop(node1.run_ok(&format!("kill -STOP {pid}"))?),
            "continue" => drop(node1.run_ok(&format!("kill -CONT {pid}"))?),
            _ => {
                let seize = ["python3", "-c", SEIZE, &pid.to_string()];
                let mut running = node1.command(seize).spawn()?;
                running.wait_for_line("traces", Duration::from_secs(10))?;
                tracer = Some(running);
            }
        }
        let output = migration.wait(Duration::from_secs(60))?;
        ensure!(
            output.code == Some(exit::STILL_HERE)
                && output
                    .text()
                    .contains("was sent a signal, continued or traced"),
            "{touch}: {output}"
        );
        if touch == "stop" {
            node1.wait_until(10, &is_stopped)?;
            node1.run_ok(&format!("kill -CONT {pid}"))?;
        }
        if let Some(tracer) = tracer {
            tracer.signal(libc::SIGKILL)?;
            tracer.wait(Duration::from_secs(10))?;
        }
        workload.wait_for_beat(node1)?;
        workload.ensure_only_in(cluster, 0)?;
        workload.finish(node1)?;
    }
    Ok(())
}

/// Has a page in memory that the machine calls broken (`MADV_HWPOISON`), and does not touch it. A child that shares the page
/// does that, because the kernel kills who does it. Looks at all the others when it is sent a signal.
const BROKEN: &str = "
import ctypes, errno, mmap, os, signal
PAGE = 4096
wanted = [bytes([number]) * PAGE for number in range(1, 17)]
area = mmap.mmap(-1, 16 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.write(b''.join(wanted))
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    libc.madvise(ctypes.c_void_p(start + PAGE), PAGE, 100)
    os._exit(ctypes.get_errno())
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
if status == errno.EINVAL:
    print('impossible', flush=True)
    exit()
assert status == -7, 'the memory is not broken'
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print('broken', flush=True)
signal.sigwait([signal.SIGUSR1])
for number, page in enumerate(wanted):
    if number != 1:
        assert area[number * PAGE:(number + 1) * PAGE] == page, f'page {number} is wrong'
print('unharmed', flush=True)
";

fn broken_memory(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    node1.put("/shared/broken.py", BROKEN.as_bytes(), 0o644)?;
    let pid = node1.start("python3 /shared/broken.py", "/shared/broken.log")?;
    node1.wait_until(20, "[ -s /shared/broken.log ]")?;
    let text = node1.run_ok("cat /shared/broken.log")?;
    if text == "impossible" {
        return skip("this kernel was built without CONFIG_MEMORY_FAILURE");
    }
    ensure!(text == "broken", "{text}\n{}", node1.dmesg_since_mark()?);
    for _ in 0..2 {
        let output = agents.pmigctl(0, &format!("migrate {pid} node2"))?;
        ensure!(
            output.code == Some(exit::STILL_HERE)
                && output
                    .errors()
                    .contains("could not be sent (Memory page has hardware error"),
            "{output}"
        );
    }
    node1.run_ok(&format!("kill -USR1 {pid}"))?;
    node1.wait_until(20, &format!("! kill -0 {pid} 2>/dev/null"))?;
    let text = node1.run_ok("cat /shared/broken.log")?;
    ensure!(text == "broken\nunharmed", "{text}");
    let log = node1.dmesg_since_mark()?;
    ensure!(!log.contains("BUG") && !log.contains("WARNING"), "{log}");
    Ok(())
}

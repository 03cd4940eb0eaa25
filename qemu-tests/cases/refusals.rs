// SPDX-License-Identifier: GPL-2.0

//! What is not moved: told by name before anything is touched, and the process goes on.

use std::time::Duration;

use anyhow::ensure;
use anyhow::Result;
use qemu_tests::agents::Agents;
use qemu_tests::agents::PORT;
use qemu_tests::Case;
use qemu_tests::Cluster;

use crate::cases::workload::agents;
use crate::cases::workload::migrate;
use crate::cases::workload::migrate_patiently;
use crate::cases::workload::Unavailable;
use crate::cases::workload::Workload;
use crate::cases::workload::PROGRAMS;

/// Exit codes of `pmigctl`, as its help documents them.
pub(crate) mod exit {
    pub(crate) const USAGE: i32 = 2;
    pub(crate) const NO_SUCH_PROCESS: i32 = 3;
    pub(crate) const NOT_MOVABLE: i32 = 4;
    pub(crate) const PROTECTED: i32 = 5;
    pub(crate) const UNREACHABLE: i32 = 6;
    pub(crate) const PROTOCOL: i32 = 7;
    pub(crate) const STILL_HERE: i32 = 10;
    pub(crate) const IN_DOUBT: i32 = 11;
    pub(crate) const STAYED: i32 = 12;
    pub(crate) const NO_AGENT: i32 = 13;
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "everything that cannot be moved yet is refused by name, and goes on",
            by_name,
        )
        .timeout(420),
        Case::new("a traced process is refused by name", traced),
        Case::new("bad input has its exit codes", bad_input),
        Case::new(
            "a peer of another version, or that speaks something else, is refused by name",
            strange_peers,
        ),
        Case::new("explain names all obstacles of a process at once", several),
        Case::new(
            "explain and a dry run find nothing against a movable process, and touch nothing",
            movable,
        ),
        Case::new(
            "a file that is missing on the destination is named",
            missing_file,
        ),
        Case::new(
            "a different file under the same name is named",
            different_file,
        ),
        Case::new(
            "a PID that is taken on the destination stays the program's own",
            taken_pid,
        )
        .timeout(180),
        Case::new(
            "a destination whose CPU has fewer features is refused",
            fewer_features,
        )
        .cpu(["max", "max,-avx2,-avx,-fma,-avx512f"])
        .timeout(180),
    ]
}

/// What may be asked of `pmigctl` about a process that it must not move.
fn refused(cluster: &Cluster, agents: &Agents<'_>, pid: u32, codes: &str) -> Result<()> {
    for command in [
        format!("explain --json {pid}"),
        format!("migrate --json --dry-run {pid} node2"),
        format!("migrate --json {pid} node2"),
    ] {
        let output = agents.pmigctl(0, &command)?;
        ensure!(
            output.code == Some(exit::NOT_MOVABLE),
            "pmigctl {command}: expected exit code {}\n{output}",
            exit::NOT_MOVABLE
        );
        let all = format!("{}{}", output.text(), output.errors());
        ensure!(
            codes
                .split('|')
                .any(|code| all.contains(&format!("\"{code}\""))),
            "pmigctl {command} does not name {codes}\n{output}"
        );
    }
    let left = cluster.guest(1).run("pgrep -f '[/]shared/refused'")?.text();
    ensure!(left.is_empty(), "something is left in node2: {left}");
    Ok(())
}

fn by_name(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    let list = node1.run_ok(&format!("{PROGRAMS}/refused x list=1"))?;
    let mut failures = Vec::new();
    let mut unavailable = Vec::new();
    for line in list.lines() {
        let Some((kind, codes)) = line.split_once(' ') else {
            continue;
        };
        let one = || -> Result<()> {
            let workload = Workload::start(node1, &format!("refused kind={kind}"))?;
            refused(cluster, &agents, workload.pid, codes)?;
            workload.wait_for_beat(node1)?;
            workload.finish(node1)?;
            Ok(())
        };
        match one() {
            Err(error) if error.is::<Unavailable>() => {
                unavailable.push(format!("{kind} ({error})"))
            }
            Err(error) => failures.push(format!("{kind}: {error:#}")),
            Ok(()) => {}
        }
    }
    if !unavailable.is_empty() {
        println!(
            "          not on this kernel or CPU: {}",
            unavailable.join(", ")
        );
    }
    ensure!(
        failures.is_empty(),
        "{} kinds:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    Ok(())
}

fn traced(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    let workload = Workload::start(node1, "m1_anonymous_memory large=4")?;
    let mut strace = node1.spawn(&format!("exec strace -f -o /tmp/trace -p {}", workload.pid))?;
    node1.wait_until(
        10,
        &format!("! grep -q '^TracerPid:.0' /proc/{}/status", workload.pid),
    )?;
    refused(cluster, &agents, workload.pid, "traced")?;
    ensure!(!strace.has_ended()?, "strace has lost its process");
    strace.signal(libc::SIGINT)?;
    node1.wait_until(
        10,
        &format!("grep -q '^TracerPid:.0' /proc/{}/status", workload.pid),
    )?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    workload.finish(cluster.guest(1))?;
    Ok(())
}

fn bad_input(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    let workload = Workload::start(node1, "m1_anonymous_memory large=4")?;
    let pid = workload.pid;
    // The agent itself is pmig too.
    let agent = node1.run_ok("pgrep -o -f '^[/]pmig/pmigctl agent'")?;
    let mut failures = Vec::new();
    let mut expect = |code: i32, command: &str| -> Result<()> {
        let output = agents.pmigctl(0, command)?;
        if output.code != Some(code) {
            failures.push(format!(
                "pmigctl {command}: expected exit code {code}\n{output}"
            ));
        }
        Ok(())
    };
    for verb in ["explain", "migrate"] {
        let host = if verb == "migrate" { " node2" } else { "" };
        expect(exit::NO_SUCH_PROCESS, &format!("{verb} 4000000{host}"))?;
        expect(exit::PROTECTED, &format!("{verb} 2{host}"))?;
        expect(exit::PROTECTED, &format!("{verb} 1{host}"))?;
        expect(exit::PROTECTED, &format!("{verb} {agent}{host}"))?;
        expect(exit::USAGE, &format!("{verb} 0{host}"))?;
        expect(exit::USAGE, &format!("{verb} twelve{host}"))?;
        expect(exit::USAGE, &format!("{verb} -- -1{host}"))?;
        expect(exit::USAGE, &format!("{verb} 99999999999{host}"))?;
    }
    expect(exit::UNREACHABLE, &format!("migrate {pid} nohost.invalid"))?;
    expect(
        exit::UNREACHABLE,
        &format!("migrate --to-port 9 {pid} node2"),
    )?;
    expect(exit::USAGE, "migrate")?;
    expect(exit::USAGE, "frobnicate")?;
    expect(0, "--help")?;
    expect(0, "--version")?;
    // The host itself is no destination.
    let output = agents.pmigctl(0, &format!("migrate {pid} node1"))?;
    if output.success() {
        failures.push(format!("migrate to the same host\n{output}"));
    }
    agents.stop(1)?;
    let output = agents.pmigctl(0, &format!("migrate {pid} node2"))?;
    if output.code != Some(exit::UNREACHABLE) {
        failures.push(format!("migrate, nobody listening\n{output}"));
    }
    agents.stop(0)?;
    let output = agents.pmigctl(0, &format!("migrate {pid} node2"))?;
    if output.code != Some(exit::NO_AGENT) {
        failures.push(format!("migrate without an agent of this host\n{output}"));
    }
    workload.wait_for_beat(node1)?;
    workload.finish(node1)?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn several(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    // perl's own sockets, a child and a deleted file at once.
    let pid = node1.start(
        "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); open F, q(>), q(/tmp/gone); unlink q(/tmp/gone); \
         fork or sleep 1000; sleep 1000'",
        "/tmp/several.log",
    )?;
    node1.wait_until(10, &format!("pgrep -P {pid}"))?;
    let output = agents.pmigctl(0, &format!("explain --json {pid}"))?;
    for code in ["socket", "children", "deleted-file"] {
        ensure!(
            output.text().contains(&format!("\"{code}\"")),
            "{code} is not named\n{output}"
        );
    }
    let people = agents.pmigctl(0, &format!("explain {pid}"))?;
    ensure!(people.code == Some(exit::NOT_MOVABLE), "{people}");
    Ok(())
}

/// Answers each connection with one message: the header that came, with the fifth byte changed, or a line of text.
const STRANGE_PEER: &str = "
import socket, sys
listener = socket.create_server(('0.0.0.0', int(sys.argv[1])))
while True:
    peer, _ = listener.accept()
    header = bytearray(peer.recv(16, socket.MSG_WAITALL))
    header[4] ^= 0x40
    peer.sendall(header if sys.argv[2] == 'version' else b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n')
    peer.close()
";

fn strange_peers(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let workload = Workload::start(node1, "t1_threads")?;
    agents.stop(1)?;
    for (kind, word) in [("version", "version"), ("text", "protocol")] {
        let peer = node2
            .command(["python3", "-c", STRANGE_PEER, &PORT.to_string(), kind])
            .spawn()?;
        node2.wait_until(20, &format!("ss -Htln | grep -q ':{PORT} '"))?;
        let output = agents.pmigctl(0, &format!("migrate {} node2", workload.pid))?;
        ensure!(
            output.code == Some(exit::PROTOCOL) && output.errors().contains(word),
            "a peer with another {kind}: {output}"
        );
        peer.signal(libc::SIGKILL)?;
        peer.wait(Duration::from_secs(10))?;
        workload.ensure_only_in(cluster, 0)?;
        workload.wait_for_beat(node1)?;
    }
    agents.start(1)?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    workload.finish(node2)?;
    Ok(())
}

fn movable(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    let workload = Workload::start(node1, "t4_signals")?;
    let stat = format!("cat /proc/{0}/maps /proc/{0}/stat | md5sum", workload.pid);
    let _ = node1.run_ok(&stat)?;
    for _ in 0..20 {
        let output = agents.pmigctl(0, &format!("explain {}", workload.pid))?;
        ensure!(output.success(), "{output}");
    }
    let output = agents.pmigctl(0, &format!("explain --to node2 {}", workload.pid))?;
    ensure!(output.success(), "{output}");
    let output = agents.pmigctl(0, &format!("migrate --dry-run {} node2", workload.pid))?;
    ensure!(output.success(), "{output}");
    workload.ensure_only_in(cluster, 0)?;
    workload.wait_for_beat(node1)?;
    workload.finish(node1)?;
    Ok(())
}

/// A program that reads a file of the guest's own disk, which the test then makes different on the other.
fn with_local_file(cluster: &Cluster, spoil: &str, code: &str) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let make = "seq 100000 >/root/local; touch -d '2026-01-02 03:04:05' /root/local";
    node1.run_ok(make)?;
    node2.run_ok(&format!("{make}; {spoil}"))?;
    let workload = Workload::start(node1, "f1_files local=/root/local")?;
    let output = agents.pmigctl(0, &format!("migrate --json {} node2", workload.pid))?;
    ensure!(
        output.code == Some(exit::NOT_MOVABLE),
        "expected exit code {}\n{output}",
        exit::NOT_MOVABLE
    );
    let all = format!("{}{}", output.text(), output.errors());
    ensure!(
        all.contains(&format!("\"{code}\"")) && all.contains("/root/local"),
        "the file is not named\n{output}"
    );
    workload.ensure_only_in(cluster, 0)?;
    workload.wait_for_beat(node1)?;
    // The second attempt, with the file as it should be, works.
    node2.run_ok(make)?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    workload.finish(node2)?;
    Ok(())
}

fn missing_file(cluster: &Cluster) -> Result<()> {
    with_local_file(cluster, "rm /root/local", "file-missing")
}

fn different_file(cluster: &Cluster) -> Result<()> {
    with_local_file(cluster, "echo more >>/root/local", "file-differs")
}

fn taken_pid(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    for command in ["m1_vdso_and_auxv", "t1_threads", "t4_signals", "t7_clocks"] {
        // The number, and with threads some of theirs, is somebody else's in node2.
        let workload = Workload::start(node1, command)?;
        let pid = workload.pid;
        node2.run_ok(&format!(
            "last=$(cat /proc/sys/kernel/ns_last_pid)
            until [ -d /proc/{pid} ]; do
                echo {} >/proc/sys/kernel/ns_last_pid
                setsid sleep 1000 </dev/null >/dev/null 2>&1 &
                setsid sleep 1000 </dev/null >/dev/null 2>&1 &
                sleep 0.05
            done
            # What comes later in this guest shall not take numbers of the other one's programs.
            echo $last >/proc/sys/kernel/ns_last_pid",
            pid - 1
        ))?;
        let taken = node2.run_ok(&format!("cat /proc/{pid}/comm"))?;
        migrate_patiently(&agents, pid, 0, 1)?;
        ensure!(
            workload.processes(node1)?.is_empty(),
            "{command} is still in node1"
        );
        ensure!(
            workload.processes(node2)?.len() == 1,
            "{command}: not one copy in node2"
        );
        ensure!(
            node2.run_ok(&format!("cat /proc/{pid}/comm"))? == taken,
            "the other process has changed"
        );
        workload.wait_for_beat(node2)?;
        workload.finish(node2)?;
    }
    Ok(())
}

fn fewer_features(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    if !node1.run("grep -qw avx2 /proc/cpuinfo")?.success()
        || cluster
            .guest(1)
            .run("grep -qw avx2 /proc/cpuinfo")?
            .success()
    {
        return qemu_tests::case::skip("this machine cannot give the two guests different CPUs");
    }
    let workload = Workload::start(node1, "t9_registers")?;
    let output = agents.pmigctl(0, &format!("migrate --json {} node2", workload.pid))?;
    ensure!(
        output.code == Some(exit::NOT_MOVABLE),
        "expected exit code {}\n{output}",
        exit::NOT_MOVABLE
    );
    let all = format!("{}{}", output.text(), output.errors());
    ensure!(
        all.contains("\"cpu-features\"") || all.contains("\"cpu-state\""),
        "the CPU is not named\n{output}"
    );
    workload.ensure_only_in(cluster, 0)?;
    workload.wait_for_beat(node1)?;
    workload.finish(node1)?;
    Ok(())
}

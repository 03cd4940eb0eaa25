// SPDX-License-Identifier: GPL-2.0

//! Programs of Debian that know nothing of any test, moved in the middle of their work.

use std::time::Duration;
use std::time::Instant;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use qemu_tests::rig::scaled;
use qemu_tests::Case;
use qemu_tests::Cluster;
use qemu_tests::Guest;

use crate::cases::workload::agents;
use crate::cases::workload::migrate;
use crate::cases::workload::move_and_check;
use crate::cases::workload::Workload;
use crate::cases::workload::PROGRAMS;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "python3 counts and hashes 64 MiB of live data on the way",
            demo,
        )
        .timeout(180),
        Case::new(
            "python3 with threads, generators and an open file",
            |cluster| move_and_check(cluster, "python_pure.py"),
        )
        .timeout(120),
        Case::new("python3 with numpy", |cluster| {
            move_and_check(cluster, "python_numpy.py")
        })
        .timeout(120),
        Case::new("perl with hashes and a digest chain", |cluster| {
            move_and_check(cluster, "perl_hashes.pl")
        }),
        Case::new("bash in a loop of its own commands", bash),
        Case::new("gzip half-way through a large file", |cluster| {
            half_way(cluster, "gzip -9 -c", |file| {
                format!("gzip -dc <{file}.out | cmp - {file}.in")
            })
        })
        .timeout(240),
        Case::new("sha256sum half-way through a large file", |cluster| {
            half_way(cluster, "sha256sum", |file| {
                format!(
                    "[ \"$(cut -c 1-64 {file}.out)\" = \"$(sha256sum <{file}.in | cut -c 1-64)\" ]"
                )
            })
        })
        .timeout(240),
        Case::new("sqlite3 inside a transaction", sqlite).timeout(240),
    ]
}

fn demo(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let workload = Workload::start(node1, "demo.py pause=1")?;
    workload.wait_for_beat(node1)?;
    let before = lines(node1, &workload)?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    workload.wait_for_beat(node2)?;
    workload.finish(node2)?;
    ensure!(
        lines(node2, &workload)? > before + 1,
        "it has not gone on:\n{}",
        workload.text(node2)?
    );
    node2.run_ok_within(
        120,
        &format!("python3 {PROGRAMS}/demo.py verify {}", workload.log),
    )?;
    Ok(())
}

fn lines(guest: &Guest, workload: &Workload) -> Result<usize> {
    Ok(workload
        .text(guest)?
        .lines()
        .filter(|line| line.starts_with("iteration "))
        .count())
}

fn bash(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let workload = Workload::launch(
        cluster.guest(0),
        "bash_loop",
        &format!("bash {PROGRAMS}/bash_loop.sh LOG"),
    )?;
    workload.wait_for_beat(cluster.guest(0))?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    workload.wait_for_beat(cluster.guest(1))?;
    workload.finish(cluster.guest(1))?;
    Ok(())
}

/// How long a program works that is moved in the middle, if it runs as fast as it did to try: much longer than the move.
fn busy_seconds() -> f64 {
    scaled(Duration::from_secs(10))
        .min(Duration::from_secs(40))
        .as_secs_f64()
}

/// A filter reads a file of this guest's making, is moved when it has read a part of it, and must give the right result.
fn half_way(cluster: &Cluster, filter: &str, right: impl Fn(&str) -> String) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let (file, size) = large_file(node1, filter)?;
    let name = file.rsplit('/').next().unwrap_or(&file);
    let workload = Workload::launch(
        node1,
        "filter",
        &format!("sh {PROGRAMS}/launch.sh LOG /dev/null {file}.out {filter} {file}.in"),
    )?;
    let position = format!(
        "cat /proc/{}/fdinfo/* 2>/dev/null | sed -n 's/^pos:[[:space:]]*//p' | sort -n | tail -1",
        workload.pid
    );
    let deadline = Instant::now() + Duration::from_secs(60);
    let read: u64 = loop {
        let read = node1
            .run_ok(&position)?
            .parse()
            .context("it has ended before it could be moved")?;
        if read > size / 5 || Instant::now() > deadline {
            break read;
        }
    };
    ensure!(
        read < size,
        "it had read everything before it could be moved"
    );
    agents.migrate(0, workload.pid, 1)?;
    ensure!(
        node1
            .run(&format!("pgrep -f '[/]shared/{name}[.]in'"))?
            .text()
            .is_empty(),
        "it is still in node1"
    );
    let pid = workload.pid;
    // It may have come to its end already; but then the result is there.
    node2.run_ok_within(
        180,
        &format!("while [ -d /proc/{pid} ] && grep -q '^State:.[RSD]' /proc/{pid}/status; do sleep 0.1; done; sync"),
    )?;
    node2.run_ok_within(120, &right(&file))?;
    Ok(())
}

/// A file that the filter works on for some seconds: text that compresses well and badly in turns.
fn large_file(guest: &Guest, filter: &str) -> Result<(String, u64)> {
    let file = "/shared/large";
    let make = |mebibytes: u64| {
        format!(
            "python3 -c \"
import random
r = random.Random(5)
words = [bytes(r.randrange(97, 123) for _ in range(r.randrange(2, 12))) for _ in range(5000)]
with open('{file}.in', 'wb') as f:
    for _ in range({mebibytes}):
        piece = b' '.join(r.choice(words) for _ in range(60000)) + r.randbytes(700000)
        f.write((piece * 2)[:1 << 20])
\""
        )
    };
    guest.run_ok_within(120, &make(4))?;
    let begin = Instant::now();
    guest.run_ok_within(120, &format!("{filter} {file}.in >/dev/null"))?;
    // From that the size that keeps it busy for a while, within what the disk and the time allow.
    let per_mebibyte = (begin.elapsed().as_secs_f64() / 4.0).max(0.001);
    let size = ((busy_seconds() / per_mebibyte) as u64).clamp(16, 1500);
    guest.run_ok(&format!(
        "for n in $(seq {}); do cat {file}.in; done >{file}.all; mv {file}.all {file}.in",
        size / 4
    ))?;
    Ok((file.into(), (size / 4 * 4) << 20))
}

fn sqlite(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    let begin = Instant::now();
    node1.run_ok_within(60, &format!("sh {PROGRAMS}/sqlite.sh /shared/probe 50000"))?;
    let rows = (50_000.0 * busy_seconds() / begin.elapsed().as_secs_f64().max(0.05)) as u64;
    let workload = Workload::launch(
        node1,
        "sqlite",
        &format!("sh {PROGRAMS}/sqlite.sh LOG {rows}"),
    )?;
    // Inside the transaction: the table has been made, and the journal holds what it was before.
    node1.wait_until(30, &format!("[ -s {}.db-journal ]", workload.log))?;
    agents.migrate(0, workload.pid, 1)?;
    workload.ensure_unharmed(node2)?;
    workload.wait_for_end(node2, 120)?;
    ensure!(
        workload.processes(node1)?.is_empty(),
        "it is still in node1"
    );
    let output = node2.run_ok(&format!("cat {}.out", workload.log))?;
    let sum = rows * (rows + 1) / 2;
    let squares = u128::from(rows) * u128::from(rows + 1) * u128::from(2 * rows + 1) / 6;
    ensure!(
        output.contains("\nok\n"),
        "the database is damaged:\n{output}"
    );
    ensure!(
        output.ends_with(&format!("ok {rows} {sum} {squares} 18")),
        "wrong result for {rows} rows:\n{output}"
    );
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! What all other tests take for granted.

use std::time::Duration;
use std::time::Instant;

use anyhow::ensure;
use anyhow::Result;
use qemu_tests::Case;
use qemu_tests::Cluster;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("two guests reach each other and share a directory", reach),
        Case::new(
            "commands give back their output, their errors and how they ended",
            commands,
        ),
        Case::new("files of any size pass in and out unchanged", files),
        Case::new("a cut link passes nothing until it is restored", cut),
        Case::new("a guest whose host crashes comes back with its disk", crash).spoils(),
        Case::new("a complaint of a kernel is noticed, once", complaint).unclean(),
        Case::new("a kernel that panics ends what waits for its guest", panic)
            .spoils()
            .unclean(),
        Case::new(
            "a guest with the distribution's own init reboots and comes back",
            reboot,
        )
        .systemd()
        .timeout(240),
    ]
}

fn reach(cluster: &Cluster) -> Result<()> {
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    node1.run_ok("ping -c 1 -W 10 node2")?;
    node2.run_ok("ping -c 1 -W 10 node1")?;
    node1.run_ok("echo one >/shared/file")?;
    node2.run_ok("echo two >>/shared/file")?;
    ensure!(node1.run_ok("cat /shared/file")? == "one\ntwo");
    let inode = "stat -c %i /shared/file";
    ensure!(
        node1.run_ok(inode)? == node2.run_ok(inode)?,
        "the same file has two inode numbers"
    );
    ensure!(node1.run_ok("uname -rv")? == node2.run_ok("uname -rv")?);
    Ok(())
}

fn commands(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    let output = guest.run("echo out; echo err >&2; exit 7")?;
    ensure!(
        (
            output.code,
            output.text().as_str(),
            output.errors().as_str()
        ) == (Some(7), "out", "err"),
        "{output}"
    );
    ensure!(guest.run("kill -TERM $$")?.signal == Some(15));
    ensure!(guest.command(["cat"]).input("through").output_ok()? == "through");
    ensure!(guest.command(["/nowhere"]).output().is_err());
    // A child left behind with the pipe open keeps nobody waiting.
    ensure!(guest.run_ok("sleep 600 & echo done")? == "done");
    let mut running = guest.spawn("read line; echo got $line; exec sleep 600")?;
    ensure!(running.pid() > 1);
    ensure!(!running.has_ended()?);
    running.signal(libc::SIGTERM)?;
    ensure!(running.wait(Duration::from_secs(20))?.signal == Some(15));
    let pid = guest.start("sleep 600", "/tmp/log")?;
    ensure!(
        guest.run_ok(&format!(
            "readlink /proc/{pid}/fd/0 /proc/{pid}/fd/1 /proc/{pid}/fd/2; ls /proc/{pid}/fd"
        ))? == "/dev/null\n/tmp/log\n/tmp/log\n0\n1\n2"
    );
    Ok(())
}

fn files(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(1);
    for size in [0, 1, 32 * 1024, 3_000_001] {
        let content: Vec<u8> = (0..size)
            .map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        guest.put("/tmp/file", &content, 0o640)?;
        ensure!(guest.run_ok("stat -c '%a %s' /tmp/file")? == format!("640 {size}"));
        ensure!(
            guest.get("/tmp/file")? == content,
            "{size} bytes have changed"
        );
    }
    ensure!(guest.get("/nowhere").is_err());
    Ok(())
}

fn cut(cluster: &Cluster) -> Result<()> {
    let node1 = cluster.guest(0);
    node1.run_ok("ping -c 1 -W 10 node2")?;
    cluster.cut_link(1)?;
    ensure!(
        !node1.run("ping -c 1 -W 1 node2")?.success(),
        "a packet has passed"
    );
    cluster.restore_link(1)?;
    node1.wait_until(20, "ping -c 1 -W 1 node2")?;
    cluster.delay_link(0, 300, 0)?;
    let times =
        node1.run_ok("ping -c 2 -W 5 node2 | sed -n 's/.*time=\\([0-9]*\\).*/\\1/p' | tail -1")?;
    ensure!(times.parse::<u32>()? >= 300, "not delayed: {times} ms");
    Ok(())
}

fn crash(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(1);
    guest.run_ok("echo kept >/root/kept; sync")?;
    let before = guest.run_ok("cat /proc/sys/kernel/random/boot_id")?;
    guest.kill_qemu();
    ensure!(guest.run("true").is_err(), "it still answers");
    guest.power_on_again()?;
    ensure!(guest.run_ok("cat /root/kept")? == "kept");
    ensure!(guest.run_ok("cat /proc/sys/kernel/random/boot_id")? != before);
    Ok(())
}

fn reboot(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    guest.wait_until(60, "[ $(systemctl is-system-running) = running ]")?;
    let before = guest.run_ok("cat /proc/sys/kernel/random/boot_id")?;
    guest.reboot_wait()?;
    ensure!(guest.run_ok("cat /proc/sys/kernel/random/boot_id")? != before);
    Ok(())
}

fn panic(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(1);
    let begin = Instant::now();
    let error = guest
        .run("echo c >/proc/sysrq-trigger; sleep 600")
        .expect_err("the kernel has panicked");
    ensure!(format!("{error:#}").contains("Kernel panic"), "{error:#}");
    ensure!(begin.elapsed() < Duration::from_secs(20));
    ensure!(guest.console().contains("sysrq_handle_crash"));
    Ok(())
}

fn complaint(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    guest.assert_clean_log()?;
    guest.run_ok("echo '<4>WARNING: CPU: 0 PID: 1 at nowhere' >/dev/kmsg")?;
    ensure!(guest.assert_clean_log().is_err());
    guest.mark_log()?;
    guest.assert_clean_log()
}

// SPDX-License-Identifier: GPL-2.0

//! What an init has to do for programs to feel at home.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use nix::mount::mount;
use nix::mount::MsFlags;
use nix::sys::signal::pthread_sigmask;
use nix::sys::signal::SigSet;
use nix::sys::signal::SigmaskHow;

/// Says something where the harness keeps it, in the kernel log.
pub(crate) fn complain(message: &str) {
    if let Ok(mut log) = fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // One write is one record; there is nobody to tell when it fails.
        let _ = log.write_all(format!("<4>pmig-runner: {message}\n").as_bytes());
    }
}

fn mount_one(source: &str, target: &str, kind: &str, flags: MsFlags, data: &str) {
    let _ = fs::create_dir_all(target);
    if let Err(error) = mount(Some(source), target, Some(kind), flags, Some(data)) {
        // The initramfs has mounted some of them already.
        if error != nix::errno::Errno::EBUSY {
            complain(&format!("cannot mount {target}: {error}"));
        }
    }
}

/// The file systems that systemd would mount.
pub(crate) fn mount_everything() {
    let none = MsFlags::empty();
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let temporary = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_one("sysfs", "/sys", "sysfs", strict, "");
    mount_one(
        "devpts",
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        "mode=620,ptmxmode=666,gid=5",
    );
    mount_one("tmpfs", "/dev/shm", "tmpfs", temporary, "mode=1777");
    mount_one("mqueue", "/dev/mqueue", "mqueue", strict, "");
    mount_one("hugetlbfs", "/dev/hugepages", "hugetlbfs", temporary, "");
    mount_one("tmpfs", "/tmp", "tmpfs", temporary, "mode=1777");
    mount_one("cgroup2", "/sys/fs/cgroup", "cgroup2", strict, "nsdelegate");
    mount_one("debugfs", "/sys/kernel/debug", "debugfs", strict, "");
    mount_one("tracefs", "/sys/kernel/tracing", "tracefs", strict, "");
    mount_one("bpf", "/sys/fs/bpf", "bpf", none, "");
    let _ = fs::create_dir_all("/run/lock");
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ] {
        if !Path::new(link).exists() {
            let _ = symlink(target, link);
        }
    }
}

/// Network, name and shared directories.
pub(crate) fn prepare(is_init: bool) {
    // The kernel gives init an empty environment; a shell without PATH finds nothing.
    std::env::set_var(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    std::env::set_var("HOME", "/root");
    std::env::set_var("LANG", "C.UTF-8");
    std::env::set_var("USER", "root");
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let option = |name: &str| {
        line.split_whitespace()
            .filter_map(|word| word.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    if is_init {
        if let Some(name) = option("systemd.hostname") {
            let _ = nix::unistd::sethostname(name);
        }
    }
    if is_init {
        // What the distribution's init would set, for instance the highest process number.
        let _ = Command::new("/usr/lib/systemd/systemd-sysctl").status();
    }
    if let Some(first) = option("pmig.first-pid") {
        // Far from the numbers on other nodes, as on machines that have been up for a while.
        if let Err(error) = fs::write("/proc/sys/kernel/ns_last_pid", first) {
            complain(&format!("cannot set the next process number: {error}"));
        }
    }
    if let Some(address) = option("pmig.address") {
        let batch =
            format!("link set lo up\naddress replace {address} dev eth0\nlink set eth0 up\n");
        if let Err(error) = ip(&batch) {
            complain(&format!("cannot set up the network: {error}"));
        }
    }
    mount_one("shared", "/shared", "virtiofs", MsFlags::empty(), "");
    mount_one("/dev/vdb", "/pmig", "ext4", MsFlags::MS_RDONLY, "");
}

fn ip(batch: &str) -> std::io::Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(batch.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("ip: {status}")))
    }
}

/// Tells systemd, if it has started this, that everything is set up.
pub(crate) fn notify_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    std::env::remove_var("NOTIFY_SOCKET");
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(b"READY=1\n", path);
    }
}

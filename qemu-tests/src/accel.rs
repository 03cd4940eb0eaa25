// SPDX-License-Identifier: GPL-2.0

//! KVM where it works, emulation elsewhere. A `/dev/kvm` does not prove anything; only a guest that boots does.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;

use crate::children::Child;
use crate::rig::Rig;

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    /// The value of QEMU's `-accel`.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi",
        }
    }

    /// How much longer everything takes than on a real machine, roughly.
    pub fn slowness(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }

    /// What works here. `PMIG_ACCEL` (`kvm` or `tcg`) overrides; the answer is kept until this machine reboots.
    pub fn find(rig: &Rig) -> Self {
        static FOUND: OnceLock<Accel> = OnceLock::new();
        *FOUND.get_or_init(|| match std::env::var("PMIG_ACCEL").as_deref() {
            Ok("kvm") => Self::Kvm,
            Ok("tcg") => Self::Tcg,
            _ if !Path::new("/dev/kvm").exists() => Self::Tcg,
            _ => Self::remembered(rig),
        })
    }

    fn remembered(rig: &Rig) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let file = rig.cache().join("kvm-probe");
        if let Ok(text) = fs::read_to_string(&file) {
            match text.strip_prefix(boot.as_str()).map(str::trim) {
                Some("kvm") => return Self::Kvm,
                Some("tcg") => return Self::Tcg,
                _ => {}
            }
        }
        let (found, word) = match probe(rig) {
            Ok(true) => (Self::Kvm, "kvm"),
            Ok(false) | Err(_) => (Self::Tcg, "tcg"),
        };
        // Without it the next run probes again.
        let _ = fs::write(&file, format!("{boot}{word}\n"));
        found
    }
}

/// Boots the stock kernel with KVM and nothing else, until it panics for want of a root file system: then it works.
fn probe(rig: &Rig) -> Result<bool> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("console");
    let mut command = rig.tool("usr/bin/qemu-system-x86_64");
    for path in rig.firmware() {
        command.arg("-L").arg(path);
    }
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-machine",
        "q35",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-smp",
        "2",
    ]);
    command.args([
        "-m",
        "256",
        "-display",
        "none",
        "-no-reboot",
        "-append",
        "console=ttyS0 panic=-1",
    ]);
    command
        .arg("-kernel")
        .arg(rig.kernel())
        .arg("-serial")
        .arg(format!("file:{}", log.display()));
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = Child::spawn(command, None)?;
    let deadline = Instant::now() + Duration::from_secs(8);
    while child.has_ended()?.is_none() && Instant::now() < deadline {
        // There is no event for "ended within a time" without a thread of its own; this runs once per boot.
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill();
    let console = fs::read(&log).unwrap_or_default();
    Ok(memchr::memmem::find(&console, b"Kernel panic - not syncing: VFS").is_some())
}

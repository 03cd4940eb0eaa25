// SPDX-License-Identifier: GPL-2.0

//! Where things are: what `scripts/setup` has made, what the build has made, and where logs go.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

/// Paths that every cluster needs.
#[derive(Clone, Debug)]
pub struct Rig {
    tools: PathBuf,
    guest: PathBuf,
    target: PathBuf,
    cache: PathBuf,
    kernel: PathBuf,
}

impl Rig {
    /// Finds everything, or says what has to be run first.
    ///
    /// `PMIG_CACHE` and `PMIG_TARGET` move the two directories; `PMIG_GUEST_KERNEL` names another kernel image, such as
    /// one with debugging options, whose modules must fit the guest's.
    pub fn find() -> Result<Self> {
        let cache = match std::env::var_os("PMIG_CACHE") {
            Some(path) => PathBuf::from(path),
            None => match std::env::var_os("XDG_CACHE_HOME") {
                Some(path) => PathBuf::from(path).join("pmig"),
                None => home()?.join(".cache/pmig"),
            },
        };
        let target = match std::env::var_os("PMIG_TARGET") {
            Some(path) => PathBuf::from(path),
            None => repository()?.join("target/pmig"),
        };
        let existing = |path: PathBuf| {
            fs::canonicalize(&path)
                .with_context(|| format!("{} is missing: run scripts/setup first", path.display()))
        };
        let tools = existing(cache.join("tools"))?;
        let guest = existing(cache.join("guest"))?;
        let kernel = match std::env::var_os("PMIG_GUEST_KERNEL") {
            Some(path) => existing(PathBuf::from(path))?,
            None => guest.join("vmlinuz"),
        };
        fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
        let target = existing(target)?;
        if !target.join("guest-runner").exists() {
            bail!(
                "{} is missing: run scripts/build first",
                target.join("guest-runner").display()
            );
        }
        Ok(Self {
            tools,
            guest,
            target,
            cache: existing(cache)?,
            kernel,
        })
    }

    /// The build products, which guests see as /pmig.
    pub fn products(&self) -> &Path {
        &self.target
    }

    /// A directory for logs: `target/pmig/logs/<name>`, emptied.
    pub fn fresh_logs(&self, name: &str) -> Result<PathBuf> {
        let path = self.target.join("logs").join(name);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    pub fn cache(&self) -> &Path {
        &self.cache
    }

    pub fn kernel(&self) -> &Path {
        &self.kernel
    }

    pub fn root_image(&self) -> PathBuf {
        self.guest.join("root.ext4")
    }

    pub fn runner(&self) -> PathBuf {
        self.target.join("guest-runner")
    }

    pub fn initramfs(&self) -> PathBuf {
        self.guest.join("initramfs.cpio")
    }

    /// A program of the tools chroot, run outside of it with that chroot's own loader and libraries. So it sees this
    /// machine's files, and its process is one that can be killed by its number.
    pub fn tool(&self, program: &str) -> Command {
        let library = self.tools.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(
            self.tools
                .join("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
        );
        let mut path = OsString::from(&library);
        path.push(":");
        path.push(self.tools.join("usr/lib"));
        command.arg("--library-path").arg(path);
        command.arg(self.tools.join(program));
        command.env("QEMU_MODULE_DIR", library.join("qemu"));
        command
    }

    /// Where QEMU finds firmware.
    pub fn firmware(&self) -> [PathBuf; 2] {
        [
            self.tools.join("usr/share/qemu"),
            self.tools.join("usr/share/seabios"),
        ]
    }
}

/// How many rounds a test of endurance makes: a tenth where everything takes several times as long, as on the debug kernel,
/// which finds mistakes rather than growth.
pub fn rounds(count: u32) -> u32 {
    if scaled(Duration::from_secs(1)) > Duration::from_secs(2) {
        count / 10
    } else {
        count
    }
}

/// A time on this rig: longer where `PMIG_TIMEOUT_SCALE` says so, for kernels with debugging options or busy machines.
pub fn scaled(time: Duration) -> Duration {
    static SCALE: OnceLock<u32> = OnceLock::new();
    let scale = SCALE.get_or_init(|| {
        let scale = std::env::var("PMIG_TIMEOUT_SCALE").ok();
        scale
            .and_then(|scale| scale.parse().ok())
            .unwrap_or(1)
            .max(1)
    });
    time * *scale
}

/// Memory that each guest has besides what a test asks for, `PMIG_GUEST_EXTRA_MEMORY` in MiB: kernels with debugging
/// options need it for themselves.
pub fn extra_memory_mib() -> u32 {
    let extra = std::env::var("PMIG_GUEST_EXTRA_MEMORY").ok();
    extra.and_then(|extra| extra.parse().ok()).unwrap_or(0)
}

fn home() -> Result<PathBuf> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .context("HOME is not set")
}

/// The repository: from where this is run, the first directory upwards that looks like it.
fn repository() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    for directory in here.ancestors() {
        if directory.join("qemu-tests/Cargo.toml").exists() && directory.join("scripts").is_dir() {
            return Ok(directory.to_owned());
        }
    }
    bail!("run this inside the repository, or set PMIG_TARGET");
}

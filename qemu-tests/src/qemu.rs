// SPDX-License-Identifier: GPL-2.0

//! One virtual machine: QEMU, the file servers it needs, and its console.

use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use crate::accel::Accel;
use crate::children::Child;
use crate::cluster::Mode;
use crate::kernel_log::is_fatal;
use crate::link::Link;
use crate::network;
use crate::protocol::PORT_HARNESS;
use crate::protocol::PORT_SHELL;
use crate::rig::extra_memory_mib;
use crate::rig::Rig;

/// What guests see as /pmig, as far as it has been built.
const PRODUCTS: &[&str] = &["pmig.ko", "pmigctl", "pmig.yaml", "workloads", "ynl"];

/// The size of the disk for it.
const PRODUCTS_SIZE: &str = "256M";

/// Runs a program of this machine that must succeed.
fn succeed(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}", errors.trim());
    }
    Ok(())
}

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Spec {
    pub rig: Rig,
    pub index: usize,
    pub mode: Mode,
    pub cpu: String,
    pub cpus: u32,
    pub memory_mib: u32,
    pub append: String,
    /// Sockets and the disk.
    pub directory: PathBuf,
    /// The directory that all guests share.
    pub shared: PathBuf,
    pub logs: PathBuf,
    pub namespace: Arc<File>,
    pub outlive: bool,
}

impl Spec {
    /// The guest's host name.
    pub fn name(&self) -> String {
        format!("node{}", self.index + 1)
    }

    fn socket(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}.{what}", self.name()))
    }

    /// The socket that is left for a shell.
    pub fn shell_socket(&self) -> PathBuf {
        self.socket("shell")
    }

    pub fn console_log(&self) -> PathBuf {
        self.logs.join(format!("{}.console", self.name()))
    }

    pub fn disk(&self) -> PathBuf {
        self.directory.join(format!("{}.qcow2", self.name()))
    }

    /// Makes an empty disk over the root file system.
    pub fn make_disk(&self) -> Result<()> {
        let mut command = self.rig.tool("usr/bin/qemu-img");
        command
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(self.rig.root_image())
            .arg(self.disk());
        succeed(command)
    }

    /// A disk with the build products as they are now.
    ///
    /// Guests run programs from it. They could not run them from a directory that virtiofsd serves: it writes into the
    /// guest's memory behind the back of QEMU, which then executes what it has translated of the old content.
    fn products(&self) -> Result<PathBuf> {
        let path = self.directory.join("products.ext4");
        if path.exists() {
            return Ok(path);
        }
        let copy = self.directory.join("products");
        fs::create_dir(&copy)?;
        let existing = PRODUCTS
            .iter()
            .map(|name| self.rig.products().join(name))
            .filter(|path| path.exists());
        let mut cp = Command::new("cp");
        cp.arg("-a").args(existing).arg(&copy);
        succeed(cp)?;
        let mut mke2fs = self.rig.tool("usr/sbin/mke2fs");
        mke2fs
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
            .args([&copy, &path])
            .arg(PRODUCTS_SIZE);
        succeed(mke2fs)?;
        fs::remove_dir_all(&copy)?;
        Ok(path)
    }

    /// A socket that the child it is given to accepts connections from; they can be made at once.
    fn listen(&self, what: &str) -> Result<OwnedFd> {
        let path = self.socket(what);
        let _ = fs::remove_file(&path);
        Ok(UnixListener::bind(&path)
            .with_context(|| path.display().to_string())?
            .into())
    }

    /// The kernel's own initramfs and the runner behind it.
    fn initrd(&self) -> Result<PathBuf> {
        let path = self.directory.join("initrd");
        if !path.exists() {
            let mut bytes = fs::read(self.rig.initramfs()).context("cannot read the initramfs")?;
            append_to_archive(&mut bytes, "runner", &fs::read(self.rig.runner())?)?;
            let partial = self.directory.join(format!("initrd.{}", self.index));
            fs::write(&partial, bytes)?;
            fs::rename(&partial, &path)?;
        }
        Ok(path)
    }

    fn share(&self, tag: &str, directory: &Path, arguments: &[&str]) -> Result<Child> {
        let mut command = self.rig.tool("usr/libexec/virtiofsd");
        let listener = self.listen(tag)?;
        command
            .arg("--fd")
            .arg(listener.as_raw_fd().to_string())
            .arg("--shared-dir")
            .arg(directory)
            .args(arguments);
        command.args([
            "--sandbox",
            "none",
            "--seccomp",
            "none",
            "--log-level",
            "error",
        ]);
        let log = File::create(self.logs.join(format!("{}.virtiofsd.{tag}", self.name())))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Child::start(command, None, vec![listener], self.outlive).context("cannot run virtiofsd")
    }

    /// Starts it; the link's first greeting says when it is ready.
    pub fn power_on(&self) -> Result<Machine> {
        let accel = Accel::find(&self.rig);
        let products = self.products()?;
        // Without caching, so that a node sees at once what another has written.
        let shared = self.share(
            "shared",
            &self.shared,
            &["--cache", "never", "--allow-mmap"],
        )?;
        let mut command = self.rig.tool("usr/bin/qemu-system-x86_64");
        for path in self.rig.firmware() {
            command.arg("-L").arg(path);
        }
        let name = self.name();
        let memory_mib = self.memory_mib + extra_memory_mib();
        let mut args = |words: &[&str]| {
            command.args(words);
        };
        args(&[
            "-name",
            &format!("{name},process=pmig-{name}"),
            "-nodefaults",
            "-no-user-config",
        ]);
        args(&[
            "-machine",
            "q35,memory-backend=memory",
            "-accel",
            accel.argument(),
            "-cpu",
            &self.cpu,
        ]);
        args(&[
            "-smp",
            &self.cpus.to_string(),
            "-m",
            &format!("{memory_mib}M"),
            "-display",
            "none",
        ]);
        args(&[
            "-object",
            &format!("memory-backend-memfd,id=memory,size={memory_mib}M,share=on"),
        ]);
        args(&["-kernel", &self.rig.kernel().display().to_string()]);
        args(&["-initrd", &self.initrd()?.display().to_string()]);
        let init = match self.mode {
            Mode::Fast => "/run/pmig-runner",
            Mode::Systemd => "/sbin/init",
        };
        let number = self.index + 1;
        args(&[
            "-append",
            &format!(
                "console=ttyS0 loglevel=5 pmig.init={init} pmig.address={}/24 pmig.first-pid={number}000000 \
                 systemd.hostname={name} \
                 systemd.machine_id=706d69670000400080000000000000{number:02x} systemd.show_status=0 \
                 systemd.default_timeout_start_sec=60 systemd.log_target=journal {}",
                network::address(self.index),
                self.append
            ),
        ]);
        args(&[
            "-drive",
            &format!(
                "if=none,id=disk,file={},format=qcow2,cache=unsafe",
                self.disk().display()
            ),
        ]);
        args(&["-device", "virtio-blk-pci,drive=disk"]);
        args(&[
            "-drive",
            &format!(
                "if=none,id=products,file={},format=raw,readonly=on",
                products.display()
            ),
        ]);
        args(&["-device", "virtio-blk-pci,drive=products"]);
        let tap = network::tap(self.index);
        args(&[
            "-netdev",
            &format!("tap,id=net,ifname={tap},script=no,downscript=no,vnet_hdr=on"),
        ]);
        args(&[
            "-device",
            &format!("virtio-net-pci,netdev=net,mac=52:54:00:70:6d:{number:02x},romfile="),
        ]);
        args(&["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        let mut inherit = Vec::new();
        for (id, port) in [("runner", PORT_HARNESS), ("shell", PORT_SHELL)] {
            let socket = self.listen(id)?;
            args(&[
                "-chardev",
                &format!(
                    "socket,id={id},fd={},server=on,wait=off",
                    socket.as_raw_fd()
                ),
            ]);
            inherit.push(socket);
            args(&[
                "-device",
                &format!("virtserialport,chardev={id},name={port}"),
            ]);
        }
        args(&[
            "-chardev",
            &format!("socket,id=shared,path={}", self.socket("shared").display()),
        ]);
        args(&["-device", "vhost-user-fs-pci,chardev=shared,tag=shared"]);
        let console = self.listen("console")?;
        args(&[
            "-chardev",
            &format!(
                "socket,id=console,fd={},server=on,wait=off,logfile={},logappend=on",
                console.as_raw_fd(),
                self.console_log().display()
            ),
            "-serial",
            "chardev:console",
        ]);
        inherit.push(console);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.logs.join(format!("{name}.qemu")))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = Child::start(command, Some(&self.namespace), inherit, self.outlive)
            .context("cannot run QEMU")?;
        let link = Arc::new(Link::connect(&self.socket("runner"))?);
        watch_console(&self.socket("console"), link.clone())?;
        Ok(Machine {
            process,
            shared,
            link,
        })
    }
}

/// A machine that is on.
#[derive(Debug)]
pub struct Machine {
    process: Child,
    shared: Child,
    pub link: Arc<Link>,
}

impl Machine {
    /// The process that is the machine.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// All processes that belong to it.
    pub fn ids(&self) -> Vec<u32> {
        vec![self.process.id(), self.shared.id()]
    }

    /// Lets it run on when this process ends.
    pub fn release(&mut self) {
        self.process.release();
        self.shared.release();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.link.break_with("the guest was switched off");
    }
}

/// Ends all waiting for a guest whose kernel has given up.
fn watch_console(path: &Path, link: Arc<Link>) -> Result<()> {
    let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            if is_fatal(&text) {
                link.break_with(text.trim());
            }
        }
    });
    Ok(())
}

/// Adds a file to a cpio archive ("newc"): the kernel unpacks one archive after the other.
fn append_to_archive(archive: &mut Vec<u8>, name: &str, content: &[u8]) -> Result<()> {
    for (name, mode, content) in [(name, 0o100_755, content), ("TRAILER!!!", 0, &[])] {
        archive.resize(archive.len().next_multiple_of(4), 0);
        let start = archive.len();
        write!(
            archive,
            "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}",
            1, 0, 0, 1, 0
        )?;
        write!(
            archive,
            "{:08x}{:08x}{:08x}{:08x}{:08x}",
            content.len(),
            0,
            0,
            0,
            0
        )?;
        write!(archive, "{:08x}{:08x}", name.len() + 1, 0)?;
        debug_assert_eq!(archive.len() - start, 110);
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(content);
    }
    archive.resize(archive.len().next_multiple_of(512), 0);
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! A private network: a namespace with a bridge and one tap device for each guest.
//!
//! Tap devices with a virtio header have scatter-gather, which a socket backend of QEMU has not.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use nix::sched::setns;
use nix::sched::unshare;
use nix::sched::CloneFlags;

use crate::children::Child;

/// The address of guest `index`.
pub fn address(index: usize) -> String {
    format!("10.77.0.{}", 11 + index)
}

/// The network of one cluster. The namespace is gone when this and the guests in it are.
#[derive(Debug)]
pub struct Network {
    namespace: Arc<File>,
}

impl Network {
    pub fn new(guests: usize) -> Result<Self> {
        // A new thread, because the namespace of this one is to stay.
        let namespace = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        })
        .join()
        .map_err(|_| anyhow::anyhow!("cannot make a network namespace"))??;
        let network = Self {
            namespace: Arc::new(namespace),
        };
        let mut batch = String::from(
            "link set lo up\nlink add br0 type bridge\naddress add 10.77.0.1/24 dev br0\n",
        );
        for index in 0..guests {
            let tap = tap(index);
            batch += &format!("tuntap add {tap} mode tap vnet_hdr\nlink set {tap} master br0\nlink set {tap} up\n");
        }
        batch += "link set br0 up\n";
        network.batch("ip", &batch)?;
        Ok(network)
    }

    pub fn namespace(&self) -> &Arc<File> {
        &self.namespace
    }

    /// Runs `ip` or `tc` with these lines.
    fn batch(&self, program: &str, lines: &str) -> Result<()> {
        let mut command = Command::new(program);
        command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Child::spawn(command, Some(&self.namespace))
            .with_context(|| format!("cannot run {program}"))?;
        let process = child.inner();
        if let Some(mut input) = process.stdin.take() {
            input.write_all(lines.as_bytes())?;
        }
        let mut errors = String::new();
        if let Some(mut pipe) = process.stderr.take() {
            std::io::Read::read_to_string(&mut pipe, &mut errors)?;
        }
        if !process.wait()?.success() {
            bail!("{program}: {}\n{lines}", errors.trim());
        }
        Ok(())
    }

    /// Nothing from or to this guest passes any more; the guest itself sees its link up.
    pub fn cut(&self, index: usize) -> Result<()> {
        self.batch("ip", &format!("link set {} nomaster\n", tap(index)))
    }

    pub fn restore(&self, index: usize) -> Result<()> {
        self.batch("ip", &format!("link set {} master br0\n", tap(index)))
    }

    /// Runs something with sockets in the network of the guests, with the address 10.77.0.1.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&*self.namespace, CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
                })
                .join()
                .map_err(|_| anyhow::anyhow!("panic inside the namespace"))?
        })
    }
}

/// The name of the tap device of guest `index`.
pub fn tap(index: usize) -> String {
    format!("tap{index}")
}

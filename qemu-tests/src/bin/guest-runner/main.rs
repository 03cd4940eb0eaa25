// SPDX-License-Identifier: GPL-2.0

//! Runs inside a guest and does what the harness asks for over a virtio-serial port: runs commands, copies files, reads
//! the kernel log. It is either init itself, for guests that are ready in a moment, or a service of the guest's init.

mod exec;
mod init;
mod port;
mod reaper;

use std::process::ExitCode;
use std::thread;

use qemu_tests::protocol::PORT_HARNESS;
use qemu_tests::protocol::PORT_SHELL;

fn main() -> ExitCode {
    let is_init = std::process::id() == 1;
    if is_init {
        init::mount_everything();
    }
    init::prepare(is_init);
    let reaper = reaper::Reaper::start();
    let ports: Vec<_> = [PORT_HARNESS, PORT_SHELL]
        .into_iter()
        .filter_map(|name| {
            let path = port::find(name)?;
            let reaper = reaper.clone();
            Some(thread::spawn(move || port::serve(&path, is_init, &reaper)))
        })
        .collect();
    if ports.is_empty() {
        init::complain("no virtio-serial port for the runner");
        return ExitCode::FAILURE;
    }
    init::notify_ready();
    for port in ports {
        let _ = port.join();
    }
    init::complain("all ports are gone");
    ExitCode::FAILURE
}

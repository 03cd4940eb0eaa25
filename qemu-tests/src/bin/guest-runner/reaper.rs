// SPDX-License-Identifier: GPL-2.0

//! Waits for all children, its own and those that the kernel hands to init.

use std::collections::HashMap;
use std::io;
use std::process::Child;
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;

use nix::errno::Errno;
use nix::sys::wait::waitid;
use nix::sys::wait::waitpid;
use nix::sys::wait::Id;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;

/// Exit code or signal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
}

type Table = HashMap<i32, Sender<Ended>>;

#[derive(Default)]
pub(crate) struct Reaper {
    /// Held while a child is made and while one is reaped: the status of a child is never collected before it is in
    /// the table, nor by someone else while `Command::spawn` waits for a child that could not execute.
    table: Mutex<Table>,
    started: Condvar,
}

impl Reaper {
    pub(crate) fn start() -> Arc<Self> {
        let reaper = Arc::new(Self::default());
        let runner = reaper.clone();
        thread::spawn(move || runner.run());
        reaper
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a command; its end arrives in the channel.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, Receiver<Ended>)> {
        let (sender, receiver) = channel();
        let mut table = self.table();
        let child = command.spawn()?;
        table.insert(child.id().cast_signed(), sender);
        self.started.notify_all();
        Ok((child, receiver))
    }

    fn run(&self) {
        loop {
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Err(Errno::ECHILD) => {
                    // Nobody can appear but through `spawn`: an orphan is handed over before its parent is reaped.
                    let mut table = self.table();
                    if waitid(
                        Id::All,
                        WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG,
                    ) == Err(Errno::ECHILD)
                    {
                        table.clear();
                        drop(self.started.wait(table));
                    }
                }
                Err(_) => {}
                Ok(status) => {
                    let mut table = self.table();
                    let ended = match status {
                        WaitStatus::Exited(_, code) => Ended::Code(code),
                        WaitStatus::Signaled(_, signal, _) => Ended::Signal(signal as i32),
                        _ => continue,
                    };
                    let Some(pid) = status.pid() else { continue };
                    if waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok() {
                        if let Some(waiter) = table.remove(&pid.as_raw()) {
                            let _ = waiter.send(ended);
                        }
                    }
                }
            }
        }
    }
}

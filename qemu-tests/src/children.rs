// SPDX-License-Identifier: GPL-2.0

//! Processes that end with this one.
//!
//! Each child asks the kernel to be killed when the thread that made it ends (`PR_SET_PDEATHSIG` looks at threads). One
//! thread that lives as long as this process makes them all, therefore even a harness that is killed leaves nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::process::Command;
use std::process::ExitStatus;
use std::sync::mpsc::channel;
use std::sync::mpsc::Sender;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::thread;

use nix::sched::setns;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;

struct Job {
    command: Command,
    namespace: Option<Arc<File>>,
    inherit: Vec<OwnedFd>,
    outlive: bool,
    reply: Sender<io::Result<process::Child>>,
}

fn spawner() -> &'static Sender<Job> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel::<Job>();
        thread::spawn(move || {
            for mut job in receiver {
                let parent = process::id();
                // SAFETY: only system calls that are async-signal-safe; the namespace file is open until spawn returns.
                unsafe {
                    let namespace = job.namespace.clone();
                    let outlive = job.outlive;
                    let inherit: Vec<i32> = job.inherit.iter().map(AsRawFd::as_raw_fd).collect();
                    job.command.pre_exec(move || {
                        if !outlive {
                            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                            if nix::unistd::getppid().as_raw().cast_unsigned() != parent {
                                return Err(io::Error::other("the harness has gone"));
                            }
                        }
                        // A Ctrl-C is for the harness, which then ends its guests in order.
                        nix::unistd::setsid()?;
                        if let Some(namespace) = &namespace {
                            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
                        }
                        for &descriptor in &inherit {
                            if libc::fcntl(descriptor, libc::F_SETFD, 0) < 0 {
                                return Err(io::Error::last_os_error());
                            }
                        }
                        Ok(())
                    });
                }
                let _ = job.reply.send(job.command.spawn());
            }
        });
        sender
    })
}

static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A directory that is to be removed when a signal ends this process.
pub fn remove_on_signals(directory: &Path) {
    DIRECTORIES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(directory.to_owned());
}

/// The directory is gone, or is to stay.
pub fn forget_directory(directory: &Path) {
    DIRECTORIES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|other| other != directory);
}

/// Ends this process on SIGINT, SIGTERM and SIGHUP, with all its children and directories.
pub fn end_on_signals() -> io::Result<()> {
    let mut signals =
        signal_hook::iterator::Signals::new([libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("interrupted");
            for directory in DIRECTORIES
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .drain(..)
            {
                let _ = std::fs::remove_dir_all(directory);
            }
            // The children die with the thread that has made them.
            process::exit(128 + signal);
        }
    });
    Ok(())
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    outlive: bool,
}

impl Child {
    /// Starts a command, in a network namespace if one is given.
    pub fn spawn(command: Command, namespace: Option<&Arc<File>>) -> io::Result<Self> {
        Self::start(command, namespace, Vec::new(), false)
    }

    /// The same for one that gets some open files, under the numbers they have here, and that can go on when this
    /// process has ended (after [`Child::release`]).
    pub fn start(
        command: Command,
        namespace: Option<&Arc<File>>,
        inherit: Vec<OwnedFd>,
        outlive: bool,
    ) -> io::Result<Self> {
        let (reply, answer) = channel();
        let job = Job {
            command,
            namespace: namespace.cloned(),
            inherit,
            outlive,
            reply,
        };
        spawner()
            .send(job)
            .map_err(|_| io::Error::other("the spawner has ended"))?;
        let process = answer
            .recv()
            .map_err(|_| io::Error::other("the spawner has ended"))??;
        Ok(Self {
            process,
            outlive: false,
        })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn inner(&mut self) -> &mut process::Child {
        &mut self.process
    }

    pub fn has_ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Lets it go on; its number is in [`Child::id`].
    pub fn release(&mut self) {
        self.outlive = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.outlive {
            self.kill();
        }
    }
}

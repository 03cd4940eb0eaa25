// SPDX-License-Identifier: GPL-2.0

//! Commands and their streams.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::Sender;
use std::sync::Arc;
use std::thread;
use std::thread::JoinHandle;

use nix::fcntl::fcntl;
use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use nix::poll::poll;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::pty::openpty;
use nix::pty::OpenptyResult;
use nix::pty::Winsize;
use nix::sys::eventfd::EfdFlags;
use nix::sys::eventfd::EventFd;
use nix::sys::signal::killpg;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use qemu_tests::protocol::Exec;
use qemu_tests::protocol::Reply;
use qemu_tests::protocol::Stream;
use qemu_tests::protocol::CHUNK;

use crate::port::Output;
use crate::reaper::Ended;
use crate::reaper::Reaper;

/// A command that runs.
pub(crate) struct Running {
    pid: u32,
    /// What to write to its stdin; nothing ends it.
    input: Option<Sender<Vec<u8>>>,
    terminal: Option<OwnedFd>,
}

impl Running {
    pub(crate) fn input(&mut self, data: Vec<u8>) {
        if data.is_empty() {
            self.input = None;
        } else if let Some(input) = &self.input {
            let _ = input.send(data);
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        if let Ok(signal) = Signal::try_from(signal) {
            let _ = killpg(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Some(terminal) = &self.terminal {
            // SAFETY: the descriptor is open while `terminal` lives, and TIOCSWINSZ only reads a winsize.
            unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        }
    }
}

fn appended(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn output_stream(stream: &Stream) -> io::Result<Stdio> {
    Ok(match stream {
        Stream::Null => Stdio::null(),
        Stream::Pipe => Stdio::piped(),
        Stream::File(path) => appended(path)?.into(),
    })
}

fn input_stream(stream: &Stream) -> io::Result<Stdio> {
    Ok(match stream {
        Stream::Null => Stdio::null(),
        Stream::Pipe => Stdio::piped(),
        Stream::File(path) => File::open(path)?.into(),
    })
}

/// Starts a command. It is the leader of a session of its own and inherits nothing but its three streams.
pub(crate) fn start(
    id: u32,
    exec: &Exec,
    reaper: &Reaper,
    output: &Arc<Output>,
) -> io::Result<Running> {
    let (program, arguments) = exec
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("no program"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(exec.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(exec.cwd.as_deref().unwrap_or("/"));
    if let Some((user, group)) = exec.user {
        command.uid(user).gid(group);
    }
    if exec.terminal {
        return start_on_terminal(id, command, reaper, output);
    }
    command.stdin(input_stream(&exec.stdin)?);
    command.stdout(output_stream(&exec.stdout)?);
    command.stderr(output_stream(&exec.stderr)?);
    // SAFETY: setsid is async-signal-safe and touches no memory of this process.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        })
    };
    let (mut child, ended) = reaper.spawn(&mut command)?;
    let pid = child.id();
    output.send(&Reply::Started { id, pid });
    let over = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    let input = child
        .stdin
        .take()
        .map(|pipe| feed(File::from(OwnedFd::from(pipe))));
    let readers: Vec<JoinHandle<()>> = [
        child.stdout.take().map(|pipe| (OwnedFd::from(pipe), false)),
        child.stderr.take().map(|pipe| (OwnedFd::from(pipe), true)),
    ]
    .into_iter()
    .flatten()
    .map(|(pipe, error)| {
        let output = output.clone();
        let over = over.clone();
        thread::spawn(move || forward(id, error, pipe, &over, &output))
    })
    .collect();
    finish(id, ended, over, readers, output.clone());
    Ok(Running {
        pid,
        input,
        terminal: None,
    })
}

fn start_on_terminal(
    id: u32,
    mut command: Command,
    reaper: &Reaper,
    output: &Arc<Output>,
) -> io::Result<Running> {
    let OpenptyResult { master, slave } = openpty(None, None)?;
    fcntl(&master, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    fcntl(&slave, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    command
        .stdin(slave.try_clone()?)
        .stdout(slave.try_clone()?)
        .stderr(slave);
    // SAFETY: both calls are async-signal-safe and touch no memory of this process; stdin is the terminal by then.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        })
    };
    let (child, ended) = reaper.spawn(&mut command)?;
    // The command holds copies of the terminal's other end, which must not keep it open here.
    drop(command);
    let pid = child.id();
    output.send(&Reply::Started { id, pid });
    let over = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    let input = feed(File::from(master.try_clone()?));
    let terminal = master.try_clone()?;
    let reader = {
        let output = output.clone();
        let over = over.clone();
        thread::spawn(move || forward(id, false, master, &over, &output))
    };
    finish(id, ended, over, vec![reader], output.clone());
    Ok(Running {
        pid,
        input: Some(input),
        terminal: Some(terminal),
    })
}

/// Writes what comes through the channel until it closes or nobody reads any more.
fn feed(mut pipe: File) -> Sender<Vec<u8>> {
    let (sender, receiver) = channel::<Vec<u8>>();
    thread::spawn(move || {
        for data in receiver {
            if pipe.write_all(&data).is_err() {
                break;
            }
        }
    });
    sender
}

/// Sends what comes out of the pipe until it ends, or until the command is over and the pipe is empty: a child that the
/// command leaves behind with the pipe open does not keep it waiting.
fn forward(id: u32, error: bool, pipe: OwnedFd, over: &EventFd, output: &Output) {
    let mut pipe = File::from(pipe);
    let mut buffer = vec![0; CHUNK];
    let mut draining = false;
    loop {
        if !draining {
            let mut descriptors = [
                PollFd::new(pipe.as_fd(), PollFlags::POLLIN),
                PollFd::new(over.as_fd(), PollFlags::POLLIN),
            ];
            if poll(&mut descriptors, PollTimeout::NONE).is_err() {
                continue;
            }
            let is_over = descriptors[1].any().unwrap_or(false);
            if is_over {
                draining = true;
                let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            }
        }
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => output.send(&Reply::Output {
                id,
                error,
                data: buffer[..length].to_vec(),
            }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Empty; or, for a terminal, closed.
            Err(_) => break,
        }
    }
}

/// Reports the end of a command once its output has been sent.
fn finish(
    id: u32,
    ended: Receiver<Ended>,
    over: Arc<EventFd>,
    readers: Vec<JoinHandle<()>>,
    output: Arc<Output>,
) {
    thread::spawn(move || {
        let ended = ended.recv();
        let _ = over.write(1);
        for reader in readers {
            let _ = reader.join();
        }
        let (code, signal) = match ended {
            Ok(Ended::Code(code)) => (Some(code), None),
            Ok(Ended::Signal(signal)) => (None, Some(signal)),
            Err(_) => (None, None),
        };
        output.send(&Reply::Exited { id, code, signal });
    });
}

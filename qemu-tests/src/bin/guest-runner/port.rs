// SPDX-License-Identifier: GPL-2.0

//! One virtio-serial port: takes requests and answers them.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use nix::sys::reboot::reboot;
use nix::sys::reboot::RebootMode;
use qemu_tests::protocol;
use qemu_tests::protocol::Decoder;
use qemu_tests::protocol::Item;
use qemu_tests::protocol::KmsgRecord;
use qemu_tests::protocol::Reply;
use qemu_tests::protocol::Request;
use qemu_tests::protocol::CHUNK;

use crate::exec;
use crate::init::complain;
use crate::reaper::Reaper;

/// The sending half of a port.
pub(crate) struct Output(Mutex<File>);

impl Output {
    pub(crate) fn send(&self, reply: &Reply) {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A harness that has gone away is not waiting for an answer.
        let _ = protocol::send(&mut *port, reply);
    }

    fn greet(&self, reply: &Reply) -> io::Result<()> {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(&protocol::sync_word())?;
        protocol::send(&mut *port, reply)
    }
}

/// The device of the port with this name.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim() == name {
            return Some(Path::new("/dev").join(entry.file_name()));
        }
    }
    None
}

/// Serves one client after the other.
pub(crate) fn serve(path: &Path, is_init: bool, reaper: &Reaper) {
    let port = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(port) => port,
        Err(error) => return complain(&format!("cannot open {}: {error}", path.display())),
    };
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let hello = Reply::Hello {
        version: protocol::VERSION,
        boot_id,
        init: is_init,
    };
    loop {
        let output = match port.try_clone() {
            Ok(port) => Arc::new(Output(Mutex::new(port))),
            Err(error) => return complain(&format!("cannot use {}: {error}", path.display())),
        };
        // This waits until somebody has connected to the other side.
        if let Err(error) = output.greet(&hello) {
            return complain(&format!("cannot write to {}: {error}", path.display()));
        }
        if let Err(error) = converse(&port, &output, reaper) {
            complain(&format!("{}: {error}", path.display()));
        }
    }
}

/// Answers requests until the client goes away.
fn converse(mut port: &File, output: &Arc<Output>, reaper: &Reaper) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; CHUNK];
    let mut commands = HashMap::new();
    loop {
        let length = port.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        decoder.push(&buffer[..length]);
        while let Some(item) = decoder.take::<Request>()? {
            match item {
                Item::Sync => commands.clear(),
                Item::Message(request) => answer(request, output, reaper, &mut commands),
            }
        }
    }
}

fn answer(
    request: Request,
    output: &Arc<Output>,
    reaper: &Reaper,
    commands: &mut HashMap<u32, exec::Running>,
) {
    match request {
        Request::Attach => {}
        Request::Exec { id, exec } => match exec::start(id, &exec, reaper, output) {
            Ok(running) => {
                commands.insert(id, running);
            }
            Err(error) => {
                let program = exec.argv.first().map_or("", String::as_str);
                output.send(&Reply::Failed {
                    id,
                    message: format!("{program}: {error}"),
                });
            }
        },
        Request::Stdin { id, data } => {
            if let Some(command) = commands.get_mut(&id) {
                command.input(data);
            }
        }
        Request::Signal { id, signal } => {
            if let Some(command) = commands.get(&id) {
                command.signal(signal);
            }
        }
        Request::Resize { id, rows, columns } => {
            if let Some(command) = commands.get(&id) {
                command.resize(rows, columns);
            }
        }
        Request::Write {
            id,
            path,
            mode,
            append,
            data,
        } => {
            output.send(&done(id, &path, write(&path, mode, append, &data)));
        }
        Request::Read { id, path } => {
            let output = output.clone();
            thread::spawn(move || output.send(&done(id, &path, read(id, &path, &output))));
        }
        Request::Kmsg { id, since } => match kmsg(since) {
            Ok(records) => {
                for records in records.chunks(64) {
                    output.send(&Reply::Kmsg {
                        id,
                        records: records.to_vec(),
                    });
                }
                output.send(&Reply::Kmsg {
                    id,
                    records: Vec::new(),
                });
            }
            Err(error) => output.send(&Reply::Failed {
                id,
                message: format!("/dev/kmsg: {error}"),
            }),
        },
        Request::Processes { id } => output.send(&match processes() {
            Ok(processes) => Reply::Processes { id, processes },
            Err(error) => Reply::Failed {
                id,
                message: format!("/proc: {error}"),
            },
        }),
        Request::Sync { id } => {
            let output = output.clone();
            thread::spawn(move || {
                nix::unistd::sync();
                output.send(&Reply::Done { id });
            });
        }
        Request::Reset => {
            nix::unistd::sync();
            let _ = reboot(RebootMode::RB_AUTOBOOT);
        }
    }
}

fn done(id: u32, path: &str, result: io::Result<()>) -> Reply {
    match result {
        Ok(()) => Reply::Done { id },
        Err(error) => Reply::Failed {
            id,
            message: format!("{path}: {error}"),
        },
    }
}

fn write(path: &str, mode: u32, append: bool, data: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).mode(mode);
    if append {
        options.append(true);
    } else {
        options.write(true).truncate(true);
    }
    options.open(path)?.write_all(data)
}

fn read(id: u32, path: &str, output: &Output) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        output.send(&Reply::Output {
            id,
            error: false,
            data: buffer[..length].to_vec(),
        });
    }
}

fn processes() -> io::Result<Vec<(u32, String)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // It may be gone by now.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line)
            .trim_end_matches('\0')
            .replace('\0', " ");
        if !line.is_empty() {
            processes.push((pid, line));
        }
    }
    Ok(processes)
}

/// Everything that is in the kernel log from record `since` on.
fn kmsg(since: u64) -> io::Result<Vec<KmsgRecord>> {
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")?;
    let mut records = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        let length = match log.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(records),
            // Records were overwritten while we read: go on with the oldest that is left.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(error) => return Err(error),
        };
        let record = String::from_utf8_lossy(&buffer[..length]);
        // priority,sequence,microseconds,flags[,…];text, then indented lines of a dictionary.
        let Some((head, text)) = record.split_once(';') else {
            continue;
        };
        let mut fields = head.split(',');
        let mut number = || {
            fields
                .next()
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let (priority, sequence, microseconds) = (number(), number(), number());
        if sequence >= since {
            let text = text.lines().next().unwrap_or("").to_owned();
            records.push(KmsgRecord {
                sequence,
                priority: (priority & 7) as u8,
                microseconds,
                text,
            });
        }
    }
}

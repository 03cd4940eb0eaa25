// SPDX-License-Identifier: GPL-2.0
//! From records to an image. What refers to what is checked afterwards, in `validate`.

use super::Image;
use super::ImageError;
use super::OpenFile;
use super::PipeBytes;
use super::RegisterSet;
use super::ThreadCredentials;
use super::ThreadImage;
use super::ThreadPlacement;
use super::MAX_EPOLL_ENTRIES;
use super::MAX_FILES;
use super::MAX_LOCKS;
use super::MAX_PENDING;
use super::MAX_PIPE_BYTES;
use super::MAX_THREADS;
use super::MAX_TIMERS;
use super::MAX_VMAS;
use pmig_wire::cred::Credentials;
use pmig_wire::event::EpollEntry;
use pmig_wire::event::Eventfd;
use pmig_wire::event::Signalfd;
use pmig_wire::event::Timerfd;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileLock;
use pmig_wire::file::PipeData;
use pmig_wire::mm::Memory;
use pmig_wire::mm::Vma;
use pmig_wire::process::Clocks;
use pmig_wire::process::Limits;
use pmig_wire::process::Namespaces;
use pmig_wire::process::Process;
use pmig_wire::record::Kind;
use pmig_wire::record::Payload;
use pmig_wire::record::Reader;
use pmig_wire::record::Record;
use pmig_wire::signal::Action;
use pmig_wire::signal::Pending;
use pmig_wire::thread::Placement;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Restart;
use pmig_wire::thread::Thread;
use pmig_wire::timer::IntervalTimer;
use pmig_wire::timer::PosixTimer;
use std::collections::HashMap;
use zerocopy::FromZeros;

/// What has been read so far.
#[derive(Default)]
struct Draft {
    process: Option<Process>,
    limits: Option<Limits>,
    clocks: Option<Clocks>,
    namespaces: Option<Namespaces>,
    memory: Option<(Memory, Vec<u8>)>,
    vmas: Vec<Vma>,
    files: Vec<OpenFile>,
    descriptors: Vec<Descriptor>,
    pipe_data: Vec<PipeBytes>,
    pipe_bytes: usize,
    eventfds: Vec<Eventfd>,
    signalfds: Vec<Signalfd>,
    timerfds: Vec<Timerfd>,
    epoll_entries: Vec<EpollEntry>,
    locks: Vec<FileLock>,
    threads: Vec<ThreadImage>,
    thread_index: HashMap<u32, usize>,
    actions: Vec<Action>,
    pending: Vec<Pending>,
    interval_timers: Vec<IntervalTimer>,
    posix_timers: Vec<PosixTimer>,
}

/// Reads all records of `bytes`.
pub(super) fn decode(bytes: &[u8]) -> Result<Image, ImageError> {
    let mut draft = Draft::default();
    for record in Reader::new(bytes) {
        draft.take(&record.map_err(ImageError::Decode)?)?;
    }
    draft.finish()
}

fn parse<'a, T: Payload>(record: &Record<'a>) -> Result<(&'a T, &'a [u8]), ImageError> {
    record.parse().map_err(ImageError::Decode)
}

fn once<T>(place: &mut Option<T>, kind: Kind, value: T) -> Result<(), ImageError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(ImageError::Duplicate(kind, 0)),
    }
}

fn push<T>(list: &mut Vec<T>, kind: Kind, most: usize, value: T) -> Result<(), ImageError> {
    if list.len() >= most {
        return Err(ImageError::TooMany(kind));
    }
    list.push(value);
    Ok(())
}

impl Draft {
    fn take(&mut self, record: &Record<'_>) -> Result<(), ImageError> {
        let kind = record.kind;
        if self.process.is_none() && kind != Kind::Process {
            return Err(ImageError::Missing(Kind::Process));
        }
        match kind {
            Kind::Process => once(&mut self.process, kind, *parse(record)?.0),
            Kind::Limits => once(&mut self.limits, kind, *parse(record)?.0),
            Kind::Clocks => once(&mut self.clocks, kind, *parse(record)?.0),
            Kind::Namespaces => once(&mut self.namespaces, kind, *parse(record)?.0),
            Kind::Memory => {
                let (memory, auxv) = parse::<Memory>(record)?;
                once(&mut self.memory, kind, (*memory, auxv.to_vec()))
            }
            Kind::Vma => push(&mut self.vmas, kind, MAX_VMAS, *parse(record)?.0),
            Kind::File => {
                let (file, path) = parse::<File>(record)?;
                let open = OpenFile {
                    file: *file,
                    path: path.to_vec(),
                };
                push(&mut self.files, kind, MAX_FILES, open)
            }
            Kind::Descriptor => push(&mut self.descriptors, kind, MAX_FILES, *parse(record)?.0),
            Kind::PipeData => {
                let (data, bytes) = parse::<PipeData>(record)?;
                self.pipe_bytes = self.pipe_bytes.saturating_add(bytes.len());
                if bytes.is_empty() || self.pipe_bytes > MAX_PIPE_BYTES {
                    return Err(ImageError::TooMany(kind));
                }
                self.pipe_data.push(PipeBytes {
                    inode: data.inode.get(),
                    bytes: bytes.to_vec(),
                });
                Ok(())
            }
            Kind::Eventfd => push(&mut self.eventfds, kind, MAX_FILES, *parse(record)?.0),
            Kind::Signalfd => push(&mut self.signalfds, kind, MAX_FILES, *parse(record)?.0),
            Kind::Timerfd => push(&mut self.timerfds, kind, MAX_FILES, *parse(record)?.0),
            Kind::EpollEntry => push(
                &mut self.epoll_entries,
                kind,
                MAX_EPOLL_ENTRIES,
                *parse(record)?.0,
            ),
            Kind::FileLock => push(&mut self.locks, kind, MAX_LOCKS, *parse(record)?.0),
            Kind::Thread => self.take_thread(*parse(record)?.0),
            Kind::Registers => {
                let (registers, bytes) = parse::<Registers>(record)?;
                let thread = self.thread(kind, registers.tid.get())?;
                let note = registers.note;
                if thread
                    .registers
                    .iter()
                    .any(|set| set.registers.note == note)
                {
                    return Err(ImageError::Duplicate(kind, registers.tid.get().into()));
                }
                thread.registers.push(RegisterSet {
                    registers: *registers,
                    bytes: bytes.to_vec(),
                });
                Ok(())
            }
            Kind::Restart => {
                let (restart, _) = parse::<Restart>(record)?;
                let tid = restart.tid.get();
                match self.thread(kind, tid)?.restart.replace(*restart) {
                    None => Ok(()),
                    Some(_) => Err(ImageError::Duplicate(kind, tid.into())),
                }
            }
            Kind::Placement => {
                let (placement, cpus) = parse::<Placement>(record)?;
                let tid = placement.tid.get();
                let own = ThreadPlacement {
                    placement: *placement,
                    cpus: cpus.to_vec(),
                };
                match self.thread(kind, tid)?.placement.replace(own) {
                    None => Ok(()),
                    Some(_) => Err(ImageError::Duplicate(kind, tid.into())),
                }
            }
            Kind::Credentials => self.take_credentials(record),
            Kind::SignalAction => push(&mut self.actions, kind, 64, *parse(record)?.0),
            Kind::PendingSignal => push(
                &mut self.pending,
                kind,
                MAX_PENDING,
                *parse::<Pending>(record)?.0,
            ),
            Kind::IntervalTimer => push(&mut self.interval_timers, kind, 3, *parse(record)?.0),
            Kind::PosixTimer => push(&mut self.posix_timers, kind, MAX_TIMERS, *parse(record)?.0),
            _ => Err(ImageError::Unconsumed(kind)),
        }
    }

    fn take_thread(&mut self, thread: Thread) -> Result<(), ImageError> {
        let tid = thread.tid.get();
        if self.thread_index.insert(tid, self.threads.len()).is_some() {
            return Err(ImageError::Duplicate(Kind::Thread, tid.into()));
        }
        let image = ThreadImage {
            thread,
            registers: Vec::new(),
            restart: None,
            credentials: None,
            placement: None,
        };
        push(&mut self.threads, Kind::Thread, MAX_THREADS, image)
    }

    fn take_credentials(&mut self, record: &Record<'_>) -> Result<(), ImageError> {
        let (credentials, tail) = parse::<Credentials>(record)?;
        let tid = credentials.tid.get();
        let groups = tail.chunks_exact(4);
        if !groups.remainder().is_empty() || groups.len() > pmig_wire::cred::MAX_GROUPS {
            return Err(ImageError::Invalid {
                kind: Kind::Credentials,
                object: tid.into(),
                reason: "the list of groups is too long or not a list of numbers",
            });
        }
        let groups = groups
            .filter_map(|group| group.first_chunk::<4>())
            .map(|group| u32::from_le_bytes(*group))
            .collect();
        let own = ThreadCredentials {
            credentials: *credentials,
            groups,
        };
        match self
            .thread(Kind::Credentials, tid)?
            .credentials
            .replace(own)
        {
            None => Ok(()),
            Some(_) => Err(ImageError::Duplicate(Kind::Credentials, tid.into())),
        }
    }

    fn thread(&mut self, kind: Kind, tid: u32) -> Result<&mut ThreadImage, ImageError> {
        self.thread_index
            .get(&tid)
            .and_then(|index| self.threads.get_mut(*index))
            .ok_or(ImageError::Unresolved {
                kind,
                object: tid.into(),
                target: Kind::Thread,
                reference: tid.into(),
            })
    }

    fn finish(mut self) -> Result<Image, ImageError> {
        let process = self.process.ok_or(ImageError::Missing(Kind::Process))?;
        let mut image = Image::empty(process.pid.get());
        image.process = process;
        let alive = image.is_alive();
        fn require<T>(kind: Kind, value: Option<T>, alive: bool, none: T) -> Result<T, ImageError> {
            match value {
                Some(value) => Ok(value),
                None if alive => Err(ImageError::Missing(kind)),
                None => Ok(none),
            }
        }
        image.limits = require(Kind::Limits, self.limits, alive, Limits::new_zeroed())?;
        image.clocks = require(Kind::Clocks, self.clocks, alive, Clocks::new_zeroed())?;
        image.namespaces = require(
            Kind::Namespaces,
            self.namespaces,
            alive,
            Namespaces::new_zeroed(),
        )?;
        let none = (Memory::new_zeroed(), Vec::new());
        (image.memory, image.auxv) = require(Kind::Memory, self.memory, alive, none)?;
        self.files.sort_by_key(OpenFile::id);
        self.descriptors
            .sort_by_key(|descriptor| descriptor.fd.get());
        self.eventfds.sort_by_key(|one| one.file.get());
        self.signalfds.sort_by_key(|one| one.file.get());
        self.timerfds.sort_by_key(|one| one.file.get());
        image.vmas = self.vmas;
        image.files = self.files;
        image.descriptors = self.descriptors;
        image.pipe_data = self.pipe_data;
        image.eventfds = self.eventfds;
        image.signalfds = self.signalfds;
        image.timerfds = self.timerfds;
        image.epoll_entries = self.epoll_entries;
        image.locks = self.locks;
        image.threads = self.threads;
        image.actions = self.actions;
        image.pending = self.pending;
        image.interval_timers = self.interval_timers;
        image.posix_timers = self.posix_timers;
        Ok(image)
    }
}

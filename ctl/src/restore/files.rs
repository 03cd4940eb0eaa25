// SPDX-License-Identifier: GPL-2.0
//! Open files: opened again by path, with their descriptors and mappings.

use super::events;
use super::identity;
use super::list::args;
use super::list::Argument;
use super::list::Call;
use super::list::List;
use super::memory;
use super::vessel::Vessel;
use super::Moment;
use super::VesselError;
use crate::image::Image;
use crate::image::OpenFile;
use crate::image::Uses;
use crate::sys::file::Status;
use crate::sys::file::STATX_FLAGS;
use crate::sys::file::STATX_MASK;
use crate::sys::file::STATX_SIZE;
use pmig_wire::file::open;
use pmig_wire::file::Descriptor;
use pmig_wire::file::FileKind;
use pmig_wire::file::DESCRIPTOR_CLOEXEC;
use pmig_wire::record::Kind;

/// Flags of a description that `fcntl(F_SETFL)` sets.
const SETTABLE: [(u32, i32); 4] = [
    (open::APPEND, libc::O_APPEND),
    (open::NONBLOCK, libc::O_NONBLOCK),
    (open::DIRECT, libc::O_DIRECT),
    (open::NOATIME, libc::O_NOATIME),
];
/// Flags that only `open` sets.
const AT_OPEN: [(u32, i32); 5] = [
    (open::SYNC, libc::O_SYNC),
    (open::DSYNC, libc::O_DSYNC),
    (open::DIRECTORY, libc::O_DIRECTORY),
    (open::NOFOLLOW, libc::O_NOFOLLOW),
    (open::PATH, libc::O_PATH),
];

fn flags(of: &OpenFile, table: &[(u32, i32)]) -> i32 {
    table
        .iter()
        .filter(|(bit, _)| of.has(*bit))
        .fold(0, |sum, (_, flag)| sum | flag)
}

/// The access mode.
pub(super) fn access(of: &OpenFile) -> i32 {
    match (of.has(open::READ), of.has(open::WRITE)) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    }
}

/// The flags that `F_SETFL` sets.
pub(super) fn status_flags(of: &OpenFile) -> i32 {
    flags(of, &SETTABLE)
}

/// Whose rights are used to open a file. A network file system may trust the user of the process and not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    /// The user that the process is for file systems.
    User { uid: u32, gid: u32 },
    /// Root.
    Root,
}

impl Opener {
    fn of(image: &Image) -> Self {
        let leader = image
            .threads
            .first()
            .and_then(|one| one.credentials.as_ref());
        match leader {
            Some(own) if own.credentials.fsuid.get() != 0 || own.credentials.fsgid.get() != 0 => {
                Self::User {
                    uid: own.credentials.fsuid.get(),
                    gid: own.credentials.fsgid.get(),
                }
            }
            _ => Self::Root,
        }
    }

    /// Adds taking the identity on. The two calls have no way to fail.
    pub(super) fn begin(self, list: &mut List) {
        if let Self::User { uid, gid } = self {
            list.attempt("become the user", libc::SYS_setfsgid, args![gid]);
            list.attempt("become the user", libc::SYS_setfsuid, args![uid]);
        }
    }

    /// Adds putting the identity down.
    pub(super) fn end(self, list: &mut List) {
        if let Self::User { .. } = self {
            list.attempt("become root", libc::SYS_setfsuid, args![0]);
            list.attempt("become root", libc::SYS_setfsgid, args![0]);
        }
    }

    /// Who tries next if this one was refused with `result`.
    fn next(self, result: i64) -> Option<Self> {
        let refused = [libc::EACCES, libc::EPERM].map(|number| -i64::from(number));
        (self != Self::Root && refused.contains(&result)).then_some(Self::Root)
    }
}

/// Makes files and descriptors.
pub(super) struct Files<'a> {
    pub(super) vessel: &'a Vessel,
    pub(super) image: &'a Image,
    pub(super) opener: Opener,
    uses: Uses<'a>,
    /// This number and all above are in nobody's way.
    pub(super) scratch: u32,
}

/// How many descriptors beyond those of the process are open at a time, at most.
const SPARE: u32 = 8;

impl<'a> Files<'a> {
    pub(super) fn new(vessel: &'a Vessel, image: &'a Image) -> Self {
        let used = image
            .descriptors
            .iter()
            .map(|descriptor| descriptor.fd.get());
        // Under some of these numbers an epoll set knows a file that has another one by now.
        let added = image.epoll_entries.iter().map(|entry| entry.fd.get());
        let last = used.chain(added).max().unwrap_or(0);
        Self {
            vessel,
            image,
            opener: Opener::of(image),
            uses: image.uses(),
            scratch: last.saturating_add(1),
        }
    }

    /// The soft limit of descriptors that is needed.
    pub(super) fn limit(&self) -> u64 {
        u64::from(self.scratch.saturating_add(SPARE))
    }

    /// Makes all of them.
    pub(super) fn build(&self) -> Result<(), VesselError> {
        self.take_groups()?;
        for of in &self.image.files {
            let descriptors = !self.uses.descriptors(of.id()).is_empty();
            if !self.uses.any(of.id()) {
                continue;
            }
            match of.kind() {
                FileKind::Regular | FileKind::Directory | FileKind::MemoryDevice => {
                    self.file(of)?;
                }
                FileKind::Pipe => {}
                FileKind::Eventfd | FileKind::Signalfd | FileKind::Timerfd | FileKind::Epoll => {
                    events::make(self, of)?;
                }
                // Shared anonymous memory is made with the mappings.
                FileKind::Memfd if !descriptors => {}
                kind => {
                    let object = format!("{} ({kind:?})", of.display());
                    return Err(VesselError::Unsupported { object });
                }
            }
        }
        super::pipes::build(self)?;
        events::watch(self)
    }

    /// The descriptor with this number.
    pub(super) fn descriptor(&self, fd: u32) -> Option<&'a Descriptor> {
        let all = &self.image.descriptors;
        let index = all.binary_search_by_key(&fd, |one| one.fd.get()).ok()?;
        all.get(index)
    }

    /// A number that the open file `id` has.
    pub(super) fn number_of(&self, id: u32) -> Option<u32> {
        Some(self.uses.descriptors(id).first()?.fd.get())
    }

    /// The groups of the process decide what its user may open.
    fn take_groups(&self) -> Result<(), VesselError> {
        let leader = self
            .image
            .threads
            .first()
            .and_then(|one| one.credentials.as_ref());
        let Some(own) = leader.filter(|_| self.opener != Opener::Root) else {
            return Ok(());
        };
        let mut list = List::new();
        super::credentials::set_groups(&mut list, &own.groups);
        self.vessel.run(&list)?;
        Ok(())
    }

    /// Opens one file, places its descriptors, makes its mappings.
    fn file(&self, of: &OpenFile) -> Result<(), VesselError> {
        if of.path.is_empty() || of.has(open::TMPFILE) || of.has(open::UNLINKED) {
            return Err(VesselError::Unsupported {
                object: of.display(),
            });
        }
        let finish = |list: &mut List, call: Call| {
            self.place(list, of, call);
            for one in self.uses.vmas(of.id()) {
                memory::map(list, one, Some(call))?;
            }
            list.call("close a file", libc::SYS_close, args![call]);
            Ok(())
        };
        self.open(of, finish).map(|_| ())
    }

    /// Opens a file at a number that is in nobody's way, goes on as `rest` says, and checks that it is the right file.
    /// Returns the number.
    fn open(
        &self,
        of: &OpenFile,
        rest: impl Fn(&mut List, Call) -> Result<(), VesselError>,
    ) -> Result<u32, VesselError> {
        let mut opener = self.opener;
        loop {
            let mut list = List::new();
            let path = list.path(&of.path);
            let room = list.room(STATX_SIZE);
            let nothing = list.path(b"");
            // Without O_NONBLOCK, a named pipe that took the file's place would block the vessel.
            let how = access(of)
                | flags(of, &AT_OPEN)
                | flags(of, &SETTABLE)
                | libc::O_NOCTTY
                | libc::O_NONBLOCK
                | libc::O_CLOEXEC;
            opener.begin(&mut list);
            let arguments = args![libc::AT_FDCWD, path, how, 0];
            let opened = list.attempt(
                format!("open {}", of.display()),
                libc::SYS_openat,
                arguments,
            );
            opener.end(&mut list);
            let call = self.lift(&mut list, opened);
            let arguments = args![call, nothing, STATX_FLAGS, STATX_MASK, room];
            list.call(
                format!("look at {}", of.display()),
                libc::SYS_statx,
                arguments,
            );
            if !of.has(open::PATH) {
                let arguments = args![call, libc::F_SETFL, status_flags(of)];
                list.call(
                    format!("set flags of {}", of.display()),
                    libc::SYS_fcntl,
                    arguments,
                );
                if of.kind() != FileKind::MemoryDevice && of.file.position.get() != 0 {
                    let position = of.file.position.get();
                    let what = format!("seek in {}", of.display());
                    let arguments = args![call, position, libc::SEEK_SET];
                    list.expect(what, libc::SYS_lseek, arguments, position);
                }
            }
            rest(&mut list, call)?;
            let answers = self.vessel.run_some(&list)?;
            let result = answers.of(opened);
            if result < 0 {
                match opener.next(result) {
                    Some(next) => opener = next,
                    None => return Err(VesselError::call(list.what(opened.index()), result)),
                }
                continue;
            }
            // First of all: another file explains every other failure.
            if let Some(status) = Status::from_bytes(answers.bytes(room, STATX_SIZE)) {
                if let Some(difference) = identity::compare(of, &status, Moment::Frozen) {
                    return Err(VesselError::FileDiffers {
                        path: of.display(),
                        difference: difference.text().to_owned(),
                    });
                }
            }
            if answers.completed < list.len() {
                let result = answers.results.get(answers.completed).copied().unwrap_or(0);
                return Err(VesselError::call(list.what(answers.completed), result));
            }
            return Ok(answers.of(call) as u32);
        }
    }

    /// Adds the moving of a fresh descriptor above all numbers that the process uses.
    pub(super) fn lift(&self, list: &mut List, fresh: impl Into<Argument> + Copy) -> Call {
        let arguments = [
            fresh.into(),
            libc::F_DUPFD_CLOEXEC.into(),
            self.scratch.into(),
        ];
        let call = list.call("move a descriptor", libc::SYS_fcntl, &arguments);
        list.call("close a descriptor", libc::SYS_close, &[fresh.into()]);
        call
    }

    /// Adds the placing of all descriptors of an open file.
    pub(super) fn place(&self, list: &mut List, of: &OpenFile, from: impl Into<Argument> + Copy) {
        for descriptor in self.uses.descriptors(of.id()) {
            let cloexec = descriptor.flags.get() & DESCRIPTOR_CLOEXEC != 0;
            let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
            let fd = descriptor.fd.get();
            let arguments = [from.into(), fd.into(), flags.into()];
            list.expect(
                format!("place descriptor {fd}"),
                libc::SYS_dup3,
                &arguments,
                fd.into(),
            );
        }
    }

    /// Opens the executable for `prctl`. Returns its number; it must be closed again.
    pub(super) fn executable(&self) -> Result<Option<u32>, VesselError> {
        let id = self.image.process.executable.get();
        if id == 0 {
            return Ok(None);
        }
        let mut of = self
            .image
            .file(id)
            .ok_or(VesselError::Incomplete(Kind::File))?
            .clone();
        of.file.flags.set(open::READ);
        of.file.position.set(0);
        self.open(&of, |_, _| Ok(())).map(Some)
    }

    /// Closes a descriptor.
    pub(super) fn close(&self, fd: u32) -> Result<(), VesselError> {
        let mut list = List::new();
        list.call("close a descriptor", libc::SYS_close, args![fd]);
        self.vessel.run(&list)?;
        Ok(())
    }

    /// Sets working directory, root and umask. After this, paths mean what they mean to the process.
    pub(super) fn directories(&self) -> Result<(), VesselError> {
        let process = &self.image.process;
        let file = |id: u32| self.image.file(id).filter(|of| !of.path.is_empty());
        if let Some(of) = file(process.working_directory.get()) {
            let what = format!("change to {}", of.display());
            self.go(what, libc::SYS_chdir, &of.path)?;
        }
        if let Some(of) = file(process.root_directory.get()).filter(|of| of.path != b"/") {
            let what = format!("take {} as root", of.display());
            self.go(what, libc::SYS_chroot, &of.path)?;
        }
        let mut list = List::new();
        list.call("set the umask", libc::SYS_umask, args![process.umask.get()]);
        self.vessel.run(&list)?;
        Ok(())
    }

    fn go(&self, what: String, number: libc::c_long, path: &[u8]) -> Result<(), VesselError> {
        let mut opener = if number == libc::SYS_chroot {
            Opener::Root
        } else {
            self.opener
        };
        loop {
            let mut list = List::new();
            let path = list.path(path);
            opener.begin(&mut list);
            let call = list.attempt(what.clone(), number, args![path]);
            opener.end(&mut list);
            let result = self.vessel.run(&list)?.of(call);
            match opener.next(result) {
                Some(next) => opener = next,
                None if result < 0 => return Err(VesselError::call(what, result)),
                None => return Ok(()),
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Open files, and the paths that lead to them.

use crate::kx::task::Task;
use crate::sys;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

/// A counted reference to an open file.
pub(crate) struct FileRef(NonNull<bindings::file>);

// SAFETY: A reference to a file may be used and dropped anywhere.
unsafe impl Send for FileRef {}
// SAFETY: All methods only read.
unsafe impl Sync for FileRef {}

impl Drop for FileRef {
    fn drop(&mut self) {
        // SAFETY: The reference is ours to drop.
        unsafe { bindings::fput(self.0.as_ptr()) };
    }
}

/// What `stat` says of a file, and what kind of file system it is on.
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) device: u64,
    pub(crate) special: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) mtime_seconds: i64,
    pub(crate) mtime_nanoseconds: u32,
    /// `f_type` of statfs: the file system's magic number.
    pub(crate) magic: u64,
}

/// What a pipe is like from outside.
pub(crate) struct PipeFacts {
    /// Its address, to compare by.
    pub(crate) key: usize,
    /// Open files that lead to it.
    pub(crate) files: u32,
    /// Its capacity in bytes.
    pub(crate) capacity: u64,
}

fn attributes_of(path: &bindings::path) -> Result<Attributes> {
    let mut stat = MaybeUninit::<bindings::kstat>::zeroed();
    // SAFETY: The path is held by its file or directory; zeroes are a valid kstat. May sleep here.
    let (stat, magic) = unsafe {
        to_result(bindings::vfs_getattr_nosec(
            path,
            stat.as_mut_ptr(),
            bindings::STATX_BASIC_STATS,
            bindings::AT_STATX_SYNC_AS_STAT,
        ))?;
        (stat.assume_init(), (*(*path.dentry).d_sb).s_magic)
    };
    // SAFETY: Only arithmetic.
    let (device, special) = unsafe {
        (
            sys::pmig_encode_dev(stat.dev),
            sys::pmig_encode_dev(stat.rdev),
        )
    };
    Ok(Attributes {
        mode: u32::from(stat.mode),
        device,
        special,
        inode: stat.ino,
        size: u64::try_from(stat.size).unwrap_or(0),
        mtime_seconds: stat.mtime.tv_sec,
        mtime_nanoseconds: u32::try_from(stat.mtime.tv_nsec).unwrap_or(0),
        magic: magic as u64,
    })
}

/// The path as the caller sees it, and whether the name is gone.
fn name_of<'a>(path: &bindings::path, buffer: &'a mut [u8]) -> Result<(&'a [u8], bool)> {
    let length = i32::try_from(buffer.len()).map_err(|_| EINVAL)?;
    let start = buffer.as_mut_ptr();
    // SAFETY: The path is held by its file or directory, the buffer is `length` bytes long.
    let (name, unlinked) = unsafe {
        (
            bindings::d_path(path, start.cast(), length),
            sys::pmig_d_unlinked(path.dentry),
        )
    };
    let name = kernel::error::from_err_ptr(name)?;
    let offset = (name as usize).checked_sub(start as usize).ok_or(EINVAL)?;
    let bytes = buffer.get(offset..).ok_or(EINVAL)?;
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(EINVAL)?;
    let bytes = bytes.get(..end).ok_or(EINVAL)?;
    // What d_path appends to a name that is gone (fs/d_path.c).
    let bytes = match unlinked {
        true => bytes.strip_suffix(b" (deleted)").unwrap_or(bytes),
        false => bytes,
    };
    Ok((bytes, unlinked))
}

impl FileRef {
    /// Takes over a counted reference, or nothing.
    ///
    /// # Safety
    ///
    /// `file` must be null or a reference that the caller owns.
    pub(super) unsafe fn from_counted(file: *mut bindings::file) -> Option<Self> {
        NonNull::new(file).map(Self)
    }

    /// Counts a reference to `file`, or to nothing.
    ///
    /// # Safety
    ///
    /// `file` must be null or valid during the call.
    pub(super) unsafe fn count(file: *mut bindings::file) -> Option<Self> {
        let file = NonNull::new(file)?;
        // SAFETY: Valid, as the caller says.
        unsafe { bindings::get_file(file.as_ptr()) };
        Some(Self(file))
    }

    /// The next open file of `task` at or after descriptor `*fd`, which becomes its number.
    pub(crate) fn next_of(task: &Task, fd: &mut u32) -> Option<Self> {
        // SAFETY: The task is alive; the call returns a counted reference or null (fs/file.c).
        NonNull::new(unsafe { bindings::fget_task_next(task.as_ptr(), fd) }).map(Self)
    }

    /// The address, to compare and sort by: the identity of the open file description.
    pub(crate) fn key(&self) -> usize {
        self.0.as_ptr() as usize
    }

    fn raw(&self) -> &bindings::file {
        // SAFETY: The reference keeps the file alive. What changes is read as single words.
        unsafe { self.0.as_ref() }
    }

    fn path(&self) -> &bindings::path {
        // SAFETY: Both names of the union are the same type; the path is constant while the file is open.
        unsafe { &self.raw().__bindgen_anon_1.f_path }
    }

    /// References to the open file, this one included.
    pub(crate) fn references(&self) -> usize {
        // SAFETY: The file is alive.
        unsafe { sys::pmig_file_count(self.0.as_ptr()) }
    }

    /// What `stat` says of it.
    pub(crate) fn attributes(&self) -> Result<Attributes> {
        attributes_of(self.path())
    }

    /// The path that the caller sees, and whether the name is gone.
    pub(crate) fn name<'a>(&self, buffer: &'a mut [u8]) -> Result<(&'a [u8], bool)> {
        name_of(self.path(), buffer)
    }

    /// `O_*` flags without the access mode.
    pub(crate) fn open_flags(&self) -> u32 {
        self.raw().f_flags
    }

    /// `FMODE_*`: bit 0 for reading, bit 1 for writing.
    pub(crate) fn mode(&self) -> u32 {
        self.raw().f_mode
    }

    /// The file position.
    pub(crate) fn position(&self) -> u64 {
        u64::try_from(self.raw().f_pos).unwrap_or(0)
    }

    /// Whether somebody asked for signals from it.
    pub(crate) fn has_owner(&self) -> bool {
        // SAFETY: The file is alive.
        unsafe { sys::pmig_file_has_owner(self.0.as_ptr()) }
    }

    /// Whether `task` holds a lock or lease through it.
    pub(crate) fn has_locks(&self, task: &Task) -> bool {
        // SAFETY: Both are alive; the table's address is only compared.
        unsafe { sys::pmig_file_has_locks(self.0.as_ptr(), task.raw().files) }
    }

    /// Facts of the pipe that it is an end of, if it is one.
    pub(crate) fn pipe(&self) -> Option<PipeFacts> {
        // SAFETY: The file is alive; a pipe belongs to its inode, which the file keeps.
        let pipe = unsafe { NonNull::new(sys::pmig_file_pipe(self.0.as_ptr())) }?;
        // SAFETY: Single words of a structure that lives as long as the file.
        let (files, slots) = unsafe {
            (
                sys::pmig_pipe_files(pipe.as_ptr()),
                sys::pmig_pipe_slots(pipe.as_ptr()),
            )
        };
        Some(PipeFacts {
            key: pipe.as_ptr() as usize,
            files,
            capacity: u64::from(slots).wrapping_shl(bindings::PAGE_SHIFT),
        })
    }
}

/// Whether descriptor `fd` of `task` is closed by `execve`.
pub(crate) fn close_on_exec(task: &Task, fd: u32) -> bool {
    // SAFETY: The task is alive.
    unsafe { sys::pmig_close_on_exec(task.as_ptr(), fd) }
}

/// A counted reference to a directory: a working directory or a root.
pub(crate) struct DirectoryRef(bindings::path);

// SAFETY: A reference to a path may be used and dropped anywhere that may sleep.
unsafe impl Send for DirectoryRef {}

impl Drop for DirectoryRef {
    fn drop(&mut self) {
        // SAFETY: The reference is ours to drop.
        unsafe { bindings::path_put(&self.0) };
    }
}

impl DirectoryRef {
    fn of(
        task: &Task,
        get: unsafe extern "C" fn(*mut bindings::task_struct, *mut bindings::path) -> bool,
    ) -> Option<Self> {
        let mut path = MaybeUninit::<bindings::path>::zeroed();
        // SAFETY: The task is alive; zeroes are a valid path, and on success it is a counted one.
        unsafe { get(task.as_ptr(), path.as_mut_ptr()).then(|| Self(path.assume_init())) }
    }

    /// The working directory of `task`.
    pub(crate) fn working(task: &Task) -> Option<Self> {
        Self::of(task, sys::pmig_task_working_directory)
    }

    /// The root directory of `task`.
    pub(crate) fn root(task: &Task) -> Option<Self> {
        Self::of(task, sys::pmig_task_root)
    }

    /// What `stat` says of it.
    pub(crate) fn attributes(&self) -> Result<Attributes> {
        attributes_of(&self.0)
    }

    /// The path that the caller sees, and whether the name is gone.
    pub(crate) fn name<'a>(&self, buffer: &'a mut [u8]) -> Result<(&'a [u8], bool)> {
        name_of(&self.0, buffer)
    }
}

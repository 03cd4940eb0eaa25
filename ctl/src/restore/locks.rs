// SPDX-License-Identifier: GPL-2.0
//! Locks on files, taken by the vessel for itself. Closing any descriptor of a file gives the process's locks on it back, so
//! they are taken when nothing is closed any more.

use super::list::args;
use super::list::List;
use super::vessel::Vessel;
use super::VesselError;
use crate::image::Image;
use pmig_wire::file::LockKind;
use pmig_wire::record::Kind;

/// Locks that are taken with one list.
const BATCH: usize = 4096;

/// Takes all locks.
pub(super) fn take(vessel: &Vessel, image: &Image) -> Result<(), VesselError> {
    let uses = image.uses();
    for locks in image.locks.chunks(BATCH) {
        let mut list = List::new();
        for lock in locks {
            let id = lock.file.get();
            let descriptor = uses.descriptors(id).first();
            let fd = descriptor
                .ok_or(VesselError::Incomplete(Kind::Descriptor))?
                .fd
                .get();
            let name = image.file(id).map_or_else(String::new, |of| of.display());
            let what = format!("take a lock of {name}");
            let exclusive = lock.exclusive.get() != 0;
            let command = match LockKind::from_wire(lock.kind.get()) {
                Some(LockKind::Process) => libc::F_SETLK,
                Some(LockKind::OpenFile) => libc::F_OFD_SETLK,
                Some(LockKind::Whole) => {
                    let how = if exclusive {
                        libc::LOCK_EX
                    } else {
                        libc::LOCK_SH
                    };
                    list.call(what, libc::SYS_flock, args![fd, how | libc::LOCK_NB]);
                    continue;
                }
                _ => return Err(VesselError::Unsupported { object: what }),
            };
            let how = if exclusive {
                libc::F_WRLCK
            } else {
                libc::F_RDLCK
            };
            let (start, last) = (lock.start.get(), lock.last.get());
            // 0 is up to the end.
            let length = match last {
                u64::MAX => 0,
                last => last.saturating_sub(start).saturating_add(1),
            };
            // struct flock: kind and whence, start, length, PID.
            let place = list.words(&[how as u64, start, length, 0]);
            list.call(what, libc::SYS_fcntl, args![fd, command, place]);
        }
        vessel.run(&list)?;
    }
    Ok(())
}

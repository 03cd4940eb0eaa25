// SPDX-License-Identifier: GPL-2.0
//! Threads: their making, and what each of them does for itself in the end.

use super::abi::PAGE;
use super::control::Control;
use super::credentials;
use super::list::args;
use super::list::List;
use super::VesselError;
use crate::image::Image;
use crate::image::ThreadImage;
use pmig_wire::record::Kind;
use pmig_wire::thread::NO_NEW_PRIVS;
use std::fs;

/// Threads that are made with one list.
pub(super) const BATCH: usize = 8192;
/// `CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM`
const FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;

/// Name of a vessel until it gets that of the program.
const VESSEL_NAME: &str = "pmig-vessel";

/// A thread of a vessel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VesselThread {
    /// TID on this host.
    pub(super) host_tid: u32,
    /// Its slot.
    pub(super) slot: usize,
}

/// A list that makes threads with these TIDs in these slots, for a vessel that gets it alone.
pub(super) fn make(control: &Control, threads: &[(u32, usize)]) -> List {
    const WORDS: usize = 11;
    const SET_TID: usize = 8 * 8;
    let mut list = List::new();
    let mut pointers = Vec::with_capacity(threads.len());
    for (tid, slot) in threads {
        let stack = control.slot_address(*slot);
        let set_tid = list.data(&tid.to_le_bytes());
        // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        // set_tid_size, cgroup
        let arguments = list.words(&[FLAGS, 0, 0, 0, 0, stack, PAGE, 0, 0, 1, 0]);
        list.spawn(arguments, 8 * WORDS, stack, *tid);
        pointers.push((arguments, set_tid));
    }
    // Addresses are known only now that the list has its length.
    for (arguments, set_tid) in pointers {
        let address = list.address_of(set_tid, control.list_address());
        list.set_word(arguments, SET_TID, address);
    }
    list
}

/// Whether a number is that of a task on this host.
pub(super) fn in_use(tid: u32) -> bool {
    fs::metadata(format!("/proc/{tid}")).is_ok()
}

/// Whether a number is that of a task that ends by itself soon: one that nobody has waited for, or a vessel that was killed
/// or belongs to a migration that fails.
pub(super) fn is_ending(tid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
    let Some((name, rest)) = text
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(") "))
    else {
        return false;
    };
    rest.starts_with(['Z', 'X']) || name == VESSEL_NAME
}

/// The TIDs of a process on this host, and what they are in its own PID namespace.
pub(super) fn numbers(pid: u32) -> std::io::Result<Vec<(u32, u32)>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = entry?.file_name();
        let Some(host_tid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(tid) = super::spawn::namespace_pids(host_tid).last() {
            numbers.push((host_tid, *tid));
        }
    }
    Ok(numbers)
}

/// What a thread does for itself when all else is done. `all` are the capabilities it has, `bounding` those it could get.
pub(super) fn finish(
    image: &Image,
    one: &ThreadImage,
    all: u64,
    bounding: u64,
) -> Result<List, VesselError> {
    const PR_SET_PDEATHSIG: u64 = 1;
    const PR_SET_NAME: u64 = 15;
    const PR_SET_TIMERSLACK: u64 = 29;
    const PR_SET_NO_NEW_PRIVS: u64 = 38;
    let mut list = List::new();
    let thread = &one.thread;
    let mut comm = thread.comm.to_vec();
    comm.push(0);
    let comm = list.data(&comm);
    list.call("set the name", libc::SYS_prctl, args![PR_SET_NAME, comm]);
    if thread.timer_slack.get() != 0 {
        let arguments = args![PR_SET_TIMERSLACK, thread.timer_slack.get()];
        list.call("set the timer slack", libc::SYS_prctl, arguments);
    }
    // The addresses that the kernel writes to when a thread ends are the module's to set, with the thaw.
    alternate_stack(&mut list, one);
    if thread.flags.get() & NO_NEW_PRIVS != 0 {
        list.call(
            "set no_new_privs",
            libc::SYS_prctl,
            args![PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0],
        );
    }
    let own = image
        .credentials_of(one)
        .ok_or(VesselError::Incomplete(Kind::Credentials))?;
    credentials::become_user(&mut list, own, all, bounding);
    // A change of credentials takes it away, so it comes after.
    if thread.parent_death_signal.get() != 0 {
        let arguments = args![PR_SET_PDEATHSIG, thread.parent_death_signal.get()];
        list.call("set the parent death signal", libc::SYS_prctl, arguments);
    }
    Ok(list)
}

fn alternate_stack(list: &mut List, one: &ThreadImage) {
    const SS_DISABLE: u64 = 2;
    const SS_AUTODISARM: u64 = 1 << 31;
    let thread = &one.thread;
    let (start, size) = (thread.altstack_start.get(), thread.altstack_size.get());
    let flags = u64::from(thread.altstack_flags.get());
    let stack = if size == 0 || flags & SS_DISABLE != 0 {
        [0, SS_DISABLE, 0]
    } else {
        [start, flags & SS_AUTODISARM, size]
    };
    let stack = list.words(&stack);
    list.call(
        "set the alternate signal stack",
        libc::SYS_sigaltstack,
        args![stack, 0],
    );
}

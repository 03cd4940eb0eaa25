// SPDX-License-Identifier: GPL-2.0
//! Other processes.

use super::answer;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::ptr;
use std::time::Duration;

/// A descriptor of the process `pid`.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = answer(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A copy of the descriptor `fd` of the process.
pub fn pidfd_getfd(process: BorrowedFd<'_>, fd: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = answer(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether the entry of the epoll set `set` of the process that was added as the number `fd`, the `index`th of that number,
/// watches the file that its descriptor `candidate` names.
pub fn epoll_watches(pid: u32, set: u32, fd: u32, index: u32, candidate: u32) -> io::Result<bool> {
    /// `KCMP_EPOLL_TFD` and `struct kcmp_epoll_slot` of include/uapi/linux/kcmp.h.
    const KCMP_EPOLL_TFD: u32 = 7;
    let slot = [set, fd, index];
    // SAFETY: the slot lives as long as the call.
    let order = answer(unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            pid,
            pid,
            KCMP_EPOLL_TFD,
            u64::from(candidate),
            slot.as_ptr(),
        )
    })?;
    Ok(order == 0)
}

/// Sends a signal to the process.
pub fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: the kernel takes a null pointer as no siginfo.
    answer(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            none,
            0,
        )
    })?;
    Ok(())
}

/// Whether the process ends within `timeout`, or has ended.
pub fn pidfd_wait(process: BorrowedFd<'_>, timeout: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = timeout.as_millis().try_into().unwrap_or(i32::MAX);
    // SAFETY: one entry that lives as long as the call.
    unsafe { libc::poll(&mut poll, 1, milliseconds) > 0 && poll.revents != 0 }
}

/// Sets a resource limit of a process.
pub fn set_limit(pid: u32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    let none = ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the limit lives as long as the call.
    answer(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            ptr::from_ref(&limit),
            none,
        )
    })?;
    Ok(())
}

/// A resource limit of a process: the soft and the hard one.
pub fn limit(pid: u32, resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let none = ptr::null::<libc::rlimit64>();
    // SAFETY: the limit lives as long as the call.
    answer(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            none,
            ptr::from_mut(&mut limit),
        )
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// How a thread is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`
    pub policy: u32,
    /// New children get the default policy.
    pub reset_on_fork: bool,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 for the real-time policies, else 0.
    pub priority: u32,
}

/// `struct sched_attr` of the kernel, first version.
#[repr(C)]
struct SchedulingAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how a thread is scheduled.
pub fn set_scheduling(tid: u32, scheduling: Scheduling) -> io::Result<()> {
    const RESET_ON_FORK: u64 = 1;
    let attributes = SchedulingAttributes {
        size: size_of::<SchedulingAttributes>() as u32,
        policy: scheduling.policy,
        flags: if scheduling.reset_on_fork {
            RESET_ON_FORK
        } else {
            0
        },
        nice: scheduling.nice,
        priority: scheduling.priority,
        runtime: 0,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the structure lives as long as the call and says its size.
    answer(unsafe { libc::syscall(libc::SYS_sched_setattr, tid, ptr::from_ref(&attributes), 0) })?;
    // Other classes than SCHED_OTHER and SCHED_BATCH have a nice value too, which the call above leaves as it is.
    // SAFETY: plain numbers.
    answer(i64::from(unsafe {
        libc::setpriority(libc::PRIO_PROCESS, tid, scheduling.nice)
    }))?;
    Ok(())
}

/// The capabilities of the calling thread: the effective and the bounding set.
pub fn own_capabilities() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let set = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
            .unwrap_or(0)
    };
    (set("CapEff:"), set("CapBnd:"))
}

/// The CPUs that a thread may run on: bit n of byte n / 8 for each.
pub fn cpus(tid: u32) -> io::Result<Vec<u8>> {
    let mut set = vec![0u8; pmig_wire::thread::MAX_CPU_SET];
    // SAFETY: the buffer has this many bytes. The kernel answers how many it wrote.
    let length = answer(unsafe {
        libc::syscall(
            libc::SYS_sched_getaffinity,
            tid,
            set.len(),
            set.as_mut_ptr(),
        )
    })?;
    set.truncate(length as usize);
    Ok(set)
}

/// Sets the CPUs that a thread may run on.
pub fn set_cpus(tid: u32, set: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer has this many bytes.
    answer(unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, set.len(), set.as_ptr()) })?;
    Ok(())
}

/// `IOPRIO_WHO_PROCESS` of include/uapi/linux/ioprio.h, which means a thread.
const IOPRIO_WHO_PROCESS: u32 = 1;

/// The priority of a thread's input and output, as `ioprio_get(2)`; 0 if it has none of its own.
pub fn io_priority(tid: u32) -> io::Result<u32> {
    const CLASS_SHIFT: u32 = 13;
    // SAFETY: no memory is passed.
    let priority = answer(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) })?;
    // Without a class it follows the nice value.
    let priority = priority as u32;
    Ok(if priority >> CLASS_SHIFT == 0 {
        0
    } else {
        priority
    })
}

/// Sets the priority of a thread's input and output.
pub fn set_io_priority(tid: u32, priority: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    answer(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, priority) })?;
    Ok(())
}

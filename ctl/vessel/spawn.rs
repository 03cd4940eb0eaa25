// SPDX-License-Identifier: GPL-2.0
//! From the program that the agent started to the process that serves lists.
//!
//! | process | is | ends |
//! |---|---|---|
//! | spawner | the agent's child | when the agent tells it to, or kills its child when the agent is gone |
//! | init | only with a PID namespace: its PID 1, named `pmig-init` | when its last child has ended |
//! | vessel | the moved process to be | - |

use crate::abi::step;
use crate::abi::Header;
use crate::abi::Slot;
use crate::abi::FAILED;
use crate::abi::INTO_CGROUP;
use crate::abi::KEEP;
use crate::abi::MAGIC;
use crate::abi::PAGE;
use crate::abi::PID_NAMESPACE;
use crate::abi::READY;
use crate::abi::RELEASE;
use crate::abi::TIME_NAMESPACE;
use crate::server;
use crate::sys;
use crate::sys::syscall;
use core::arch::asm;
use core::ptr;
use core::sync::atomic::Ordering;

const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const SIGKILL: u64 = 9;
/// `__WALL`
const WALL: u64 = 0x4000_0000;
/// The end of user addresses with four levels of page tables.
const ADDRESS_END: u64 = 0x7fff_ffff_f000;

/// `struct clone_args` of the kernel.
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The first function of the program.
///
/// # Safety
///
/// Called once, by `_start`.
pub unsafe extern "C" fn start() -> ! {
    // SAFETY: maps new memory.
    let header = unsafe {
        let page = map_control(PAGE);
        let size = (*page).control_size;
        if (*page).magic != MAGIC {
            sys::exit(3);
        }
        map_control(size)
    };
    // SAFETY: the agent filled the header, and it stays mapped.
    unsafe { run(header) }
}

/// Maps the first `size` bytes of the shared memory.
///
/// # Safety
///
/// Descriptor 0 is the shared memory.
unsafe fn map_control(size: u64) -> *mut Header {
    // SAFETY: a new mapping.
    let address = unsafe { syscall(sys::MMAP, [0, size, sys::PROT_RW, sys::MAP_SHARED, 0, 0]) };
    if (-4095..0).contains(&address) {
        sys::exit(2);
    }
    address as *mut Header
}

/// Reports a failure to the agent and ends.
fn fail(header: &Header, step: u32, result: i64) -> ! {
    header.failed_step.store(step, Ordering::Relaxed);
    header.errno.store((-result) as u32, Ordering::Relaxed);
    header.state.store(FAILED, Ordering::Release);
    sys::wake(&header.state);
    sys::exit(1)
}

fn check(header: &Header, step: u32, result: i64) -> i64 {
    if (-4095..0).contains(&result) {
        fail(header, step, result);
    }
    result
}

/// # Safety
///
/// `header` is mapped, with all of the shared memory behind it.
unsafe fn run(raw: *mut Header) -> ! {
    // SAFETY: as the caller says; both sides write only the atomic fields from now on.
    let header = unsafe { &*raw };
    // SAFETY: the calls change only this process and what it will make; buffers are in the header.
    unsafe {
        let agent = syscall(sys::GETPPID, [0; 6]);
        if header.flags & TIME_NAMESPACE != 0 {
            let result = syscall(sys::UNSHARE, [CLONE_NEWTIME, 0, 0, 0, 0, 0]);
            check(header, step::TIME_NAMESPACE, result);
            let file = open_offsets();
            check(header, step::CLOCK_OFFSETS, file);
            let text = header.clock_offsets.as_ptr() as u64;
            let length = header.clock_offsets_length.into();
            let result = syscall(sys::WRITE, [file as u64, text, length, 0, 0, 0]);
            check(header, step::CLOCK_OFFSETS, result);
            syscall(sys::CLOSE, [file as u64, 0, 0, 0, 0, 0]);
        }
        let inside = header.flags & PID_NAMESPACE != 0;
        if inside {
            let result = syscall(sys::UNSHARE, [CLONE_NEWPID | CLONE_NEWNS, 0, 0, 0, 0, 0]);
            check(header, step::PID_NAMESPACE, result);
        }
        let child = clone(header, if inside { 0 } else { header.pid }, true);
        check(header, step::CLONE, child);
        if child == 0 {
            if inside {
                init(raw);
            }
            vessel(raw);
        }
        header.child.store(child as u32, Ordering::Release);
        spawner(header, agent, child)
    }
}

/// # Safety
///
/// Opens a descriptor.
unsafe fn open_offsets() -> i64 {
    const O_WRONLY: u64 = 1;
    // SAFETY: the path ends with a zero.
    unsafe {
        let path = c"/proc/self/timens_offsets".as_ptr() as u64;
        syscall(sys::OPEN, [path, O_WRONLY, 0, 0, 0, 0])
    }
}

/// Makes a process with the PID `pid`, or any for 0.
///
/// # Safety
///
/// Returns twice.
#[inline(always)]
unsafe fn clone(header: &Header, pid: u32, into_cgroup: bool) -> i64 {
    let into_cgroup = into_cgroup && header.flags & INTO_CGROUP != 0;
    let set_tid = [pid];
    let arguments = CloneArguments {
        flags: if into_cgroup { CLONE_INTO_CGROUP } else { 0 },
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: header.exit_signal.into(),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: if pid == 0 { 0 } else { set_tid.as_ptr() as u64 },
        set_tid_size: (pid != 0).into(),
        cgroup: into_cgroup.into(),
    };
    // SAFETY: the child gets a copy of the stack and goes on from here.
    unsafe {
        let size = size_of::<CloneArguments>() as u64;
        syscall(
            sys::CLONE3,
            [ptr::addr_of!(arguments) as u64, size, 0, 0, 0, 0],
        )
    }
}

/// Waits until the agent has what it needs of the child. Until then the child dies with the agent.
fn spawner(header: &Header, agent: i64, child: i64) -> ! {
    let tenth = [0, 100_000_000];
    loop {
        match header.release.load(Ordering::Acquire) {
            KEEP => {}
            RELEASE => sys::exit(0),
            // SAFETY: one's own child that was not yet waited for; afterwards its number is free again.
            _ => unsafe {
                syscall(sys::KILL, [child as u64, SIGKILL, 0, 0, 0, 0]);
                syscall(sys::WAIT4, [child as u64, 0, WALL, 0, 0, 0]);
                sys::exit(0);
            },
        }
        // SAFETY: the time lives on the stack; killing one's own child that was not yet waited for hits no other.
        unsafe {
            if syscall(sys::GETPPID, [0; 6]) != agent {
                syscall(sys::KILL, [child as u64, SIGKILL, 0, 0, 0, 0]);
                sys::exit(1);
            }
            sys::wait(&header.release, KEEP, &tenth);
        }
    }
}

/// PID 1 of a namespace: makes the vessel, and then only waits for children.
///
/// # Safety
///
/// As [`run`].
unsafe fn init(raw: *mut Header) -> ! {
    const MS_NOSUID_NODEV_NOEXEC: u64 = 2 | 4 | 8;
    const MS_REC_SLAVE: u64 = 0x4000 | (1 << 19);
    // SAFETY: as the caller says; the calls change only this process and its namespaces.
    unsafe {
        let header = &*raw;
        quiet();
        name(c"pmig-init");
        check(header, step::SESSION, syscall(sys::SETSID, [0; 6]));
        // What the host mounts and unmounts later shall be seen here too, but not the other way round.
        let root = c"/".as_ptr() as u64;
        let none = c"none".as_ptr() as u64;
        check(
            header,
            step::MOUNT,
            syscall(sys::MOUNT, [none, root, 0, MS_REC_SLAVE, 0, 0]),
        );
        let proc = c"proc".as_ptr() as u64;
        let place = c"/proc".as_ptr() as u64;
        let flags = MS_NOSUID_NODEV_NOEXEC;
        check(
            header,
            step::MOUNT,
            syscall(sys::MOUNT, [proc, place, proc, flags, 0, 0]),
        );
        let child = clone(header, header.pid, false);
        check(header, step::CLONE_INSIDE, child);
        if child == 0 {
            vessel(raw);
        }
        syscall(sys::CLOSE_RANGE, [0, u32::MAX.into(), 0, 0, 0, 0]);
        syscall(sys::MUNMAP, [raw as u64, header.control_size, 0, 0, 0, 0]);
        loop {
            let any = -1i64 as u64;
            if syscall(sys::WAIT4, [any, 0, WALL, 0, 0, 0]) == -sys::ECHILD {
                sys::exit(0);
            }
        }
    }
}

/// Sets the name of the calling thread.
///
/// # Safety
///
/// None beyond the call's.
unsafe fn name(name: &core::ffi::CStr) {
    const PR_SET_NAME: u64 = 15;
    // SAFETY: the name ends with a zero.
    unsafe { syscall(sys::PRCTL, [PR_SET_NAME, name.as_ptr() as u64, 0, 0, 0, 0]) };
}

/// Blocks all signals and gives all of them the default action: nothing that the agent or its parents ignored may stay.
///
/// # Safety
///
/// None beyond the calls'.
unsafe fn quiet() {
    const SIG_SETMASK: u64 = 2;
    let all = u64::MAX;
    let default = [0u64; 4];
    // SAFETY: both structures live on the stack. SIGKILL and SIGSTOP refuse, as they should.
    unsafe {
        syscall(
            sys::RT_SIGPROCMASK,
            [SIG_SETMASK, ptr::addr_of!(all) as u64, 0, 8, 0, 0],
        );
        let mut signal = 1;
        while signal <= 64 {
            syscall(
                sys::RT_SIGACTION,
                [signal, default.as_ptr() as u64, 0, 8, 0, 0],
            );
            signal += 1;
        }
    }
}

/// Moves code and shared memory to the stub and goes on there.
///
/// # Safety
///
/// As [`run`].
unsafe fn vessel(raw: *mut Header) -> ! {
    const MREMAP_MAYMOVE_FIXED: u64 = 1 | 2;
    // SAFETY: as the caller says. The stub is reserved without replacing anything, so what runs now stays intact.
    unsafe {
        let header = &*raw;
        quiet();
        name(c"pmig-vessel");
        check(header, step::SESSION, syscall(sys::SETSID, [0; 6]));
        let stub = header.stub_start;
        let (code_size, control_size) = (header.code_size, header.control_size);
        let flags =
            sys::MAP_PRIVATE | sys::MAP_ANONYMOUS | sys::MAP_NORESERVE | sys::MAP_FIXED_NOREPLACE;
        let whole = code_size.wrapping_add(control_size);
        let none = -1i64 as u64;
        let result = syscall(sys::MMAP, [stub, whole, sys::PROT_NONE, flags, none, 0]);
        check(header, step::STUB, result);
        let result = syscall(sys::MPROTECT, [stub, code_size, sys::PROT_RW, 0, 0, 0]);
        check(header, step::STUB, result);
        let (base, entry): (u64, u64);
        asm!("lea {}, [rip + __ehdr_start]", out(reg) base, options(nomem, nostack, preserves_flags));
        asm!("lea {}, [rip + {}]", out(reg) entry, sym arrive, options(nomem, nostack, preserves_flags));
        ptr::copy_nonoverlapping(base as *const u8, stub as *mut u8, code_size as usize);
        let result = syscall(sys::MPROTECT, [stub, code_size, sys::PROT_RX, 0, 0, 0]);
        check(header, step::STUB, result);
        syscall(sys::CLOSE_RANGE, [0, u32::MAX.into(), 0, 0, 0, 0]);
        let place = stub.wrapping_add(code_size);
        let arguments = [
            raw as u64,
            control_size,
            control_size,
            MREMAP_MAYMOVE_FIXED,
            place,
            0,
        ];
        check(header, step::MOVE, syscall(sys::MREMAP, arguments));
        let slot = place.wrapping_add(PAGE);
        asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {entry}",
            "ud2",
            stack = in(reg) slot.wrapping_add(PAGE),
            entry = in(reg) stub.wrapping_add(entry.wrapping_sub(base)),
            in("rdi") place,
            options(noreturn)
        );
    }
}

/// The first function at the new place: unmaps all the rest and serves.
///
/// # Safety
///
/// Runs in the stub on the stack of the first slot; `raw` is the header in the stub.
unsafe extern "C" fn arrive(raw: *mut Header) -> ! {
    // SAFETY: nothing outside the stub is used any more.
    unsafe {
        let header = &*raw;
        let stub = header.stub_start;
        let end = (raw as u64).wrapping_add(header.control_size);
        syscall(sys::MUNMAP, [0, stub, 0, 0, 0, 0]);
        syscall(
            sys::MUNMAP,
            [end, ADDRESS_END.wrapping_sub(end), 0, 0, 0, 0],
        );
        header.state.store(READY, Ordering::Release);
        sys::wake(&header.state);
        server::serve((raw as u64).wrapping_add(PAGE) as *mut Slot)
    }
}

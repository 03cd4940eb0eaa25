// SPDX-License-Identifier: GPL-2.0
//! System calls without a C library.

use core::arch::asm;
use core::arch::global_asm;
use core::sync::atomic::AtomicU32;

pub const MMAP: u64 = 9;
pub const MPROTECT: u64 = 10;
pub const MUNMAP: u64 = 11;
pub const RT_SIGACTION: u64 = 13;
pub const RT_SIGPROCMASK: u64 = 14;
pub const WRITE: u64 = 1;
pub const OPEN: u64 = 2;
pub const CLOSE: u64 = 3;
pub const MREMAP: u64 = 25;
pub const WAIT4: u64 = 61;
pub const KILL: u64 = 62;
pub const GETPPID: u64 = 110;
pub const SETSID: u64 = 112;
pub const PRCTL: u64 = 157;
pub const MOUNT: u64 = 165;
pub const FUTEX: u64 = 202;
pub const EXIT_GROUP: u64 = 231;
pub const UNSHARE: u64 = 272;
pub const CLONE3: u64 = 435;
pub const CLOSE_RANGE: u64 = 436;

pub const PROT_NONE: u64 = 0;
pub const PROT_RW: u64 = 3;
pub const PROT_RX: u64 = 5;
pub const MAP_SHARED: u64 = 1;
pub const MAP_PRIVATE: u64 = 2;
pub const MAP_ANONYMOUS: u64 = 0x20;
pub const MAP_NORESERVE: u64 = 0x4000;
pub const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

pub const ECHILD: i64 = 10;

/// One system call; the kernel's own answer.
///
/// # Safety
///
/// As the system call.
#[inline(always)]
pub unsafe fn syscall(number: u64, arguments: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result: i64;
    // SAFETY: the kernel clobbers rcx and r11 only; what the call does to memory is the caller's responsibility.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// Waits while `word` is `value`; for ever with a null `timeout`.
///
/// # Safety
///
/// `timeout` is null or the address of two 64-bit words.
pub unsafe fn wait(word: &AtomicU32, value: u32, timeout: *const [i64; 2]) {
    const FUTEX_WAIT: u64 = 0;
    // SAFETY: the word lives as long as the reference.
    unsafe {
        syscall(
            FUTEX,
            [
                word.as_ptr() as u64,
                FUTEX_WAIT,
                value.into(),
                timeout as u64,
                0,
                0,
            ],
        );
    }
}

/// Wakes all who wait for `word`.
pub fn wake(word: &AtomicU32) {
    const FUTEX_WAKE: u64 = 1;
    // SAFETY: the word lives as long as the reference, and FUTEX_WAKE does not touch it.
    unsafe {
        syscall(
            FUTEX,
            [word.as_ptr() as u64, FUTEX_WAKE, i32::MAX as u64, 0, 0, 0],
        );
    }
}

/// Ends the process.
pub fn exit(status: u64) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { syscall(EXIT_GROUP, [status, 0, 0, 0, 0, 0]) };
    }
}

extern "C" {
    /// Makes a thread that begins in `pmig_thread` with `slot`.
    ///
    /// # Safety
    ///
    /// `arguments` is the address of a `struct clone_args` of `size` bytes that gives the thread a stack of its own.
    pub fn pmig_clone_thread(arguments: u64, size: u64, slot: u64) -> i64;
}

// The new thread has the registers of its maker but a stack of its own, so nothing may be on the stack in between.
global_asm!(
    ".globl pmig_clone_thread",
    ".hidden pmig_clone_thread",
    ".type pmig_clone_thread,@function",
    "pmig_clone_thread:",
    "mov r8, rdx",
    "mov eax, 435",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2:",
    "xor ebp, ebp",
    "mov rdi, r8",
    "call {thread}",
    "ud2",
    thread = sym crate::server::pmig_thread,
);

// The compiler calls these for copies of structures.

/// # Safety
///
/// As in C.
#[no_mangle]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack));
    }
    to
}

/// # Safety
///
/// As in C.
#[no_mangle]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the range; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte as u8, options(nostack));
    }
    to
}

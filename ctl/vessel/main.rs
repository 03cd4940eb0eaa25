// SPDX-License-Identifier: GPL-2.0
//! The vessel: the process that becomes the moved one.
//!
//! The agent starts this program with the shared memory ([`abi`]) as descriptor 0. It makes the namespaces that the
//! process needs and then the process itself with the PID that it must have ([`spawn`]). That process copies this code to
//! an address that the moved program leaves free, unmaps everything else, closes all descriptors and then executes the
//! lists of system calls that the agent gives it ([`server`]).
//!
//! There is no C library: nothing may register rseq areas or robust lists, have thread-local storage, or be in the way of
//! the mappings to come. The code is copied and runs elsewhere, so it must not need relocations and has no writable data;
//! the build refuses a program that does.
#![no_std]
#![no_main]

#[allow(dead_code, reason = "the agent uses the rest")]
mod abi;
mod server;
mod spawn;
mod sys;

use core::arch::global_asm;

// Aligns the stack; the arguments are of no interest.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym spawn::start,
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(101)
}

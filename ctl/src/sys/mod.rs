// SPDX-License-Identifier: GPL-2.0
//! Raw system calls: the only part of the tool with `unsafe`.
//!
//! Each function is safe to call: it takes borrowed descriptors and slices, and answers with [`std::io::Result`].
#![allow(unsafe_code)]

pub mod file;
pub mod memory;
pub mod pagemap;
pub mod process;

use std::io;

/// The answer of a call of the C library that reports errors in `errno`.
fn answer(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

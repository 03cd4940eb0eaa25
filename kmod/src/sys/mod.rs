// SPDX-License-Identifier: GPL-2.0

//! C declarations that `kernel::bindings` lacks.
//!
//! Kbuild runs bindgen on `bindings.h` and `helpers.h` and keeps what `bindgen_parameters` lists. The result refers to
//! `kernel::bindings` for everything else, so a `task_struct` here is the `task_struct` there.

#![expect(
    clippy::all,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
#![allow(dead_code, improper_ctypes, clippy::undocumented_unsafe_blocks)]

include!(env!("PMIG_BINDINGS"));

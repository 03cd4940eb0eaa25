// SPDX-License-Identifier: GPL-2.0

//! C declarations that `kernel::bindings` lacks.
//!
//! Kbuild runs bindgen on `bindings.h` and `helpers.h` and keeps what `bindgen_parameters` lists. The result refers to
//! `kernel::bindings` for everything else, so a `task_struct` here is the `task_struct` there.

// As rust/bindings/lib.rs in the kernel.
#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

include!(env!("PMIG_BINDINGS"));

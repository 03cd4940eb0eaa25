// SPDX-License-Identifier: GPL-2.0
//! `pmigctl`: see [`pmig_ctl::cli`] for what it can do.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pmig_ctl::cmd::main()
}

// SPDX-License-Identifier: GPL-2.0

//! Runs the guest tests.

#[path = "../cases/mod.rs"]
mod cases;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use qemu_tests::children;
use qemu_tests::pool;

/// Runs pmig's tests in guests with the stock kernel.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only tests whose name contains one of these
    filter: Vec<String>,
    /// Filters are whole names
    #[arg(long)]
    exact: bool,
    /// Not those whose name contains one of these
    #[arg(long, value_name = "TEXT")]
    skip: Vec<String>,
    /// Print the names and end
    #[arg(long)]
    list: bool,
    /// How many clusters run at the same time; otherwise as many as there are processors, if there is memory
    #[arg(long, value_name = "N", env = "PMIG_TEST_JOBS")]
    jobs: Option<usize>,
    /// Run everything that many times
    #[arg(long, value_name = "N", default_value_t = 1)]
    repeat: usize,
    /// End after the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Write one line for each test, and the totals, to this file
    #[arg(long, value_name = "FILE")]
    summary_file: Option<PathBuf>,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        let matches = |text: &String| {
            if self.exact {
                name == text
            } else {
                name.contains(text.as_str())
            }
        };
        (self.filter.is_empty() || self.filter.iter().any(matches))
            && !self.skip.iter().any(|text| name.contains(text.as_str()))
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for case in cases::all() {
            if arguments.wants(case.name()) {
                println!("{}", case.name());
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    children::end_on_signals()?;
    let selected = (0..arguments.repeat)
        .flat_map(|_| cases::all())
        .filter(|case| arguments.wants(case.name()));
    let options = pool::Options {
        jobs: arguments.jobs.unwrap_or_else(pool::fitting_jobs),
        fail_fast: arguments.fail_fast,
        summary: arguments.summary_file.clone(),
    };
    let success = pool::run(selected.collect(), &options)?;
    Ok(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

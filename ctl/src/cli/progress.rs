// SPDX-License-Identifier: GPL-2.0
//! Progress on stderr: a bar on a terminal, one line a phase elsewhere.

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::time::Duration;

/// Shows how far a migration is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    silent: bool,
}

impl Progress {
    /// Progress of something called `name`. Nothing is shown if `silent`.
    pub fn new(name: &str, silent: bool) -> Self {
        let on_terminal = io::stderr().is_terminal() && !silent;
        let bar = on_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_prefix(name.to_owned());
            bar.set_style(spinner_style());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, silent }
    }

    /// A phase began.
    pub fn phase(&self, name: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(name.to_owned()),
            None if self.silent => {}
            // Nobody reads the progress if this fails, and the work goes on.
            None => drop(writeln!(io::stderr(), "pmigctl: {name}")),
        }
    }

    /// `done` of `total` bytes are moved.
    pub fn bytes(&self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if bar.length().is_none() && total > 0 {
                bar.set_style(bar_style());
            }
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix}: {msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}: {msg} {wide_bar} {bytes}/{total_bytes} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

// SPDX-License-Identifier: GPL-2.0

//! What the demonstration shows: its steps with their times, the program's log as it grows, and the report.

use std::fs::File;
use std::io::IsTerminal;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Result;
use qemu_tests::rig::scaled;
use serde::Deserialize;

/// The terminal.
pub(crate) struct Screen {
    begin: Instant,
    colors: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            colors: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colors {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Says what happens next.
    pub(crate) fn step(&self, text: &str) {
        let time = format!("[{:5.1} s]", self.begin.elapsed().as_secs_f64());
        println!("{} {text}", self.paint("1", &time));
    }

    /// Says more about it.
    pub(crate) fn note(&self, text: &str) {
        for line in text.lines() {
            println!("            {line}");
        }
    }

    /// Shows a line of the program's log; each node has its color.
    fn line(&self, line: &Line) {
        let color = if line.node == "node1" { "36" } else { "33" };
        println!(
            "            {} │ {}",
            self.paint(color, &line.node),
            line.text
        );
    }
}

/// A line that says how far the program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where the program was when it wrote it, by its own account.
    pub(crate) node: String,
    pub(crate) iteration: u64,
    text: String,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (text, node) = line.strip_prefix("iteration ")?.rsplit_once(" on ")?;
        Some(Self {
            node: node.to_owned(),
            iteration: text.split(' ').next()?.parse().ok()?,
            text: format!("iteration {text}"),
        })
    }
}

/// The program's log, followed as it grows.
pub(crate) struct Log {
    path: PathBuf,
    rest: String,
    offset: u64,
    pub(crate) last: Option<Line>,
}

impl Log {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            rest: String::new(),
            offset: 0,
            last: None,
        }
    }

    /// Shows what has been added, and gives how many lines those were.
    pub(crate) fn follow(&mut self, screen: &Screen) -> Result<usize> {
        use std::io::Seek;
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(0);
        };
        file.seek(std::io::SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let mut shown = 0;
        while let Some((line, rest)) = self.rest.split_once('\n') {
            if line.starts_with("FAIL") {
                bail!("the program has found an error: {line}");
            }
            if let Some(line) = Line::parse(line) {
                screen.line(&line);
                self.last = Some(line);
                shown += 1;
            }
            self.rest = rest.to_owned();
        }
        Ok(shown)
    }

    /// Shows `count` more lines, and fails if they do not come.
    pub(crate) fn show(&mut self, screen: &Screen, count: usize) -> Result<()> {
        let deadline = Instant::now() + scaled(Duration::from_secs(60));
        let mut shown = 0;
        while shown < count {
            shown += self.follow(screen)?;
            if Instant::now() > deadline {
                bail!(
                    "the program does not go on: its last line is {:?}",
                    self.last
                );
            }
            pause();
        }
        Ok(())
    }
}

/// Until it is worth looking again. The log is written by another machine: nothing tells when it grows.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// What `pmigctl migrate --json` says.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) destination_pid: u32,
    strategy: String,
    downtime_us: u64,
    total_us: u64,
    bytes: u64,
    pages: u64,
    zero_pages: u64,
    phases: Vec<Phase>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Phase {
    phase: String,
    time_us: u64,
}

impl Report {
    pub(crate) fn show(&self, screen: &Screen) {
        let milliseconds = |time: u64| format!("{:>10.1} ms", time as f64 / 1000.0);
        screen.note(&format!("downtime     {}", milliseconds(self.downtime_us)));
        screen.note(&format!("total time   {}", milliseconds(self.total_us)));
        screen.note(&format!(
            "sent         {:>10.1} MiB, {} pages ({} pages of zeros not sent), {}",
            self.bytes as f64 / f64::from(1 << 20),
            self.pages,
            self.zero_pages,
            self.strategy
        ));
        for phase in &self.phases {
            let name = &phase.phase;
            screen.note(&format!("  {name:<11}{}", milliseconds(phase.time_us)));
        }
        for note in &self.notes {
            screen.note(&format!("note: {note}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_where_they_come_from() {
        let line = Line::parse("iteration 12 chain 0f data 64 MiB ok on node2").expect("a line");
        assert_eq!((line.node.as_str(), line.iteration), ("node2", 12));
        assert_eq!(line.text, "iteration 12 chain 0f data 64 MiB ok");
        assert_eq!(Line::parse("READY 12"), None);
    }
}

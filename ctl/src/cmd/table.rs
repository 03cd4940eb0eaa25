// SPDX-License-Identifier: GPL-2.0
//! Lists for people.

use crate::proto::ObstacleReport;
use std::io;
use std::io::Write;

/// Writes rows of cells, each column as wide as its widest cell; the last one is never padded.
pub(super) fn write_rows(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(
                ' ',
                (width + 2).saturating_sub(cell.chars().count()),
            ));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The rows for obstacles: weight, code and words, and below them what can be done.
pub(super) fn obstacle_rows(indent: &str, obstacles: &[ObstacleReport]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for obstacle in obstacles {
        let weight = if obstacle.refuses() {
            "refusal"
        } else {
            "note"
        };
        rows.push(vec![
            format!("{indent}{weight}"),
            obstacle.code.clone(),
            obstacle.message.clone(),
        ]);
        if !obstacle.hint.is_empty() && obstacle.refuses() {
            rows.push(vec![
                String::new(),
                String::new(),
                format!("→ {}", obstacle.hint),
            ]);
        }
    }
    rows
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// The beginning of a command line.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars()
        .take(most.saturating_sub(1))
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a", "long cell", "x"], vec!["bcd", "…"]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect();
        let mut out = Vec::new();
        write_rows(&mut out, &rows).expect("a vector takes everything");
        assert_eq!(String::from_utf8_lossy(&out), "a    long cell  x\nbcd  …\n");
    }

    #[test]
    fn sizes_and_long_commands_are_short() {
        assert_eq!(size(2048), "2 KiB");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(20 << 30), "20 GiB");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abcd", 4), "abcd");
    }
}

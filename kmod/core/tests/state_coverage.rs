// SPDX-License-Identifier: GPL-2.0
//! `docs/state-coverage.md` says what the tables say. `UPDATE=1 cargo test -p pmig-core` writes it anew.

use pmig_core::feature;
use pmig_core::feature::Feature;
use pmig_core::obstacle::destination;
use pmig_core::obstacle::selection;
use pmig_core::obstacle::source;
use pmig_core::obstacle::Obstacle;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const INTRODUCTION: &str = "\
# State coverage

What of a process pmig moves, what it refuses, and what a moved process could notice. This page is made from the tables
in `kmod/core/src/feature.rs` and `kmod/core/src/obstacle/`: `UPDATE=1 cargo test -p pmig-core` writes it.

Everything that is not moved is found before the process is frozen, and told by name, all of it at once:
`pmigctl explain PID` lists it without touching the process, and the same list comes before every migration. A *refusal*
stops the migration; a *note* does not. The codes are stable: scripts may rely on them.

";

fn coverage(out: &mut String, title: &str, letter: char) {
    writeln!(
        out,
        "## {title}\n\n| feature | state | today | codes |\n|---|---|---|---|"
    )
    .expect("a string");
    for feature in feature::FEATURES
        .iter()
        .filter(|feature| feature.id.starts_with(letter))
    {
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            feature.id,
            feature.name,
            feature.coverage.name(),
            codes(feature)
        )
        .expect("a string");
    }
    out.push('\n');
}

fn codes(feature: &Feature) -> String {
    // All sockets are refused by one code.
    let id = match feature.id {
        "F7" | "F8" | "F9" | "F10" | "F11" | "F12" => "F6",
        id => id,
    };
    let codes: Vec<String> = pmig_core::obstacle::all()
        .filter(|obstacle| obstacle.feature == id)
        .map(|obstacle| format!("`{}`", obstacle.code))
        .collect();
    codes.join(", ")
}

fn obstacles(out: &mut String, title: &str, table: &[&Obstacle]) {
    writeln!(
        out,
        "## {title}\n\n| code | weight | found on | what it says | what to do | feature |\n|---|---|---|---|---|---|"
    )
    .expect("a string");
    for obstacle in table {
        let words = obstacle.message(&"…").to_string();
        writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} |",
            obstacle.code,
            obstacle.severity.name(),
            obstacle.side.name(),
            escape(&words),
            escape(obstacle.hint),
            obstacle.feature
        )
        .expect("a string");
    }
    out.push('\n');
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<")
}

#[test]
fn the_page_says_what_the_tables_say() {
    let mut page = INTRODUCTION.to_owned();
    coverage(&mut page, "Memory", 'M');
    coverage(&mut page, "Tasks", 'T');
    coverage(&mut page, "Files", 'F');
    obstacles(&mut page, "Never moved", selection::TABLE);
    obstacles(&mut page, "In the process", source::TABLE);
    obstacles(
        &mut page,
        "On the destination, and between the hosts",
        destination::TABLE,
    );
    let page = format!("{}\n", page.trim_end());

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-coverage.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).expect("writable");
    }
    let kept = fs::read_to_string(&path).expect("docs/state-coverage.md");
    for (line, (now, kept)) in page.lines().zip(kept.lines()).enumerate() {
        assert_eq!(now, kept, "line {} of docs/state-coverage.md", line + 1);
    }
    assert_eq!(page.lines().count(), kept.lines().count());
}

// SPDX-License-Identifier: GPL-2.0
//! What `explain`, `drain` and `doctor` say and how they end, as far as that needs no module and no agent.
#![forbid(unsafe_code)]

use assert_cmd::cargo::cargo_bin_cmd;
use assert_cmd::Command;
use serde_json::Value;

/// Above what any kernel gives.
const NOBODY: &str = "4194304";

fn pmigctl(arguments: &[&str]) -> Command {
    let mut command = cargo_bin_cmd!("pmigctl");
    command
        .args(arguments)
        .env_remove("PMIG_LOG")
        .env("PMIG_SOCKET", "/nonexistent/pmig/agent.sock");
    command
}

fn json(arguments: &[&str], code: i32) -> Value {
    let assert = pmigctl(arguments).assert().code(code);
    serde_json::from_slice(&assert.get_output().stdout).expect("one JSON document")
}

#[test]
fn explain_knows_no_such_process() {
    let document = json(&["explain", "--json", NOBODY], 3);
    assert_eq!(document["schema"], 1);
    assert_eq!(document["error"]["code"], "no-such-process");
}

#[test]
fn explain_names_what_is_never_moved() {
    let document = json(&["explain", "--json", "1"], 5);
    assert_eq!(document["movable"], false);
    let obstacles = document["obstacles"].as_array().expect("a list");
    assert_eq!(obstacles.len(), 1);
    assert_eq!(obstacles[0]["code"], "init-process");
    assert_eq!(obstacles[0]["severity"], "refusal");
    assert!(!obstacles[0]["hint"].as_str().expect("a hint").is_empty());

    let own = std::process::id().to_string();
    let document = json(&["explain", "--json", &own], 5);
    assert_eq!(document["obstacles"][0]["code"], "pmig-itself");
}

#[test]
fn explain_for_people_shows_code_words_and_hint() {
    let assert = pmigctl(&["explain", "1"]).assert().code(5);
    let text = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    for part in [
        "cannot be moved: 1 obstacle",
        "refusal",
        "init-process",
        "→ ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn drain_ends_with_12_if_something_would_stay() {
    let arguments = [
        "drain",
        "--json",
        "--dry-run",
        "--to",
        "node2",
        "--pid",
        NOBODY,
        "--pid",
        "1",
    ];
    let document = json(&arguments, 12);
    assert_eq!(
        (&document["moved"], &document["stayed"]),
        (&0.into(), &2.into())
    );
    assert_eq!(document["dry_run"], true);
    assert_eq!(document["destination"], "node2:7788");
    let processes = document["processes"].as_array().expect("a list");
    let mut codes: Vec<_> = processes
        .iter()
        .filter_map(|process| process["obstacles"][0]["code"].as_str())
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, ["init-process", "no-such-process"]);
}

#[test]
fn drain_without_anything_to_move_is_done() {
    let arguments = [
        "drain",
        "--json",
        "--dry-run",
        "--to",
        "node2",
        "--cgroup",
        "/no/such/cgroup",
    ];
    let document = json(&arguments, 0);
    assert_eq!(document["processes"], Value::Array(Vec::new()));
}

#[test]
fn drain_refuses_nonsense() {
    pmigctl(&["drain", "--dry-run"]).assert().code(2);
    pmigctl(&["drain", "--to", "a host", "--dry-run"])
        .assert()
        .code(6);
    pmigctl(&[
        "drain",
        "--to",
        "b",
        "--user",
        "no-such-user-here",
        "--dry-run",
    ])
    .assert()
    .code(1);
}

#[test]
fn doctor_says_what_is_missing() {
    let document = json(&["doctor", "--json"], 12);
    assert_eq!(document["healthy"], false);
    let checks = document["host"].as_array().expect("a list");
    let agent = checks
        .iter()
        .find(|check| check["name"] == "agent")
        .expect("checked");
    assert_eq!(agent["status"], "fail");
    assert!(agent["hint"]
        .as_str()
        .expect("a hint")
        .contains("pmig-agent"));
    assert_eq!(document.get("peer"), None);
}

#[test]
fn doctor_reports_an_unreachable_peer_as_a_finding() {
    let document = json(&["doctor", "--json", "--peer", "localhost:1"], 12);
    assert_eq!(document["peer"]["checks"][0]["name"], "peer");
    assert_eq!(document["peer"]["checks"][0]["status"], "fail");
}

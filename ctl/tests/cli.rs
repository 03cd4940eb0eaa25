// SPDX-License-Identifier: GPL-2.0
//! The command line without an agent and without a module: exit codes, help, and where what is printed.

use assert_cmd::Command;
use pmig_ctl::cli::ExitStatus;
use pmig_ctl::proto::Frame;
use predicates::prelude::*;
use predicates::str::contains;
use std::os::unix::net::UnixListener;

fn pmigctl() -> Command {
    let mut command = Command::cargo_bin("pmigctl").expect("the binary");
    command
        .env("PMIG_SOCKET", "/nonexistent/agent.sock")
        .env_remove("PMIG_STATE_DIR");
    command
}

fn code(status: ExitStatus) -> i32 {
    status.number().into()
}

#[test]
fn help_goes_to_stdout_and_lists_every_exit_code() {
    let mut assert = pmigctl().arg("--help").assert().success().stderr("");
    for status in ExitStatus::ALL {
        assert = assert.stdout(contains(status.description()));
    }
    for verb in [
        "migrate",
        "agent",
        "explain",
        "status",
        "resolve",
        "doctor",
        "drain",
        "completions",
        "man",
    ] {
        pmigctl()
            .args([verb, "--help"])
            .assert()
            .success()
            .stdout(contains("Usage: pmigctl"));
        assert = assert.stdout(contains(verb));
    }
    assert.stdout(contains("wait-in-call").not());
}

#[test]
fn a_senseless_command_line_is_a_usage_error() {
    for arguments in [
        &[][..],
        &["fly"],
        &["migrate"],
        &["migrate", "0", "b"],
        &["migrate", "-1", "b"],
        &["migrate", "x", "b"],
        &["migrate", "1", "b", "--timeout", "soon"],
        &["migrate", "1", "b", "--to-port", "70000"],
        &["resolve", "abc"],
        &["resolve", "abc", "--run-here", "--kill-here"],
        &["agent", "--insecure", "--listen", "nowhere"],
        &["agent", "--insecure", "--fault", "source:fly:error"],
        &["completions", "edlin"],
    ] {
        pmigctl()
            .args(arguments)
            .assert()
            .code(code(ExitStatus::Usage))
            .stdout("");
    }
}

#[test]
fn an_agent_does_not_start_on_an_open_network_by_accident() {
    pmigctl()
        .arg("agent")
        .assert()
        .code(code(ExitStatus::Usage))
        .stderr(contains("--insecure"));
}

#[test]
fn a_missing_agent_is_named() {
    for arguments in [
        &["migrate", "1", "b"][..],
        &["status"],
        &["resolve", "abc", "--run-here"],
    ] {
        pmigctl()
            .args(arguments)
            .assert()
            .code(code(ExitStatus::NoAgent))
            .stdout("")
            .stderr(contains("[no-agent]"));
    }
}

#[test]
fn json_goes_to_stdout_with_a_schema_number() {
    let assert = pmigctl()
        .args(["status", "--json"])
        .assert()
        .code(code(ExitStatus::NoAgent))
        .stderr("");
    let document: serde_json::Value =
        serde_json::from_slice(&assert.get_output().stdout).expect("one document");
    assert_eq!(document["schema"], 1);
    assert_eq!(document["command"], "status");
    assert_eq!(document["error"]["code"], "no-agent");
    assert_eq!(document["error"]["owner"], "source-running");
}

#[test]
fn an_agent_that_speaks_nonsense_is_a_protocol_error() {
    use std::io::Write;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        Frame::read(&mut stream).expect("a request");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("written");
    });
    pmigctl()
        .env("PMIG_SOCKET", &path)
        .arg("status")
        .assert()
        .code(code(ExitStatus::Protocol));
    answering.join().expect("no panic");
}

#[test]
fn an_agent_that_goes_away_leaves_a_migration_in_doubt() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        Frame::read(&mut stream).expect("a request");
    });
    pmigctl()
        .env("PMIG_SOCKET", &path)
        .args(["migrate", "7", "b"])
        .assert()
        .code(code(ExitStatus::InDoubt))
        .stderr(contains("process: unknown"));
    answering.join().expect("no panic");
}

#[test]
fn completions_and_the_manual_are_made_from_the_same_definition() {
    for shell in ["bash", "zsh", "fish"] {
        pmigctl()
            .args(["completions", shell])
            .assert()
            .success()
            .stdout(contains("migrate"))
            .stderr("");
    }
    pmigctl()
        .arg("man")
        .assert()
        .success()
        .stdout(contains(".TH"))
        .stdout(contains("Exit codes"));
}

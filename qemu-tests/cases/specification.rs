// SPDX-License-Identifier: GPL-2.0

//! The kernel source's own netlink tool drives the module from `kmod/pmig.yaml`.

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use qemu_tests::agents::MODULE;
use qemu_tests::case::skip;
use qemu_tests::command::Output;
use qemu_tests::Case;
use qemu_tests::Cluster;
use qemu_tests::Guest;
use serde_json::Value;

/// Where guests see the tool and the specification.
const TOOL: &str = "/pmig/ynl/cli.py";
const SPECIFICATION: &str = "/pmig/pmig.yaml";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("the kernel's netlink tool asks the module who it is", hello),
        Case::new(
            "the kernel's netlink tool makes a session and sees it in the list",
            sessions,
        ),
        Case::new(
            "the kernel's netlink tool hears what becomes of a session",
            events,
        ),
        Case::new(
            "the kernel's netlink tool describes a process without touching it",
            survey,
        ),
        Case::new(
            "the kernel's netlink tool prints the text of a refusal",
            refusal,
        ),
    ]
}

/// Loads the module; the guest to use it in, or a reason to skip if there is nothing to test yet.
fn prepared(cluster: &Cluster) -> Result<&Guest> {
    let guest = cluster.guest(0);
    let there = guest.run(&format!("[ -f {MODULE} ] && [ -f {TOOL} ]"))?;
    if !there.success() {
        skip("pmig.ko or the kernel source's netlink tool is not there")?;
    }
    guest.run_ok(&format!("insmod {MODULE}"))?;
    Ok(guest)
}

fn ynl(guest: &Guest, arguments: &str) -> Result<Output> {
    // -B: the tool is on a read-only file system. The schema is checked where the specification is built.
    guest.run(&format!(
        "python3 -B {TOOL} --spec {SPECIFICATION} --no-schema --output-json {arguments}"
    ))
}

fn ynl_ok(guest: &Guest, arguments: &str) -> Result<Value> {
    let output = ynl(guest, arguments)?;
    ensure!(output.success(), "{arguments}: {output}");
    serde_json::from_str(&output.text()).with_context(|| format!("{arguments}: {output}"))
}

fn hello(cluster: &Cluster) -> Result<()> {
    let guest = prepared(cluster)?;
    let reply = ynl_ok(guest, "--do hello")?;
    ensure!(reply["abi"] == 1, "{reply}");
    ensure!(
        reply["release"] == guest.run_ok("uname -r")?.as_str(),
        "{reply}"
    );
    let version = reply["module-version"].as_str().unwrap_or_default();
    ensure!(version.split('.').count() == 3, "{reply}");
    ensure!(reply["harvested"].is_array(), "{reply}");
    Ok(())
}

fn sessions(cluster: &Cluster) -> Result<()> {
    const MIGRATION: &str = "00112233445566778899aabbccddeeff";
    let guest = prepared(cluster)?;
    let request = format!(
        "--do session-new --json '{{\"role\": \"source\", \"migration\": \"{MIGRATION}\"}}'"
    );
    let reply = ynl_ok(guest, &request)?;
    ensure!(reply["session"].as_u64() > Some(0), "{reply}");
    // The socket is closed, so its session is over.
    let all = ynl_ok(guest, "--dump status")?;
    ensure!(all.as_array().is_some_and(Vec::is_empty), "{all}");

    // The tool's library keeps a socket open over several requests.
    let script = format!(
        "import json, sys
sys.dont_write_bytecode = True
sys.path.insert(0, '/pmig/ynl')
from lib import NlError, YnlFamily
family = YnlFamily('{SPECIFICATION}', schema='')
migration = '{MIGRATION}'
made = family.do('session-new', {{'role': 'destination', 'migration': migration}})
listed = family.dump('status', {{}})
assert len(listed) == 1, listed
(one,) = listed
assert one['session'] == made['session'], (one, made)
assert one['role'] == 'destination' and one['state'] == 'open', one
assert one['migration'].replace(' ', '') == migration, one
assert one['owned'] == 1 and one['threads'] == 0, one
try:
    YnlFamily('{SPECIFICATION}', schema='').do('session-end', made)
    assert False, 'it is not the owner'
except NlError as error:
    assert 'another socket owns the session' in str(error), error
family.do('session-end', made)
assert family.dump('status', {{}}) == []
print('well')"
    );
    let output = guest.command(["python3", "-c", &script]).output()?;
    ensure!(output.success() && output.text() == "well", "{output}");
    Ok(())
}

fn events(cluster: &Cluster) -> Result<()> {
    let guest = prepared(cluster)?;
    let pid = guest.start("sleep 600", "/tmp/sleep.log")?;
    let script = format!(
        "import sys
sys.dont_write_bytecode = True
sys.path.insert(0, '/pmig/ynl')
from lib import YnlFamily
migration = '00112233445566778899aabbccddeeff'
ear = YnlFamily('{SPECIFICATION}', schema='')
ear.ntf_subscribe('events')
mouth = YnlFamily('{SPECIFICATION}', schema='')
made = mouth.do('session-new', {{'role': 'source', 'migration': migration}})
mouth.do('freeze', dict(made, **{{'pid': {pid}, 'deadline-ms': 5000}}))
mouth.do('thaw', made)
heard = ear.poll_ntf(duration=20)
for state in 'frozen', 'ended':
    event = next(heard)
    assert event['name'] == 'event', event
    message = event['msg']
    assert message['session'] == made['session'] and message['pid'] == {pid}, message
    assert message['migration'].replace(' ', '') == migration, message
    assert message['state'] == state, message
print('well')"
    );
    let output = guest.command(["python3", "-c", &script]).output()?;
    ensure!(output.success() && output.text() == "well", "{output}");
    Ok(())
}

fn survey(cluster: &Cluster) -> Result<()> {
    let guest = prepared(cluster)?;
    let pid = guest.start("sleep 600", "/tmp/sleep.log")?;
    let parts = ynl_ok(guest, &format!("--dump survey --json '{{\"pid\": {pid}}}'"))?;
    let mut records = String::new();
    for part in parts.as_array().context("not a list")? {
        records.push_str(part["records"].as_str().context("no records")?);
    }
    let name: String = b"sleep"
        .iter()
        .map(|letter| format!("{letter:02x}"))
        .collect();
    ensure!(
        records.contains(&name),
        "its name is not in its records: {records}"
    );
    let state = guest.run_ok(&format!(
        "sed -n 's/^State:\\t\\(.\\).*/\\1/p' /proc/{pid}/status"
    ))?;
    ensure!(state == "S", "its state is {state}");
    Ok(())
}

fn refusal(cluster: &Cluster) -> Result<()> {
    let guest = prepared(cluster)?;
    let request = "--do freeze --json '{\"session\": 4711, \"pid\": 1, \"deadline-ms\": 10}'";
    let output = ynl(guest, request)?;
    ensure!(
        output.code == Some(1)
            && output
                .text()
                .contains("Netlink error: there is no session 4711"),
        "{output}"
    );
    // Without CAP_SYS_ADMIN nothing is told.
    let arguments = [
        "python3",
        "-B",
        TOOL,
        "--spec",
        SPECIFICATION,
        "--no-schema",
        "--do",
        "hello",
    ];
    let output = guest.command(arguments).user(1000).output()?;
    ensure!(
        output.code == Some(1) && output.text().contains("Operation not permitted"),
        "{output}"
    );
    Ok(())
}

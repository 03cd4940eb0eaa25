// SPDX-License-Identifier: GPL-2.0
//! Two imitated hosts with real agents, and a network between them.
#![allow(dead_code, reason = "each test uses what it needs")]

use pmig_ctl::agent::fake::FakeMachine;
use pmig_ctl::agent::Agent;
use pmig_ctl::agent::Cancel;
use pmig_ctl::agent::Faults;
use pmig_ctl::agent::Options;
use pmig_ctl::journal::Journal;
use pmig_ctl::kernel::fake::FakeHost;
use pmig_ctl::proto::Failure;
use pmig_ctl::proto::LinkOptions;
use pmig_ctl::proto::MigrateRequest;
use pmig_ctl::proto::MigrationReport;
use pmig_ctl::transport::Network;
use std::sync::Arc;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// What makes the process that is moved around unmistakable.
pub(crate) const IDENTITY: u64 = 0x1dea;
/// Its PID on the first host.
pub(crate) const PID: u32 = 42;

/// One host: its processes and its disk outlive its agents.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) fake: FakeHost,
    pub(crate) dir: TempDir,
    pub(crate) network: Network,
    pub(crate) machine: FakeMachine,
    pub(crate) agent: Arc<Agent>,
}

pub(crate) fn options() -> Options {
    Options {
        link: LinkOptions {
            ping: Duration::from_millis(100),
            silence: Duration::from_secs(3),
        },
        step_limit: Duration::from_secs(20),
        doubt_first_delay: Duration::from_millis(20),
        doubt_last_delay: Duration::from_millis(100),
        doubt_wait: Duration::from_secs(2),
        ..Options::default()
    }
}

impl Host {
    pub(crate) fn new(network: &Network, name: &'static str, faults: &[&str]) -> Self {
        Self::with_options(network, name, faults, options())
    }

    pub(crate) fn with_options(
        network: &Network,
        name: &'static str,
        faults: &[&str],
        options: Options,
    ) -> Self {
        let fake = FakeHost::default();
        let dir = tempfile::tempdir().expect("a directory");
        let (machine, agent) = start(network, name, &fake, &dir, faults, options);
        Self {
            name,
            fake,
            dir,
            network: network.clone(),
            machine,
            agent,
        }
    }

    /// Ends the agent as a crash does, and starts another.
    pub(crate) fn restart(&mut self, faults: &[&str]) {
        self.kill();
        self.start(faults);
    }

    pub(crate) fn kill(&mut self) {
        self.agent.crash();
        self.machine.die();
        self.network.silence(self.name);
    }

    pub(crate) fn start(&mut self, faults: &[&str]) {
        let (machine, agent) = start(
            &self.network,
            self.name,
            &self.fake,
            &self.dir,
            faults,
            options(),
        );
        self.machine = machine;
        self.agent = agent;
    }

    pub(crate) fn migrate(&self, pid: u32, to: &str) -> Result<MigrationReport, Failure> {
        self.agent
            .migrate(&request(pid, to), &Cancel::new(), &|_| {})
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.agent.end();
    }
}

pub(crate) fn request(pid: u32, to: &str) -> MigrateRequest {
    MigrateRequest {
        pid,
        host: to.to_owned(),
        port: 1,
        dry_run: false,
        timeout_ms: None,
    }
}

fn start(
    network: &Network,
    name: &'static str,
    fake: &FakeHost,
    dir: &TempDir,
    faults: &[&str],
    options: Options,
) -> (FakeMachine, Arc<Agent>) {
    let machine = FakeMachine::new(fake.clone());
    let journal = Journal::open(dir.path()).expect("a journal");
    let slot: Arc<OnceLock<Arc<Agent>>> = Arc::default();
    let kill = {
        let (machine, slot) = (machine.clone(), slot.clone());
        Box::new(move || {
            slot.get().expect("the agent runs").crash();
            machine.die();
        })
    };
    let faults = faults
        .iter()
        .map(|fault| fault.parse().expect("a fault"))
        .collect();
    let faults = Faults::with_kill(faults, kill);
    let transport = Arc::new(network.transport(name));
    let agent = Agent::new(
        Arc::new(machine.clone()),
        transport,
        journal,
        options,
        faults,
    );
    slot.set(agent.clone()).expect("set once");
    agent.recover().expect("recovered");
    let listener = network.listen(name);
    let serving = agent.clone();
    thread::spawn(move || serving.serve(&listener));
    (machine, agent)
}

/// Two hosts, with the process on the first.
pub(crate) fn two_hosts(
    source_faults: &[&str],
    destination_faults: &[&str],
) -> (Network, Host, Host) {
    let network = Network::default();
    let a = Host::new(&network, "a", source_faults);
    let b = Host::new(&network, "b", destination_faults);
    a.fake.start(PID, IDENTITY);
    (network, a, b)
}

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(
            begin.elapsed() < Duration::from_secs(15),
            "this never came true: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until nothing is frozen or in doubt on either host.
pub(crate) fn settle(case: &str, a: &Host, b: &Host) {
    let is_quiet = |host: &Host| {
        let status = host.agent.status().expect("a status");
        status.active.is_empty() && status.in_doubt.is_empty() && status.sessions.is_empty()
    };
    let begin = Instant::now();
    while !(is_quiet(a) && is_quiet(b)) {
        assert!(
            begin.elapsed() < Duration::from_secs(15),
            "{case}: never settled: {:#?} {:#?}",
            a.agent.status(),
            b.agent.status()
        );
        // More than one copy must not run, not even for a moment.
        assert!(
            a.fake.running(IDENTITY) + b.fake.running(IDENTITY) <= 1,
            "{case}: two copies"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Exactly one copy runs: says on which host.
pub(crate) fn runs_on_source(case: &str, a: &Host, b: &Host) -> bool {
    let copies = (a.fake.running(IDENTITY), b.fake.running(IDENTITY));
    match copies {
        (1, 0) => true,
        (0, 1) => false,
        _ => panic!("{case}: {copies:?} copies"),
    }
}

/// The PID of the process on the host where it runs.
pub(crate) fn pid_on(host: &Host) -> u32 {
    (1..2000)
        .find(|pid| {
            host.fake
                .process(*pid)
                .is_some_and(|process| process.identity == IDENTITY)
        })
        .expect("the process")
}

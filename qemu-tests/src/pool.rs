// SPDX-License-Identifier: GPL-2.0

//! Runs many tests on few clusters.
//!
//! Each worker owns a cluster and keeps it as long as the next test fits it. A cluster is thrown away when a test has
//! failed on it, when a kernel has complained, or when it cannot be made as good as new.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::panic::catch_unwind;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::anyhow;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use crate::case::Case;
use crate::case::Outcome;
use crate::cluster::Builder;
use crate::cluster::Cluster;
use crate::cluster::Mode;
use crate::guest::Guest;
use crate::kmemleak;
use crate::rig::scaled;
use crate::rig::Rig;

/// How a pool works.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clusters run at the same time.
    pub jobs: usize,
    /// End after the first failure.
    pub fail_fast: bool,
    /// A file for the result of each test and the totals.
    pub summary: Option<PathBuf>,
}

/// One test that has been run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The name of the test.
    pub name: String,
    /// How it has ended.
    pub outcome: Outcome,
    /// Without booting.
    pub time: Duration,
}

/// What one cluster may come to need, bytes: the memory of its guests, and QEMU's own.
const CLUSTER_BYTES: u64 = 3 << 30;

/// How many clusters this machine can run at the same time.
pub fn fitting_jobs() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let fitting = usize::try_from(available * 1024 / CLUSTER_BYTES).unwrap_or(1);
    processors.min(fitting).max(1)
}

/// Runs all cases; true if none has failed. Progress goes to stdout.
pub fn run(cases: Vec<Case>, options: &Options) -> Result<bool> {
    let begin = Instant::now();
    let total = cases.len();
    let rig = Rig::find()?;
    let logs = rig.fresh_logs("cases")?;
    let accel = crate::accel::Accel::find(&rig);
    println!(
        "running {total} guest tests, {} at a time, with {accel:?}; logs in {}",
        options.jobs,
        logs.display()
    );
    let queue = Mutex::new(VecDeque::from(cases));
    let reports = Mutex::new(Vec::new());
    let failed = |reports: &Vec<Report>| {
        reports
            .iter()
            .any(|report| matches!(report.outcome, Outcome::Failed(_)))
    };
    thread::scope(|scope| {
        for number in 0..options.jobs.max(1) {
            let (queue, reports, logs) = (&queue, &reports, &logs);
            scope.spawn(move || {
                let mut worker = Worker {
                    number,
                    booted: 0,
                    logs: logs.clone(),
                    cluster: None,
                    used: false,
                    ran: Vec::new(),
                    lost: None,
                };
                // Not one of the tests that were asked for.
                let keep = |report: Option<Report>| {
                    if let Some(report) = report {
                        print(&report, total, total);
                        lock(reports).push(report);
                    }
                };
                loop {
                    if options.fail_fast && failed(&lock(reports)) {
                        break;
                    }
                    let Some(case) = next(&mut lock(queue), worker.cluster.as_ref()) else {
                        break;
                    };
                    let report = worker.run(&case);
                    let mut reports = lock(reports);
                    print(&report, reports.len() + 1, total);
                    reports.push(report);
                    drop(reports);
                    keep(worker.lost.take());
                }
                worker.retire();
                keep(worker.lost.take());
            });
        }
    });
    let reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    finish(&reports, total, begin.elapsed(), options)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next test that fits the cluster, else the next one and a cluster for it. Those that need a cluster of their own,
/// or leave none, come last.
fn next(queue: &mut VecDeque<Case>, cluster: Option<&Cluster>) -> Option<Case> {
    let shape = match cluster {
        Some(cluster) => cluster.shape(),
        None => &queue.front()?.shape,
    };
    let gentle = |case: &Case| case.shape == *shape && !case.fresh && !case.spoils;
    let fitting = |case: &Case| case.shape == *shape && !case.fresh;
    let position = queue
        .iter()
        .position(gentle)
        .or_else(|| queue.iter().position(fitting))
        .unwrap_or(0);
    queue.remove(position)
}

fn print(report: &Report, number: usize, total: usize) {
    let seconds = report.time.as_secs_f64();
    let name = &report.name;
    match &report.outcome {
        Outcome::Passed => println!("[{number:3}/{total}] ok      {name} ({seconds:.1} s)"),
        Outcome::Skipped(reason) => println!("[{number:3}/{total}] skipped {name}: {reason}"),
        Outcome::Failed(message) => {
            println!("[{number:3}/{total}] FAILED  {name} ({seconds:.1} s)");
            for line in message.lines() {
                println!("          {line}");
            }
        }
    }
}

fn finish(reports: &[Report], total: usize, time: Duration, options: &Options) -> Result<bool> {
    let mut lines = Vec::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, total.saturating_sub(reports.len()));
    for report in reports {
        let seconds = report.time.as_secs_f64();
        lines.push(match &report.outcome {
            Outcome::Passed => {
                passed += 1;
                format!("PASS\t{}\t{seconds:.1}", report.name)
            }
            Outcome::Failed(message) => {
                failed += 1;
                format!(
                    "FAIL\t{}\t{}",
                    report.name,
                    message.lines().next().unwrap_or_default()
                )
            }
            Outcome::Skipped(reason) => {
                skipped += 1;
                format!("SKIP\t{}\t{reason}", report.name)
            }
        });
    }
    for line in lines.iter().filter(|line| !line.starts_with("PASS")) {
        println!("{line}");
    }
    let totals = format!("{passed} passed, {failed} failed, {skipped} skipped");
    println!("guest tests took {:.0} s", time.as_secs_f64());
    println!("{totals}");
    if let Some(path) = &options.summary {
        lines.push(totals);
        fs::write(path, lines.join("\n") + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(failed == 0)
}

struct Worker {
    number: usize,
    booted: usize,
    logs: PathBuf,
    cluster: Option<Cluster>,
    used: bool,
    /// The tests that the cluster has seen.
    ran: Vec<String>,
    /// What the kernels of the last cluster have lost.
    lost: Option<Report>,
}

impl Worker {
    fn run(&mut self, case: &Case) -> Report {
        let report = |outcome, time| Report {
            name: case.name.clone(),
            outcome,
            time,
        };
        if let Err(error) = self.prepare(case) {
            self.cluster = None;
            return report(
                Outcome::Failed(format!("cannot boot: {error:#}")),
                Duration::ZERO,
            );
        }
        let Some(cluster) = &self.cluster else {
            return report(Outcome::Failed("no cluster".into()), Duration::ZERO);
        };
        self.used = true;
        self.ran.push(case.name.clone());
        let begin = Instant::now();
        cluster.set_limit(Some(begin + scaled(case.timeout)));
        let result =
            catch_unwind(AssertUnwindSafe(|| (case.body)(cluster))).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Err(anyhow!(
                    "panic: {}",
                    text.or(panic.downcast_ref::<&str>().copied())
                        .unwrap_or("?")
                ))
            });
        let time = begin.elapsed();
        cluster.set_limit(Some(Instant::now() + Duration::from_secs(60)));
        let mut outcome = Outcome::from(result);
        if !case.unclean {
            outcome = with_log(outcome, cluster);
        }
        let usable = match (&outcome, case.spoils) {
            (Outcome::Failed(_), _) => {
                self.keep_logs(case, cluster);
                false
            }
            (_, true) => false,
            _ => match tidy(cluster) {
                Ok(()) => true,
                Err(error) => {
                    outcome = Outcome::Failed(format!("cannot be tidied up after: {error:#}"));
                    self.keep_logs(case, cluster);
                    false
                }
            },
        };
        cluster.set_limit(None);
        if !usable {
            self.cluster = None;
        }
        report(outcome, time)
    }

    /// Sees to it that there is a cluster that fits.
    fn prepare(&mut self, case: &Case) -> Result<()> {
        if let Some(cluster) = &self.cluster {
            if *cluster.shape() == case.shape && !(case.fresh && self.used) {
                return Ok(());
            }
        }
        // First the old one, to have its memory.
        self.retire();
        let logs = self
            .logs
            .join(format!("cluster-{}-{}", self.number, self.booted));
        self.booted += 1;
        fs::create_dir_all(&logs)?;
        let cluster = Builder::new(case.shape.clone()).logs(logs).boot()?;
        println!(
            "          booted {} guests, {:?}, in {:.1} s",
            cluster.guests().len(),
            case.shape.mode,
            cluster.boot_time().as_secs_f64()
        );
        // What stock kernels say while they boot is not our business.
        cluster.guests().iter().try_for_each(kmemleak::prepare)?;
        cluster.mark_logs()?;
        self.used = false;
        self.ran.clear();
        self.cluster = Some(cluster);
        Ok(())
    }

    /// Gives the cluster up, after a look at what its kernels have lost.
    fn retire(&mut self) {
        let Some(cluster) = self.cluster.take() else {
            return;
        };
        let begin = Instant::now();
        let mut found = String::new();
        for guest in cluster.guests() {
            match kmemleak::leaks(guest) {
                Ok(leaks) if leaks.is_empty() => {}
                Ok(leaks) => found += &format!("{}:\n{leaks}\n", guest.name()),
                Err(error) => found += &format!("{}: {error:#}\n", guest.name()),
            }
        }
        if !found.is_empty() {
            self.lost = Some(Report {
                name: "kernels lose no memory".into(),
                outcome: Outcome::Failed(format!(
                    "lost in these tests: {}\n{found}",
                    self.ran.join("; ")
                )),
                time: begin.elapsed(),
            });
        }
    }

    /// Keeps what may explain a failure beside the consoles.
    fn keep_logs(&self, case: &Case, cluster: &Cluster) {
        let name: String = case
            .name
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .collect();
        for guest in cluster.guests() {
            let log = guest
                .dmesg_since_mark()
                .unwrap_or_else(|error| format!("{error:#}\n{}", guest.console()));
            // A log that cannot be kept must not hide the failure.
            let _ = fs::write(
                cluster
                    .logs()
                    .join(format!("{name}.{}.dmesg", guest.name())),
                log,
            );
        }
        let where_to = cluster.logs().join("CASES");
        if let Ok(mut file) = fs::File::options().create(true).append(true).open(where_to) {
            let _ = writeln!(file, "failed here: {}", case.name);
        }
    }
}

/// A complaint of a kernel is a failure, whatever the test says, and so is a task that is still frozen.
fn with_log(outcome: Outcome, cluster: &Cluster) -> Outcome {
    let mut complaints = Vec::new();
    for guest in cluster.guests() {
        if let Err(error) = guest.assert_clean_log() {
            complaints.push(format!("{error:#}"));
        }
        if matches!(outcome, Outcome::Passed) {
            if let Err(error) = ensure_nothing_frozen(guest) {
                complaints.push(format!("{error:#}"));
            }
        }
    }
    match (outcome, complaints.is_empty()) {
        (outcome, true) => outcome,
        (Outcome::Failed(message), false) => {
            Outcome::Failed(format!("{message}\n{}", complaints.join("\n")))
        }
        (_, false) => Outcome::Failed(complaints.join("\n")),
    }
}

/// A frozen task holds the module. What the end of an agent undoes may take a moment.
fn ensure_nothing_frozen(guest: &Guest) -> Result<()> {
    if !guest.is_alive() {
        return Ok(());
    }
    let users = "cat /sys/module/pmig/refcnt 2>/dev/null || echo 0";
    guest
        .wait_until(20, &format!("[ $({users}) = 0 ]"))
        .with_context(|| format!("a task is still frozen in {}", guest.name()))
}

/// Makes a cluster as good as new.
fn tidy(cluster: &Cluster) -> Result<()> {
    for (index, guest) in cluster.guests().iter().enumerate() {
        cluster.restore_link(index)?;
        if !guest.is_alive() {
            bail!("{} does not answer", guest.name());
        }
        let kill = match cluster.shape().mode {
            // All but init and the shell that says it.
            Mode::Fast => "kill -KILL -1",
            Mode::Systemd => "true",
        };
        // A process that is still frozen after that holds the module, which then cannot be unloaded.
        guest.run_ok(&format!(
            "{kill}
            tc qdisc del dev eth0 root 2>/dev/null
            cd /
            find /shared /tmp -mindepth 1 -delete
            rm -rf /var/lib/pmig /run/pmig
            if [ -d /sys/module/pmig ]; then rmmod pmig; fi"
        ))?;
        guest.assert_clean_log().context("after tidying up")?;
        guest.mark_log()?;
    }
    Ok(())
}

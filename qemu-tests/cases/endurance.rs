// SPDX-License-Identifier: GPL-2.0

//! The same again and again, and noise: nothing grows, nothing complains.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use qemu_tests::agents::MODULE;
use qemu_tests::case::skip;
use qemu_tests::rig::rounds;
use qemu_tests::rig::scaled;
use qemu_tests::Case;
use qemu_tests::Cluster;
use qemu_tests::Guest;

use crate::cases::workload::agents;
use crate::cases::workload::migrate;
use crate::cases::workload::migrate_patiently;
use crate::cases::workload::Workload;

/// How much more memory of the kernel, in KiB, is noise: caches of the CPUs, slabs that are partly used.
const NOISE_KIB: u64 = 3072;

/// Objects that a leak of tasks, memory or files would leave behind, and how many more of them are noise.
const OBJECTS: &[(&str, u64)] = &[
    ("task_struct", 40),
    ("mm_struct", 60),
    ("files_cache", 60),
    ("sighand_cache", 60),
    ("signal_cache", 60),
    ("vm_area_struct", 4000),
    ("filp", 3000),
    ("cred", 600),
    ("pid", 300),
];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "the module loads and unloads a hundred times and leaves nothing",
            load_cycles,
        )
        .timeout(240),
        Case::new(
            "the netlink family takes 100,000 requests of any kind without a complaint or growth",
            netlink_noise,
        )
        .timeout(420),
        Case::new(
            "a process is killed, ends, runs another program or makes threads at any moment of its freeze",
            ends_frozen,
        )
        .timeout(420),
        Case::new(
            "the agent's port takes 100,000 messages of any kind without harm or growth",
            port_noise,
        )
        .timeout(900),
        Case::new(
            "a program goes there and back a hundred times, and nothing grows",
            hundred_times,
        )
        .timeout(900),
        Case::new(
            "two agents move eight programs at the same time",
            many_at_once,
        )
        .timeout(240),
    ]
}

/// What the kernel holds.
#[derive(Debug)]
struct Held {
    memory_kib: u64,
    vmalloc_kib: u64,
    objects: BTreeMap<String, u64>,
    tasks: u64,
}

impl Held {
    /// Shrinking a cache also frees what KASAN keeps for a while after it was freed.
    fn by(guest: &Guest) -> Result<Self> {
        let text = guest.run_ok(
            "sync
            for n in 1 2 3; do echo 3 >/proc/sys/vm/drop_caches; sleep 0.3; done
            for cache in /sys/kernel/slab/*/shrink; do echo 1 >$cache; done
            awk '/^(SUnreclaim|KernelStack|PageTables|Percpu):/ { sum += $2 } END { print \"memory\", sum }' /proc/meminfo
            awk '/^VmallocUsed:/ { print \"vmalloc\", $2 }' /proc/meminfo
            ls -d /proc/[0-9]* | wc -l | sed 's/^/tasks /'
            awk 'NR > 2 { print $1, $2 }' /proc/slabinfo",
        )?;
        let mut held = Self {
            memory_kib: 0,
            vmalloc_kib: 0,
            objects: BTreeMap::new(),
            tasks: 0,
        };
        for line in text.lines() {
            let (name, number) = line.split_once(' ').context("two words")?;
            let number = number.trim().parse().with_context(|| line.to_owned())?;
            match name {
                "memory" => held.memory_kib = number,
                "vmalloc" => held.vmalloc_kib = number,
                "tasks" => held.tasks = number,
                _ => drop(held.objects.insert(name.to_owned(), number)),
            }
        }
        Ok(held)
    }

    /// Fails if more is held than before.
    fn ensure_not_above(&self, before: &Self, what: &str) -> Result<()> {
        ensure!(
            self.memory_kib <= before.memory_kib + NOISE_KIB,
            "{what}: memory of the kernel has grown from {} to {} KiB\n{}",
            before.memory_kib,
            self.memory_kib,
            self.growth(before)
        );
        ensure!(
            self.vmalloc_kib <= before.vmalloc_kib + 1024,
            "{what}: vmalloc has grown from {} to {} KiB",
            before.vmalloc_kib,
            self.vmalloc_kib
        );
        ensure!(
            self.tasks <= before.tasks + 4,
            "{what}: processes: {} before, {} now",
            before.tasks,
            self.tasks
        );
        for &(name, noise) in OBJECTS {
            let of = |held: &Self| held.objects.get(name).copied().unwrap_or(0);
            ensure!(
                of(self) <= of(before) + noise,
                "{what}: {name}: {} before, {} now",
                of(before),
                of(self)
            );
        }
        Ok(())
    }

    /// The slabs that have grown most.
    fn growth(&self, before: &Self) -> String {
        let mut grown: Vec<_> = self
            .objects
            .iter()
            .map(|(name, now)| {
                (
                    now.saturating_sub(before.objects.get(name).copied().unwrap_or(0)),
                    name,
                )
            })
            .collect();
        grown.sort_by(|a, b| b.cmp(a));
        grown
            .iter()
            .take(12)
            .map(|(more, name)| format!("{name}: {more} more\n"))
            .collect()
    }
}

fn needs_module(guest: &Guest) -> Result<()> {
    if !guest.run(&format!("[ -f {MODULE} ]"))?.success() {
        skip("pmig.ko is not built")?;
    }
    Ok(())
}

fn load_cycles(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    needs_module(guest)?;
    let cycle = |times: u32| {
        guest.run_ok_within(
            120,
            &format!("for n in $(seq {times}); do insmod {MODULE} && rmmod pmig || exit; done"),
        )
    };
    cycle(10)?;
    let before = Held::by(guest)?;
    cycle(rounds(90))?;
    Held::by(guest)?.ensure_not_above(&before, "100 times insmod and rmmod")?;
    ensure!(!guest.run("grep -w pmig /proc/modules")?.success());
    Ok(())
}

fn netlink_noise(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    needs_module(guest)?;
    guest.run_ok(&format!("insmod {MODULE}"))?;
    let once = |count: u32, seed: u32| -> Result<()> {
        let workload = Workload::start(guest, &format!("fuzz_netlink count={count} seed={seed}"))?;
        workload.wait_for_end(guest, 300)?;
        let text = workload.text(guest)?;
        ensure!(text.contains("OK "), "{text}");
        ensure!(!text.contains("FAIL "), "{text}");
        Ok(())
    };
    once(5000, 1)?;
    let before = Held::by(guest)?;
    once(rounds(100_000), 2)?;
    Held::by(guest)?.ensure_not_above(&before, "100,000 netlink requests")?;
    guest
        .run_ok("rmmod pmig")
        .context("something holds the module")?;
    Ok(())
}

fn ends_frozen(cluster: &Cluster) -> Result<()> {
    let guest = cluster.guest(0);
    needs_module(guest)?;
    guest.run_ok(&format!("insmod {MODULE}"))?;
    let once = |count: u32, seed: u32| -> Result<()> {
        let workload = Workload::start(guest, &format!("ends_frozen rounds={count} seed={seed}"))?;
        workload.wait_for_end(guest, 300)?;
        let text = workload.text(guest)?;
        ensure!(text.contains("OK "), "{text}");
        Ok(())
    };
    once(20, 1)?;
    let before = Held::by(guest)?;
    once(rounds(200).max(100), 2)?;
    Held::by(guest)?.ensure_not_above(&before, "hundreds of processes that ended while frozen")?;
    guest
        .run_ok("rmmod pmig")
        .context("something holds the module")?;
    Ok(())
}

fn port_noise(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let (node1, node2) = (cluster.guest(0), cluster.guest(1));
    // Real records to begin with, as the module of the first guest makes them.
    let source = Workload::start(node1, "fuzz_netlink count=2000 seed=3")?;
    source.wait_for_end(node1, 120)?;
    let once = |count: u32, seed: u32| -> Result<()> {
        let command = format!(
            "fuzz_port host={} count={count} seed={seed} records={}.records",
            node2.address(),
            source.log
        );
        let workload = Workload::start(node1, &command)?;
        workload.wait_for_end(node1, 700)?;
        let text = workload.text(node1)?;
        ensure!(
            text.contains("OK "),
            "{text}\n--- agent\n{}",
            agents.log(1)?
        );
        Ok(())
    };
    once(3000, 4)?;
    let memory =
        "awk '/^VmRSS:/ { print $2 }' /proc/$(pgrep -o -f '^[/]pmig/pmigctl agent')/status";
    let before = Held::by(node2)?;
    let resident: u64 = node2.run_ok(memory)?.parse()?;
    once(rounds(100_000), 5)?;
    std::thread::sleep(Duration::from_secs(5));
    Held::by(node2)?.ensure_not_above(&before, "100,000 messages")?;
    let now: u64 = node2.run_ok(memory)?.parse()?;
    ensure!(
        now < resident + 16384,
        "the agent has grown from {resident} to {now} KiB"
    );
    // And it still does its work.
    let workload = Workload::start(node1, "m1_anonymous_memory large=8")?;
    migrate(cluster, &agents, &workload, 0, 1)?;
    workload.finish(node2)?;
    Ok(())
}

fn hundred_times(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let workload = Workload::start(cluster.guest(0), "t1_threads threads=4")?;
    let round = || -> Result<()> {
        migrate_patiently(&agents, workload.pid, 0, 1)?;
        migrate_patiently(&agents, workload.pid, 1, 0)?;
        workload.ensure_unharmed(cluster.guest(0))
    };
    for _ in 0..5 {
        round()?;
    }
    let before: Vec<Held> = cluster
        .guests()
        .iter()
        .map(Held::by)
        .collect::<Result<_>>()?;
    for number in 0..rounds(100) {
        round().with_context(|| format!("round {number}"))?;
    }
    for (guest, before) in cluster.guests().iter().zip(&before) {
        Held::by(guest)?.ensure_not_above(before, &format!("200 migrations, {}", guest.name()))?;
    }
    workload.ensure_only_in(cluster, 0)?;
    workload.finish(cluster.guest(0))?;
    for index in 0..cluster.guests().len() {
        agents.stop(index)?;
        agents.unload(index)?;
    }
    Ok(())
}

fn many_at_once(cluster: &Cluster) -> Result<()> {
    let agents = agents(cluster)?;
    let node1 = cluster.guest(0);
    // All stand still for longer when eight are moved at once.
    let jump = scaled(Duration::from_secs(10)).as_millis();
    let clocks = format!("t7_clocks jump={jump}");
    let commands = [
        "m1_anonymous_memory large=8",
        "t1_threads",
        "t4_signals",
        &clocks,
        "t9_registers",
        "f1_files",
        "f4_pipes",
        "m2_private_file",
    ];
    let workloads: Vec<Workload> = commands
        .iter()
        .map(|command| Workload::start(node1, command))
        .collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = workloads
            .iter()
            .map(|workload| {
                let agents = &agents;
                scope.spawn(move || agents.migrate(0, workload.pid, 1))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread of the test has panicked"))??;
            Ok::<_, anyhow::Error>(())
        })
    })?;
    for workload in &workloads {
        workload.ensure_only_in(cluster, 1)?;
        workload.finish(cluster.guest(1))?;
    }
    Ok(())
}

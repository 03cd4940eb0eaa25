// SPDX-License-Identifier: GPL-2.0

//! The process itself, its limits, its clocks and its namespaces.

use super::files::Files;
use super::Records;
use crate::kx::mm::Mm;
use crate::kx::mm::Peculiarities;
use crate::kx::task::Task;
use crate::kx::time;
use kernel::bindings;
use kernel::prelude::*;
use pmig_wire::process::facts;
use pmig_wire::process::Clocks;
use pmig_wire::process::Process;
use zerocopy::little_endian::I64;
use zerocopy::FromZeros;

fn identity(leader: &Task) -> Process {
    let mut process = Process::new_zeroed();
    process.pid.set(leader.own_tgid());
    process.host_pid.set(leader.global_tgid());
    process.parent_pid.set(leader.own_parent());
    process.group.set(leader.own_group());
    process.session.set(leader.own_session());
    process
        .threads
        .set(u32::try_from(leader.thread_count()).unwrap_or(u32::MAX));
    leader.describe(&mut process);
    process
}

/// Describes what has no memory: a kernel thread, or a process that has ended.
pub(super) fn describe_without_memory(records: &mut Records, leader: &Task) -> Result {
    let mut process = identity(leader);
    let ended = if leader.is_kernel_thread() {
        facts::KERNEL_THREAD
    } else {
        facts::EXITING
    };
    process.facts.set(ended | leader.process_facts());
    records.add(&process)
}

fn memory_facts(memory: &Peculiarities) -> u64 {
    let has = |bit: u32| memory.flags & (1 << bit) != 0;
    let mut all = 0;
    for (fact, is_true) in [
        (facts::LDT, memory.has_ldt),
        (facts::AIO, memory.has_aio),
        (facts::PROTECTION_KEYS, memory.has_protection_keys),
        (facts::UPROBES, has(bindings::MMF_HAS_UPROBES)),
    ] {
        if is_true {
            all |= fact;
        }
    }
    all
}

/// Describes the process. `found` are facts that other servers came across.
pub(super) fn describe(
    records: &mut Records,
    leader: &Task,
    mm: &Mm,
    files: &mut Files,
    found: u64,
) -> Result {
    let memory = mm.peculiarities();
    let mut all = found | leader.process_facts() | leader.sharing_facts() | memory_facts(&memory);
    let threads = leader.threads()?;
    for thread in threads.iter() {
        all |= thread.thread_facts();
    }
    let mut process = identity(leader);
    process.facts.set(all);
    process
        .threads
        .set(u32::try_from(threads.len()).unwrap_or(u32::MAX));
    let filter = (1usize << bindings::MMF_DUMP_FILTER_BITS) - 1;
    let filter = (memory.flags >> bindings::MMF_DUMP_FILTER_SHIFT) & filter;
    process.coredump_filter.set(filter as u32);
    process.executable.set(files.executable(mm)?);
    process.working_directory.set(files.working_directory()?);
    process.root_directory.set(files.root_directory()?);
    records.add(&process)?;
    records.add(&leader.limits())?;
    records.add(&leader.namespaces())?;
    let (monotonic, boottime) = leader.clock_offsets();
    records.add(&Clocks {
        realtime: I64::new(time::realtime()),
        monotonic: I64::new(time::monotonic().saturating_add(monotonic)),
        boottime: I64::new(time::boottime().saturating_add(boottime)),
        monotonic_offset: I64::new(monotonic),
        boottime_offset: I64::new(boottime),
    })
}

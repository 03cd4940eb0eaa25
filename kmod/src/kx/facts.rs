// SPDX-License-Identifier: GPL-2.0

//! What is true of a task and may keep it from being moved.

use super::task::Task;
use super::timer;
use crate::sys;
use core::ptr;
use kernel::bindings;
use kernel::sync::rcu;
use pmig_wire::process::facts;

/// What is true of a task, for the facts of [`pmig_wire::process::facts`].
impl Task {
    /// What is true of this thread alone.
    pub(crate) fn thread_facts(&self) -> u64 {
        const SCHED_DEADLINE: u32 = 6;
        const SCHED_EXT: u32 = 7;
        let raw = self.raw();
        let task = self.as_ptr();
        let has_thread_flag = |bit: u32| raw.thread_info.flags as u64 & (1 << bit) != 0;
        // SAFETY: The task is alive; every helper reads one word or compares list heads of it.
        let found = unsafe {
            [
                (facts::KERNEL_THREAD, self.is_kernel_thread()),
                (facts::CHILDREN, sys::pmig_task_has_children(task)),
                (facts::TRACED, self.is_traced()),
                (facts::TRACER, sys::pmig_task_is_tracer(task)),
                (facts::SECCOMP, raw.seccomp.mode != 0),
                (facts::COMPAT, has_thread_flag(bindings::TIF_ADDR32)),
                (facts::IO_URING, !raw.io_uring.is_null()),
                (facts::IO_PORTS, sys::pmig_task_has_ioports(task)),
                (facts::BREAKPOINT, sys::pmig_task_has_breakpoints(task)),
                (facts::SHADOW_STACK, sys::pmig_task_has_shadow_stack(task)),
                (
                    facts::SYSCALL_DISPATCH,
                    sys::pmig_task_dispatches_syscalls(task),
                ),
                (facts::LSM_LABEL, sys::pmig_task_is_confined(task)),
                (facts::NUMA_POLICY, sys::pmig_task_has_numa_policy(task)),
                (facts::PERF_EVENTS, sys::pmig_task_has_perf_events(task)),
                (facts::TLS_SEGMENTS, sys::pmig_task_has_tls_segments(task)),
                (facts::SEM_UNDO, sys::pmig_task_has_sem_undo(task)),
                (
                    facts::SCHED_SPECIAL,
                    matches!(raw.policy, SCHED_DEADLINE | SCHED_EXT),
                ),
                (facts::UPROBES, !raw.utask.is_null()),
                (
                    facts::CPU_SETTINGS,
                    has_thread_flag(bindings::TIF_NOTSC)
                        || has_thread_flag(bindings::TIF_NOCPUID)
                        || has_thread_flag(bindings::TIF_SSBD)
                        || has_thread_flag(bindings::TIF_SPEC_IB),
                ),
            ]
        };
        let keyrings = self
            .with_cred(|cred| !cred.thread_keyring.is_null() || !cred.process_keyring.is_null());
        let mut all = if keyrings { facts::KEYRINGS } else { 0 };
        for (fact, is_true) in found {
            if is_true {
                all |= fact;
            }
        }
        all
    }

    /// What is true of the process that this task leads, threads and memory apart.
    pub(crate) fn process_facts(&self) -> u64 {
        let raw = self.raw();
        // SAFETY: `signal` lives as long as the task; single words or list heads are read.
        let found = unsafe {
            let signal = &*raw.signal;
            [
                (
                    facts::INIT,
                    signal.flags & bindings::SIGNAL_UNKILLABLE != 0 || self.own_tgid() == 1,
                ),
                (facts::VFORK_CHILD, !raw.vfork_done.is_null()),
                (facts::POSIX_TIMER, !timer::are_movable(self)),
                (
                    facts::EXITING,
                    signal.flags & bindings::SIGNAL_GROUP_EXIT != 0 || !signal.core_state.is_null(),
                ),
                (facts::TERMINAL, !signal.tty.is_null()),
                (facts::SUBREAPER, signal.is_child_subreaper),
                (facts::AMX, sys::pmig_process_may_amx(self.as_ptr())),
                (
                    facts::LEADER_EXITED,
                    raw.exit_state != 0 || raw.flags & bindings::PF_EXITING != 0,
                ),
            ]
        };
        let mut all = 0;
        for (fact, is_true) in found {
            if is_true {
                all |= fact;
            }
        }
        all
    }

    /// What the process shares with tasks outside its thread group, or what its threads do not share with each other.
    pub(crate) fn sharing_facts(&self) -> u64 {
        let _guard = rcu::read_lock();
        let own = self.raw();
        let mut all = 0;
        let mut process: *mut bindings::task_struct = ptr::addr_of!(bindings::init_task).cast_mut();
        // SAFETY: RCU keeps the lists of processes and threads intact and their tasks alive. Addresses are compared, and
        // nothing behind them is read.
        unsafe {
            loop {
                let mut thread = process;
                while !thread.is_null() {
                    let other = &*thread;
                    let is_inside = other.group_leader == own.group_leader;
                    let is_gone = other.flags & (bindings::PF_EXITING | bindings::PF_KTHREAD) != 0;
                    if !is_gone {
                        for (fact, same) in [
                            (facts::MEMORY_SHARED, other.mm == own.mm),
                            (facts::SIGHAND_SHARED, other.sighand == own.sighand),
                            (facts::FILES_SHARED, other.files == own.files),
                            (facts::FS_SHARED, other.fs == own.fs),
                        ] {
                            if same != is_inside {
                                all |= fact;
                            }
                        }
                    }
                    thread = sys::pmig_next_thread(thread);
                }
                process = sys::pmig_next_process(process);
                if ptr::eq(process, ptr::addr_of!(bindings::init_task)) {
                    break;
                }
            }
        }
        all
    }
}

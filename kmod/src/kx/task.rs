// SPDX-License-Identifier: GPL-2.0

//! Tasks: a counted reference, and what can be read of a task that is not the current one.

use crate::sys;
use core::ptr;
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::rcu;
use pmig_wire::cred::Credentials;
use pmig_wire::cred::MAX_GROUPS;
use pmig_wire::process::Limits;
use pmig_wire::process::Namespaces;
use pmig_wire::process::Process;
use pmig_wire::thread::Thread;
use pmig_wire::thread::NO_NEW_PRIVS;
use pmig_wire::thread::PINNED;
use pmig_wire::thread::RESET_ON_FORK;
use zerocopy::little_endian::U32;
use zerocopy::FromZeros;

/// A counted reference to a task.
pub(crate) struct Task(NonNull<bindings::task_struct>);

// SAFETY: A reference to a task may be used and dropped anywhere.
unsafe impl Send for Task {}
// SAFETY: All methods only read, or lock what they change.
unsafe impl Sync for Task {}

impl Clone for Task {
    fn clone(&self) -> Self {
        // SAFETY: `self` keeps the task alive.
        unsafe { bindings::get_task_struct(self.0.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: The reference is ours to drop.
        unsafe { bindings::put_task_struct(self.0.as_ptr()) };
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Task {
    /// The task with this ID in the PID namespace of the caller.
    pub(crate) fn find(id: u32) -> Option<Self> {
        let id = i32::try_from(id).ok().filter(|id| *id > 0)?;
        // SAFETY: Both calls accept null; `get_pid_task` returns a counted reference.
        let task = unsafe {
            let pid = bindings::find_get_pid(id);
            let task = bindings::get_pid_task(pid, bindings::pid_type_PIDTYPE_PID);
            bindings::put_pid(pid);
            task
        };
        NonNull::new(task).map(Self)
    }

    /// Counts a reference to a task that RCU or another reference keeps alive.
    ///
    /// # Safety
    ///
    /// `task` must be valid during the call.
    unsafe fn from_raw(task: NonNull<bindings::task_struct>) -> Self {
        // SAFETY: Valid, as the caller says.
        unsafe { bindings::get_task_struct(task.as_ptr()) };
        Self(task)
    }

    /// For other wrappers of this directory.
    pub(super) fn as_ptr(&self) -> *mut bindings::task_struct {
        self.0.as_ptr()
    }

    /// The address of the task, to compare and sort by.
    pub(crate) fn key(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// A plain read of the task.
    pub(super) fn raw(&self) -> &bindings::task_struct {
        // SAFETY: The reference keeps the task alive. Fields that others change are single words, and every reader of
        // them here either holds the lock that belongs to them or works with a task that is parked, or needs no more
        // than a hint.
        unsafe { self.0.as_ref() }
    }

    /// Whether this is the leader of its thread group.
    pub(crate) fn is_leader(&self) -> bool {
        self.raw().group_leader == self.0.as_ptr()
    }

    /// ID of the thread group in the initial PID namespace.
    pub(crate) fn global_tgid(&self) -> u32 {
        self.raw().tgid as u32
    }

    /// ID in the initial PID namespace.
    pub(crate) fn global_tid(&self) -> u32 {
        self.raw().pid as u32
    }

    fn number(&self, of: bindings::pid_type) -> u32 {
        let _guard = rcu::read_lock();
        // SAFETY: The task is alive. A task that has been released has no namespace any more: 0 then.
        let number = unsafe {
            let namespace = bindings::task_active_pid_ns(self.0.as_ptr());
            if namespace.is_null() {
                0
            } else {
                bindings::__task_pid_nr_ns(self.0.as_ptr(), of, namespace)
            }
        };
        u32::try_from(number).unwrap_or(0)
    }

    /// ID in its own PID namespace.
    pub(crate) fn own_tid(&self) -> u32 {
        self.number(bindings::pid_type_PIDTYPE_PID)
    }

    /// ID of the thread group in its own PID namespace.
    pub(crate) fn own_tgid(&self) -> u32 {
        self.number(bindings::pid_type_PIDTYPE_TGID)
    }

    /// Process group in its own PID namespace, 0 if outside.
    pub(crate) fn own_group(&self) -> u32 {
        self.number(bindings::pid_type_PIDTYPE_PGID)
    }

    /// Session in its own PID namespace, 0 if outside.
    pub(crate) fn own_session(&self) -> u32 {
        self.number(bindings::pid_type_PIDTYPE_SID)
    }

    /// The parent's ID in the task's own PID namespace, 0 if outside.
    pub(crate) fn own_parent(&self) -> u32 {
        let _guard = rcu::read_lock();
        // SAFETY: RCU keeps the parent alive during the call; see `number` for the namespace.
        let number = unsafe {
            let parent = self.raw().real_parent;
            let namespace = bindings::task_active_pid_ns(self.0.as_ptr());
            if parent.is_null() || namespace.is_null() {
                0
            } else {
                bindings::__task_pid_nr_ns(parent, bindings::pid_type_PIDTYPE_TGID, namespace)
            }
        };
        u32::try_from(number).unwrap_or(0)
    }

    /// Its name, padded with zeros.
    pub(crate) fn comm(&self) -> [u8; 16] {
        let mut comm = [0; 16];
        for (to, from) in comm.iter_mut().zip(self.raw().comm.iter()) {
            *to = *from;
        }
        comm
    }

    /// Whether it is exiting.
    pub(crate) fn is_exiting(&self) -> bool {
        self.raw().flags & bindings::PF_EXITING != 0
    }

    /// Whether it is a kernel thread, or one that the kernel made for a process (io_uring, vhost).
    pub(crate) fn is_kernel_thread(&self) -> bool {
        let flags = self.raw().flags;
        flags & (bindings::PF_KTHREAD | bindings::PF_USER_WORKER | bindings::PF_IO_WORKER) != 0
    }

    /// When the task went to sleep, in the scheduler's clock; none if it does not sleep.
    pub(super) fn sleeps_since(&self) -> Option<u64> {
        let raw = self.raw();
        if raw.__state & bindings::TASK_INTERRUPTIBLE == 0 || raw.on_cpu != 0 {
            return None;
        }
        // When it got the CPU last, and how long it ran then (kernel/sched/stats.h, kernel/sched/fair.c).
        let ran = raw
            .se
            .sum_exec_runtime
            .saturating_sub(raw.se.prev_sum_exec_runtime);
        Some(raw.sched_info.last_arrival.saturating_add(ran))
    }

    /// How often it has gone to sleep by itself, preemption apart (`__schedule()`, kernel/sched/core.c).
    pub(super) fn sleeps(&self) -> u64 {
        self.raw().nvcsw as u64
    }

    /// Whether job control has stopped it.
    pub(crate) fn is_stopped(&self) -> bool {
        // SAFETY: The task is alive.
        unsafe { sys::pmig_task_is_stopped(self.0.as_ptr()) }
    }

    /// The signal that has stopped its process, 0 if it runs. A stop that not all threads have come to yet counts
    /// (`do_signal_stop()`, kernel/signal.c).
    pub(crate) fn stop_signal(&self) -> u32 {
        // SAFETY: `signal` lives as long as the task; single words are read.
        let signal = unsafe { &*self.raw().signal };
        if signal.flags & bindings::SIGNAL_STOP_STOPPED != 0 || signal.group_stop_count > 0 {
            signal.group_exit_code as u32 & 0x7f
        } else {
            0
        }
    }

    /// Whether another task traces it.
    pub(crate) fn is_traced(&self) -> bool {
        self.raw().ptrace != 0
    }

    /// Waits until the task, which has announced that it is about to sleep, has left its CPU.
    ///
    /// Only then are its registers in memory. It is a matter of microseconds.
    pub(crate) fn wait_off_cpu(&self) {
        // SAFETY: The task is alive.
        while unsafe { sys::pmig_task_on_cpu(self.0.as_ptr()) } {
            // SAFETY: May sleep here; lets the task run if it wants the CPU that this one has.
            unsafe { sys::pmig_cond_resched() };
            core::hint::spin_loop();
        }
    }

    /// All threads of the process, as far as `room` goes.
    fn collect(&self, threads: &mut KVVec<Self>, room: usize) {
        let _guard = rcu::read_lock();
        // SAFETY: The task is alive.
        if !unsafe { sys::pmig_pid_alive(self.as_ptr()) } {
            // Nobody keeps the lists of a task that has been released.
            return;
        }
        let mut next = self.raw().group_leader;
        while let Some(task) = NonNull::new(next) {
            // SAFETY: RCU keeps the threads of the list alive, as the task was in it when the lock was taken.
            let thread = unsafe { Self::from_raw(task) };
            if threads.len() >= room || threads.push(thread, GFP_ATOMIC).is_err() {
                return;
            }
            // SAFETY: RCU keeps the list intact.
            next = unsafe { sys::pmig_next_thread(next) };
        }
    }

    /// Number of threads.
    pub(crate) fn thread_count(&self) -> usize {
        // SAFETY: `signal` lives as long as the task.
        let count = unsafe { (*self.raw().signal).nr_threads };
        usize::try_from(count).unwrap_or(0)
    }

    /// All threads of the process, the leader first. Threads that come meanwhile may be missing.
    pub(crate) fn threads(&self) -> Result<KVVec<Self>> {
        // Nothing can be allocated under the RCU lock, so the room is made before; a little more for new ones.
        let room = self.thread_count().saturating_add(16);
        let mut threads = KVVec::with_capacity(room, GFP_KERNEL)?;
        self.collect(&mut threads, room);
        Ok(threads)
    }

    /// How many calls its threads are in that may hold references to open files while the process runs.
    ///
    /// A table of descriptors with one user lends its files without counting (`__fget_light()`, fs/file.c); only `poll` and
    /// its kin count as long as they wait (`__pollwait()`, fs/select.c).
    pub(crate) fn calls_with_files(&self) -> Result<usize> {
        const POLLS: [u32; 4] = [
            bindings::__NR_poll,
            bindings::__NR_ppoll,
            bindings::__NR_select,
            bindings::__NR_pselect6,
        ];
        let threads = self.threads()?;
        if threads.len() > 1 {
            return Ok(threads.len());
        }
        // SAFETY: The task is kept; its stack may go, which the helper expects.
        let call = unsafe { sys::pmig_task_last_call(self.as_ptr()) };
        Ok(usize::from(
            POLLS.iter().any(|number| i64::from(*number) == call as i64),
        ))
    }

    /// Kills the process.
    pub(crate) fn kill(&self) {
        // SAFETY: The task is alive. `priv` 1: from the kernel, so an init process is killed too.
        unsafe { bindings::send_sig(bindings::SIGKILL as i32, self.0.as_ptr(), 1) };
    }

    /// The last touch before the current task goes to user mode as another process.
    ///
    /// Only now does it get the addresses that the kernel writes to when a task dies: had it died before, they might have
    /// been in memory that it shares with the process on the source.
    pub(super) fn refresh_restored_current(robust_list: u64, clear_child_tid: u64) {
        // SAFETY: All of these concern the current task only and may be called in process context.
        unsafe {
            sys::pmig_set_exit_addresses(robust_list as usize, clear_child_tid as usize);
            // Its pending signals and its mask were replaced.
            let current = bindings::get_current();
            sys::pmig_lock_siglock(current);
            bindings::recalc_sigpending();
            sys::pmig_unlock_siglock(current);
            // The kernel must write CPU numbers to the program's own rseq area and abort a critical section.
            sys::pmig_rseq_force_update();
            // Wherever the vessel was parked, the interrupted call of the new frame is dealt with before user mode.
            sys::pmig_set_notify_signal();
        }
    }

    /// The credentials, while `body` runs.
    pub(super) fn with_cred<T>(&self, body: impl FnOnce(&bindings::cred) -> T) -> T {
        let _guard = rcu::read_lock();
        // SAFETY: RCU keeps the credentials alive; they never change (Documentation/security/credentials.rst).
        body(unsafe { &*self.raw().real_cred })
    }

    /// The address of the credentials, to compare by.
    pub(crate) fn cred_key(&self) -> usize {
        self.raw().real_cred as usize
    }

    /// The credentials, as the wire has them, with numbers of the initial user namespace.
    pub(crate) fn credentials(&self) -> Result<(Credentials, KVVec<U32>)> {
        let mut groups = KVVec::with_capacity(MAX_GROUPS, GFP_KERNEL)?;
        let mut result = Credentials::new_zeroed();
        self.with_cred(|cred| {
            // SAFETY: The credentials are alive, see `with_cred`; the initial user namespace always is.
            unsafe {
                let ns = ptr::addr_of!(bindings::init_user_ns).cast_mut();
                let uid = |id| U32::new(sys::from_kuid(ns, id));
                let gid = |id| U32::new(sys::from_kgid(ns, id));
                result.uid = uid(cred.uid);
                result.euid = uid(cred.euid);
                result.suid = uid(cred.suid);
                result.fsuid = uid(cred.fsuid);
                result.gid = gid(cred.gid);
                result.egid = gid(cred.egid);
                result.sgid = gid(cred.sgid);
                result.fsgid = gid(cred.fsgid);
                let info = &*cred.group_info;
                let count = usize::try_from(info.ngroups).unwrap_or(0);
                if count > groups.capacity() {
                    return Err(E2BIG);
                }
                let first = info.gid.as_ptr();
                for index in 0..count {
                    groups.push(gid(*first.add(index)), GFP_ATOMIC)?;
                }
            }
            result.securebits.set(cred.securebits);
            result.inheritable.set(cred.cap_inheritable.val);
            result.permitted.set(cred.cap_permitted.val);
            result.effective.set(cred.cap_effective.val);
            result.bounding.set(cred.cap_bset.val);
            result.ambient.set(cred.cap_ambient.val);
            Ok(())
        })?;
        result.tid.set(self.own_tid());
        Ok((result, groups))
    }

    /// The resource limits.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::new_zeroed();
        // SAFETY: `signal` lives as long as the task; each limit is two words.
        let from = unsafe { &(*self.raw().signal).rlim };
        for (to, from) in limits.limits.iter_mut().zip(from) {
            to.current.set(from.rlim_cur as u64);
            to.maximum.set(from.rlim_max as u64);
        }
        limits
    }

    /// The namespaces, by inode number.
    pub(crate) fn namespaces(&self) -> Namespaces {
        // SAFETY: The task is alive; the helper takes the locks that it needs.
        let number = |which| U32::new(unsafe { sys::pmig_task_namespace(self.as_ptr(), which) });
        Namespaces {
            mnt: number(sys::pmig_namespace_PMIG_NS_MNT),
            uts: number(sys::pmig_namespace_PMIG_NS_UTS),
            ipc: number(sys::pmig_namespace_PMIG_NS_IPC),
            net: number(sys::pmig_namespace_PMIG_NS_NET),
            pid: number(sys::pmig_namespace_PMIG_NS_PID),
            pid_for_children: number(sys::pmig_namespace_PMIG_NS_PID_CHILDREN),
            user: number(sys::pmig_namespace_PMIG_NS_USER),
            cgroup: number(sys::pmig_namespace_PMIG_NS_CGROUP),
            time: number(sys::pmig_namespace_PMIG_NS_TIME),
            time_for_children: number(sys::pmig_namespace_PMIG_NS_TIME_CHILDREN),
        }
    }

    /// What its time namespace adds to the host's clocks, nanoseconds: monotonic, boottime.
    pub(crate) fn clock_offsets(&self) -> (i64, i64) {
        // SAFETY: The task is alive; the helpers take the lock that they need.
        unsafe {
            (
                sys::pmig_task_monotonic_offset(self.as_ptr()),
                sys::pmig_task_boottime_offset(self.as_ptr()),
            )
        }
    }

    /// As `umask(2)`, `personality(2)`, `PR_GET_DUMPABLE`, `/proc/PID/oom_score_adj`, exit signal, stop signal.
    pub(crate) fn describe(&self, process: &mut Process) {
        let raw = self.raw();
        // SAFETY: The task is alive and `signal` lives as long; single words are read.
        unsafe {
            let signal = &*raw.signal;
            process
                .umask
                .set(sys::pmig_task_umask(self.as_ptr()) as u32);
            process.dumpable = sys::pmig_task_dumpable(self.as_ptr()) as u8;
            process.oom_score_adj.set(i32::from(signal.oom_score_adj));
        }
        process.stop_signal.set(self.stop_signal());
        process.personality.set(raw.personality);
        process
            .exit_signal
            .set(u32::try_from(raw.exit_signal).unwrap_or(0));
    }

    /// The thread's own state, masks and names of other records apart.
    pub(crate) fn describe_thread(&self, thread: &mut Thread) {
        let raw = self.raw();
        let mut flags = 0;
        // SAFETY: The task is alive; single words are read.
        unsafe {
            if sys::pmig_task_no_new_privs(self.as_ptr()) {
                flags |= NO_NEW_PRIVS;
            }
            thread.nice.set(sys::pmig_task_nice(self.as_ptr()));
        }
        if raw.sched_reset_on_fork() != 0 {
            flags |= RESET_ON_FORK;
        }
        if !raw.user_cpus_ptr.is_null() {
            flags |= PINNED;
        }
        thread.tid.set(self.own_tid());
        thread.host_tid.set(self.global_tid());
        thread.flags.set(flags);
        thread.policy.set(raw.policy);
        thread.priority.set(raw.rt_priority);
        thread.altstack_start.set(raw.sas_ss_sp as u64);
        thread.altstack_size.set(raw.sas_ss_size as u64);
        thread.altstack_flags.set(raw.sas_ss_flags);
        thread
            .parent_death_signal
            .set(u32::try_from(raw.pdeath_signal).unwrap_or(0));
        thread.robust_list.set(raw.futex.robust_list as u64);
        thread.clear_child_tid.set(raw.clear_child_tid as u64);
        thread.rseq_start.set(raw.rseq.usrptr as u64);
        thread.rseq_length.set(raw.rseq.len);
        thread.rseq_signature.set(raw.rseq.sig);
        // SAFETY: The task is alive; one byte is read.
        let version = unsafe { sys::pmig_rseq_version(self.as_ptr()) };
        thread.rseq_version.set(u32::from(version));
        let (mut cpu, mut node, mut concurrency) = (0, 0, 0);
        // SAFETY: The task is alive; three words are read.
        unsafe { sys::pmig_rseq_ids(self.as_ptr(), &mut cpu, &mut node, &mut concurrency) };
        thread.rseq_cpu.set(cpu);
        thread.rseq_node.set(node);
        thread.rseq_concurrency.set(concurrency);
        thread.timer_slack.set(raw.timer_slack_ns);
        thread.comm = self.comm();
    }

    /// Registers the rseq area of a record that [`pmig_core::validate::thread`] has found good for this parked task.
    pub(crate) fn set_rseq(&self, thread: &Thread) -> Result {
        let version = u8::try_from(thread.rseq_version.get()).map_err(|_| EINVAL)?;
        // SAFETY: The task is parked: it looks at the registration when it goes back to user mode.
        unsafe {
            sys::pmig_set_rseq(
                self.as_ptr(),
                thread.rseq_start.get() as usize,
                thread.rseq_length.get(),
                thread.rseq_signature.get(),
                version,
            );
            sys::pmig_set_rseq_ids(
                self.as_ptr(),
                thread.rseq_cpu.get(),
                thread.rseq_node.get(),
                thread.rseq_concurrency.get(),
            );
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0
//! The vessel as the agent sees it, from its first breath to the hand-over.

use super::abi;
use super::control;
use super::files::Files;
use super::layout;
use super::list::args;
use super::list::Answers;
use super::list::List;
use super::locks;
use super::memory;
use super::spawn;
use super::spawn::Spawned;
use super::threads;
use super::threads::VesselThread;
use super::timers;
use super::PidPlace;
use super::SpawnOptions;
use super::VesselError;
use crate::image::Image;
use crate::image::ThreadPlacement;
use crate::sys::process;
use crate::sys::process::Scheduling;
use pmig_wire::mm::vma;
use pmig_wire::mm::Vma;
use pmig_wire::record::Kind;
use pmig_wire::thread::RESET_ON_FORK;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use std::time::Instant;

/// How many fresh processes are looked at until one suits the layout of the program.
const ATTEMPTS: usize = 16;
/// How far new mappings stay below the stack, as for any process (`MIN_GAP` in arch/x86/mm/mmap.c).
const STACK_ROOM: u64 = 128 << 20;
/// Number of the limit of descriptors.
const RLIMIT_NOFILE: u32 = 7;
/// How long to wait for the end of a vessel that was killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process that is being turned into the moved one. It is killed when this value is dropped, unless it was released.
#[derive(Debug)]
pub struct Vessel {
    spawned: Spawned,
    pid: u32,
    threads: HashMap<u32, VesselThread>,
    next_slot: usize,
    inside: bool,
    timeout: Duration,
    capabilities: (u64, u64),
    notes: Vec<String>,
    released: bool,
}

fn outgrown(reason: &str) -> VesselError {
    VesselError::Outgrown {
        reason: reason.to_owned(),
    }
}

impl Vessel {
    /// Makes the process and its threads. The image may be a survey; see [`Vessel::suits`].
    pub fn spawn(image: &Image, options: &SpawnOptions) -> Result<Self, VesselError> {
        let taken = Self::taken(image);
        let attempt = match (options.place, taken) {
            (PidPlace::Namespace, _) => return Self::spawn_at(image, options, true),
            (PidPlace::Auto, Some(_)) => return Self::spawn_at(image, options, true),
            (PidPlace::Host, Some(tid)) => return Err(VesselError::PidTaken { tid }),
            (_, None) => Self::spawn_at(image, options, false),
        };
        match attempt {
            // Somebody was quicker, or the number still names a group or a session.
            Err(VesselError::PidTaken { .. }) if options.place == PidPlace::Auto => {
                Self::spawn_at(image, options, true)
            }
            attempt => attempt,
        }
    }

    /// A number of the image that a task of this host has. Tasks that are about to end, such as an earlier vessel, are
    /// waited for.
    fn taken(image: &Image) -> Option<u32> {
        let deadline = Instant::now() + PATIENCE;
        let mut tids = image.threads.iter().map(|one| one.tid());
        tids.find(|tid| {
            while threads::is_ending(*tid) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            threads::in_use(*tid)
        })
    }

    fn spawn_at(image: &Image, options: &SpawnOptions, inside: bool) -> Result<Self, VesselError> {
        if inside && image.threads.iter().any(|one| one.tid() == 1) {
            let object = "a process that is PID 1".to_owned();
            return Err(VesselError::Unsupported { object });
        }
        let count = image.threads.len();
        // Room for threads that the process makes before it is frozen.
        let slots = count + count / 4 + 64;
        let size = control::stub_size(slots);
        let signal = image.process.exit_signal.get();
        let places = layout::places(image, size);
        let mut last = VesselError::NoGap { size };
        for (attempt, place) in places
            .iter()
            .cycle()
            .take(places.len().max(ATTEMPTS))
            .enumerate()
        {
            match spawn::spawn(image.pid(), signal, slots, *place, inside, options) {
                Ok(spawned) => {
                    let vessel = Self::inhabit(image, spawned, inside, options);
                    if vessel.leaves_room(image)? || attempt + 1 >= ATTEMPTS {
                        return vessel.with_threads(image);
                    }
                }
                // The fresh process happens to use this place itself.
                Err(error) if error.errno() == Some(libc::EEXIST) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Whether the stack can grow as it could on the source. The kernel gives new mappings the addresses below a limit that
    /// it chose at random for the vessel. If that is above the program's stack, they come to lie right below the stack.
    fn leaves_room(&self, image: &Image) -> Result<bool, VesselError> {
        let grows = |one: &&Vma| one.flags.get() & vma::GROWSDOWN != 0;
        let Some(stack) = image.vmas.iter().rfind(grows) else {
            return Ok(true);
        };
        let mut list = List::new();
        let how = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let size = pmig_wire::PAGE_SIZE;
        let arguments = args![0, size, libc::PROT_NONE, how, -1, 0];
        let probe = list.call("look for the highest mapping", libc::SYS_mmap, arguments);
        list.call("unmap a page", libc::SYS_munmap, args![probe, size]);
        let highest = self.run(&list)?.of(probe) as u64;
        Ok(highest.saturating_add(STACK_ROOM) <= stack.start.get())
    }

    fn inhabit(image: &Image, spawned: Spawned, inside: bool, options: &SpawnOptions) -> Self {
        let leader = VesselThread {
            host_tid: spawned.pid,
            slot: 0,
        };
        Self {
            spawned,
            pid: image.pid(),
            threads: HashMap::from([(image.pid(), leader)]),
            next_slot: 1,
            inside,
            timeout: options.timeout,
            capabilities: process::own_capabilities(),
            notes: Vec::new(),
            released: false,
        }
    }

    fn with_threads(mut self, image: &Image) -> Result<Self, VesselError> {
        self.make_threads(image)?;
        Ok(self)
    }

    /// The TIDs of the image that no thread of the vessel has.
    fn new_tids<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = u32> + 'a {
        let tids = image.threads.iter().map(|one| one.tid());
        tids.filter(|tid| !self.threads.contains_key(tid))
    }

    /// Makes the threads of the image that are not there yet. A slot is used once: it remembers its last list.
    fn make_threads(&mut self, image: &Image) -> Result<(), VesselError> {
        let wanted: Vec<(u32, usize)> = self.new_tids(image).zip(self.next_slot..).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        self.next_slot += wanted.len();
        if self.next_slot > self.spawned.control.slots() {
            return Err(outgrown("it has many more threads now"));
        }
        for batch in wanted.chunks(threads::BATCH) {
            let list = threads::make(&self.spawned.control, batch);
            let answers = self.run_some(&list)?;
            if answers.completed < list.len() {
                let result = answers.results.get(answers.completed).copied().unwrap_or(0);
                let tid = batch.get(answers.completed).map_or(0, |(tid, _)| *tid);
                if result == -i64::from(libc::EEXIST) {
                    return Err(VesselError::PidTaken { tid });
                }
                return Err(VesselError::call(list.what(answers.completed), result));
            }
        }
        let mut host: HashMap<u32, u32> = HashMap::new();
        if self.inside {
            let numbers = threads::numbers(self.pid());
            let numbers = numbers.map_err(VesselError::agent("list the vessel's threads"))?;
            host.extend(numbers.into_iter().map(|(host_tid, tid)| (tid, host_tid)));
        }
        for (tid, slot) in wanted {
            let found = if self.inside {
                host.get(&tid).copied()
            } else {
                Some(tid)
            };
            let host_tid = found.ok_or(VesselError::Died)?;
            self.threads.insert(tid, VesselThread { host_tid, slot });
        }
        Ok(())
    }

    /// Ends the threads that the image does not have any more.
    fn end_threads(&mut self, image: &Image) -> Result<(), VesselError> {
        let wanted: HashSet<u32> = image.threads.iter().map(|one| one.tid()).collect();
        let gone = self.threads.iter().filter(|(tid, _)| !wanted.contains(tid));
        let gone: Vec<VesselThread> = gone.map(|(_, one)| *one).collect();
        let deadline = Instant::now() + self.timeout;
        for one in &gone {
            let mut list = List::new();
            list.call("end a thread", libc::SYS_exit, args![0]);
            self.spawned.control.submit_last(one.slot, &list)?;
            let directory = format!("/proc/{}/task/{}", self.pid(), one.host_tid);
            while fs::metadata(&directory).is_ok() {
                if Instant::now() > deadline {
                    let what = "end a thread".to_owned();
                    return Err(VesselError::Timeout { what });
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        self.threads.retain(|tid, _| wanted.contains(tid));
        Ok(())
    }

    /// Whether the vessel, made from an earlier survey, can become this image. If not, drop it and spawn another.
    pub fn suits(&self, image: &Image) -> Result<(), VesselError> {
        if image.pid() != self.pid {
            return Err(outgrown("it has another PID"));
        }
        if !layout::is_free(image, &self.stub()) {
            return Err(outgrown("it has mapped memory where the vessel works"));
        }
        if self.next_slot + self.new_tids(image).count() > self.spawned.control.slots() {
            return Err(outgrown("it has many more threads now"));
        }
        let taken = self
            .new_tids(image)
            .filter(|_| !self.inside)
            .find(|tid| threads::in_use(*tid));
        match taken {
            Some(_) => Err(outgrown("a new thread has a TID that is in use here")),
            None => Ok(()),
        }
    }

    /// PID on this host.
    pub fn pid(&self) -> u32 {
        self.spawned.pid
    }

    /// TID on this host of the thread that has `tid` in its own namespace.
    pub fn host_tid(&self, tid: u32) -> Option<u32> {
        self.threads.get(&tid).map(|one| one.host_tid)
    }

    /// Number of threads.
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// The addresses that the module unmaps at the thaw.
    pub fn stub(&self) -> Range<u64> {
        self.spawned.control.stub()
    }

    /// Whether the process lives in a PID namespace of its own.
    pub fn in_namespace(&self) -> bool {
        self.inside
    }

    /// What will be different from the source, for the user.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The process, to be waited for.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.spawned.pidfd.as_fd()
    }

    /// The address in the vessel at which a list lies.
    pub(super) fn list_address(&self) -> u64 {
        self.spawned.control.list_address()
    }

    /// Executes a list in the first thread, to the end.
    pub(super) fn run(&self, list: &List) -> Result<Answers, VesselError> {
        if list.is_empty() {
            return Ok(Answers::default());
        }
        self.spawned
            .control
            .run(0, list, self.pidfd(), self.timeout)
    }

    /// Executes a list in the first thread, up to the first entry that goes wrong.
    pub(super) fn run_some(&self, list: &List) -> Result<Answers, VesselError> {
        self.spawned
            .control
            .run_some(0, list, self.pidfd(), self.timeout)
    }

    /// Executes a list of any length whose entries do not refer to each other.
    fn run_long(&self, list: List) -> Result<(), VesselError> {
        list.split()
            .iter()
            .try_for_each(|part| self.run(part).map(|_| ()))
    }

    /// Lets go of the process that made the vessel: the host's init becomes its parent. Until then the vessel dies with the
    /// agent. Call it when the module has taken the vessel; [`Vessel::build`] does it otherwise.
    pub fn detach(&mut self) {
        self.let_go(abi::RELEASE);
    }

    fn let_go(&mut self, how: u32) {
        if let Some(mut spawner) = self.spawned.spawner.take() {
            self.spawned.control.release(how);
            spawn::finish(&mut spawner);
        }
    }

    /// Makes mappings and descriptors. `image` is that of the frozen process.
    pub fn build(&mut self, image: &Image) -> Result<(), VesselError> {
        self.suits(image)?;
        self.detach();
        self.end_threads(image)?;
        self.make_threads(image)?;
        self.note(image);
        let vessel = &*self;
        let files = Files::new(vessel, image);
        vessel.relax_limits(files.limit())?;
        memory::choose(vessel, image)?;
        memory::map_vdso(vessel, image)?;
        files.build()?;
        memory::map_anonymous(vessel, image)?;
        let executable = files.executable()?;
        memory::set_boundaries(vessel, image, executable)?;
        if let Some(fd) = executable {
            files.close(fd)?;
        }
        vessel.set_actions(image)?;
        files.directories()?;
        memory::verify(vessel, image)
    }

    /// Notes what will differ.
    fn note(&mut self, image: &Image) {
        let process = &image.process;
        let mut note = |text: &str| self.notes.push(text.to_owned());
        if process.session.get() != image.pid() {
            note("the process becomes the leader of a session of its own");
        } else if process.group.get() != image.pid() {
            note("the process becomes the leader of a process group of its own");
        }
        if process.exit_signal.get() != libc::SIGCHLD as u32 {
            note("the end of the process is reported by SIGCHLD");
        }
        if process.dumpable == 2 {
            note("the process leaves no core dumps, not even for root");
        }
    }

    /// Takes away what would limit the building. The limits of the process come at the end.
    fn relax_limits(&self, descriptors: u64) -> Result<(), VesselError> {
        let pid = self.pid();
        for resource in 0..pmig_wire::process::LIMIT_COUNT as u32 {
            let what = || VesselError::agent(format!("change the resource limit {resource}"));
            let (soft, hard) = process::limit(pid, resource).map_err(what())?;
            if resource == RLIMIT_NOFILE {
                if soft < descriptors {
                    let hard = hard.max(descriptors);
                    process::set_limit(pid, resource, descriptors, hard).map_err(what())?;
                }
            } else if process::set_limit(pid, resource, u64::MAX, u64::MAX).is_err() {
                // Without CAP_SYS_RESOURCE as much as there is.
                process::set_limit(pid, resource, hard, hard).map_err(what())?;
            }
        }
        Ok(())
    }

    /// Signal actions and personality.
    fn set_actions(&self, image: &Image) -> Result<(), VesselError> {
        let mut list = List::new();
        for action in &image.actions {
            let parts = [action.handler, action.flags, action.restorer, action.mask];
            let place = list.words(&parts.map(|part| part.get()));
            let what = format!("set the action of signal {}", action.signal.get());
            let arguments = args![action.signal.get(), place, 0, 8];
            list.call(what, libc::SYS_rt_sigaction, arguments);
        }
        if image.process.personality.get() != 0 {
            let arguments = args![image.process.personality.get()];
            list.call("set the personality", libc::SYS_personality, arguments);
        }
        self.run(&list)?;
        Ok(())
    }

    /// Does what is left when the pages have arrived: locks, scheduling, limits, credentials.
    pub fn finish(&mut self, image: &Image) -> Result<(), VesselError> {
        let mut list = List::new();
        memory::finish(&mut list, image);
        self.run_long(list)?;
        locks::take(self, image)?;
        timers::set(self, image)?;
        self.set_by_agent(image)?;
        self.set_limits(image)?;
        let (all, bounding) = self.capabilities;
        let mut lists = Vec::with_capacity(self.threads.len());
        for one in &image.threads {
            let slot = self.slot(one.tid())?;
            lists.push((slot, threads::finish(image, one, all, bounding)?));
        }
        self.spawned
            .control
            .run_all(&lists, self.pidfd(), self.timeout)?;
        let mut list = List::new();
        const PR_SET_DUMPABLE: u64 = 4;
        // Every change of credentials has set it. 2 cannot be set, and 0 allows less.
        let dumpable = u32::from(image.process.dumpable == 1);
        list.call(
            "set dumpable",
            libc::SYS_prctl,
            args![PR_SET_DUMPABLE, dumpable],
        );
        memory::seal(&mut list, image);
        self.run_long(list)?;
        self.set_scheduling(image)
    }

    fn slot(&self, tid: u32) -> Result<usize, VesselError> {
        let found = self.threads.get(&tid).map(|one| one.slot);
        found.ok_or(VesselError::Incomplete(Kind::Thread))
    }

    /// What the agent sets from outside.
    fn set_by_agent(&self, image: &Image) -> Result<(), VesselError> {
        let pid = self.pid();
        let write = |name: &str, value: String| {
            let what = VesselError::agent(format!("set {name} to {value}"));
            fs::write(format!("/proc/{pid}/{name}"), &value).map_err(what)
        };
        write(
            "coredump_filter",
            format!("{:#x}", image.process.coredump_filter.get()),
        )?;
        write(
            "oom_score_adj",
            image.process.oom_score_adj.get().to_string(),
        )?;
        Ok(())
    }

    /// How threads are scheduled; last, since a thread of low priority is slow.
    fn set_scheduling(&self, image: &Image) -> Result<(), VesselError> {
        for one in &image.threads {
            let tid = one.tid();
            let host_tid = self
                .host_tid(tid)
                .ok_or(VesselError::Incomplete(Kind::Thread))?;
            let scheduling = Scheduling {
                policy: one.thread.policy.get(),
                reset_on_fork: one.thread.flags.get() & RESET_ON_FORK != 0,
                nice: one.thread.nice.get(),
                priority: one.thread.priority.get(),
            };
            let what = format!("set the scheduling of thread {tid}");
            process::set_scheduling(host_tid, scheduling).map_err(VesselError::agent(what))?;
            if let Some(own) = &one.placement {
                set_placement(host_tid, own)
                    .map_err(VesselError::agent(format!("place thread {tid}")))?;
            }
        }
        Ok(())
    }

    /// The resource limits, set by the vessel for itself while it still may.
    fn set_limits(&self, image: &Image) -> Result<(), VesselError> {
        let mut list = List::new();
        for (resource, limit) in image.limits.limits.iter().enumerate() {
            let place = list.words(&[limit.current.get(), limit.maximum.get()]);
            let what = format!("set the resource limit {resource}");
            list.call(what, libc::SYS_prlimit64, args![0, resource, place, 0]);
        }
        self.run(&list)?;
        Ok(())
    }

    /// The records that the module restores: threads with their TIDs on this host, registers, restarts, pending signals,
    /// timers.
    /// Cut them with [`crate::image::chunks`].
    pub fn restore_records(&self, image: &Image) -> Result<Vec<u8>, VesselError> {
        image
            .restore_records(|tid| self.host_tid(tid))
            .ok_or(VesselError::Incomplete(Kind::Thread))
    }

    /// Stops a process that was stopped on the source. Call it when the vessel is frozen: the signal waits then, and stops
    /// the process at the thaw.
    pub fn send_stop(&self, image: &Image) -> Result<(), VesselError> {
        if image.process.stop_signal.get() == 0 {
            return Ok(());
        }
        process::pidfd_send_signal(self.pidfd(), libc::SIGSTOP)
            .map_err(VesselError::agent("stop the process"))
    }

    /// Stops caring for the process: it lives on when this value is gone.
    pub fn release(mut self) {
        self.detach();
        self.released = true;
    }

    /// Kills the process and waits for its end.
    pub fn kill(self) {}
}

fn set_placement(host_tid: u32, own: &ThreadPlacement) -> io::Result<()> {
    let priority = own.placement.io_priority.get();
    if priority != 0 {
        process::set_io_priority(host_tid, priority)?;
    }
    match own.cpus.is_empty() {
        true => Ok(()),
        false => process::set_cpus(host_tid, &own.cpus),
    }
}

impl Drop for Vessel {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // A process that is already gone is what was wanted.
        let _: Result<(), io::Error> = process::pidfd_send_signal(self.pidfd(), libc::SIGKILL);
        self.let_go(abi::DISCARD);
        // A second attempt wants the same PID, which is free only when the process's parent has waited for it.
        let deadline = Instant::now() + PATIENCE;
        process::pidfd_wait(self.pidfd(), PATIENCE);
        while threads::in_use(self.pid()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

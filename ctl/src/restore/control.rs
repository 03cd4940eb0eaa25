// SPDX-License-Identifier: GPL-2.0
//! The agent's end of the shared memory: gives lists to threads and waits for their answers.

use super::abi;
use super::abi::Header;
use super::abi::Slot;
use super::abi::PAGE;
use super::list::Answers;
use super::list::List;
use super::list::ENTRY_SIZE;
use super::VesselError;
use crate::sys::memory;
use crate::sys::memory::SharedMemory;
use crate::sys::process;
use std::mem::offset_of;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Bytes of code that are copied into the stub.
const CODE_SIZE: u64 = parse(env!("PMIG_VESSEL_CODE_SIZE"));
/// Room for lists. Longer work is cut into several lists.
pub(super) const ARENA_SIZE: u64 = 4 << 20;
/// How often the agent looks whether the vessel is still there.
const TICK: Duration = Duration::from_millis(50);

const fn parse(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut sum = 0;
    let mut index = 0;
    while index < bytes.len() {
        sum = sum * 10 + (bytes[index] - b'0') as u64;
        index += 1;
    }
    sum
}

/// What the spawner is told.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) stub_start: u64,
    pub(super) flags: u32,
    pub(super) pid: u32,
    pub(super) exit_signal: u32,
    pub(super) clock_offsets: String,
}

/// The shared memory of one vessel.
#[derive(Debug)]
pub(super) struct Control {
    memory: SharedMemory,
    stub_start: u64,
    slots: usize,
}

/// Bytes that the stub takes with room for `slots` threads.
pub(super) fn stub_size(slots: usize) -> u64 {
    CODE_SIZE + PAGE + PAGE * slots as u64 + ARENA_SIZE
}

impl Control {
    /// Makes the memory and writes the orders.
    pub(super) fn new(slots: usize, orders: &Orders) -> Result<Self, VesselError> {
        let size = stub_size(slots) - CODE_SIZE;
        let memory = SharedMemory::new(c"pmig-control", size as usize)
            .map_err(VesselError::agent("make the vessel's memory"))?;
        let control = Self {
            memory,
            stub_start: orders.stub_start,
            slots,
        };
        let number = |offset: usize, bytes: &[u8]| {
            // The header is one page, and the memory is longer than that.
            let written = control.memory.write(offset, bytes);
            debug_assert!(written);
        };
        let mut text = orders.clock_offsets.clone().into_bytes();
        text.truncate(128);
        number(offset_of!(Header, magic), &abi::MAGIC.to_le_bytes());
        number(offset_of!(Header, flags), &orders.flags.to_le_bytes());
        number(
            offset_of!(Header, stub_start),
            &orders.stub_start.to_le_bytes(),
        );
        number(offset_of!(Header, code_size), &CODE_SIZE.to_le_bytes());
        number(offset_of!(Header, control_size), &size.to_le_bytes());
        number(offset_of!(Header, pid), &orders.pid.to_le_bytes());
        number(
            offset_of!(Header, exit_signal),
            &orders.exit_signal.to_le_bytes(),
        );
        let length = text.len() as u32;
        number(
            offset_of!(Header, clock_offsets_length),
            &length.to_le_bytes(),
        );
        number(offset_of!(Header, clock_offsets), &text);
        Ok(control)
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.memory.file()
    }

    /// Number of slots.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The addresses of the stub in the vessel.
    pub(super) fn stub(&self) -> Range<u64> {
        self.stub_start..self.stub_start + stub_size(self.slots)
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        static NOWHERE: AtomicU32 = AtomicU32::new(0);
        // All words lie in the header or in slots, which the memory was made for.
        self.memory.word(offset).unwrap_or(&NOWHERE)
    }

    pub(super) fn state(&self) -> &AtomicU32 {
        self.word(offset_of!(Header, state))
    }

    pub(super) fn failure(&self) -> (u32, i32) {
        let step = self
            .word(offset_of!(Header, failed_step))
            .load(Ordering::Relaxed);
        let errno = self.word(offset_of!(Header, errno)).load(Ordering::Relaxed);
        (step, errno as i32)
    }

    pub(super) fn child(&self) -> u32 {
        self.word(offset_of!(Header, child)).load(Ordering::Acquire)
    }

    /// Lets the spawner go: [`abi::RELEASE`] or [`abi::DISCARD`].
    pub(super) fn release(&self, how: u32) {
        let word = self.word(offset_of!(Header, release));
        word.store(how, Ordering::Release);
        memory::wake(word);
    }

    fn slot_offset(slot: usize) -> usize {
        PAGE as usize * (slot + 1)
    }

    fn in_vessel(&self, offset: usize) -> u64 {
        self.stub_start + CODE_SIZE + offset as u64
    }

    /// The address of a slot in the vessel.
    pub(super) fn slot_address(&self, slot: usize) -> u64 {
        self.in_vessel(Self::slot_offset(slot))
    }

    fn arena(&self) -> Range<usize> {
        Self::slot_offset(self.slots)..self.memory.size()
    }

    /// The address in the vessel of a list that is run alone.
    pub(super) fn list_address(&self) -> u64 {
        self.in_vessel(self.arena().start)
    }

    /// Gives `list` to the thread of `slot` without waiting for it.
    fn submit(&self, slot: usize, list: &List, offset: usize) -> Result<(), VesselError> {
        let size = list.size();
        let bytes = list.encode(self.in_vessel(offset));
        let place = Self::slot_offset(slot);
        let address = self.in_vessel(offset).to_le_bytes();
        let written = offset + size <= self.arena().end
            && slot < self.slots
            && self.memory.write(offset, &bytes)
            && self.memory.write(place + offset_of!(Slot, list), &address);
        if !written {
            return Err(VesselError::TooLarge { size });
        }
        let length = u32::try_from(list.len()).map_err(|_| VesselError::TooLarge { size })?;
        self.word(place + offset_of!(Slot, length))
            .store(length, Ordering::Relaxed);
        let sequence = self.word(place + offset_of!(Slot, sequence));
        sequence.fetch_add(1, Ordering::Release);
        memory::wake(sequence);
        Ok(())
    }

    /// Gives a list that the thread does not survive, alone.
    pub(super) fn submit_last(&self, slot: usize, list: &List) -> Result<(), VesselError> {
        self.submit(slot, list, self.arena().start)
    }

    /// Waits for the thread of `slot` and reads what it answered.
    fn collect(
        &self,
        slot: usize,
        list: &List,
        offset: usize,
        vessel: BorrowedFd<'_>,
        deadline: Instant,
    ) -> Result<Answers, VesselError> {
        let place = Self::slot_offset(slot);
        let wanted = self
            .word(place + offset_of!(Slot, sequence))
            .load(Ordering::Relaxed);
        let done = self.word(place + offset_of!(Slot, done));
        loop {
            let now = done.load(Ordering::Acquire);
            if now == wanted {
                break;
            }
            memory::wait(done, now, TICK);
            if done.load(Ordering::Acquire) == wanted {
                break;
            }
            if process::pidfd_wait(vessel, Duration::ZERO) {
                return Err(VesselError::Died);
            }
            if Instant::now() >= deadline {
                let what = list.what(0).to_owned();
                return Err(VesselError::Timeout { what });
            }
        }
        let completed = self
            .word(place + offset_of!(Slot, completed))
            .load(Ordering::Relaxed);
        let bytes = self.memory.read(offset, list.size()).unwrap_or_default();
        let (entries, data) = bytes
            .split_at_checked(list.len() * ENTRY_SIZE)
            .unwrap_or_default();
        let results = entries
            .chunks_exact(ENTRY_SIZE)
            .filter_map(|entry| entry.last_chunk::<8>())
            .map(|result| i64::from_le_bytes(*result))
            .collect();
        Ok(Answers {
            results,
            data: data.to_vec(),
            completed: completed as usize,
        })
    }

    /// Executes one list in one thread. An entry that ends the list is not an error here.
    pub(super) fn run_some(
        &self,
        slot: usize,
        list: &List,
        vessel: BorrowedFd<'_>,
        timeout: Duration,
    ) -> Result<Answers, VesselError> {
        let offset = self.arena().start;
        self.submit(slot, list, offset)?;
        self.collect(slot, list, offset, vessel, Instant::now() + timeout)
    }

    /// Executes one list in one thread, to the end.
    pub(super) fn run(
        &self,
        slot: usize,
        list: &List,
        vessel: BorrowedFd<'_>,
        timeout: Duration,
    ) -> Result<Answers, VesselError> {
        let answers = self.run_some(slot, list, vessel, timeout)?;
        finished(list, &answers)?;
        Ok(answers)
    }

    /// Executes lists of several threads, as many at once as fit, each to the end.
    pub(super) fn run_all(
        &self,
        lists: &[(usize, List)],
        vessel: BorrowedFd<'_>,
        timeout: Duration,
    ) -> Result<(), VesselError> {
        let arena = self.arena();
        let mut rest = lists;
        while !rest.is_empty() {
            let mut offset = arena.start;
            let mut batch = Vec::new();
            for (slot, list) in rest {
                if !batch.is_empty() && offset + list.size() > arena.end {
                    break;
                }
                self.submit(*slot, list, offset)?;
                batch.push((*slot, list, offset));
                offset += list.size().next_multiple_of(8);
            }
            let deadline = Instant::now() + timeout;
            for (slot, list, offset) in &batch {
                let answers = self.collect(*slot, list, *offset, vessel, deadline)?;
                finished(list, &answers)?;
            }
            rest = rest.get(batch.len()..).unwrap_or_default();
        }
        Ok(())
    }
}

fn finished(list: &List, answers: &Answers) -> Result<(), VesselError> {
    if answers.completed < list.len() {
        let result = answers.results.get(answers.completed).copied().unwrap_or(0);
        return Err(VesselError::call(list.what(answers.completed), result));
    }
    Ok(())
}

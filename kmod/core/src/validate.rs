// SPDX-License-Identifier: GPL-2.0
//! Checks on the records that the module takes from a peer.
//!
//! Whatever passes may be written into a task without harm to the kernel or to other processes: at worst the process
//! itself is wrong, which its owner could do as well. Nothing here asks whether the values are *sensible*.

use core::fmt;
use pmig_wire::pages::PageHeader;
use pmig_wire::pages::PageRange;
use pmig_wire::pages::MAX_PAGES;
use pmig_wire::pages::PAGE_MAGIC;
use pmig_wire::record::Kind;
use pmig_wire::signal::Pending;
use pmig_wire::signal::SIGNAL_COUNT;
use pmig_wire::thread;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Restart;
use pmig_wire::thread::RestartKind;
use pmig_wire::thread::Thread;
use pmig_wire::PAGE_SIZE;

/// First address that no program on x86-64 has, with four levels of page tables (`TASK_SIZE_MAX`).
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// Highest PID plus one that a kernel can be configured for (`PID_MAX_LIMIT`).
pub const PID_MAX_LIMIT: u32 = 4 * 1024 * 1024;

/// Size of `struct user_regs_struct`, the register set [`thread::NOTE_PRSTATUS`].
pub const PRSTATUS_SIZE: usize = 27 * 8;

/// Size of the smallest XSAVE area in the standard format: legacy region and header.
pub const XSTATE_MINIMUM: usize = 512 + 64;

/// Size of the first version of `struct rseq`.
pub const RSEQ_MINIMUM: u32 = 32;

/// `SIGKILL`
pub const SIGKILL: u32 = 9;
/// `SIGSTOP`
pub const SIGSTOP: u32 = 19;

const ALTSTACK_MINIMUM: u64 = 2048;
const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;

const USER_CS: u64 = 0x33;
const USER_DS: u64 = 0x2b;

/// Why a record is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A record of this kind is none of the module's business.
    Kind,
    /// No thread of the vessel has the TID.
    UnknownThread,
    /// A TID is 0 or above what any kernel allows.
    Tid,
    /// An unknown flag is set.
    Flags,
    /// An address, or the end of a range, is not a program's.
    Address,
    /// An address lacks its alignment.
    Alignment,
    /// A range is empty or ends before it begins.
    Range,
    /// A range touches the stub.
    Stub,
    /// The scheduling policy, priority or nice value is not one.
    Scheduling,
    /// The mask blocks `SIGKILL` or `SIGSTOP`.
    Mask,
    /// The alternate stack is not one.
    AlternateStack,
    /// The rseq registration is not one.
    Rseq,
    /// The name is not terminated.
    Name,
    /// The number of a signal is not one, or the signal cannot be pending.
    Signal,
    /// The code of a signal belongs to something that is not moved along.
    SignalCode,
    /// The register set is unknown or has the wrong size.
    Registers,
    /// Segment selectors or bases are not those of a 64-bit program.
    Segments,
    /// The kind of restart is unknown.
    RestartKind,
    /// The arguments of a restart are not its call's.
    RestartArguments,
    /// The header of a frame of pages is not one.
    PageHeader,
}

impl Reason {
    /// A line for the extack.
    pub const fn message(self) -> &'static str {
        match self {
            Reason::Kind => "record of a kind that is not restored by the module",
            Reason::UnknownThread => "record for a thread that the vessel does not have",
            Reason::Tid => "TID out of range",
            Reason::Flags => "unknown flag",
            Reason::Address => "address outside the program's address space",
            Reason::Alignment => "address not aligned",
            Reason::Range => "empty or reversed range",
            Reason::Stub => "range touches the stub",
            Reason::Scheduling => "bad scheduling policy, priority or nice value",
            Reason::Mask => "mask blocks SIGKILL or SIGSTOP",
            Reason::AlternateStack => "bad alternate signal stack",
            Reason::Rseq => "bad rseq registration",
            Reason::Name => "thread name not terminated",
            Reason::Signal => "bad signal number",
            Reason::SignalCode => "bad signal code",
            Reason::Registers => "unknown register set or wrong size",
            Reason::Segments => "segment registers are not those of a 64-bit program",
            Reason::RestartKind => "unknown kind of restart",
            Reason::RestartArguments => "bad arguments of a restart",
            Reason::PageHeader => "bad page header",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl core::error::Error for Reason {}

fn ensure(condition: bool, reason: Reason) -> Result<(), Reason> {
    if condition {
        Ok(())
    } else {
        Err(reason)
    }
}

/// Addresses from the first up to, but not including, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// First address.
    pub start: u64,
    /// First address behind.
    pub end: u64,
}

impl Span {
    /// A range of whole pages inside the program's address space.
    pub fn pages(start: u64, end: u64) -> Result<Self, Reason> {
        ensure(
            start % PAGE_SIZE == 0 && end % PAGE_SIZE == 0,
            Reason::Alignment,
        )?;
        ensure(start < end, Reason::Range)?;
        ensure(end <= TASK_SIZE, Reason::Address)?;
        Ok(Self { start, end })
    }

    /// `length` bytes from `start`, inside the program's address space. None are allowed.
    fn bytes(start: u64, length: u64) -> Result<Self, Reason> {
        let end = start.checked_add(length).ok_or(Reason::Address)?;
        ensure(end <= TASK_SIZE, Reason::Address)?;
        Ok(Self { start, end })
    }

    /// Whether the two have an address in common.
    pub const fn touches(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Whether the module takes records of this kind for a vessel. The agent and the vessel itself restore the others.
pub const fn kind_is_restored(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Thread | Kind::Registers | Kind::Restart | Kind::PendingSignal
    )
}

/// Checks a TID and that the vessel has such a thread.
pub fn tid(tid: u32, known: impl Fn(u32) -> bool) -> Result<(), Reason> {
    ensure(tid != 0 && tid < PID_MAX_LIMIT, Reason::Tid)?;
    ensure(known(tid), Reason::UnknownThread)
}

/// Checks the addresses of a stub.
pub fn stub(start: u64, end: u64) -> Result<Span, Reason> {
    Span::pages(start, end)
}

/// Checks a range of pages to send.
pub fn page_range(range: &PageRange) -> Result<Span, Reason> {
    Span::pages(range.start.get(), range.end.get())
}

/// Checks the header of a frame of pages that a peer sent. `None` is the end of the stream.
pub fn page_header(header: &PageHeader, stub: Span) -> Result<Option<Span>, Reason> {
    let pages = header.pages.get();
    ensure(
        header.magic.get() == PAGE_MAGIC && pages <= MAX_PAGES,
        Reason::PageHeader,
    )?;
    if pages == 0 {
        return Ok(None);
    }
    let start = header.address.get();
    let length = u64::from(pages).saturating_mul(PAGE_SIZE);
    let end = start.checked_add(length).ok_or(Reason::Address)?;
    let span = Span::pages(start, end)?;
    ensure(!span.touches(stub), Reason::Stub)?;
    Ok(Some(span))
}

const SCHED_NORMAL: u32 = 0;
const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_BATCH: u32 = 3;
const SCHED_IDLE: u32 = 5;

/// Whether this scheduling policy is rebuilt.
pub const fn policy_is_known(policy: u32) -> bool {
    matches!(
        policy,
        SCHED_NORMAL | SCHED_FIFO | SCHED_RR | SCHED_BATCH | SCHED_IDLE
    )
}

/// Checks the record of a thread.
pub fn thread(record: &Thread, known: impl Fn(u32) -> bool) -> Result<(), Reason> {
    tid(record.tid.get(), known)?;
    let flags =
        thread::RESTORE_MASK | thread::RESET_ON_FORK | thread::NO_NEW_PRIVS | thread::PINNED;
    ensure(record.flags.get() & !flags == 0, Reason::Flags)?;
    scheduling(record)?;
    mask(record.blocked.get())?;
    mask(record.saved_mask.get())?;
    alternate_stack(record)?;
    ensure(
        record.parent_death_signal.get() <= SIGNAL_COUNT,
        Reason::Signal,
    )?;
    // The kernel only ever reads and writes these with checks, but keeps no address outside.
    Span::bytes(record.robust_list.get(), 24)?;
    Span::bytes(record.clear_child_tid.get(), 4)?;
    rseq(record)?;
    ensure(record.comm.last() == Some(&0), Reason::Name)
}

fn scheduling(record: &Thread) -> Result<(), Reason> {
    let policy = record.policy.get();
    ensure(policy_is_known(policy), Reason::Scheduling)?;
    ensure((-20..=19).contains(&record.nice.get()), Reason::Scheduling)?;
    let priorities = match policy {
        SCHED_FIFO | SCHED_RR => 1..=99,
        _ => 0..=0,
    };
    ensure(
        priorities.contains(&record.priority.get()),
        Reason::Scheduling,
    )
}

fn mask(mask: u64) -> Result<(), Reason> {
    let unblockable = (1 << (SIGKILL - 1)) | (1 << (SIGSTOP - 1));
    ensure(mask & unblockable == 0, Reason::Mask)
}

fn alternate_stack(record: &Thread) -> Result<(), Reason> {
    let flags = record.altstack_flags.get();
    let mode = flags & !SS_AUTODISARM;
    let size = record.altstack_size.get();
    ensure(
        matches!(mode, 0 | SS_ONSTACK | SS_DISABLE),
        Reason::AlternateStack,
    )?;
    ensure(
        size == 0 || (mode != SS_DISABLE && size >= ALTSTACK_MINIMUM),
        Reason::AlternateStack,
    )?;
    Span::bytes(record.altstack_start.get(), size)
        .map(|_| ())
        .map_err(|_| Reason::AlternateStack)
}

fn rseq(record: &Thread) -> Result<(), Reason> {
    let start = record.rseq_start.get();
    let length = record.rseq_length.get();
    let version = record.rseq_version.get();
    if start == 0 {
        return ensure(length == 0 && version == 0, Reason::Rseq);
    }
    ensure(
        (RSEQ_MINIMUM..=PAGE_SIZE as u32).contains(&length),
        Reason::Rseq,
    )?;
    // `rseq_event::has_rseq` is one byte; 0 is no registration.
    ensure((1..=0xff).contains(&version), Reason::Rseq)?;
    ensure(start & u64::from(RSEQ_MINIMUM - 1) == 0, Reason::Rseq)?;
    Span::bytes(start, length.into())
        .map(|_| ())
        .map_err(|_| Reason::Rseq)
}

/// Checks a register set; `tail` is its bytes.
///
/// Flags and bases are filtered again by the kernel's own regset code.
pub fn registers(
    record: &Registers,
    tail: &[u8],
    known: impl Fn(u32) -> bool,
) -> Result<(), Reason> {
    tid(record.tid.get(), known)?;
    match record.note.get() {
        thread::NOTE_PRSTATUS => {
            ensure(tail.len() == PRSTATUS_SIZE, Reason::Registers)?;
            general_registers(tail)
        }
        thread::NOTE_XSTATE => ensure(
            tail.len() >= XSTATE_MINIMUM && tail.len() % 8 == 0,
            Reason::Registers,
        ),
        _ => Err(Reason::Registers),
    }
}

/// Positions in `struct user_regs_struct` (arch/x86/include/asm/user_64.h), in words of 8 bytes.
mod position {
    pub(super) const RIP: usize = 16;
    pub(super) const CS: usize = 17;
    pub(super) const RSP: usize = 19;
    pub(super) const SS: usize = 20;
    pub(super) const FS_BASE: usize = 21;
    pub(super) const GS_BASE: usize = 22;
}

fn general_registers(bytes: &[u8]) -> Result<(), Reason> {
    let word = |position: usize| {
        let start = position.saturating_mul(8);
        bytes
            .get(start..start.saturating_add(8))
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes)
            .ok_or(Reason::Registers)
    };
    ensure(
        word(position::CS)? == USER_CS && word(position::SS)? == USER_DS,
        Reason::Segments,
    )?;
    for base in [position::FS_BASE, position::GS_BASE] {
        ensure(word(base)? < TASK_SIZE, Reason::Segments)?;
    }
    // A program may have anything in its stack pointer; it is only ever used with its own rights. The instruction
    // pointer has to be canonical: returning to another one is slow and special on x86.
    let _ = word(position::RSP)?;
    ensure(word(position::RIP)? <= TASK_SIZE, Reason::Address)
}

const CLOCKS: [u32; 4] = [0, 1, 7, 11];
const TIMESPEC_NONE: u32 = 0;
const TIMESPEC_NATIVE: u32 = 1;

const FUTEX_SIZE_MASK: u32 = 0x0003;
const FUTEX_SIZE_32: u32 = 0x0002;
const FUTEX_SHARED: u32 = 0x0010;
const FUTEX_CLOCK_REALTIME: u32 = 0x0020;
const FUTEX_HAS_TIMEOUT: u32 = 0x0040;

/// Checks the system call that a thread goes on with. `entries` is the most that `poll(2)` may have (`RLIMIT_NOFILE`).
pub fn restart(
    record: &Restart,
    entries: u32,
    known: impl Fn(u32) -> bool,
) -> Result<RestartKind, Reason> {
    tid(record.tid.get(), known)?;
    let kind = RestartKind::from_wire(record.kind.get()).ok_or(Reason::RestartKind)?;
    let selector = record.selector.get();
    let argument = record.argument.get();
    let address = record.address.get();
    let good = match kind {
        RestartKind::None => true,
        RestartKind::Nanosleep => {
            CLOCKS.contains(&selector)
                && match argument {
                    TIMESPEC_NONE => true,
                    TIMESPEC_NATIVE => Span::bytes(address, 16).is_ok(),
                    _ => false,
                }
        }
        RestartKind::Futex => {
            let optional = FUTEX_SHARED | FUTEX_CLOCK_REALTIME | FUTEX_HAS_TIMEOUT;
            selector & FUTEX_SIZE_MASK == FUTEX_SIZE_32
                && selector & !(FUTEX_SIZE_MASK | optional) == 0
                && record.bitset.get() != 0
                && address % 4 == 0
                && Span::bytes(address, 4).is_ok()
                && Span::bytes(record.address2.get(), 4).is_ok()
        }
        RestartKind::Poll => {
            selector <= 1
                && argument <= entries
                && Span::bytes(address, u64::from(argument).saturating_mul(8)).is_ok()
        }
    };
    ensure(good, Reason::RestartArguments)?;
    Ok(kind)
}

const SI_KERNEL: i32 = 0x80;
const SI_TIMER: i32 = -2;

/// The highest code that the kernel gives with each signal that tells of an event, by the signal's number
/// (include/uapi/asm-generic/siginfo.h).
const EVENT_CODES: [(u32, i32); 8] = [
    (4, 11),  // SIGILL
    (5, 6),   // SIGTRAP
    (7, 5),   // SIGBUS
    (8, 15),  // SIGFPE
    (11, 10), // SIGSEGV
    (17, 6),  // SIGCHLD
    (29, 6),  // SIGPOLL
    (31, 2),  // SIGSYS
];

/// Checks a signal that waits. Returns its number.
pub fn pending(record: &Pending, known: impl Fn(u32) -> bool) -> Result<u32, Reason> {
    if record.tid.get() != 0 {
        tid(record.tid.get(), known)?;
    }
    let signal = field(&record.siginfo, 0)?;
    let code = field(&record.siginfo, 8)?;
    let signal = u32::try_from(signal).map_err(|_| Reason::Signal)?;
    ensure((1..=SIGNAL_COUNT).contains(&signal), Reason::Signal)?;
    ensure(signal != SIGKILL, Reason::Signal)?;
    // A timer's signal is tied to its timer, which sends it again. Other negative codes are any program's own choice.
    let good = match code {
        SI_TIMER => false,
        SI_KERNEL => true,
        1.. => EVENT_CODES
            .iter()
            .any(|(number, highest)| *number == signal && code <= *highest),
        _ => true,
    };
    ensure(good, Reason::SignalCode)?;
    Ok(signal)
}

fn field(siginfo: &[u8], offset: usize) -> Result<i32, Reason> {
    siginfo
        .get(offset..offset.saturating_add(4))
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_le_bytes)
        .ok_or(Reason::Signal)
}

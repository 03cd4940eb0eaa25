// SPDX-License-Identifier: GPL-2.0
//! What the module believes of a peer, and what it does not.

use pmig_core::validate;
use pmig_core::validate::Reason;
use pmig_core::validate::Span;
use pmig_core::validate::TASK_SIZE;
use pmig_wire::pages::PageHeader;
use pmig_wire::pages::PageRange;
use pmig_wire::pages::PAGE_MAGIC;
use pmig_wire::record::Kind;
use pmig_wire::signal::Pending;
use pmig_wire::thread;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Restart;
use pmig_wire::thread::RestartKind;
use pmig_wire::thread::Thread;
use proptest::prelude::*;
use zerocopy::FromBytes;
use zerocopy::FromZeros;

const TID: u32 = 100;

fn known(tid: u32) -> bool {
    tid == TID
}

fn good_thread() -> Thread {
    let mut thread = Thread::new_zeroed();
    thread.tid.set(TID);
    thread.altstack_flags.set(2);
    thread.rseq_start.set(0x7fff_0000_0020);
    thread.rseq_length.set(32);
    thread.rseq_version.set(1);
    thread.comm = *b"python3\0\0\0\0\0\0\0\0\0";
    thread
}

fn with(change: impl FnOnce(&mut Thread)) -> Result<(), Reason> {
    let mut thread = good_thread();
    change(&mut thread);
    validate::thread(&thread, known)
}

#[test]
fn a_thread_is_taken_only_if_all_of_it_is_good() {
    assert_eq!(with(|_| {}), Ok(()));
    assert_eq!(with(|thread| thread.tid.set(0)), Err(Reason::Tid));
    assert_eq!(with(|thread| thread.tid.set(u32::MAX)), Err(Reason::Tid));
    assert_eq!(
        with(|thread| thread.tid.set(101)),
        Err(Reason::UnknownThread)
    );
    assert_eq!(with(|thread| thread.flags.set(16)), Err(Reason::Flags));
    assert_eq!(with(|thread| thread.policy.set(6)), Err(Reason::Scheduling));
    assert_eq!(with(|thread| thread.nice.set(20)), Err(Reason::Scheduling));
    assert_eq!(with(|thread| thread.nice.set(-21)), Err(Reason::Scheduling));
    assert_eq!(
        with(|thread| thread.priority.set(1)),
        Err(Reason::Scheduling)
    );
    assert_eq!(with(|thread| thread.policy.set(1)), Err(Reason::Scheduling));
    assert_eq!(with(|thread| thread.blocked.set(1 << 8)), Err(Reason::Mask));
    assert_eq!(
        with(|thread| thread.saved_mask.set(1 << 18)),
        Err(Reason::Mask)
    );
    assert_eq!(
        with(|thread| thread.blocked.set(!((1 << 8) | (1 << 18)))),
        Ok(())
    );
    assert_eq!(
        with(|thread| thread.parent_death_signal.set(65)),
        Err(Reason::Signal)
    );
    assert_eq!(
        with(|thread| thread.robust_list.set(TASK_SIZE - 8)),
        Err(Reason::Address)
    );
    assert_eq!(
        with(|thread| thread.clear_child_tid.set(u64::MAX)),
        Err(Reason::Address)
    );
    assert_eq!(with(|thread| thread.comm = [b'x'; 16]), Err(Reason::Name));
}

#[test]
fn real_time_threads_need_a_priority() {
    for policy in [1, 2] {
        for (priority, good) in [(0, false), (1, true), (99, true), (100, false)] {
            let outcome = with(|thread| {
                thread.policy.set(policy);
                thread.priority.set(priority);
            });
            assert_eq!(outcome.is_ok(), good, "{policy} {priority}");
        }
    }
}

#[test]
fn an_alternate_stack_is_in_the_address_space_and_large_enough() {
    let stack = |start: u64, size: u64, flags: u32| {
        with(|thread| {
            thread.altstack_start.set(start);
            thread.altstack_size.set(size);
            thread.altstack_flags.set(flags);
        })
    };
    assert_eq!(stack(0x1000, 8192, 0), Ok(()));
    assert_eq!(stack(0x1000, 8192, 1 << 31), Ok(()));
    assert_eq!(stack(0, 0, 2), Ok(()));
    for (start, size, flags) in [
        (0x1000, 2047, 0),
        (0x1000, 8192, 2),
        (0x1000, 8192, 4),
        (TASK_SIZE - 4096, 8192, 0),
        (u64::MAX, 8192, 0),
        (0x1000, u64::MAX, 0),
    ] {
        assert_eq!(
            stack(start, size, flags),
            Err(Reason::AlternateStack),
            "{start:x} {size} {flags}"
        );
    }
}

#[test]
fn an_rseq_area_is_aligned_and_of_a_known_length() {
    let rseq = |start: u64, length: u32, version: u32| {
        with(|thread| {
            thread.rseq_start.set(start);
            thread.rseq_length.set(length);
            thread.rseq_version.set(version);
        })
    };
    assert_eq!(rseq(0, 0, 0), Ok(()));
    assert_eq!(rseq(0x1000, 36, 2), Ok(()));
    for (start, length, version) in [
        (0, 32, 0),
        (0, 0, 1),
        (0x1000, 31, 1),
        (0x1000, 4097, 1),
        (0x1010, 32, 1),
        (0x1000, 32, 0),
        (0x1000, 32, 256),
        (TASK_SIZE, 32, 1),
        (u64::MAX - 31, 32, 1),
    ] {
        assert_eq!(
            rseq(start, length, version),
            Err(Reason::Rseq),
            "{start:x} {length} {version}"
        );
    }
}

fn general_registers(change: impl FnOnce(&mut [u64; 27])) -> Vec<u8> {
    let mut words = [0; 27];
    words[16] = 0x40_1000;
    words[17] = 0x33;
    words[20] = 0x2b;
    change(&mut words);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn registers(note: u32, tail: &[u8]) -> Result<(), Reason> {
    let record = Registers {
        tid: TID.into(),
        note: note.into(),
    };
    validate::registers(&record, tail, known)
}

#[test]
fn general_registers_are_those_of_a_64_bit_program() {
    let general =
        |change: fn(&mut [u64; 27])| registers(thread::NOTE_PRSTATUS, &general_registers(change));
    assert_eq!(general(|_| {}), Ok(()));
    assert_eq!(general(|words| words[15] = u64::MAX), Ok(()), "orig_ax");
    assert_eq!(
        general(|words| words[19] = u64::MAX),
        Ok(()),
        "a wild stack pointer is the program's own affair"
    );
    assert_eq!(
        general(|words| words[17] = 0x23),
        Err(Reason::Segments),
        "32-bit code"
    );
    assert_eq!(
        general(|words| words[17] = 0x10),
        Err(Reason::Segments),
        "the kernel's code"
    );
    assert_eq!(general(|words| words[20] = 0), Err(Reason::Segments));
    assert_eq!(
        general(|words| words[21] = TASK_SIZE),
        Err(Reason::Segments)
    );
    assert_eq!(general(|words| words[22] = u64::MAX), Err(Reason::Segments));
    assert_eq!(general(|words| words[16] = 1 << 47), Err(Reason::Address));
}

#[test]
fn register_sets_have_their_sizes() {
    let good = general_registers(|_| {});
    assert_eq!(
        registers(thread::NOTE_PRSTATUS, &good[8..]),
        Err(Reason::Registers)
    );
    assert_eq!(registers(thread::NOTE_XSTATE, &[0; 832]), Ok(()));
    assert_eq!(
        registers(thread::NOTE_XSTATE, &[0; 575]),
        Err(Reason::Registers)
    );
    assert_eq!(
        registers(thread::NOTE_XSTATE, &[0; 833]),
        Err(Reason::Registers)
    );
    assert_eq!(registers(2, &[0; 832]), Err(Reason::Registers));
    let stranger = Registers {
        tid: 7.into(),
        note: thread::NOTE_PRSTATUS.into(),
    };
    assert_eq!(
        validate::registers(&stranger, &good, known),
        Err(Reason::UnknownThread)
    );
}

fn restart(kind: u32, change: impl FnOnce(&mut Restart)) -> Result<RestartKind, Reason> {
    let mut record = Restart::new_zeroed();
    record.tid.set(TID);
    record.kind.set(kind);
    change(&mut record);
    validate::restart(&record, 1024, known)
}

#[test]
fn restarts_have_the_arguments_of_their_calls() {
    assert_eq!(restart(1, |_| {}), Ok(RestartKind::None));
    assert_eq!(
        restart(2, |record| record.selector.set(1)),
        Ok(RestartKind::Nanosleep)
    );
    let futex = |record: &mut Restart| {
        record.selector.set(0x42);
        record.bitset.set(u32::MAX);
        record.address.set(0x1000);
    };
    assert_eq!(restart(3, futex), Ok(RestartKind::Futex));
    assert_eq!(
        restart(4, |record| record.argument.set(1024)),
        Ok(RestartKind::Poll)
    );
    for kind in [0, 5, u32::MAX] {
        assert_eq!(restart(kind, |_| {}), Err(Reason::RestartKind));
    }
    let wrong = Err(Reason::RestartArguments);
    assert_eq!(
        restart(2, |record| record.selector.set(3)),
        wrong,
        "a clock that nobody sleeps on"
    );
    assert_eq!(
        restart(2, |record| record.argument.set(2)),
        wrong,
        "a 32-bit timespec"
    );
    let beyond = |record: &mut Restart| {
        record.argument.set(1);
        record.address.set(TASK_SIZE);
    };
    assert_eq!(restart(2, beyond), wrong);
    for change in [
        (|record| record.selector.set(0x43)) as fn(&mut Restart),
        |record| record.selector.set(0x0c42),
        |record| record.bitset.set(0),
        |record| record.address.set(0x1001),
        |record| record.address.set(TASK_SIZE),
        |record| record.address2.set(TASK_SIZE),
    ] {
        let outcome = restart(3, |record| {
            futex(record);
            change(record);
        });
        assert_eq!(outcome, wrong);
    }
    assert_eq!(restart(4, |record| record.argument.set(1025)), wrong);
    assert_eq!(restart(4, |record| record.selector.set(2)), wrong);
}

fn pending(tid: u32, signal: i32, code: i32) -> Result<u32, Reason> {
    let mut record = Pending::new_zeroed();
    record.tid.set(tid);
    record.siginfo[..4].copy_from_slice(&signal.to_le_bytes());
    record.siginfo[8..12].copy_from_slice(&code.to_le_bytes());
    validate::pending(&record, known)
}

#[test]
fn pending_signals_are_ones_that_can_wait() {
    assert_eq!(pending(0, 10, 0), Ok(10));
    assert_eq!(pending(TID, 64, -1), Ok(64));
    assert_eq!(pending(0, 17, 6), Ok(17), "a child");
    assert_eq!(pending(0, 11, 0x80), Ok(11), "from the kernel");
    assert_eq!(pending(0, 19, 0), Ok(19), "SIGSTOP can wait");
    assert_eq!(pending(7, 10, 0), Err(Reason::UnknownThread));
    for signal in [0, -1, 65, i32::MIN, 9] {
        assert_eq!(pending(0, signal, 0), Err(Reason::Signal), "{signal}");
    }
    for (signal, code) in [(14, -2), (10, 1), (17, 7), (11, 11), (8, i32::MAX)] {
        assert_eq!(
            pending(0, signal, code),
            Err(Reason::SignalCode),
            "{signal} {code}"
        );
    }
}

const STUB: Span = Span {
    start: 0x10000,
    end: 0x12000,
};

fn header(pages: u32, address: u64) -> Result<Option<Span>, Reason> {
    let header = PageHeader {
        magic: PAGE_MAGIC.into(),
        pages: pages.into(),
        address: address.into(),
    };
    validate::page_header(&header, STUB)
}

#[test]
fn frames_of_pages_stay_in_the_address_space_and_off_the_stub() {
    assert_eq!(header(0, 1), Ok(None));
    assert_eq!(
        header(1, 0xf000),
        Ok(Some(Span {
            start: 0xf000,
            end: 0x10000
        }))
    );
    assert_eq!(
        header(1, 0x12000),
        Ok(Some(Span {
            start: 0x12000,
            end: 0x13000
        }))
    );
    assert_eq!(
        header(1, TASK_SIZE - 4096).map(|span| span.is_some()),
        Ok(true)
    );
    assert_eq!(header(2, 0xf000), Err(Reason::Stub));
    assert_eq!(header(1, 0x11000), Err(Reason::Stub));
    assert_eq!(header(256, 0), Err(Reason::Stub), "around the stub");
    assert_eq!(header(1, 0xf001), Err(Reason::Alignment));
    assert_eq!(header(1, TASK_SIZE), Err(Reason::Address));
    assert_eq!(header(256, u64::MAX - 4095), Err(Reason::Address));
    assert_eq!(header(257, 0), Err(Reason::PageHeader));
    let wrong = PageHeader {
        magic: 0.into(),
        pages: 0.into(),
        address: 0.into(),
    };
    assert_eq!(validate::page_header(&wrong, STUB), Err(Reason::PageHeader));
}

#[test]
fn only_four_kinds_of_records_are_the_modules_business() {
    let restored: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| validate::kind_is_restored(*kind))
        .collect();
    assert_eq!(
        restored,
        [
            Kind::Thread,
            Kind::Registers,
            Kind::Restart,
            Kind::PendingSignal
        ]
    );
}

proptest! {
    #[test]
    fn good_ranges_are_whole_pages_below_the_end(start: u64, end: u64) {
        let range = PageRange { start: start.into(), end: end.into() };
        let good = start % 4096 == 0 && end % 4096 == 0 && start < end && end <= TASK_SIZE;
        prop_assert_eq!(validate::page_range(&range).is_ok(), good);
        let aligned = PageRange { start: (start & 0x7fff_ffff_f000).into(), end: (end & 0x7fff_ffff_f000).into() };
        let good = aligned.start < aligned.end && aligned.end.get() <= TASK_SIZE;
        prop_assert_eq!(validate::page_range(&aligned).is_ok(), good);
    }

    #[test]
    fn spans_touch_if_they_have_an_address_in_common(a in 0u64..20, b in 0u64..20, c in 0u64..20, d in 0u64..20) {
        let (one, two) = (Span { start: a, end: b }, Span { start: c, end: d });
        let common = (0..20).any(|address| (a..b).contains(&address) && (c..d).contains(&address));
        if a < b && c < d {
            prop_assert_eq!(one.touches(two), common);
            prop_assert_eq!(two.touches(one), common);
        }
    }

    #[test]
    fn any_frame_that_is_taken_is_harmless(pages: u32, address: u64) {
        if let Ok(Some(span)) = header(pages % 300, address & !0xfff) {
            prop_assert!(span.end <= TASK_SIZE && span.start < span.end && !span.touches(STUB));
        }
    }

    #[test]
    fn any_thread_that_is_taken_has_its_addresses_inside(bytes in proptest::array::uniform32(any::<u8>())) {
        let whole: Vec<u8> = bytes.iter().copied().cycle().take(size_of::<Thread>()).collect();
        let mut thread = Thread::read_from_bytes(&whole).expect("the size of a thread");
        thread.tid.set(TID);
        if validate::thread(&thread, known).is_ok() {
            prop_assert!(thread.robust_list < TASK_SIZE);
            prop_assert!(thread.rseq_start < TASK_SIZE);
        }
    }

    #[test]
    fn any_registers_are_judged(note: u32, bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
        let _ = registers(note % 0x300, &bytes);
    }
}

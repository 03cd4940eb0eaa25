// SPDX-License-Identifier: GPL-2.0
//! Reading records: what is good is read back, what is not is refused, and nothing panics.

use pmig_wire::cred::Credentials;
use pmig_wire::event::EpollEntry;
use pmig_wire::event::Eventfd;
use pmig_wire::event::Signalfd;
use pmig_wire::event::Timerfd;
use pmig_wire::file::Descriptor;
use pmig_wire::file::File;
use pmig_wire::file::FileKind;
use pmig_wire::file::FileLock;
use pmig_wire::file::PipeData;
use pmig_wire::mm::Memory;
use pmig_wire::mm::Vma;
use pmig_wire::netlink::Command;
use pmig_wire::process::Clocks;
use pmig_wire::process::Limits;
use pmig_wire::process::Namespaces;
use pmig_wire::process::Process;
use pmig_wire::record;
use pmig_wire::record::DecodeError;
use pmig_wire::record::Kind;
use pmig_wire::record::Payload;
use pmig_wire::record::Reader;
use pmig_wire::record::Record;
use pmig_wire::record::Sink;
use pmig_wire::record::MAX_PAYLOAD;
use pmig_wire::signal::Action;
use pmig_wire::signal::Pending;
use pmig_wire::thread::Placement;
use pmig_wire::thread::Registers;
use pmig_wire::thread::Restart;
use pmig_wire::thread::RestartKind;
use pmig_wire::thread::Thread;
use pmig_wire::timer::IntervalTimer;
use pmig_wire::timer::PosixTimer;
use proptest::prelude::*;
use std::convert::Infallible;
use zerocopy::FromZeros;

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn record<T: Payload>(payload: &T, tail: &[u8]) -> Vec<u8> {
    let mut bytes = Bytes(Vec::new());
    record::write(&mut bytes, payload, tail).expect("infallible");
    bytes.0
}

fn read(bytes: &[u8]) -> Result<Vec<Record<'_>>, DecodeError> {
    Reader::new(bytes).collect()
}

/// A header and a payload, with nothing checked.
fn raw(kind: u16, version: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend([version, flags]);
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// Parses a record as what it says that it is.
fn parse(record: &Record<'_>) -> Result<(), DecodeError> {
    match record.kind {
        Kind::Process => record.parse::<Process>().map(drop),
        Kind::Limits => record.parse::<Limits>().map(drop),
        Kind::Clocks => record.parse::<Clocks>().map(drop),
        Kind::Namespaces => record.parse::<Namespaces>().map(drop),
        Kind::Memory => record.parse::<Memory>().map(drop),
        Kind::Vma => record.parse::<Vma>().map(drop),
        Kind::File => record.parse::<File>().map(drop),
        Kind::Descriptor => record.parse::<Descriptor>().map(drop),
        Kind::PipeData => record.parse::<PipeData>().map(drop),
        Kind::Eventfd => record.parse::<Eventfd>().map(drop),
        Kind::Signalfd => record.parse::<Signalfd>().map(drop),
        Kind::Timerfd => record.parse::<Timerfd>().map(drop),
        Kind::EpollEntry => record.parse::<EpollEntry>().map(drop),
        Kind::FileLock => record.parse::<FileLock>().map(drop),
        Kind::Thread => record.parse::<Thread>().map(drop),
        Kind::Registers => record.parse::<Registers>().map(drop),
        Kind::Restart => record.parse::<Restart>().map(drop),
        Kind::Placement => record.parse::<Placement>().map(drop),
        Kind::Credentials => record.parse::<Credentials>().map(drop),
        Kind::SignalAction => record.parse::<Action>().map(drop),
        Kind::PendingSignal => record.parse::<Pending>().map(drop),
        Kind::IntervalTimer => record.parse::<IntervalTimer>().map(drop),
        Kind::PosixTimer => record.parse::<PosixTimer>().map(drop),
        _ => panic!("a kind without a payload: {:?}", record.kind),
    }
}

/// The size of each kind's structure, and whether bytes may follow it.
fn shape(kind: Kind) -> (usize, bool) {
    fn of<T: Payload>() -> (usize, bool) {
        (size_of::<T>(), T::TAIL)
    }
    match kind {
        Kind::Process => of::<Process>(),
        Kind::Limits => of::<Limits>(),
        Kind::Clocks => of::<Clocks>(),
        Kind::Namespaces => of::<Namespaces>(),
        Kind::Memory => of::<Memory>(),
        Kind::Vma => of::<Vma>(),
        Kind::File => of::<File>(),
        Kind::Descriptor => of::<Descriptor>(),
        Kind::PipeData => of::<PipeData>(),
        Kind::Eventfd => of::<Eventfd>(),
        Kind::Signalfd => of::<Signalfd>(),
        Kind::Timerfd => of::<Timerfd>(),
        Kind::EpollEntry => of::<EpollEntry>(),
        Kind::FileLock => of::<FileLock>(),
        Kind::Thread => of::<Thread>(),
        Kind::Registers => of::<Registers>(),
        Kind::Restart => of::<Restart>(),
        Kind::Placement => of::<Placement>(),
        Kind::Credentials => of::<Credentials>(),
        Kind::SignalAction => of::<Action>(),
        Kind::PendingSignal => of::<Pending>(),
        Kind::IntervalTimer => of::<IntervalTimer>(),
        Kind::PosixTimer => of::<PosixTimer>(),
        _ => panic!("a kind without a payload: {kind:?}"),
    }
}

#[test]
fn a_stream_is_read_in_order() {
    let mut bytes = record(&Process::new_zeroed(), b"");
    bytes.extend(record(&File::new_zeroed(), b"/a/path"));
    bytes.extend(record(&Vma::new_zeroed(), b""));
    let records = read(&bytes).expect("a good stream");
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::Process, Kind::File, Kind::Vma]);
    let (_, path) = records[1].parse::<File>().expect("a file");
    assert_eq!(path, b"/a/path");
    let rejoined: Vec<u8> = records
        .iter()
        .flat_map(|record| record.bytes)
        .copied()
        .collect();
    assert_eq!(rejoined, bytes);
}

#[test]
fn an_unknown_kind_is_refused_if_critical_and_skipped_otherwise() {
    let mut bytes = raw(9999, 1, 0, b"whatever");
    bytes.extend(record(&PipeData::new_zeroed(), b""));
    assert_eq!(read(&bytes).map(|records| records.len()), Ok(1));
    let bytes = raw(9999, 1, record::FLAG_CRITICAL, b"whatever");
    assert_eq!(read(&bytes), Err(DecodeError::UnknownKind(9999)));
    assert_eq!(
        read(&raw(0, 1, record::FLAG_CRITICAL, b"")),
        Err(DecodeError::UnknownKind(0))
    );
}

#[test]
fn unknown_flags_and_long_payloads_are_refused() {
    assert_eq!(read(&raw(1, 1, 2, b"")), Err(DecodeError::Reserved(1)));
    let mut bytes = raw(1, 1, 1, b"");
    bytes[4..8].copy_from_slice(&(MAX_PAYLOAD as u32 + 1).to_le_bytes());
    bytes.resize(MAX_PAYLOAD * 2, 0);
    assert_eq!(read(&bytes), Err(DecodeError::TooLong));
}

#[test]
fn a_reader_ends_after_its_first_error() {
    let mut reader = Reader::new(&[1, 2, 3]);
    assert_eq!(reader.next(), Some(Err(DecodeError::Truncated)));
    assert_eq!(reader.next(), None);
}

#[test]
fn a_payload_is_parsed_only_as_what_it_is() {
    let bytes = record(&Vma::new_zeroed(), b"");
    let records = read(&bytes).expect("good");
    assert_eq!(
        records[0].parse::<Memory>().map(drop),
        Err(DecodeError::WrongKind(Kind::Vma as u16))
    );
    for kind in Kind::ALL {
        let (size, has_tail) = shape(kind);
        let number = kind as u16;
        let one = |version, length: usize| {
            let bytes = raw(number, version, 1, &vec![0; length]);
            parse(&read(&bytes).expect("a record")[0])
        };
        assert_eq!(one(1, size), Ok(()), "{kind:?}");
        assert_eq!(one(0, size), Err(DecodeError::UnknownVersion(number, 0)));
        assert_eq!(one(2, size), Err(DecodeError::UnknownVersion(number, 2)));
        assert_eq!(one(1, size - 1), Err(DecodeError::Size(number)));
        let longer = if has_tail {
            Ok(())
        } else {
            Err(DecodeError::Size(number))
        };
        assert_eq!(one(1, size + 1), longer, "{kind:?}");
    }
}

/// A byte that is neither a field's nor checked to be zero would be a hole for secrets.
#[test]
fn reserved_bytes_are_checked() {
    let reserved = [
        (Kind::Process, 3),
        (Kind::Vma, 4),
        (Kind::File, 2),
        (Kind::Signalfd, 4),
        (Kind::Timerfd, 4),
        (Kind::FileLock, 4),
        (Kind::Restart, 4),
        (Kind::SignalAction, 4),
        (Kind::PendingSignal, 4),
        (Kind::IntervalTimer, 4),
    ];
    for kind in Kind::ALL {
        let (size, _) = shape(kind);
        let refused = (0..size)
            .filter(|index| {
                let mut payload = vec![0; size];
                payload[*index] = 1;
                let bytes = raw(kind as u16, 1, 1, &payload);
                let outcome = parse(&read(&bytes).expect("a record")[0]);
                assert!(outcome.is_ok() || outcome == Err(DecodeError::Reserved(kind as u16)));
                outcome.is_err()
            })
            .count();
        let expected = reserved
            .iter()
            .find(|(own, _)| *own == kind)
            .map_or(0, |(_, count)| *count);
        assert_eq!(refused, expected, "{kind:?}");
    }
}

#[test]
fn numbers_are_read_back_and_zero_is_none() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_wire(kind as u16), Some(kind));
    }
    for kind in FileKind::ALL {
        assert_eq!(FileKind::from_wire(kind as u16), Some(kind));
    }
    for kind in RestartKind::ALL {
        assert_eq!(RestartKind::from_wire(kind as u32), Some(kind));
    }
    for command in Command::ALL {
        assert_eq!(Command::from_wire(command as u8), Some(command));
    }
    assert_eq!(Kind::from_wire(0), None);
    assert_eq!(FileKind::from_wire(0), None);
    assert_eq!(RestartKind::from_wire(0), None);
    assert_eq!(Command::from_wire(0), None);
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(inode: u64, tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = record(&PipeData { inode: inode.into() }, &tail);
        let records = read(&bytes).expect("a good stream");
        let (payload, rest) = records[0].parse::<PipeData>().expect("pipe data");
        prop_assert_eq!(payload.inode.get(), inode);
        prop_assert_eq!(rest, tail);
    }

    #[test]
    fn a_cut_stream_is_truncated(cut in 1usize..80) {
        let whole = record(&Process::new_zeroed(), b"");
        let bytes = &whole[..whole.len() - cut.min(whole.len() - 1)];
        prop_assert_eq!(read(bytes), Err(DecodeError::Truncated));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut consumed = 0;
        for record in Reader::new(&bytes).map_while(Result::ok) {
            consumed += record.bytes.len();
            let _ = parse(&record);
        }
        prop_assert!(consumed <= bytes.len());
    }

    /// Bytes that look like records get further than noise does.
    #[test]
    fn any_records_are_parsed_or_refused(
        kind in 0u16..50,
        version in 0u8..3,
        flags in 0u8..3,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = raw(kind, version, flags, &payload);
        for record in Reader::new(&bytes).map_while(Result::ok) {
            let _ = parse(&record);
        }
    }
}

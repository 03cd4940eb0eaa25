// SPDX-License-Identifier: GPL-2.0
//! What is written is read again, and nothing else is believed.

use super::*;
use pmig_wire::file::PipeData;
use pmig_wire::record::write;
use pmig_wire::record::Payload;
use pmig_wire::record::Sink;
use pmig_wire::signal::SIGINFO_SIZE;
use pmig_wire::thread::RestartKind;
use pmig_wire::thread::NOTE_PRSTATUS;
use pmig_wire::thread::NOTE_XSTATE;
use proptest::prelude::*;

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = ();

    fn put(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn with<T: Payload>(image: &Image, payload: &T, tail: &[u8]) -> Result<Image, ImageError> {
    let mut bytes = Bytes(image.to_records());
    write(&mut bytes, payload, tail).expect("a vector takes all");
    Image::from_records(&bytes.0)
}

fn file(id: u32, kind: FileKind, path: &str) -> OpenFile {
    let mut file = File::new_zeroed();
    file.id.set(id);
    file.kind.set(kind as u16);
    file.inode.set(1000 + u64::from(id));
    let path = path.as_bytes().to_vec();
    OpenFile { file, path }
}

fn mapping(start: u64, end: u64, flags: u64, file: u32) -> Vma {
    let mut one = Vma::new_zeroed();
    one.start.set(start);
    one.end.set(end);
    one.flags.set(flags);
    one.file.set(file);
    one
}

prop_compose! {
    /// Any image that is one.
    fn any_image()(
        pid in 2u32..4_000_000,
        gaps in prop::collection::vec((1u64..50, 1u64..50, any::<bool>()), 0..20),
        paths in prop::collection::vec("/[a-z/]{0,40}", 1..6),
        fds in prop::collection::btree_map(0u32..3000, (0usize..6, any::<bool>()), 0..12),
        extra in prop::collection::btree_set(1u32..1000, 0..5),
        groups in prop::collection::vec(any::<u32>(), 0..9),
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..4),
        signals in prop::collection::btree_set(1u32..9, 0..5),
        bytes in prop::collection::vec(any::<u8>(), 0..500),
        watched in prop::collection::btree_set(0u32..3000, 0..6),
    ) -> Image {
        let mut image = Image::empty(pid);
        image.files = (1..).zip(&paths).map(|(id, path)| file(id, FileKind::Regular, path)).collect();
        let pipe = image.files.len() as u32 + 1;
        image.files.push(file(pipe, FileKind::Pipe, ""));
        image.process.executable.set(1);
        let [counts, signals_of, timers, set] = [1, 2, 3, 4].map(|number| pipe + number);
        image.files.push(file(counts, FileKind::Eventfd, ""));
        image.files.push(file(signals_of, FileKind::Signalfd, ""));
        image.files.push(file(timers, FileKind::Timerfd, ""));
        image.files.push(file(set, FileKind::Epoll, ""));
        let mut one = Eventfd::new_zeroed();
        one.file.set(counts);
        image.eventfds.push(one);
        let mut one = Signalfd::new_zeroed();
        one.file.set(signals_of);
        image.signalfds.push(one);
        let mut one = Timerfd::new_zeroed();
        one.file.set(timers);
        image.timerfds.push(one);
        for fd in watched {
            let mut entry = EpollEntry::new_zeroed();
            entry.file.set(set);
            entry.target.set(counts);
            entry.fd.set(fd);
            image.epoll_entries.push(entry);
        }
        let mut address = 0x10000;
        for (gap, size, backed) in gaps {
            let start = address + gap * 4096;
            address = start + size * 4096;
            let flags = vma::READ | if backed { vma::FILE } else { 0 };
            image.vmas.push(mapping(start, address, flags, backed.into()));
        }
        for (fd, (file, cloexec)) in fds {
            let mut descriptor = Descriptor::new_zeroed();
            descriptor.fd.set(fd);
            descriptor.file.set(1 + (file % image.files.len()) as u32);
            descriptor.flags.set(cloexec.into());
            image.descriptors.push(descriptor);
        }
        let inode = 1000 + u64::from(pipe);
        image.pipe_data = data.into_iter().map(|bytes| PipeBytes { inode, bytes }).collect();
        for number in extra {
            let mut thread = image.threads[0].clone();
            thread.thread.tid.set(pid + number);
            thread.credentials = None;
            image.threads.push(thread);
        }
        image.process.threads.set(image.threads.len() as u32);
        for thread in &mut image.threads {
            for note in [NOTE_PRSTATUS, NOTE_XSTATE] {
                let mut registers = Registers::new_zeroed();
                registers.tid = thread.thread.tid;
                registers.note.set(note);
                thread.registers.push(RegisterSet { registers, bytes: bytes.clone() });
            }
            let mut restart = Restart::new_zeroed();
            restart.tid = thread.thread.tid;
            restart.kind.set(RestartKind::Poll as u32);
            thread.restart = Some(restart);
        }
        image.threads[0].credentials.as_mut().expect("made with them").groups = groups;
        for signal in signals.into_iter().filter(|signal| *signal != 9) {
            let mut action = Action::new_zeroed();
            action.signal.set(signal);
            action.handler.set(1);
            image.actions.push(action);
            let mut pending = Pending::new_zeroed();
            pending.siginfo[0] = signal as u8;
            assert_eq!(pending.siginfo.len(), SIGINFO_SIZE);
            image.pending.push(pending);
        }
        let mut timer = PosixTimer::new_zeroed();
        timer.id.set(pid);
        timer.clock.set(1);
        timer.base.set(1);
        timer.signal.set(14);
        image.posix_timers.push(timer);
        image.interval_timers.push(IntervalTimer::new_zeroed());
        image.auxv = vec![3; 48];
        image
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(image in any_image()) {
        let records = image.to_records();
        let again = Image::from_records(&records).expect("valid");
        prop_assert_eq!(&again, &image);
        prop_assert_eq!(again.to_records(), records);
        image.require_complete().expect("complete");
    }

    #[test]
    fn any_bytes_give_an_error_or_an_image(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Image::from_records(&bytes);
    }

    #[test]
    fn a_damaged_stream_gives_an_error_or_an_image(
        image in any_image(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut records = image.to_records();
        for (index, byte) in damage {
            let index = index.index(records.len());
            records[index] = byte;
        }
        let _ = Image::from_records(&records);
        records.truncate(cut.index(records.len()));
        let _ = Image::from_records(&records);
    }

    #[test]
    fn pieces_are_whole_records(image in any_image(), limit in 1usize..4000) {
        let records = image.to_records();
        let pieces = chunks(&records, limit);
        prop_assert_eq!(&pieces.concat(), &records);
        for piece in pieces {
            let count = pmig_wire::record::Reader::new(piece).map(Result::unwrap).count();
            prop_assert!(count >= 1 && (piece.len() <= limit || count == 1));
        }
    }
}

#[test]
fn the_process_comes_first() {
    let mut bytes = Bytes(Vec::new());
    write(&mut bytes, &Limits::new_zeroed(), &[]).expect("a vector takes all");
    assert_eq!(
        Image::from_records(&bytes.0),
        Err(ImageError::Missing(Kind::Process))
    );
    assert_eq!(
        Image::from_records(&[]),
        Err(ImageError::Missing(Kind::Process))
    );
}

#[test]
fn what_only_one_can_say_is_said_once() {
    let image = Image::empty(5);
    let twice = |result: Result<Image, ImageError>| {
        assert!(
            matches!(result, Err(ImageError::Duplicate(..))),
            "{result:?}"
        );
    };
    twice(with(&image, &image.process, &[]));
    twice(with(&image, &image.clocks, &[]));
    twice(with(&image, &image.threads[0].thread, &[]));
}

#[test]
fn references_must_resolve() {
    let image = Image::empty(5);
    let unresolved = |result: Result<Image, ImageError>| {
        assert!(
            matches!(result, Err(ImageError::Unresolved { .. })),
            "{result:?}"
        );
    };
    let mut descriptor = Descriptor::new_zeroed();
    descriptor.file.set(3);
    unresolved(with(&image, &descriptor, &[]));
    unresolved(with(&image, &mapping(0x1000, 0x2000, vma::FILE, 9), &[]));
    unresolved(with(&image, &PipeData { inode: 4.into() }, b"x"));
    let mut registers = Registers::new_zeroed();
    registers.tid.set(6);
    unresolved(with(&image, &registers, &[]));
}

#[test]
fn what_waits_for_events_belongs_to_a_file_of_its_kind() {
    let mut image = Image::empty(5);
    image.files.push(file(1, FileKind::Eventfd, ""));
    image.files.push(file(2, FileKind::Timerfd, ""));
    image.files.push(file(3, FileKind::Epoll, ""));
    assert!(image.require_complete().is_err());
    let mut count = Eventfd::new_zeroed();
    count.file.set(2);
    assert!(with(&image, &count, &[]).is_err());
    count.file.set(1);
    let image = with(&image, &count, &[]).expect("of its kind");
    assert!(with(&image, &count, &[]).is_err());
    let mut timer = Timerfd::new_zeroed();
    timer.file.set(2);
    timer.clock.set(2);
    assert!(with(&image, &timer, &[]).is_err());
    timer.clock.set(1);
    timer.expires.set(-1);
    assert!(with(&image, &timer, &[]).is_err());
    timer.expires.set(1);
    let image = with(&image, &timer, &[]).expect("a timer");
    let mut entry = EpollEntry::new_zeroed();
    entry.file.set(3);
    entry.target.set(4);
    assert!(with(&image, &entry, &[]).is_err());
    entry.target.set(3);
    let image = with(&image, &entry, &[]).expect("an entry");
    assert!(with(&image, &entry, &[]).is_err());
    entry.target.set(0);
    let lost = with(&image, &entry, &[]).expect("it can be told");
    assert!(lost.require_complete().is_err());
}

#[test]
fn locks_belong_to_files_and_have_ranges() {
    let mut image = Image::empty(5);
    let mut held = file(1, FileKind::Regular, "/x");
    held.file.flags.set(open::LOCKED);
    image.files.push(held);
    assert!(image.require_complete().is_err());
    let mut lock = FileLock::new_zeroed();
    lock.file.set(1);
    assert!(with(&image, &lock, &[]).is_err(), "the kind is missing");
    lock.kind.set(1);
    lock.start.set(10);
    assert!(
        with(&image, &lock, &[]).is_err(),
        "it ends before it begins"
    );
    lock.last.set(u64::MAX);
    with(&image, &lock, &[]).expect("up to the end");
    lock.file.set(2);
    assert!(with(&image, &lock, &[]).is_err(), "the file is missing");
}

#[test]
fn timers_are_such_that_can_be_made() {
    let image = Image::empty(5);
    let mut timer = IntervalTimer::new_zeroed();
    timer.which.set(3);
    assert!(with(&image, &timer, &[]).is_err());
    timer.which.set(2);
    let image = with(&image, &timer, &[]).expect("there is one");
    assert!(with(&image, &timer, &[]).is_err());
    let mut timer = PosixTimer::new_zeroed();
    timer.clock.set(1);
    timer.base.set(1);
    assert!(with(&image, &timer, &[]).is_err(), "a signal is missing");
    timer.signal.set(64);
    timer.notify.set(4);
    assert!(with(&image, &timer, &[]).is_err(), "a thread is missing");
    timer.tid.set(5);
    let again = with(&image, &timer, &[]).expect("all is there");
    assert!(with(&again, &timer, &[]).is_err());
    for clock in [2, 9, u32::MAX] {
        timer.clock.set(clock);
        assert!(with(&image, &timer, &[]).is_err());
    }
}

#[test]
fn mappings_are_ordered_and_disjoint() {
    let mut image = Image::empty(5);
    image.vmas.push(mapping(0x2000, 0x4000, 0, 0));
    for (start, end) in [
        (0x1000, 0x2000),
        (0x3000, 0x5000),
        (0x5000, 0x5000),
        (0x5001, 0x6000),
    ] {
        let result = with(&image, &mapping(start, end, 0, 0), &[]);
        assert!(
            matches!(
                result,
                Err(ImageError::Invalid {
                    kind: Kind::Vma,
                    ..
                })
            ),
            "{result:?}"
        );
    }
    with(&image, &mapping(0x4000, 0x5000, 0, 0), &[]).expect("in order");
}

#[test]
fn a_survey_is_not_complete() {
    assert!(Image::empty(5).require_complete().is_err());
}

// SPDX-License-Identifier: GPL-2.0
//! From an image to records.

use super::Image;
use super::ThreadImage;
use pmig_wire::file::PipeData;
use pmig_wire::record::write;
use pmig_wire::record::Payload;
use pmig_wire::record::Reader;
use pmig_wire::record::Sink;
use pmig_wire::timer::PosixTimer;
use std::convert::Infallible;
use zerocopy::little_endian::U64;
use zerocopy::IntoBytes;

/// A vector that grows.
struct Buffer(Vec<u8>);

impl Sink for Buffer {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl Buffer {
    fn record<T: Payload>(&mut self, payload: &T, tail: &[u8]) {
        let Ok(()) = write(self, payload, tail);
    }
}

fn thread(buffer: &mut Buffer, thread: &ThreadImage) {
    buffer.record(&thread.thread, &[]);
    for set in &thread.registers {
        buffer.record(&set.registers, &set.bytes);
    }
    if let Some(restart) = &thread.restart {
        buffer.record(restart, &[]);
    }
}

/// The whole image.
pub(super) fn encode(image: &Image) -> Vec<u8> {
    let mut buffer = Buffer(Vec::new());
    buffer.record(&image.process, &[]);
    buffer.record(&image.limits, &[]);
    buffer.record(&image.clocks, &[]);
    buffer.record(&image.namespaces, &[]);
    buffer.record(&image.memory, &image.auxv);
    for vma in &image.vmas {
        buffer.record(vma, &[]);
    }
    for open in &image.files {
        buffer.record(&open.file, &open.path);
    }
    for descriptor in &image.descriptors {
        buffer.record(descriptor, &[]);
    }
    for data in &image.pipe_data {
        buffer.record(
            &PipeData {
                inode: U64::new(data.inode),
            },
            &data.bytes,
        );
    }
    for one in &image.eventfds {
        buffer.record(one, &[]);
    }
    for one in &image.signalfds {
        buffer.record(one, &[]);
    }
    for one in &image.timerfds {
        buffer.record(one, &[]);
    }
    for entry in &image.epoll_entries {
        buffer.record(entry, &[]);
    }
    for lock in &image.locks {
        buffer.record(lock, &[]);
    }
    for one in &image.threads {
        thread(&mut buffer, one);
    }
    for one in &image.threads {
        if let Some(own) = &one.placement {
            buffer.record(&own.placement, &own.cpus);
        }
        if let Some(own) = &one.credentials {
            let groups: Vec<u8> = own
                .groups
                .iter()
                .flat_map(|group| group.to_le_bytes())
                .collect();
            buffer.record(&own.credentials, groups.as_bytes());
        }
    }
    for action in &image.actions {
        buffer.record(action, &[]);
    }
    for pending in &image.pending {
        buffer.record(pending, &[]);
    }
    for timer in &image.interval_timers {
        buffer.record(timer, &[]);
    }
    for timer in &image.posix_timers {
        buffer.record(timer, &[]);
    }
    buffer.0
}

/// See [`Image::restore_records`].
pub(super) fn restore_records(
    image: &Image,
    host_tid: impl Fn(u32) -> Option<u32>,
) -> Option<Vec<u8>> {
    let mut buffer = Buffer(Vec::new());
    for one in &image.threads {
        let mut here = one.clone();
        here.thread.host_tid.set(host_tid(one.tid())?);
        thread(&mut buffer, &here);
    }
    for pending in &image.pending {
        buffer.record(pending, &[]);
    }
    // All else of a timer is set by the vessel.
    let counted = |timer: &&PosixTimer| timer.last_overrun.get() != 0;
    for timer in image.posix_timers.iter().filter(counted) {
        buffer.record(timer, &[]);
    }
    Some(buffer.0)
}

/// Cuts a record stream into pieces of whole records, each at most `limit` bytes (or one record, if that is longer).
pub fn chunks(records: &[u8], limit: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut start = 0usize;
    let mut end = 0usize;
    for record in Reader::new(records).map_while(Result::ok) {
        let size = record.bytes.len();
        if end > start && end.saturating_add(size).saturating_sub(start) > limit {
            pieces.extend(records.get(start..end));
            start = end;
        }
        end = end.saturating_add(size);
    }
    if end > start {
        pieces.extend(records.get(start..end));
    }
    pieces
}

// SPDX-License-Identifier: GPL-2.0

//! Page frames between the memory of frozen processes and a socket ([`pmig_wire::pages`]).

use crate::kx::mm::Mapping;
use crate::kx::mm::Mm;
use crate::kx::netlink::Failure;
use crate::kx::pages::Access;
use crate::kx::pages::PageBatch;
use crate::kx::socket::Socket;
use kernel::prelude::*;
use pmig_core::validate;
use pmig_core::validate::Span;
use pmig_wire::mm::vma;
use pmig_wire::pages::PageHeader;
use pmig_wire::pages::PageRange;
use pmig_wire::pages::MAX_PAGES;
use pmig_wire::pages::PAGE_MAGIC;
use pmig_wire::PAGE_SIZE;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromZeros;
use zerocopy::IntoBytes;

/// What a stream carried.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) pages: u64,
    pub(crate) zero_pages: u64,
    pub(crate) bytes: u64,
}

fn header(address: u64, pages: usize) -> PageHeader {
    PageHeader {
        magic: U32::new(PAGE_MAGIC),
        pages: U32::new(pages as u32),
        address: U64::new(address),
    }
}

/// Which pages of a mapping are to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// What was written: the rest is zero.
    Anonymous,
    /// What was written, zeros too: the rest is the file's.
    PrivateFile,
    /// All that is there.
    SharedAnonymous,
}

fn content(mapping: &Mapping) -> Option<Content> {
    let flags = mapping.flags;
    if flags & (vma::SPECIAL | vma::DEVICE | vma::HUGETLB) != 0 {
        return None;
    }
    match (flags & vma::SHARED != 0, flags & vma::FILE != 0) {
        (false, false) => Some(Content::Anonymous),
        (false, true) => Some(Content::PrivateFile),
        // The agent asks for pages of shared mappings only where they belong to the process alone.
        (true, _) => Some(Content::SharedAnonymous),
    }
}

/// Sends frames for the runs of wanted pages in the batch, whose first page is at `start`.
fn send_batch(
    socket: &Socket,
    batch: &PageBatch,
    start: u64,
    content: Content,
    counts: &mut Counts,
) -> Result {
    let mut run = 0;
    for index in 0..=batch.len() {
        let wanted = index < batch.len()
            && match content {
                Content::Anonymous | Content::SharedAnonymous => {
                    let zero = batch.is_zero(index);
                    counts.zero_pages = counts.zero_pages.saturating_add(u64::from(zero));
                    !zero
                }
                Content::PrivateFile => batch.is_anonymous(index),
            };
        if wanted {
            continue;
        }
        let length = index.saturating_sub(run);
        if length > 0 {
            let address = start.saturating_add((run as u64).saturating_mul(PAGE_SIZE));
            socket.send(header(address, length).as_bytes(), true)?;
            socket.send_pages(batch, run, length)?;
            let bytes = (length as u64).saturating_mul(PAGE_SIZE);
            counts.pages = counts.pages.saturating_add(length as u64);
            counts.bytes = counts.bytes.saturating_add(bytes);
            counts.bytes = counts.bytes.saturating_add(size_of::<PageHeader>() as u64);
        }
        run = index.saturating_add(1);
    }
    Ok(())
}

fn send_range(
    mm: &Mm,
    socket: &Socket,
    batch: &mut PageBatch,
    (start, end): (u64, u64),
    content: Content,
    counts: &mut Counts,
) -> Result {
    let mut address = start;
    while address < end {
        let first = address;
        batch.clear();
        while address < end && batch.len() < MAX_PAGES as usize {
            let count = end.saturating_sub(address) / PAGE_SIZE;
            let taken = batch.take(mm, address, usize::try_from(count).unwrap_or(usize::MAX))?;
            if taken == 0 {
                break;
            }
            address = address.saturating_add((taken as u64).saturating_mul(PAGE_SIZE));
        }
        if batch.len() == 0 {
            // A hole, or the page of zeros.
            address = address.saturating_add(PAGE_SIZE);
            continue;
        }
        batch.prepare()?;
        send_batch(socket, batch, first, content, counts)?;
    }
    Ok(())
}

/// Sends the pages in `ranges` that have content, and the end of the stream if it is the `last`.
pub(crate) fn send(
    mm: &Mm,
    socket: &Socket,
    ranges: &[PageRange],
    last: bool,
) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    let mut batch = PageBatch::new(Access::Read)?;
    let mappings = mm.mappings()?;
    for range in ranges {
        let Span { start, end } = validate::page_range(range)
            .map_err(|reason| Failure::new(EINVAL, format_args!("{}", reason.message())))?;
        let first = mappings.partition_point(|mapping| mapping.end <= start);
        for mapping in mappings.get(first..).unwrap_or(&[]) {
            if mapping.start >= end {
                break;
            }
            let Some(content) = content(mapping) else {
                continue;
            };
            let part = (mapping.start.max(start), mapping.end.min(end));
            send_range(mm, socket, &mut batch, part, content, &mut counts).map_err(|errno| {
                Failure::new(
                    errno,
                    format_args!("pages at {:x}-{:x} could not be sent", part.0, part.1),
                )
            })?;
        }
    }
    if last {
        socket.send(header(0, 0).as_bytes(), false)?;
        counts.bytes = counts.bytes.saturating_add(size_of::<PageHeader>() as u64);
    }
    Ok(counts)
}

/// Fills memory with the frames that arrive, until the stream ends. Nothing is written into `stub`.
pub(crate) fn receive(mm: &Mm, socket: &Socket, stub: Span) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    let mut batch = PageBatch::new(Access::Write)?;
    loop {
        let mut header = PageHeader::new_zeroed();
        socket
            .receive(header.as_mut_bytes())
            .map_err(|errno| Failure::new(errno, format_args!("the page stream broke off")))?;
        counts.bytes = counts.bytes.saturating_add(size_of::<PageHeader>() as u64);
        let span = validate::page_header(&header, stub)
            .map_err(|reason| Failure::new(EBADMSG, format_args!("{}", reason.message())))?;
        let Some(Span { start, end }) = span else {
            return Ok(counts);
        };
        let bytes = end.saturating_sub(start);
        let pages = (bytes / PAGE_SIZE) as usize;
        batch.clear();
        while batch.len() < pages {
            let address = start.saturating_add((batch.len() as u64).saturating_mul(PAGE_SIZE));
            let missing = pages.saturating_sub(batch.len());
            batch.take(mm, address, missing).map_err(|errno| {
                Failure::new(
                    errno,
                    format_args!("there is no memory for a page at {address:x}"),
                )
            })?;
        }
        batch.prepare()?;
        socket
            .receive_pages(&batch)
            .map_err(|errno| Failure::new(errno, format_args!("the page stream broke off")))?;
        counts.pages = counts.pages.saturating_add(pages as u64);
        counts.bytes = counts.bytes.saturating_add(bytes);
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Page frames: how memory contents travel from module to module, on a connection of their own.
//!
//! A stream is a sequence of frames: a [`PageHeader`], then `pages` whole pages. A header with `pages` 0 ends the stream.

use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The first field of each header: a stream that lost its place is noticed at once.
pub const PAGE_MAGIC: u32 = 0x676d_5047;

/// The most pages in one frame.
pub const MAX_PAGES: u32 = 256;

/// What stands before the pages of a frame.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PageHeader {
    /// [`PAGE_MAGIC`].
    pub magic: U32,
    /// Number of pages that follow, at most [`MAX_PAGES`]; 0 ends the stream.
    pub pages: U32,
    /// Address of the first page in the process.
    pub address: U64,
}
const _: () = assert!(size_of::<PageHeader>() == 16);

/// A range of pages to send, an element of the netlink attribute `ranges`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PageRange {
    /// Address of the first page.
    pub start: U64,
    /// Address behind the last page.
    pub end: U64,
}
const _: () = assert!(size_of::<PageRange>() == 16);

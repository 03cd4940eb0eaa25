// SPDX-License-Identifier: GPL-2.0
//! The control connection between two agents: how messages are framed. What they hold is said with the agent.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The first field of each message.
pub const MESSAGE_MAGIC: u32 = 0x6769_6d70;

/// The longest body of one message, in bytes.
pub const MAX_BODY: u32 = 16 * 1024 * 1024;

/// What stands before each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MessageHeader {
    /// [`MESSAGE_MAGIC`].
    pub magic: U32,
    /// [`crate::ABI_VERSION`] of the sender.
    pub version: U16,
    /// What the message is.
    pub kind: U16,
    /// Bytes of body that follow, at most [`MAX_BODY`].
    pub length: U32,
    /// CRC-32C of the body.
    pub checksum: U32,
}
const _: () = assert!(size_of::<MessageHeader>() == 16);

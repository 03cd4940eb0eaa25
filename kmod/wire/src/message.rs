// SPDX-License-Identifier: GPL-2.0
//! The control connection between two agents, and the one between the tool and its agent: how messages are framed and
//! what they are called.
//!
//! A message is a [`MessageHeader`] and a body. The body of [`MessageKind::Records`] is a piece of a record stream, cut
//! anywhere; an empty one ends the stream. Every other body is a structure in postcard encoding, defined with the agent.
//!
//! The header is the same in all versions, so that a peer of another version can be told so.
//!
//! # A migration
//!
//! ```text
//! source                            destination
//! Hello (migrate) ────────────────►
//!                 ◄──────────────── Welcome
//! TimeRequest ────────────────────►             several times
//!                 ◄──────────────── TimeReply
//! Offer, Records … ───────────────►             the survey
//!                 ◄──────────────── Obstacles   what stands against it there
//! Prepare ────────────────────────►
//!                 ◄──────────────── Prepared    the vessel exists
//! Capture, Records … ─────────────►             the frozen process
//!   Hello (pages) ────────────────►             on a connection of its own, then page frames
//!                 ◄────────────────   Welcome
//! PagesSent ──────────────────────►
//!                 ◄──────────────── Ready       parked, journaled
//! Commit ─────────────────────────►             journaled before
//!                 ◄──────────────── Running     journaled before
//! Released ───────────────────────►             the source's copy is gone
//! ```
//!
//! Both sides send [`MessageKind::Ping`] once a second and take a peer that is silent for some seconds for lost. Either side
//! may send [`MessageKind::Abort`] until the source has sent `Commit`.
//!
//! When a connection ended before its outcome was known, whoever waits asks on a new one: `Hello (query)`, `Welcome`,
//! [`MessageKind::Query`], [`MessageKind::Answer`].

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
pub const MAX_BODY: u32 = 1024 * 1024;

/// What stands before each message.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct MessageHeader {
    /// [`MESSAGE_MAGIC`].
    pub magic: U32,
    /// [`crate::ABI_VERSION`] of the sender.
    pub version: U16,
    /// A [`MessageKind`].
    pub kind: U16,
    /// Bytes of body that follow, at most [`MAX_BODY`].
    pub length: U32,
    /// CRC-32C of the body.
    pub checksum: U32,
}
const _: () = assert!(size_of::<MessageHeader>() == 16);

/// What a message is. The number on the wire never changes its meaning; 0 is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum MessageKind {
    /// The first message of a connection: who is calling, and what for.
    Hello = 1,
    /// The answer to it.
    Welcome = 2,
    /// No, or not any more, and why.
    Abort = 3,
    /// Still here.
    Ping = 4,
    /// What time is it?
    TimeRequest = 5,
    /// The time.
    TimeReply = 6,
    /// A process that runs. Its survey follows as [`MessageKind::Records`].
    Offer = 7,
    /// A piece of a record stream.
    Records = 8,
    /// What stands against a migration.
    Obstacles = 9,
    /// Make the vessel.
    Prepare = 10,
    /// It is made.
    Prepared = 11,
    /// The process is frozen. Its state follows as [`MessageKind::Records`].
    Capture = 12,
    /// All pages are sent.
    PagesSent = 13,
    /// The process is rebuilt and parked.
    Ready = 14,
    /// The decision: the process is the destination's.
    Commit = 15,
    /// It runs.
    Running = 16,
    /// The frozen copy of the source is gone.
    Released = 17,
    /// How did this migration end?
    Query = 18,
    /// What is known about it.
    Answer = 19,
    /// The tool asks its agent for something.
    Request = 32,
    /// Something happened on the way.
    Progress = 33,
    /// The result.
    Reply = 34,
}

impl MessageKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [MessageKind; 22] = [
        MessageKind::Hello,
        MessageKind::Welcome,
        MessageKind::Abort,
        MessageKind::Ping,
        MessageKind::TimeRequest,
        MessageKind::TimeReply,
        MessageKind::Offer,
        MessageKind::Records,
        MessageKind::Obstacles,
        MessageKind::Prepare,
        MessageKind::Prepared,
        MessageKind::Capture,
        MessageKind::PagesSent,
        MessageKind::Ready,
        MessageKind::Commit,
        MessageKind::Running,
        MessageKind::Released,
        MessageKind::Query,
        MessageKind::Answer,
        MessageKind::Request,
        MessageKind::Progress,
        MessageKind::Reply,
    ];

    /// The kind with this number on the wire.
    pub fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

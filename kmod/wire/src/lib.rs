// SPDX-License-Identifier: GPL-2.0
//! The bytes that pmig's module, its tool and its peers exchange.
//!
//! This crate is compiled twice from the same source: into `pmig.ko` and into `pmigctl`. It allocates nothing, calls
//! nothing and forbids `unsafe`, so that both sides of every boundary read the same bytes the same way.
//!
//! # Record stream
//!
//! State travels as a sequence of *records*. A record is a [`record::RecordHeader`] and `length` bytes of payload. A
//! payload is one fixed structure, named after the noun it describes, and for some kinds a variable tail (a path, a
//! register block). All integers are little-endian and unaligned; reserved bytes are zero and are checked to be zero.
//! Flags are pmig's own and never a kernel's bit mask.
//!
//! A reader that meets an unknown kind refuses the stream if the record is marked
//! [`record::FLAG_CRITICAL`], and otherwise skips it. A reader that knows the kind but has no use for the record treats
//! that as an error too: state that nobody restored is state lost.
//!
//! # Where the streams go
//!
//! | from | to | carrier |
//! |---|---|---|
//! | module | agent of the source | generic netlink, attribute `records` of `survey` and `capture` ([`netlink`]) |
//! | agent | agent | messages of the control connection ([`message`]) |
//! | agent of the destination | module | generic netlink, attribute `records` of `restore` |
//! | module | module | page frames on a connection of their own ([`pages`]) |
//!
//! # Time
//!
//! Every time in a record is in nanoseconds and in the *view of the process*: the host's clock plus the offset of the
//! process's time namespace. The capturing module adds the offset, the restoring module subtracts its own, so nothing in
//! between has to know either host's clock.
#![cfg_attr(not(any(test, CONFIG_RUST)), no_std)]
#![forbid(unsafe_code)]

pub mod cred;
pub mod event;
pub mod file;
pub mod message;
pub mod mm;
pub mod netlink;
pub mod pages;
pub mod process;
pub mod record;
pub mod signal;
pub mod thread;
pub mod timer;

/// Version of the interface between the module and the tool, and of the protocol between two agents.
///
/// It changes with every incompatible change of anything in this crate.
pub const ABI_VERSION: u32 = 1;

/// Size of a page in bytes. x86-64 has no other base page size.
pub const PAGE_SIZE: u64 = 4096;

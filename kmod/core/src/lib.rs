// SPDX-License-Identifier: GPL-2.0
//! What pmig decides, without kernel or I/O.
//!
//! Every decision that both the module and the tool have to make the same way is made here, once: which process can be
//! moved and what to say if it cannot ([`obstacle`], [`admission`]), in which order a migration goes and who undoes what
//! ([`phase`]), which request a session obeys in which state ([`session`]), which records of a peer the module believes
//! ([`validate`]), and how a mapping is made again ([`vma`]).
//!
//! The crate is compiled into `pmig.ko` and into `pmigctl`. It allocates nothing and cannot panic.

#![cfg_attr(not(any(test, CONFIG_RUST)), no_std)]
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod admission;
pub mod feature;
pub mod obstacle;
pub mod phase;
pub mod session;
pub mod validate;
pub mod vma;

/// Whether a capability set holds the capability `number`.
pub fn has_capability(set: u64, number: u32) -> bool {
    set.checked_shr(number)
        .is_some_and(|shifted| shifted & 1 == 1)
}

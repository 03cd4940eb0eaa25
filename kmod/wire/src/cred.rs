// SPDX-License-Identifier: GPL-2.0
//! Credentials. IDs are numbers of the initial user namespace.

use crate::record::payload;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The most supplementary groups a task can have (`NGROUPS_MAX` is 65536; a stream carries no more than these).
pub const MAX_GROUPS: usize = 8192;

/// The credentials of one thread. A thread without a record has those of the thread-group leader. The tail is the
/// supplementary groups, each a [`U32`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Credentials {
    /// TID in the process's own PID namespace.
    pub tid: U32,
    /// As `PR_GET_SECUREBITS`.
    pub securebits: U32,
    /// Real user.
    pub uid: U32,
    /// Effective user.
    pub euid: U32,
    /// Saved user.
    pub suid: U32,
    /// File system user.
    pub fsuid: U32,
    /// Real group.
    pub gid: U32,
    /// Effective group.
    pub egid: U32,
    /// Saved group.
    pub sgid: U32,
    /// File system group.
    pub fsgid: U32,
    /// Inheritable capabilities, bit n for capability n.
    pub inheritable: U64,
    /// Permitted capabilities.
    pub permitted: U64,
    /// Effective capabilities.
    pub effective: U64,
    /// Bounding set.
    pub bounding: U64,
    /// Ambient capabilities.
    pub ambient: U64,
}
const _: () = assert!(size_of::<Credentials>() == 80);
payload!(Credentials, Credentials, tail = true);

// SPDX-License-Identifier: GPL-2.0
//! The address space: its boundaries and its mappings. Contents travel as [`crate::pages`].

use crate::record::payload;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The boundaries that `prctl(PR_SET_MM_MAP)` knows, and the vdso. The tail is the auxiliary vector as the program got it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Memory {
    /// Start of the program's code.
    pub start_code: U64,
    /// End of the program's code.
    pub end_code: U64,
    /// Start of the program's data.
    pub start_data: U64,
    /// End of the program's data.
    pub end_data: U64,
    /// Start of the heap.
    pub start_brk: U64,
    /// Current end of the heap.
    pub brk: U64,
    /// Where the stack began.
    pub start_stack: U64,
    /// Start of the arguments.
    pub arg_start: U64,
    /// End of the arguments.
    pub arg_end: U64,
    /// Start of the environment.
    pub env_start: U64,
    /// End of the environment.
    pub env_end: U64,
    /// First byte of the vdso's data pages (the lowest special mapping), 0 without a vdso.
    pub vvar_start: U64,
    /// First byte of the vdso's code, 0 without a vdso.
    pub vdso_start: U64,
    /// First byte behind the special mappings.
    pub vdso_end: U64,
    /// `VM_LOCKED` and `VM_LOCKONFAULT` for future mappings (`mlockall(MCL_FUTURE)`): [`LOCK_FUTURE`], [`LOCK_ON_FAULT`].
    pub lock_flags: U32,
    /// See [`setting`].
    pub settings: U32,
}
const _: () = assert!(size_of::<Memory>() == 120);
payload!(Memory, Memory, tail = true);

/// What the process has chosen for its memory as a whole. Bits of [`Memory::settings`].
pub mod setting {
    /// `PR_SET_MDWE`: refuses what is both writable and executable.
    pub const DENY_WRITE_EXECUTE: u32 = 1 << 0;
    /// Its children need not.
    pub const DENY_WRITE_EXECUTE_ALONE: u32 = 1 << 1;
    /// `PR_SET_THP_DISABLE`: no transparent huge pages.
    pub const NO_HUGE_PAGES: u32 = 1 << 2;
    /// `PR_SET_THP_DISABLE`: none but where they were asked for.
    pub const HUGE_PAGES_IF_ADVISED: u32 = 1 << 3;
    /// `PR_SET_MEMORY_MERGE`: equal pages may be merged.
    pub const MERGE: u32 = 1 << 4;
    /// `MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED`
    pub const BARRIER_GLOBAL: u32 = 1 << 5;
    /// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED`
    pub const BARRIER_PRIVATE: u32 = 1 << 6;
    /// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE`
    pub const BARRIER_SYNC_CORE: u32 = 1 << 7;
    /// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ`
    pub const BARRIER_RSEQ: u32 = 1 << 8;
    /// All of these.
    pub const ALL: u32 = (1 << 9) - 1;
}

/// Future mappings are locked.
pub const LOCK_FUTURE: u32 = 1;
/// Locked mappings are locked as they are touched.
pub const LOCK_ON_FAULT: u32 = 2;

/// Properties of a mapping. Bits of [`Vma::flags`].
pub mod vma {
    /// `PROT_READ`
    pub const READ: u64 = 1 << 0;
    /// `PROT_WRITE`
    pub const WRITE: u64 = 1 << 1;
    /// `PROT_EXEC`
    pub const EXEC: u64 = 1 << 2;
    /// `MAP_SHARED`
    pub const SHARED: u64 = 1 << 3;
    /// `MAP_GROWSDOWN`
    pub const GROWSDOWN: u64 = 1 << 4;
    /// `MAP_NORESERVE`
    pub const NORESERVE: u64 = 1 << 5;
    /// Backed by [`super::Vma::file`]; anonymous otherwise.
    pub const FILE: u64 = 1 << 6;
    /// Shared anonymous memory: [`super::Vma::file`] is the identity of the kernel's own shmem file.
    pub const SHARED_ANONYMOUS: u64 = 1 << 7;
    /// A mapping of the vdso.
    pub const SPECIAL: u64 = 1 << 8;
    /// `mlock`
    pub const LOCKED: u64 = 1 << 9;
    /// `MLOCK_ONFAULT`
    pub const LOCK_ON_FAULT: u64 = 1 << 10;
    /// `MADV_DONTFORK`
    pub const DONTFORK: u64 = 1 << 11;
    /// `MADV_DONTDUMP`
    pub const DONTDUMP: u64 = 1 << 12;
    /// `MADV_WIPEONFORK`
    pub const WIPEONFORK: u64 = 1 << 13;
    /// `MADV_SEQUENTIAL`
    pub const SEQUENTIAL: u64 = 1 << 14;
    /// `MADV_RANDOM`
    pub const RANDOM: u64 = 1 << 15;
    /// `MADV_HUGEPAGE`
    pub const HUGEPAGE: u64 = 1 << 16;
    /// `MADV_NOHUGEPAGE`
    pub const NOHUGEPAGE: u64 = 1 << 17;
    /// `MADV_MERGEABLE`
    pub const MERGEABLE: u64 = 1 << 18;
    /// `MAP_DROPPABLE`
    pub const DROPPABLE: u64 = 1 << 19;
    /// `mseal`
    pub const SEALED: u64 = 1 << 20;
    /// May hold guard regions (`MADV_GUARD_INSTALL`).
    pub const MAYBE_GUARD: u64 = 1 << 21;
    /// hugetlb memory.
    pub const HUGETLB: u64 = 1 << 22;
    /// Device memory (`VM_IO`, `VM_PFNMAP`, `VM_MIXEDMAP`), secret memory, or another kind without pages to copy.
    pub const DEVICE: u64 = 1 << 23;
    /// Watched by userfaultfd.
    pub const USERFAULTFD: u64 = 1 << 24;
    /// Has a NUMA policy.
    pub const POLICY: u64 = 1 << 25;
    /// Has a protection key.
    pub const PROTECTION_KEY: u64 = 1 << 26;
    /// Shadow stack.
    pub const SHADOW_STACK: u64 = 1 << 27;
    /// `MAP_SYNC`
    pub const SYNC: u64 = 1 << 28;
    /// The file is also mapped or open outside the process; only set with [`SHARED_ANONYMOUS`].
    pub const OUTSIDERS: u64 = 1 << 29;
    /// `VM_MAYWRITE`: may be made writable.
    pub const MAY_WRITE: u64 = 1 << 30;
    /// A kernel flag is set that this version does not understand.
    pub const UNKNOWN: u64 = 1 << 31;
    /// Accounted memory (`VM_ACCOUNT`).
    pub const ACCOUNT: u64 = 1 << 32;
    /// A System V shared memory segment.
    pub const SYSV: u64 = 1 << 33;
}

/// One mapping. In ascending order of addresses.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Vma {
    /// First byte.
    pub start: U64,
    /// First byte behind.
    pub end: U64,
    /// Offset in the file, bytes.
    pub offset: U64,
    /// See [`vma`].
    pub flags: U64,
    /// Identity of the [`crate::file::File`], 0 for none.
    pub file: U32,
    /// Zero.
    pub reserved: U32,
}
const _: () = assert!(size_of::<Vma>() == 40);
payload!(Vma, Vma, reserved = reserved);

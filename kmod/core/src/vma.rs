// SPDX-License-Identifier: GPL-2.0
//! Mappings: from the properties on the wire to the arguments of `mmap(2)` that make the same mapping, and back.
//!
//! The numbers are those of x86-64 (`include/uapi/asm-generic/mman*.h`, `arch/x86/include/uapi/asm/mman.h`).

use pmig_wire::mm::vma;

/// `PROT_READ`
pub const PROT_READ: u32 = 0x1;
/// `PROT_WRITE`
pub const PROT_WRITE: u32 = 0x2;
/// `PROT_EXEC`
pub const PROT_EXEC: u32 = 0x4;

/// `MAP_SHARED`
pub const MAP_SHARED: u32 = 0x01;
/// `MAP_PRIVATE`
pub const MAP_PRIVATE: u32 = 0x02;
/// `MAP_DROPPABLE`
pub const MAP_DROPPABLE: u32 = 0x08;
/// `MAP_FIXED`
pub const MAP_FIXED: u32 = 0x10;
/// `MAP_ANONYMOUS`
pub const MAP_ANONYMOUS: u32 = 0x20;
/// `MAP_GROWSDOWN`
pub const MAP_GROWSDOWN: u32 = 0x0100;
/// `MAP_NORESERVE`
pub const MAP_NORESERVE: u32 = 0x4000;
/// `MAP_FIXED_NOREPLACE`
pub const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;

const MAP_TYPE: u32 = 0x0f;

/// The arguments of `mmap(2)` for one mapping, without `MAP_FIXED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// `PROT_*`
    pub prot: u32,
    /// `MAP_*`
    pub flags: u32,
}

/// Why a mapping cannot be made by `mmap(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmappable {
    /// The vdso and its data, which have a call of their own.
    Special,
    /// The properties contradict each other.
    Contradiction,
    /// A property that is not movable, see [`crate::admission::MAPPING_FLAGS`].
    NotMovable(u64),
}

const PROTECTIONS: [(u64, u32); 3] = [
    (vma::READ, PROT_READ),
    (vma::WRITE, PROT_WRITE),
    (vma::EXEC, PROT_EXEC),
];

/// The arguments of the `mmap(2)` that makes a mapping with the properties `flags` of [`pmig_wire::mm::vma`].
pub fn to_mmap(flags: u64) -> Result<Mapping, Unmappable> {
    let has = |bits: u64| flags & bits != 0;
    let foreign = flags & !crate::admission::MOVABLE_MAPPING_FLAGS;
    if foreign != 0 {
        return Err(Unmappable::NotMovable(foreign));
    }
    if has(vma::SPECIAL) {
        return Err(Unmappable::Special);
    }
    let contradiction = (has(vma::SHARED_ANONYMOUS) && (!has(vma::SHARED) || has(vma::FILE)))
        || (has(vma::SHARED) && !has(vma::FILE | vma::SHARED_ANONYMOUS))
        || (has(vma::DROPPABLE) && has(vma::SHARED | vma::FILE | vma::LOCKED))
        || (has(vma::GROWSDOWN) && has(vma::SHARED | vma::FILE));
    if contradiction {
        return Err(Unmappable::Contradiction);
    }
    let prot = PROTECTIONS
        .iter()
        .filter(|(bit, _)| has(*bit))
        .fold(0, |sum, (_, number)| sum | number);
    let mut number = if has(vma::DROPPABLE) {
        MAP_DROPPABLE
    } else if has(vma::SHARED) {
        MAP_SHARED
    } else {
        MAP_PRIVATE
    };
    if !has(vma::FILE) {
        number |= MAP_ANONYMOUS;
    }
    if has(vma::GROWSDOWN) {
        number |= MAP_GROWSDOWN;
    }
    if has(vma::NORESERVE) {
        number |= MAP_NORESERVE;
    }
    Ok(Mapping {
        prot,
        flags: number,
    })
}

/// The properties that an `mmap(2)` with these arguments gives a mapping: the inverse of [`to_mmap`] for what `mmap(2)`
/// decides. `None` for arguments that [`to_mmap`] never makes.
pub fn from_mmap(mapping: Mapping) -> Option<u64> {
    let known = MAP_TYPE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE;
    if mapping.flags & !known != 0 || mapping.prot & !(PROT_READ | PROT_WRITE | PROT_EXEC) != 0 {
        return None;
    }
    let anonymous = mapping.flags & MAP_ANONYMOUS != 0;
    let mut flags = PROTECTIONS
        .iter()
        .filter(|(_, number)| mapping.prot & number != 0)
        .fold(0, |sum, (bit, _)| sum | bit);
    match (mapping.flags & MAP_TYPE, anonymous) {
        (MAP_PRIVATE, true) => {}
        (MAP_PRIVATE, false) => flags |= vma::FILE,
        (MAP_SHARED, true) => flags |= vma::SHARED | vma::SHARED_ANONYMOUS,
        (MAP_SHARED, false) => flags |= vma::SHARED | vma::FILE,
        (MAP_DROPPABLE, true) => flags |= vma::DROPPABLE,
        _ => return None,
    }
    if mapping.flags & MAP_GROWSDOWN != 0 {
        if flags & (vma::SHARED | vma::FILE) != 0 {
            return None;
        }
        flags |= vma::GROWSDOWN;
    }
    if mapping.flags & MAP_NORESERVE != 0 {
        flags |= vma::NORESERVE;
    }
    Some(flags)
}

/// The `madvise(2)` calls that give a fresh mapping the rest of its properties, in an order that works.
pub fn advice(flags: u64) -> impl Iterator<Item = i32> {
    // MAP_DROPPABLE sets these two by itself, and forbids to change them.
    let implied = if flags & vma::DROPPABLE != 0 {
        vma::WIPEONFORK | vma::DONTDUMP
    } else {
        0
    };
    ADVICE
        .iter()
        .filter(move |(bit, _)| flags & !implied & bit != 0)
        .map(|(_, number)| *number)
}

const ADVICE: [(u64, i32); 8] = [
    (vma::RANDOM, 1),
    (vma::SEQUENTIAL, 2),
    (vma::DONTFORK, 10),
    (vma::MERGEABLE, 12),
    (vma::HUGEPAGE, 14),
    (vma::NOHUGEPAGE, 15),
    (vma::DONTDUMP, 16),
    (vma::WIPEONFORK, 18),
];

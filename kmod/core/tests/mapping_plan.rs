// SPDX-License-Identifier: GPL-2.0
//! Mappings to `mmap(2)` and back.

use pmig_core::admission;
use pmig_core::vma as plan;
use pmig_core::vma::Mapping;
use pmig_core::vma::Unmappable;
use pmig_wire::mm::vma;
use proptest::prelude::*;

/// What `mmap(2)` decides, as against `madvise(2)`, `mlock(2)` and the file.
const DECIDED: u64 = vma::READ
    | vma::WRITE
    | vma::EXEC
    | vma::SHARED
    | vma::GROWSDOWN
    | vma::NORESERVE
    | vma::FILE
    | vma::SHARED_ANONYMOUS
    | vma::DROPPABLE;

#[test]
fn usual_mappings() {
    let mapping = |prot, flags| Ok(Mapping { prot, flags });
    assert_eq!(plan::to_mmap(vma::READ | vma::WRITE), mapping(3, 0x22));
    assert_eq!(
        plan::to_mmap(vma::READ | vma::EXEC | vma::FILE),
        mapping(5, 0x02)
    );
    assert_eq!(
        plan::to_mmap(vma::READ | vma::SHARED | vma::FILE),
        mapping(1, 0x01)
    );
    assert_eq!(
        plan::to_mmap(vma::WRITE | vma::SHARED | vma::SHARED_ANONYMOUS),
        mapping(2, 0x21)
    );
    assert_eq!(
        plan::to_mmap(vma::READ | vma::WRITE | vma::GROWSDOWN),
        mapping(3, 0x122)
    );
    assert_eq!(plan::to_mmap(vma::NORESERVE), mapping(0, 0x4022));
    assert_eq!(
        plan::to_mmap(vma::READ | vma::DROPPABLE | vma::WIPEONFORK | vma::DONTDUMP),
        mapping(1, 0x28)
    );
}

#[test]
fn what_cannot_be_mapped_is_said() {
    assert_eq!(
        plan::to_mmap(vma::SPECIAL | vma::READ),
        Err(Unmappable::Special)
    );
    assert_eq!(
        plan::to_mmap(vma::HUGETLB | vma::READ),
        Err(Unmappable::NotMovable(vma::HUGETLB))
    );
    assert_eq!(plan::to_mmap(vma::SHARED), Err(Unmappable::Contradiction));
    assert_eq!(
        plan::to_mmap(vma::SHARED_ANONYMOUS),
        Err(Unmappable::Contradiction)
    );
    assert_eq!(
        plan::to_mmap(vma::GROWSDOWN | vma::FILE),
        Err(Unmappable::Contradiction)
    );
}

#[test]
fn advice_is_given_for_each_property() {
    let all = vma::DONTFORK
        | vma::DONTDUMP
        | vma::WIPEONFORK
        | vma::SEQUENTIAL
        | vma::RANDOM
        | vma::HUGEPAGE
        | vma::NOHUGEPAGE
        | vma::MERGEABLE;
    let mut numbers: Vec<i32> = plan::advice(all).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 10, 12, 14, 15, 16, 18]);
    assert_eq!(plan::advice(0).count(), 0);
    assert_eq!(
        plan::advice(vma::DROPPABLE | vma::WIPEONFORK | vma::DONTDUMP).count(),
        0
    );
}

proptest! {
    #[test]
    fn every_mapping_is_read_back(flags: u64) {
        match plan::to_mmap(flags & admission::MOVABLE_MAPPING_FLAGS) {
            Ok(mapping) => {
                let back = plan::from_mmap(mapping);
                prop_assert_eq!(back, Some(flags & DECIDED));
            }
            Err(error) => prop_assert!(!matches!(error, Unmappable::NotMovable(_))),
        }
    }

    #[test]
    fn what_is_not_movable_is_never_mapped(flags: u64) {
        let foreign = flags & !admission::MOVABLE_MAPPING_FLAGS;
        if foreign != 0 {
            prop_assert_eq!(plan::to_mmap(flags), Err(Unmappable::NotMovable(foreign)));
        }
    }

    #[test]
    fn arguments_are_read_back(prot in 0u32..8, flags in 0u32..0x8000) {
        let mapping = Mapping { prot, flags };
        if let Some(properties) = plan::from_mmap(mapping) {
            prop_assert_eq!(plan::to_mmap(properties), Ok(mapping));
        }
    }
}

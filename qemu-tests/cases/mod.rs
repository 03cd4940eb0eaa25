// SPDX-License-Identifier: GPL-2.0

//! The guest tests. A file for each subject; its `cases` function lists its tests, whose names read as promises.

use qemu_tests::Case;

mod cluster;
mod drain;
mod endurance;
mod faults;
mod features;
mod frozen;
mod module;
mod programs;
mod refusals;
mod specification;
mod workload;

/// All tests, in the order in which they run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(cluster::cases());
    cases.extend(module::cases());
    cases.extend(specification::cases());
    // The longest of all; at the end most processors would have nothing to do beside them.
    cases.extend(endurance::cases());
    cases.extend(features::cases());
    cases.extend(programs::cases());
    cases.extend(refusals::cases());
    cases.extend(drain::cases());
    cases.extend(faults::cases());
    cases.extend(frozen::cases());
    cases
}

// SPDX-License-Identifier: GPL-2.0

//! The guest tests. A file for each subject; its `cases` function lists its tests, whose names read as promises.

use qemu_tests::Case;

mod cluster;
mod drain;
mod endurance;
mod faults;
mod features;
mod module;
mod programs;
mod refusals;
mod specification;
mod workload;

/// Tests that are left out unless they are asked for: the beginning of the name, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "o11_exactly_one: kill on the destination",
        "takes minutes and is not yet known to be stable; --all runs it",
    ),
    (
        "o11_exactly_one: disconnect",
        "takes minutes and is not yet known to be stable; --all runs it",
    ),
    (
        "o11_exactly_one: error",
        "takes minutes and is not yet known to be stable; --all runs it",
    ),
    (
        "o11_exactly_one: the link",
        "takes minutes and is not yet known to be stable; --all runs it",
    ),
    (
        "o12_source_resumes: the destination runs out of memory",
        "not yet known to be stable; --all runs it",
    ),
    (
        "a PID that is taken on the destination",
        "not yet known to be stable; --all runs it",
    ),
    (
        "both agents die",
        "not yet known to be stable; --all runs it",
    ),
    (
        "the netlink family takes 100,000",
        "takes minutes and is not yet known to be stable; --all runs it",
    ),
    (
        "the agent's port takes 100,000",
        "takes minutes and is not yet known to be stable; --all runs it",
    ),
    (
        "a program goes there and back a hundred times",
        "takes ten minutes and is not yet known to be stable; --all runs it",
    ),
    (
        "two agents move eight programs",
        "not yet known to be stable; --all runs it",
    ),
    (
        "a destination whose CPU has fewer features",
        "not yet known to be stable; --all runs it",
    ),
];

/// All tests, in the order in which they run.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(cluster::cases());
    cases.extend(module::cases());
    cases.extend(specification::cases());
    cases.extend(features::cases());
    cases.extend(programs::cases());
    cases.extend(refusals::cases());
    cases.extend(drain::cases());
    cases.extend(faults::cases());
    cases.extend(endurance::cases());
    cases
        .into_iter()
        .map(|case: Case| {
            let found = LEFT_OUT
                .iter()
                .find(|(name, _)| case.name().starts_with(name));
            match found {
                Some((_, reason)) => case.left_out(reason),
                None => case,
            }
        })
        .collect()
}

// SPDX-License-Identifier: GPL-2.0
//! Whether what runs on one host can go on on another.

use super::Found;
use super::HostFacts;
use pmig_core::obstacle::destination as between;
use pmig_core::obstacle::selection;
use pmig_core::obstacle::Obstacle;
use pmig_wire::thread::RestartKind;

/// How far apart two wall clocks may be before a process is told, in nanoseconds.
const CLOCK_SKEW: u64 = 1_000_000_000;

/// Everything about the two hosts that stands in the way, whatever the process.
///
/// The clocks count only as far as both sides' facts were collected at about the same time.
pub fn compare(source: &HostFacts, destination: &HostFacts) -> Vec<Found> {
    let mut found = Vec::new();
    if same_host(source, destination) {
        found.push(Found::process(&selection::SAME_HOST));
    }
    let mut equal = |obstacle: &'static Obstacle, here: &str, there: &str| {
        if here != there {
            found.push(Found::new(obstacle, format!("{here} here, {there} there")));
        }
    };
    equal(
        &between::ABI_VERSION,
        &source.abi.to_string(),
        &destination.abi.to_string(),
    );
    equal(
        &between::MODULE_VERSION,
        shown(&source.module_version),
        shown(&destination.module_version),
    );
    equal(
        &between::KERNEL_RELEASE,
        &source.release,
        &destination.release,
    );
    if source.release == destination.release {
        equal(
            &between::KERNEL_BUILD,
            &source.build_id,
            &destination.build_id,
        );
    }
    equal(
        &between::VDSO,
        short(&source.vdso),
        short(&destination.vdso),
    );
    equal(
        &between::PAGE_SIZE,
        &source.page_size.to_string(),
        &destination.page_size.to_string(),
    );
    cpu(source, destination, &mut found);
    if !has_learnt_all(destination) && !destination.module_version.is_empty() {
        found.push(Found::new(
            &between::HARVEST_MISSING,
            "the destination's module",
        ));
    }
    let skew = source.clocks.realtime.abs_diff(destination.clocks.realtime);
    if skew > CLOCK_SKEW {
        found.push(Found::new(
            &between::CLOCK_SKEW,
            format!("{} s", skew / 1_000_000_000),
        ));
    }
    found
}

/// Two agents on one kernel are still two hosts if they are apart in network and PIDs.
fn same_host(source: &HostFacts, destination: &HostFacts) -> bool {
    let (here, there) = (source.namespaces, destination.namespaces);
    source.boot_id == destination.boot_id && here.net == there.net && here.pid == there.pid
}

fn cpu(source: &HostFacts, destination: &HostFacts, found: &mut Vec<Found>) {
    let (here, there) = (&source.cpu, &destination.cpu);
    let missing: Vec<&str> = here
        .features
        .difference(&there.features)
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        found.push(Found::new(&between::CPU_FEATURES, missing.join(", ")));
    }
    let lost = here.xcr0 & !there.xcr0;
    if lost != 0 {
        found.push(Found::new(
            &between::CPU_STATE,
            format!("XCR0 bits {lost:#x} are missing there"),
        ));
    } else if here.xstate_size > there.xstate_size {
        found.push(Found::new(
            &between::CPU_STATE,
            format!(
                "{} bytes here, {} bytes there",
                here.xstate_size, there.xstate_size
            ),
        ));
    }
    if (&here.vendor, &here.model) != (&there.vendor, &there.model) {
        found.push(Found::new(
            &between::CPU_VENDOR,
            format!("{} here, {} there", shown(&here.model), shown(&there.model)),
        ));
    }
}

fn has_learnt_all(host: &HostFacts) -> bool {
    RestartKind::ALL
        .into_iter()
        .filter(|kind| *kind != RestartKind::None)
        .all(|kind| host.harvested & (1 << kind as u32) != 0)
}

fn shown(text: &str) -> &str {
    if text.is_empty() {
        "none"
    } else {
        text
    }
}

/// As much of a hash as people compare.
fn short(hash: &str) -> &str {
    shown(hash.get(..16).unwrap_or(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::CpuFacts;

    fn host(name: &str) -> HostFacts {
        HostFacts {
            hostname: name.into(),
            release: "7.3.4".into(),
            build_id: "aa".into(),
            vdso: "0123456789abcdef0123".into(),
            page_size: 4096,
            abi: 1,
            module_version: "0.1.0".into(),
            module_release: "7.3.4".into(),
            harvested: u32::MAX,
            boot_id: name.into(),
            cpu: CpuFacts {
                vendor: "V".into(),
                model: "M".into(),
                features: ["sse2", "avx"].map(String::from).into(),
                xcr0: 7,
                xstate_size: 832,
            },
            ..HostFacts::default()
        }
    }

    fn codes(change: impl FnOnce(&mut HostFacts)) -> Vec<&'static str> {
        let mut destination = host("b");
        change(&mut destination);
        compare(&host("a"), &destination)
            .iter()
            .map(|found| found.obstacle.code)
            .collect()
    }

    #[test]
    fn equal_hosts_have_no_obstacle() {
        assert_eq!(codes(|_| {}), [""; 0]);
    }

    #[test]
    fn each_difference_has_its_code() {
        assert_eq!(codes(|host| host.boot_id = "a".into()), ["same-host"]);
        assert_eq!(codes(|host| host.abi = 2), ["abi-version"]);
        assert_eq!(
            codes(|host| host.module_version = "2".into()),
            ["module-version"]
        );
        assert_eq!(
            codes(|host| host.release = "7.3.5".into()),
            ["kernel-release"]
        );
        assert_eq!(codes(|host| host.build_id = "bb".into()), ["kernel-build"]);
        assert_eq!(codes(|host| host.vdso = "ff".into()), ["vdso"]);
        assert_eq!(codes(|host| host.page_size = 65536), ["page-size"]);
        assert_eq!(codes(|host| host.cpu.xcr0 = 3), ["cpu-state"]);
        assert_eq!(codes(|host| host.cpu.xstate_size = 576), ["cpu-state"]);
        assert_eq!(codes(|host| host.cpu.model = "N".into()), ["cpu-vendor"]);
        assert_eq!(codes(|host| host.harvested = 0), ["restart-unknown"]);
        assert_eq!(
            codes(|host| host.clocks.realtime = 5_000_000_000),
            ["clock-skew"]
        );
    }

    #[test]
    fn the_destination_may_have_more_cpu_features() {
        assert_eq!(
            codes(|host| host.cpu.features.extend(["avx512f".to_owned()])),
            [""; 0]
        );
        assert_eq!(
            codes(|host| host.cpu.features.retain(|name| name != "avx")),
            ["cpu-features"]
        );
    }

    #[test]
    fn two_namespaces_of_one_kernel_are_two_hosts() {
        let apart = |host: &mut HostFacts| {
            host.boot_id = "a".into();
            host.namespaces.net = 1;
        };
        assert_eq!(codes(apart), [""; 0]);
    }

    #[test]
    fn all_differences_are_told_at_once() {
        let found = codes(|host| {
            host.abi = 9;
            host.vdso.clear();
            host.cpu.features.clear();
        });
        assert_eq!(found, ["abi-version", "vdso", "cpu-features"]);
    }
}

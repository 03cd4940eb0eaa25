// SPDX-License-Identifier: GPL-2.0
//! Whether a host has room for a process.

use super::facts::read;
use super::Found;
use crate::image::Image;
use pmig_core::obstacle::destination;
use pmig_wire::mm::vma;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;

/// How much fits on a host. 0 or `u64::MAX` where the host does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostLimits {
    /// Memory that programs can still get without swapping, bytes.
    pub memory_available: u64,
    /// PIDs are below this number.
    pub pid_max: u32,
    /// Tasks that there can be at once.
    pub threads_max: u64,
    /// Mappings that one process can have.
    pub map_count_max: u64,
    /// File descriptors are below this number.
    pub nr_open: u64,
    /// Lowest address that a program may map.
    pub mmap_min_addr: u64,
    /// Whether the kernel has time namespaces.
    pub time_namespaces: bool,
}

impl Default for HostLimits {
    /// A host without limits.
    fn default() -> Self {
        Self {
            memory_available: u64::MAX,
            pid_max: u32::MAX,
            threads_max: u64::MAX,
            map_count_max: u64::MAX,
            nr_open: u64::MAX,
            mmap_min_addr: 0,
            time_namespaces: true,
        }
    }
}

impl HostLimits {
    /// The limits of this host. What it does not say is no limit: the attempt will tell.
    pub fn read() -> Self {
        let none = Self::default();
        let number = |path: &str| read(path).ok().and_then(|text| text.parse::<u64>().ok());
        Self {
            memory_available: read("/proc/meminfo")
                .ok()
                .and_then(|text| available(&text))
                .unwrap_or(none.memory_available),
            pid_max: number("/proc/sys/kernel/pid_max")
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(none.pid_max),
            threads_max: number("/proc/sys/kernel/threads-max").unwrap_or(none.threads_max),
            map_count_max: number("/proc/sys/vm/max_map_count").unwrap_or(none.map_count_max),
            nr_open: number("/proc/sys/fs/nr_open").unwrap_or(none.nr_open),
            mmap_min_addr: number("/proc/sys/vm/mmap_min_addr").unwrap_or(none.mmap_min_addr),
            time_namespaces: Path::new("/proc/self/ns/time").exists(),
        }
    }
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What the process `image`, of which `resident` bytes have to be in memory, does not find on a host with these limits.
/// `resident` is 0 if that is not known.
pub fn check(image: &Image, resident: u64, limits: &HostLimits) -> Vec<Found> {
    let mut found = Vec::new();
    if !limits.time_namespaces {
        found.push(Found::new(
            &destination::TIME_NAMESPACE_UNAVAILABLE,
            "the destination",
        ));
    }
    if resident > limits.memory_available {
        found.push(Found::new(
            &destination::NOT_ENOUGH_MEMORY,
            format!(
                "{} MiB needed, {} MiB available",
                resident >> 20,
                limits.memory_available >> 20
            ),
        ));
    }
    let tids = image
        .threads
        .iter()
        .map(|thread| thread.tid())
        .chain([image.pid()]);
    if let Some(highest) = tids.max().filter(|tid| *tid >= limits.pid_max) {
        found.push(Found::new(&destination::PID_LIMIT, highest));
    }
    let threads = image.threads.len() as u64;
    if threads > limits.threads_max {
        found.push(Found::new(
            &destination::TASK_LIMIT,
            format!("{threads} needed, {} allowed", limits.threads_max),
        ));
    }
    let mappings = image.vmas.len() as u64;
    if mappings > limits.map_count_max {
        found.push(Found::new(
            &destination::MAPPING_LIMIT,
            format!("{mappings} needed, {} allowed", limits.map_count_max),
        ));
    }
    if let Some(highest) = image
        .descriptors
        .iter()
        .map(|descriptor| descriptor.fd.get())
        .max()
        .filter(|fd| u64::from(*fd) >= limits.nr_open)
    {
        found.push(Found::new(&destination::DESCRIPTOR_LIMIT, highest));
    }
    for mapping in &image.vmas {
        if mapping.start.get() < limits.mmap_min_addr && mapping.flags.get() & vma::SPECIAL == 0 {
            let name = format!("mapping {:x}-{:x}", mapping.start.get(), mapping.end.get());
            found.push(Found::new(&destination::LOW_ADDRESS, name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use pmig_wire::file::Descriptor;
    use pmig_wire::mm::Vma;
    use zerocopy::FromZeros;

    fn image() -> Image {
        let mut image = Image::empty(1000);
        let mut mapping = Vma::new_zeroed();
        mapping.start.set(0x1000);
        mapping.end.set(0x2000);
        image.vmas.push(mapping);
        let mut descriptor = Descriptor::new_zeroed();
        descriptor.fd.set(500);
        image.descriptors.push(descriptor);
        image
    }

    fn codes(limits: HostLimits) -> Vec<&'static str> {
        check(&image(), 4096, &limits)
            .iter()
            .map(|found| found.obstacle.code)
            .collect()
    }

    #[test]
    fn no_limit_no_obstacle() {
        assert_eq!(codes(HostLimits::default()), [""; 0]);
    }

    #[test]
    fn each_limit_has_its_obstacle() {
        let none = HostLimits::default();
        assert_eq!(
            codes(HostLimits {
                memory_available: 4095,
                ..none
            }),
            ["not-enough-memory"]
        );
        assert_eq!(
            codes(HostLimits {
                pid_max: 1000,
                ..none
            }),
            ["pid-limit"]
        );
        assert_eq!(
            codes(HostLimits {
                pid_max: 1001,
                ..none
            }),
            [""; 0]
        );
        assert_eq!(
            codes(HostLimits {
                threads_max: 0,
                ..none
            }),
            ["task-limit"]
        );
        assert_eq!(
            codes(HostLimits {
                map_count_max: 0,
                ..none
            }),
            ["mapping-limit"]
        );
        assert_eq!(
            codes(HostLimits {
                nr_open: 500,
                ..none
            }),
            ["descriptor-limit"]
        );
        assert_eq!(
            codes(HostLimits {
                mmap_min_addr: 65536,
                ..none
            }),
            ["low-address"]
        );
        assert_eq!(
            codes(HostLimits {
                time_namespaces: false,
                ..none
            }),
            ["time-namespace-unavailable"]
        );
    }

    #[test]
    fn available_memory_is_parsed() {
        assert_eq!(
            available("MemTotal:  8 kB\nMemAvailable:      4 kB\n"),
            Some(4096)
        );
        assert_eq!(available("MemTotal:  8 kB\n"), None);
    }
}

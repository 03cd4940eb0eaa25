// SPDX-License-Identifier: GPL-2.0
//! What a host does not let any process have.

use super::facts::read;
use super::Found;
use crate::image::Image;
use pmig_core::obstacle::destination;
use pmig_wire::mm::vma;
use serde::Deserialize;
use serde::Serialize;
use std::path::Path;

/// What a host allows programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostLimits {
    /// Lowest address that a program may map.
    pub mmap_min_addr: u64,
    /// Whether the kernel has time namespaces.
    pub time_namespaces: bool,
}

impl Default for HostLimits {
    /// A host without limits.
    fn default() -> Self {
        Self {
            mmap_min_addr: 0,
            time_namespaces: true,
        }
    }
}

impl HostLimits {
    /// The limits of this host. What it does not say is no limit: the attempt will tell.
    pub fn read() -> Self {
        Self {
            mmap_min_addr: read("/proc/sys/vm/mmap_min_addr")
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            time_namespaces: Path::new("/proc/self/ns/time").exists(),
        }
    }
}

/// What the process `image` does not find on a host with these limits. What making its vessel shows anyway is not here,
/// see [`crate::restore::check`].
pub fn check(image: &Image, limits: &HostLimits) -> Vec<Found> {
    let mut found = Vec::new();
    if !limits.time_namespaces {
        found.push(Found::new(
            &destination::TIME_NAMESPACE_UNAVAILABLE,
            "the destination",
        ));
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
    use pmig_wire::mm::Vma;
    use zerocopy::FromZeros;

    fn codes(limits: HostLimits) -> Vec<&'static str> {
        let mut image = Image::empty(1000);
        let mut mapping = Vma::new_zeroed();
        mapping.start.set(0x1000);
        mapping.end.set(0x2000);
        image.vmas.push(mapping);
        check(&image, &limits)
            .iter()
            .map(|found| found.obstacle.code)
            .collect()
    }

    #[test]
    fn each_limit_has_its_obstacle() {
        let none = HostLimits::default();
        assert_eq!(codes(none), [""; 0]);
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
}

// SPDX-License-Identifier: GPL-2.0
//! Facts about this host and its processes, and everything that stands in the way of moving one of them.
//!
//! [`HostFacts`] is what two agents tell each other first; [`compare()`] says whether a process of the one can go on on
//! the other. [`admission`] turns what the module says about a process into [`Found`] obstacles, and [`limits`] says
//! what a host lets no process have. The obstacles themselves are those of [`pmig_core::obstacle`].
#![forbid(unsafe_code)]

pub mod admission;
mod compare;
mod cpu;
pub mod doctor;
mod facts;
mod found;
pub mod limits;
pub mod process;

pub use compare::compare;
pub use cpu::CpuFacts;
pub use facts::HostClocks;
pub use facts::HostError;
pub use facts::HostFacts;
pub use facts::HostNamespaces;
pub use found::Found;
pub use limits::HostLimits;

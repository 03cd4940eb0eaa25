// SPDX-License-Identifier: GPL-2.0

//! Boots stock guests in QEMU and runs commands and tests in them.
//!
//! ```no_run
//! use qemu_tests::Cluster;
//!
//! # fn main() -> anyhow::Result<()> {
//! let mut cluster = Cluster::builder().guests(2).boot()?;
//! let (node1, node2) = (cluster.guest(0), cluster.guest(1));
//! node1.run_ok("ping -c 1 node2")?;
//! let pid = node1.start("python3 /pmig/workloads/count.py", "/shared/count.log")?;
//! node1.run_ok(&format!("kill {pid}"))?;
//! node2.run_ok("grep . /shared/count.log")?;
//! cluster.assert_clean_logs()?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Cluster`] is one to three guests on a private network with a shared directory. [`Guest`] runs commands in one of
//! them. [`Case`] is a test that takes a cluster; [`pool`] runs many of them on few clusters. Everything that a
//! cluster has started ends with it, and with this process, however that ends.

#![expect(missing_docs, reason = "most names of this harness say it all")]

pub mod accel;
pub mod agents;
pub mod case;
pub mod children;
pub mod cluster;
pub mod command;
pub mod guest;
pub mod kernel_log;
pub mod kmemleak;
pub mod link;
pub mod network;
pub mod pool;
pub mod protocol;
pub mod qemu;
pub mod rig;
pub mod shell;

pub use case::Case;
pub use case::Outcome;
pub use cluster::Builder;
pub use cluster::Cluster;
pub use cluster::Mode;
pub use command::Output;
pub use command::Running;
pub use guest::Guest;

// SPDX-License-Identifier: GPL-2.0
//! Drain: moving everything movable away from a host.
//!
//! [`select`] decides, without I/O, which processes are asked for; [`Drain`] looks at each of them, shows the plan, moves
//! one after another, and says what stayed and why.
#![forbid(unsafe_code)]

mod report;
mod run;
mod selection;

pub use report::DrainReport;
pub use report::Item;
pub use report::Outcome;
pub use run::Drain;
pub use run::Host;
pub use selection::is_system_daemon;
pub use selection::select;
pub use selection::Choice;
pub use selection::Criteria;
pub use selection::LeftAlone;

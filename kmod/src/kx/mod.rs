// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of what the `kernel` crate lacks. Together with [`crate::sys`] the only place with `unsafe`.
//!
//! Lock order, outermost first: session, session table, mmap lock of one process, siglock of one task.

pub(crate) mod deadline;
pub(crate) mod deferred;
mod facts;
pub(crate) mod file;
pub(crate) mod host;
pub(crate) mod mm;
pub(crate) mod module;
pub(crate) mod netlink;
pub(crate) mod pages;
pub(crate) mod park;
pub(crate) mod regset;
pub(crate) mod restart;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod time;
pub(crate) mod timer;

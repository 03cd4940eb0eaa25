// SPDX-License-Identifier: GPL-2.0
//! pmig's control tool and agent.
//!
//! The tool (`pmigctl`) is thin: [`cli`] says what can be asked, [`cmd`] has one file a verb. What it asks is done by the
//! [`agent`] of the host, which owns the sessions in the kernel module ([`kernel`]), talks to the agent of the other host
//! ([`transport`], [`proto`]), writes decisions to the [`journal`], and moves the state of a process as an [`image`] that
//! [`capture`] completes on the source and [`restore`] turns into a process again on the destination.
#![deny(unsafe_code)]

pub mod agent;
pub mod capture;
pub mod cli;
pub mod cmd;
pub mod drain;
pub mod host;
pub mod image;
pub mod journal;
pub mod kernel;
pub mod proto;
pub mod restore;
pub mod strategy;
pub mod sys;
pub mod transport;

// SPDX-License-Identifier: GPL-2.0
//! What two agents say to each other, and what the tool says to its agent.
#![forbid(unsafe_code)]

mod failure;

pub use failure::Failure;
pub use failure::FailureCode;
pub use failure::ObstacleReport;
pub use failure::Owner;
pub use failure::Side;

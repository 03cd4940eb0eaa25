// SPDX-License-Identifier: GPL-2.0
//! What two agents say to each other, and what the tool says to its agent. [`pmig_wire::message`] says how it is framed
//! and in which order it is said.
#![forbid(unsafe_code)]

mod body;
mod failure;
mod frame;
mod link;
mod local;
mod migration;

pub use body::Abort;
pub use body::Answer;
pub use body::Asker;
pub use body::Capture;
pub use body::Commit;
pub use body::Hello;
pub use body::JournalId;
pub use body::Obstacles;
pub use body::Offer;
pub use body::PagesSent;
pub use body::Ping;
pub use body::Prepare;
pub use body::Prepared;
pub use body::Purpose;
pub use body::Query;
pub use body::Ready;
pub use body::Released;
pub use body::Running;
pub use body::TimeReply;
pub use body::TimeRequest;
pub use body::Welcome;
pub use failure::listed;
pub use failure::printable;
pub use failure::Failure;
pub use failure::FailureCode;
pub use failure::ObstacleReport;
pub use failure::Owner;
pub use failure::Severity;
pub use failure::Side;
pub use frame::read_body;
pub use frame::write_body;
pub use frame::Body;
pub use frame::Frame;
pub use frame::FrameError;
pub use frame::VERSION;
pub use link::Link;
pub use link::LinkOptions;
pub use local::ActiveMigration;
pub use local::Decision;
pub use local::DoubtfulMigration;
pub use local::MigrateRequest;
pub use local::MigrationReport;
pub use local::PhaseTime;
pub use local::Progress;
pub use local::Reply;
pub use local::Request;
pub use local::Role;
pub use local::SessionReport;
pub use local::StatusReport;
pub use migration::MigrationId;
pub use migration::ParseMigrationIdError;

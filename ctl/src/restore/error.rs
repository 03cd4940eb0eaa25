// SPDX-License-Identifier: GPL-2.0
//! Why a vessel could not be made, or did not do what it was told.

use pmig_wire::record::Kind;
use std::io;

/// Why a vessel could not be made, or did not do what it was told. The vessel is useless then and must be killed.
#[derive(Debug, thiserror::Error)]
pub enum VesselError {
    /// Something that admission should have refused.
    #[error("{object} cannot be made on this host")]
    Unsupported {
        /// What it is.
        object: String,
    },
    /// The process uses so much of its address space that no place is left to work from.
    #[error("the process leaves no gap of {size} bytes in its address space")]
    NoGap {
        /// What is needed.
        size: u64,
    },
    /// A number that the process or a thread of it needs is in use, and a namespace was not wanted.
    #[error("the PID or TID {tid} is in use on this host")]
    PidTaken {
        /// The number.
        tid: u32,
    },
    /// The vessel was made for another state of the process; another one must be made.
    #[error("the vessel does not fit the process any more: {reason}")]
    Outgrown {
        /// What changed.
        reason: String,
    },
    /// The fresh process did not come up.
    #[error("cannot {step}: {source}")]
    Spawn {
        /// What it tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call of the vessel failed.
    #[error("cannot {what}: {source}")]
    Call {
        /// What it was for.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that the agent did for the vessel failed.
    #[error("cannot {what}: {source}")]
    Agent {
        /// What it was for.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is not the one that the process has open.
    #[error("{path} is a different file on this host: {difference}")]
    FileDiffers {
        /// Its path.
        path: String,
        /// What differs.
        difference: String,
    },
    /// A mapping did not come to lie where it must.
    #[error("the mapping {start:x}-{end:x} is not in its place")]
    Misplaced {
        /// First address.
        start: u64,
        /// First address behind.
        end: u64,
    },
    /// The image lacks something that was needed.
    #[error("the image lacks {0:?}")]
    Incomplete(Kind),
    /// The vessel was killed from outside.
    #[error("the vessel was killed")]
    Died,
    /// The vessel did not answer.
    #[error("the vessel did not finish in time: {what}")]
    Timeout {
        /// What it was told.
        what: String,
    },
    /// A list of system calls does not fit into the shared memory.
    #[error("a list of {size} bytes does not fit into the vessel's memory")]
    TooLarge {
        /// Its size.
        size: usize,
    },
}

impl VesselError {
    /// A system call of the vessel that answered `result`, a negative error number.
    pub(super) fn call(what: impl Into<String>, result: i64) -> Self {
        let number = i32::try_from(result.saturating_neg()).unwrap_or(libc::EIO);
        Self::Call {
            what: what.into(),
            source: io::Error::from_raw_os_error(number),
        }
    }

    /// Something the agent did.
    pub(super) fn agent(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Agent { what, source }
    }

    /// The error number of a failed call.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Spawn { source, .. } | Self::Call { source, .. } | Self::Agent { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }
}

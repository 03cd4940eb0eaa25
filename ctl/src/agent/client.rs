// SPDX-License-Identifier: GPL-2.0
//! Asking the agent of this host.

use crate::proto::write_body;
use crate::proto::Decision;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::Frame;
use crate::proto::FrameError;
use crate::proto::MigrateRequest;
use crate::proto::MigrationId;
use crate::proto::MigrationReport;
use crate::proto::Owner;
use crate::proto::Progress;
use crate::proto::Reply;
use crate::proto::Request;
use crate::proto::StatusReport;
use pmig_wire::message::MessageKind;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A connection to the agent of this host. One request each.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the agent that listens at `path`.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|error| {
            let at = path.display();
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
                    FailureCode::NoAgent,
                    format!("no agent runs on this host (nobody listens at {at}): start `pmigctl agent`"),
                ),
                io::ErrorKind::PermissionDenied => Failure::new(
                    FailureCode::PermissionDenied,
                    format!("only root may ask the agent for something ({at}: {error})"),
                ),
                _ => Failure::new(FailureCode::SystemError, format!("{at}: {error}")),
            }
        })?;
        Ok(Self { stream })
    }

    /// Moves a process. Dropping everything half-way, as a killed tool does, calls it off.
    pub fn migrate(
        mut self,
        request: &MigrateRequest,
        mut progress: impl FnMut(Progress),
    ) -> Result<MigrationReport, Failure> {
        write_body(&mut self.stream, &Request::Migrate(request.clone())).map_err(gone)?;
        loop {
            let frame = Frame::read(&mut self.stream).map_err(|error| {
                let message = format!("the agent of this host went away ({error}); see `pmigctl status` when it is back");
                Failure::new(FailureCode::InDoubt, message).owned_by(Owner::Unknown)
            })?;
            if frame.kind == MessageKind::Progress {
                progress(frame.parse()?);
                continue;
            }
            return match frame.parse()? {
                Reply::Migrated(report) => Ok(report),
                other => Err(unexpected(other)),
            };
        }
    }

    /// What goes on.
    pub fn status(self) -> Result<StatusReport, Failure> {
        match self.ask(&Request::Status)? {
            Reply::Status(report) => Ok(report),
            other => Err(unexpected(other)),
        }
    }

    /// Decides a migration in doubt.
    pub fn resolve(self, migration: &str, decision: Decision) -> Result<MigrationId, Failure> {
        match self.ask(&Request::Resolve {
            migration: migration.to_owned(),
            decision,
        })? {
            Reply::Resolved(migration) => Ok(migration),
            other => Err(unexpected(other)),
        }
    }

    fn ask(mut self, request: &Request) -> Result<Reply, Failure> {
        write_body(&mut self.stream, request).map_err(gone)?;
        Ok(Frame::read(&mut self.stream).map_err(gone)?.parse()?)
    }
}

/// An agent that ends the connection has done nothing.
fn gone(error: FrameError) -> Failure {
    match error {
        FrameError::Closed | FrameError::Silent | FrameError::Io(_) => Failure::new(
            FailureCode::NoAgent,
            format!("the agent of this host went away: {error}"),
        ),
        error => error.into(),
    }
}

fn unexpected(reply: Reply) -> Failure {
    match reply {
        Reply::Failed(failure) => failure,
        _ => Failure::new(
            FailureCode::ProtocolError,
            "the agent answered something that was not asked",
        ),
    }
}

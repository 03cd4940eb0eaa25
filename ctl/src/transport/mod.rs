// SPDX-License-Identifier: GPL-2.0
//! Connections between agents. TCP for now; TLS will be another [`Transport`], whose connections hand out the raw socket
//! only after the kernel has taken over the encryption.
#![forbid(unsafe_code)]

mod address;
mod memory;
mod tcp;

pub use address::ParsePeerError;
pub use address::PeerAddress;
pub use memory::MemoryListener;
pub use memory::MemoryTransport;
pub use memory::Network;
pub(crate) use tcp::wait_readable;
pub use tcp::TcpPort;
pub use tcp::TcpTransport;

use std::fmt;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// A connection to another agent. Blocking, both ways at the same time.
pub trait Connection: Read + Write + Send + fmt::Debug {
    /// How long a read may wait before it fails.
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    /// How long a write may wait before it fails.
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    /// Lets every read and write wait as long as it takes, also while the other end reads nothing: somebody else watches
    /// whether the peer still lives, and ends the connection if it does not.
    fn wait_for_ever(&self) -> io::Result<()>;
    /// Another handle of the same connection.
    fn try_clone(&self) -> io::Result<Box<dyn Connection>>;
    /// Ends the connection for all its handles, here and there. Whoever waits in a call on it comes back.
    fn shutdown(&self);
    /// The other host, in a form that [`PeerAddress`] understands.
    fn peer(&self) -> String;
    /// The socket that the module sends pages on, or receives them from.
    fn socket(&self) -> BorrowedFd<'_>;
}

/// Makes connections.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Connects to the agent at `peer`.
    fn connect(
        &self,
        peer: &PeerAddress,
        timeout: Duration,
    ) -> Result<Box<dyn Connection>, ConnectError>;
}

/// Takes connections.
pub trait Listener: Send + fmt::Debug {
    /// The next connection, or none if none came in time.
    fn accept(&self, timeout: Duration) -> io::Result<Option<Box<dyn Connection>>>;
    /// The port on which it listens.
    fn port(&self) -> u16;
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve.
    #[error("the host {host} is unknown: {source}")]
    UnknownHost {
        /// The name.
        host: String,
        /// Why it does not.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("cannot connect to the agent at {peer}: {source}")]
    Unreachable {
        /// The host and port.
        peer: PeerAddress,
        /// Why.
        source: io::Error,
    },
}

impl From<ConnectError> for crate::proto::Failure {
    fn from(error: ConnectError) -> Self {
        use crate::proto::FailureCode;
        let code = match &error {
            ConnectError::UnknownHost { .. } => FailureCode::UnknownHost,
            ConnectError::Unreachable { .. } => FailureCode::CannotConnect,
        };
        Self::new(code, error.to_string())
    }
}

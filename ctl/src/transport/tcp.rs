// SPDX-License-Identifier: GPL-2.0
//! Plain TCP: nobody is asked who they are, and everybody on the way can read along. Only with `--insecure`.

use super::ConnectError;
use super::Connection;
use super::Listener;
use super::PeerAddress;
use super::Transport;
use nix::poll::poll;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt;
use std::io;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Data that stays unacknowledged for so many milliseconds means that the link is cut.
const USER_TIMEOUT_MS: u32 = 8_000;
/// An idle link is tried after so many seconds, and again as often.
const KEEPALIVE_SECONDS: u32 = 2;

/// Connects over plain TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpTransport;

impl Transport for TcpTransport {
    fn connect(
        &self,
        peer: &PeerAddress,
        timeout: Duration,
    ) -> Result<Box<dyn Connection>, ConnectError> {
        let unknown = |source| ConnectError::UnknownHost {
            host: peer.host.clone(),
            source,
        };
        let unreachable = |source| ConnectError::Unreachable {
            peer: peer.clone(),
            source,
        };
        let addresses = (peer.host.as_str(), peer.port)
            .to_socket_addrs()
            .map_err(unknown)?;
        let mut error = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout).and_then(prepare) {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(found) => error = Some(found),
            }
        }
        Err(match error {
            Some(error) => unreachable(error),
            None => unknown(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            )),
        })
    }
}

/// A port on which agents are listened for.
#[derive(Debug)]
pub struct TcpPort {
    listener: TcpListener,
    port: u16,
}

impl TcpPort {
    /// Listens on `address`.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }
}

impl Listener for TcpPort {
    fn accept(&self, timeout: Duration) -> io::Result<Option<Box<dyn Connection>>> {
        if !wait_readable(self.listener.as_fd(), timeout)? {
            return Ok(None);
        }
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(Box::new(prepare(stream)?)))
            }
            // Whoever called has given up again.
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn port(&self) -> u16 {
        self.port
    }
}

impl Connection for TcpStream {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        TcpStream::set_read_timeout(self, timeout)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        TcpStream::set_write_timeout(self, timeout)
    }

    fn wait_for_ever(&self) -> io::Result<()> {
        TcpStream::set_read_timeout(self, None)?;
        TcpStream::set_write_timeout(self, None)?;
        // It also counts the time in which a peer that lives has no room for more.
        Ok(setsockopt(self, sockopt::TcpUserTimeout, &0)?)
    }

    fn try_clone(&self) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(TcpStream::try_clone(self)?))
    }

    fn shutdown(&self) {
        // Not connected any more is just as good.
        let _ = TcpStream::shutdown(self, Shutdown::Both);
    }

    fn peer(&self) -> String {
        match self.peer_addr() {
            Ok(SocketAddr::V4(address)) => address.ip().to_string(),
            // A V4 peer of a listener for both families.
            Ok(SocketAddr::V6(address)) => match address.ip().to_ipv4_mapped() {
                Some(ip) => ip.to_string(),
                // A link-local address says nothing without its interface.
                None if address.scope_id() != 0 => {
                    format!("{}%{}", address.ip(), address.scope_id())
                }
                None => address.ip().to_string(),
            },
            Err(_) => String::new(),
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// Waits until `descriptor` can be read, or `timeout` has passed.
pub(crate) fn wait_readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    setsockopt(&stream, sockopt::KeepAlive, &true)?;
    setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(&stream, sockopt::TcpKeepInterval, &KEEPALIVE_SECONDS)?;
    setsockopt(&stream, sockopt::TcpKeepCount, &3)?;
    setsockopt(&stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
    Ok(stream)
}

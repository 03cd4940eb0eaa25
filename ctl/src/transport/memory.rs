// SPDX-License-Identifier: GPL-2.0
//! A network inside one process, for tests: hosts with names, links that can be cut.

use super::ConnectError;
use super::Connection;
use super::Listener;
use super::PeerAddress;
use super::Transport;
use std::collections::HashMap;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// Hosts and the links between them.
#[derive(Clone, Debug, Default)]
pub struct Network {
    inner: Arc<Mutex<Wires>>,
}

#[derive(Debug, Default)]
struct Wires {
    listeners: HashMap<String, Sender<MemoryConnection>>,
    open: Vec<UnixStream>,
    cut: bool,
}

impl Network {
    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the host `name` be called. An earlier listener of that name hears nothing more.
    pub fn listen(&self, name: &str) -> MemoryListener {
        let (sender, receiver) = channel();
        self.wires().listeners.insert(name.to_owned(), sender);
        MemoryListener {
            receiver: Mutex::new(receiver),
        }
    }

    /// The transport of the host `name`.
    pub fn transport(&self, name: &str) -> MemoryTransport {
        MemoryTransport {
            network: self.clone(),
            name: name.to_owned(),
        }
    }

    /// Ends every connection, and lets no new one be made until [`Network::heal`].
    pub fn cut(&self) {
        let mut wires = self.wires();
        wires.cut = true;
        drop_all(&mut wires);
    }

    /// Ends every connection.
    pub fn reset(&self) {
        drop_all(&mut self.wires());
    }

    /// Lets connections be made again.
    pub fn heal(&self) {
        self.wires().cut = false;
    }

    /// Nobody listens at the host `name` any more.
    pub fn silence(&self, name: &str) {
        self.wires().listeners.remove(name);
    }
}

fn drop_all(wires: &mut Wires) {
    for stream in wires.open.drain(..) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Connects over a [`Network`].
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    network: Network,
    name: String,
}

impl Transport for MemoryTransport {
    fn connect(
        &self,
        peer: &PeerAddress,
        _timeout: Duration,
    ) -> Result<Box<dyn Connection>, ConnectError> {
        let unreachable = |source| ConnectError::Unreachable {
            peer: peer.clone(),
            source,
        };
        let refused = || unreachable(io::ErrorKind::ConnectionRefused.into());
        let mut wires = self.network.wires();
        if wires.cut {
            return Err(unreachable(io::ErrorKind::NetworkUnreachable.into()));
        }
        let (here, there) = UnixStream::pair().map_err(unreachable)?;
        for stream in [&here, &there] {
            wires.open.push(stream.try_clone().map_err(unreachable)?);
        }
        let listener = wires.listeners.get(&peer.host).ok_or_else(refused)?;
        let other = MemoryConnection {
            stream: there,
            peer: self.name.clone(),
        };
        listener.send(other).map_err(|_| refused())?;
        Ok(Box::new(MemoryConnection {
            stream: here,
            peer: peer.host.clone(),
        }))
    }
}

/// Takes the connections of one host of a [`Network`].
#[derive(Debug)]
pub struct MemoryListener {
    receiver: Mutex<Receiver<MemoryConnection>>,
}

impl Listener for MemoryListener {
    fn accept(&self, timeout: Duration) -> io::Result<Option<Box<dyn Connection>>> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        match receiver.recv_timeout(timeout) {
            Ok(connection) => Ok(Some(Box::new(connection))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn port(&self) -> u16 {
        1
    }
}

/// A connection over a [`Network`].
#[derive(Debug)]
struct MemoryConnection {
    stream: UnixStream,
    peer: String,
}

impl Read for MemoryConnection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for MemoryConnection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Connection for MemoryConnection {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }

    fn wait_for_ever(&self) -> io::Result<()> {
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)
    }

    fn try_clone(&self) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(Self {
            stream: self.stream.try_clone()?,
            peer: self.peer.clone(),
        }))
    }

    fn shutdown(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

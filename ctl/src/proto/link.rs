// SPDX-License-Identifier: GPL-2.0
//! The control connection of a migration once both sides know each other: messages in order, and a peer that is lost is
//! noticed in seconds even while nobody reads.

use super::frame::write_body;
use super::Body;
use super::Failure;
use super::FailureCode;
use super::Frame;
use super::FrameError;
use super::Ping;
use crate::agent::Cancel;
use crate::transport::Connection;
use pmig_wire::message::MessageKind;
use pmig_wire::message::MAX_BODY;
use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Messages that wait to be taken; the peer has to wait when there are more.
const INBOX: usize = 8;
/// How often a waiting receiver looks whether the migration was called off.
const CANCEL_POLL: Duration = Duration::from_millis(25);

/// How a link watches its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// How often the peer is told that this side is still here.
    pub ping: Duration,
    /// A peer that says nothing for so long is lost.
    pub silence: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(1),
            silence: Duration::from_secs(5),
        }
    }
}

/// A connection with a thread that reads and a thread that pings. Ends with the value.
#[derive(Debug)]
pub struct Link {
    writer: Arc<Mutex<Box<dyn Connection>>>,
    handle: Box<dyn Connection>,
    inbox: Receiver<Result<Frame, FrameError>>,
    closed: Arc<Closed>,
    cancel: Cancel,
}

/// Tells the pinging thread to stop.
#[derive(Debug, Default)]
struct Closed {
    flag: Mutex<bool>,
    signal: Condvar,
}

impl Link {
    /// Watches `connection`. When the peer is lost, `cancel` is thrown.
    pub fn start(
        connection: Box<dyn Connection>,
        options: LinkOptions,
        cancel: Cancel,
    ) -> io::Result<Self> {
        connection.set_read_timeout(Some(options.silence))?;
        connection.set_write_timeout(Some(options.silence))?;
        let reader = connection.try_clone()?;
        let handle = connection.try_clone()?;
        let writer = Arc::new(Mutex::new(connection));
        let closed = Arc::new(Closed::default());
        let (sender, inbox) = sync_channel(INBOX);
        // Made before the threads, so that they end with it whatever fails next.
        let link = Self {
            writer: writer.clone(),
            handle,
            inbox,
            closed: closed.clone(),
            cancel: cancel.clone(),
        };
        thread::Builder::new()
            .name("link-read".into())
            .spawn(move || read_all(reader, &sender, &cancel))?;
        thread::Builder::new()
            .name("link-ping".into())
            .spawn(move || ping_until(&closed, &writer, options.ping))?;
        Ok(link)
    }

    /// The other host.
    pub fn peer(&self) -> String {
        self.handle.peer()
    }

    /// Sends a message.
    pub fn send<T: Body>(&self, body: &T) -> Result<(), Failure> {
        Ok(write_body(lock(&self.writer).as_mut(), body)?)
    }

    /// Sends a record stream of any length.
    pub fn send_records(&self, records: &[u8]) -> Result<(), Failure> {
        for piece in records.chunks(MAX_BODY as usize).chain([&[][..]]) {
            let frame = Frame {
                kind: MessageKind::Records,
                body: piece.to_vec(),
            };
            frame.write(lock(&self.writer).as_mut())?;
        }
        Ok(())
    }

    /// Waits for a message, which must be a `T`, until `limit` has passed, the peer is lost, or the migration is called
    /// off.
    pub fn receive<T: Body>(&self, limit: Duration) -> Result<T, Failure> {
        Ok(self.frame(limit, true)?.parse()?)
    }

    /// The same, after the point of no return.
    pub fn receive_sealed<T: Body>(&self, limit: Duration) -> Result<T, Failure> {
        Ok(self.frame(limit, false)?.parse()?)
    }

    /// The same for a message of any kind.
    pub fn receive_frame(&self, limit: Duration) -> Result<Frame, Failure> {
        self.frame(limit, true)
    }

    /// The same for a message of any kind, after the point of no return.
    pub fn receive_sealed_frame(&self, limit: Duration) -> Result<Frame, Failure> {
        self.frame(limit, false)
    }

    /// Receives a record stream of `length` bytes, which was announced and must not be longer than `limit`.
    pub fn receive_records(
        &self,
        length: u64,
        limit: u64,
        time: Duration,
    ) -> Result<Vec<u8>, Failure> {
        if length > limit {
            let message = format!("the peer announced {length} bytes of records, more than the {limit} that are allowed");
            return Err(Failure::new(FailureCode::ProtocolError, message));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // Grows with what arrives, not with what was announced.
        let mut records = Vec::new();
        loop {
            let frame = self.frame(time, true)?;
            if frame.kind != MessageKind::Records {
                // Fails with the peer's reasons, or because the message does not belong here.
                frame.parse::<Ping>()?;
            }
            if frame.body.is_empty() {
                break;
            }
            if records.len().saturating_add(frame.body.len()) > length {
                return Err(Failure::new(
                    FailureCode::ProtocolError,
                    "the peer sent more records than it announced",
                ));
            }
            records.extend_from_slice(&frame.body);
        }
        if records.len() == length {
            Ok(records)
        } else {
            Err(Failure::new(
                FailureCode::ProtocolError,
                "the peer sent fewer records than it announced",
            ))
        }
    }

    /// Ends the connection, for the peer too.
    pub fn close(&self) {
        self.handle.shutdown();
    }

    fn frame(&self, limit: Duration, cancellable: bool) -> Result<Frame, Failure> {
        let begin = Instant::now();
        loop {
            match self.inbox.recv_timeout(CANCEL_POLL.min(limit)) {
                Ok(Ok(frame)) => return Ok(frame),
                Ok(Err(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Disconnected) => return Err(FrameError::Closed.into()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if cancellable {
                self.cancel.check()?;
            }
            if begin.elapsed() >= limit {
                let message = format!("the peer did not answer within {} s", limit.as_secs_f32());
                return Err(Failure::new(FailureCode::Timeout, message));
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        *lock(&self.closed.flag) = true;
        self.closed.signal.notify_all();
        self.handle.shutdown();
    }
}

fn read_all(
    mut connection: Box<dyn Connection>,
    inbox: &SyncSender<Result<Frame, FrameError>>,
    cancel: &Cancel,
) {
    loop {
        let result = Frame::read(connection.as_mut());
        if result
            .as_ref()
            .is_ok_and(|frame| frame.kind == MessageKind::Ping)
        {
            continue;
        }
        let failure = match &result {
            Ok(frame) if frame.kind == MessageKind::Abort => {
                frame.parse::<Ping>().err().map(Failure::from)
            }
            Ok(_) => None,
            Err(error) => Some(Failure::new(FailureCode::LinkLost, error.to_string())),
        };
        let is_over = result.is_err();
        // First the message, so that whoever waits for it hears the peer's own reason.
        let nobody_listens = inbox.send(result).is_err();
        if let Some(failure) = failure {
            cancel.trip(failure);
        }
        if is_over || nobody_listens {
            return;
        }
    }
}

fn ping_until(closed: &Closed, writer: &Mutex<Box<dyn Connection>>, interval: Duration) {
    let mut flag = lock(&closed.flag);
    while !*flag {
        let (next, wait) = closed
            .signal
            .wait_timeout(flag, interval)
            .unwrap_or_else(PoisonError::into_inner);
        flag = next;
        if !*flag && wait.timed_out() {
            drop(flag);
            // The reader notices a connection that is gone.
            if write_body(lock(writer).as_mut(), &Ping).is_err() {
                return;
            }
            flag = lock(&closed.flag);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

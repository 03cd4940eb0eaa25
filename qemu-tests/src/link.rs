// SPDX-License-Identifier: GPL-2.0

//! The harness's end of a runner's port.

use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

use crate::protocol;
use crate::protocol::Decoder;
use crate::protocol::Item;
use crate::protocol::Reply;
use crate::protocol::Request;

#[derive(Debug, Default)]
struct State {
    /// The boot that the runner has greeted from.
    boot: Option<String>,
    /// How many times it has.
    boots: u32,
    /// Why nothing will come any more.
    broken: Option<String>,
    next: u32,
    waiting: HashMap<u32, Sender<Reply>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_with(&self, reason: &str) {
        let mut state = self.state();
        state.broken.get_or_insert_with(|| reason.to_owned());
        state.waiting.clear();
        self.changed.notify_all();
    }
}

/// A connection to a runner; it survives reboots of the guest.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    stream: Arc<Mutex<UnixStream>>,
}

impl Link {
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
        // A guest that has crashed reads nothing any more.
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let reader = stream.try_clone()?;
        let stream = Arc::new(Mutex::new(stream));
        let shared = Arc::new(Shared::default());
        thread::spawn({
            let (shared, stream) = (shared.clone(), stream.clone());
            move || {
                let reason = match receive(reader, &shared, &stream) {
                    Ok(()) => "the guest has ended".to_owned(),
                    Err(error) => format!("{error:#}"),
                };
                shared.break_with(&reason);
            }
        });
        Ok(Self { shared, stream })
    }

    /// How often a runner has greeted so far.
    pub fn boots(&self) -> u32 {
        self.shared.state().boots
    }

    /// The kernel's id of the present boot.
    pub fn boot_id(&self) -> Option<String> {
        self.shared.state().boot.clone()
    }

    /// Waits for the runner's greeting number `boots`.
    pub fn wait_for_boot(&self, boots: u32, deadline: Instant) -> Result<()> {
        let mut state = self.shared.state();
        loop {
            if let Some(reason) = &state.broken {
                bail!("{reason}");
            }
            if state.boots >= boots {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("timed out waiting for the guest's runner");
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends all waiting, now and later.
    pub fn break_with(&self, reason: &str) {
        self.shared.break_with(reason);
    }

    /// Begins an exchange.
    pub fn open(self: &Arc<Self>) -> Result<Exchange> {
        let mut state = self.shared.state();
        if let Some(reason) = &state.broken {
            bail!("{reason}");
        }
        let id = state.next;
        state.next += 1;
        let (sender, replies) = channel();
        state.waiting.insert(id, sender);
        Ok(Exchange {
            link: self.clone(),
            id,
            replies,
        })
    }

    pub fn send(&self, request: &Request) -> Result<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = protocol::send(&mut *stream, request) {
            self.shared
                .break_with(&format!("the guest has ended: {error}"));
            bail!("cannot reach the guest: {error}");
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn receive(mut reader: UnixStream, shared: &Shared, stream: &Mutex<UnixStream>) -> Result<()> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 2 * protocol::CHUNK];
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        decoder.push(&buffer[..length]);
        while let Some(item) = decoder.take::<Reply>()? {
            let id = match &item {
                Item::Sync => {
                    // Another boot: what was asked of the last one will not be answered.
                    shared.state().waiting.clear();
                    continue;
                }
                Item::Message(Reply::Hello {
                    version, boot_id, ..
                }) => {
                    if *version != protocol::VERSION {
                        bail!(
                            "the runner speaks version {version}, not {}: build it again",
                            protocol::VERSION
                        );
                    }
                    {
                        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
                        stream.write_all(&protocol::sync_word())?;
                        protocol::send(&mut *stream, &Request::Attach)?;
                    }
                    let mut state = shared.state();
                    state.boot = Some(boot_id.clone());
                    state.boots += 1;
                    shared.changed.notify_all();
                    continue;
                }
                Item::Message(
                    Reply::Started { id, .. }
                    | Reply::Output { id, .. }
                    | Reply::Exited { id, .. }
                    | Reply::Done { id }
                    | Reply::Failed { id, .. }
                    | Reply::Processes { id, .. }
                    | Reply::Kmsg { id, .. },
                ) => *id,
            };
            if let Item::Message(reply) = item {
                if let Some(waiting) = shared.state().waiting.get(&id) {
                    let _ = waiting.send(reply);
                }
            }
        }
    }
}

/// One request and its replies.
#[derive(Debug)]
pub struct Exchange {
    link: Arc<Link>,
    id: u32,
    replies: Receiver<Reply>,
}

impl Exchange {
    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn send(&self, request: &Request) -> Result<()> {
        self.link.send(request)
    }

    /// The next reply, or an error when the deadline has passed or the guest is gone.
    pub fn next(&self, deadline: Instant) -> Result<Reply> {
        match self
            .replies
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(reply) => Ok(reply),
            Err(RecvTimeoutError::Timeout) => bail!("timed out"),
            Err(RecvTimeoutError::Disconnected) => {
                let reason = self.link.shared.state().broken.clone();
                bail!("{}", reason.as_deref().unwrap_or("the guest has rebooted"));
            }
        }
    }

    /// The next reply if there is one already.
    pub fn poll(&self) -> Option<Reply> {
        self.replies.recv_timeout(Duration::ZERO).ok()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.link.shared.state().waiting.remove(&self.id);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What the harness and the runner inside a guest say to each other over a virtio-serial port.
//!
//! A frame is a little-endian `u32` length and that many bytes of postcard. A port survives both the reboot of a guest
//! and the exit of the client, so either side may find half a frame in it. Each side therefore begins with
//! [`sync_word`], which is never part of a frame in practice, and drops whatever came before the other's.
//!
//! 1. The runner opens the port and sends the sync word and [`Reply::Hello`].
//! 2. The harness answers with the sync word and [`Request::Attach`].
//! 3. Requests and replies follow, many at a time; `id` says which belong together.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::io::Write;

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde::Serialize;

/// Changes when a frame changes; both sides must agree.
pub const VERSION: u32 = 2;

/// The largest piece of data in one frame.
pub const CHUNK: usize = 32 * 1024;

/// The largest frame that is accepted.
const FRAME_LIMIT: usize = 256 * 1024;

/// Name of the port that the harness uses.
pub const PORT_HARNESS: &str = "org.pmig.runner.0";

/// Name of the port that is left for a shell.
pub const PORT_SHELL: &str = "org.pmig.runner.1";

const SYNC_LENGTH: usize = 16;

/// The bytes that begin a conversation.
///
/// They are computed so that they do not occur in the binary: the runner itself can be copied through a port.
pub fn sync_word() -> [u8; SYNC_LENGTH] {
    let mut state = black_box(0x706d_6967_0000_0001_u64);
    let mut word = [0; SYNC_LENGTH];
    for byte in &mut word {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = state.to_be_bytes()[0];
    }
    word
}

/// Where a standard stream of a command goes to or comes from.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum Stream {
    /// `/dev/null`.
    #[default]
    Null,
    /// The harness.
    Pipe,
    /// A file in the guest: read for stdin, appended to for the others.
    File(String),
}

/// A command to run in the guest.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Exec {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub stdin: Stream,
    pub stdout: Stream,
    pub stderr: Stream,
    /// Run on a terminal of its own; then all three streams go over stdin and stdout.
    pub terminal: bool,
    /// Run as this user and group.
    pub user: Option<(u32, u32)>,
}

/// From the harness to the runner.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Request {
    Attach,
    /// Answered by `Started`, any number of `Output`, and `Exited`; or by `Failed`.
    Exec {
        id: u32,
        exec: Exec,
    },
    /// Bytes for a command's stdin. No bytes: end of file.
    Stdin {
        id: u32,
        data: Vec<u8>,
    },
    /// A signal for the process group of a command.
    Signal {
        id: u32,
        signal: i32,
    },
    /// The size of a command's terminal.
    Resize {
        id: u32,
        rows: u16,
        columns: u16,
    },
    /// Writes a piece of a file. Answered by `Done` or `Failed`.
    Write {
        id: u32,
        path: String,
        mode: u32,
        append: bool,
        data: Vec<u8>,
    },
    /// Answered by any number of `Output`, and `Done` or `Failed`.
    Read {
        id: u32,
        path: String,
    },
    /// Kernel log records from this sequence number on. Answered by `Kmsg` (several, the last one empty).
    Kmsg {
        id: u32,
        since: u64,
    },
    /// Answered by `Processes`.
    Processes {
        id: u32,
    },
    /// Flushes every file system. Answered by `Done`.
    Sync {
        id: u32,
    },
    /// Restarts the machine at once, without stopping anything first.
    Reset,
}

/// From the runner to the harness.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Reply {
    Hello {
        version: u32,
        boot_id: String,
        init: bool,
    },
    Started {
        id: u32,
        pid: u32,
    },
    Output {
        id: u32,
        error: bool,
        data: Vec<u8>,
    },
    Exited {
        id: u32,
        code: Option<i32>,
        signal: Option<i32>,
    },
    Done {
        id: u32,
    },
    Failed {
        id: u32,
        message: String,
    },
    /// Number and command line of each process, words separated by spaces; kernel threads have none and are left out.
    Processes {
        id: u32,
        processes: Vec<(u32, String)>,
    },
    Kmsg {
        id: u32,
        records: Vec<KmsgRecord>,
    },
}

/// One record of `/dev/kmsg`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct KmsgRecord {
    pub sequence: u64,
    pub priority: u8,
    pub microseconds: u64,
    pub text: String,
}

/// Writes one frame.
pub fn send<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    to.write_all(&frame)
}

/// What a [`Decoder`] finds in the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<T> {
    /// The other side has begun a conversation; all earlier ones are over.
    Sync,
    Message(T),
}

/// Takes bytes as they come and gives messages.
#[derive(Default)]
pub struct Decoder {
    buffer: VecDeque<u8>,
    synced: bool,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// The next item, if it has arrived in full.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<Item<T>>> {
        let sync = sync_word();
        let bytes = self.buffer.make_contiguous();
        if let Some(at) = memchr::memmem::find(bytes, &sync) {
            self.buffer.drain(..at + sync.len());
            self.synced = true;
            return Ok(Some(Item::Sync));
        }
        if !self.synced {
            // The beginning of a sync word may be the end of what has come so far.
            let excess = bytes.len().saturating_sub(SYNC_LENGTH - 1);
            self.buffer.drain(..excess);
            return Ok(None);
        }
        let Some(length) = bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
        }
        let Some(body) = bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let message = postcard::from_bytes(body)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        self.buffer.drain(..4 + length);
        Ok(Some(Item::Message(message)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_arbitrary_splits() {
        let mut bytes = sync_word().to_vec();
        let request = Request::Read {
            id: 7,
            path: "/etc/hosts".into(),
        };
        send(&mut bytes, &request).unwrap();
        send(&mut bytes, &Request::Attach).unwrap();
        for size in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut items = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(item) = decoder.take::<Request>().unwrap() {
                    items.push(item);
                }
            }
            assert_eq!(
                items,
                [
                    Item::Sync,
                    Item::Message(request.clone()),
                    Item::Message(Request::Attach)
                ]
            );
        }
    }

    #[test]
    fn a_new_conversation_ends_half_a_frame() {
        let mut decoder = Decoder::default();
        decoder.push(&sync_word());
        decoder.push(&[200, 0, 0, 0, 1, 2, 3]);
        assert_eq!(decoder.take::<Request>().unwrap(), Some(Item::Sync));
        assert_eq!(decoder.take::<Request>().unwrap(), None);
        decoder.push(&sync_word());
        let mut bytes = Vec::new();
        send(&mut bytes, &Request::Attach).unwrap();
        decoder.push(&bytes);
        assert_eq!(decoder.take::<Request>().unwrap(), Some(Item::Sync));
        assert_eq!(
            decoder.take::<Request>().unwrap(),
            Some(Item::Message(Request::Attach))
        );
    }
}

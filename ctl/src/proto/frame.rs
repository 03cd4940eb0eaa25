// SPDX-License-Identifier: GPL-2.0
//! Reads and writes one message. Nothing is allocated before its length is checked.

use crate::proto::Failure;
use crate::proto::FailureCode;
use pmig_wire::message::MessageHeader;
use pmig_wire::message::MessageKind;
use pmig_wire::message::MAX_BODY;
use pmig_wire::message::MESSAGE_MAGIC;
use pmig_wire::ABI_VERSION;
use serde::de::DeserializeOwned;
use serde::Serialize;
use std::io;
use std::io::Read;
use std::io::Write;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

/// The version that this agent speaks, as the header carries it.
pub const VERSION: u16 = ABI_VERSION as u16;

/// A structure that is the body of one kind of message.
pub trait Body: Serialize + DeserializeOwned {
    /// The kind.
    const KIND: MessageKind;
}

/// One message, its body not yet interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: MessageKind,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection was closed between two messages.
    #[error("the peer closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("the peer has fallen silent")]
    Silent,
    /// The connection failed, or was closed inside a message.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// The bytes are no message.
    #[error("the peer sent something that is not pmig's protocol: {0}")]
    Garbage(&'static str),
    /// The peer speaks another version.
    #[error("the peer speaks version {0} of the protocol, this host version {VERSION}")]
    Version(u16),
    /// A message of this kind does not belong here.
    #[error("the peer sent {found:?} where {expected:?} was expected")]
    Unexpected {
        /// What came.
        found: MessageKind,
        /// What should have come.
        expected: MessageKind,
    },
    /// The body is not what its kind says.
    #[error("the peer sent a {0:?} that cannot be read")]
    Body(MessageKind),
    /// The peer says why it will not go on.
    #[error("{0}")]
    Aborted(Box<Failure>),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What a read or write that takes longer than the timeout of its socket fails with.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => FrameError::Silent,
            _ => FrameError::Io(error),
        }
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        let code = match &error {
            FrameError::Aborted(failure) => return (**failure).clone(),
            FrameError::Closed | FrameError::Silent | FrameError::Io(_) => FailureCode::LinkLost,
            FrameError::Version(_) => FailureCode::PeerVersion,
            FrameError::Garbage(_) | FrameError::Unexpected { .. } | FrameError::Body(_) => {
                FailureCode::ProtocolError
            }
        };
        Failure::new(code, error.to_string())
    }
}

impl Frame {
    /// The message with this body.
    pub fn of<T: Body>(body: &T) -> Result<Self, FrameError> {
        let body = postcard::to_stdvec(body).map_err(|_| FrameError::Body(T::KIND))?;
        Ok(Self {
            kind: T::KIND,
            body,
        })
    }

    /// The body as a `T`. A peer's reasons to give up are an error.
    pub fn parse<T: Body>(&self) -> Result<T, FrameError> {
        if self.kind == MessageKind::Abort && T::KIND != MessageKind::Abort {
            let abort: super::Abort = decode(self.kind, &self.body)?;
            return Err(FrameError::Aborted(Box::new(abort.0.sanitized())));
        }
        if self.kind != T::KIND {
            return Err(FrameError::Unexpected {
                found: self.kind,
                expected: T::KIND,
            });
        }
        decode(self.kind, &self.body)
    }

    /// Reads one message.
    pub fn read(reader: &mut (impl Read + ?Sized)) -> Result<Self, FrameError> {
        let mut bytes = [0; size_of::<MessageHeader>()];
        let Some((first, rest)) = bytes.split_first_mut() else {
            return Err(FrameError::Closed);
        };
        // An end here is an orderly one.
        loop {
            match reader.read(std::slice::from_mut(first)) {
                Ok(0) => return Err(FrameError::Closed),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        reader.read_exact(rest)?;
        let header =
            MessageHeader::read_from_bytes(&bytes).map_err(|_| FrameError::Garbage("no header"))?;
        if header.magic.get() != MESSAGE_MAGIC {
            return Err(FrameError::Garbage("no magic number"));
        }
        if header.version.get() != VERSION {
            return Err(FrameError::Version(header.version.get()));
        }
        let kind = MessageKind::from_wire(header.kind.get())
            .ok_or(FrameError::Garbage("an unknown message"))?;
        if header.length.get() > MAX_BODY {
            return Err(FrameError::Garbage("a message that is too long"));
        }
        let mut body = vec![0; header.length.get() as usize];
        reader.read_exact(&mut body)?;
        if crc32c::crc32c(&body) != header.checksum.get() {
            return Err(FrameError::Garbage("a wrong checksum"));
        }
        Ok(Self { kind, body })
    }

    /// Writes the message.
    pub fn write(&self, writer: &mut (impl Write + ?Sized)) -> Result<(), FrameError> {
        let length = u32::try_from(self.body.len())
            .ok()
            .filter(|length| *length <= MAX_BODY);
        let header = MessageHeader {
            magic: MESSAGE_MAGIC.into(),
            version: VERSION.into(),
            kind: (self.kind as u16).into(),
            length: length.ok_or(FrameError::Body(self.kind))?.into(),
            checksum: crc32c::crc32c(&self.body).into(),
        };
        // One write, so that a small message is one packet.
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&self.body);
        writer.write_all(&bytes)?;
        writer.flush()?;
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(kind: MessageKind, body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(FrameError::Body(kind)),
    }
}

/// Reads a message and takes it for a `T`.
pub fn read_body<T: Body>(reader: &mut (impl Read + ?Sized)) -> Result<T, FrameError> {
    Frame::read(reader)?.parse()
}

/// Writes a `T`.
pub fn write_body<T: Body>(writer: &mut (impl Write + ?Sized), body: &T) -> Result<(), FrameError> {
    Frame::of(body)?.write(writer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Ping;
    use proptest::prelude::*;

    fn bytes_of(kind: MessageKind, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame {
            kind,
            body: body.to_vec(),
        }
        .write(&mut bytes)
        .expect("a vector takes everything");
        bytes
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = bytes_of(MessageKind::Ping, &[]);
        bytes[4] = 99;
        assert!(matches!(
            Frame::read(&mut bytes.as_slice()),
            Err(FrameError::Version(99))
        ));
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        let mut bytes = bytes_of(MessageKind::Records, b"abc");
        *bytes.last_mut().expect("not empty") ^= 1;
        assert!(matches!(
            Frame::read(&mut bytes.as_slice()),
            Err(FrameError::Garbage(_))
        ));
    }

    #[test]
    fn a_long_body_is_refused_before_it_is_read() {
        let mut bytes = bytes_of(MessageKind::Records, b"abc");
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            Frame::read(&mut bytes.as_slice()),
            Err(FrameError::Garbage(_))
        ));
    }

    #[test]
    fn the_end_between_messages_is_orderly() {
        let bytes = bytes_of(MessageKind::Records, b"abc");
        assert!(matches!(
            Frame::read(&mut &bytes[..0]),
            Err(FrameError::Closed)
        ));
        for cut in 1..bytes.len() {
            assert!(
                matches!(Frame::read(&mut &bytes[..cut]), Err(FrameError::Io(_))),
                "{cut}"
            );
        }
    }

    #[test]
    fn bytes_behind_a_body_are_an_error() {
        let frame = Frame {
            kind: MessageKind::Ping,
            body: vec![0],
        };
        assert!(matches!(
            frame.parse::<Ping>(),
            Err(FrameError::Body(MessageKind::Ping))
        ));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let bytes = bytes_of(MessageKind::Records, &body);
            let frame = Frame::read(&mut bytes.as_slice()).expect("a message");
            prop_assert_eq!(frame, Frame { kind: MessageKind::Records, body });
        }

        #[test]
        fn any_bytes_end_in_an_error_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Frame::read(&mut bytes.as_slice());
        }
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Builds netlink requests.

use super::KernelError;
use neli::consts::nl::NlmF;
use neli::genl::AttrTypeBuilder;
use neli::genl::Genlmsghdr;
use neli::genl::GenlmsghdrBuilder;
use neli::genl::Nlattr;
use neli::genl::NlattrBuilder;
use neli::genl::NoUserHeader;
use neli::nl::NlPayload;
use neli::nl::NlmsghdrBuilder;
use neli::types::Buffer;
use neli::types::GenlBuffer;
use neli::ToBytes;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;
use pmig_wire::netlink::VERSION;
use std::fmt;
use std::io;
use std::io::Cursor;

/// Netlink's own family, which knows the numbers of the others.
pub(super) const CONTROL_FAMILY: u16 = 16;

/// A request, before it has a sequence number.
pub(super) struct Request {
    pub(super) command: Command,
    number: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Request {
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            number: command as u8,
            attributes: Vec::new(),
        }
    }

    /// A request to netlink's own control family.
    pub(super) fn raw(number: u8) -> Self {
        Self {
            command: Command::Hello,
            number,
            attributes: Vec::new(),
        }
    }

    pub(super) fn session(command: Command, session: u32) -> Self {
        Self::new(command).u32(Attribute::Session, session)
    }

    pub(super) fn raw_attribute(mut self, number: u16, value: Vec<u8>) -> Self {
        self.attributes.push((number, value));
        self
    }

    pub(super) fn attribute(self, name: Attribute, value: Vec<u8>) -> Self {
        self.raw_attribute(name as u16, value)
    }

    pub(super) fn u32(self, name: Attribute, value: u32) -> Self {
        self.attribute(name, value.to_ne_bytes().to_vec())
    }

    pub(super) fn u64(self, name: Attribute, value: u64) -> Self {
        self.attribute(name, value.to_ne_bytes().to_vec())
    }

    pub(super) fn encode(
        self,
        family: u16,
        flags: NlmF,
        sequence: u32,
    ) -> Result<Vec<u8>, Problem> {
        let version = if family == CONTROL_FAMILY { 1 } else { VERSION };
        let attributes = self
            .attributes
            .into_iter()
            .map(|(number, value)| attribute(number, value))
            .collect::<Result<GenlBuffer<u16, Buffer>, Problem>>()?;
        let generic: Genlmsghdr<u8, u16> = GenlmsghdrBuilder::<u8, u16, NoUserHeader>::default()
            .cmd(self.number)
            .version(version)
            .attrs(attributes)
            .build()
            .map_err(encoding)?;
        let message = NlmsghdrBuilder::<u16, Genlmsghdr<u8, u16>>::default()
            .nl_type(family)
            .nl_flags(flags)
            .nl_seq(sequence)
            .nl_payload(NlPayload::Payload(generic))
            .build()
            .map_err(encoding)?;
        let mut bytes = Cursor::new(Vec::new());
        message.to_bytes(&mut bytes).map_err(encoding)?;
        Ok(bytes.into_inner())
    }
}

fn attribute(number: u16, value: Vec<u8>) -> Result<Nlattr<u16, Buffer>, Problem> {
    let kind = AttrTypeBuilder::default()
        .nla_type(number)
        .build()
        .map_err(encoding)?;
    NlattrBuilder::default()
        .nla_type(kind)
        .nla_payload(Buffer::from(value))
        .build()
        .map_err(encoding)
}

fn encoding(error: impl fmt::Display) -> Problem {
    Problem::Io(io::Error::new(
        io::ErrorKind::InvalidInput,
        error.to_string(),
    ))
}

/// A [`KernelError`] that does not know yet what was asked.
pub(super) enum Problem {
    Refused { errno: i32, text: String },
    Malformed(&'static str),
    Io(io::Error),
}

impl Problem {
    pub(super) fn of(self, command: Command) -> KernelError {
        match self {
            Problem::Refused { errno, text } => KernelError::Refused {
                command,
                errno,
                message: text,
            },
            Problem::Malformed(problem) => KernelError::Malformed { command, problem },
            Problem::Io(error) => KernelError::Io(error),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Problem::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_netlink_messages() {
        let request = Request::session(Command::Thaw, 7).attribute(Attribute::Last, Vec::new());
        let Ok(bytes) = request.encode(33, NlmF::REQUEST | NlmF::ACK, 5) else {
            panic!("not encoded")
        };
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4);
        assert_eq!(&bytes[..6], &[32, 0, 0, 0, 33, 0]);
        assert_eq!(
            &bytes[16..],
            &[6, 1, 0, 0, 8, 0, 1, 0, 7, 0, 0, 0, 4, 0, 15, 0]
        );
    }
}

// SPDX-License-Identifier: GPL-2.0
//! Reads netlink messages: headers, errors with their extended acknowledgement, attributes. Nothing here trusts a length.

use pmig_wire::netlink::Attribute;

const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_CAPPED: u16 = 0x100;
const FLAG_ACK_TLVS: u16 = 0x200;
const EXTACK_MESSAGE: u16 = 1;
const TYPE_MASK: u16 = 0x3fff;

/// A message is shorter than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncated;

/// One message of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// An answer: its sequence number and attributes.
    Payload {
        sequence: u32,
        attributes: Attributes<'a>,
    },
    /// The request is done (`errno` 0) or refused.
    Ack {
        sequence: u32,
        errno: i32,
        text: String,
    },
    /// A dump is complete (`errno` 0) or broke off.
    Done {
        sequence: u32,
        errno: i32,
        text: String,
    },
    /// Of no interest.
    Other,
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn step(&mut self) -> Result<Message<'a>, Truncated> {
        let length = u32_at(self.rest, 0)? as usize;
        let kind = u16_at(self.rest, 4)?;
        let flags = u16_at(self.rest, 6)?;
        let sequence = u32_at(self.rest, 8)?;
        let body = self.rest.get(HEADER..length).ok_or(Truncated)?;
        self.rest = self.rest.get(align(length)..).unwrap_or(&[]);
        Ok(match kind {
            TYPE_ERROR => {
                let errno = errno_at(body)?;
                // The request follows the error number: whole, unless the answer is an acknowledgement or capped.
                let request = u32_at(body, 4)? as usize;
                let echoed = if errno == 0 || flags & FLAG_CAPPED != 0 {
                    HEADER
                } else {
                    align(request)
                };
                Message::Ack {
                    sequence,
                    errno,
                    text: extack(body, 4usize.saturating_add(echoed), flags),
                }
            }
            TYPE_DONE => Message::Done {
                sequence,
                errno: errno_at(body).unwrap_or(0),
                text: extack(body, 4, flags),
            },
            0..=15 => Message::Other,
            _ => {
                let attributes = Attributes {
                    rest: body.get(GENERIC_HEADER..).ok_or(Truncated)?,
                };
                Message::Payload {
                    sequence,
                    attributes,
                }
            }
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let result = self.step();
        if result.is_err() {
            self.rest = &[];
        }
        Some(result)
    }
}

/// The attributes of a message, or of an extended acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute with this name.
    pub(crate) fn get(&self, name: Attribute) -> Option<&'a [u8]> {
        self.raw(name as u16)
    }

    /// The value of the first attribute with this number.
    pub(crate) fn raw(&self, number: u16) -> Option<&'a [u8]> {
        self.clone()
            .find(|(found, _)| *found == number)
            .map(|(_, value)| value)
    }

    pub(crate) fn u8(&self, name: Attribute) -> Option<u8> {
        self.get(name)?.try_into().ok().map(u8::from_ne_bytes)
    }

    pub(crate) fn u32(&self, name: Attribute) -> Option<u32> {
        self.get(name)?.try_into().ok().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&self, name: Attribute) -> Option<u64> {
        self.get(name)?.try_into().ok().map(u64::from_ne_bytes)
    }

    pub(crate) fn string(&self, name: Attribute) -> Option<String> {
        self.get(name).map(text)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.rest, 0).ok()?);
        let number = u16_at(self.rest, 2).ok()? & TYPE_MASK;
        let value = self.rest.get(ATTRIBUTE_HEADER..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or(&[]);
        Some((number, value))
    }
}

fn extack(body: &[u8], offset: usize, flags: u16) -> String {
    if flags & FLAG_ACK_TLVS == 0 {
        return String::new();
    }
    let attributes = Attributes {
        rest: body.get(offset..).unwrap_or(&[]),
    };
    attributes.raw(EXTACK_MESSAGE).map(text).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}

fn errno_at(body: &[u8]) -> Result<i32, Truncated> {
    let bytes = body.get(..4).ok_or(Truncated)?;
    bytes
        .try_into()
        .map(i32::from_ne_bytes)
        .map(i32::saturating_neg)
        .map_err(|_| Truncated)
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, Truncated> {
    let bytes = bytes
        .get(offset..offset.saturating_add(2))
        .ok_or(Truncated)?;
    bytes
        .try_into()
        .map(u16::from_ne_bytes)
        .map_err(|_| Truncated)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Truncated> {
    let bytes = bytes
        .get(offset..offset.saturating_add(4))
        .ok_or(Truncated)?;
    bytes
        .try_into()
        .map(u32::from_ne_bytes)
        .map_err(|_| Truncated)
}

fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len())
            .expect("short")
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn error_carries_the_modules_words() {
        let request = header(20, 0, &[1, 1, 0, 0]);
        let mut body = (-libc::EBUSY).to_ne_bytes().to_vec();
        body.extend(&request);
        body.extend(9u16.to_ne_bytes());
        body.extend(EXTACK_MESSAGE.to_ne_bytes());
        body.extend(b"busy\0\0\0\0");
        let datagram = header(TYPE_ERROR, FLAG_ACK_TLVS, &body);
        let message = Messages::new(&datagram).next();
        assert_eq!(
            message,
            Some(Ok(Message::Ack {
                sequence: 7,
                errno: libc::EBUSY,
                text: "busy".into()
            }))
        );
    }

    #[test]
    fn attributes_are_found_by_name() {
        let mut body = vec![1, 1, 0, 0];
        body.extend([8, 0, 1, 0, 5, 0, 0, 0]);
        body.extend([5, 0, 3, 0, 2, 0, 0, 0]);
        let datagram = header(20, 0, &body);
        let Some(Ok(Message::Payload { attributes, .. })) = Messages::new(&datagram).next() else {
            panic!("not a payload");
        };
        assert_eq!(attributes.u32(Attribute::Session), Some(5));
        assert_eq!(attributes.u8(Attribute::Role), Some(2));
        assert_eq!(attributes.u64(Attribute::Pages), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for message in Messages::new(&bytes).flatten() {
                if let Message::Payload { attributes, .. } = message {
                    prop_assert!(attributes.count() <= 64);
                }
            }
        }
    }
}

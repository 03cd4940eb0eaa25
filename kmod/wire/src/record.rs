// SPDX-License-Identifier: GPL-2.0
//! Records: how a piece of state is framed, written and read.

use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;
use zerocopy::KnownLayout;
use zerocopy::Unaligned;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// A reader that does not know the kind must refuse the stream.
pub const FLAG_CRITICAL: u8 = 1;

/// The longest payload of one record, in bytes: a register block with every state component, or a path, fits.
pub const MAX_PAYLOAD: usize = 48 * 1024;

/// What stands before each payload.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct RecordHeader {
    /// A [`Kind`].
    pub kind: U16,
    /// Version of the payload's structure.
    pub version: u8,
    /// [`FLAG_CRITICAL`]; other bits are zero.
    pub flags: u8,
    /// Bytes of payload that follow.
    pub length: U32,
}
const _: () = assert!(size_of::<RecordHeader>() == 8);

/// The kinds of records. The discriminant is the number on the wire and never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Kind {
    /// [`crate::process::Process`]
    Process = 1,
    /// [`crate::process::Limits`]
    Limits = 2,
    /// [`crate::process::Clocks`]
    Clocks = 3,
    /// [`crate::process::Namespaces`]
    Namespaces = 4,
    /// [`crate::mm::Memory`]
    Memory = 8,
    /// [`crate::mm::Vma`]
    Vma = 9,
    /// [`crate::file::File`]
    File = 16,
    /// [`crate::file::Descriptor`]
    Descriptor = 17,
    /// [`crate::file::PipeData`]
    PipeData = 18,
    /// [`crate::event::Eventfd`]
    Eventfd = 19,
    /// [`crate::event::Signalfd`]
    Signalfd = 20,
    /// [`crate::event::Timerfd`]
    Timerfd = 21,
    /// [`crate::event::EpollEntry`]
    EpollEntry = 22,
    /// [`crate::file::FileLock`]
    FileLock = 23,
    /// [`crate::thread::Thread`]
    Thread = 24,
    /// [`crate::thread::Registers`]
    Registers = 25,
    /// [`crate::thread::Restart`]
    Restart = 26,
    /// [`crate::thread::Placement`]
    Placement = 27,
    /// [`crate::cred::Credentials`]
    Credentials = 32,
    /// [`crate::signal::Action`]
    SignalAction = 40,
    /// [`crate::signal::Pending`]
    PendingSignal = 41,
    /// [`crate::timer::IntervalTimer`]
    IntervalTimer = 42,
    /// [`crate::timer::PosixTimer`]
    PosixTimer = 43,
}

impl Kind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Kind; 23] = [
        Kind::Process,
        Kind::Limits,
        Kind::Clocks,
        Kind::Namespaces,
        Kind::Memory,
        Kind::Vma,
        Kind::File,
        Kind::Descriptor,
        Kind::PipeData,
        Kind::Eventfd,
        Kind::Signalfd,
        Kind::Timerfd,
        Kind::EpollEntry,
        Kind::FileLock,
        Kind::Thread,
        Kind::Registers,
        Kind::Restart,
        Kind::Placement,
        Kind::Credentials,
        Kind::SignalAction,
        Kind::PendingSignal,
        Kind::IntervalTimer,
        Kind::PosixTimer,
    ];

    /// The kind with this number on the wire.
    pub fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// A fixed structure that is the payload, or the beginning of the payload, of one kind of record.
pub trait Payload: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {
    /// The kind whose payload this is.
    const KIND: Kind;
    /// The version of the structure.
    const VERSION: u8 = 1;
    /// Whether bytes may follow the structure.
    const TAIL: bool = false;

    /// Whether every reserved byte is zero.
    fn reserved_is_zero(&self) -> bool;
}

/// Why bytes are not a record, or not the record that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The stream ends inside a header or a payload.
    Truncated,
    /// A length is over [`MAX_PAYLOAD`].
    TooLong,
    /// A critical record of a kind that this version does not know.
    UnknownKind(u16),
    /// A record of a known kind in a version that this version does not know.
    UnknownVersion(u16, u8),
    /// A reserved byte or flag is not zero.
    Reserved(u16),
    /// The payload is shorter or longer than its kind allows.
    Size(u16),
    /// The payload was asked for as another kind.
    WrongKind(u16),
}

/// Takes the bytes of records: a vector of the kernel, or one of the standard library.
pub trait Sink {
    /// What goes wrong when no more bytes fit.
    type Error;
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Appends one record to `sink`. `tail` must be empty unless `T::TAIL`.
pub fn write<T: Payload, S: Sink>(sink: &mut S, payload: &T, tail: &[u8]) -> Result<(), S::Error> {
    debug_assert!(T::TAIL || tail.is_empty());
    let length = size_of::<T>().saturating_add(tail.len());
    let header = RecordHeader {
        kind: U16::new(T::KIND as u16),
        version: T::VERSION,
        flags: FLAG_CRITICAL,
        length: U32::new(u32::try_from(length).unwrap_or(u32::MAX)),
    };
    sink.put(header.as_bytes())?;
    sink.put(payload.as_bytes())?;
    sink.put(tail)
}

/// One record of a stream, its payload not yet interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The kind.
    pub kind: Kind,
    /// Version of the payload's structure.
    pub version: u8,
    /// The payload, tail included.
    pub payload: &'a [u8],
    /// Header and payload together, to pass the record on as it is.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The payload as a `T`, and the tail behind it.
    pub fn parse<T: Payload>(&self) -> Result<(&'a T, &'a [u8]), DecodeError> {
        let kind = self.kind as u16;
        if self.kind != T::KIND {
            return Err(DecodeError::WrongKind(kind));
        }
        if self.version != T::VERSION {
            return Err(DecodeError::UnknownVersion(kind, self.version));
        }
        let (value, tail) =
            T::ref_from_prefix(self.payload).map_err(|_| DecodeError::Size(kind))?;
        if !T::TAIL && !tail.is_empty() {
            return Err(DecodeError::Size(kind));
        }
        if !value.reserved_is_zero() {
            return Err(DecodeError::Reserved(kind));
        }
        Ok((value, tail))
    }
}

/// Reads the records of a stream in their order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which begin with a record.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn step(&mut self) -> Result<Option<Record<'a>>, DecodeError> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let whole = self.rest;
            let (header, rest) =
                RecordHeader::ref_from_prefix(whole).map_err(|_| DecodeError::Truncated)?;
            let length = header.length.get() as usize;
            if length > MAX_PAYLOAD {
                return Err(DecodeError::TooLong);
            }
            let (payload, rest) = rest
                .split_at_checked(length)
                .ok_or(DecodeError::Truncated)?;
            let size = size_of::<RecordHeader>().saturating_add(length);
            let bytes = whole.get(..size).ok_or(DecodeError::Truncated)?;
            let number = header.kind.get();
            if header.flags & !FLAG_CRITICAL != 0 {
                return Err(DecodeError::Reserved(number));
            }
            self.rest = rest;
            match Kind::from_wire(number) {
                Some(kind) => {
                    return Ok(Some(Record {
                        kind,
                        version: header.version,
                        payload,
                        bytes,
                    }));
                }
                None if header.flags & FLAG_CRITICAL != 0 => {
                    return Err(DecodeError::UnknownKind(number));
                }
                None => {}
            }
        }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(record) => record.map(Ok),
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Declares that a structure is the payload of a kind.
macro_rules! payload {
    ($type:ty, $kind:ident $(, tail = $tail:literal)? $(, reserved = $($field:ident).+)?) => {
        impl $crate::record::Payload for $type {
            const KIND: $crate::record::Kind = $crate::record::Kind::$kind;
            $(const TAIL: bool = $tail;)?
            fn reserved_is_zero(&self) -> bool {
                true $(&& zerocopy::IntoBytes::as_bytes(&self.$($field).+).iter().all(|byte| *byte == 0))?
            }
        }
    };
}
pub(crate) use payload;

// SPDX-License-Identifier: GPL-2.0
//! Lists of system calls that a vessel executes.

use super::abi::CHECK_EQUAL;
use super::abi::CHECK_SUCCESS;
use super::abi::SPAWN_THREAD;
use std::borrow::Cow;

/// Bytes of one entry, as [`super::abi::Entry`].
pub(super) const ENTRY_SIZE: usize = size_of::<super::abi::Entry>();

/// The index of an entry in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call(usize);

impl Call {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

/// An offset in a list's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Data(usize);

/// An argument of a system call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Argument {
    /// A number or an address of the vessel.
    Value(u64),
    /// The address of data of the list.
    Data(Data),
    /// What an earlier call answered.
    Result(Call),
}

macro_rules! argument {
    ($($type:ty => $how:expr),* $(,)?) => {
        $(impl From<$type> for Argument {
            fn from(value: $type) -> Self {
                $how(value)
            }
        })*
    };
}
argument! {
    u64 => Argument::Value,
    u32 => |value: u32| Argument::Value(value.into()),
    i32 => |value: i32| Argument::Value(i64::from(value) as u64),
    i64 => |value: i64| Argument::Value(value as u64),
    usize => |value: usize| Argument::Value(value as u64),
    Data => Argument::Data,
    Call => Argument::Result,
}

/// Writes the arguments of a call as `args![1, path, 3u64]`.
macro_rules! args {
    ($($argument:expr),* $(,)?) => {
        &[$($crate::restore::list::Argument::from($argument)),*]
    };
}
pub(super) use args;

/// What becomes of the list when a call answers.
#[derive(Debug, Clone, Copy)]
enum Check {
    Nothing,
    Success,
    Equal(i64),
}

#[derive(Debug)]
struct Entry {
    number: u32,
    arguments: [Argument; 6],
    check: Check,
    what: Cow<'static, str>,
}

/// System calls in their order, with the data that they refer to.
#[derive(Debug, Default)]
pub(super) struct List {
    entries: Vec<Entry>,
    data: Vec<u8>,
}

impl List {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the list takes in the shared memory.
    pub(super) fn size(&self) -> usize {
        self.entries.len() * ENTRY_SIZE + self.data.len()
    }

    /// What the entry at `index` was for.
    pub(super) fn what(&self, index: usize) -> &str {
        self.entries.get(index).map_or("", |entry| &entry.what)
    }

    /// Adds bytes that calls can refer to.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Data {
        let place = Data(self.data.len());
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        place
    }

    /// Adds room that a call can write to.
    pub(super) fn room(&mut self, size: usize) -> Data {
        self.data(&vec![0; size])
    }

    /// Adds a path.
    pub(super) fn path(&mut self, path: &[u8]) -> Data {
        let mut bytes = path.to_vec();
        bytes.push(0);
        self.data(&bytes)
    }

    /// Adds numbers of 64 bits.
    pub(super) fn words(&mut self, words: &[u64]) -> Data {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.data(&bytes)
    }

    fn push(
        &mut self,
        what: Cow<'static, str>,
        number: u32,
        arguments: &[Argument],
        check: Check,
    ) -> Call {
        let mut all = [Argument::Value(0); 6];
        for (to, from) in all.iter_mut().zip(arguments) {
            *to = *from;
        }
        self.entries.push(Entry {
            number,
            arguments: all,
            check,
            what,
        });
        Call(self.entries.len() - 1)
    }

    /// Adds a call that must succeed.
    pub(super) fn call(
        &mut self,
        what: impl Into<Cow<'static, str>>,
        number: libc::c_long,
        arguments: &[Argument],
    ) -> Call {
        self.push(what.into(), number as u32, arguments, Check::Success)
    }

    /// Adds a call that may fail.
    pub(super) fn attempt(
        &mut self,
        what: impl Into<Cow<'static, str>>,
        number: libc::c_long,
        arguments: &[Argument],
    ) -> Call {
        self.push(what.into(), number as u32, arguments, Check::Nothing)
    }

    /// Adds a call that must answer `expected`.
    pub(super) fn expect(
        &mut self,
        what: impl Into<Cow<'static, str>>,
        number: libc::c_long,
        arguments: &[Argument],
        expected: u64,
    ) -> Call {
        self.push(
            what.into(),
            number as u32,
            arguments,
            Check::Equal(expected as i64),
        )
    }

    /// Adds the making of a thread with the TID `tid`, whose slot has the address `slot` in the vessel.
    pub(super) fn spawn(
        &mut self,
        clone_arguments: Data,
        size: usize,
        slot: u64,
        tid: u32,
    ) -> Call {
        let what = format!("make thread {tid}").into();
        let arguments = args![clone_arguments, size, slot];
        self.push(what, SPAWN_THREAD, arguments, Check::Equal(tid.into()))
    }

    /// Cuts a list whose entries refer neither to data nor to each other into pieces that fit.
    pub(super) fn split(self) -> Vec<List> {
        const MOST: usize = 16384;
        debug_assert!(self.data.is_empty());
        let mut pieces = vec![List::new()];
        for entry in self.entries {
            match pieces.last_mut().filter(|piece| piece.len() < MOST) {
                Some(piece) => piece.entries.push(entry),
                None => {
                    let mut piece = List::new();
                    piece.entries.push(entry);
                    pieces.push(piece);
                }
            }
        }
        pieces
    }

    /// The address of `data`, if the list comes to lie at `address` of the vessel.
    pub(super) fn address_of(&self, data: Data, address: u64) -> u64 {
        address + (self.entries.len() * ENTRY_SIZE + data.0) as u64
    }

    /// Overwrites a number in the data, such as a pointer to other data.
    pub(super) fn set_word(&mut self, data: Data, offset: usize, word: u64) {
        let start = data.0 + offset;
        if let Some(place) = self.data.get_mut(start..start + 8) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// The bytes of the list, for the address `address` of the vessel: entries as in [`super::abi::Entry`], then data.
    pub(super) fn encode(&self, address: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        for entry in &self.entries {
            let (check, expected) = match entry.check {
                Check::Nothing => (0, 0),
                Check::Success => (CHECK_SUCCESS, 0),
                Check::Equal(expected) => (CHECK_EQUAL, expected),
            };
            let mut flags = check;
            let mut numbers = [0u64; 6];
            for (index, argument) in entry.arguments.iter().enumerate() {
                let number = match *argument {
                    Argument::Value(value) => value,
                    Argument::Data(data) => self.address_of(data, address),
                    Argument::Result(call) => {
                        flags |= 1 << index;
                        call.0 as u64
                    }
                };
                if let Some(place) = numbers.get_mut(index) {
                    *place = number;
                }
            }
            bytes.extend_from_slice(&entry.number.to_le_bytes());
            bytes.extend_from_slice(&flags.to_le_bytes());
            for number in numbers {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&expected.to_le_bytes());
            bytes.extend_from_slice(&0u64.to_le_bytes());
        }
        bytes.extend_from_slice(&self.data);
        bytes
    }
}

/// What a vessel answered to a list.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The results of the entries that were executed.
    pub(super) results: Vec<i64>,
    /// The list's data afterwards.
    pub(super) data: Vec<u8>,
    /// Number of entries executed as expected.
    pub(super) completed: usize,
}

impl Answers {
    /// What `call` answered; 0 if it was not reached.
    pub(super) fn of(&self, call: Call) -> i64 {
        self.results.get(call.0).copied().unwrap_or(0)
    }

    /// `length` bytes at `data`.
    pub(super) fn bytes(&self, data: Data, length: usize) -> &[u8] {
        self.data.get(data.0..data.0 + length).unwrap_or(&[])
    }
}

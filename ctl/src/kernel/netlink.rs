// SPDX-License-Identifier: GPL-2.0
//! The module over generic netlink, one blocking socket a connection.

use super::message::Attributes;
use super::message::Message;
use super::message::Messages;
use super::request::Problem;
use super::request::Request;
use super::request::CONTROL_FAMILY;
use super::Device;
use super::Kernel;
use super::KernelError;
use super::ModuleInfo;
use super::PageTotals;
use super::SessionInfo;
use crate::proto::MigrationId;
use neli::consts::nl::NlmF;
use neli::consts::socket::Msg;
use neli::consts::socket::NlFamily;
use neli::socket::NlSocket;
use neli::utils::Groups;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;
use pmig_wire::netlink::Role;
use pmig_wire::netlink::SessionState;
use pmig_wire::netlink::FAMILY;
use pmig_wire::pages::PageRange;
use pmig_wire::record::Reader;
use pmig_wire::thread::RestartKind;
use pmig_wire::ABI_VERSION;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use zerocopy::IntoBytes;

/// One datagram of a dump has up to 64 KiB, and a refusal repeats the request before it gives its reasons.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// What the kernel may queue for this socket.
const SOCKET_BUFFER: usize = 1024 * 1024;
/// Payload of one request attribute: its length field has 16 bits.
const MAX_ATTRIBUTE: usize = 60 * 1024;
/// State of one process may have this many bytes; a module that sends more has lost its way.
const MAX_RECORDS: usize = 256 * 1024 * 1024;

const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

/// Opens netlink connections to the module of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Netlink;

impl Device for Netlink {
    fn open(&self) -> Result<Box<dyn Kernel>, KernelError> {
        Ok(Box::new(NetlinkKernel::connect()?))
    }
}

/// A connection to the module of this host.
pub struct NetlinkKernel {
    socket: NlSocket,
    family: u16,
    sequence: u32,
    buffer: Vec<u8>,
}

impl fmt::Debug for NetlinkKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetlinkKernel")
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

impl NetlinkKernel {
    /// Connects, and checks that the module is there and speaks this version.
    pub fn connect() -> Result<Self, KernelError> {
        let mut kernel = Self::connect_any_version()?;
        let module = kernel.hello()?.abi;
        if module != ABI_VERSION {
            return Err(KernelError::Version {
                module,
                tool: ABI_VERSION,
            });
        }
        Ok(kernel)
    }

    /// Connects to a module of any version, to ask who it is.
    pub fn connect_any_version() -> Result<Self, KernelError> {
        let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        socket.enable_ext_ack(true)?;
        // A hint: long dumps go on as their datagrams are read.
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        let mut kernel = Self {
            socket,
            family: 0,
            sequence: 0,
            buffer: vec![0; RECEIVE_BUFFER],
        };
        kernel.family = kernel.resolve()?;
        Ok(kernel)
    }

    fn resolve(&mut self) -> Result<u16, KernelError> {
        let mut name = FAMILY.as_bytes().to_vec();
        name.push(0);
        let request = Request::raw(CONTROL_GET_FAMILY).raw_attribute(CONTROL_FAMILY_NAME, name);
        let mut family = None;
        let answer = self.exchange(CONTROL_FAMILY, NlmF::ACK, request, |attributes| {
            family = attributes
                .raw(CONTROL_FAMILY_ID)
                .and_then(|id| id.try_into().ok())
                .map(u16::from_ne_bytes);
            Ok(())
        });
        match answer {
            Err(Problem::Refused {
                errno: libc::ENOENT,
                ..
            }) => Err(KernelError::NotLoaded),
            Err(problem) => Err(problem.of(Command::Hello)),
            Ok(()) => family.ok_or(KernelError::Malformed {
                command: Command::Hello,
                problem: "no family",
            }),
        }
    }

    /// Sends a request and hands the attributes of each answer to `answer`, until the module says that it is done.
    fn exchange(
        &mut self,
        family: u16,
        flags: NlmF,
        request: Request,
        mut answer: impl FnMut(Attributes<'_>) -> Result<(), &'static str>,
    ) -> Result<(), Problem> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let expected = self.sequence;
        let bytes = request.encode(family, NlmF::REQUEST | flags, expected)?;
        retry(|| self.socket.send(&bytes, Msg::empty()))?;
        loop {
            let (length, _) = retry(|| self.socket.recv(&mut self.buffer, Msg::TRUNC))?;
            let datagram = self
                .buffer
                .get(..length)
                .ok_or(Problem::Malformed("the answer is too long"))?;
            for message in Messages::new(datagram) {
                match message.map_err(|_| Problem::Malformed("the answer is cut off"))? {
                    Message::Payload {
                        sequence,
                        attributes,
                    } if sequence == expected => {
                        answer(attributes).map_err(Problem::Malformed)?;
                    }
                    Message::Ack {
                        sequence,
                        errno,
                        text,
                    }
                    | Message::Done {
                        sequence,
                        errno,
                        text,
                    } if sequence == expected => {
                        return if errno == 0 {
                            Ok(())
                        } else {
                            Err(Problem::Refused { errno, text })
                        };
                    }
                    // An answer to an earlier request that failed half-way.
                    _ => {}
                }
            }
        }
    }

    /// A command with at most one answer, from which `read` takes what it needs.
    fn call<T>(
        &mut self,
        request: Request,
        read: impl Fn(&Attributes<'_>) -> Option<T>,
    ) -> Result<T, KernelError> {
        let command = request.command;
        let mut result = None;
        self.exchange(self.family, NlmF::ACK, request, |attributes| {
            result = Some(read(&attributes).ok_or("an attribute is missing")?);
            Ok(())
        })
        .map_err(|problem| problem.of(command))?;
        result.ok_or(KernelError::Malformed {
            command,
            problem: "no answer",
        })
    }

    /// A command without an answer.
    fn order(&mut self, request: Request) -> Result<(), KernelError> {
        let command = request.command;
        self.exchange(self.family, NlmF::ACK, request, |_| Ok(()))
            .map_err(|problem| problem.of(command))
    }

    /// A dump of records.
    fn records(&mut self, request: Request) -> Result<Vec<u8>, KernelError> {
        let command = request.command;
        let mut records = Vec::new();
        self.exchange(self.family, NlmF::DUMP, request, |attributes| {
            for (number, value) in attributes {
                if number == Attribute::Records as u16 {
                    if records.len().saturating_add(value.len()) > MAX_RECORDS {
                        return Err("too many records");
                    }
                    records.extend_from_slice(value);
                }
            }
            Ok(())
        })
        .map_err(|problem| problem.of(command))?;
        Ok(records)
    }
}

impl Kernel for NetlinkKernel {
    fn hello(&mut self) -> Result<ModuleInfo, KernelError> {
        self.call(Request::new(Command::Hello), |attributes| {
            Some(ModuleInfo {
                abi: attributes.u32(Attribute::Abi)?,
                version: attributes.string(Attribute::ModuleVersion)?,
                release: attributes.string(Attribute::Release)?,
                harvested: attributes.u32(Attribute::Harvested).unwrap_or(0),
            })
        })
    }

    fn survey(&mut self, pid: u32) -> Result<Vec<u8>, KernelError> {
        self.records(Request::new(Command::Survey).u32(Attribute::Pid, pid))
    }

    fn session_new(&mut self, role: Role, migration: MigrationId) -> Result<u32, KernelError> {
        let request = Request::new(Command::SessionNew)
            .attribute(Attribute::Role, vec![role as u8])
            .attribute(Attribute::Migration, migration.as_bytes().to_vec());
        self.call(request, |attributes| {
            attributes
                .u32(Attribute::Session)
                .filter(|session| *session != 0)
        })
    }

    fn session_end(&mut self, session: u32) -> Result<(), KernelError> {
        self.order(Request::session(Command::SessionEnd, session))
    }

    fn freeze(&mut self, session: u32, pid: u32, deadline: Duration) -> Result<u32, KernelError> {
        let milliseconds = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let request = Request::session(Command::Freeze, session)
            .u32(Attribute::Pid, pid)
            .u32(Attribute::DeadlineMs, milliseconds);
        self.call(request, |attributes| attributes.u32(Attribute::Threads))
    }

    fn thaw(&mut self, session: u32) -> Result<(), KernelError> {
        self.order(Request::session(Command::Thaw, session))
    }

    fn capture(&mut self, session: u32, pid: u32) -> Result<Vec<u8>, KernelError> {
        self.records(Request::session(Command::Capture, session).u32(Attribute::Pid, pid))
    }

    fn send_pages(
        &mut self,
        session: u32,
        pid: u32,
        socket: BorrowedFd<'_>,
        ranges: &[PageRange],
        last: bool,
    ) -> Result<PageTotals, KernelError> {
        let descriptor = descriptor_number(socket);
        let mut totals = PageTotals::default();
        let mut chunks = ranges
            .chunks(MAX_ATTRIBUTE / size_of::<PageRange>())
            .peekable();
        loop {
            let chunk = chunks.next().unwrap_or(&[]);
            let is_last = chunks.peek().is_none();
            if chunk.is_empty() && !last {
                return Ok(totals);
            }
            let mut request = Request::session(Command::SendPages, session)
                .u32(Attribute::Pid, pid)
                .u32(Attribute::Socket, descriptor)
                .attribute(Attribute::Ranges, chunk.as_bytes().to_vec());
            if is_last && last {
                request = request.attribute(Attribute::Last, Vec::new());
            }
            totals.add(self.call(request, page_totals)?);
            if is_last {
                return Ok(totals);
            }
        }
    }

    fn receive_pages(
        &mut self,
        session: u32,
        pid: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<PageTotals, KernelError> {
        let request = Request::session(Command::ReceivePages, session)
            .u32(Attribute::Pid, pid)
            .u32(Attribute::Socket, descriptor_number(socket));
        self.call(request, page_totals)
    }

    fn vessel(&mut self, session: u32, pid: u32, stub: Range<u64>) -> Result<(), KernelError> {
        let request = Request::session(Command::Vessel, session)
            .u32(Attribute::Pid, pid)
            .u64(Attribute::StubStart, stub.start)
            .u64(Attribute::StubEnd, stub.end);
        self.order(request)
    }

    fn restore(&mut self, session: u32, pid: u32, records: &[u8]) -> Result<(), KernelError> {
        for chunk in record_chunks(records)? {
            let request = Request::session(Command::Restore, session)
                .u32(Attribute::Pid, pid)
                .attribute(Attribute::Records, chunk.to_vec());
            self.order(request)?;
        }
        Ok(())
    }

    fn commit(&mut self, session: u32) -> Result<(), KernelError> {
        self.order(Request::session(Command::Commit, session))
    }

    fn kill(&mut self, session: u32) -> Result<(), KernelError> {
        self.order(Request::session(Command::Kill, session))
    }

    fn status(&mut self) -> Result<Vec<SessionInfo>, KernelError> {
        let mut sessions = Vec::new();
        self.exchange(
            self.family,
            NlmF::DUMP,
            Request::new(Command::Status),
            |attributes| {
                sessions.push(session_info(&attributes).ok_or("a session without its attributes")?);
                Ok(())
            },
        )
        .map_err(|problem| problem.of(Command::Status))?;
        Ok(sessions)
    }

    fn harvest(&mut self, session: u32, pid: u32, kind: RestartKind) -> Result<(), KernelError> {
        let request = Request::session(Command::Harvest, session)
            .u32(Attribute::Pid, pid)
            .u32(Attribute::Kind, kind as u32);
        self.order(request)
    }

    fn adopt(&mut self, session: u32) -> Result<(), KernelError> {
        self.order(Request::session(Command::Adopt, session))
    }
}

fn page_totals(attributes: &Attributes<'_>) -> Option<PageTotals> {
    Some(PageTotals {
        pages: attributes.u64(Attribute::Pages)?,
        zero_pages: attributes.u64(Attribute::ZeroPages).unwrap_or(0),
        bytes: attributes.u64(Attribute::Bytes)?,
    })
}

fn session_info(attributes: &Attributes<'_>) -> Option<SessionInfo> {
    let state = match attributes.u8(Attribute::State)? {
        1 => SessionState::Open,
        2 => SessionState::Frozen,
        3 => SessionState::Committed,
        4 => SessionState::Ended,
        _ => return None,
    };
    Some(SessionInfo {
        session: attributes.u32(Attribute::Session)?,
        role: Role::from_wire(attributes.u8(Attribute::Role)?)?,
        state,
        migration: MigrationId::from_bytes(attributes.get(Attribute::Migration)?.try_into().ok()?),
        pid: attributes.u32(Attribute::Pid).unwrap_or(0),
        threads: attributes.u32(Attribute::Threads).unwrap_or(0),
        owned: attributes.u8(Attribute::Owned).unwrap_or(0) != 0,
    })
}

/// Cuts a record stream into pieces of whole records that each fit into one attribute.
fn record_chunks(records: &[u8]) -> Result<Vec<&[u8]>, KernelError> {
    let malformed = KernelError::Malformed {
        command: Command::Restore,
        problem: "not a record stream",
    };
    let mut chunks = Vec::new();
    let mut start = 0usize;
    let mut end = 0usize;
    for record in Reader::new(records) {
        let Ok(record) = record else {
            return Err(malformed);
        };
        let length = record.bytes.len();
        if end.saturating_sub(start).saturating_add(length) > MAX_ATTRIBUTE {
            chunks.extend(records.get(start..end));
            start = end;
        }
        end = end.saturating_add(length);
    }
    // The reader skips records that are neither known nor critical, and then the pieces would not be whole records.
    if end != records.len() {
        return Err(malformed);
    }
    if start < end {
        chunks.extend(records.get(start..end));
    }
    Ok(chunks)
}

fn descriptor_number(socket: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    u32::try_from(socket.as_raw_fd()).unwrap_or(u32::MAX)
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pmig_wire::file::PipeData;
    use pmig_wire::record;

    struct Bytes(Vec<u8>);

    impl record::Sink for Bytes {
        type Error = std::convert::Infallible;

        fn put(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn restore_is_cut_into_whole_records() {
        let mut stream = Bytes(Vec::new());
        for length in [40_000, 30_000, 10, 48_000, 0] {
            let Ok(()) =
                record::write(&mut stream, &PipeData { inode: 1.into() }, &vec![0; length]);
        }
        let chunks = record_chunks(&stream.0).expect("a record stream");
        assert!(chunks
            .iter()
            .all(|chunk| chunk.len() <= MAX_ATTRIBUTE && Reader::new(chunk).all(|r| r.is_ok())));
        assert_eq!(chunks.concat(), stream.0);
        assert!(record_chunks(&stream.0[1..]).is_err());
    }
}

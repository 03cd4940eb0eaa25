// SPDX-License-Identifier: GPL-2.0

//! What the module does with requests of the generic netlink family ([`pmig_wire::netlink`]).

use crate::capture;
use crate::kx::mm::Mm;
use crate::kx::netlink::Dump;
use crate::kx::netlink::Failure;
use crate::kx::netlink::Handler;
use crate::kx::netlink::Reply;
use crate::kx::netlink::Request;
use crate::kx::restart;
use crate::kx::socket::Socket;
use crate::kx::task::Task;
use crate::release;
use crate::restore;
use crate::session::Session;
use crate::stream;
use crate::stream::Counts;
use kernel::prelude::*;
use kernel::sync::Arc;
use pmig_core::validate;
use pmig_core::validate::Span;
use pmig_wire::netlink::Attribute;
use pmig_wire::netlink::Command;
use pmig_wire::netlink::Role;
use pmig_wire::netlink::SessionState;
use pmig_wire::pages::PageRange;
use pmig_wire::thread::RestartKind;
use zerocopy::FromBytes;

/// The longest time that a freeze may take, milliseconds.
const MAX_DEADLINE: u32 = 60_000;

/// The family's requests.
pub(crate) struct Channel;

/// A stream of pages, which may take as long as the link does.
pub(crate) enum Job {
    /// `SendPages`
    Send {
        mm: Mm,
        socket: Socket,
        ranges: KVVec<PageRange>,
        last: bool,
    },
    /// `ReceivePages`
    Receive { mm: Mm, socket: Socket, stub: Span },
}

fn any_session(request: &Request<'_>) -> Result<Arc<Session>, Failure> {
    Session::find(request.u32(Attribute::Session)?)
}

/// The session that the request names, which the asking socket must own.
fn session(request: &Request<'_>) -> Result<Arc<Session>, Failure> {
    let session = any_session(request)?;
    session.require_owner(request.port())?;
    Ok(session)
}

fn task(request: &Request<'_>) -> Result<Task, Failure> {
    let pid = request.u32(Attribute::Pid)?;
    let task = Task::find(pid)
        .ok_or_else(|| Failure::new(ESRCH, format_args!("there is no process {pid}")))?;
    if !task.is_leader() {
        return Err(Failure::new(
            ESRCH,
            format_args!("{pid} is a thread, not a process"),
        ));
    }
    Ok(task)
}

fn hello(request: &Request<'_>) -> Result<(), Failure> {
    Reply::new(request, 256)?
        .put(Attribute::Abi, &pmig_wire::ABI_VERSION.to_ne_bytes())?
        .put(Attribute::ModuleVersion, release::MODULE_VERSION)?
        .put(Attribute::Release, release::RELEASE)?
        .put(Attribute::Harvested, &restart::known().to_ne_bytes())?
        .send()?;
    Ok(())
}

fn session_new(request: &Request<'_>) -> Result<(), Failure> {
    let role = Role::from_wire(request.u8(Attribute::Role)?)
        .ok_or_else(|| Failure::new(EINVAL, format_args!("no such role")))?;
    let id = Session::open(request.port(), role, request.array(Attribute::Migration)?)?;
    Ok(Reply::new(request, 64)?
        .put(Attribute::Session, &id.to_ne_bytes())?
        .send()?)
}

fn freeze(request: &Request<'_>) -> Result<(), Failure> {
    let session = session(request)?;
    let task = task(request)?;
    let deadline = request.u32(Attribute::DeadlineMs)?.min(MAX_DEADLINE);
    if task.is_kernel_thread() {
        return Err(Failure::new(
            EPERM,
            format_args!("a kernel thread cannot be frozen"),
        ));
    }
    let threads = session.freeze(&task, deadline)?;
    let threads = u32::try_from(threads).unwrap_or(u32::MAX);
    Ok(Reply::new(request, 64)?
        .put(Attribute::Threads, &threads.to_ne_bytes())?
        .send()?)
}

fn vessel(request: &Request<'_>) -> Result<(), Failure> {
    let (start, end) = (
        request.u64(Attribute::StubStart)?,
        request.u64(Attribute::StubEnd)?,
    );
    let stub = validate::stub(start, end)
        .map_err(|reason| Failure::new(EINVAL, format_args!("{}", reason.message())))?;
    session(request)?.add_vessel(task(request)?, stub)
}

fn memory(task: &Task) -> Result<Mm, Failure> {
    Mm::of(task).ok_or_else(|| Failure::new(ESRCH, format_args!("the process has ended")))
}

fn send_pages(request: &Request<'_>) -> Result<Job, Failure> {
    let session = session(request)?;
    let task = task(request)?;
    session.inner.lock().member(&task)?;
    let blob = request.blob(Attribute::Ranges)?;
    let found = <[PageRange]>::ref_from_bytes(blob)
        .map_err(|_| Failure::new(EINVAL, format_args!("the page ranges are garbled")))?;
    let mut ranges = KVVec::with_capacity(found.len(), GFP_KERNEL)?;
    ranges.extend_from_slice(found, GFP_KERNEL)?;
    let socket = Socket::from_fd(request.u32(Attribute::Socket)?)?;
    Ok(Job::Send {
        mm: memory(&task)?,
        socket,
        ranges,
        last: request.flag(Attribute::Last),
    })
}

fn receive_pages(request: &Request<'_>) -> Result<Job, Failure> {
    let session = session(request)?;
    let task = task(request)?;
    if session.role != Role::Destination {
        return Err(Failure::new(
            EINVAL,
            format_args!("only a vessel receives pages"),
        ));
    }
    let stub = session.inner.lock().member(&task)?.stub.ok_or(EINVAL)?;
    let socket = Socket::from_fd(request.u32(Attribute::Socket)?)?;
    Ok(Job::Receive {
        mm: memory(&task)?,
        socket,
        stub,
    })
}

fn restore_records(request: &Request<'_>) -> Result<(), Failure> {
    let session = session(request)?;
    if session.role != Role::Destination {
        return Err(Failure::new(
            EINVAL,
            format_args!("only a vessel can be restored"),
        ));
    }
    let task = task(request)?;
    let mut inner = session.inner.lock();
    if inner.core.state != SessionState::Frozen {
        return Err(Failure::new(
            EBUSY,
            format_args!("the vessel is not frozen"),
        ));
    }
    restore::restore(
        &inner.frozen(&task)?.parks,
        request.blob(Attribute::Records)?,
    )
}

fn harvest(request: &Request<'_>) -> Result<(), Failure> {
    let kind = RestartKind::from_wire(request.u32(Attribute::Kind)?)
        .ok_or_else(|| Failure::new(EINVAL, format_args!("no such kind of call")))?;
    let session = session(request)?;
    let task = task(request)?;
    let mut inner = session.inner.lock();
    let park = inner.frozen(&task)?.parks.first().ok_or(ESRCH)?;
    let held = park.hold()?;
    restart::learn(&held, kind)
        .map_err(|errno| Failure::new(errno, format_args!("the process waits in no such call")))
}

fn capture_process(request: &Request<'_>) -> Result<Dump, Failure> {
    let session = session(request)?;
    let task = task(request)?;
    let mut inner = session.inner.lock();
    let member = inner.frozen(&task)?;
    // Before: a signal that comes in between is noticed at the commit, if it is not among the captured ones.
    member.captured = Some(member.census()?);
    Ok(Dump::records(capture::capture(&task, Some(&member.parks))?))
}

fn status() -> Result<Dump, Failure> {
    let mut bytes = KVVec::new();
    let mut messages = KVVec::new();
    for session in Session::all()? {
        let inner = session.inner.lock();
        let first = inner.members.first();
        let pid = first.map_or(0, |member| member.leader.global_tgid());
        let threads = first.map_or(0, |member| member.parks.len());
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        let values: [(Attribute, &[u8]); 7] = [
            (Attribute::Session, &session.id.to_ne_bytes()),
            (Attribute::Role, &[session.role as u8]),
            (Attribute::State, &[inner.core.state as u8]),
            (Attribute::Migration, &session.migration),
            (Attribute::Pid, &pid.to_ne_bytes()),
            (Attribute::Threads, &threads.to_ne_bytes()),
            (Attribute::Owned, &[u8::from(inner.core.owned)]),
        ];
        let mut parts = KVec::with_capacity(values.len(), GFP_KERNEL)?;
        for (attribute, value) in values {
            parts.push((attribute, value.len()), GFP_KERNEL)?;
            bytes.extend_from_slice(value, GFP_KERNEL)?;
        }
        messages.push(parts, GFP_KERNEL)?;
    }
    Ok(Dump::messages(bytes, messages))
}

impl Handler for Channel {
    type Job = Job;

    fn request(request: &Request<'_>) -> Result<Option<Job>, Failure> {
        match request.command() {
            Command::Hello => hello(request),
            Command::SessionNew => session_new(request),
            Command::SessionEnd => session(request)?.abort(),
            Command::Freeze => freeze(request),
            Command::Thaw => session(request)?.thaw(),
            Command::SendPages => return send_pages(request).map(Some),
            Command::ReceivePages => return receive_pages(request).map(Some),
            Command::Restore => restore_records(request),
            Command::Commit => session(request)?.commit(),
            Command::Kill => session(request)?.kill(),
            Command::Harvest => harvest(request),
            Command::Vessel => vessel(request),
            Command::Adopt => any_session(request)?.adopt(request.port()),
            Command::Survey | Command::Capture | Command::Status | Command::Event => {
                Err(EOPNOTSUPP.into())
            }
        }
        .map(|()| None)
    }

    fn perform(job: Job) -> Result<[(Attribute, u64); 3], Failure> {
        let Counts {
            pages,
            zero_pages,
            bytes,
        } = match job {
            Job::Send {
                mm,
                socket,
                ranges,
                last,
            } => stream::send(&mm, &socket, &ranges, last)?,
            Job::Receive { mm, socket, stub } => stream::receive(&mm, &socket, stub)?,
        };
        Ok([
            (Attribute::Pages, pages),
            (Attribute::ZeroPages, zero_pages),
            (Attribute::Bytes, bytes),
        ])
    }

    fn dump(request: &Request<'_>) -> Result<Dump, Failure> {
        match request.command() {
            Command::Survey => Ok(Dump::records(capture::capture(&task(request)?, None)?)),
            Command::Capture => capture_process(request),
            Command::Status => status(),
            _ => Err(EOPNOTSUPP.into()),
        }
    }

    fn closed(port: u32) {
        Session::owner_gone(port);
    }
}

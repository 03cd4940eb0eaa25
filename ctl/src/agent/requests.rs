// SPDX-License-Identifier: GPL-2.0
//! Requests of the tool on this host, over a Unix socket that only root can reach.

use super::Agent;
use super::Cancel;
use crate::proto::read_body;
use crate::proto::write_body;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::MigrateRequest;
use crate::proto::Progress;
use crate::proto::Reply;
use crate::proto::Request;
use crate::transport::wait_readable;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::stat::umask;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;
use std::fs;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

const ACCEPT_LIMIT: Duration = Duration::from_millis(200);
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How often a running migration looks whether whoever asked for it is still there.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// More requests at once than this are not answered.
const MAX_REQUESTS: usize = 256;

/// The socket on which an agent takes requests. It goes away with the value.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Listens at `path`, where nobody else may listen: whoever calls has made sure that no other agent runs.
    pub fn listen(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(dir)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The socket must never exist with wider permissions, not even for a moment.
        let old = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(old);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // Whoever comes next replaces it anyway.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes requests until the agent ends.
pub(crate) fn serve(agent: &Arc<Agent>, socket: &LocalSocket) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    while !agent.is_ended() {
        if !wait_readable(socket.listener.as_fd(), ACCEPT_LIMIT)? {
            continue;
        }
        let Ok((stream, _)) = socket.listener.accept() else {
            continue;
        };
        if open.load(Ordering::Relaxed) >= MAX_REQUESTS {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (agent, count) = (agent.clone(), open.clone());
        let spawned = thread::Builder::new()
            .name("request".into())
            .spawn(move || {
                if let Err(error) = answer(&agent, stream) {
                    tracing::debug!(%error, "a request ended");
                }
                count.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = spawned {
            open.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%error, "no thread for a request");
        }
    }
    Ok(())
}

fn answer(agent: &Agent, mut stream: UnixStream) -> Result<(), Failure> {
    let lost = super::system_error("the request");
    stream.set_nonblocking(false).map_err(&lost)?;
    stream
        .set_read_timeout(Some(REQUEST_LIMIT))
        .map_err(&lost)?;
    stream
        .set_write_timeout(Some(REQUEST_LIMIT))
        .map_err(&lost)?;
    let caller = getsockopt(&stream, PeerCredentials).map_err(|error| lost(error.into()))?;
    // The mode of the socket says the same; this holds even if somebody changed it.
    if caller.uid() != 0 && caller.uid() != geteuid().as_raw() {
        let failure = Failure::new(
            FailureCode::PermissionDenied,
            "only root may ask the agent for something",
        );
        return Ok(write_body(&mut stream, &Reply::Failed(failure))?);
    }
    let reply = match read_body::<Request>(&mut stream)? {
        Request::Migrate(request) => migrate(agent, &request, &stream),
        Request::Status => agent.status().map(Reply::Status),
        Request::Resolve {
            migration,
            decision,
        } => agent.resolve(&migration, decision).map(Reply::Resolved),
    };
    Ok(write_body(
        &mut stream,
        &reply.unwrap_or_else(Reply::Failed),
    )?)
}

/// Runs a migration while somebody watches the caller and the clock.
fn migrate(agent: &Agent, request: &MigrateRequest, stream: &UnixStream) -> Result<Reply, Failure> {
    let lost = super::system_error("the request");
    let watched = stream.try_clone().map_err(&lost)?;
    let writer = Mutex::new(stream.try_clone().map_err(&lost)?);
    let cancel = Cancel::new();
    let is_over = AtomicBool::new(false);
    let limit = request.timeout_ms.map(Duration::from_millis);
    thread::scope(|scope| {
        scope.spawn(|| watch(&watched, &cancel, limit, &is_over));
        let observer = |progress: Progress| {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            // A caller who does not read has gone or is stuck; the watcher notices the first.
            let _ = write_body(&mut *writer, &progress);
        };
        let result = agent.migrate(request, &cancel, &observer);
        is_over.store(true, Ordering::Release);
        result.map(Reply::Migrated)
    })
}

/// Calls the migration off when the caller goes away or the time is over.
fn watch(stream: &UnixStream, cancel: &Cancel, limit: Option<Duration>, is_over: &AtomicBool) {
    let begin = Instant::now();
    while !is_over.load(Ordering::Acquire) {
        if limit.is_some_and(|limit| begin.elapsed() >= limit) {
            cancel.trip(Failure::new(
                FailureCode::Timeout,
                "the time limit of the migration is over",
            ));
            return;
        }
        match wait_readable(stream.as_fd(), WATCH_INTERVAL) {
            Ok(false) => continue,
            Ok(true) if (&*stream).read(&mut [0]).is_ok_and(|length| length > 0) => continue,
            _ => {}
        }
        cancel.trip(Failure::new(
            FailureCode::Cancelled,
            "whoever asked for the migration has gone away",
        ));
        return;
    }
}

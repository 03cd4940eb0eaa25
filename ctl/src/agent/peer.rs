// SPDX-License-Identifier: GPL-2.0
//! Calling another host's agent.

use super::Agent;
use super::Cancel;
use super::Survey;
use crate::proto::printable;
use crate::proto::read_body;
use crate::proto::write_body;
use crate::proto::Abort;
use crate::proto::Answer;
use crate::proto::Failure;
use crate::proto::FailureCode;
use crate::proto::Hello;
use crate::proto::JournalId;
use crate::proto::Link;
use crate::proto::LinkOptions;
use crate::proto::ObstacleReport;
use crate::proto::Obstacles;
use crate::proto::Offer;
use crate::proto::Purpose;
use crate::proto::Query;
use crate::proto::TimeReply;
use crate::proto::TimeRequest;
use crate::proto::Welcome;
use crate::transport::Connection;
use crate::transport::PeerAddress;
use crate::transport::Transport;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// How long a connection may take to come about.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long a peer that is alive may take to answer, also if it has to compare a process with what it has.
pub(crate) const REPLY_LIMIT: Duration = Duration::from_secs(60);
/// A peer that is asked about a migration may have to thaw the process first.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How often the peer's clock is read; the quickest answer counts.
const CLOCK_ROUNDS: usize = 8;

/// Says hello on a new connection, and waits for at most `silence` for the answer.
pub(crate) fn greet(
    connection: &mut dyn Connection,
    hello: &Hello,
    silence: Duration,
) -> Result<Welcome, Failure> {
    connection
        .set_read_timeout(Some(silence))
        .map_err(super::system_error("the connection"))?;
    connection
        .set_write_timeout(Some(silence))
        .map_err(super::system_error("the connection"))?;
    write_body(connection, hello)?;
    Ok(read_body(connection)?)
}

/// The hello of `agent`.
pub(crate) fn hello(agent: &Agent, purpose: Purpose, facts: Vec<u8>) -> Hello {
    Hello {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        purpose,
        journal: agent.journal.id(),
        port: agent.port(),
        facts,
    }
}

/// Asks the agent at `address` about a migration, and returns its answer and the connection.
pub(crate) fn query(
    agent: &Agent,
    address: &PeerAddress,
    query: &Query,
) -> Result<(Answer, Box<dyn Connection>), Failure> {
    let mut connection = agent.transport.connect(address, CONNECT_LIMIT)?;
    greet(
        connection.as_mut(),
        &hello(agent, Purpose::Query(query.migration), Vec::new()),
        agent.options.link.silence,
    )?;
    connection
        .set_read_timeout(Some(ANSWER_LIMIT))
        .map_err(super::system_error("the connection"))?;
    write_body(connection.as_mut(), query)?;
    let answer = read_body(connection.as_mut())?;
    Ok((answer, connection))
}

/// The real-time clock of this host, nanoseconds.
pub(crate) fn realtime_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, i64::saturating_neg)
        }
    }
}

/// Measures the peer's real-time clock minus this host's, nanoseconds, as NTP does.
pub(crate) fn clock_offset_ns(link: &Link) -> Result<i64, Failure> {
    let mut best = None;
    for _ in 0..CLOCK_ROUNDS {
        let begin = Instant::now();
        let here = realtime_ns();
        link.send(&TimeRequest)?;
        let there: TimeReply = link.receive(REPLY_LIMIT)?;
        let round = begin.elapsed();
        let middle = here.saturating_add(i64::try_from(round.as_nanos() / 2).unwrap_or(i64::MAX));
        let offset = there.realtime_ns.saturating_sub(middle);
        if best.is_none_or(|(quickest, _)| round < quickest) {
            best = Some((round, offset));
        }
    }
    best.map(|(_, offset)| offset)
        .ok_or_else(|| Failure::new(FailureCode::ProtocolError, "no time from the peer"))
}

/// Describes a process to the peer.
pub(crate) fn send_offer(link: &Link, pid: u32, survey: &Survey) -> Result<(), Failure> {
    let length = survey.records.len() as u64;
    link.send(&Offer {
        pid,
        length,
        memory_bytes: survey.memory_bytes,
    })?;
    link.send_records(&survey.records)
}

/// What another host says of itself, and of a process that might come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Version of its agent.
    pub agent: String,
    /// Facts about it.
    pub facts: Vec<u8>,
    /// What stands against the process there.
    pub obstacles: Vec<ObstacleReport>,
}

/// Asks the agent at `address` what it is, and, if there is a `survey`, what stands against that process there. `facts` are
/// those of this host. Needs no agent here and changes nothing anywhere.
pub fn inspect(
    transport: &dyn Transport,
    address: &PeerAddress,
    facts: Vec<u8>,
    survey: Option<&Survey>,
) -> Result<Inspection, Failure> {
    let mut connection = transport.connect(address, CONNECT_LIMIT)?;
    let hello = Hello {
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        purpose: Purpose::Inspect,
        journal: JournalId(0),
        port: 0,
        facts,
    };
    let options = LinkOptions::default();
    let welcome = greet(connection.as_mut(), &hello, options.silence)?;
    let link = Link::start(connection, options, Cancel::new())
        .map_err(super::system_error("the connection"))?;
    let obstacles = match survey {
        Some(survey) => {
            send_offer(&link, 0, survey)?;
            link.receive::<Obstacles>(REPLY_LIMIT)?
                .0
                .into_iter()
                .map(ObstacleReport::sanitized)
                .collect()
        }
        None => Vec::new(),
    };
    // The peer sees the end of the connection in any case.
    let _ = link.send(&Abort(Failure::new(FailureCode::Cancelled, "that was all")));
    Ok(Inspection {
        agent: printable(&welcome.agent),
        facts: welcome.facts,
        obstacles,
    })
}

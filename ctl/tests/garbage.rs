// SPDX-License-Identifier: GPL-2.0
//! Whatever arrives at an agent's port: a clear answer, and the agent goes on.

mod common;

use common::*;
use pmig_ctl::proto::read_body;
use pmig_ctl::proto::write_body;
use pmig_ctl::proto::Frame;
use pmig_ctl::proto::FrameError;
use pmig_ctl::proto::Hello;
use pmig_ctl::proto::JournalId;
use pmig_ctl::proto::MigrationId;
use pmig_ctl::proto::Offer;
use pmig_ctl::proto::Purpose;
use pmig_ctl::proto::Welcome;
use pmig_ctl::transport::Connection;
use pmig_ctl::transport::PeerAddress;
use pmig_ctl::transport::Transport;
use pmig_wire::message::MessageKind;
use pmig_wire::message::MESSAGE_MAGIC;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::io::Read;
use std::io::Write;
use std::time::Duration;

fn call(host: &Host) -> Box<dyn Connection> {
    let address = PeerAddress {
        host: host.name.to_owned(),
        port: 1,
    };
    let connection = host
        .network
        .transport("x")
        .connect(&address, Duration::from_secs(1))
        .expect("a connection");
    connection
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    connection
}

fn hello(purpose: Purpose) -> Hello {
    Hello {
        agent: "test".into(),
        purpose,
        journal: JournalId(1),
        port: 1,
        facts: b"fake".to_vec(),
    }
}

/// The agent has ended the connection, and takes another.
fn is_refused(host: &Host, mut connection: Box<dyn Connection>) {
    let mut rest = Vec::new();
    let _ = connection.read_to_end(&mut rest);
    let mut next = call(host);
    write_body(next.as_mut(), &hello(Purpose::Inspect)).expect("written");
    read_body::<Welcome>(next.as_mut()).expect("the agent still answers");
}

#[test]
fn another_version_is_answered_with_ours() {
    let (_network, _a, b) = two_hosts(&[], &[]);
    let mut bytes = Vec::new();
    write_body(&mut bytes, &hello(Purpose::Inspect)).expect("written");
    bytes[4] = 0x77;
    let mut connection = call(&b);
    connection.write_all(&bytes).expect("written");
    match read_body::<Welcome>(connection.as_mut()) {
        Err(FrameError::Aborted(failure)) => {
            assert_eq!(failure.code.name(), "peer-version");
            assert!(failure.message.contains("119"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    is_refused(&b, connection);
}

#[test]
fn another_protocol_is_refused() {
    let (_network, _a, b) = two_hosts(&[], &[]);
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        &[0; 64],
        &[0xff; 64],
    ] {
        let mut connection = call(&b);
        connection.write_all(bytes).expect("written");
        match read_body::<Welcome>(connection.as_mut()) {
            Err(FrameError::Aborted(failure)) => assert_eq!(failure.code.name(), "protocol-error"),
            other => panic!("{other:?}"),
        }
        is_refused(&b, connection);
    }
}

#[test]
fn announced_lengths_are_not_believed() {
    let (_network, _a, b) = two_hosts(&[], &[]);
    let migration = MigrationId::from_bytes([1; 16]);
    for length in [u64::MAX, 1 << 40, 4] {
        let mut connection = call(&b);
        write_body(connection.as_mut(), &hello(Purpose::Migrate(migration))).expect("written");
        read_body::<Welcome>(connection.as_mut()).expect("welcome");
        write_body(
            connection.as_mut(),
            &Offer {
                pid: 1,
                length,
                memory_bytes: u64::MAX,
            },
        )
        .expect("written");
        let records = Frame {
            kind: MessageKind::Records,
            body: vec![1; 100],
        };
        let _ = records.write(connection.as_mut());
        let refusal = loop {
            match Frame::read(connection.as_mut()) {
                Ok(frame) if frame.kind == MessageKind::Ping => {}
                Ok(frame) => break frame.parse::<Welcome>().expect_err("no welcome"),
                Err(error) => panic!("{error}"),
            }
        };
        assert!(refusal.to_string().contains("announced"), "{refusal}");
        is_refused(&b, connection);
        wait_until("the migration is over", || {
            b.agent.status().expect("a status").active.is_empty()
        });
    }
}

#[test]
fn pages_for_nobody_are_refused() {
    let (_network, _a, b) = two_hosts(&[], &[]);
    let mut connection = call(&b);
    write_body(
        connection.as_mut(),
        &hello(Purpose::Pages(MigrationId::from_bytes([2; 16]))),
    )
    .expect("written");
    match read_body::<Welcome>(connection.as_mut()) {
        Err(FrameError::Aborted(failure)) => assert_eq!(failure.code.name(), "protocol-error"),
        other => panic!("{other:?}"),
    }
}

/// Bytes that look more or less like a conversation.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        4 => proptest::sample::select(MessageKind::ALL.to_vec()).prop_map(|kind| kind as u16),
        1 => any::<u16>(),
    ];
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..64),
        Just(Vec::new()),
        Just(postcard::to_stdvec(&hello(Purpose::Inspect)).expect("encoded")),
        Just(
            postcard::to_stdvec(&hello(Purpose::Migrate(MigrationId::from_bytes([3; 16]))))
                .expect("encoded")
        ),
        Just(
            postcard::to_stdvec(&hello(Purpose::Query(MigrationId::from_bytes([3; 16]))))
                .expect("encoded")
        ),
        (0u64..200).prop_map(|length| postcard::to_stdvec(&(1u32, length, 0u64)).expect("encoded")),
    ];
    let message = (kind, body, 0..20u8).prop_map(|(kind, body, damage)| {
        let mut bytes = MESSAGE_MAGIC.to_le_bytes().to_vec();
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(crc32c::crc32c(&body).to_le_bytes());
        bytes.extend(&body);
        if let Some(byte) = bytes.get_mut(usize::from(damage)).filter(|_| damage < 16) {
            *byte ^= 1 << (damage % 8);
        }
        bytes
    });
    let greeting = proptest::bool::ANY.prop_map(|greet| {
        let mut bytes = Vec::new();
        if greet {
            let hello = hello(Purpose::Migrate(MigrationId::from_bytes([3; 16])));
            write_body(&mut bytes, &hello).expect("written");
        }
        bytes
    });
    (greeting, proptest::collection::vec(message, 0..6)).prop_map(|(mut bytes, messages)| {
        bytes.extend(messages.concat());
        bytes
    })
}

#[test]
fn a_thousand_odd_conversations_change_nothing() {
    let (_network, a, b) = two_hosts(&[], &[]);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..Default::default()
    });
    runner
        .run(&conversation(), |bytes| {
            let mut connection = call(&b);
            // The agent may have ended the connection before all is written.
            let _ = connection.write_all(&bytes);
            connection.shutdown();
            Ok(())
        })
        .expect("nothing fails here");
    wait_until("every conversation is over", || {
        let status = b.agent.status().expect("a status");
        status.active.is_empty() && status.sessions.is_empty() && status.in_doubt.is_empty()
    });
    assert_eq!(b.fake.sessions(), 0);
    a.migrate(PID, "b").expect("the agent works as before");
    settle("odd", &a, &b);
    assert!(!runs_on_source("odd", &a, &b));
}

#[test]
fn one_caller_too_many_is_told_so() {
    let network = pmig_ctl::transport::Network::default();
    let options = pmig_ctl::agent::Options {
        max_connections: 4,
        ..options()
    };
    let b = Host::with_options(&network, "b", &[], options);
    let waiting: Vec<_> = (0..4).map(|_| call(&b)).collect();
    let mut connection = call(&b);
    match read_body::<Welcome>(connection.as_mut()) {
        Err(FrameError::Aborted(failure)) => assert_eq!(failure.code.name(), "busy"),
        other => panic!("{other:?}"),
    }
    drop(waiting);
    wait_until("there is room again", || {
        let mut connection = call(&b);
        write_body(connection.as_mut(), &hello(Purpose::Inspect)).is_ok()
            && read_body::<Welcome>(connection.as_mut()).is_ok()
    });
}

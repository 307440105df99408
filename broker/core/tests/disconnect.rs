//! DISCONNECT and the end of connections: who closes, what is still sent, and what is not.

mod host;

use std::time::Duration;

use broker_core::config::Config;
use host::packets::{connect_packet, publish_packet};
use host::{Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Connect, Disconnect, QoS, ReasonCode, Version};

/// [MQTT-3.14.4-1, MQTT-3.14.4-2] and 3.14.4: after a client's DISCONNECT the broker closes, answers nothing, and
/// takes nothing that follows it.
#[test]
fn client_leaves() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut watcher = node.subscriber("a", QoS::AtMostOnce);
        let mut client = node.connect(version, "client");
        let mut bytes = vec![0xE0, 0];
        bytes.extend(publish_packet(version, &PublishOut { topic: "a", ..PublishOut::default() }));
        client.send(&bytes);
        client.expect_closed();
        watcher.expect_silence();
        assert_eq!(node.connections(), 1);
    }
}

/// [MQTT-3.14.2-1] A 5.0 client may say why it leaves, at any length the packet allows.
#[test]
fn reasons_of_clients() {
    let full = Disconnect {
        reason: ReasonCode::DISCONNECT_WITH_WILL,
        session_expiry: Some(0),
        reason_string: Some("bye"),
        ..Disconnect::default()
    };
    let mut bytes = Vec::new();
    mqtt::encode::disconnect(&mut bytes, Version::V5, &full);
    for packet in
        [&[0xE0, 0][..], &[0xE0, 1, 0], &[0xE0, 2, 0, 0], &[0xE0, 1, 0x04], &[0xE0, 2, 0x80, 0], &bytes]
    {
        let node = Node::new(1);
        let mut client = node.connect(Version::V5, "client");
        client.send(packet);
        client.expect_closed();
    }
}

/// [MQTT-3.14.0-1] No DISCONNECT is sent to a client that has not had a CONNACK, whatever it did.
#[test]
fn no_disconnect_before_connack() {
    for version in VERSIONS {
        for bytes in [&[0xC0, 0][..], &[0xE0, 0], &[0x00], &[0x10, 0xFF, 0xFF, 0xFF, 0xFF]] {
            let mut client = Node::new(1).accept();
            client.version = version;
            client.send(bytes);
            client.expect_closed();
        }
        let node = Node::new(1);
        let mut client = node.accept();
        client.version = version;
        client.send(&connect_packet(&Connect::new(version, "client"))[..10]);
        node.advance(Duration::from_secs(21));
        client.expect_closed();
        let mut client = node.accept();
        node.stop();
        client.expect_closed();
    }
}

/// `close_linger_ms`: a client that does not read its last packet, or does not close its end, is cut off then; one
/// that does both is gone at once.
#[test]
fn lingering() {
    for (reads, closes) in [(true, true), (true, false), (false, true)] {
        let node = Node::with(Config { close_linger_ms: 3000, ..Config::default() });
        let mut client = node.connect(Version::V5, "client");
        client.reads(reads);
        if !closes {
            client.hold_open();
        }
        client.send(&[0xD0, 0]);
        assert_eq!(client.is_held(), !(reads && closes));
        client.send(&vec![0x55; 1_000_000]);
        assert_eq!(node.sessions(), 0, "the session ends at once");
        node.advance(Duration::from_millis(2999));
        assert_eq!(client.is_held(), !(reads && closes));
        node.advance(Duration::from_millis(40));
        assert!(!client.is_held());
        assert_eq!((node.connections(), node.timers()), (0, 0));
    }
}

/// Whatever was owed before a DISCONNECT of the broker's leaves before it.
#[test]
fn owed_packets_come_first() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.send(&[0xC0, 0, 0xC0, 0, 0xD0, 0]);
    assert_eq!((client.expect(), client.expect()), (mqtt::Packet::PingResp, mqtt::Packet::PingResp));
    client.expect_ended(ReasonCode::PROTOCOL_ERROR);
}

/// A client that asks and never reads is not read any more: what it can make us hold is bounded, and nobody
/// else is disturbed. When it reads again, all its answers are there.
#[test]
fn client_that_asks_and_does_not_read() {
    let settings = broker_core::config::Settings { send_bytes_max: 4096, ..Default::default() };
    for packet in [[0xC0, 0], [0x62, 2]] {
        let node = Node::of_settings(settings.clone());
        let mut client = node.connect(Version::V311, "client");
        client.reads(false);
        let mut one = packet.to_vec();
        one.extend(&[0, 1][..usize::from(packet[1])]);
        let sent = 100_000;
        client.send(&one.repeat(sent));
        let taken = sent * one.len() - client.unreceived();
        assert!(taken < 200_000, "{taken} bytes of requests taken");
        node.connect(Version::V311, "another").ping();
        client.reads(true);
        assert_eq!((client.unreceived(), client.packets().len()), (0, sent));
        client.ping();
    }
}

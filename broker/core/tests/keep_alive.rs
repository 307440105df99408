//! Keep alive: enforced at 1.5 times what was agreed, never before, and at most half a second after.

mod host;

use std::collections::VecDeque;
use std::time::Duration;

use broker_core::config::{Config, Settings};
use host::exchange::lasting;
use host::packets::{connect_packet, id, publish_packet};
use host::{Client, Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Connect, Packet, QoS, ReasonCode, Version};

fn keeping(version: Version, keep_alive: u16) -> Connect<'static> {
    Connect { keep_alive, ..Connect::new(version, "client") }
}

/// The client is open for `open` from now on, and closed for its silence half a second later.
fn expect_silence_to_end(node: &Node, client: &mut Client, open: Duration) {
    node.advance(open - Duration::from_millis(1));
    client.expect_silence();
    node.advance(Duration::from_millis(501));
    client.expect_ended(ReasonCode::KEEP_ALIVE_TIMEOUT);
}

/// [MQTT-3.1.2-22] and [MQTT-3.1.2-24 of 3.1.1]: a silent client is closed after 1.5 times its keep alive.
#[test]
fn silent_client() {
    for version in VERSIONS {
        for keep_alive in [1, 2, 3, 10, 60, 3600, u16::MAX] {
            for start_ms in [0, 1, 17, 33, 500, 999] {
                let node = Node::new(1);
                node.advance(Duration::from_millis(start_ms));
                let mut client = node.connect_with(&keeping(version, keep_alive));
                expect_silence_to_end(
                    &node,
                    &mut client,
                    Duration::from_millis(u64::from(keep_alive) * 1500),
                );
                assert_eq!(node.count(|core| core.counters().keep_alive_expired), 1);
            }
        }
    }
}

/// [MQTT-3.1.2-20, MQTT-3.12.4-1] Any packet starts the time anew, and PINGREQ is answered.
#[test]
fn any_packet_counts() {
    let packets = |version| {
        [
            vec![0xC0, 0],
            publish_packet(version, &PublishOut { topic: "a", ..PublishOut::default() }),
            vec![0x40, 2, 0, 9],
        ]
    };
    for version in VERSIONS {
        for packet in packets(version) {
            let node = Node::new(2);
            let mut client = node.connect_with(&keeping(version, 2));
            for _ in 0..20 {
                node.advance(Duration::from_millis(2900));
                client.send(&packet);
                assert!(!client.is_closed(), "{packet:x?}");
            }
            client.packets();
            expect_silence_to_end(&node, &mut client, Duration::from_secs(3));
        }
    }
}

/// [MQTT-3.1.2-22] Packets count, and not bytes: a client that never completes one kept itself alive by a byte a second.
#[test]
fn bytes_without_a_packet_do_not_count() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut client = node.connect_with(&keeping(version, 4));
        node.advance(Duration::from_millis(500));
        client.ping();
        client.send(&[0x30, 0x88, 0x27, 0, 1, b'a']); // a PUBLISH of 5000 bytes
        for _ in 0..5 {
            node.advance(Duration::from_secs(1));
            client.send(b"x");
            client.expect_silence();
        }
        node.advance(Duration::from_millis(1501));
        client.expect_ended(ReasonCode::KEEP_ALIVE_TIMEOUT);
    }
}

/// A PUBLISH that takes longer to arrive than 1.5 times the keep alive counts by each thousand bytes of it, and arrives.
#[test]
fn a_large_packet_counts_by_its_bytes() {
    let node = Node::new(1);
    let mut client = node.connect_with(&keeping(Version::V311, 2));
    client.subscribe("a", QoS::AtMostOnce);
    let payload = "x".repeat(20_000);
    let packet = publish_packet(
        Version::V311,
        &PublishOut { topic: "a", payload: payload.as_bytes(), ..PublishOut::default() },
    );
    for part in packet.chunks(1000) {
        node.advance(Duration::from_millis(2900));
        client.send(part);
        assert!(!client.is_closed());
    }
    client.expect_payload(&payload);
    expect_silence_to_end(&node, &mut client, Duration::from_secs(3));
}

/// Small packets that arrive byte by byte count when they are whole.
#[test]
fn packets_in_pieces_count_when_they_are_whole() {
    let node = Node::new(1);
    let mut client = node.connect_with(&keeping(Version::V5, 2));
    for byte in [0xC0, 0].repeat(10) {
        node.advance(Duration::from_millis(1450));
        client.send(&[byte]);
        assert!(!client.is_closed());
    }
    assert_eq!(client.packets().len(), 10);
    expect_silence_to_end(&node, &mut client, Duration::from_secs(3));
}

/// What the broker sends does not count.
#[test]
fn messages_to_the_client_do_not_count() {
    let node = Node::new(1);
    let mut client = node.connect_with(&keeping(Version::V311, 2));
    client.subscribe("a", QoS::AtMostOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    for _ in 0..5 {
        publisher.publish("a", QoS::AtMostOnce, "");
        node.advance(Duration::from_millis(550));
    }
    assert_eq!(client.packets().len(), 5);
    expect_silence_to_end(&node, &mut client, Duration::from_millis(250));
}

/// 3.1.2.10: keep alive 0 turns it off.
#[test]
fn keep_alive_0() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut client = node.connect_with(&keeping(version, 0));
        node.advance(Duration::from_secs(400 * 24 * 3600));
        client.expect_silence();
        client.ping();
    }
}

/// [MQTT-3.2.2-21, MQTT-3.2.2-22] A server keep alive replaces what the client asked for, if that was more, or nothing; a 3.x
/// client cannot be told, and keeps its own.
#[test]
fn server_keep_alive() {
    let settings = Settings { keep_alive_seconds_max: 10, ..Settings::default() };
    for (version, asked, told, holds) in [
        (Version::V5, 0, Some(10), 10),
        (Version::V5, 11, Some(10), 10),
        (Version::V5, 10, None, 10),
        (Version::V5, 4, None, 4),
        (Version::V311, 20, None, 20),
        (Version::V31, 4, None, 4),
    ] {
        let node = Node::of_settings(settings.clone());
        let mut client = node.accept();
        let connack = client.greet(&keeping(version, asked));
        assert_eq!(connack.properties.server_keep_alive, told);
        expect_silence_to_end(&node, &mut client, Duration::from_millis(holds * 1500));
    }
}

/// The time counts from the CONNECT, also where another core is the client's home.
#[test]
fn counts_from_connect() {
    for core in 0..3 {
        let node = Node::new(3);
        let mut client = node.accept_on(core);
        client.version = Version::V5;
        let packet = connect_packet(&keeping(Version::V5, 2));
        client.send(&packet[..5]);
        node.advance(Duration::from_secs(10));
        client.send(&packet[5..]);
        client.expect_connack();
        expect_silence_to_end(&node, &mut client, Duration::from_secs(3));
    }
}

/// A client that does not read is closed all the same, and its connection does not linger for its DISCONNECT.
#[test]
fn client_that_does_not_read() {
    let node = Node::new(1);
    let mut client = node.connect_with(&keeping(Version::V5, 2));
    client.reads(false);
    node.advance(Duration::from_millis(3500));
    assert!(client.is_held() && !client.is_closed(), "DISCONNECT waits to be read");
    node.advance(Duration::from_millis(2100));
    assert!(client.is_closed() && !client.is_held());
    assert_eq!((node.connections(), node.sessions(), node.timers()), (0, 0, 0));
}

/// A publisher that was slowed for its receiver was closed for silence, though its packets lay there unread.
#[test]
fn slowed_publisher_was_closed_for_silence() {
    let settings = Settings { queue_messages_max: 1000, inflight_max: 10, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut slow = node.connect(Version::V311, "slow");
    slow.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect_with(&keeping(Version::V311, 2));
    let publish = |packet_id| {
        let packet_id = Some(id(packet_id));
        let publish = PublishOut { topic: "t", qos: QoS::AtLeastOnce, packet_id, ..PublishOut::default() };
        publish_packet(Version::V311, &publish)
    };
    publisher.send(&(1..=2000).flat_map(publish).collect::<Vec<u8>>());
    let mut received = VecDeque::new();
    for step in 0..200 {
        received.extend(slow.packets().into_iter().filter_map(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        }));
        slow.acknowledge(&received.pop_front().expect("ten are in flight"));
        if step % 20 == 0 {
            publisher.send(&[0xC0, 0]); // PINGREQ
        }
        node.advance(Duration::from_millis(50));
    }
    assert_eq!(node.count(|core| core.counters().keep_alive_expired), 0);
    let taken = node.count(|core| core.counters().publishes_received[1]);
    assert!(taken < 2000, "it was slowed all the time");
}

/// A publisher of core 0 and what it takes to use up that core's credit, with a client of keep alive 2 there.
fn short_of_credit() -> (Node, Client, Client) {
    let node = Node::with(Config { cores: 2, mailbox_bytes_max: 1000, ..Config::default() });
    let mut subscriber = node.connect_at_with(1, "subscriber", |client_id| lasting(Version::V311, client_id));
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut publisher = node.connect_at(0, Version::V311, "publisher");
    for _ in 0..2 {
        publisher.publish("t", QoS::AtMostOnce, "cached");
    }
    let client = node.connect_at_with(0, "client", |client_id| Connect {
        keep_alive: 2,
        ..Connect::new(Version::V5, client_id)
    });
    (node, publisher, client)
}

/// A core that waits for another one's credit reads no clients: those that pinged in time were closed for their silence.
/// Once it reads again their time goes on, and ends.
#[test]
fn a_core_that_read_nobody_closed_who_had_pinged() {
    for second_ms in [500, 1000, 7000] {
        let (node, mut publisher, mut client) = short_of_credit();
        node.hold_mail(0, 1);
        for _ in 0..5 {
            publisher.publish("t", QoS::AtMostOnce, &"x".repeat(1000));
        }
        assert_eq!(node.count(|core| u64::from(!core.wants_clients())), 1);
        node.advance(Duration::from_millis(1000));
        client.send(&[0xC0, 0]);
        client.expect_nothing();
        node.advance(Duration::from_millis(10_000 + second_ms));
        assert!(!client.is_closed());
        node.release_mail();
        assert_eq!(client.expect(), Packet::PingResp);
        expect_silence_to_end(&node, &mut client, Duration::from_secs(3));
    }
}

/// A process that was stopped (SIGSTOP, a machine that is moved) closed clients for their silence when it went on, before
/// it read what they had sent. Their time stands still while nobody runs, whoever is due then.
#[test]
fn a_process_that_was_stopped_closed_who_had_pinged() {
    for stopped_ms in [1_600, 20_000, 300_000] {
        let node = Node::new(1);
        let mut client = node.connect_with(&keeping(Version::V5, 2));
        node.advance(Duration::from_millis(1_000));
        node.stop_for(Duration::from_millis(1_900));
        node.stop_for(Duration::from_millis(stopped_ms));
        assert!(!client.is_closed(), "{stopped_ms}");
        client.send(&[0xC0, 0]);
        assert_eq!(client.expect(), Packet::PingResp);
        expect_silence_to_end(&node, &mut client, Duration::from_secs(3));
    }
}

/// The same for a client that had not been greeted, and for one that is gone: it is not waited for longer than it may be
/// silent while it could have been read.
#[test]
fn a_core_that_reads_nobody_waits_for_all() {
    let (node, mut publisher, mut client) = short_of_credit();
    node.hold_mail(0, 1);
    for _ in 0..5 {
        publisher.publish("t", QoS::AtMostOnce, &"x".repeat(1000));
    }
    let mut late = node.accept_on(0);
    late.send_connect(&Connect { keep_alive: 0, ..Connect::new(Version::V5, "late") });
    node.advance(Duration::from_secs(60));
    assert!(!late.is_closed() && !client.is_closed());
    node.release_mail();
    late.expect_connack();
    node.advance(Duration::from_millis(4500));
    client.expect_ended(ReasonCode::KEEP_ALIVE_TIMEOUT);
    assert!(!late.is_closed());
}

/// A core that is short of credit again and again, and reads in between, misses a client that is gone all the same.
#[test]
fn a_core_always_short_of_credit_misses_who_is_gone() {
    let (node, mut publisher, mut client) = short_of_credit();
    for _ in 0..400 {
        node.hold_mail(0, 1);
        for _ in 0..5 {
            publisher.publish("t", QoS::AtMostOnce, &"x".repeat(1000));
        }
        node.advance(Duration::from_millis(30));
        node.release_mail();
    }
    client.expect_ended(ReasonCode::KEEP_ALIVE_TIMEOUT);
}

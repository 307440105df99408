//! Sessions: what outlives a connection, for how long, and how it goes on.

mod host;

use std::time::Duration;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::packets::id;
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Connect, Disconnect, PacketKind, QoS, ReasonCode, Version};

const FOR_EVER: u32 = u32::MAX;

/// A CONNECT that resumes a session if there is one: 5.0 with an expiry, 3.x with clean session 0.
fn resuming(version: Version, client_id: &str, expiry: u32) -> Connect<'_> {
    let mut connect = Connect { clean_start: false, ..Connect::new(version, client_id) };
    connect.properties.session_expiry = expiry;
    connect
}

/// Whether a client that comes now finds a session, without changing what it finds: it keeps it for ever.
fn finds_session(node: &Node, client_id: &str) -> bool {
    let mut client = node.accept();
    let present = client.greet(&resuming(Version::V5, client_id, FOR_EVER)).session_present;
    client.drop_socket();
    present
}

/// [MQTT-3.1.2-4, MQTT-3.1.2-5, MQTT-3.1.2-6, MQTT-3.2.2-2, MQTT-3.2.2-3] and 3.1.1's clean session, in all
/// orders: the table says what a first connection leaves to a second one.
#[test]
fn session_present() {
    let first = [
        (Version::V311, true, 0, false),
        (Version::V311, false, 0, true),
        (Version::V31, false, 0, true),
        (Version::V5, true, 0, false),
        (Version::V5, false, 0, false),
        (Version::V5, true, 10, true),
        (Version::V5, false, 10, true),
        (Version::V5, true, FOR_EVER, true),
    ];
    for (version, clean_start, expiry, kept) in first {
        for (second, second_clean) in
            [(Version::V5, false), (Version::V5, true), (Version::V311, false), (Version::V311, true)]
        {
            let node = Node::new(2);
            let mut connect = Connect { clean_start, ..resuming(version, "client", expiry) };
            let mut client = node.connect_with(&connect);
            client.subscribe("a", QoS::AtMostOnce);
            client.disconnect(ReasonCode::SUCCESS);
            assert_eq!(node.sessions(), usize::from(kept), "{connect:?}");
            connect = Connect { clean_start: second_clean, ..resuming(second, "client", 10) };
            let mut client = node.accept();
            let present = client.greet(&connect).session_present;
            assert_eq!(
                present,
                kept && !second_clean,
                "{version:?} {clean_start} {expiry}, then {connect:?}"
            );
            // The subscription is there exactly when the session is.
            node.connect(Version::V311, "publisher").publish("a", QoS::AtMostOnce, "x");
            assert_eq!(client.packets().len(), usize::from(present));
        }
    }
}

/// [MQTT-3.1.4-4] and 3.1.2.11.2: Clean Start 0 finds the session of a client that still is connected, unless that one was to end
/// with its connection.
#[test]
fn session_present_on_take_over() {
    for (expiry, present) in [(0, false), (10, true)] {
        let node = Node::new(2);
        let mut first = node.connect_with(&resuming(Version::V5, "client", expiry));
        first.subscribe("a", QoS::AtMostOnce);
        let mut second = node.accept();
        assert_eq!(second.greet(&resuming(Version::V5, "client", 10)).session_present, present);
    }
    // Kept at first, and to end with its present connection now.
    let node = Node::new(2);
    node.connect_with(&resuming(Version::V5, "client", 10)).disconnect(ReasonCode::SUCCESS);
    assert!(node.accept().greet(&resuming(Version::V5, "client", 0)).session_present);
    assert!(!node.accept().greet(&resuming(Version::V5, "client", 0)).session_present);
    assert_eq!(node.sessions(), 1);
}

/// [MQTT-3.1.2-23, MQTT-4.1.0-2] A session is kept for its expiry after its connection, and no longer.
#[test]
fn session_expiry() {
    for expiry in [1, 60, 7 * 24 * 3600] {
        let node = Node::new(2);
        let connect = resuming(Version::V5, "client", expiry);
        let mut client = node.connect_with(&connect);
        client.subscribe("a", QoS::AtLeastOnce);
        node.advance(Duration::from_secs(u64::from(expiry) * 2));
        client.expect_silence(); // counts from the end of the connection
        client.drop_socket();
        node.advance(Duration::from_secs(u64::from(expiry)) - Duration::from_millis(1));
        assert_eq!(node.sessions(), 1);
        node.advance(Duration::from_millis(101));
        assert_eq!(node.sessions(), 0);
        node.advance(Duration::from_secs(60)); // what SUBSCRIBE asked other cores was answered
        assert_eq!(node.timers(), 0);
        assert!(!finds_session(&node, "client"));
    }
}

/// [MQTT-4.1.0-2] A session whose time has come is not resumed, even if its client comes back at that very
/// moment, before any timer.
#[test]
fn expired_session_is_not_resumed() {
    let node = Node::new(1);
    node.connect_with(&resuming(Version::V5, "client", 1)).drop_socket();
    node.shift_wall_clock(1000);
    assert!(!finds_session(&node, "client"));
}

/// A wall clock that is set back makes sessions and wills later, not immortal.
#[test]
fn wall_clock_set_back() {
    let node = Node::new(1);
    let mut watcher = node.subscriber("will", QoS::AtMostOnce);
    let mut connect = resuming(Version::V5, "client", 60);
    connect.will = Some(mqtt::Will { delay_interval: 30, ..host::packets::will("will", "gone") });
    node.connect_with(&connect).drop_socket();
    node.shift_wall_clock(-5000);
    node.advance(Duration::from_millis(34_900));
    watcher.expect_silence();
    node.advance(Duration::from_millis(200));
    watcher.expect_payload("gone");
    node.advance(Duration::from_millis(29_800));
    assert_eq!(node.sessions(), 2);
    node.advance(Duration::from_millis(300));
    assert_eq!(node.sessions(), 1);
}

/// 4 294 967 295 is for ever; the settings may allow less, and say so.
#[test]
fn session_expiry_for_ever_and_bounded() {
    let year = Duration::from_secs(366 * 24 * 3600);
    let node = Node::new(1);
    for version in [Version::V311, Version::V5] {
        node.connect_with(&resuming(version, &format!("{version:?}"), FOR_EVER)).drop_socket();
    }
    node.advance(year);
    assert_eq!(node.sessions(), 2);

    let node = Node::of_settings(Settings { session_expiry_seconds_max: 60, ..Settings::default() });
    for version in [Version::V311, Version::V5] {
        let mut client = node.accept();
        let connack = client.greet(&resuming(version, &format!("{version:?}"), FOR_EVER));
        assert_eq!(connack.properties.session_expiry, (version == Version::V5).then_some(60));
        client.drop_socket();
    }
    node.advance(Duration::from_secs(59));
    assert_eq!(node.sessions(), 2);
    node.advance(Duration::from_secs(2));
    assert_eq!(node.sessions(), 0);
}

/// 3.14.2.2.2: DISCONNECT may change the expiry, within the settings' bound, but not from 0.
#[test]
fn session_expiry_changed_in_disconnect() {
    let cases =
        [(10, None, 10), (10, Some(0), 0), (10, Some(30), 30), (10, Some(FOR_EVER), 100), (0, Some(0), 0)];
    for (connected, changed, lasts) in cases {
        let node = Node::of_settings(Settings { session_expiry_seconds_max: 100, ..Settings::default() });
        let mut client = node.connect_with(&resuming(Version::V5, "client", connected));
        client.disconnect_with(&Disconnect { session_expiry: changed, ..Disconnect::default() });
        client.expect_closed();
        if lasts > 0 {
            node.advance(Duration::from_millis(lasts * 1000 - 1));
            assert_eq!(node.sessions(), 1, "{connected} {changed:?}");
            node.advance(Duration::from_millis(101));
        }
        assert_eq!(node.sessions(), 0, "{connected} {changed:?}");
    }
    // It is no DISCONNECT then: the will is published.
    let node = Node::new(1);
    let mut watcher = node.subscriber("will", QoS::AtMostOnce);
    let mut connect = resuming(Version::V5, "client", 0);
    connect.will = Some(host::packets::will("will", "gone"));
    let mut client = node.connect_with(&connect);
    client.disconnect_with(&Disconnect { session_expiry: Some(1), ..Disconnect::default() });
    client.expect_ended(ReasonCode::PROTOCOL_ERROR);
    watcher.expect_payload("gone");
    assert_eq!(node.sessions(), 1, "the watcher's");
    // A client that asked for more than 0, and got 0, has done nothing wrong.
    let node = Node::of_settings(Settings { session_expiry_seconds_max: 0, ..Settings::default() });
    let mut client = node.connect_with(&resuming(Version::V5, "client", 10));
    client.disconnect_with(&Disconnect { session_expiry: Some(10), ..Disconnect::default() });
    client.expect_closed();
    assert_eq!(node.sessions(), 0);
}

/// The expiry of the latest CONNECT holds, not that of the first.
#[test]
fn session_expiry_changed_by_connect() {
    let node = Node::new(2);
    node.connect_with(&resuming(Version::V5, "client", 1000)).drop_socket();
    node.connect_with(&resuming(Version::V5, "client", 5)).drop_socket();
    node.advance(Duration::from_secs(6));
    assert_eq!(node.sessions(), 0);
    node.connect_with(&resuming(Version::V5, "client", 5)).drop_socket();
    node.connect_with(&resuming(Version::V311, "client", 0)).drop_socket();
    node.advance(Duration::from_secs(1000));
    assert_eq!(node.sessions(), 1);
    node.connect_with(&resuming(Version::V5, "client", 0)).drop_socket();
    assert_eq!(node.sessions(), 0);
}

/// A client that comes and goes leaves no timers behind: what a session arms is bounded.
#[test]
fn timers_are_bounded() {
    let node = Node::new(1);
    for round in 0..100 {
        let mut connect = resuming(Version::V5, "client", 1_000_000 - round);
        connect.clean_start = round % 3 == 0;
        connect.will = Some(mqtt::Will { delay_interval: 5000, ..host::packets::will("will", "gone") });
        let mut client = node.connect_with(&connect);
        assert_eq!(node.timers(), 0, "nothing is due while it is here");
        client.drop_socket();
        node.advance(Duration::from_secs(1));
        assert_eq!(node.timers(), 1, "round {round}");
    }
}

/// [MQTT-4.5.0-1] Messages of QoS 1 and 2 that come while the client is away wait for it, in order, on whichever
/// core it was; those of QoS 0 do not.
#[test]
fn messages_wait_for_the_client() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let node = Node::new(3);
        let mut client = node.connect_with(&resuming(version, "client", 100));
        client.subscribe("a", QoS::ExactlyOnce);
        client.drop_socket();
        let mut publisher = node.connect(Version::V5, "publisher");
        for number in 0..30 {
            let qos = QoS::from_bits(number % 3).unwrap();
            publisher.publish_fully("a", qos, &number.to_string());
        }
        let mut client = node.accept();
        client.greet(&resuming(version, "client", 100));
        for number in (0..30u8).filter(|number| number % 3 > 0) {
            let publish = client.expect_payload(&number.to_string());
            assert_eq!((publish.qos.bits(), publish.dup), (number % 3, false));
        }
        client.expect_silence();
        assert_eq!(node.dropped(DropReason::Away), 10);
    }
}

/// `queue_qos0`: QoS 0 messages wait, too.
#[test]
fn messages_of_qos_0_wait_by_setting() {
    let node = Node::of_settings(Settings { queue_qos0: true, ..Settings::default() });
    let connect = resuming(Version::V311, "client", 0);
    let mut client = node.connect_with(&connect);
    client.subscribe("a", QoS::ExactlyOnce);
    client.drop_socket();
    node.connect(Version::V5, "publisher").publish("a", QoS::AtMostOnce, "kept");
    let mut client = node.connect_with(&connect);
    assert_eq!(client.expect_payload("kept").qos, QoS::AtMostOnce);
}

/// [MQTT-4.4.0-1, MQTT-4.4.0-2, MQTT-4.6.0-1, MQTT-3.3.1-1] What was in flight is sent again on reconnect, and
/// only then, in the order it had, with DUP and the packet identifiers it had; a QoS 2 message that the client
/// has received goes on with its PUBREL; what was never sent follows without DUP.
#[test]
fn unfinished_messages_go_on() {
    let settings = Settings { inflight_max: 4, ..Settings::default() };
    for end in [Client::drop_socket as fn(&mut Client), |client| client.disconnect(ReasonCode::SUCCESS)] {
        let node = Node::of_settings(settings.clone());
        let connect = resuming(Version::V311, "client", 0);
        let mut client = node.connect_with(&connect);
        client.subscribe("a", QoS::ExactlyOnce);
        let mut publisher = node.connect(Version::V5, "publisher");
        for (number, qos) in [1, 2, 2, 1, 2, 1].into_iter().enumerate() {
            publisher.publish_fully("a", QoS::from_bits(qos).unwrap(), &number.to_string());
        }
        let sent: Vec<u16> = (0..4)
            .map(|number| client.expect_payload(&number.to_string()).packet_id.unwrap().get())
            .collect();
        client.expect_silence();
        client.send_ack(PacketKind::PubRec, sent[1]);
        client.expect_ack(PacketKind::PubRel, sent[1]);
        node.advance(Duration::from_secs(100_000));
        client.expect_silence(); // nothing is sent again by a timer
        end(&mut client);

        let mut client = node.accept();
        assert!(client.greet(&connect).session_present);
        let again = |client: &mut Client, number: usize, qos| {
            let publish = client.expect_payload(&number.to_string());
            assert_eq!(publish.packet_id.unwrap().get(), sent[number]);
            assert_eq!((publish.qos, publish.dup), (qos, true));
        };
        again(&mut client, 0, QoS::AtLeastOnce);
        client.expect_ack(PacketKind::PubRel, sent[1]);
        again(&mut client, 2, QoS::ExactlyOnce);
        again(&mut client, 3, QoS::AtLeastOnce);
        client.expect_silence();
        client.send_ack(PacketKind::PubAck, sent[3]);
        let next = client.expect_payload("4").packet_id.unwrap().get();
        client.send_ack(PacketKind::PubComp, sent[1]);
        let last = client.expect_publish();
        assert!(!last.dup && !sent.contains(&next) && !sent.contains(&last.packet_id.unwrap().get()));
        client.expect_silence();
    }
}

/// [MQTT-4.3.3-10, MQTT-4.3.3-12] The identifiers of QoS 2 messages that a client sent and has not released are
/// kept with its session: the message is delivered once, and the handshake goes on.
#[test]
fn exactly_once_over_reconnects() {
    for version in [Version::V311, Version::V5] {
        let node = Node::new(3);
        let mut watcher = node.subscriber("a", QoS::AtMostOnce);
        let connect = resuming(version, "client", 100);
        let message =
            PublishOut { topic: "a", qos: QoS::ExactlyOnce, packet_id: Some(id(7)), ..PublishOut::default() };
        let mut client = node.connect_with(&connect);
        client.publish_with(&message);
        client.expect_ack(PacketKind::PubRec, 7);
        client.drop_socket();
        watcher.expect_publish();
        let mut client = node.connect_with(&connect);
        client.publish_with(&PublishOut { dup: true, ..message });
        client.expect_ack(PacketKind::PubRec, 7);
        client.drop_socket();
        watcher.expect_silence();
        let mut client = node.connect_with(&connect);
        for _ in 0..2 {
            client.send_ack(PacketKind::PubRel, 7);
            client.expect_ack(PacketKind::PubComp, 7);
        }
        client.publish_with(&message);
        client.expect_ack(PacketKind::PubRec, 7);
        watcher.expect_publish(); // a new one under an identifier that is free again
    }
}

/// [MQTT-4.1.0-1] A session that ends takes its subscriptions and messages with it; what is lost is counted.
#[test]
fn ended_session_leaves_nothing() {
    let node = Node::new(3);
    let mut client = node.connect_with(&resuming(Version::V5, "client", 100));
    client.subscribe("a", QoS::ExactlyOnce);
    client.drop_socket();
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("a", QoS::AtLeastOnce, "1");
    publisher.publish_fully("a", QoS::ExactlyOnce, "2");
    let mut client = node.accept();
    assert!(!client.greet(&Connect::new(Version::V5, "client")).session_present);
    client.expect_silence();
    assert_eq!(node.dropped(DropReason::SessionEnded), 2);
    let packet_id = publisher.publish("a", QoS::AtLeastOnce, "3");
    let puback = publisher.expect_ack(PacketKind::PubAck, packet_id);
    assert_eq!(puback.reason, ReasonCode::NO_MATCHING_SUBSCRIBERS);
    client.expect_silence();
}

//! PUBLISH: who gets a message, with which QoS, and what the publisher is told.

mod host;

use std::sync::Arc;

use broker_core::access::{Action, Identity, Permissions, Rule, Rules, Verdict};
use broker_core::config::{Authentication, Config, Settings};
use broker_core::counters::DropReason;
use host::exchange::options;
use host::{Client, Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Connect, PacketKind, QoS, ReasonCode, SubscribeFilter, Version};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// [MQTT-3.8.4-8, MQTT-4.3.1-1, MQTT-4.3.2-1, MQTT-4.3.3-1] [MQTT-3.8.4-6 of 3.1.1] Each published QoS under
/// each granted QoS between all versions: the lower of both arrives, once, with topic and payload as sent.
#[test]
fn all_pairs_of_qos_between_all_versions() {
    for (from, to) in VERSIONS.iter().flat_map(|from| VERSIONS.map(|to| (*from, to))) {
        for cores in [1, 3] {
            let node = Node::new(cores);
            let mut publisher = node.connect(from, "publisher");
            for granted in QOS {
                let mut subscriber = node.connect(to, &format!("subscriber-{}", granted.bits()));
                subscriber.subscribe("a/b", granted);
                for published in QOS {
                    publisher.publish_fully("a/b", published, "payload");
                    let received = subscriber.drain();
                    assert_eq!(received.len(), 1, "{from:?} {to:?} {published:?} {granted:?}");
                    assert_eq!(received[0].qos, published.min(granted));
                    assert_eq!((received[0].topic, received[0].payload), ("a/b", &b"payload"[..]));
                    assert!(!received[0].dup && !received[0].retain); // [MQTT-3.3.1-9 of 3.1.1]
                }
                subscriber.unsubscribe("a/b");
            }
        }
    }
}

/// [MQTT-3.3.1-1, MQTT-3.3.1-3] DUP of what comes in says nothing about what goes out: a first delivery has none.
#[test]
fn dup_is_not_propagated() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut subscriber = node.connect(version, "subscriber");
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = node.connect(version, "publisher");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let publish = PublishOut { topic: "t", qos, dup: true, ..PublishOut::default() };
            let packet_id = publisher.publish_with(&publish);
            publisher.finish_publish(qos, packet_id);
            let received = subscriber.drain();
            assert_eq!(received.len(), 1);
            assert!(!received[0].dup);
        }
    }
}

/// [MQTT-3.3.1-2] DUP with QoS 0 ends the connection, as does QoS 3 [MQTT-3.3.1-4] and a topic with a wildcard
/// [MQTT-3.3.2-2] or U+0000 [MQTT-1.5.4-2] or none at all [MQTT-4.7.3-1].
#[test]
fn broken_publishes_end_the_connection() {
    let cases: [(&[u8], ReasonCode); 6] = [
        (&[0x38, 4, 0, 1, b'a', 0], ReasonCode::PROTOCOL_ERROR),
        (&[0x36, 6, 0, 1, b'a', 0, 1, 0], ReasonCode::MALFORMED_PACKET),
        (&[0x30, 4, 0, 1, b'+', 0], ReasonCode::TOPIC_NAME_INVALID),
        (&[0x30, 6, 0, 3, b'a', b'/', b'#', 0], ReasonCode::TOPIC_NAME_INVALID),
        (&[0x30, 4, 0, 1, 0, 0], ReasonCode::MALFORMED_PACKET),
        (&[0x30, 3, 0, 0, 0], ReasonCode::PROTOCOL_ERROR),
    ];
    for version in VERSIONS {
        for (bytes, reason) in cases {
            let node = Node::new(1);
            let mut client = node.connect(version, "client");
            client.send(bytes);
            client.expect_ended(reason);
            assert_eq!(node.count(|core| core.counters().protocol_errors), 1);
        }
    }
}

/// [MQTT-3.4.2-1, MQTT-3.5.2-1] A publish that nobody wants is acknowledged with 0x10, by all cores' knowledge; in
/// 3.x plainly.
#[test]
fn no_matching_subscribers() {
    for cores in [1, 4] {
        let node = Node::new(cores);
        let mut new = node.connect(Version::V5, "new");
        let mut old = node.connect(Version::V311, "old");
        for (qos, kind) in [(QoS::AtLeastOnce, PacketKind::PubAck), (QoS::ExactlyOnce, PacketKind::PubRec)] {
            for client in [&mut new, &mut old] {
                let packet_id = client.publish("lonely/topic", qos, "x");
                let expected = match client.version {
                    Version::V5 => ReasonCode::NO_MATCHING_SUBSCRIBERS,
                    _ => ReasonCode::SUCCESS,
                };
                assert_eq!(client.expect_ack(kind, packet_id).reason, expected);
            }
        }
        new.publish("lonely/topic", QoS::AtMostOnce, "x");
        new.expect_silence();
        assert_eq!(node.count(|core| core.counters().publishes_unmatched), 5);
        let mut subscriber = node.connect(Version::V5, "subscriber");
        subscriber.subscribe("lonely/+", QoS::AtMostOnce);
        let packet_id = new.publish("lonely/topic", QoS::AtLeastOnce, "x");
        assert_eq!(new.expect_ack(PacketKind::PubAck, packet_id).reason, ReasonCode::SUCCESS);
    }
}

/// A client that may publish under `mine/` and subscribe to anything.
fn restricted(node: &Node, version: Version, client_id: &str) -> Client {
    let mut client = node.accept();
    client.send_connect(&Connect::new(version, client_id));
    let asked = node.question().expect("asked about the client");
    let rule = |action, filter: &str, allow| Rule { action, filter: filter.into(), allow };
    let rules = [rule(Action::Publish, "mine/#", true), rule(Action::Subscribe, "#", true)];
    let identity = Identity {
        tenant: Arc::from("default"),
        user: Arc::from(""),
        response_information: None,
        expires: None,
        listed: false,
        permissions: Permissions::Own(Arc::new(Rules::new(rules))),
    };
    node.answer(&asked, Verdict::Allow { identity, data: None });
    client.expect_connack();
    client
}

/// [MQTT-3.3.5-2 of 3.1.1] What a client may not publish reaches nobody and is counted: 5.0 hears 0x87 from QoS 1 on,
/// 3.x a positive acknowledgement, QoS 0 nothing; the connection stays.
#[test]
fn publishing_without_permission() {
    for version in VERSIONS {
        let node = Node::with(Config { authentication: Authentication::Ask, ..Config::default() });
        let mut subscriber = restricted(&node, Version::V5, "subscriber");
        subscriber.subscribe("#", QoS::ExactlyOnce);
        let mut client = restricted(&node, version, "client");
        let expected = match version {
            Version::V5 => ReasonCode::NOT_AUTHORIZED,
            _ => ReasonCode::SUCCESS,
        };
        client.publish("theirs", QoS::AtMostOnce, "x");
        client.expect_silence();
        let packet_id = client.publish("theirs", QoS::AtLeastOnce, "x");
        assert_eq!(client.expect_ack(PacketKind::PubAck, packet_id).reason, expected);
        let packet_id = client.publish("theirs", QoS::ExactlyOnce, "x");
        assert_eq!(client.expect_ack(PacketKind::PubRec, packet_id).reason, expected);
        if version != Version::V5 {
            client.send_ack(PacketKind::PubRel, packet_id);
            client.expect_ack(PacketKind::PubComp, packet_id);
        }
        subscriber.expect_nothing();
        assert_eq!(node.dropped(DropReason::NoPermission), 3);
        client.publish_fully("mine/x", QoS::ExactlyOnce, "y");
        assert_eq!(subscriber.drain_payloads(), ["y"]);
    }
}

/// [MQTT-4.3.3-9] A QoS 2 publish refused with 0x80 or more is finished with its PUBREC: its identifier is free, and
/// PUBREL for it finds nothing.
#[test]
fn refused_qos2_takes_no_identifier() {
    let node = Node::with(Config { authentication: Authentication::Ask, ..Config::default() });
    let mut client = restricted(&node, Version::V5, "client");
    let packet_id = client.publish("theirs", QoS::ExactlyOnce, "x");
    assert_eq!(client.expect_ack(PacketKind::PubRec, packet_id).reason, ReasonCode::NOT_AUTHORIZED);
    client.send_ack(PacketKind::PubRel, packet_id);
    let pubcomp = client.expect_ack(PacketKind::PubComp, packet_id);
    assert_eq!(pubcomp.reason, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
}

/// [MQTT-3.2.2-11, MQTT-3.2.2-14] A QoS or retain flag beyond what CONNACK offered ends the connection with 0x9B or
/// 0x9A.
#[test]
fn publishing_beyond_what_is_offered() {
    let settings = Settings { qos_max: QoS::AtLeastOnce, retain: false, ..Settings::default() };
    for version in VERSIONS {
        let node = Node::of_settings(settings.clone());
        let mut client = node.connect(version, "client");
        client.publish("t", QoS::ExactlyOnce, "x");
        client.expect_ended(ReasonCode::QOS_NOT_SUPPORTED);
        let mut client = node.connect(version, "client");
        client.publish_with(&PublishOut { topic: "t", retain: true, ..PublishOut::default() });
        client.expect_ended(ReasonCode::RETAIN_NOT_SUPPORTED);
    }
}

/// [MQTT-3.2.2-10] A subscription above the offered QoS is granted, at what is offered.
#[test]
fn subscribing_above_the_offered_qos() {
    for version in VERSIONS {
        let node = Node::of_settings(Settings { qos_max: QoS::AtLeastOnce, ..Settings::default() });
        let mut client = node.connect(version, "client");
        assert_eq!(client.subscribe_as("t", options(QoS::ExactlyOnce)), 1);
        node.connect(version, "publisher").publish_fully("t", QoS::AtLeastOnce, "x");
        assert_eq!(client.drain()[0].qos, QoS::AtLeastOnce);
    }
}

/// [MQTT-4.3.1-1] A publisher that subscribes to its own topic gets its message, once, whatever the core its
/// connection came by.
#[test]
fn a_publisher_hears_itself() {
    for core in 0..3 {
        let node = Node::new(3);
        let mut client = node.accept_on(core);
        client.greet(&Connect::new(Version::V311, "client"));
        client.subscribe("t", QoS::AtLeastOnce);
        client.publish("t", QoS::AtMostOnce, "me");
        assert_eq!(client.drain_payloads(), ["me"]);
    }
}

/// [MQTT-4.7.3-2, MQTT-4.7.3-3, MQTT-4.7.3-4] Topics are compared character by character: case, spaces, empty levels,
/// emoji and 65 535 bytes of them, 200 levels and more, matched and forwarded as they are.
#[test]
fn topics_of_any_kind() {
    let deep = vec!["level"; 300].join("/");
    let long = "x".repeat(65_535);
    let long_levels = "/".repeat(65_535);
    let topics =
        ["Accounts payable", "/", "//", "/finance", "a//b", "🦀/📈", "\u{FEFF}", &deep, &long, &long_levels];
    for cores in [1, 2] {
        let node = Node::new(cores);
        let mut all = node.connect(Version::V5, "all");
        all.subscribe("#", QoS::AtMostOnce);
        let mut publisher = node.connect(Version::V311, "publisher");
        for topic in topics {
            let mut subscriber = node.connect(Version::V5, "subscriber");
            subscriber.subscribe(topic, QoS::AtMostOnce);
            publisher.publish(topic, QoS::AtMostOnce, "x");
            publisher.publish(
                &topic.to_uppercase()[..topic.len().min(9)].replace('A', "a"),
                QoS::AtMostOnce,
                "y",
            );
            for client in [&mut subscriber, &mut all] {
                assert_eq!(client.expect_payload("x").topic, topic);
            }
            all.packets();
            subscriber.packets();
        }
        publisher.publish("accounts payable", QoS::AtMostOnce, "x");
        assert_eq!(all.expect_publish().topic, "accounts payable");
    }
}

/// A topic deeper or longer than the settings allow is refused: 0x90, and 3.x and QoS 0 end with it.
#[test]
fn topics_beyond_the_limits() {
    let settings = Settings { topic_levels_max: 3, topic_bytes_max: 10, ..Settings::default() };
    for topic in ["a/b/c/d", "elevenbytes"] {
        let node = Node::of_settings(settings.clone());
        let mut client = node.connect(Version::V5, "client");
        let packet_id = client.publish(topic, QoS::AtLeastOnce, "x");
        assert_eq!(client.expect_ack(PacketKind::PubAck, packet_id).reason, ReasonCode::TOPIC_NAME_INVALID);
        let filters = [
            SubscribeFilter { filter: topic, options: options(QoS::AtMostOnce) },
            SubscribeFilter { filter: "a/b/c", options: options(QoS::AtMostOnce) },
        ];
        assert_eq!(client.subscribe_all(&filters, None), [0x8F, 0]);
        client.publish(topic, QoS::AtMostOnce, "x");
        client.expect_ended(ReasonCode::TOPIC_NAME_INVALID);
        let mut old = node.connect(Version::V311, "old");
        old.publish(topic, QoS::AtLeastOnce, "x");
        old.expect_closed();
    }
}

/// A message of several MiB goes through unharmed, to readers of all versions on all cores.
#[test]
fn large_messages() {
    let payload: String = (0..3 * 1024 * 1024).map(|at| char::from(b'a' + (at / 7 % 26) as u8)).collect();
    let node = Node::new(2);
    let mut subscribers = VERSIONS.map(|version| node.connect(version, &format!("{version:?}")));
    for (subscriber, qos) in subscribers.iter_mut().zip(QOS) {
        subscriber.subscribe("big", qos);
    }
    let mut publisher = node.connect(Version::V311, "publisher");
    publisher.publish_fully("big", QoS::ExactlyOnce, &payload);
    for subscriber in &mut subscribers {
        let received = subscriber.drain();
        assert_eq!(received.len(), 1);
        assert!(received[0].payload == payload.as_bytes());
    }
}

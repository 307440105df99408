//! Topic aliases, both ways (sections 3.3.2.3.4, 3.1.2.11.5, 3.2.2.3.8).

mod host;

use broker_core::config::Settings;
use host::exchange::lasting;
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Connect, PacketKind, QoS, ReasonCode, Version};

fn aliased<'a>(topic: &'a str, alias: u16, payload: &'a str) -> PublishOut<'a> {
    PublishOut { topic, topic_alias: Some(alias), payload: payload.as_bytes(), ..PublishOut::default() }
}

/// A subscriber that takes so many aliases.
fn taking(node: &Node, aliases: u16) -> Client {
    let mut connect = lasting(Version::V5, "taking");
    connect.properties.topic_alias_maximum = aliases;
    node.connect_with(&connect)
}

/// [MQTT-3.3.2-7, MQTT-3.3.2-12] An alias set with a topic stands for it until it is set anew, for every QoS; the subscriber sees
/// the topic and not the publisher's alias.
#[test]
fn aliases_of_a_publisher() {
    let node = Node::new(2);
    let mut subscriber = node.subscriber("#", QoS::ExactlyOnce);
    let mut client = node.connect(Version::V5, "client");
    let steps = [
        ("a", 1, "a"),
        ("", 1, "a"),
        ("b", 64, "b"),
        ("", 1, "a"),
        ("c", 1, "c"),
        ("", 1, "c"),
        ("", 64, "b"),
    ];
    for (at, (topic, alias, expected)) in steps.into_iter().enumerate() {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][at % 3];
        let packet_id = client.publish_with(&PublishOut { qos, ..aliased(topic, alias, "x") });
        client.finish_publish(qos, packet_id);
        let received = subscriber.drain();
        assert_eq!((received[0].topic, received[0].properties.topic_alias), (expected, None));
    }
}

/// [MQTT-3.3.2-8, MQTT-3.3.2-9] Alias 0 and one above the announced maximum are invalid: 0x94. One never set is a protocol error.
#[test]
fn invalid_aliases() {
    for (topic_alias_max, topic, alias, reason) in [
        (64, "t", 0, ReasonCode::TOPIC_ALIAS_INVALID),
        (64, "t", 65, ReasonCode::TOPIC_ALIAS_INVALID),
        (0, "t", 1, ReasonCode::TOPIC_ALIAS_INVALID),
        (64, "", 65, ReasonCode::TOPIC_ALIAS_INVALID),
        (64, "", 5, ReasonCode::PROTOCOL_ERROR),
    ] {
        let node = Node::of_settings(Settings { topic_alias_max, ..Settings::default() });
        let mut client = node.accept();
        let connack = client.greet(&Connect::new(Version::V5, "client"));
        assert_eq!(connack.properties.topic_alias_maximum, topic_alias_max);
        client.publish_with(&aliased(topic, alias, "x"));
        client.expect_ended(reason);
    }
}

/// Without topic and without alias there is nothing to publish to [MQTT-3.3.2-1].
#[test]
fn neither_topic_nor_alias() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.send(&[0x30, 3, 0, 0, 0]);
    client.expect_ended(ReasonCode::PROTOCOL_ERROR);
}

/// [MQTT-3.3.2-7] Aliases live as long as their connection: a lasting session begins its next one without.
#[test]
fn aliases_are_per_connection() {
    let node = Node::new(1);
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    client.publish_with(&aliased("t", 3, "x"));
    client.drop_socket();
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    client.publish_with(&aliased("", 3, "x"));
    client.expect_ended(ReasonCode::PROTOCOL_ERROR);
}

/// [MQTT-3.3.2-9] All aliases up to the maximum can be used at once, also 65 535 of them.
#[test]
fn as_many_aliases_as_announced() {
    let node = Node::of_settings(Settings { topic_alias_max: u16::MAX, ..Settings::default() });
    let mut subscriber = node.subscriber("#", QoS::AtMostOnce);
    let mut client = node.connect(Version::V5, "client");
    let aliases = [1, 2, 1000, 65_534, 65_535];
    for alias in aliases {
        client.publish_with(&aliased(&alias.to_string(), alias, "x"));
    }
    for alias in aliases {
        client.publish_with(&aliased("", alias, "x"));
    }
    let topics: Vec<_> = subscriber.drain().iter().map(|publish| publish.topic).collect();
    assert_eq!(topics, ["1", "2", "1000", "65534", "65535", "1", "2", "1000", "65534", "65535"]);
}

/// [MQTT-3.1.2-26, MQTT-3.1.2-27, MQTT-3.3.2-11] Aliases towards a client: none unless it allows them, never above its maximum or ours, set with
/// the topic before they stand for it, resolved by the client to what was published.
#[test]
fn aliases_towards_a_client() {
    for (allowed, ours, expected) in [(0, 64, 0), (3, 64, 3), (10, 2, 2), (u16::MAX, 64, 5)] {
        let settings = Settings { topic_alias_outbound_max: ours, ..Settings::default() };
        let node = Node::of_settings(settings);
        let mut client = taking(&node, allowed);
        client.subscribe("#", QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V311, "publisher");
        let mut known: Vec<Option<&str>> = vec![None; 100];
        for round in 0..3 {
            for number in 0..5 {
                let topic = format!("a/long/topic/{number}");
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][number % 2];
                publisher.publish_fully(&topic, qos, "x");
                let publish = client.expect_publish();
                client.acknowledge(&publish);
                let Some(alias) = publish.properties.topic_alias else {
                    assert_eq!(publish.topic, topic);
                    continue;
                };
                assert!((1..=allowed).contains(&alias));
                if !publish.topic.is_empty() {
                    known[usize::from(alias)] = Some(publish.topic);
                }
                assert_eq!(known[usize::from(alias)], Some(&*topic), "round {round}");
            }
        }
        assert_eq!(known.iter().flatten().count(), expected);
    }
}

/// [MQTT-3.3.2-7] A new connection of a lasting session knows no aliases: what is sent again names its topic.
#[test]
fn redelivery_names_its_topic() {
    let node = Node::new(1);
    let mut client = taking(&node, 10);
    client.subscribe("#", QoS::ExactlyOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    for _ in 0..3 {
        publisher.publish_fully("a/long/topic", QoS::ExactlyOnce, "x");
    }
    let topics: Vec<_> = (0..3).map(|_| client.expect_publish().topic).collect();
    assert_eq!(topics, ["a/long/topic", "", ""]);
    client.drop_socket();
    let mut client = taking(&node, 10);
    let again: Vec<_> = (0..3).map(|_| client.expect_publish()).collect();
    assert!(again.iter().all(|publish| publish.dup));
    let topics: Vec<_> = again.iter().map(|publish| publish.topic).collect();
    assert_eq!(topics, ["a/long/topic", "", ""]);
}

/// [MQTT-3.1.2-24] An alias never makes a packet larger than the client takes, and one that was not sent for its size is
/// not taken as known.
#[test]
fn aliases_and_packet_sizes() {
    // 2 bytes of header, 2 + 12 of topic, 1 of properties: 17 with an empty payload.
    for maximum in 17..30 {
        let node = Node::new(1);
        let mut connect = lasting(Version::V5, "client");
        connect.properties.topic_alias_maximum = 10;
        connect.properties.maximum_packet_size = Some(maximum);
        let mut client = node.connect_with(&connect);
        client.packets();
        client.subscribe("#", QoS::AtMostOnce);
        let mut publisher = node.connect(Version::V311, "publisher");
        for bytes in [20, 0, 1, 5, 0, 20, 1] {
            publisher.publish("twelve/bytes", QoS::AtMostOnce, &"x".repeat(bytes));
            let packet = client.take_bytes();
            assert!(packet.len() <= maximum as usize, "{} bytes to {maximum}", packet.len());
            if bytes <= maximum as usize - 17 {
                assert!(!packet.is_empty());
            }
        }
    }
}

/// A publish with an alias that is refused by its acknowledgement has set its alias all the same.
#[test]
fn a_refused_publish_sets_its_alias() {
    let node = Node::of_settings(Settings { topic_levels_max: 1, ..Settings::default() });
    let mut client = node.connect(Version::V5, "client");
    for topic in ["a/b", ""] {
        let publish = PublishOut { qos: QoS::AtLeastOnce, ..aliased(topic, 1, "x") };
        let packet_id = client.publish_with(&publish);
        let reason = client.expect_ack(PacketKind::PubAck, packet_id).reason;
        assert_eq!(reason, ReasonCode::TOPIC_NAME_INVALID);
    }
}

//! PUBLISH properties on their way (section 3.3.2.3).

mod host;

use broker_core::config::Settings;
use host::exchange::lasting;
use host::{Node, VERSIONS};
use mqtt::encode::{PropertyWriter, PublishOut};
use mqtt::{PacketKind, QoS, ReasonCode, Version};

/// A block of all properties that are forwarded.
fn all(users: usize) -> Vec<u8> {
    let mut block = Vec::new();
    let mut properties = PropertyWriter::new(&mut block);
    properties.user_property("first", "");
    properties.payload_format_utf8(true);
    properties.correlation_data(b"\0\xFF\x01");
    properties.content_type("application/json; charset=🦀");
    for number in 0..users {
        properties.user_property(["same", "other"][number % 2], &number.to_string());
    }
    properties.response_topic("answers/to/me");
    block
}

/// [MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18, MQTT-3.3.2-20] Payload format, content type, response topic, correlation
/// data and 500 user properties arrive unaltered, these in their order, live, on another core and after a queue.
#[test]
fn properties_arrive_unaltered() {
    for cores in [1, 3] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let node =
                Node::of_settings_and_cores(Settings { queue_qos0: true, ..Settings::default() }, cores);
            let mut away = node.connect_with(&lasting(Version::V5, "away"));
            away.subscribe("t", qos);
            away.drop_socket();
            let mut live = node.connect(Version::V5, "live");
            live.subscribe("t", qos);
            let block = all(500);
            let publish =
                PublishOut { topic: "t", qos, forwarded: &block, payload: b"{}", ..PublishOut::default() };
            let mut publisher = node.connect(Version::V5, "publisher");
            let packet_id = publisher.publish_with(&publish);
            publisher.finish_publish(qos, packet_id);
            let mut away = node.connect_with(&lasting(Version::V5, "away"));
            for subscriber in [&mut live, &mut away] {
                let received = subscriber.expect_payload("{}");
                let properties = received.properties;
                assert!(properties.payload_format_utf8);
                assert_eq!(properties.response_topic, Some("answers/to/me"));
                assert_eq!(properties.correlation_data(), Some(&b"\0\xFF\x01"[..]));
                assert_eq!(properties.content_type(), Some("application/json; charset=🦀"));
                assert_eq!(properties.user_properties().into_iter().count(), 501);
                let numbers: Vec<_> =
                    properties.user_properties().into_iter().skip(1).map(|(_, value)| value).collect();
                assert!(numbers.iter().enumerate().all(|(at, value)| *value == at.to_string()));
                assert_eq!(properties.forwarded(), Some(&block[..]));
            }
        }
    }
}

/// Properties between those that are not forwarded lose nothing of their order.
#[test]
fn forwarded_properties_between_others() {
    let node = Node::new(1);
    let mut subscriber = node.subscriber("t", QoS::AtMostOnce);
    let mut client = node.connect(Version::V5, "client");
    // User property, topic alias, user property, message expiry, content type.
    let block = [
        &[0x26, 0, 1, b'a', 0, 1, b'1'][..],
        &[0x23, 0, 5],
        &[0x26, 0, 1, b'a', 0, 1, b'2'],
        &[2, 0, 0, 0, 9],
        &[3, 0, 1, b'c'],
    ]
    .concat();
    let mut packet = vec![0x30, block.len() as u8 + 5, 0, 1, b't', block.len() as u8];
    packet.extend(&block);
    packet.push(b'x');
    client.send(&packet);
    let received = subscriber.expect_payload("x");
    assert!(received.properties.user_properties().eq([("a", "1"), ("a", "2")]));
    assert_eq!(received.properties.content_type(), Some("c"));
    assert_eq!(received.properties.message_expiry, Some(9));
    assert_eq!(received.properties.topic_alias, None);
}

/// A 3.x subscriber gets the message without its properties, a 5.0 one a 3.x publisher's without any.
#[test]
fn properties_between_versions() {
    for version in [Version::V31, Version::V311] {
        let node = Node::new(1);
        let mut old = node.connect(version, "old");
        old.subscribe("t", QoS::AtLeastOnce);
        let mut new = node.connect(Version::V5, "new");
        new.subscribe("t", QoS::AtLeastOnce);
        let block = all(3);
        let publish = PublishOut {
            topic: "t",
            forwarded: &block,
            payload: b"x",
            message_expiry: Some(5),
            ..Default::default()
        };
        node.connect(Version::V5, "publisher").publish_with(&publish);
        old.expect_payload("x");
        new.expect_payload("x");
        node.connect(version, "publisher").publish("t", QoS::AtMostOnce, "y");
        old.expect_payload("y");
        assert!(new.expect_payload("y").properties.is_empty());
    }
}

/// A payload that is said to be UTF-8 and is not: 0x99 (3.3.2.3.2), or taken where the check is off.
#[test]
fn payload_format_is_checked() {
    let block = [1, 1];
    for (qos, kind) in [(QoS::AtLeastOnce, PacketKind::PubAck), (QoS::ExactlyOnce, PacketKind::PubRec)] {
        for payload_format_check in [true, false] {
            let node = Node::of_settings(Settings { payload_format_check, ..Settings::default() });
            let mut subscriber = node.subscriber("t", QoS::AtMostOnce);
            let mut client = node.connect(Version::V5, "client");
            let publish =
                PublishOut { topic: "t", qos, forwarded: &block, payload: b"\xC3\x28", ..Default::default() };
            let packet_id = client.publish_with(&publish);
            let reason = client.expect_ack(kind, packet_id).reason;
            let expected = match payload_format_check {
                true => ReasonCode::PAYLOAD_FORMAT_INVALID,
                false => ReasonCode::SUCCESS,
            };
            assert_eq!(reason, expected);
            assert_eq!(subscriber.drain().len(), usize::from(!payload_format_check));
            let packet_id = client.publish_with(&PublishOut { payload: "é🦀".as_bytes(), ..publish });
            assert_eq!(client.expect_ack(kind, packet_id).reason, ReasonCode::SUCCESS);
        }
    }
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    let publish = PublishOut { topic: "t", forwarded: &block, payload: b"\xFF", ..Default::default() };
    client.publish_with(&publish);
    client.expect_ended(ReasonCode::PAYLOAD_FORMAT_INVALID);
}

/// [MQTT-3.3.2-13, MQTT-3.3.2-14] A response topic with a wildcard or that is not UTF-8, a property twice, an unknown one and one of
/// another packet end the connection.
#[test]
fn broken_properties_end_the_connection() {
    let cases: [(&[u8], ReasonCode); 7] = [
        (&[8, 0, 1, b'#'], ReasonCode::PROTOCOL_ERROR),
        (&[8, 0, 1, 0xFF], ReasonCode::MALFORMED_PACKET),
        (&[1, 1, 1, 1], ReasonCode::PROTOCOL_ERROR),
        (&[1, 2], ReasonCode::PROTOCOL_ERROR),
        (&[0x7F], ReasonCode::MALFORMED_PACKET),
        (&[0x11, 0, 0, 0, 1], ReasonCode::MALFORMED_PACKET),
        (&[0x0B, 5], ReasonCode::PROTOCOL_ERROR),
    ];
    for (block, reason) in cases {
        let node = Node::new(1);
        let mut client = node.connect(Version::V5, "client");
        let mut packet = vec![0x30, block.len() as u8 + 4, 0, 1, b't', block.len() as u8];
        packet.extend(block);
        client.send(&packet);
        client.expect_ended(reason);
    }
}

/// UTF-8 as the specification has it [MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-1.5.4-3]: all characters but U+0000 and surrogates, in topics and
/// user properties, byte for byte.
#[test]
fn all_characters() {
    let text = "\u{1}\u{7F}\u{80}é\u{FEFF}\u{FFFE}\u{FFFF}\u{10FFFF}🦀\u{D7FF}\u{E000}";
    for version in VERSIONS {
        let node = Node::new(1);
        let mut subscriber = node.connect(version, "subscriber");
        subscriber.subscribe(text, QoS::AtMostOnce);
        let mut block = Vec::new();
        PropertyWriter::new(&mut block).user_property(text, text);
        let publish = PublishOut { topic: text, forwarded: &block, payload: b"x", ..Default::default() };
        node.connect(Version::V5, "publisher").publish_with(&publish);
        let received = subscriber.expect_payload("x");
        assert_eq!(received.topic, text);
        if version == Version::V5 {
            assert!(received.properties.user_properties().eq([(text, text)]));
        }
    }
    let surrogate = [0x30, 6, 0, 3, 0xED, 0xA0, 0x80, 0];
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.send(&surrogate);
    client.expect_ended(ReasonCode::MALFORMED_PACKET);
}

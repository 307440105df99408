//! CONNECT and CONNACK: who is let in, under which name, and what it is told. What is wrong with a
//! CONNECT's bytes is in `malformed.rs`.

mod host;

use std::sync::Arc;

use broker_core::config::{Config, Settings};
use broker_core::identity::CoreId;
use host::packets::{connect_packet, publish_packet, subscribe_packet, will};
use host::{Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{ConnAck, Connect, PublishProperties, QoS, ReasonCode, Version};

fn v5(client_id: &str) -> Connect<'_> {
    Connect::new(Version::V5, client_id)
}

/// [MQTT-3.2.0-2] One CONNECT is answered by one CONNACK, in every version, however its bytes arrive and
/// whichever core accepted it.
#[test]
fn one_connack_for_one_connect() {
    for version in VERSIONS {
        for piece_bytes in [1, 7, 65_536] {
            let node = Node::new(3);
            node.split_input(piece_bytes);
            for core in 0..3 {
                let mut client = node.accept_on(core);
                client.greet(&Connect::new(version, "client"));
                client.expect_silence();
                client.ping();
                client.expect_silence();
            }
        }
    }
}

/// [MQTT-3.1.4-5, MQTT-3.2.0-1] The first thing a client hears is CONNACK 0, whatever it sent right behind
/// its CONNECT, and from whichever core to its home.
#[test]
fn connack_comes_first() {
    for version in VERSIONS {
        for core in 0..3 {
            for piece_bytes in [1, 65_536] {
                let node = Node::new(3);
                node.split_input(piece_bytes);
                let mut client = node.accept_on(core);
                client.version = version;
                let mut bytes = connect_packet(&Connect::new(version, "eager"));
                bytes.extend(subscribe_packet(version, 1, "a", QoS::AtMostOnce));
                bytes.extend(publish_packet(version, &PublishOut { topic: "a", ..PublishOut::default() }));
                bytes.extend([0xC0, 0]);
                client.send(&bytes);
                assert_eq!(client.expect_connack().reason, ReasonCode::SUCCESS);
                // [MQTT-3.12.4-1]
                assert!(client.packets().contains(&mqtt::Packet::PingResp));
            }
        }
    }
}

/// [MQTT-3.1.4-6] Nothing that a refused client sent behind its CONNECT is processed.
#[test]
fn nothing_after_a_refused_connect_counts() {
    let node = Node::of_settings(Settings { qos_max: QoS::AtLeastOnce, ..Settings::default() });
    let mut watcher = node.subscriber("a", QoS::AtMostOnce);
    for version in VERSIONS {
        let mut client = node.accept();
        client.version = version;
        let mut connect = Connect::new(version, "refused");
        connect.will = Some(mqtt::Will { qos: QoS::ExactlyOnce, ..will("w", "") });
        let mut bytes = connect_packet(&connect);
        bytes.extend(publish_packet(version, &PublishOut { topic: "a", ..PublishOut::default() }));
        client.send(&bytes);
        client.expect_refused();
        watcher.expect_silence();
    }
    assert_eq!(node.sessions(), 1);
}

/// [MQTT-3.1.0-2] A second CONNECT ends the connection.
#[test]
fn second_connect() {
    for version in VERSIONS {
        for second in VERSIONS {
            let node = Node::new(1);
            let mut client = node.connect(version, "client");
            client.send(&connect_packet(&Connect::new(second, "client")));
            client.expect_ended(ReasonCode::PROTOCOL_ERROR);
        }
    }
}

/// [MQTT-3.1.2-1, MQTT-3.1.2-2] A protocol name or version that is not spoken here is told so, and closed: one later than
/// 5.0 in the form of 5.0, any other in the form that all versions before know.
#[test]
fn unknown_versions() {
    let connect = |name: &[u8], level: u8| {
        let mut body = vec![0, u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name);
        body.extend_from_slice(&[level, 2, 0, 0, 0, 0, 1, b'c']);
        [&[0x10, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    };
    for level in [6, 99, 127] {
        let mut client = Node::new(1).accept();
        client.send(&connect(b"MQTT", level));
        assert_eq!(client.take_bytes(), [0x20, 3, 0, 0x84, 0], "{level}");
        assert!(client.is_closed());
    }
    for (name, level) in
        [(&b"MQTT"[..], 3), (b"MQTT", 0x84), (b"MQIsdp", 4), (b"MQIsdp", 6), (b"MQIsdp", 0x83)]
    {
        let mut client = Node::new(1).accept();
        client.send(&connect(name, level));
        assert_eq!(client.take_bytes(), [0x20, 2, 0, 1], "{level}");
        assert!(client.is_closed());
    }
    for name in [&b"MQTT5"[..], b"mqtt", b"HTTP", b"", b"\xFF\xFE\x00\x01"] {
        let mut client = Node::new(1).accept();
        client.send(&connect(name, 4));
        assert_eq!(client.take_bytes(), [0x20, 2, 0, 1], "{name:x?}");
        assert!(client.is_closed());
    }
}

/// [MQTT-3.1.3-5, MQTT-3.1.3-2] Client ids of one byte and of many are taken, in any characters, and name the
/// session.
#[test]
fn client_ids_that_are_taken() {
    let long = "x".repeat(65_535);
    let alphabet = "0123456789abcdefghijklm";
    for version in VERSIONS {
        for client_id in ["a", alphabet, "NOPQRSTUVWXYZnopqrstuvw", "a/+#$ ü 😀", &long] {
            let node = Node::new(2);
            let mut connect = Connect::new(version, client_id);
            connect.clean_start = false;
            connect.properties.session_expiry = 100;
            let mut client = node.connect_with(&connect);
            client.disconnect(ReasonCode::SUCCESS);
            let mut client = node.accept();
            let present = client.greet(&connect).session_present;
            assert_eq!(present, version > Version::V31, "{version:?} {client_id:.20}");
            assert_eq!(node.sessions(), 1);
        }
    }
}

/// [MQTT-3.1.3-6, MQTT-3.1.3-7] and [MQTT-3.1.3-7 of 3.1.1, MQTT-3.1.3-8 of 3.1.1]: an empty client id is given one of its own in 5.0
/// and, with a clean session, in 3.1.1; 3.1 and lasting sessions of 3.1.1 are refused with 0x85 or 2.
#[test]
fn empty_client_ids() {
    let refused = |version, clean_start| {
        let node = Node::new(2);
        let mut client = node.accept();
        client.send_connect(&Connect { clean_start, ..Connect::new(version, "") });
        let connack = client.expect_refused();
        assert_eq!(connack.reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        assert_eq!(node.sessions(), 0);
    };
    refused(Version::V31, true);
    refused(Version::V31, false);
    refused(Version::V311, false);
    let node = Node::new(2);
    for clean_start in [true, true, true, true] {
        node.connect_with(&Connect { clean_start, ..Connect::new(Version::V311, "") });
    }
    assert_eq!(node.sessions(), 4, "each has its own");
}

/// [MQTT-3.2.2-16] The client id that the server chose is in the CONNACK, is nobody else's, and can be used to
/// come back, on whichever core.
#[test]
fn assigned_client_ids() {
    let node = Node::new(3);
    let mut ids = Vec::new();
    for core in 0..3 {
        for clean_start in [true, false] {
            let mut connect = Connect { clean_start, ..v5("") };
            connect.properties.session_expiry = 100;
            let mut client = node.accept_on(core);
            let connack = client.greet(&connect);
            assert!(!connack.session_present);
            ids.push(connack.properties.assigned_client_id.expect("an assigned client id"));
            client.drop_socket();
        }
    }
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    for client_id in ids {
        let mut client = node.accept();
        let connack = client.greet(&Connect { clean_start: false, ..v5(client_id) });
        assert!(connack.session_present);
        assert_eq!(connack.properties.assigned_client_id, None, "it chose this one itself");
    }
}

/// [MQTT-3.2.2-1, MQTT-3.2.2-9] and 3.2.2.3: CONNACK announces what differs from what the protocol takes for granted, and
/// nothing else.
#[test]
fn connack_announces_settings() {
    let all = Settings { receive_maximum: u16::MAX, topic_alias_max: 0, ..Settings::default() };
    let mut client = Node::of_settings(all).accept();
    let connack = client.greet(&v5("client"));
    assert_eq!(connack, ConnAck { session_present: false, ..ConnAck::default() });

    let few = Settings {
        receive_maximum: 7,
        topic_alias_max: 5,
        packet_bytes_max: 1000,
        qos_max: QoS::AtLeastOnce,
        retain: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        keep_alive_seconds_max: 30,
        session_expiry_seconds_max: 60,
        ..Settings::default()
    };
    let mut client = Node::of_settings(few.clone()).accept();
    let mut connect = v5("client");
    connect.properties.session_expiry = 61;
    let announced = client.greet(&connect).properties;
    assert_eq!(announced.receive_maximum, 7);
    assert_eq!(announced.topic_alias_maximum, 5);
    assert_eq!(announced.maximum_packet_size, Some(1000));
    assert_eq!(announced.maximum_qos, QoS::AtLeastOnce);
    assert!(!announced.retain_available);
    assert!(!announced.wildcard_subscriptions_available);
    assert!(!announced.subscription_ids_available);
    assert!(!announced.shared_subscriptions_available);
    assert_eq!(announced.server_keep_alive, Some(30)); // [MQTT-3.2.2-21]
    assert_eq!(announced.session_expiry, Some(60));

    let mut client = Node::of_settings(Settings { qos_max: QoS::AtMostOnce, ..few.clone() }).accept();
    connect.properties.session_expiry = 60;
    connect.keep_alive = 30;
    let announced = client.greet(&connect).properties;
    assert_eq!(announced.maximum_qos, QoS::AtMostOnce);
    assert_eq!((announced.session_expiry, announced.server_keep_alive), (None, None), "as it asked");

    for (version, bytes) in [(Version::V31, [0x20, 2, 0, 0]), (Version::V311, [0x20, 2, 0, 0])] {
        let mut client = Node::of_settings(few.clone()).accept();
        client.send_connect(&Connect::new(version, "client"));
        assert_eq!(client.take_bytes(), bytes, "3.x has no room for it");
    }
}

/// [MQTT-3.2.2-12, MQTT-3.2.2-13] and 3.1.4: a will that the settings do not allow is refused with its
/// reason, and the client with it.
#[test]
fn wills_that_are_refused() {
    let settings = Settings {
        qos_max: QoS::AtLeastOnce,
        retain: false,
        will_bytes_max: 10,
        topic_levels_max: 3,
        topic_bytes_max: 20,
        ..Settings::default()
    };
    let base = will("a/b/c", "0123456789");
    let utf8 = PublishProperties::parse(&[1, 1], &mqtt::Limits::PROTOCOL).unwrap();
    let cases = [
        (base, ReasonCode::SUCCESS),
        (mqtt::Will { qos: QoS::AtLeastOnce, ..base }, ReasonCode::SUCCESS),
        (mqtt::Will { qos: QoS::ExactlyOnce, ..base }, ReasonCode::QOS_NOT_SUPPORTED),
        (mqtt::Will { retain: true, ..base }, ReasonCode::RETAIN_NOT_SUPPORTED),
        (mqtt::Will { payload: b"01234567890", ..base }, ReasonCode::QUOTA_EXCEEDED),
        (mqtt::Will { topic: "a/b/c/d", ..base }, ReasonCode::TOPIC_NAME_INVALID),
        (mqtt::Will { topic: "012345678901234567890", ..base }, ReasonCode::TOPIC_NAME_INVALID),
        (mqtt::Will { payload: b"\xFF", properties: utf8, ..base }, ReasonCode::PAYLOAD_FORMAT_INVALID),
        (mqtt::Will { payload: b"text", properties: utf8, ..base }, ReasonCode::SUCCESS),
    ];
    let node = Node::of_settings(settings);
    for (will, reason) in cases {
        let mut client = node.accept();
        client.send_connect(&Connect { will: Some(will), ..v5("client") });
        assert_eq!(client.expect_connack().reason, reason, "{will:?}");
        assert_eq!(client.is_closed(), reason.is_error()); // [MQTT-3.2.2-7]
        if will.properties == PublishProperties::default() {
            let mut client = node.accept();
            client.send_connect(&Connect { will: Some(will), ..Connect::new(Version::V311, "old") });
            // [MQTT-3.2.2-5 of 3.1.1]
            assert_eq!(client.expect_connack().reason.is_error(), reason.is_error(), "{will:?}");
            assert_eq!(client.is_closed(), reason.is_error());
        }
    }
}

/// 3.1.2.11.3 and [MQTT-3.3.4-9]: a client's Receive Maximum bounds what is in flight to it; without one
/// [MQTT-3.1.2-24] No packet larger than the client's Maximum Packet Size is sent to it: a client too small for
/// 3.1.2.11.7 and [MQTT-3.1.2-29]: with Request Problem Information 0 no packet but PUBLISH, CONNACK and
/// DISCONNECT carries a reason string or user properties.
#[test]
fn problem_information_is_withheld() {
    let mut connect = v5("client");
    connect.properties.request_problem_information = false;
    let node = Node::new(1);
    let mut client = node.connect_with(&connect);
    let bad = [&[0x82, 8, 0, 1, 0, 0, 2][..], b"a#", &[1]].concat();
    client.send(&bad);
    let suback = client.expect_suback(1);
    assert_eq!(suback.reasons.into_iter().next(), Some(ReasonCode::TOPIC_FILTER_INVALID));
    assert_eq!((suback.reason_string, suback.user_properties.is_empty()), (None, true));
    assert_eq!(client.unsubscribe("b").reason_string, None);
    let packet_id = client.publish("a", QoS::AtLeastOnce, "");
    let puback = client.expect_ack(mqtt::PacketKind::PubAck, packet_id);
    assert_eq!((puback.reason_string, puback.user_properties.is_empty()), (None, true));
}

/// A tenant's settings are those of its name, and the default's where it has none of its own.
#[test]
fn settings_by_tenant() {
    let own = Arc::new(Settings { receive_maximum: 5, ..Settings::default() });
    let config = Config {
        default_tenant: Arc::from("factory"),
        tenants: [("factory".to_owned(), own)].into(),
        ..Config::default()
    };
    let node = Node::with(config);
    let mut client = node.accept_on(CoreId(0).0);
    assert_eq!(client.greet(&v5("client")).properties.receive_maximum, 5);
}

//! Bytes as the specifications draw them.

use mqtt::encode::{self, PropertyWriter, PublishOut, SubAckOut, SubscribeOut, UnsubscribeOut};
use mqtt::{
    Ack, Auth, ConnAck, ConnAckProperties, Connect, ConnectProperties, Disconnect, Limits, PacketId,
    PacketKind, PublishProperties, QoS, ReasonCode, RetainHandling, SubscribeFilter, SubscriptionOptions,
    UserProperties, Version, Will,
};

use crate::round_trip::assert_same;
use crate::source::Source;
use crate::{VERSIONS, accepted};

/// Asserts the bytes of a packet, and that they decode to it.
#[track_caller]
fn assert_bytes(version: Version, source: Source<'_>, bytes: &[u8]) {
    assert_eq!(source.encode(version), bytes, "{source:?}");
    assert_same(version, &source, &accepted(version, bytes));
}

fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn filter(filter: &str, qos: QoS) -> SubscribeFilter<'_> {
    SubscribeFilter { filter, options: SubscriptionOptions { qos, ..SubscriptionOptions::default() } }
}

/// Goal: CONNECT of 3.1 and 3.1.1. Method: figure 3.6 of 3.1.1, with all its fields, in both.
#[test]
fn connect_of_3() {
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "w/t",
        payload: b"gone",
        delay_interval: 0,
        properties: PublishProperties::default(),
    };
    let connect = Connect {
        keep_alive: 10,
        username: Some("user"),
        password: Some(b"\0pw"),
        will: Some(will),
        ..Connect::new(Version::V311, "client")
    };
    let fields = b"\xCE\0\x0A\0\x06client\0\x03w/t\0\x04gone\0\x04user\0\x03\0pw";
    let bytes = [b"\x10\x28\0\x04MQTT\x04", fields.as_slice()].concat();
    assert_bytes(Version::V311, Source::Connect(connect), &bytes);
    let bytes = [b"\x10\x2A\0\x06MQIsdp\x03", fields.as_slice()].concat();
    assert_bytes(Version::V31, Source::Connect(Connect { version: Version::V31, ..connect }), &bytes);
    let bytes = b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0";
    assert_bytes(Version::V311, Source::Connect(Connect::new(Version::V311, "")), bytes);
}

/// Goal: CONNECT of 5.0 with every property it and its will may have.
#[test]
fn connect_of_5() {
    let user_properties = UserProperties::parse(b"\x26\0\x01k\0\x01v", &Limits::PROTOCOL).expect("valid");
    let block = b"\x01\x01\x08\0\x01r\x09\0\x01\xFF\x03\0\x01c\x26\0\x01a\0\x01b";
    let mut properties = PublishProperties::parse(block, &Limits::PROTOCOL).expect("valid");
    properties.message_expiry = Some(0x0506);
    let will = Will {
        qos: QoS::ExactlyOnce,
        retain: true,
        topic: "w",
        payload: b"p",
        delay_interval: 0x0304,
        properties,
    };
    let connect = Connect {
        clean_start: false,
        keep_alive: 0x0102,
        password: Some(b"pw"),
        will: Some(will),
        properties: ConnectProperties {
            session_expiry: 0,
            session_expiry_given: true,
            receive_maximum: 0x0A0B,
            maximum_packet_size: Some(0x0C0D_0E0F),
            topic_alias_maximum: 0x1011,
            request_response_information: true,
            request_problem_information: false,
            authentication_method: Some("m"),
            authentication_data: Some(b"d"),
            user_properties,
        },
        ..Connect::new(Version::V5, "id")
    };
    let bytes = [
        b"\x10\x5C\0\x04MQTT\x05\x74\x01\x02".as_slice(),
        b"\x23\x11\0\0\0\0\x21\x0A\x0B\x27\x0C\x0D\x0E\x0F\x22\x10\x11\x19\x01\x17\0",
        b"\x15\0\x01m\x16\0\x01d\x26\0\x01k\0\x01v",
        b"\0\x02id",
        b"\x1F\x18\0\0\x03\x04\x02\0\0\x05\x06",
        block,
        b"\0\x01w\0\x01p\0\x02pw",
    ]
    .concat();
    assert_bytes(Version::V5, Source::Connect(connect), &bytes);
    let bytes = b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01c";
    assert_bytes(Version::V5, Source::Connect(Connect::new(Version::V5, "c")), bytes);
}

/// Goal: CONNACK, bare in every version, refused in 3.x, and with every property in 5.0.
#[test]
fn connack() {
    let bare = ConnAck::default();
    assert_bytes(Version::V31, Source::ConnAck(bare), b"\x20\x02\0\0");
    assert_bytes(
        Version::V311,
        Source::ConnAck(ConnAck { session_present: true, ..bare }),
        b"\x20\x02\x01\0",
    );
    assert_bytes(
        Version::V5,
        Source::ConnAck(ConnAck { session_present: true, ..bare }),
        b"\x20\x03\x01\0\0",
    );
    let refused = ConnAck { reason: ReasonCode::NOT_AUTHORIZED, ..bare };
    assert_bytes(Version::V311, Source::ConnAck(refused), b"\x20\x02\0\x05");
    assert_bytes(Version::V5, Source::ConnAck(refused), b"\x20\x03\0\x87\0");
    let properties = ConnAckProperties {
        session_expiry: Some(1),
        receive_maximum: 2,
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        maximum_packet_size: Some(3),
        assigned_client_id: Some("i"),
        topic_alias_maximum: 4,
        reason_string: Some("s"),
        user_properties: UserProperties::parse(b"\x26\0\x01k\0\x01v", &Limits::PROTOCOL).expect("valid"),
        wildcard_subscriptions_available: false,
        subscription_ids_available: false,
        shared_subscriptions_available: false,
        server_keep_alive: Some(5),
        response_information: Some("r"),
        server_reference: Some("x"),
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
    };
    let bytes = [
        b"\x20\x3F\0\0\x3C\x11\0\0\0\x01\x21\0\x02\x24\x01\x25\0\x27\0\0\0\x03\x12\0\x01i\x22\0\x04"
            .as_slice(),
        b"\x28\0\x29\0\x2A\0\x13\0\x05\x1A\0\x01r\x1C\0\x01x\x15\0\x01m\x16\0\x01d\x1F\0\x01s",
        b"\x26\0\x01k\0\x01v",
    ]
    .concat();
    assert_bytes(Version::V5, Source::ConnAck(ConnAck { properties, ..bare }), &bytes);
}

/// Goal: PUBLISH. Method: figure 3.11 of 3.1.1, the same in 5.0, and every property.
#[test]
fn publish() {
    let qos0 = PublishOut { topic: "a/b", payload: b"hi", ..PublishOut::default() };
    let qos1 = PublishOut { qos: QoS::AtLeastOnce, packet_id: Some(packet_id(10)), ..qos0 };
    for version in [Version::V31, Version::V311] {
        assert_bytes(version, Source::Publish(qos0), b"\x30\x07\0\x03a/bhi");
        assert_bytes(version, Source::Publish(qos1), b"\x32\x09\0\x03a/b\0\x0Ahi");
    }
    assert_bytes(Version::V5, Source::Publish(qos0), b"\x30\x08\0\x03a/b\0hi");
    assert_bytes(Version::V5, Source::Publish(qos1), b"\x32\x0A\0\x03a/b\0\x0A\0hi");
    let mut forwarded = Vec::new();
    let mut writer = PropertyWriter::new(&mut forwarded);
    writer.payload_format_utf8(true);
    writer.content_type("c");
    writer.response_topic("r");
    writer.correlation_data(b"\xFF");
    writer.user_property("k", "v");
    let full = PublishOut {
        dup: true,
        qos: QoS::ExactlyOnce,
        retain: true,
        topic: "",
        packet_id: Some(packet_id(0xFFFF)),
        topic_alias: Some(7),
        message_expiry: Some(60),
        subscription_ids: &[1, 200],
        forwarded: &forwarded,
        payload: b"",
    };
    let bytes = [
        b"\x3D\x27\0\0\xFF\xFF\x22\x23\0\x07\x02\0\0\0\x3C\x0B\x01\x0B\xC8\x01".as_slice(),
        b"\x01\x01\x03\0\x01c\x08\0\x01r\x09\0\x01\xFF\x26\0\x01k\0\x01v",
    ]
    .concat();
    assert_bytes(Version::V5, Source::Publish(full), &bytes);
    // 3.x has no place for properties.
    let bytes = Source::Publish(PublishOut { topic: "t", ..full }).encode(Version::V311);
    assert_eq!(bytes, b"\x3D\x05\0\x01t\xFF\xFF");
}

/// Goal: acknowledgements in their shortest form.
#[test]
fn acknowledgements() {
    for (kind, first, failure) in [
        (PacketKind::PubAck, 0x40, ReasonCode::QUOTA_EXCEEDED),
        (PacketKind::PubRec, 0x50, ReasonCode::NO_MATCHING_SUBSCRIBERS),
        (PacketKind::PubRel, 0x62, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND),
        (PacketKind::PubComp, 0x70, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND),
    ] {
        let success = Ack::new(packet_id(0x0102), ReasonCode::SUCCESS);
        for version in VERSIONS {
            assert_bytes(version, Source::Ack(kind, success), &[first, 2, 1, 2]);
        }
        let failed = Ack { reason: failure, ..success };
        assert_bytes(Version::V5, Source::Ack(kind, failed), &[first, 3, 1, 2, failure.value()]);
        assert_eq!(Source::Ack(kind, failed).encode(Version::V311), [first, 2, 1, 2]);
        let explained = Ack { reason_string: Some("no"), ..failed };
        let bytes = [&[first, 9, 1, 2, failure.value()], b"\x05\x1F\0\x02no".as_slice()].concat();
        assert_bytes(Version::V5, Source::Ack(kind, explained), &bytes);
    }
}

/// Goal: SUBSCRIBE and UNSUBSCRIBE. Method: figures 3.23 and 3.30 of 3.1.1, and options of 5.0.
#[test]
fn requests() {
    let user_properties = UserProperties::default();
    let filters = [filter("a/b", QoS::AtLeastOnce), filter("c/d", QoS::ExactlyOnce)];
    let subscribe =
        SubscribeOut { packet_id: packet_id(10), subscription_id: None, user_properties, filters: &filters };
    let bytes = b"\x82\x0E\0\x0A\0\x03a/b\x01\0\x03c/d\x02";
    assert_bytes(Version::V311, Source::Subscribe(subscribe), bytes);
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendIfNew,
    };
    let filters = [SubscribeFilter { filter: "#", options }];
    let subscribe = SubscribeOut { subscription_id: Some(129), filters: &filters, ..subscribe };
    let bytes = b"\x82\x0A\0\x0A\x03\x0B\x81\x01\0\x01#\x1E";
    assert_bytes(Version::V5, Source::Subscribe(subscribe), bytes);
    let unsubscribe = UnsubscribeOut { packet_id: packet_id(10), user_properties, filters: &["a/b", "c/d"] };
    let bytes = b"\xA2\x0C\0\x0A\0\x03a/b\0\x03c/d";
    assert_bytes(Version::V31, Source::Unsubscribe(unsubscribe), bytes);
    let bytes = b"\xA2\x0D\0\x0A\0\0\x03a/b\0\x03c/d";
    assert_bytes(Version::V5, Source::Unsubscribe(unsubscribe), bytes);
}

/// Goal: SUBACK and UNSUBACK, whose 3.x forms know less. Method: the same reasons in both.
#[test]
fn answers_to_requests() {
    let suback = SubAckOut {
        packet_id: packet_id(10),
        reason_string: None,
        user_properties: UserProperties::default(),
        reasons: &[ReasonCode::GRANTED_QOS_2, ReasonCode::UNSPECIFIED_ERROR],
    };
    assert_bytes(Version::V311, Source::SubAck(suback), b"\x90\x04\0\x0A\x02\x80");
    assert_bytes(Version::V5, Source::SubAck(suback), b"\x90\x05\0\x0A\0\x02\x80");
    let reasons = &[ReasonCode::TOPIC_FILTER_INVALID, ReasonCode::NOT_AUTHORIZED];
    let refused = SubAckOut { reasons, reason_string: Some("no"), ..suback };
    assert_bytes(Version::V5, Source::SubAck(refused), b"\x90\x0A\0\x0A\x05\x1F\0\x02no\x8F\x87");
    assert_eq!(Source::SubAck(refused).encode(Version::V311), b"\x90\x04\0\x0A\x80\x80");
    let reasons = &[ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED];
    let unsuback = SubAckOut { reasons, ..suback };
    assert_bytes(Version::V5, Source::UnsubAck(unsuback), b"\xB0\x05\0\x0A\0\0\x11");
    assert_bytes(Version::V311, Source::UnsubAck(SubAckOut { reasons: &[], ..suback }), b"\xB0\x02\0\x0A");
    assert_eq!(Source::UnsubAck(unsuback).encode(Version::V31), b"\xB0\x02\0\x0A");
}

/// Goal: the packets that are all header, DISCONNECT and AUTH.
#[test]
fn short_packets() {
    for version in VERSIONS {
        assert_bytes(version, Source::PingReq, b"\xC0\0");
        assert_bytes(version, Source::PingResp, b"\xD0\0");
        assert_bytes(version, Source::Disconnect(Disconnect::default()), b"\xE0\0");
    }
    let moved = Disconnect::new(ReasonCode::SERVER_MOVED);
    // 3.14.2.2.1 lets the length of no properties be left out; rumqttc 0.25 needs it.
    assert_bytes(Version::V5, Source::Disconnect(moved), b"\xE0\x02\x9D\0");
    assert_eq!(Source::Disconnect(moved).encode(Version::V311), b"\xE0\0");
    let full = Disconnect {
        session_expiry: Some(1),
        reason_string: Some("s"),
        server_reference: Some("x"),
        user_properties: UserProperties::parse(b"\x26\0\x01k\0\x01v", &Limits::PROTOCOL).expect("valid"),
        ..moved
    };
    let bytes = b"\xE0\x16\x9D\x14\x11\0\0\0\x01\x1C\0\x01x\x1F\0\x01s\x26\0\x01k\0\x01v";
    assert_bytes(Version::V5, Source::Disconnect(full), bytes);
    assert_bytes(Version::V5, Source::Auth(Auth::default()), b"\xF0\0");
    let auth = Auth {
        reason: ReasonCode::REAUTHENTICATE,
        method: Some("m"),
        data: Some(b"d"),
        reason_string: Some("s"),
        user_properties: full.user_properties,
    };
    let bytes = b"\xF0\x15\x19\x13\x15\0\x01m\x16\0\x01d\x1F\0\x01s\x26\0\x01k\0\x01v";
    assert_bytes(Version::V5, Source::Auth(auth), bytes);
}

/// Goal: what only a caller's bug can ask for stops there. Method: one such call a rule.
#[test]
fn bugs_of_the_caller_panic() {
    let long = "x".repeat(65_536);
    let qos0 = PublishOut { topic: "t", ..PublishOut::default() };
    let with_id = PublishOut { packet_id: Some(packet_id(1)), ..qos0 };
    let without_id = PublishOut { qos: QoS::AtLeastOnce, ..qos0 };
    let password_alone = Connect { password: Some(b"p"), ..Connect::new(Version::V311, "c") };
    let session_present = ConnAck { session_present: true, reason: ReasonCode::BANNED, ..ConnAck::default() };
    let user_properties = UserProperties::default();
    let no_filter = UnsubscribeOut { packet_id: packet_id(1), user_properties, filters: &[] };
    let filters = [filter("f", QoS::AtMostOnce)];
    let subscribe =
        SubscribeOut { packet_id: packet_id(1), subscription_id: None, user_properties, filters: &filters };
    let bugs = [
        Source::Subscribe(SubscribeOut { filters: &[], ..subscribe }),
        Source::Subscribe(SubscribeOut { subscription_id: Some(268_435_456), ..subscribe }),
        Source::Publish(PublishOut { topic: &long, ..qos0 }),
        Source::Publish(with_id),
        Source::Publish(without_id),
        Source::Publish(PublishOut { dup: true, ..qos0 }),
        Source::Connect(Connect::new(Version::V311, &long)),
        Source::Connect(password_alone),
        Source::ConnAck(session_present),
        Source::Unsubscribe(no_filter),
        Source::Ack(PacketKind::SubAck, Ack::new(packet_id(1), ReasonCode::SUCCESS)),
        Source::Auth(Auth { reason: ReasonCode::REAUTHENTICATE, ..Auth::default() }),
    ];
    for bug in bugs {
        let version = if let Source::Subscribe(_) = bug { Version::V5 } else { Version::V311 };
        let outcome = std::panic::catch_unwind(|| bug.encode(version));
        assert!(outcome.is_err(), "{bug:?}");
    }
    let too_large = std::panic::catch_unwind(|| {
        encode::publish_header(&mut Vec::new(), Version::V311, &qos0, 268_435_453);
    });
    assert!(too_large.is_err());
    encode::publish_header(&mut Vec::new(), Version::V311, &qos0, 268_435_452);
}

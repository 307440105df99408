//! Acknowledgements, SUBACK, UNSUBACK, DISCONNECT and AUTH: reason codes and short forms.

use mqtt::{Ack, Auth, DecodeError, Disconnect, Limits, Packet, PacketId, PacketKind, ReasonCode, Version};

use crate::{VERSIONS, accepted, assert_refused, packet, refused};

/// The reason codes that the tables of sections 3.2.2.2, 3.4.2.1, 3.6.2.1, 3.9.3, 3.11.3, 3.14.2.1
/// and 3.15.2.1 list, and 0x8C for DISCONNECT, which section 2.4 lists alone.
const CODES: [(PacketKind, &[u8]); 9] = [
    (
        PacketKind::ConnAck,
        &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
            0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
        ],
    ),
    (PacketKind::PubAck, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (PacketKind::PubRec, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
    (PacketKind::PubRel, &[0x00, 0x92]),
    (PacketKind::PubComp, &[0x00, 0x92]),
    (PacketKind::SubAck, &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]),
    (PacketKind::UnsubAck, &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]),
    (
        PacketKind::Disconnect,
        &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94,
            0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
    ),
    (PacketKind::Auth, &[0x00, 0x18, 0x19]),
];

/// Goal: [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1],
/// [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1]. Method: all 256 values in every
/// packet that carries one.
#[test]
fn reason_codes_of_each_packet() {
    for (kind, codes) in CODES {
        let flags = if kind == PacketKind::PubRel { 0x02 } else { 0x00 };
        for value in 0..=255_u8 {
            let body: &[u8] = match kind {
                PacketKind::ConnAck => &[0, value, 0],
                PacketKind::SubAck | PacketKind::UnsubAck => &[0, 1, 0, value],
                PacketKind::Disconnect => &[value],
                PacketKind::Auth => &[value, 4, 0x15, 0, 1, b'm'],
                _ => &[0, 1, value],
            };
            let bytes = packet(kind.number() << 4 | flags, body);
            let allowed = codes.contains(&value);
            match mqtt::decode(Version::V5, &bytes, &Limits::PROTOCOL) {
                Ok(Some((decoded, _))) => assert!(allowed && decoded.kind() == kind, "{kind:?} {value:02X}"),
                answer => assert!(!allowed && answer == Err(DecodeError::ReasonCode), "{kind:?} {value:02X}"),
            }
            let named = ReasonCode::from_value(value);
            assert_eq!(named.is_some_and(|reason| reason.allowed_in(kind)), allowed);
        }
    }
    assert_eq!(DecodeError::ReasonCode.reason(), ReasonCode::PROTOCOL_ERROR);
    // Every code has a packet, and an error is an error.
    for reason in (0..=255).filter_map(ReasonCode::from_value) {
        assert!(CODES.iter().any(|(_, codes)| codes.contains(&reason.value())));
        assert_eq!(reason.is_error(), reason.value() >= 0x80);
        assert_eq!(mqtt::connect_return_code(reason) == 0, reason == ReasonCode::SUCCESS);
    }
}

/// Goal: every name stands for its value. Method: all 43 against the names of mqtt-proto.
#[test]
fn reason_codes_by_name() {
    use mqtt_proto::v5::{
        AuthReasonCode as Auth, ConnectReasonCode as Connect, DisconnectReasonCode as Disconnect,
        PubackReasonCode as Puback, PubrelReasonCode as Pubrel, SubscribeReasonCode as Subscribe,
        UnsubscribeReasonCode as Unsubscribe,
    };
    let names = [
        (ReasonCode::SUCCESS, Puback::Success as u8),
        (ReasonCode::GRANTED_QOS_1, Subscribe::GrantedQoS1 as u8),
        (ReasonCode::GRANTED_QOS_2, Subscribe::GrantedQoS2 as u8),
        (ReasonCode::DISCONNECT_WITH_WILL, Disconnect::DisconnectWithWillMessage as u8),
        (ReasonCode::NO_MATCHING_SUBSCRIBERS, Puback::NoMatchingSubscribers as u8),
        (ReasonCode::NO_SUBSCRIPTION_EXISTED, Unsubscribe::NoSubscriptionExisted as u8),
        (ReasonCode::CONTINUE_AUTHENTICATION, Auth::ContinueAuthentication as u8),
        (ReasonCode::REAUTHENTICATE, Auth::ReAuthentication as u8),
        (ReasonCode::UNSPECIFIED_ERROR, Disconnect::UnspecifiedError as u8),
        (ReasonCode::MALFORMED_PACKET, Disconnect::MalformedPacket as u8),
        (ReasonCode::PROTOCOL_ERROR, Disconnect::ProtocolError as u8),
        (ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, Disconnect::ImplementationSpecificError as u8),
        (ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, Connect::UnsupportedProtocolVersion as u8),
        (ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, Connect::ClientIdentifierNotValid as u8),
        (ReasonCode::BAD_USER_NAME_OR_PASSWORD, Connect::BadUserNameOrPassword as u8),
        (ReasonCode::NOT_AUTHORIZED, Connect::NotAuthorized as u8),
        (ReasonCode::SERVER_UNAVAILABLE, Connect::ServerUnavailable as u8),
        (ReasonCode::SERVER_BUSY, Connect::ServerBusy as u8),
        (ReasonCode::BANNED, Connect::Banned as u8),
        (ReasonCode::SERVER_SHUTTING_DOWN, Disconnect::ServerShuttingDown as u8),
        (ReasonCode::BAD_AUTHENTICATION_METHOD, Connect::BadAuthMethod as u8),
        (ReasonCode::KEEP_ALIVE_TIMEOUT, Disconnect::KeepAliveTimeout as u8),
        (ReasonCode::SESSION_TAKEN_OVER, Disconnect::SessionTakenOver as u8),
        (ReasonCode::TOPIC_FILTER_INVALID, Disconnect::TopicFilterInvalid as u8),
        (ReasonCode::TOPIC_NAME_INVALID, Disconnect::TopicNameInvalid as u8),
        (ReasonCode::PACKET_IDENTIFIER_IN_USE, Puback::PacketIdentifierInUse as u8),
        (ReasonCode::PACKET_IDENTIFIER_NOT_FOUND, Pubrel::PacketIdentifierNotFound as u8),
        (ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, Disconnect::ReceiveMaximumExceeded as u8),
        (ReasonCode::TOPIC_ALIAS_INVALID, Disconnect::TopicAliasInvalid as u8),
        (ReasonCode::PACKET_TOO_LARGE, Disconnect::PacketTooLarge as u8),
        (ReasonCode::MESSAGE_RATE_TOO_HIGH, Disconnect::MessageRateTooHigh as u8),
        (ReasonCode::QUOTA_EXCEEDED, Disconnect::QuotaExceeded as u8),
        (ReasonCode::ADMINISTRATIVE_ACTION, Disconnect::AdministrativeAction as u8),
        (ReasonCode::PAYLOAD_FORMAT_INVALID, Disconnect::PayloadFormatInvalid as u8),
        (ReasonCode::RETAIN_NOT_SUPPORTED, Disconnect::RetainNotSupported as u8),
        (ReasonCode::QOS_NOT_SUPPORTED, Disconnect::QoSNotSupported as u8),
        (ReasonCode::USE_ANOTHER_SERVER, Disconnect::UserAnotherServer as u8),
        (ReasonCode::SERVER_MOVED, Disconnect::ServerMoved as u8),
        (ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, Disconnect::SharedSubscriptionNotSupported as u8),
        (ReasonCode::CONNECTION_RATE_EXCEEDED, Disconnect::ConnectionRateExceeded as u8),
        (ReasonCode::MAXIMUM_CONNECT_TIME, Disconnect::MaximumConnectTime as u8),
        (
            ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            Disconnect::SubscriptionIdentifiersNotSupported as u8,
        ),
        (
            ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
            Disconnect::WildcardSubscriptionsNotSupported as u8,
        ),
    ];
    for (reason, value) in names {
        assert_eq!(reason.value(), value);
    }
    assert_eq!(names.len(), 43);
}

/// Goal: the three lengths of an acknowledgement, 3.4.2.1 and 3.4.2.2.1. Method: each of them, and
/// what lies between.
#[test]
fn acknowledgements_may_be_short() {
    let packet_id = PacketId::new(0x0102).expect("not zero");
    for (first, kind) in [
        (0x40, PacketKind::PubAck),
        (0x50, PacketKind::PubRec),
        (0x62, PacketKind::PubRel),
        (0x70, PacketKind::PubComp),
    ] {
        let decode = |bytes: &[u8]| match accepted(Version::V5, bytes) {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                assert_eq!(accepted(Version::V5, bytes).kind(), kind);
                (ack.packet_id, ack.reason, ack.reason_string.map(str::to_owned), ack.user_properties.len())
            }
            other => panic!("{other:?}"),
        };
        let failure = if first < 0x60 { 0x97 } else { 0x92 };
        let reason = ReasonCode::from_value(failure).expect("named");
        let success = (packet_id, ReasonCode::SUCCESS, None, 0);
        assert_eq!(decode(&packet(first, &[1, 2])), success);
        assert_eq!(decode(&packet(first, &[1, 2, 0])), success);
        assert_eq!(decode(&packet(first, &[1, 2, 0, 0])), success);
        assert_eq!(decode(&packet(first, &[1, 2, failure])), (packet_id, reason, None, 0));
        let full =
            packet(first, &[&[1, 2, failure], b"\x0C\x1F\0\x02no\x26\0\x01k\0\x01v".as_slice()].concat());
        assert_eq!(decode(&full), (packet_id, reason, Some("no".to_owned()), 1));
        assert_eq!(refused(Version::V5, &packet(first, &[1])), DecodeError::Truncated);
        assert_eq!(refused(Version::V5, &packet(first, &[1, 2, 0, 0, 0])), DecodeError::TrailingBytes);
        assert_eq!(refused(Version::V5, &packet(first, &[1, 2, 0, 1])), DecodeError::Truncated);
        for version in [Version::V31, Version::V311] {
            accepted(version, &packet(first, &[1, 2]));
            assert_eq!(refused(version, &packet(first, &[1, 2, 0])), DecodeError::TrailingBytes);
        }
    }
    assert_eq!(Ack::new(packet_id, ReasonCode::SUCCESS).user_properties.count(), 0);
}

/// Goal: [MQTT-3.9.3-2] of 3.1.1, and codes at all. Method: return codes in 3.x, none in any version.
#[test]
fn suback_codes() {
    for version in [Version::V31, Version::V311] {
        for code in 0..=255_u8 {
            let bytes = packet(0x90, &[0, 1, 0, code]);
            let answer = mqtt::decode(version, &bytes, &Limits::PROTOCOL);
            match code {
                0..=2 | 0x80 => {
                    let Ok(Some((Packet::SubAck(suback), _))) = answer else { panic!("{answer:?}") };
                    let codes: Vec<_> = suback.reasons.map(ReasonCode::value).collect();
                    assert_eq!((suback.reasons.len(), codes), (2, vec![0, code]));
                }
                _ => assert_eq!(answer, Err(DecodeError::ReasonCode)),
            }
        }
    }
    for version in VERSIONS {
        let body: &[u8] = if version == Version::V5 { &[0, 1, 0] } else { &[0, 1] };
        let bytes = packet(0x90, body);
        assert_refused(version, &bytes, "section 3.9.3", ReasonCode::MALFORMED_PACKET);
    }
    let bytes = packet(0xB0, &[0, 1, 0]);
    assert_refused(Version::V5, &bytes, "section 3.9.3", ReasonCode::MALFORMED_PACKET);
    let bytes = packet(0xB0, &[0, 1]);
    assert!(
        matches!(accepted(Version::V311, &bytes), Packet::UnsubAck(unsuback) if unsuback.reasons.is_empty())
    );
}

/// Goal: the forms of DISCONNECT, 3.14.2. Method: each length it may have.
#[test]
fn disconnect_may_be_short() {
    for version in VERSIONS {
        assert_eq!(accepted(version, &[0xE0, 0]), Packet::Disconnect(Disconnect::default()));
    }
    let will = Disconnect::new(ReasonCode::DISCONNECT_WITH_WILL);
    assert_eq!(accepted(Version::V5, &[0xE0, 1, 4]), Packet::Disconnect(will));
    assert_eq!(accepted(Version::V5, &[0xE0, 2, 4, 0]), Packet::Disconnect(will));
    let bytes = packet(0xE0, b"\x00\x05\x11\0\0\0\x09");
    let expiring = Disconnect { session_expiry: Some(9), ..Disconnect::default() };
    assert_eq!(accepted(Version::V5, &bytes), Packet::Disconnect(expiring));
    assert_eq!(refused(Version::V5, &[0xE0, 3, 0, 0, 0]), DecodeError::TrailingBytes);
}

/// Goal: AUTH names its method, 3.15.2.2.2. Method: with it, without it, and the empty form.
#[test]
fn auth_names_its_method() {
    assert_eq!(accepted(Version::V5, &[0xF0, 0]), Packet::Auth(Auth::default()));
    let bytes = packet(0xF0, b"\x18\x09\x15\0\x01m\x16\0\x02\0\xFF");
    let auth = Auth {
        reason: ReasonCode::CONTINUE_AUTHENTICATION,
        method: Some("m"),
        data: Some(b"\0\xFF"),
        ..Auth::default()
    };
    assert_eq!(accepted(Version::V5, &bytes), Packet::Auth(auth));
    for body in [b"\x18\0".as_slice(), b"\x18\x04\x16\0\x01x", b"\0\0"] {
        let bytes = packet(0xF0, body);
        assert_refused(Version::V5, &bytes, "section 3.1.2.11.10", ReasonCode::PROTOCOL_ERROR);
    }
    // Unlike an acknowledgement it has no form with a reason alone.
    assert_eq!(refused(Version::V5, &[0xF0, 1, 0x18]), DecodeError::Truncated);
    assert_eq!(refused(Version::V311, &[0xF0, 0]), DecodeError::PacketType);
}

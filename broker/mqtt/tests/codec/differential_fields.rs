//! Our packets of 5.0, field by field, as mqtt-proto reads them: every field is where it belongs.

use std::sync::Arc;

use bytes::Bytes;
use mqtt::encode::PublishOut;
use mqtt::{
    Auth, ConnAckProperties, Connect, ConnectProperties, Disconnect, Limits, PublishProperties, QoS,
    SubscribeFilter, UserProperties, Version, Will,
};
use mqtt_proto::v5::{self, UserProperty, VarByteInt};
use mqtt_proto::{Pid, Protocol, QosPid, TopicFilter, TopicName};

use crate::source::{Source, for_each_packet};

/// Goal: no two fields are mistaken for each other. Method: random packets, encoded by us and decoded
/// by mqtt-proto, against what it would hold had it been filled by hand.
#[test]
fn mqtt_proto_finds_every_field() {
    let mut found_count = 0;
    for_each_packet(31, 6_000, |version, source, _| {
        let Some(expected) = expected(source).filter(|_| version == Version::V5) else { return };
        let found = v5::Packet::decode(&source.encode(version)).expect("reads").expect("complete");
        assert_eq!(found, expected, "{source:?}");
        found_count += 1;
    });
    assert!(found_count > 1_500, "{found_count}");
}

/// The packet as mqtt-proto holds it; `None` for those of few fields, which `golden` has, and for
/// those it can not hold.
fn expected(source: &Source<'_>) -> Option<v5::Packet> {
    Some(match source {
        Source::Connect(connect) => v5::Packet::Connect(expected_connect(connect)),
        Source::ConnAck(connack) => v5::Packet::Connack(v5::Connack {
            session_present: connack.session_present,
            reason_code: v5::ConnectReasonCode::from_u8(connack.reason.value())?,
            properties: expected_connack_properties(&connack.properties),
        }),
        // It takes a second subscription identifier for a repetition.
        Source::Publish(publish) if publish.subscription_ids.len() > 1 => return None,
        Source::Publish(publish) => v5::Packet::Publish(expected_publish(publish)),
        Source::Subscribe(subscribe) => v5::Packet::Subscribe(v5::Subscribe {
            pid: pid(subscribe.packet_id),
            properties: v5::SubscribeProperties {
                subscription_id: subscribe.subscription_id.map(var_byte_int),
                user_properties: users(subscribe.user_properties),
            },
            topics: subscribe.filters.iter().map(expected_filter).collect(),
        }),
        Source::Disconnect(disconnect) => v5::Packet::Disconnect(expected_disconnect(disconnect)?),
        Source::Auth(auth) => v5::Packet::Auth(expected_auth(auth)?),
        _ => return None,
    })
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

fn data(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data)
}

fn topic(topic: &str) -> TopicName {
    TopicName::try_from(topic).expect("a topic")
}

fn pid(packet_id: mqtt::PacketId) -> Pid {
    Pid::try_from(packet_id.get()).expect("not zero")
}

fn var_byte_int(value: u32) -> VarByteInt {
    VarByteInt::try_from(value).expect("four bytes")
}

fn qos(qos: QoS) -> mqtt_proto::QoS {
    mqtt_proto::QoS::from_u8(qos.bits()).expect("a QoS")
}

fn users(user_properties: UserProperties<'_>) -> Vec<UserProperty> {
    user_properties.map(|(name, value)| UserProperty { name: text(name), value: text(value) }).collect()
}

fn expected_connect(connect: &Connect<'_>) -> v5::Connect {
    v5::Connect {
        protocol: Protocol::V500,
        clean_start: connect.clean_start,
        keep_alive: connect.keep_alive,
        properties: expected_connect_properties(&connect.properties),
        client_id: text(connect.client_id),
        last_will: connect.will.as_ref().map(expected_will),
        username: connect.username.map(text),
        password: connect.password.map(data),
    }
}

fn expected_connect_properties(properties: &ConnectProperties<'_>) -> v5::ConnectProperties {
    v5::ConnectProperties {
        session_expiry_interval: properties.session_expiry_given.then_some(properties.session_expiry),
        receive_max: Some(properties.receive_maximum).filter(|maximum| *maximum != u16::MAX),
        max_packet_size: properties.maximum_packet_size,
        topic_alias_max: Some(properties.topic_alias_maximum).filter(|maximum| *maximum != 0),
        request_response_info: properties.request_response_information.then_some(true),
        request_problem_info: (!properties.request_problem_information).then_some(false),
        user_properties: users(properties.user_properties),
        auth_method: properties.authentication_method.map(text),
        auth_data: properties.authentication_data.map(data),
    }
}

fn expected_will(will: &Will<'_>) -> v5::LastWill {
    v5::LastWill {
        qos: qos(will.qos),
        retain: will.retain,
        topic_name: topic(will.topic),
        payload: data(will.payload),
        properties: v5::WillProperties {
            delay_interval: Some(will.delay_interval).filter(|seconds| *seconds != 0),
            payload_is_utf8: payload_is_utf8(will.properties.forwarded()),
            message_expiry_interval: will.properties.message_expiry,
            content_type: will.properties.content_type().map(text),
            response_topic: will.properties.response_topic.map(topic),
            correlation_data: will.properties.correlation_data().map(data),
            user_properties: users(will.properties.user_properties()),
        },
    }
}

/// The random blocks begin with the indicator when they have one.
fn payload_is_utf8(forwarded: Option<&[u8]>) -> Option<bool> {
    match forwarded.expect("one piece") {
        [0x01, value, ..] => Some(*value == 1),
        _ => None,
    }
}

fn expected_connack_properties(properties: &ConnAckProperties<'_>) -> v5::ConnackProperties {
    v5::ConnackProperties {
        session_expiry_interval: properties.session_expiry,
        receive_max: Some(properties.receive_maximum).filter(|maximum| *maximum != u16::MAX),
        max_qos: Some(properties.maximum_qos).filter(|qos| *qos < QoS::ExactlyOnce).map(qos),
        retain_available: (!properties.retain_available).then_some(false),
        max_packet_size: properties.maximum_packet_size,
        assigned_client_id: properties.assigned_client_id.map(text),
        topic_alias_max: Some(properties.topic_alias_maximum).filter(|maximum| *maximum != 0),
        reason_string: properties.reason_string.map(text),
        user_properties: users(properties.user_properties),
        wildcard_subscription_available: (!properties.wildcard_subscriptions_available).then_some(false),
        subscription_id_available: (!properties.subscription_ids_available).then_some(false),
        shared_subscription_available: (!properties.shared_subscriptions_available).then_some(false),
        server_keep_alive: properties.server_keep_alive,
        response_info: properties.response_information.map(text),
        server_reference: properties.server_reference.map(text),
        auth_method: properties.authentication_method.map(text),
        auth_data: properties.authentication_data.map(data),
    }
}

fn expected_publish(publish: &PublishOut<'_>) -> v5::Publish {
    let properties = PublishProperties::parse(publish.forwarded, &Limits::PROTOCOL).expect("valid");
    v5::Publish {
        dup: publish.dup,
        retain: publish.retain,
        qos_pid: match (publish.qos, publish.packet_id.map(pid)) {
            (QoS::AtLeastOnce, Some(pid)) => QosPid::Level1(pid),
            (QoS::ExactlyOnce, Some(pid)) => QosPid::Level2(pid),
            _ => QosPid::Level0,
        },
        topic_name: topic(publish.topic),
        payload: data(publish.payload),
        properties: v5::PublishProperties {
            payload_is_utf8: payload_is_utf8(properties.forwarded()),
            message_expiry_interval: publish.message_expiry,
            topic_alias: publish.topic_alias,
            response_topic: properties.response_topic.map(topic),
            correlation_data: properties.correlation_data().map(data),
            user_properties: users(properties.user_properties()),
            subscription_id: publish.subscription_ids.first().copied().map(var_byte_int),
            content_type: properties.content_type().map(text),
        },
    }
}

fn expected_filter(filter: &SubscribeFilter<'_>) -> (TopicFilter, v5::SubscriptionOptions) {
    let options = v5::SubscriptionOptions {
        max_qos: qos(filter.options.qos),
        no_local: filter.options.no_local,
        retain_as_published: filter.options.retain_as_published,
        retain_handling: match filter.options.retain_handling {
            mqtt::RetainHandling::Send => v5::RetainHandling::SendAtSubscribe,
            mqtt::RetainHandling::SendIfNew => v5::RetainHandling::SendAtSubscribeIfNotExist,
            mqtt::RetainHandling::DoNotSend => v5::RetainHandling::DoNotSend,
        },
    };
    (TopicFilter::try_from(filter.filter).expect("a filter"), options)
}

fn expected_disconnect(disconnect: &Disconnect<'_>) -> Option<v5::Disconnect> {
    Some(v5::Disconnect {
        // It does not know Bad Authentication Method here.
        reason_code: v5::DisconnectReasonCode::from_u8(disconnect.reason.value())?,
        properties: v5::DisconnectProperties {
            session_expiry_interval: disconnect.session_expiry,
            reason_string: disconnect.reason_string.map(text),
            user_properties: users(disconnect.user_properties),
            server_reference: disconnect.server_reference.map(text),
        },
    })
}

fn expected_auth(auth: &Auth<'_>) -> Option<v5::Auth> {
    Some(v5::Auth {
        reason_code: v5::AuthReasonCode::from_u8(auth.reason.value())?,
        properties: v5::AuthProperties {
            auth_method: auth.method.map(text),
            auth_data: auth.data.map(data),
            reason_string: auth.reason_string.map(text),
            user_properties: users(auth.user_properties),
        },
    })
}

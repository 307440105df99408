//! CONNECT and CONNACK.

use super::writer::{PropertyWriter, Writer, packet};
use crate::property::id;
use crate::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, PacketKind, QoS, ReasonCode, Version, Will,
    connect_return_code,
};

/// Appends a CONNECT of the version it names.
pub fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let version = connect.version;
    // [MQTT-3.1.2-22] of 3.1.1
    let password_allowed = version == Version::V5 || connect.username.is_some();
    assert!(connect.password.is_none() || password_allowed, "a password with a user name");
    packet(out, PacketKind::Connect, 0, |body| {
        body.string(version.name());
        body.u8(version.level());
        body.u8(connect_flags(connect));
        body.u16(connect.keep_alive);
        if version == Version::V5 {
            body.properties(|properties| connect_properties(properties, &connect.properties));
        }
        body.string(connect.client_id);
        if let Some(will) = &connect.will {
            write_will(body, version, will);
        }
        if let Some(username) = connect.username {
            body.string(username);
        }
        if let Some(password) = connect.password {
            body.binary(password);
        }
    });
}

fn connect_flags(connect: &Connect<'_>) -> u8 {
    let will = match &connect.will {
        Some(will) => 0x04 | will.qos.bits() << 3 | (will.retain as u8) << 5,
        None => 0, // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    };
    (connect.clean_start as u8) << 1
        | will
        | (connect.password.is_some() as u8) << 6
        | (connect.username.is_some() as u8) << 7
}

fn write_will(body: &mut Writer<'_>, version: Version, will: &Will<'_>) {
    if version == Version::V5 {
        body.properties(|properties| {
            let delay_interval = Some(will.delay_interval).filter(|&seconds| seconds != 0);
            properties.optional_four_bytes(id::WILL_DELAY, delay_interval);
            properties.optional_four_bytes(id::MESSAGE_EXPIRY, will.properties.message_expiry);
            will.properties.forwarded_pieces().for_each(|piece| properties.forwarded(piece));
        });
    }
    body.string(will.topic);
    body.binary(will.payload);
}

fn connect_properties(out: &mut PropertyWriter<'_>, properties: &ConnectProperties<'_>) {
    if properties.session_expiry_given || properties.session_expiry != 0 {
        out.four_bytes(id::SESSION_EXPIRY, properties.session_expiry);
    }
    out.two_bytes_unless(id::RECEIVE_MAXIMUM, u16::MAX, properties.receive_maximum);
    out.optional_four_bytes(id::MAXIMUM_PACKET_SIZE, properties.maximum_packet_size);
    out.two_bytes_unless(id::TOPIC_ALIAS_MAXIMUM, 0, properties.topic_alias_maximum);
    out.boolean_unless(id::REQUEST_RESPONSE_INFORMATION, false, properties.request_response_information);
    out.boolean_unless(id::REQUEST_PROBLEM_INFORMATION, true, properties.request_problem_information);
    out.optional_string(id::AUTHENTICATION_METHOD, properties.authentication_method);
    out.optional_binary(id::AUTHENTICATION_DATA, properties.authentication_data);
    out.user_properties(properties.user_properties);
}

/// Appends a CONNACK. In 3.x the reason becomes a return code.
pub fn connack(out: &mut Vec<u8>, version: Version, connack: &ConnAck<'_>) {
    // [MQTT-3.2.2-6]
    assert!(!connack.session_present || connack.reason == ReasonCode::SUCCESS, "no session beside an error");
    packet(out, PacketKind::ConnAck, 0, |body| {
        body.u8((connack.session_present && version > Version::V31) as u8);
        if version == Version::V5 {
            body.u8(connack.reason.value());
            body.properties(|properties| connack_properties(properties, &connack.properties));
        } else {
            body.u8(connect_return_code(connack.reason));
        }
    });
}

fn connack_properties(out: &mut PropertyWriter<'_>, properties: &ConnAckProperties<'_>) {
    out.optional_four_bytes(id::SESSION_EXPIRY, properties.session_expiry);
    out.two_bytes_unless(id::RECEIVE_MAXIMUM, u16::MAX, properties.receive_maximum);
    if properties.maximum_qos < QoS::ExactlyOnce {
        out.boolean(id::MAXIMUM_QOS, properties.maximum_qos == QoS::AtLeastOnce);
    }
    out.boolean_unless(id::RETAIN_AVAILABLE, true, properties.retain_available);
    out.optional_four_bytes(id::MAXIMUM_PACKET_SIZE, properties.maximum_packet_size);
    out.optional_string(id::ASSIGNED_CLIENT_ID, properties.assigned_client_id);
    out.two_bytes_unless(id::TOPIC_ALIAS_MAXIMUM, 0, properties.topic_alias_maximum);
    out.boolean_unless(id::WILDCARD_AVAILABLE, true, properties.wildcard_subscriptions_available);
    out.boolean_unless(id::SUBSCRIPTION_IDS_AVAILABLE, true, properties.subscription_ids_available);
    out.boolean_unless(id::SHARED_AVAILABLE, true, properties.shared_subscriptions_available);
    out.optional_two_bytes(id::SERVER_KEEP_ALIVE, properties.server_keep_alive);
    out.optional_string(id::RESPONSE_INFORMATION, properties.response_information);
    out.optional_string(id::SERVER_REFERENCE, properties.server_reference);
    out.optional_string(id::AUTHENTICATION_METHOD, properties.authentication_method);
    out.optional_binary(id::AUTHENTICATION_DATA, properties.authentication_data);
    out.optional_string(id::REASON_STRING, properties.reason_string);
    out.user_properties(properties.user_properties);
}

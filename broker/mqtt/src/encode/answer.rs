//! Acknowledgements, DISCONNECT and AUTH: a reason, and in 5.0 what explains it.

use super::writer::{PropertyWriter, packet};
use crate::property::id;
use crate::{Ack, Auth, Disconnect, PacketId, PacketKind, ReasonCode, UserProperties, Version};

/// A SUBACK or UNSUBACK to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAckOut<'a> {
    /// The identifier of the request.
    pub packet_id: PacketId,
    /// Left out of 3.x.
    pub reason_string: Option<&'a str>,
    /// Left out of 3.x.
    pub user_properties: UserProperties<'a>,
    /// One per filter of the request, in its order. A SUBACK of 3.x says 0x80 for every error, an
    /// UNSUBACK of 3.x has no place for them.
    pub reasons: &'a [ReasonCode],
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP, in 5.0 in its shortest form.
///
/// # Panics
/// When `kind` is none of the four.
pub fn ack(out: &mut Vec<u8>, version: Version, kind: PacketKind, ack: &Ack<'_>) {
    let flags = match kind {
        PacketKind::PubRel => 0x02, // [MQTT-3.6.1-1]
        PacketKind::PubAck | PacketKind::PubRec | PacketKind::PubComp => 0,
        _ => panic!("{kind:?} is no acknowledgement of a PUBLISH"),
    };
    let first = kind.number() << 4 | flags;
    let [high, low] = ack.packet_id.get().to_be_bytes();
    if version < Version::V5 || (ack.reason == ReasonCode::SUCCESS && !has_diagnostics(ack)) {
        out.extend_from_slice(&[first, 2, high, low]);
    } else if !has_diagnostics(ack) {
        out.extend_from_slice(&[first, 3, high, low, ack.reason.value()]);
    } else {
        packet(out, kind, flags, |body| {
            body.raw(&[high, low, ack.reason.value()]);
            body.properties(|properties| {
                diagnostics(properties, ack.reason_string, ack.user_properties);
            });
        });
    }
}

fn has_diagnostics(ack: &Ack<'_>) -> bool {
    ack.reason_string.is_some() || !ack.user_properties.is_empty()
}

/// What any reason may be explained with.
fn diagnostics(
    properties: &mut PropertyWriter<'_>,
    reason_string: Option<&str>,
    user_properties: UserProperties<'_>,
) {
    properties.optional_string(id::REASON_STRING, reason_string);
    properties.user_properties(user_properties);
}

/// Appends a SUBACK.
pub fn suback(out: &mut Vec<u8>, version: Version, suback: &SubAckOut<'_>) {
    packet(out, PacketKind::SubAck, 0, |body| {
        body.u16(suback.packet_id.get());
        if version == Version::V5 {
            body.properties(|properties| {
                diagnostics(properties, suback.reason_string, suback.user_properties);
            });
        }
        for reason in suback.reasons {
            // [MQTT-3.9.3-2] of 3.1.1: 0, 1, 2 and 0x80 are all there is.
            let old_failure = version < Version::V5 && reason.is_error();
            body.u8(if old_failure { ReasonCode::UNSPECIFIED_ERROR.value() } else { reason.value() });
        }
    });
}

/// Appends an UNSUBACK.
pub fn unsuback(out: &mut Vec<u8>, version: Version, unsuback: &SubAckOut<'_>) {
    packet(out, PacketKind::UnsubAck, 0, |body| {
        body.u16(unsuback.packet_id.get());
        if version == Version::V5 {
            body.properties(|properties| {
                diagnostics(properties, unsuback.reason_string, unsuback.user_properties);
            });
            for reason in unsuback.reasons {
                body.u8(reason.value());
            }
        }
    });
}

/// Appends a PINGRESP.
pub fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketKind::PingResp.number() << 4, 0]);
}

/// Appends a DISCONNECT; in 3.x it says nothing but itself. In 5.0 a reason is always followed by its
/// properties, even by none: without their length rumqttc 0.25 sees a cut connection and no reason.
pub fn disconnect(out: &mut Vec<u8>, version: Version, disconnect: &Disconnect<'_>) {
    let Disconnect { reason, session_expiry, reason_string, server_reference, user_properties } = *disconnect;
    let bare = session_expiry.is_none()
        && reason_string.is_none()
        && server_reference.is_none()
        && user_properties.is_empty();
    packet(out, PacketKind::Disconnect, 0, |body| {
        if version < Version::V5 || (bare && reason == ReasonCode::SUCCESS) {
            return;
        }
        body.u8(reason.value());
        body.properties(|properties| {
            properties.optional_four_bytes(id::SESSION_EXPIRY, session_expiry);
            properties.optional_string(id::SERVER_REFERENCE, server_reference);
            diagnostics(properties, reason_string, user_properties);
        });
    });
}

/// Appends an AUTH. 5.0 only. Without a method it can only be the empty form, which says success.
pub fn auth(out: &mut Vec<u8>, auth: &Auth<'_>) {
    // 3.15.2.2.2
    assert!(auth.method.is_some() || *auth == Auth::default(), "an AUTH with a method");
    packet(out, PacketKind::Auth, 0, |body| {
        if auth.method.is_none() {
            return;
        }
        body.u8(auth.reason.value());
        body.properties(|properties| {
            properties.optional_string(id::AUTHENTICATION_METHOD, auth.method);
            properties.optional_binary(id::AUTHENTICATION_DATA, auth.data);
            diagnostics(properties, auth.reason_string, auth.user_properties);
        });
    });
}

//! SUBSCRIBE, UNSUBSCRIBE and PINGREQ: what a client asks for.

use super::writer::packet;
use crate::property::id;
use crate::{PacketId, PacketKind, SubscribeFilter, UserProperties, Version};

/// A SUBSCRIBE to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOut<'a> {
    /// The identifier the SUBACK answers with.
    pub packet_id: PacketId,
    /// 1 to 268 435 455; left out of 3.x.
    pub subscription_id: Option<u32>,
    /// Left out of 3.x.
    pub user_properties: UserProperties<'a>,
    /// At least one; 3.x has no option but the QoS.
    pub filters: &'a [SubscribeFilter<'a>],
}

/// An UNSUBSCRIBE to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubscribeOut<'a> {
    /// The identifier the UNSUBACK answers with.
    pub packet_id: PacketId,
    /// Left out of 3.x.
    pub user_properties: UserProperties<'a>,
    /// At least one.
    pub filters: &'a [&'a str],
}

/// Appends a SUBSCRIBE.
pub fn subscribe(out: &mut Vec<u8>, version: Version, subscribe: &SubscribeOut<'_>) {
    assert!(!subscribe.filters.is_empty(), "a SUBSCRIBE with a filter"); // [MQTT-3.8.3-2]
    packet(out, PacketKind::Subscribe, 0x02, |body| {
        body.u16(subscribe.packet_id.get());
        if version == Version::V5 {
            body.properties(|properties| {
                if let Some(subscription_id) = subscribe.subscription_id {
                    properties.varint(id::SUBSCRIPTION_ID, subscription_id);
                }
                properties.user_properties(subscribe.user_properties);
            });
        }
        for SubscribeFilter { filter, options } in subscribe.filters {
            body.string(filter);
            body.u8(if version == Version::V5 { options.bits() } else { options.qos.bits() });
        }
    });
}

/// Appends an UNSUBSCRIBE.
pub fn unsubscribe(out: &mut Vec<u8>, version: Version, unsubscribe: &UnsubscribeOut<'_>) {
    assert!(!unsubscribe.filters.is_empty(), "an UNSUBSCRIBE with a filter"); // [MQTT-3.10.3-2]
    packet(out, PacketKind::Unsubscribe, 0x02, |body| {
        body.u16(unsubscribe.packet_id.get());
        if version == Version::V5 {
            body.properties(|properties| properties.user_properties(unsubscribe.user_properties));
        }
        for filter in unsubscribe.filters {
            body.string(filter);
        }
    });
}

/// Appends a PINGREQ.
pub fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PacketKind::PingReq.number() << 4, 0]);
}

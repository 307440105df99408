//! Packets as bytes, for tests that send many at once or alter them.

use mqtt::encode::{self, PropertyWriter, PublishOut, SubscribeOut};
use mqtt::{
    Connect, PacketId, PublishProperties, QoS, SubscribeFilter, SubscriptionOptions, UserProperties, Version,
    Will,
};

/// A CONNECT.
pub fn connect_packet(connect: &Connect<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::connect(&mut bytes, connect);
    bytes
}

/// A will of QoS 0 that says `payload`, without delay.
pub fn will<'a>(topic: &'a str, payload: &'a str) -> Will<'a> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        payload: payload.as_bytes(),
        delay_interval: 0,
        properties: PublishProperties::default(),
    }
}

/// A PUBLISH; QoS 1 and 2 need an identifier.
pub fn publish_packet(version: Version, publish: &PublishOut<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, version, publish);
    bytes
}

/// A SUBSCRIBE for one filter.
pub fn subscribe_packet(version: Version, packet_id: u16, filter: &str, qos: QoS) -> Vec<u8> {
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    let mut bytes = Vec::new();
    let subscribe = SubscribeOut {
        packet_id: id(packet_id),
        subscription_id: None,
        user_properties: UserProperties::default(),
        filters: &[SubscribeFilter { filter, options }],
    };
    encode::subscribe(&mut bytes, version, &subscribe);
    bytes
}

/// A packet identifier that is not 0.
pub fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).expect("a packet identifier is not 0")
}

/// A block of properties, without its length in front.
pub fn property_block(write: impl FnOnce(&mut PropertyWriter<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut PropertyWriter::new(&mut bytes));
    bytes
}

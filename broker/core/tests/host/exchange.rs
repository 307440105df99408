//! Whole exchanges of packets, for tests that are about something else.

use mqtt::encode::{self, PublishOut, SubscribeOut, UnsubscribeOut};
use mqtt::{
    Connect, ConnectProperties, Packet, PacketKind, Publish, QoS, ReasonCode, RetainHandling,
    SubscribeFilter, SubscriptionOptions, UserProperties, Version,
};

use super::Node;
use super::client::Client;
use super::packets::id;

/// Options of a subscription with this QoS and nothing else.
pub fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

/// The CONNECT of a client whose session waits for it.
pub fn lasting(version: Version, client_id: &str) -> Connect<'_> {
    let properties = ConnectProperties {
        session_expiry: if version == Version::V5 { 3600 } else { 0 },
        session_expiry_given: version == Version::V5,
        ..ConnectProperties::default()
    };
    Connect { clean_start: false, properties, ..Connect::new(version, client_id) }
}

/// The same, taking so many unacknowledged messages.
pub fn lasting_with_window(client_id: &str, receive_maximum: u16) -> Connect<'_> {
    let mut connect = lasting(Version::V5, client_id);
    connect.properties.receive_maximum = receive_maximum;
    connect
}

impl Node {
    /// A client at home on a given core; its id begins with `prefix`.
    pub fn connect_at(&self, core: u16, version: Version, prefix: &str) -> Client {
        self.connect_at_with(core, prefix, |client_id| Connect::new(version, client_id))
    }

    /// The same with any CONNECT.
    pub fn connect_at_with(
        &self,
        core: u16,
        prefix: &str,
        connect: impl for<'a> Fn(&'a str) -> Connect<'a>,
    ) -> Client {
        for number in 0..1000 {
            let client_id = format!("{prefix}-{number}");
            let probe = self.connect(Version::V5, &client_id);
            let at_home = probe.core() == core;
            let mut probe = probe;
            probe.disconnect(ReasonCode::SUCCESS);
            if at_home {
                let mut client = self.connect_with(&connect(&client_id));
                client.client_id = client_id;
                return client;
            }
        }
        unreachable!("no core is home of none of a thousand clients");
    }
}

impl Client {
    /// Subscribes to a filter with any options; what was granted.
    pub fn subscribe_as(&mut self, filter: &str, options: SubscriptionOptions) -> u8 {
        self.subscribe_all(&[SubscribeFilter { filter, options }], None)[0]
    }

    /// The same with a subscription identifier.
    pub fn subscribe_numbered(&mut self, filter: &str, qos: QoS, number: u32) -> u8 {
        self.subscribe_all(&[SubscribeFilter { filter, options: options(qos) }], Some(number))[0]
    }

    /// Sends a SUBSCRIBE of any number of filters. Its packet identifier.
    pub fn send_subscribe(&mut self, filters: &[SubscribeFilter<'_>], number: Option<u32>) -> u16 {
        let packet_id = self.new_packet_id();
        let subscribe = SubscribeOut {
            packet_id: id(packet_id),
            subscription_id: number,
            user_properties: UserProperties::default(),
            filters,
        };
        self.send_with(|out, version| encode::subscribe(out, version, &subscribe));
        packet_id
    }

    /// The same; what the SUBACK grants. Messages that come before it stay to be looked at.
    pub fn subscribe_all(&mut self, filters: &[SubscribeFilter<'_>], number: Option<u32>) -> Vec<u8> {
        let packet_id = self.send_subscribe(filters, number);
        let suback = self.expect_suback(packet_id);
        suback.reasons.into_iter().map(ReasonCode::value).collect()
    }

    /// Sends a QoS 2 message under an identifier, again or not.
    pub fn send_qos2(&mut self, topic: &str, number: u16, dup: bool, payload: &str) {
        let (qos, packet_id, payload) = (QoS::ExactlyOnce, Some(id(number)), payload.as_bytes());
        let publish = PublishOut { topic, qos, dup, packet_id, payload, ..PublishOut::default() };
        self.send_with(|bytes, version| {
            encode::publish(bytes, version, &publish);
        });
    }

    /// Sends an UNSUBSCRIBE of any number of filters. Its packet identifier.
    pub fn send_unsubscribe(&mut self, filters: &[&str]) -> u16 {
        let packet_id = self.new_packet_id();
        let unsubscribe =
            UnsubscribeOut { packet_id: id(packet_id), user_properties: UserProperties::default(), filters };
        self.send_with(|out, version| encode::unsubscribe(out, version, &unsubscribe));
        packet_id
    }

    /// Subscribes to a filter without its retained messages.
    pub fn subscribe_live(&mut self, filter: &str, qos: QoS) {
        let options =
            SubscriptionOptions { qos, retain_handling: RetainHandling::DoNotSend, ..Default::default() };
        assert_eq!(self.subscribe_as(filter, options), qos.bits(), "{filter} granted");
    }

    /// Publishes a retained message and carries its handshake through.
    pub fn retain(&mut self, topic: &str, qos: QoS, payload: &str) {
        let publish =
            PublishOut { topic, qos, payload: payload.as_bytes(), retain: true, ..Default::default() };
        let packet_id = self.publish_with(&publish);
        self.finish_publish(qos, packet_id);
    }

    /// Carries the handshake of a PUBLISH that was sent through, whatever the reasons.
    pub fn finish_publish(&mut self, qos: QoS, packet_id: u16) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.expect_ack(PacketKind::PubAck, packet_id);
            }
            QoS::ExactlyOnce => {
                self.expect_ack(PacketKind::PubRec, packet_id);
                self.send_ack(PacketKind::PubRel, packet_id);
                self.expect_ack(PacketKind::PubComp, packet_id);
            }
        }
    }

    /// Publishes a message and carries its handshake through, though the broker may read this client slowly.
    pub fn publish_patiently(&mut self, topic: &str, qos: QoS, payload: &str) {
        let patience = std::time::Duration::from_millis(50);
        let packet_id = self.publish(topic, qos, payload);
        self.node.clone().advance(patience);
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => {
                self.expect_ack(PacketKind::PubAck, packet_id);
            }
            QoS::ExactlyOnce => {
                self.expect_ack(PacketKind::PubRec, packet_id);
                self.send_ack(PacketKind::PubRel, packet_id);
                self.node.clone().advance(patience);
                self.expect_ack(PacketKind::PubComp, packet_id);
            }
        }
    }

    /// Takes messages and finishes each, until no more come.
    pub fn drain(&mut self) -> Vec<Publish<'static>> {
        let mut publishes = Vec::new();
        loop {
            let packets = self.packets();
            if packets.is_empty() {
                return publishes;
            }
            for packet in packets {
                match packet {
                    Packet::Publish(publish) => {
                        publishes.push(publish);
                        self.acknowledge(&publish);
                    }
                    Packet::PubRel(ack) => self.send_ack(PacketKind::PubComp, ack.packet_id.get()),
                    other => panic!("PUBLISH or PUBREL, not {other:?}"),
                }
            }
        }
    }

    /// The same; what the messages say.
    pub fn drain_payloads(&mut self) -> Vec<String> {
        self.drain().iter().map(|publish| String::from_utf8_lossy(publish.payload).into_owned()).collect()
    }

    /// Takes messages that come, and answers none; what they say.
    pub fn payloads(&mut self) -> Vec<String> {
        let payload = |packet| match packet {
            Packet::Publish(publish) => String::from_utf8_lossy(publish.payload).into_owned(),
            other => panic!("PUBLISH, not {other:?}"),
        };
        self.packets().into_iter().map(payload).collect()
    }

    /// Sends the PUBACK or PUBREC of a message.
    pub fn acknowledge(&mut self, publish: &Publish<'_>) {
        let kind = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => PacketKind::PubAck,
            QoS::ExactlyOnce => PacketKind::PubRec,
        };
        self.send_ack(kind, publish.packet_id.expect("has one").get());
    }
}

/// Numbers as payloads.
pub fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

//! Seeded random packets of clients that need not keep to anything: right ones, and what becomes of them.

use mqtt::encode::{self, PublishOut, SubscribeOut, UnsubscribeOut};
use mqtt::{
    Ack, Auth, Connect, Disconnect, PacketKind, QoS, ReasonCode, RetainHandling, SubscribeFilter,
    SubscriptionOptions, UserProperties, Version, Will,
};

use super::VERSIONS;
use super::packets::{connect_packet, id, publish_packet, will};

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", ""];
const TOPICS: [&str; 6] = ["t", "t/u", "t/u/v", "$SYS/x", "ü/😀", "t/"];
const FILTERS: [&str; 10] =
    ["#", "t", "t/+", "t/#", "+/u", "$SYS/#", "$share/g/t/#", "$share/h/+", "$oshare/g/#", "t#"];
/// Reasons, some of them wrong wherever they stand.
pub const REASONS: [ReasonCode; 6] = [
    ReasonCode::SUCCESS,
    ReasonCode::DISCONNECT_WITH_WILL,
    ReasonCode::UNSPECIFIED_ERROR,
    ReasonCode::NOT_AUTHORIZED,
    ReasonCode::CONTINUE_AUTHENTICATION,
    ReasonCode::REAUTHENTICATE,
];

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn qos(&mut self) -> QoS {
        QoS::from_bits(self.below(3) as u8).expect("below 3")
    }

    pub fn connect(&mut self) -> Vec<u8> {
        let version = self.pick(&VERSIONS);
        let mut connect = Connect::new(version, self.pick(&IDS));
        connect.clean_start = self.one_in(2);
        connect.keep_alive = self.pick(&[0, 1, 5, 60]);
        if self.one_in(2) {
            let topic = self.pick(&TOPICS[..3]);
            let (qos, retain, delay_interval) = (self.qos(), self.one_in(3), self.pick(&[0, 1, 20]));
            connect.will = Some(Will { qos, retain, delay_interval, ..will(topic, "will") });
        }
        let properties = &mut connect.properties;
        properties.session_expiry = self.pick(&[0, 1, 10, 100, u32::MAX]);
        properties.receive_maximum = self.pick(&[1, 3, u16::MAX]);
        properties.maximum_packet_size = self.pick(&[None, None, None, Some(1), Some(20), Some(200)]);
        properties.topic_alias_maximum = self.pick(&[0, 1, 10]);
        properties.authentication_method = self.pick(&[None, None, Some("m")]);
        connect_packet(&connect)
    }

    fn publish(&mut self, version: Version) -> Vec<u8> {
        let payload = vec![b'x'; self.pick(&[0, 1, 100, 2000])];
        let qos = self.qos();
        let packet_id = (qos != QoS::AtMostOnce).then(|| id(1 + self.below(8) as u16));
        let topic_alias = self.pick(&[None, None, Some(1), Some(2), Some(70)]);
        let topic = if topic_alias.is_some() && version == Version::V5 && self.one_in(2) {
            ""
        } else {
            self.pick(&TOPICS)
        };
        let publish = PublishOut {
            dup: qos != QoS::AtMostOnce && self.one_in(3),
            qos,
            retain: self.one_in(4),
            topic,
            packet_id,
            topic_alias,
            message_expiry: self.pick(&[None, None, Some(0), Some(3)]),
            payload: &payload,
            ..PublishOut::default()
        };
        publish_packet(version, &publish)
    }

    fn request(&mut self, version: Version) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packet_id = id(1 + self.below(8) as u16);
        let filters: Vec<_> = (0..=self.below(3))
            .map(|_| {
                let qos = self.qos();
                let filter = self.pick(&FILTERS);
                let retain_handling =
                    self.pick(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
                let no_local = !filter.starts_with('$') && self.one_in(4);
                let retain_as_published = self.one_in(2);
                let options = SubscriptionOptions { qos, no_local, retain_as_published, retain_handling };
                SubscribeFilter { filter, options }
            })
            .collect();
        let user_properties = UserProperties::default();
        if self.one_in(3) {
            let names: Vec<_> = filters.iter().map(|filter| filter.filter).collect();
            encode::unsubscribe(
                &mut bytes,
                version,
                &UnsubscribeOut { packet_id, user_properties, filters: &names },
            );
        } else {
            let subscription_id = self.pick(&[None, Some(1), Some(300)]);
            let subscribe = SubscribeOut { packet_id, subscription_id, user_properties, filters: &filters };
            encode::subscribe(&mut bytes, version, &subscribe);
        }
        bytes
    }

    /// Any packet, of the right form.
    pub fn packet(&mut self, version: Version) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.below(20) {
            0..7 => return self.publish(version),
            7..11 => return self.request(version),
            11..16 => {
                let kind = self.pick(&[
                    PacketKind::PubAck,
                    PacketKind::PubRec,
                    PacketKind::PubRel,
                    PacketKind::PubComp,
                ]);
                let reason =
                    self.pick(&[ReasonCode::SUCCESS, ReasonCode::SUCCESS, ReasonCode::NOT_AUTHORIZED]);
                encode::ack(&mut bytes, version, kind, &Ack::new(id(1 + self.below(8) as u16), reason));
            }
            16 => encode::pingreq(&mut bytes),
            17 => {
                let session_expiry = self.pick(&[None, Some(0), Some(50)]);
                let disconnect = Disconnect { session_expiry, ..Disconnect::new(self.pick(&REASONS)) };
                encode::disconnect(&mut bytes, version, &disconnect);
            }
            18 if version == Version::V5 => {
                let auth = Auth { reason: self.pick(&REASONS), method: Some("m"), ..Auth::default() };
                encode::auth(&mut bytes, &auth);
            }
            18 => encode::pingreq(&mut bytes),
            _ => return self.connect(),
        }
        bytes
    }

    /// Makes something wrong of a packet, or of several.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len().max(1));
            match self.below(5) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
                2 => bytes.insert(at, self.next() as u8),
                3 => {
                    bytes.remove(at);
                }
                _ => bytes.truncate(at),
            }
        }
    }
}

//! Hot path. A publisher's PUBLISH, encoded once; per message only what differs is written over it.

use mqtt::encode::{self, Encoded, PublishOut};
use mqtt::{PacketId, QoS, Version};

use crate::payload::Stamp;

/// One encoded PUBLISH and the places in it that change.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    payload_at: usize,
    /// Digits of the topic that count: offset in `bytes` and width.
    digits: Option<(usize, usize)>,
}

/// What a PUBLISH says in all its copies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    /// Topic, with room for digits.
    pub(crate) topic: &'a str,
    /// Offset and width of the digits in the topic.
    pub(crate) digits: Option<(usize, usize)>,
    /// Quality of service.
    pub(crate) qos: QoS,
    /// Retain flag.
    pub(crate) retain: bool,
    /// Stamp and filler.
    pub(crate) payload_bytes: usize,
}

impl Template {
    /// Encodes it.
    pub(crate) fn new(version: Version, content: Content<'_>) -> Template {
        let payload = vec![b'x'; content.payload_bytes];
        let packet_id = if content.qos == QoS::AtMostOnce { None } else { PacketId::new(1) };
        let publish = PublishOut {
            qos: content.qos,
            retain: content.retain,
            topic: content.topic,
            packet_id,
            payload: &payload,
            ..PublishOut::default()
        };
        let mut bytes = Vec::new();
        let Encoded { packet_id_at, end, .. } = encode::publish(&mut bytes, version, &publish);
        let length_bytes = bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let topic_at = 1 + length_bytes + 2;
        assert_eq!(&bytes[topic_at..topic_at + content.topic.len()], content.topic.as_bytes());
        let digits = content.digits.map(|(at, width)| (topic_at + at, width));
        Template { payload_at: end - content.payload_bytes, bytes, packet_id_at, digits }
    }

    /// Appends one message.
    pub(crate) fn write(&self, out: &mut Vec<u8>, stamp: Stamp, topic: u32, packet_id: Option<PacketId>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        stamp.write(&mut packet[self.payload_at..]);
        if let (Some(at), Some(id)) = (self.packet_id_at, packet_id) {
            encode::patch_packet_id(packet, at, id);
        }
        if let Some((at, width)) = self.digits {
            write_digits(&mut packet[at..at + width], topic);
        }
    }
}

fn write_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt::{Limits, Packet, decode};

    /// What the template writes decodes to the topic, identifier and stamp asked for, in both
    /// versions and at every QoS.
    #[test]
    fn a_written_message_decodes() {
        for version in [Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let content = Content {
                    topic: "dev/0000000/t/state",
                    digits: Some((4, 7)),
                    qos,
                    retain: false,
                    payload_bytes: 200,
                };
                let template = Template::new(version, content);
                let stamp = Stamp { tag: 5, publisher: 6, sequence: 7, sent: 8 };
                let id = PacketId::new(0x1234);
                let mut out = vec![0xEE];
                template.write(&mut out, stamp, 9_042, id);
                let decoded = decode(version, &out[1..], &Limits::default()).unwrap();
                let Some((Packet::Publish(publish), used)) = decoded else { panic!("a PUBLISH") };
                assert_eq!(used, out.len() - 1);
                assert_eq!(publish.topic, "dev/0009042/t/state");
                assert_eq!(publish.packet_id, if qos == QoS::AtMostOnce { None } else { id });
                assert_eq!(Stamp::read(publish.payload), Some(stamp));
                assert_eq!(publish.payload.len(), 200);
            }
        }
    }
}

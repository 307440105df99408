//! Hot path. A PUBLISH on its way to many: encoded once per (version, QoS, retain flag), copied to each
//! receiver, its packet identifier patched in place.

use mqtt::encode::{self, PublishOut};
use mqtt::{Limits, PacketId, QoS, Version};

use super::{BufferPool, COPIED_BYTES_MAX, Connection};
use crate::message::Publication;
use crate::time::Wall;

/// The encodings of one publication, made on first use. One per core, reused for every publication.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    made: [Option<Frame>; FRAMES],
}

/// Versions that encode alike (3.x, 5.0) × QoS × retain flag.
const FRAMES: usize = 2 * 3 * 2;

/// One encoding: a part of `Frames::bytes`.
#[derive(Clone, Copy, Debug)]
struct Frame {
    start: usize,
    end: usize,
    packet_id_at: usize,
    /// Size of the whole packet, with the payload that may lie beside it.
    packet_bytes: usize,
}

/// What differs between the receivers of one publication.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// There exactly when QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// Sent before, perhaps.
    pub dup: bool,
    /// The QoS of this delivery.
    pub qos: QoS,
    /// The retain flag of this delivery.
    pub retain: bool,
    /// 0 for none.
    pub subscription_id: u32,
}

/// The packet is larger than the client takes [MQTT-3.1.2-24].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Frames {
    /// Forgets the former publication.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.made = [None; FRAMES];
    }

    /// Appends the publication to a connection's unsent bytes.
    ///
    /// # Errors
    /// [`TooLarge`]; nothing is appended then.
    pub fn send(
        &mut self,
        connection: &mut Connection,
        pool: &mut BufferPool,
        publication: &Publication<'_>,
        fields: Fields,
        now: Wall,
    ) -> Result<(), TooLarge> {
        let aliases = connection.extras.as_ref().is_some_and(|extras| extras.outbound_aliases.is_enabled());
        if fields.subscription_id != 0 || aliases || fields.dup {
            return Self::send_alone(connection, pool, publication, fields, now);
        }
        let frame = self.frame(connection.version == Version::V5, publication, fields, now);
        if frame.packet_bytes > connection.outbound_packet_bytes_max as usize {
            return Err(TooLarge);
        }
        let bytes = &self.bytes[frame.start..frame.end];
        connection.send.append(pool, |tail| {
            let at = tail.len();
            tail.extend_from_slice(bytes);
            if let Some(packet_id) = fields.packet_id {
                encode::patch_packet_id(tail, at + frame.packet_id_at, packet_id);
            }
        });
        if publication.payload.len() > COPIED_BYTES_MAX {
            connection.send.append_shared(publication.share().payload.to_bytes());
        }
        Ok(())
    }

    /// Appends a publication encoded for this receiver alone: what carries a subscription identifier, an alias
    /// or DUP, or goes to nobody else.
    ///
    /// # Errors
    /// [`TooLarge`]; nothing is appended then.
    pub fn send_alone(
        connection: &mut Connection,
        pool: &mut BufferPool,
        publication: &Publication<'_>,
        fields: Fields,
        now: Wall,
    ) -> Result<(), TooLarge> {
        let id = [fields.subscription_id];
        let mut out = publish_out(publication, fields, now);
        if connection.version == Version::V5 && fields.subscription_id != 0 {
            out.subscription_ids = &id;
        }
        // Judged with the topic spelled out: an alias may make the packet smaller, never larger than this by
        // more than its own three bytes.
        let max = connection.outbound_packet_bytes_max as usize;
        if encode::publish_size(connection.version, &out) > max {
            return Err(TooLarge);
        }
        if let Some(extras) = &mut connection.extras
            && extras.outbound_aliases.is_enabled()
            && encode::publish_size(connection.version, &PublishOut { topic_alias: Some(u16::MAX), ..out })
                <= max
            && let Some((alias, known)) = extras.outbound_aliases.assign(publication.topic)
        {
            out.topic_alias = Some(alias);
            if known {
                out.topic = "";
            }
        }
        let large = publication.payload.len() > COPIED_BYTES_MAX;
        let version = connection.version;
        connection.send.append(pool, |tail| {
            if large {
                encode::publish_header(
                    tail,
                    version,
                    &PublishOut { payload: &[], ..out },
                    publication.payload.len(),
                );
            } else {
                encode::publish(tail, version, &out);
            }
        });
        if large {
            connection.send.append_shared(publication.share().payload.to_bytes());
        }
        Ok(())
    }

    fn frame(&mut self, v5: bool, publication: &Publication<'_>, fields: Fields, now: Wall) -> Frame {
        let index = usize::from(v5) * 6 + usize::from(fields.qos.bits()) * 2 + usize::from(fields.retain);
        if let Some(frame) = self.made[index] {
            return frame;
        }
        let version = if v5 { Version::V5 } else { Version::V311 };
        let out = PublishOut {
            packet_id: (fields.qos != QoS::AtMostOnce).then_some(PLACEHOLDER),
            ..publish_out(publication, fields, now)
        };
        let packet_bytes = encode::publish_size(version, &out);
        if packet_bytes > Limits::PROTOCOL.packet_bytes_max as usize {
            // As 3.1.1 it fitted; as 5.0 it cannot be written, and is larger than any client takes.
            let frame = Frame { start: 0, end: 0, packet_id_at: 0, packet_bytes };
            self.made[index] = Some(frame);
            return frame;
        }
        let large = publication.payload.len() > COPIED_BYTES_MAX;
        let encoded = if large {
            encode::publish_header(
                &mut self.bytes,
                version,
                &PublishOut { payload: &[], ..out },
                publication.payload.len(),
            )
        } else {
            encode::publish(&mut self.bytes, version, &out)
        };
        let frame = Frame {
            start: encoded.start,
            end: encoded.end,
            packet_id_at: encoded.packet_id_at.unwrap_or(encoded.start) - encoded.start,
            packet_bytes,
        };
        self.made[index] = Some(frame);
        frame
    }
}

/// Stands in the shared encoding until each receiver's own is patched in.
const PLACEHOLDER: PacketId = PacketId::new(1).expect("not 0");

fn publish_out<'a>(publication: &Publication<'a>, fields: Fields, now: Wall) -> PublishOut<'a> {
    PublishOut {
        dup: fields.dup,
        qos: fields.qos,
        retain: fields.retain,
        topic: publication.topic,
        packet_id: fields.packet_id,
        // [MQTT-3.3.2-6]: what is left of it.
        message_expiry: publication.expires.map(|expires| now.seconds_until(expires)),
        forwarded: publication.properties,
        payload: publication.payload,
        ..PublishOut::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::ConnectionId;
    use crate::message::Publisher;
    use crate::time::{Mono, ReadingTime};
    use crate::wheel::Wheel;

    /// [MQTT-3.1.2-24] The largest message that 3.1.1 can carry has no room for the properties of 5.0, nor one of
    /// QoS 0 for an identifier: it is too large then, and is sent where it fits. Its bytes are never touched.
    #[test]
    fn too_large_for_the_protocol() {
        let payload = vec![0; mqtt::REMAINING_LENGTH_MAX as usize - 3];
        let tenant = Arc::from("t");
        let mut publication = Publication::new(&tenant, Publisher::default(), "t", QoS::AtLeastOnce);
        publication.payload = &payload;
        let mut wheel = Wheel::new(0);
        let id = ConnectionId { slot: 0, generation: 0 };
        let mut connection = Connection::new(id, 0, None, (Mono(0), ReadingTime(0)), wheel.arm(1, ()));
        connection.outbound_packet_bytes_max = Limits::PROTOCOL.packet_bytes_max;
        let mut frames = Frames::default();
        let mut pool = BufferPool::default();
        for (version, qos, subscription_id, fits) in [
            (Version::V311, QoS::AtMostOnce, 0, true),
            (Version::V311, QoS::AtLeastOnce, 0, false),
            (Version::V5, QoS::AtMostOnce, 0, false),
            (Version::V5, QoS::AtMostOnce, 7, false),
        ] {
            connection.version = version;
            let packet_id = (qos != QoS::AtMostOnce).then_some(PLACEHOLDER);
            let fields = Fields { packet_id, dup: false, qos, retain: false, subscription_id };
            let frame = frames.frame(version == Version::V5, &publication, fields, Wall(0));
            assert_eq!(frame.packet_bytes <= Limits::PROTOCOL.packet_bytes_max as usize, fits);
            if !fits {
                let sent = frames.send(&mut connection, &mut pool, &publication, fields, Wall(0));
                assert_eq!(sent, Err(TooLarge));
                assert!(connection.send.is_empty());
            }
        }
    }
}

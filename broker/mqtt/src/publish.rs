//! Hot path. PUBLISH, the packet everything else is about.

use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketId, PublishProperties, QoS, Version};

/// A PUBLISH of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before; never with QoS 0. [MQTT-3.3.1-2]
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Without wildcards. Empty only in 5.0 beside a topic alias.
    pub topic: &'a str,
    /// There exactly when QoS is above 0. [MQTT-2.2.1-2]
    pub packet_id: Option<PacketId>,
    /// 5.0 only; none elsewhere.
    pub properties: PublishProperties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// The body of a PUBLISH, with the flags of its first byte, which were checked.
    #[inline(always)]
    pub(crate) fn decode(
        version: Version,
        flags: u8,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<Publish<'a>, DecodeError> {
        let qos = QoS::from_bits(flags >> 1 & 0x03).ok_or(DecodeError::PublishQos)?;
        let topic = body.topic()?; // [MQTT-3.3.2-1] [MQTT-3.3.2-2]
        let packet_id = match qos {
            QoS::AtMostOnce => None, // [MQTT-2.2.1-2]
            _ => Some(body.packet_id()?),
        };
        let properties = match version {
            Version::V5 => PublishProperties::take(&mut body, limits)?,
            _ => PublishProperties::default(),
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(match version {
                Version::V5 => DecodeError::TopicMissing,
                _ => DecodeError::TopicEmpty, // [MQTT-4.7.3-1]
            });
        }
        Ok(Publish {
            dup: flags & 0x08 != 0,
            qos,
            retain: flags & 0x01 != 0,
            topic,
            packet_id,
            properties,
            payload: body.rest(),
        })
    }
}

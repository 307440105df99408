//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape.

use crate::property::Diagnostics;
use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketId, PacketKind, ReasonCode, UserProperties, Version};

/// A PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The identifier of the PUBLISH it answers.
    pub packet_id: PacketId,
    /// How it went; always success in 3.x, which cannot say.
    pub reason: ReasonCode,
    /// Text for a human. 5.0 only.
    pub reason_string: Option<&'a str>,
    /// 5.0 only.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement that says no more than its reason.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Ack<'static> {
        Ack { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }

    /// The body of a packet of this kind. In 5.0 the reason may be missing, and so may the properties
    /// after it.
    #[inline(always)]
    pub(crate) fn decode(
        version: Version,
        kind: PacketKind,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<Ack<'a>, DecodeError> {
        let packet_id = body.packet_id()?;
        if version < Version::V5 || body.is_empty() {
            body.finish()?;
            return Ok(Ack::new(packet_id, ReasonCode::SUCCESS));
        }
        // [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
        let reason = ReasonCode::decode(body.u8()?, kind)?;
        if body.is_empty() {
            return Ok(Ack::new(packet_id, reason));
        }
        let Diagnostics { reason_string, user_properties } = Diagnostics::take(&mut body, limits)?;
        body.finish()?;
        Ok(Ack { packet_id, reason, reason_string, user_properties })
    }
}

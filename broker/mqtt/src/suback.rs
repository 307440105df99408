//! SUBACK and UNSUBACK: one reason code for each topic filter, in the order of the request.

use core::fmt;

use crate::property::Diagnostics;
use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketId, PacketKind, ReasonCode, UserProperties, Version};

/// A SUBACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The identifier of the SUBSCRIBE it answers.
    pub packet_id: PacketId,
    /// Text for a human. 5.0 only.
    pub reason_string: Option<&'a str>,
    /// 5.0 only.
    pub user_properties: UserProperties<'a>,
    /// The granted QoS or the error, per filter; never empty.
    pub reasons: ReasonCodes<'a>,
}

/// An UNSUBACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The identifier of the UNSUBSCRIBE it answers.
    pub packet_id: PacketId,
    /// Text for a human. 5.0 only.
    pub reason_string: Option<&'a str>,
    /// 5.0 only.
    pub user_properties: UserProperties<'a>,
    /// The outcome per filter; empty in 3.x, which has none.
    pub reasons: ReasonCodes<'a>,
}

/// Reason codes as they stand in a packet, each checked.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ReasonCodes<'a> {
    bytes: &'a [u8],
}

impl ReasonCodes<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Iterator for ReasonCodes<'_> {
    type Item = ReasonCode;

    fn next(&mut self) -> Option<ReasonCode> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        ReasonCode::from_value(*first)
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl<'a> SubAck<'a> {
    /// The body of a SUBACK.
    pub(crate) fn decode(
        version: Version,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<SubAck<'a>, DecodeError> {
        let packet_id = body.packet_id()?;
        let diagnostics = match version {
            Version::V5 => Diagnostics::take(&mut body, limits)?,
            _ => Diagnostics::default(),
        };
        let Diagnostics { reason_string, user_properties } = diagnostics;
        let reasons = ReasonCodes::decode(body, |code| match version {
            Version::V5 => ReasonCode::decode(code, PacketKind::SubAck).is_ok(),
            _ => matches!(code, 0x00..=0x02 | 0x80), // [MQTT-3.9.3-2] of 3.1.1
        })?;
        Ok(SubAck { packet_id, reason_string, user_properties, reasons })
    }
}

impl<'a> UnsubAck<'a> {
    /// The body of an UNSUBACK.
    pub(crate) fn decode(
        version: Version,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<UnsubAck<'a>, DecodeError> {
        let packet_id = body.packet_id()?;
        if version < Version::V5 {
            body.finish()?;
            let user_properties = UserProperties::default();
            return Ok(UnsubAck {
                packet_id,
                reason_string: None,
                user_properties,
                reasons: ReasonCodes::default(),
            });
        }
        let Diagnostics { reason_string, user_properties } = Diagnostics::take(&mut body, limits)?;
        let reasons =
            ReasonCodes::decode(body, |code| ReasonCode::decode(code, PacketKind::UnsubAck).is_ok())?;
        Ok(UnsubAck { packet_id, reason_string, user_properties, reasons })
    }
}

impl<'a> ReasonCodes<'a> {
    /// Everything that is left of a body: at least one code, each of them allowed.
    fn decode(body: Reader<'a>, allowed: impl Fn(u8) -> bool) -> Result<ReasonCodes<'a>, DecodeError> {
        let bytes = body.rest();
        if bytes.is_empty() {
            return Err(DecodeError::ReasonCodesMissing);
        }
        if !bytes.iter().all(|&code| allowed(code)) {
            return Err(DecodeError::ReasonCode); // [MQTT-3.9.3-2] [MQTT-3.11.3-2]
        }
        Ok(ReasonCodes { bytes })
    }
}

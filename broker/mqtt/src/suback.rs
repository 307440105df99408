//! SUBACK and UNSUBACK: one reason code for each topic filter, in the order of the request.

use crate::{PacketId, ReasonCode, UserProperties};

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

impl core::fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

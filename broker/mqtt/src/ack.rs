//! PUBACK, PUBREC, PUBREL and PUBCOMP: four packets of one shape.

use crate::{PacketId, ReasonCode, UserProperties};

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

impl Ack<'_> {
    /// An acknowledgement that says no more than its reason.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Ack<'static> {
        Ack { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }
}

//! Hot path. PUBLISH, the packet everything else is about.

use crate::{PacketId, PublishProperties, QoS};

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

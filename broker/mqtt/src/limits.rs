//! What a caller lets one packet cost before anything of it is looked at.

/// The largest remaining length four bytes can carry, in bytes: 256 MiB - 1. MQTT 5.0, 1.5.5.
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// Bounds on one packet; what goes beyond them is a [`DecodeError`](crate::DecodeError).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Whole packet in bytes, fixed header included. Beyond it: Packet Too Large, judged from the
    /// first five bytes.
    pub packet_bytes_max: u32,
    /// Properties in a packet, user properties included; the will's count on their own.
    pub properties_max: u16,
    /// Topic filters in one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_max: u16,
    /// Client identifier in bytes. A server must take 23. [MQTT-3.1.3-5]
    pub client_id_bytes_max: u16,
}

impl Limits {
    /// Everything the protocol itself can express.
    pub const PROTOCOL: Limits = Limits {
        packet_bytes_max: REMAINING_LENGTH_MAX + 5,
        properties_max: u16::MAX,
        filters_max: u16::MAX,
        client_id_bytes_max: u16::MAX,
    };
}

impl Default for Limits {
    /// 1 MiB packets, 64 properties, 1024 filters, client identifiers of 1024 bytes.
    fn default() -> Limits {
        Limits { packet_bytes_max: 1 << 20, properties_max: 64, filters_max: 1024, client_id_bytes_max: 1024 }
    }
}

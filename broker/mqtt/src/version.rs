//! The three protocol versions, told apart by the name and level in CONNECT.

/// A protocol version, in the order they were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1, the protocol name `MQIsdp`.
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// The protocol level byte of CONNECT: 3, 4 or 5.
    pub const fn level(self) -> u8 {
        match self {
            Version::V31 => 3,
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }

    /// The protocol name of CONNECT.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V31 => "MQIsdp",
            Version::V311 | Version::V5 => "MQTT",
        }
    }

    /// The version a protocol name and level stand for; `None` is an unsupported version.
    ///
    /// A level with its top bit set (0x83 and 0x84, which Mosquitto's bridges send to ask for
    /// retain-as-published) is not a version of any specification and answers `None`.
    pub fn from_name_and_level(name: &[u8], level: u8) -> Option<Version> {
        match (name, level) {
            (b"MQIsdp", 3) => Some(Version::V31),
            (b"MQTT", 4) => Some(Version::V311),
            (b"MQTT", 5) => Some(Version::V5),
            _ => None,
        }
    }
}

//! Reason codes of 5.0, and their one translation to the return codes of 3.x.

use core::fmt;

use crate::{DecodeError, PacketKind};

/// A reason code of MQTT 5.0, section 2.4: one of the 43 values it names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct ReasonCode(u8);

impl ReasonCode {
    /// Success; in DISCONNECT a normal end, in SUBACK granted QoS 0.
    pub const SUCCESS: ReasonCode = ReasonCode(0x00);
    /// Granted QoS 1.
    pub const GRANTED_QOS_1: ReasonCode = ReasonCode(0x01);
    /// Granted QoS 2.
    pub const GRANTED_QOS_2: ReasonCode = ReasonCode(0x02);
    /// The client leaves and wants its will published.
    pub const DISCONNECT_WITH_WILL: ReasonCode = ReasonCode(0x04);
    /// Accepted, and nobody subscribes to it.
    pub const NO_MATCHING_SUBSCRIBERS: ReasonCode = ReasonCode(0x10);
    /// Nothing to unsubscribe.
    pub const NO_SUBSCRIPTION_EXISTED: ReasonCode = ReasonCode(0x11);
    /// Another step of authentication follows.
    pub const CONTINUE_AUTHENTICATION: ReasonCode = ReasonCode(0x18);
    /// The client starts a new authentication.
    pub const REAUTHENTICATE: ReasonCode = ReasonCode(0x19);
    /// The sender does not say why.
    pub const UNSPECIFIED_ERROR: ReasonCode = ReasonCode(0x80);
    /// The packet does not parse.
    pub const MALFORMED_PACKET: ReasonCode = ReasonCode(0x81);
    /// The packet parses and breaks a rule.
    pub const PROTOCOL_ERROR: ReasonCode = ReasonCode(0x82);
    /// Valid, and not accepted by this implementation.
    pub const IMPLEMENTATION_SPECIFIC_ERROR: ReasonCode = ReasonCode(0x83);
    /// The version of the CONNECT is not supported.
    pub const UNSUPPORTED_PROTOCOL_VERSION: ReasonCode = ReasonCode(0x84);
    /// The client identifier is not accepted.
    pub const CLIENT_IDENTIFIER_NOT_VALID: ReasonCode = ReasonCode(0x85);
    /// User name or password are not accepted.
    pub const BAD_USER_NAME_OR_PASSWORD: ReasonCode = ReasonCode(0x86);
    /// Not permitted.
    pub const NOT_AUTHORIZED: ReasonCode = ReasonCode(0x87);
    /// The server is not available.
    pub const SERVER_UNAVAILABLE: ReasonCode = ReasonCode(0x88);
    /// The server is busy: try again later.
    pub const SERVER_BUSY: ReasonCode = ReasonCode(0x89);
    /// The client is banned.
    pub const BANNED: ReasonCode = ReasonCode(0x8A);
    /// The server is shutting down.
    pub const SERVER_SHUTTING_DOWN: ReasonCode = ReasonCode(0x8B);
    /// The authentication method is unknown, or not the one in use.
    pub const BAD_AUTHENTICATION_METHOD: ReasonCode = ReasonCode(0x8C);
    /// Nothing was received for one and a half times the keep-alive.
    pub const KEEP_ALIVE_TIMEOUT: ReasonCode = ReasonCode(0x8D);
    /// Another connection uses the same client identifier.
    pub const SESSION_TAKEN_OVER: ReasonCode = ReasonCode(0x8E);
    /// The topic filter is not accepted.
    pub const TOPIC_FILTER_INVALID: ReasonCode = ReasonCode(0x8F);
    /// The topic name is not accepted.
    pub const TOPIC_NAME_INVALID: ReasonCode = ReasonCode(0x90);
    /// The packet identifier is taken.
    pub const PACKET_IDENTIFIER_IN_USE: ReasonCode = ReasonCode(0x91);
    /// The packet identifier is not known.
    pub const PACKET_IDENTIFIER_NOT_FOUND: ReasonCode = ReasonCode(0x92);
    /// More unacknowledged messages than the receive maximum.
    pub const RECEIVE_MAXIMUM_EXCEEDED: ReasonCode = ReasonCode(0x93);
    /// The topic alias is zero, too high or not known.
    pub const TOPIC_ALIAS_INVALID: ReasonCode = ReasonCode(0x94);
    /// The packet is larger than the maximum packet size.
    pub const PACKET_TOO_LARGE: ReasonCode = ReasonCode(0x95);
    /// Messages come too fast.
    pub const MESSAGE_RATE_TOO_HIGH: ReasonCode = ReasonCode(0x96);
    /// A limit of the implementation or its administrator is exceeded.
    pub const QUOTA_EXCEEDED: ReasonCode = ReasonCode(0x97);
    /// Ended by an administrator.
    pub const ADMINISTRATIVE_ACTION: ReasonCode = ReasonCode(0x98);
    /// The payload is not what its format indicator says.
    pub const PAYLOAD_FORMAT_INVALID: ReasonCode = ReasonCode(0x99);
    /// Retained messages are not supported.
    pub const RETAIN_NOT_SUPPORTED: ReasonCode = ReasonCode(0x9A);
    /// The QoS is above the maximum QoS.
    pub const QOS_NOT_SUPPORTED: ReasonCode = ReasonCode(0x9B);
    /// Use another server for now.
    pub const USE_ANOTHER_SERVER: ReasonCode = ReasonCode(0x9C);
    /// Use another server from now on.
    pub const SERVER_MOVED: ReasonCode = ReasonCode(0x9D);
    /// Shared subscriptions are not supported.
    pub const SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: ReasonCode = ReasonCode(0x9E);
    /// Connections come too fast.
    pub const CONNECTION_RATE_EXCEEDED: ReasonCode = ReasonCode(0x9F);
    /// The connection lasted as long as it may.
    pub const MAXIMUM_CONNECT_TIME: ReasonCode = ReasonCode(0xA0);
    /// Subscription identifiers are not supported.
    pub const SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED: ReasonCode = ReasonCode(0xA1);
    /// Filters with wildcards are not supported.
    pub const WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: ReasonCode = ReasonCode(0xA2);

    /// The reason code of a byte; `None` when 5.0 does not name it.
    pub const fn from_value(value: u8) -> Option<ReasonCode> {
        match value {
            0x00..=0x02 | 0x04 | 0x10 | 0x11 | 0x18 | 0x19 | 0x80..=0xA2 => Some(ReasonCode(value)),
            _ => None,
        }
    }

    /// The byte on the wire.
    pub const fn value(self) -> u8 {
        self.0
    }

    /// Whether it stands for a failure: 0x80 and above.
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The reason code a CONNACK of 3.x stands for; `None` for the reserved ones, 6 and above.
    pub const fn from_connect_return_code(code: u8) -> Option<ReasonCode> {
        Some(match code {
            0 => ReasonCode::SUCCESS,
            1 => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            2 => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            3 => ReasonCode::SERVER_UNAVAILABLE,
            4 => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
            5 => ReasonCode::NOT_AUTHORIZED,
            _ => return None,
        })
    }

    /// Whether 5.0 lists this reason code for packets of this kind, in either direction. Section 2.4,
    /// which lists Bad Authentication Method for DISCONNECT while 3.14.2.1 does not: it is allowed.
    pub const fn allowed_in(self, kind: PacketKind) -> bool {
        const CONNACK: u16 = 1 << PacketKind::ConnAck.number();
        const PUBLISHED: u16 = 1 << PacketKind::PubAck.number() | 1 << PacketKind::PubRec.number();
        const RELEASED: u16 = 1 << PacketKind::PubRel.number() | 1 << PacketKind::PubComp.number();
        const SUBACK: u16 = 1 << PacketKind::SubAck.number();
        const UNSUBACK: u16 = 1 << PacketKind::UnsubAck.number();
        const DISCONNECT: u16 = 1 << PacketKind::Disconnect.number();
        const AUTH: u16 = 1 << PacketKind::Auth.number();
        let kinds = match self.0 {
            0x00 => CONNACK | PUBLISHED | RELEASED | SUBACK | UNSUBACK | DISCONNECT | AUTH,
            0x01 | 0x02 => SUBACK,
            0x04 => DISCONNECT,
            0x10 => PUBLISHED,
            0x11 => UNSUBACK,
            0x18 | 0x19 => AUTH,
            0x80 | 0x83 | 0x87 => CONNACK | PUBLISHED | SUBACK | UNSUBACK | DISCONNECT,
            0x81 | 0x82 | 0x89 | 0x8C | 0x95 | 0x9A..=0x9D | 0x9F => CONNACK | DISCONNECT,
            0x84..=0x86 | 0x88 | 0x8A => CONNACK,
            0x8B | 0x8D | 0x8E | 0x93 | 0x94 | 0x96 | 0x98 | 0xA0 => DISCONNECT,
            0x8F => SUBACK | UNSUBACK | DISCONNECT,
            0x90 | 0x99 => CONNACK | PUBLISHED | DISCONNECT,
            0x91 => PUBLISHED | SUBACK | UNSUBACK,
            0x92 => RELEASED,
            0x97 => CONNACK | PUBLISHED | SUBACK | DISCONNECT,
            0x9E | 0xA1 | 0xA2 => SUBACK | DISCONNECT,
            _ => 0,
        };
        kinds >> kind.number() & 1 == 1
    }

    /// The reason code of a byte in a packet of this kind.
    pub(crate) fn decode(value: u8, kind: PacketKind) -> Result<ReasonCode, DecodeError> {
        let reason = ReasonCode(value);
        if reason.allowed_in(kind) { Ok(reason) } else { Err(DecodeError::ReasonCode) }
    }
}

/// The return code a CONNACK of 3.x says this reason with: 0 to 5.
pub const fn connect_return_code(reason: ReasonCode) -> u8 {
    match reason {
        ReasonCode::SUCCESS => 0,
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => 1,
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => 2,
        ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::BAD_AUTHENTICATION_METHOD => 4,
        ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED | ReasonCode::TOPIC_NAME_INVALID => 5,
        // Everything else a server refuses a client for is about the server, and may pass.
        _ => 3,
    }
}

impl fmt::Debug for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ReasonCode(0x{:02X})", self.0)
    }
}

//! What a peer's bytes can be refused for: one table of reason code and statement.

use core::fmt;

use crate::ReasonCode;

/// Why a packet was refused. After any of these the connection ends. [MQTT-4.13.1-1]
///
/// One variant per rule; what to answer and which statement was broken stand in one table beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// Type number 0, or AUTH in 3.x.
    PacketType,
    /// Flags of the first byte that this type and version reserve.
    FixedHeaderFlags,
    /// A variable byte integer goes on after its fourth byte.
    VarintTooLong,
    /// A variable byte integer of 5.0 takes more bytes than it needs.
    VarintNotMinimal,
    /// The packet is larger than `packet_bytes_max`.
    PacketTooLarge,
    /// A field ends beyond the packet.
    Truncated,
    /// The packet ends beyond its last field.
    TrailingBytes,
    /// A string is not UTF-8, or holds a surrogate.
    Utf8,
    /// A string holds U+0000.
    Utf8Nul,
    /// The packet identifier is zero.
    PacketIdZero,

    /// The first packet is not a CONNECT.
    ConnectExpected,
    /// The protocol name is neither `MQTT` nor `MQIsdp`.
    ProtocolName,
    /// The protocol level is none of the name's.
    ProtocolLevel,
    /// The reserved flag of CONNECT is set.
    ConnectReservedFlag,
    /// A will QoS without a will.
    WillQosWithoutWill,
    /// Will retain without a will.
    WillRetainWithoutWill,
    /// The will QoS is 3.
    WillQos,
    /// A password without a user name, in 3.x.
    PasswordWithoutUsername,
    /// An empty client identifier that asks for a lasting session, in 3.x.
    ClientIdEmpty,
    /// The client identifier is longer than `client_id_bytes_max`.
    ClientIdTooLong,

    /// A property identifier that 5.0 does not name.
    PropertyUnknown,
    /// A property that this packet may not carry.
    PropertyNotAllowed,
    /// A property that may come once came twice.
    PropertyRepeated,
    /// More properties than `properties_max`.
    PropertiesTooMany,
    /// A property that is 0 or 1 is neither.
    PropertyBoolean,
    /// Receive Maximum is 0.
    ReceiveMaximumZero,
    /// Maximum Packet Size is 0.
    MaximumPacketSizeZero,
    /// Topic Alias is 0.
    TopicAliasZero,
    /// Subscription Identifier is 0.
    SubscriptionIdZero,
    /// Authentication Data without Authentication Method.
    AuthenticationMethodMissing,

    /// DUP with QoS 0.
    DupWithQos0,
    /// The QoS of a PUBLISH is 3.
    PublishQos,
    /// A topic name of no characters.
    TopicEmpty,
    /// Neither topic name nor topic alias.
    TopicMissing,
    /// A topic name with a wildcard.
    TopicWildcard,
    /// A response topic with a wildcard.
    ResponseTopicWildcard,

    /// SUBSCRIBE without topic filter.
    SubscribeEmpty,
    /// UNSUBSCRIBE without topic filter.
    UnsubscribeEmpty,
    /// More topic filters than `filters_max`.
    FiltersTooMany,
    /// A topic filter of no characters.
    FilterEmpty,
    /// Reserved bits of the subscription options.
    SubscriptionReservedBits,
    /// The QoS of a subscription is 3.
    SubscriptionQos,
    /// Retain handling 3.
    RetainHandling,
    /// No Local on a shared subscription.
    NoLocalOnShared,

    /// A reason code that this packet may not carry, or a return code nobody defined.
    ReasonCode,
    /// Reserved bits of the flags of CONNACK.
    ConnAckFlags,
    /// Session Present beside an error.
    SessionPresentWithError,
    /// SUBACK or, in 5.0, UNSUBACK without reason code.
    ReasonCodesMissing,
}

impl DecodeError {
    /// The reason code to answer with, in a CONNACK or DISCONNECT of 5.0. In 3.x only an unsupported
    /// version and a refused client identifier are answered, by way of
    /// [`connect_return_code`](crate::connect_return_code); everything else ends in silence.
    pub const fn reason(&self) -> ReasonCode {
        self.rule().0
    }

    /// The statement that was broken: an id of 5.0 where it has one, else an id of 3.1.1 marked as
    /// such, else a section of 5.0; `limit` stands for a bound of [`Limits`](crate::Limits).
    pub const fn statement(&self) -> &'static str {
        self.rule().1
    }

    const fn rule(self) -> (ReasonCode, &'static str) {
        const MALFORMED: ReasonCode = ReasonCode::MALFORMED_PACKET;
        const PROTOCOL: ReasonCode = ReasonCode::PROTOCOL_ERROR;
        const VERSION: ReasonCode = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
        const CLIENT_ID: ReasonCode = ReasonCode::CLIENT_IDENTIFIER_NOT_VALID;
        const QUOTA: ReasonCode = ReasonCode::QUOTA_EXCEEDED;
        match self {
            DecodeError::PacketType => (MALFORMED, "section 2.1.2"),
            DecodeError::FixedHeaderFlags => (MALFORMED, "MQTT-2.1.3-1"),
            DecodeError::VarintTooLong => (MALFORMED, "section 1.5.5"),
            DecodeError::VarintNotMinimal => (MALFORMED, "MQTT-1.5.5-1"),
            DecodeError::PacketTooLarge => (ReasonCode::PACKET_TOO_LARGE, "MQTT-3.2.2-15"),
            DecodeError::Truncated | DecodeError::TrailingBytes => (MALFORMED, "section 2.1.4"),
            DecodeError::Utf8 => (MALFORMED, "MQTT-1.5.4-1"),
            DecodeError::Utf8Nul => (MALFORMED, "MQTT-1.5.4-2"),
            DecodeError::PacketIdZero => (PROTOCOL, "MQTT-2.2.1-3"),

            DecodeError::ConnectExpected => (PROTOCOL, "MQTT-3.1.0-1"),
            DecodeError::ProtocolName => (VERSION, "MQTT-3.1.2-1"),
            DecodeError::ProtocolLevel => (VERSION, "MQTT-3.1.2-2"),
            DecodeError::ConnectReservedFlag => (MALFORMED, "MQTT-3.1.2-3"),
            DecodeError::WillQosWithoutWill => (MALFORMED, "MQTT-3.1.2-11"),
            DecodeError::WillRetainWithoutWill => (MALFORMED, "MQTT-3.1.2-13"),
            DecodeError::WillQos => (MALFORMED, "MQTT-3.1.2-12"),
            DecodeError::PasswordWithoutUsername => (PROTOCOL, "MQTT-3.1.2-22 of 3.1.1"),
            DecodeError::ClientIdEmpty => (CLIENT_ID, "MQTT-3.1.3-8 of 3.1.1"),
            DecodeError::ClientIdTooLong => (CLIENT_ID, "MQTT-3.1.3-8"),

            DecodeError::PropertyUnknown | DecodeError::PropertyNotAllowed => (MALFORMED, "section 2.2.2.2"),
            DecodeError::PropertyRepeated => (PROTOCOL, "section 2.2.2.2"),
            DecodeError::PropertiesTooMany | DecodeError::FiltersTooMany => (QUOTA, "limit"),
            DecodeError::PropertyBoolean => (PROTOCOL, "section 3.1.2.11.6"),
            DecodeError::ReceiveMaximumZero => (PROTOCOL, "section 3.1.2.11.3"),
            DecodeError::MaximumPacketSizeZero => (PROTOCOL, "section 3.1.2.11.4"),
            DecodeError::TopicAliasZero => (ReasonCode::TOPIC_ALIAS_INVALID, "MQTT-3.3.2-8"),
            DecodeError::SubscriptionIdZero => (PROTOCOL, "section 3.8.2.1.2"),
            DecodeError::AuthenticationMethodMissing => (PROTOCOL, "section 3.1.2.11.10"),

            DecodeError::DupWithQos0 => (PROTOCOL, "MQTT-3.3.1-2"),
            DecodeError::PublishQos => (MALFORMED, "MQTT-3.3.1-4"),
            DecodeError::TopicEmpty | DecodeError::FilterEmpty => (PROTOCOL, "MQTT-4.7.3-1"),
            DecodeError::TopicMissing => (PROTOCOL, "section 3.3.2.1"),
            DecodeError::TopicWildcard => (ReasonCode::TOPIC_NAME_INVALID, "MQTT-3.3.2-2"),
            DecodeError::ResponseTopicWildcard => (PROTOCOL, "MQTT-3.3.2-14"),

            DecodeError::SubscribeEmpty => (PROTOCOL, "MQTT-3.8.3-2"),
            DecodeError::UnsubscribeEmpty => (PROTOCOL, "MQTT-3.10.3-2"),
            DecodeError::SubscriptionReservedBits => (MALFORMED, "MQTT-3.8.3-5"),
            DecodeError::SubscriptionQos | DecodeError::RetainHandling => (PROTOCOL, "section 3.8.3.1"),
            DecodeError::NoLocalOnShared => (PROTOCOL, "MQTT-3.8.3-4"),

            DecodeError::ReasonCode => (PROTOCOL, "section 2.4"),
            DecodeError::ConnAckFlags => (MALFORMED, "MQTT-3.2.2-1"),
            DecodeError::SessionPresentWithError => (PROTOCOL, "MQTT-3.2.2-6"),
            DecodeError::ReasonCodesMissing => (MALFORMED, "section 3.9.3"),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?} [{}]", self.statement())
    }
}

impl core::error::Error for DecodeError {}

//! CONNACK, the server's answer to CONNECT.

use crate::{QoS, ReasonCode, UserProperties};

/// A CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnAck<'a> {
    /// The server held session state for this client. Always false in 3.1 and beside an error.
    pub session_present: bool,
    /// The 3.x return codes are translated, see [`connect_return_code`](crate::connect_return_code).
    pub reason: ReasonCode,
    /// 5.0 only; the defaults elsewhere.
    pub properties: ConnAckProperties<'a>,
}

/// The properties of a CONNACK; the default is what their absence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    /// Seconds the server keeps the session, when not what the client asked for.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 messages the server takes before it acknowledges one.
    pub receive_maximum: u16,
    /// Highest QoS the server takes.
    pub maximum_qos: QoS,
    /// Whether the server keeps retained messages.
    pub retain_available: bool,
    /// Largest packet the server takes, in bytes; `None` is no limit beyond the protocol's.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier the server chose.
    pub assigned_client_id: Option<&'a str>,
    /// Highest topic alias the server takes; 0 is none.
    pub topic_alias_maximum: u16,
    /// Text for a human.
    pub reason_string: Option<&'a str>,
    /// In the order they came.
    pub user_properties: UserProperties<'a>,
    /// Whether the server takes filters with wildcards.
    pub wildcard_subscriptions_available: bool,
    /// Whether the server takes subscription identifiers.
    pub subscription_ids_available: bool,
    /// Whether the server takes shared subscriptions.
    pub shared_subscriptions_available: bool,
    /// Keep-alive in seconds that replaces the client's.
    pub server_keep_alive: Option<u16>,
    /// Base of response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of enhanced authentication.
    pub authentication_data: Option<&'a [u8]>,
}

impl Default for ConnAckProperties<'_> {
    fn default() -> Self {
        ConnAckProperties {
            session_expiry: None,
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            user_properties: UserProperties::default(),
            wildcard_subscriptions_available: true,
            subscription_ids_available: true,
            shared_subscriptions_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

//! CONNECT, the first packet of every connection.

use crate::{PublishProperties, QoS, UserProperties, Version};

/// A CONNECT of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version every later packet of the connection is in.
    pub version: Version,
    /// Clean Start of 5.0, Clean Session of 3.x.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// May be empty: the server then assigns one. The 23 bytes MQTT 3.1 allows at most are not
    /// enforced: clients of that version never kept to it.
    pub client_id: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password: any bytes.
    pub password: Option<&'a [u8]>,
    /// What the server publishes when the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// 5.0 only; the defaults elsewhere.
    pub properties: ConnectProperties<'a>,
}

impl<'a> Connect<'a> {
    /// A CONNECT with a clean start, no keep-alive and nothing optional.
    pub fn new(version: Version, client_id: &'a str) -> Connect<'a> {
        Connect {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id,
            username: None,
            password: None,
            will: None,
            properties: ConnectProperties::default(),
        }
    }
}

/// The will message of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Quality of service it is published with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Never empty, without wildcards.
    pub topic: &'a str,
    /// Application message.
    pub payload: &'a [u8],
    /// Seconds between the end of the connection and the will. 5.0 only, else 0.
    pub delay_interval: u32,
    /// 5.0 only; topic alias and subscription identifiers are never among them.
    pub properties: PublishProperties<'a>,
}

/// The properties of a CONNECT; the default is what their absence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds the session outlives the connection; `u32::MAX` is for ever.
    pub session_expiry: u32,
    /// Whether the packet named the session expiry, were it to be 0.
    pub session_expiry_given: bool,
    /// QoS 1 and 2 messages the client takes before it acknowledges one; never 0.
    pub receive_maximum: u16,
    /// Largest packet the client takes, in bytes; never 0.
    pub maximum_packet_size: Option<u32>,
    /// Highest topic alias the client takes; 0 is none.
    pub topic_alias_maximum: u16,
    /// The client asks for response information in CONNACK.
    pub request_response_information: bool,
    /// The client takes reason strings and user properties in every packet.
    pub request_problem_information: bool,
    /// Method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of enhanced authentication; never without a method.
    pub authentication_data: Option<&'a [u8]>,
    /// In the order they came.
    pub user_properties: UserProperties<'a>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry: 0,
            session_expiry_given: false,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user_properties: UserProperties::default(),
        }
    }
}

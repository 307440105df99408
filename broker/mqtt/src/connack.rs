//! CONNACK, the server's answer to CONNECT.

use crate::property::{Properties, Property};
use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketKind, QoS, ReasonCode, UserProperties, Version};

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

impl<'a> ConnAck<'a> {
    /// The body of a CONNACK.
    pub(crate) fn decode(
        version: Version,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<ConnAck<'a>, DecodeError> {
        let flags = body.u8()?;
        let code = body.u8()?;
        let reason = match version {
            Version::V5 => ReasonCode::decode(code, PacketKind::ConnAck)?, // [MQTT-3.2.2-8]
            _ => ReasonCode::from_connect_return_code(code).ok_or(DecodeError::ReasonCode)?,
        };
        // The byte of flags is unused in 3.1.
        let session_present = version > Version::V31 && flags & 0x01 != 0;
        if version > Version::V31 && flags & 0xFE != 0 {
            return Err(DecodeError::ConnAckFlags); // [MQTT-3.2.2-1]
        }
        if session_present && reason != ReasonCode::SUCCESS {
            return Err(DecodeError::SessionPresentWithError); // [MQTT-3.2.2-6]
        }
        let properties = match version {
            Version::V5 => ConnAckProperties::take(&mut body, limits)?,
            _ => ConnAckProperties::default(),
        };
        body.finish()?;
        Ok(ConnAck { session_present, reason, properties })
    }
}

impl<'a> ConnAckProperties<'a> {
    fn take(body: &mut Reader<'a>, limits: &Limits) -> Result<ConnAckProperties<'a>, DecodeError> {
        let mut properties = Properties::take(body, limits)?;
        let mut read = ConnAckProperties::default();
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiry(seconds) => read.session_expiry = Some(seconds),
                Property::ReceiveMaximum(maximum) => read.receive_maximum = maximum,
                Property::MaximumQos(false) => read.maximum_qos = QoS::AtMostOnce,
                Property::MaximumQos(true) => read.maximum_qos = QoS::AtLeastOnce,
                Property::RetainAvailable(available) => read.retain_available = available,
                Property::MaximumPacketSize(bytes) => read.maximum_packet_size = Some(bytes),
                Property::AssignedClientId(client_id) => read.assigned_client_id = Some(client_id),
                Property::TopicAliasMaximum(maximum) => read.topic_alias_maximum = maximum,
                Property::ReasonString(text) => read.reason_string = Some(text),
                Property::WildcardSubscriptionsAvailable(available) => {
                    read.wildcard_subscriptions_available = available;
                }
                Property::SubscriptionIdsAvailable(available) => read.subscription_ids_available = available,
                Property::SharedSubscriptionsAvailable(available) => {
                    read.shared_subscriptions_available = available;
                }
                Property::ServerKeepAlive(seconds) => read.server_keep_alive = Some(seconds),
                Property::ResponseInformation(base) => read.response_information = Some(base),
                Property::ServerReference(server) => read.server_reference = Some(server),
                Property::AuthenticationMethod(method) => read.authentication_method = Some(method),
                Property::AuthenticationData(data) => read.authentication_data = Some(data),
                Property::User(..) => {}
                _ => return Err(DecodeError::PropertyNotAllowed),
            }
        }
        if read.authentication_data.is_some() && read.authentication_method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        read.user_properties = properties.user_properties();
        Ok(read)
    }
}

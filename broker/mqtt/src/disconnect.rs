//! DISCONNECT, the last packet of a connection.

use crate::property::{Properties, Property};
use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketKind, ReasonCode, UserProperties, Version};

/// A DISCONNECT; empty in 3.x, where only clients send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disconnect<'a> {
    /// Why the connection ends; always success in 3.x.
    pub reason: ReasonCode,
    /// Seconds the session outlives the connection, when it changes. Clients only. [MQTT-3.14.2-2]
    pub session_expiry: Option<u32>,
    /// Text for a human.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// In the order they came.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT that says no more than its reason.
    pub fn new(reason: ReasonCode) -> Disconnect<'static> {
        Disconnect { reason, ..Disconnect::default() }
    }

    /// The body of a DISCONNECT. In 5.0 the reason may be missing, and so may the properties after it.
    pub(crate) fn decode(
        version: Version,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<Disconnect<'a>, DecodeError> {
        let mut disconnect = Disconnect::default();
        if version < Version::V5 || body.is_empty() {
            body.finish()?;
            return Ok(disconnect);
        }
        // [MQTT-3.14.2-1]
        disconnect.reason = ReasonCode::decode(body.u8()?, PacketKind::Disconnect)?;
        if body.is_empty() {
            return Ok(disconnect);
        }
        let mut properties = Properties::take(&mut body, limits)?;
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiry(seconds) => disconnect.session_expiry = Some(seconds),
                Property::ReasonString(text) => disconnect.reason_string = Some(text),
                Property::ServerReference(server) => disconnect.server_reference = Some(server),
                Property::User(..) => {}
                _ => return Err(DecodeError::PropertyNotAllowed),
            }
        }
        disconnect.user_properties = properties.user_properties();
        body.finish()?;
        Ok(disconnect)
    }
}

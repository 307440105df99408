//! DISCONNECT, the last packet of a connection.

use crate::{ReasonCode, UserProperties};

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

impl Disconnect<'_> {
    /// A DISCONNECT that says no more than its reason.
    pub fn new(reason: ReasonCode) -> Disconnect<'static> {
        Disconnect { reason, ..Disconnect::default() }
    }
}

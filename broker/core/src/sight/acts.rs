//! What an operator has done to clients, in their place or to what is retained.

use mqtt::{QoS, ReasonCode, SubscriptionOptions};

use crate::limit::Limit;

/// What clients are told that are disconnected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// In DISCONNECT; 3.x clients are closed without a word.
    pub reason: ReasonCode,
    /// Where to go instead, with 0x9C (use another server) and 0x9D (server moved).
    pub server_reference: Option<Box<str>>,
}

/// One client is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Its tenant.
    pub tenant: Box<str>,
    /// Its id.
    pub client: Box<str>,
    /// What it is told.
    pub farewell: Farewell,
}

/// A message from nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Whose topics.
    pub tenant: Box<str>,
    /// A valid one.
    pub topic: Box<str>,
    /// How.
    pub qos: QoS,
    /// Whether it is kept; without payload what was kept is removed.
    pub retain: bool,
    /// The application's bytes.
    pub payload: Vec<u8>,
    /// Properties to forward, as MQTT 5.0 writes them.
    pub properties: Vec<u8>,
    /// Its lifetime, if that is limited.
    pub expiry_seconds: Option<u32>,
}

/// A subscription for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Its client's tenant.
    pub tenant: Box<str>,
    /// Its client.
    pub client: Box<str>,
    /// A valid one.
    pub filter: Box<str>,
    /// How.
    pub options: SubscriptionOptions,
    /// Its identifier, if it has one.
    pub subscription_id: Option<u32>,
}

/// The end of a subscription for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Its client's tenant.
    pub tenant: Box<str>,
    /// Its client.
    pub client: Box<str>,
    /// As the client spelled it.
    pub filter: Box<str>,
}

/// Why it is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such session.
    NoSession,
    /// Its client is not there.
    Away,
    /// Its client went before it was done.
    Gone,
    /// No tenant of this name is configured.
    NoTenant,
    /// A setting of the tenant says no.
    Limit(Limit),
    /// The client would be told no, for this reason.
    Reason(ReasonCode),
}

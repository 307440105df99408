//! What is told of sessions, subscriptions and retained messages, and by what they are found.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use mqtt::{QoS, Version};

use crate::delivery::DeliveryOptions;
use crate::message::Message;
use crate::time::Wall;

/// Which sessions. What is None finds all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindSessions {
    /// Of this tenant.
    pub tenant: Option<Box<str>>,
    /// With this in their client id.
    pub client_contains: Option<Box<str>>,
    /// Whose client was let in as this user.
    pub user: Option<Box<str>>,
    /// Whose client is online, or is not.
    pub online: Option<bool>,
    /// From this place in the core's table on; 0 at first.
    pub from: u32,
    /// So many at most. The page may have fewer, and not be the last.
    pub max: u16,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its tenant.
    pub tenant: Box<str>,
    /// Its client.
    pub client: Box<str>,
    /// As what the client was let in last; empty: anonymous.
    pub user: Box<str>,
    /// The client's connection, if there is one.
    pub online: Option<Online>,
    /// Since when and for how long the session waits, if there is none.
    pub away: Option<Away>,
    /// Seconds that it outlives its connection; `u32::MAX` is for ever.
    pub expiry_seconds: u32,
    /// How many it has.
    pub subscriptions: u64,
    /// Messages in its queue, those in flight included.
    pub queued_messages: u32,
    /// The same in bytes.
    pub queued_bytes: u64,
}

/// A client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Online {
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// Which listener accepted it.
    pub listener: u16,
    /// What it speaks.
    pub version: Version,
    /// After so much silence it is closed; 0: never.
    pub keep_alive_ms: u32,
    /// Bytes that it has not taken yet.
    pub unsent_bytes: u64,
}

/// A session that waits for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// Since when.
    pub since: Wall,
    /// Until when; None: for ever.
    pub expires: Option<Wall>,
}

/// All of a session that is not a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDetails {
    /// What lists have of it.
    pub session: Session,
    /// Published when the client goes without a word.
    pub will: Option<WillSummary>,
    /// QoS 2 messages from the client that it has not released.
    pub unreleased: u32,
    /// Retained messages are on their way to it.
    pub retained_owed: bool,
    /// The most messages that its queue takes.
    pub queue_messages_max: u32,
    /// The most bytes.
    pub queue_bytes_max: u64,
    /// Whether a full queue gives up the oldest message, and not the new one.
    pub drops_oldest: bool,
}

/// A will, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillSummary {
    /// Where it is published.
    pub topic: Box<str>,
    /// How.
    pub qos: QoS,
    /// Whether it is retained then.
    pub retain: bool,
    /// How long the client is waited for.
    pub delay_seconds: u32,
    /// Of the payload.
    pub payload_bytes: u64,
}

/// Where a list of subscriptions goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The session's place in the core's table.
    pub slot: u32,
    /// Behind this filter of it; None: from its first.
    pub after: Option<Box<str>>,
}

/// Which subscriptions. What is None finds all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindSubscriptions {
    /// Of sessions of this tenant.
    pub tenant: Option<Box<str>>,
    /// Of this client's session; the others are passed over.
    pub client: Option<Box<str>>,
    /// With this in their filter.
    pub filter_contains: Option<Box<str>>,
    /// From there on.
    pub from: Place,
    /// So many at most. The page may have fewer, and not be the last.
    pub max: u16,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its client's tenant.
    pub tenant: Box<str>,
    /// Its client.
    pub client: Box<str>,
    /// As the client spelled it, share name included.
    pub filter: Box<str>,
    /// What was granted.
    pub options: DeliveryOptions,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedMessage {
    /// Its topic.
    pub topic: Box<str>,
    /// As it was published.
    pub qos: QoS,
    /// The application's bytes, shared with the core.
    pub payload: Bytes,
    /// When it expires, if it does.
    pub expires: Option<Wall>,
}

impl From<&Arc<Message>> for RetainedMessage {
    fn from(message: &Arc<Message>) -> RetainedMessage {
        RetainedMessage {
            topic: message.topic.as_str().into(),
            qos: message.qos,
            payload: message.payload.to_bytes(),
            expires: message.expires,
        }
    }
}

//! What the host may want to log of connections. Said only if [`Config::notices`](crate::config::Config) asks
//! for it, and never per message.

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt::{ReasonCode, Version};

use crate::identity::ConnectionId;
use crate::limit::Limit;

/// Something worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which connection; None: of a session that has none.
    pub connection: Option<ConnectionId>,
    /// Its other end.
    pub peer: Option<SocketAddr>,
    /// Its tenant, once it is known.
    pub tenant: Option<Arc<str>>,
    /// Its client, once it is known.
    pub client: Option<Box<str>>,
    /// What happened.
    pub event: Event,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client was let in.
    Greeted {
        /// Its protocol.
        version: Version,
        /// Its session was there before.
        session_present: bool,
    },
    /// It was not let in.
    Refused(ReasonCode),
    /// No complete CONNECT came within `connect_timeout_ms`.
    ConnectTimeout,
    /// The core has `connections_max`.
    ConnectionsMax,
    /// What came is not MQTT.
    NotMqtt,
    /// A setting is why the client is refused or closed next.
    Limit(Limit),
    /// The client was closed by us.
    Closed(ReasonCode),
    /// The client said goodbye.
    Left(ReasonCode),
    /// The client went without a word.
    Lost,
    /// A session has begun.
    SessionStarted,
    /// A session is no more.
    SessionEnded,
    /// A SUBSCRIBE is acknowledged.
    Subscribed,
    /// An UNSUBSCRIBE is.
    Unsubscribed,
    /// A filter of a SUBSCRIBE is not granted.
    SubscribeDenied(ReasonCode),
    /// The will of a client is published.
    WillPublished,
}

impl Event {
    /// The event in a word, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Greeted { .. } => "greeted",
            Event::Refused(_) => "refused",
            Event::ConnectTimeout => "connect_timeout",
            Event::ConnectionsMax => "connections_max",
            Event::NotMqtt => "not_mqtt",
            Event::Limit(limit) => limit.name(),
            Event::Closed(_) => "closed",
            Event::Left(_) => "left",
            Event::Lost => "lost",
            Event::SessionStarted => "session_started",
            Event::SessionEnded => "session_ended",
            Event::Subscribed => "subscribed",
            Event::Unsubscribed => "unsubscribed",
            Event::SubscribeDenied(_) => "subscribe_denied",
            Event::WillPublished => "will_published",
        }
    }

    /// The reason code that goes with it.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        match self {
            Event::Refused(reason) | Event::Closed(reason) | Event::Left(reason) => *reason,
            Event::SubscribeDenied(reason) => *reason,
            Event::Greeted { .. }
            | Event::SessionStarted
            | Event::SessionEnded
            | Event::Subscribed
            | Event::Unsubscribed
            | Event::WillPublished => ReasonCode::SUCCESS,
            _ => ReasonCode::UNSPECIFIED_ERROR,
        }
    }
}

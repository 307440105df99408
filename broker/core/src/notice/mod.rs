//! What the host may want to know of connections, sessions and messages. Said only if
//! [`Config::notices`](crate::config::Config) asks for it; of single messages only for tenants that have
//! [`Level::Debug`], and to traces.

mod kinds;

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt::{QoS, ReasonCode, Version};

use crate::access::Doubt;
use crate::counters::DropReason;
use crate::identity::ConnectionId;
use crate::limit::Limit;
use crate::message::Publication;

pub use kinds::{Kind, Level};

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
    /// The message that it happened to.
    pub message: Option<Box<About>>,
}

impl Notice {
    /// Its type, if it is one of those that tenants choose from.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.event.kind(self.message.as_ref().map_or(QoS::AtMostOnce, |message| message.qos))
    }
}

/// A message, as far as is known where something happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Empty if it is not known any more.
    pub topic: Box<str>,
    /// Of the step: as published, or as it is delivered.
    pub qos: QoS,
    /// Of its payload.
    pub bytes: u64,
    /// Under which it is acknowledged.
    pub packet_id: Option<u16>,
    /// Hash of the client id that published it.
    pub publisher: Option<u64>,
}

impl About {
    /// Of a message of which nothing is known any more.
    pub(crate) fn unknown() -> About {
        About { topic: "".into(), qos: QoS::AtMostOnce, bytes: 0, packet_id: None, publisher: None }
    }

    pub(crate) fn new(publication: &Publication<'_>, qos: QoS, packet_id: Option<mqtt::PacketId>) -> About {
        About {
            topic: publication.topic.into(),
            qos,
            bytes: publication.payload.len() as u64,
            packet_id: packet_id.map(mqtt::PacketId::get),
            publisher: Some(publication.publisher.client_hash),
        }
    }
}

/// Who a message is for, as its publisher's core knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matched {
    /// Sessions of that core that end with their connections.
    pub local: u32,
    /// Other cores that have such sessions.
    pub cores: u32,
    /// Sessions that outlive their connections.
    pub persistent: u32,
    /// Shared subscriptions.
    pub groups: u32,
    /// Sessions of that core that subscribe and may not receive it.
    pub denied: u32,
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
    /// It was not let in; why, if it is for what it has shown.
    Refused(ReasonCode, Option<Doubt>),
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
    /// It is not: its client may not publish there any more.
    WillDenied,
    /// The client gave up while it was asked who it is.
    AuthenticationAborted,
    /// The socket went before its client was let in; why, if it was closed for what it had shown.
    Abandoned(Option<Doubt>),
    /// The client asks whether we are there.
    Pinged,
    /// A message has come from a client.
    Received {
        /// It is to be kept.
        retain: bool,
    },
    /// It goes no further.
    PublishDenied(ReasonCode),
    /// Other cores are asked who wants it.
    RoutesAsked,
    /// It is known who wants it.
    Matched(Matched),
    /// It is not for all of them: a setting says no.
    FanOutLimited(Limit),
    /// It is in a session's queue, or on its way into the log for it.
    Queued,
    /// It is among the bytes for a client.
    Sent {
        /// Not for the first time, perhaps.
        dup: bool,
    },
    /// Somebody who should have had it does not get it.
    Dropped(DropReason),
    /// Its publisher does not want its own messages.
    NoLocal,
    /// Its receiver has it (PUBREC).
    Taken,
    /// Its receiver is done with it (PUBACK, PUBCOMP), or refuses it.
    Confirmed(ReasonCode),
    /// Its publisher is told so (PUBACK, PUBREC).
    Acknowledged(ReasonCode),
    /// It is on its way to where it is kept.
    Retained,
    /// What was kept is to go.
    RetainedCleared,
    /// It is not kept.
    RetainRefused(ReasonCode),
    /// A kept message is given to a new subscription.
    RetainedMatched,
}

impl Event {
    /// The event in a word, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::Greeted { .. } => "greeted",
            Event::Refused(..) => "refused",
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
            Event::WillDenied => "will_denied",
            Event::AuthenticationAborted => "authentication_aborted",
            Event::Abandoned(_) => "abandoned",
            Event::Pinged => "pinged",
            Event::Received { .. } => "received",
            Event::PublishDenied(_) => "publish_denied",
            Event::RoutesAsked => "routes_asked",
            Event::Matched(matched) if *matched == Matched::default() => "unmatched",
            Event::Matched(_) => "matched",
            Event::FanOutLimited(_) => "fan_out_limited",
            Event::Queued => "queued",
            Event::Sent { .. } => "sent",
            Event::Dropped(_) => "dropped",
            Event::NoLocal => "no_local",
            Event::Taken => "taken",
            Event::Confirmed(_) => "confirmed",
            Event::Acknowledged(_) => "acknowledged",
            Event::Retained => "retained",
            Event::RetainedCleared => "retained_cleared",
            Event::RetainRefused(_) => "retain_refused",
            Event::RetainedMatched => "retained_matched",
        }
    }

    /// The reason code that goes with it; for those without one, whether it is a good thing.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        let bad = matches!(
            self,
            Event::ConnectTimeout
                | Event::ConnectionsMax
                | Event::NotMqtt
                | Event::Limit(_)
                | Event::Lost
                | Event::WillDenied
                | Event::AuthenticationAborted
                | Event::Abandoned(_)
                | Event::FanOutLimited(_)
                | Event::Dropped(_)
        );
        let without = if bad { ReasonCode::UNSPECIFIED_ERROR } else { ReasonCode::SUCCESS };
        self.reason_code().unwrap_or(without)
    }

    /// What was wrong with what a client has shown that is not let in.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        match self {
            Event::Refused(_, doubt) | Event::Abandoned(doubt) => *doubt,
            _ => None,
        }
    }

    /// The reason code that clients are told, or tell us.
    #[must_use]
    pub fn reason_code(&self) -> Option<ReasonCode> {
        match self {
            Event::Refused(reason, _)
            | Event::Closed(reason)
            | Event::Left(reason)
            | Event::SubscribeDenied(reason)
            | Event::PublishDenied(reason)
            | Event::Confirmed(reason)
            | Event::Acknowledged(reason)
            | Event::RetainRefused(reason) => Some(*reason),
            _ => None,
        }
    }
}

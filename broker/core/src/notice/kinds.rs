//! Types of events, called as in BifroMQ as far as they have a meaning here, and how much a tenant has to want to know
//! to hear of them. `conf/README.md` has the list of theirs, and why some are left out.

use mqtt::{QoS, ReasonCode};

use super::{Event, Matched};
use crate::access::Doubt;
use crate::counters::DropReason;
use crate::limit::Limit;

/// How much is told of what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// What happens to connections and sessions.
    Normal,
    /// What happens to single messages and requests, too.
    Debug,
}

/// A type of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// From which level on it is told.
    pub level: Level,
}

macro_rules! kinds {
    ($($name:ident: $level:ident,)+) => {
        $(const $name: Kind = Kind { name: stringify!($name), level: Level::$level };)+

        impl Kind {
            /// All types that there are.
            pub const ALL: &'static [Kind] = &[$($name),+];
        }
    };
}

kinds! {
    AUTH_ERROR: Normal,
    ENHANCED_AUTH_ABORT_BY_CLIENT: Normal,
    UNAUTHENTICATED_CLIENT: Normal,
    NOT_AUTHORIZED_CLIENT: Normal,
    CHANNEL_ERROR: Normal,
    CONNECT_TIMEOUT: Normal,
    IDENTIFIER_REJECTED: Normal,
    PROTOCOL_ERROR: Normal,
    MALFORMED_WILL_TOPIC: Normal,
    UNACCEPTED_PROTOCOL_VER: Normal,
    CLIENT_CONNECTED: Normal,
    BAD_PACKET: Normal,
    BY_CLIENT: Normal,
    BY_SERVER: Normal,
    SERVER_BUSY: Normal,
    RESOURCE_THROTTLED: Normal,
    CLIENT_CHANNEL_ERROR: Normal,
    IDLE: Normal,
    INVALID_TOPIC: Normal,
    INVALID_TOPIC_FILTER: Normal,
    KICKED: Normal,
    SERVER_REDIRECTED: Normal,
    RE_AUTH_FAILED: Normal,
    PROTOCOL_VIOLATION: Normal,
    EXCEED_RECEIVING_LIMIT: Normal,
    TOO_LARGE_SUBSCRIPTION: Normal,
    OVERSIZE_PACKET_DROPPED: Debug,
    PING_REQ: Debug,
    DISCARD: Normal,
    WILL_DISTED: Normal,
    WILL_DIST_ERROR: Normal,
    QOS1_DIST_ERROR: Debug,
    QOS2_DIST_ERROR: Debug,
    PUB_ACKED: Debug,
    PUB_RECED: Debug,
    MSG_RETAINED: Debug,
    RETAIN_MSG_CLEARED: Debug,
    RETAIN_MSG_MATCHED: Debug,
    MSG_RETAINED_ERROR: Debug,
    QOS0_PUSHED: Debug,
    QOS0_DROPPED: Debug,
    QOS1_PUSHED: Debug,
    QOS1_DROPPED: Debug,
    QOS1_CONFIRMED: Debug,
    QOS2_PUSHED: Debug,
    QOS2_RECEIVED: Debug,
    QOS2_DROPPED: Debug,
    QOS2_CONFIRMED: Debug,
    PUB_ACTION_DISALLOW: Debug,
    SUB_ACTION_DISALLOW: Normal,
    SUB_ACKED: Debug,
    UNSUB_ACKED: Debug,
    DISTED: Debug,
    PERSISTENT_FANOUT_THROTTLED: Debug,
    PERSISTENT_FANOUT_BYTES_THROTTLED: Debug,
    GROUP_FANOUT_THROTTLED: Debug,
    DELIVERED: Debug,
    OVERFLOWED: Normal,
    OUT_OF_TENANT_RESOURCE: Normal,
    MQTT_SESSION_START: Normal,
    MQTT_SESSION_STOP: Normal,
}

impl Kind {
    /// Messages were not delivered, told once a second for each reason.
    #[must_use]
    pub fn of_losses(reason: DropReason) -> Kind {
        if reason == DropReason::QueueFull { OVERFLOWED } else { DISCARD }
    }
}

impl Event {
    /// Its type; None: it has none there, and is for traces alone. `qos` is that of the message it is about.
    #[must_use]
    pub fn kind(&self, qos: QoS) -> Option<Kind> {
        Some(match self {
            Event::Greeted { .. } => CLIENT_CONNECTED,
            Event::SessionStarted => MQTT_SESSION_START,
            Event::SessionEnded => MQTT_SESSION_STOP,
            Event::ConnectTimeout => CONNECT_TIMEOUT,
            Event::ConnectionsMax | Event::Abandoned(_) => CHANNEL_ERROR,
            Event::NotMqtt => PROTOCOL_ERROR,
            Event::Limit(Limit::SubscribeFilters) => TOO_LARGE_SUBSCRIPTION,
            Event::Limit(_) => OUT_OF_TENANT_RESOURCE,
            Event::Left(_) => BY_CLIENT,
            Event::Lost => CLIENT_CHANNEL_ERROR,
            Event::Subscribed => SUB_ACKED,
            Event::Unsubscribed => UNSUB_ACKED,
            Event::SubscribeDenied(_) => SUB_ACTION_DISALLOW,
            Event::WillPublished => WILL_DISTED,
            Event::WillDenied => WILL_DIST_ERROR,
            Event::AuthenticationAborted => ENHANCED_AUTH_ABORT_BY_CLIENT,
            Event::Refused(_, Some(Doubt::ServiceFailed)) => AUTH_ERROR,
            Event::Refused(reason, _) => refusal(*reason),
            Event::Closed(reason) => closing(*reason),
            Event::Pinged => PING_REQ,
            Event::PublishDenied(ReasonCode::NOT_AUTHORIZED) => PUB_ACTION_DISALLOW,
            Event::Matched(matched) if *matched != Matched::default() => DISTED,
            Event::FanOutLimited(Limit::PersistentFanOut) => PERSISTENT_FANOUT_THROTTLED,
            Event::FanOutLimited(Limit::PersistentFanOutBytes) => PERSISTENT_FANOUT_BYTES_THROTTLED,
            Event::FanOutLimited(_) => GROUP_FANOUT_THROTTLED,
            Event::Queued => DELIVERED,
            Event::Sent { .. } => by_qos(qos, [QOS0_PUSHED, QOS1_PUSHED, QOS2_PUSHED]),
            Event::Dropped(DropReason::TooLarge) => OVERSIZE_PACKET_DROPPED,
            Event::Dropped(_) | Event::NoLocal => by_qos(qos, [QOS0_DROPPED, QOS1_DROPPED, QOS2_DROPPED]),
            Event::Taken => QOS2_RECEIVED,
            Event::Confirmed(_) => by_qos(qos, [QOS1_CONFIRMED, QOS1_CONFIRMED, QOS2_CONFIRMED]),
            Event::Acknowledged(reason) if reason.is_error() => {
                by_qos(qos, [QOS1_DIST_ERROR, QOS1_DIST_ERROR, QOS2_DIST_ERROR])
            }
            Event::Acknowledged(_) => by_qos(qos, [PUB_ACKED, PUB_ACKED, PUB_RECED]),
            Event::Retained => MSG_RETAINED,
            Event::RetainedCleared => RETAIN_MSG_CLEARED,
            Event::RetainRefused(_) => MSG_RETAINED_ERROR,
            Event::RetainedMatched => RETAIN_MSG_MATCHED,
            Event::Received { .. } | Event::PublishDenied(_) | Event::RoutesAsked | Event::Matched(_) => {
                return None;
            }
        })
    }
}

fn by_qos(qos: QoS, kinds: [Kind; 3]) -> Kind {
    kinds[usize::from(qos.bits())]
}

/// Why a client was not let in.
fn refusal(reason: ReasonCode) -> Kind {
    match reason {
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => UNACCEPTED_PROTOCOL_VER,
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => IDENTIFIER_REJECTED,
        ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::BAD_AUTHENTICATION_METHOD => {
            UNAUTHENTICATED_CLIENT
        }
        ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => NOT_AUTHORIZED_CLIENT,
        ReasonCode::SERVER_BUSY | ReasonCode::SERVER_UNAVAILABLE => SERVER_BUSY,
        ReasonCode::QUOTA_EXCEEDED | ReasonCode::CONNECTION_RATE_EXCEEDED => RESOURCE_THROTTLED,
        ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED => SERVER_REDIRECTED,
        ReasonCode::TOPIC_NAME_INVALID => MALFORMED_WILL_TOPIC,
        ReasonCode::UNSPECIFIED_ERROR => AUTH_ERROR,
        _ => PROTOCOL_ERROR,
    }
}

/// Why we have closed a client.
fn closing(reason: ReasonCode) -> Kind {
    match reason {
        ReasonCode::MALFORMED_PACKET | ReasonCode::PACKET_TOO_LARGE => BAD_PACKET,
        ReasonCode::SERVER_SHUTTING_DOWN => BY_SERVER,
        ReasonCode::SERVER_BUSY => SERVER_BUSY,
        ReasonCode::KEEP_ALIVE_TIMEOUT => IDLE,
        ReasonCode::TOPIC_NAME_INVALID => INVALID_TOPIC,
        ReasonCode::TOPIC_FILTER_INVALID => INVALID_TOPIC_FILTER,
        ReasonCode::SESSION_TAKEN_OVER | ReasonCode::ADMINISTRATIVE_ACTION => KICKED,
        ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED => SERVER_REDIRECTED,
        ReasonCode::NOT_AUTHORIZED | ReasonCode::MAXIMUM_CONNECT_TIME => RE_AUTH_FAILED,
        ReasonCode::RECEIVE_MAXIMUM_EXCEEDED => EXCEED_RECEIVING_LIMIT,
        ReasonCode::QUOTA_EXCEEDED => RESOURCE_THROTTLED,
        _ => PROTOCOL_VIOLATION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each type stands once, and what happens to single messages is not told unasked.
    #[test]
    fn kinds_are_distinct() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        for event in [Event::Queued, Event::Sent { dup: false }, Event::Acknowledged(ReasonCode::SUCCESS)] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                assert_eq!(event.kind(qos).map(|kind| kind.level), Some(Level::Debug));
            }
        }
        assert_eq!(Event::Sent { dup: true }.kind(QoS::ExactlyOnce), Some(QOS2_PUSHED));
        assert_eq!(Event::Matched(Matched::default()).kind(QoS::AtMostOnce), None);
    }
}

//! The properties of a PUBLISH and of a will: typed where a server acts on them, raw bytes where it
//! only hands them on.

use crate::{DecodeError, Limits, UserProperties};

/// The properties of a PUBLISH or of a will. The default has none, as in 3.x.
///
/// A server must forward Payload Format Indicator, Content Type, Response Topic, Correlation Data
/// and the User Properties unaltered and in order [MQTT-3.3.2-4, -15, -16, -17, -18, -20]; these are
/// kept as the bytes they came in. Message Expiry is forwarded with the remaining time, Topic Alias
/// and Subscription Identifiers belong to one connection: they are typed and left out of the bytes.
#[derive(Clone, Copy, Default)]
pub struct PublishProperties<'a> {
    /// Stands for the topic on this connection; never 0.
    pub topic_alias: Option<u16>,
    /// Lifetime of the message in seconds.
    pub message_expiry: Option<u32>,
    /// The payload is UTF-8 text (Payload Format Indicator 1).
    pub payload_format_utf8: bool,
    /// Where a response should go; never empty, without wildcards.
    pub response_topic: Option<&'a str>,
    raw: &'a [u8],
}

impl<'a> PublishProperties<'a> {
    /// Reads a property block of a PUBLISH, without its length in front, and checks every rule.
    pub fn parse(raw: &'a [u8], limits: &Limits) -> Result<PublishProperties<'a>, DecodeError> {
        let _ = (raw, limits);
        unimplemented!("parse")
    }

    /// Whether there is no property at all.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Bytes [`write_forwarded`](Self::write_forwarded) appends.
    pub fn forwarded_bytes(&self) -> usize {
        unimplemented!("forwarded_bytes")
    }

    /// The properties to forward, when they lie together in the packet; else `None`, and
    /// [`write_forwarded`](Self::write_forwarded) gathers them.
    pub fn forwarded(&self) -> Option<&'a [u8]> {
        unimplemented!("forwarded")
    }

    /// Appends every property a server must forward unaltered, in the order they came.
    pub fn write_forwarded(&self, out: &mut Vec<u8>) {
        let _ = out;
        unimplemented!("write_forwarded")
    }

    /// MIME type of the payload, or whatever else the peers agreed on.
    pub fn content_type(&self) -> Option<&'a str> {
        unimplemented!("content_type")
    }

    /// What the requester recognises the response by.
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        unimplemented!("correlation_data")
    }

    /// The subscriptions that matched. A server sends them and must not receive them
    /// [MQTT-3.3.4-6]: it checks [`SubscriptionIds::is_empty`].
    pub fn subscription_ids(&self) -> SubscriptionIds<'a> {
        unimplemented!("subscription_ids")
    }

    /// In the order they came.
    pub fn user_properties(&self) -> UserProperties<'a> {
        unimplemented!("user_properties")
    }
}

impl core::fmt::Debug for PublishProperties<'_> {
    fn fmt(&self, _: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        unimplemented!("fmt")
    }
}

impl PartialEq for PublishProperties<'_> {
    fn eq(&self, _: &Self) -> bool {
        unimplemented!("eq")
    }
}

impl Eq for PublishProperties<'_> {}

/// The subscription identifiers of a PUBLISH, in the order they came: each 1 to 268 435 455.
#[derive(Clone, Copy, Default)]
pub struct SubscriptionIds<'a> {
    raw: &'a [u8],
}

impl SubscriptionIds<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }
}

impl Iterator for SubscriptionIds<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        unimplemented!("next")
    }
}

//! The properties of a PUBLISH and of a will: typed where a server acts on them, raw bytes where it
//! only hands them on.

use core::fmt;

use crate::property::{CheckedProperties, Properties, Property};
use crate::reader::Reader;
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
    subscription_id_count: u16,
    user_count: u16,
    block: &'a [u8],
    /// The part of the block from the first to the last property to forward.
    span: &'a [u8],
    /// Nothing in the span stays behind.
    span_is_whole: bool,
}

impl<'a> PublishProperties<'a> {
    /// Reads a property block of a PUBLISH, without its length in front, and checks every rule.
    pub fn parse(block: &'a [u8], limits: &Limits) -> Result<PublishProperties<'a>, DecodeError> {
        let mut read = PublishProperties::default();
        read.fill(Properties::new(block, limits), Owner::Publish)?;
        Ok(read)
    }

    /// Takes the properties of a PUBLISH out of its body.
    #[inline(always)]
    pub(crate) fn take(body: &mut Reader<'a>, limits: &Limits) -> Result<PublishProperties<'a>, DecodeError> {
        let mut read = PublishProperties::default();
        // Most messages have none.
        if let Some(rest) = body.rest().strip_prefix(&[0]) {
            *body = Reader::new(rest);
        } else {
            *body = read.fill_from(*body, limits)?;
        }
        Ok(read)
    }

    /// Answers with the body after the properties.
    #[inline(never)]
    fn fill_from(&mut self, mut body: Reader<'a>, limits: &Limits) -> Result<Reader<'a>, DecodeError> {
        self.fill(Properties::take(&mut body, limits)?, Owner::Publish)?;
        Ok(body)
    }

    /// Takes the properties of a will out of a CONNECT, and its delay in seconds.
    pub(crate) fn take_of_will(
        body: &mut Reader<'a>,
        limits: &Limits,
    ) -> Result<(PublishProperties<'a>, u32), DecodeError> {
        let mut read = PublishProperties::default();
        let will_delay = read.fill(Properties::take(body, limits)?, Owner::Will)?;
        Ok((read, will_delay))
    }

    /// Reads all of `properties`, and answers with the will's delay among them.
    fn fill(&mut self, mut properties: Properties<'a>, owner: Owner) -> Result<u32, DecodeError> {
        let mut will_delay = 0;
        // Offsets in the block, and how much between them is to be forwarded.
        let (mut span_start, mut span_end, mut forwarded_bytes) = (None, 0, 0);
        loop {
            let start = properties.offset();
            let Some(property) = properties.next()? else { break };
            match property {
                Property::PayloadFormatUtf8(utf8) => self.payload_format_utf8 = utf8,
                Property::MessageExpiry(seconds) => self.message_expiry = Some(seconds),
                Property::ResponseTopic(topic) => self.response_topic = Some(topic),
                Property::ContentType(_) | Property::CorrelationData(_) | Property::User(..) => {}
                Property::TopicAlias(alias) if owner == Owner::Publish => self.topic_alias = Some(alias),
                Property::SubscriptionId(_) if owner == Owner::Publish => self.subscription_id_count += 1,
                Property::WillDelay(seconds) if owner == Owner::Will => will_delay = seconds,
                _ => return Err(DecodeError::PropertyNotAllowed),
            }
            if is_forwarded(&property) {
                span_start.get_or_insert(start);
                span_end = properties.offset();
                forwarded_bytes += span_end - start;
            }
        }
        self.block = properties.block();
        self.user_count = properties.user_count();
        if let Some(span_start) = span_start {
            self.span = &self.block[span_start..span_end];
        }
        self.span_is_whole = self.span.len() == forwarded_bytes;
        Ok(will_delay)
    }

    /// Whether there is no property at all.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Bytes [`write_forwarded`](Self::write_forwarded) appends.
    pub fn forwarded_bytes(&self) -> usize {
        match self.forwarded() {
            Some(bytes) => bytes.len(),
            None => self.forwarded_pieces().map(<[u8]>::len).sum(),
        }
    }

    /// The properties to forward, when they lie together in the packet, which they nearly always do;
    /// else `None`, and [`write_forwarded`](Self::write_forwarded) gathers them.
    pub fn forwarded(&self) -> Option<&'a [u8]> {
        // The default has an empty span, for which the flag says nothing.
        (self.span_is_whole || self.span.is_empty()).then_some(self.span)
    }

    /// Appends every property a server must forward unaltered, in the order they came.
    pub fn write_forwarded(&self, out: &mut Vec<u8>) {
        match self.forwarded() {
            Some(bytes) => out.extend_from_slice(bytes),
            None => self.forwarded_pieces().for_each(|piece| out.extend_from_slice(piece)),
        }
    }

    pub(crate) fn forwarded_pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        CheckedProperties::new(self.span)
            .filter_map(|(property, bytes)| is_forwarded(&property).then_some(bytes))
    }

    /// MIME type of the payload, or whatever else the peers agreed on. Walks the properties.
    pub fn content_type(&self) -> Option<&'a str> {
        CheckedProperties::new(self.span).find_map(|(property, _)| match property {
            Property::ContentType(content_type) => Some(content_type),
            _ => None,
        })
    }

    /// What the requester recognises the response by. Walks the properties.
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        CheckedProperties::new(self.span).find_map(|(property, _)| match property {
            Property::CorrelationData(data) => Some(data),
            _ => None,
        })
    }

    /// The subscriptions that matched. A server sends them and must not receive them
    /// [MQTT-3.3.4-6]: it checks [`SubscriptionIds::is_empty`].
    pub fn subscription_ids(&self) -> SubscriptionIds<'a> {
        SubscriptionIds { block: self.block, left: self.subscription_id_count }
    }

    /// In the order they came.
    pub fn user_properties(&self) -> UserProperties<'a> {
        UserProperties::of_block(self.span, self.user_count)
    }
}

/// Whose properties they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Publish,
    Will,
}

/// Whether a server hands the property on as it is.
fn is_forwarded(property: &Property<'_>) -> bool {
    matches!(
        property,
        Property::PayloadFormatUtf8(_) // [MQTT-3.3.2-4]
            | Property::ResponseTopic(_) // [MQTT-3.3.2-15]
            | Property::CorrelationData(_) // [MQTT-3.3.2-16]
            | Property::User(..) // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
            | Property::ContentType(_) // [MQTT-3.3.2-20]
    )
}

impl fmt::Debug for PublishProperties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties = CheckedProperties::new(self.block).map(|(property, _)| property);
        formatter.debug_list().entries(properties).finish()
    }
}

/// Equal when a receiver could not tell them apart: what is forwarded byte by byte, the rest by value.
impl PartialEq for PublishProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.topic_alias == other.topic_alias
            && self.message_expiry == other.message_expiry
            && self.subscription_ids().eq(other.subscription_ids())
            && self.forwarded_pieces().flatten().eq(other.forwarded_pieces().flatten())
    }
}

impl Eq for PublishProperties<'_> {}

/// The subscription identifiers of a PUBLISH, in the order they came: each 1 to 268 435 455.
#[derive(Clone, Copy, Default)]
pub struct SubscriptionIds<'a> {
    block: &'a [u8],
    left: u16,
}

impl SubscriptionIds<'_> {
    /// How many are left.
    pub fn len(&self) -> usize {
        usize::from(self.left)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Iterator for SubscriptionIds<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let mut properties = CheckedProperties::new(self.block);
        let id = properties.find_map(|(property, _)| match property {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        });
        self.block = properties.rest();
        id
    }
}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

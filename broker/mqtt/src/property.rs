//! Hot path. The 27 properties of 5.0: what each is made of, and which values it may have.
//!
//! Which packet may carry which property stands in that packet's decoder: it matches the properties
//! it knows and refuses the rest.

use crate::reader::Reader;
use crate::{DecodeError, Limits, UserProperties};

/// Property identifiers. MQTT 5.0, 2.2.2.2.
pub(crate) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// One property, its value checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property<'a> {
    PayloadFormatUtf8(bool),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionId(u32),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    /// The highest QoS is 1, not 0; a server that takes QoS 2 leaves the property out.
    MaximumQos(bool),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionsAvailable(bool),
    SubscriptionIdsAvailable(bool),
    SharedSubscriptionsAvailable(bool),
}

impl<'a> Property<'a> {
    /// Reads one property with its identifier, and answers with both.
    ///
    /// Inlined into every loop over properties, as is [`Properties::next`]: a property is then never
    /// put together in memory only to be taken apart. 14 of 62 ns of a PUBLISH with three of them.
    #[inline(always)]
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<(u8, Property<'a>), DecodeError> {
        // A variable byte integer; but all that are named fit one byte, and a longer form of one of
        // them is not minimal.
        let id = reader.u8()?;
        let property = match id {
            id::PAYLOAD_FORMAT => Property::PayloadFormatUtf8(boolean(reader)?),
            id::MESSAGE_EXPIRY => Property::MessageExpiry(reader.u32()?),
            id::CONTENT_TYPE => Property::ContentType(reader.string()?),
            id::RESPONSE_TOPIC => Property::ResponseTopic(response_topic(reader)?),
            id::CORRELATION_DATA => Property::CorrelationData(reader.binary()?),
            id::SUBSCRIPTION_ID => {
                Property::SubscriptionId(nonzero(reader.varint()?, DecodeError::SubscriptionIdZero)?)
            }
            id::SESSION_EXPIRY => Property::SessionExpiry(reader.u32()?),
            id::ASSIGNED_CLIENT_ID => Property::AssignedClientId(reader.string()?),
            id::SERVER_KEEP_ALIVE => Property::ServerKeepAlive(reader.u16()?),
            id::AUTHENTICATION_METHOD => Property::AuthenticationMethod(reader.string()?),
            id::AUTHENTICATION_DATA => Property::AuthenticationData(reader.binary()?),
            id::REQUEST_PROBLEM_INFORMATION => Property::RequestProblemInformation(boolean(reader)?),
            id::WILL_DELAY => Property::WillDelay(reader.u32()?),
            id::REQUEST_RESPONSE_INFORMATION => Property::RequestResponseInformation(boolean(reader)?),
            id::RESPONSE_INFORMATION => Property::ResponseInformation(reader.string()?),
            id::SERVER_REFERENCE => Property::ServerReference(reader.string()?),
            id::REASON_STRING => Property::ReasonString(reader.string()?),
            id::RECEIVE_MAXIMUM => {
                Property::ReceiveMaximum(nonzero(reader.u16()?, DecodeError::ReceiveMaximumZero)?)
            }
            id::TOPIC_ALIAS_MAXIMUM => Property::TopicAliasMaximum(reader.u16()?),
            id::TOPIC_ALIAS => Property::TopicAlias(nonzero(reader.u16()?, DecodeError::TopicAliasZero)?),
            id::MAXIMUM_QOS => Property::MaximumQos(boolean(reader)?),
            id::RETAIN_AVAILABLE => Property::RetainAvailable(boolean(reader)?),
            id::USER => Property::User(reader.string()?, reader.string()?),
            id::MAXIMUM_PACKET_SIZE => {
                Property::MaximumPacketSize(nonzero(reader.u32()?, DecodeError::MaximumPacketSizeZero)?)
            }
            id::WILDCARD_AVAILABLE => Property::WildcardSubscriptionsAvailable(boolean(reader)?),
            id::SUBSCRIPTION_IDS_AVAILABLE => Property::SubscriptionIdsAvailable(boolean(reader)?),
            id::SHARED_AVAILABLE => Property::SharedSubscriptionsAvailable(boolean(reader)?),
            0x80.. => return Err(DecodeError::VarintNotMinimal),
            _ => return Err(DecodeError::PropertyUnknown),
        };
        Ok((id, property))
    }
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::PropertyBoolean),
    }
}

fn nonzero<T: Default + PartialEq>(value: T, error: DecodeError) -> Result<T, DecodeError> {
    if value == T::default() { Err(error) } else { Ok(value) }
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    match reader.topic() {
        Ok("") => Err(DecodeError::TopicEmpty),
        Err(DecodeError::TopicWildcard) => Err(DecodeError::ResponseTopicWildcard),
        answer => answer,
    }
}

/// The properties of one packet, read one after the other.
pub(crate) struct Properties<'a> {
    block: &'a [u8],
    reader: Reader<'a>,
    /// One bit per property identifier.
    seen: u64,
    user_count: u16,
    left: u16,
}

impl<'a> Properties<'a> {
    /// Takes the property block, with its length in front, out of a packet's body.
    pub(crate) fn take(packet: &mut Reader<'a>, limits: &Limits) -> Result<Properties<'a>, DecodeError> {
        let length = packet.varint()?;
        Ok(Properties::new(packet.take(length as usize)?, limits))
    }

    pub(crate) fn new(block: &'a [u8], limits: &Limits) -> Properties<'a> {
        let reader = Reader::new(block);
        Properties { block, reader, seen: 0, user_count: 0, left: limits.properties_max }
    }

    /// The next property. Refuses what came before, unless it may: user properties, and subscription
    /// identifiers, of which a PUBLISH may carry several and a SUBSCRIBE counts them itself.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Property<'a>>, DecodeError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or(DecodeError::PropertiesTooMany)?;
        let (id, property) = Property::decode(&mut self.reader)?;
        match property {
            Property::User(..) => self.user_count += 1,
            Property::SubscriptionId(_) => {}
            _ if self.seen & 1 << id != 0 => return Err(DecodeError::PropertyRepeated),
            _ => self.seen |= 1 << id,
        }
        Ok(Some(property))
    }

    /// The whole block, read or not.
    pub(crate) fn block(&self) -> &'a [u8] {
        self.block
    }

    /// Bytes of the block that were read.
    pub(crate) fn offset(&self) -> usize {
        self.block.len() - self.reader.len()
    }

    /// How many user properties were read so far.
    pub(crate) fn user_count(&self) -> u16 {
        self.user_count
    }

    /// The user properties among those read so far: all of them, at the end.
    pub(crate) fn user_properties(&self) -> UserProperties<'a> {
        UserProperties::of_block(self.block, self.user_count)
    }
}

/// Walks a property block that [`Properties`] has read to its end before: each property with the
/// bytes it is made of.
#[derive(Clone, Copy)]
pub(crate) struct CheckedProperties<'a> {
    reader: Reader<'a>,
}

impl<'a> CheckedProperties<'a> {
    pub(crate) fn new(block: &'a [u8]) -> CheckedProperties<'a> {
        CheckedProperties { reader: Reader::new(block) }
    }

    /// What was not walked yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.reader.rest()
    }
}

impl<'a> Iterator for CheckedProperties<'a> {
    type Item = (Property<'a>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let before = self.reader.rest();
        let (_, property) = Property::decode(&mut self.reader).expect("the packet's decoder read it");
        Some((property, &before[..before.len() - self.reader.len()]))
    }
}

/// The two properties that most packets of 5.0 carry and many carry alone.
#[derive(Default)]
pub(crate) struct Diagnostics<'a> {
    pub(crate) reason_string: Option<&'a str>,
    pub(crate) user_properties: UserProperties<'a>,
}

impl<'a> Diagnostics<'a> {
    /// Takes a property block that may hold nothing else.
    pub(crate) fn take(packet: &mut Reader<'a>, limits: &Limits) -> Result<Diagnostics<'a>, DecodeError> {
        let mut properties = Properties::take(packet, limits)?;
        let mut reason_string = None;
        while let Some(property) = properties.next()? {
            match property {
                Property::ReasonString(text) => reason_string = Some(text),
                Property::User(..) => {}
                _ => return Err(DecodeError::PropertyNotAllowed),
            }
        }
        Ok(Diagnostics { reason_string, user_properties: properties.user_properties() })
    }
}

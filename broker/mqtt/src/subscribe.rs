//! SUBSCRIBE: topic filters, each with its options.

use core::fmt;

use crate::property::{Properties, Property};
use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketId, QoS, UserProperties, Version};

/// A SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The identifier the SUBACK answers with.
    pub packet_id: PacketId,
    /// 1 to 268 435 455. 5.0 only.
    pub subscription_id: Option<u32>,
    /// 5.0 only.
    pub user_properties: UserProperties<'a>,
    /// At least one. [MQTT-3.8.3-2]
    pub filters: SubscribeFilters<'a>,
}

/// The topic filters of a SUBSCRIBE in their order: an iterator that can be copied and run again.
#[derive(Clone, Copy)]
pub struct SubscribeFilters<'a> {
    body: Reader<'a>,
    left: u16,
}

/// One topic filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// Never empty; its wildcards are for [`validate_filter`](crate::validate_filter) to judge, as a
    /// bad filter is refused alone and not with its packet.
    pub filter: &'a str,
    /// What the subscriber wants of it.
    pub options: SubscriptionOptions,
}

/// The options byte of a subscription; 3.x has the QoS alone.
///
/// ```text
/// bits 0-1 QoS   bit 2 no local   bit 3 retain as published   bits 4-5 retain handling   6-7 zero
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscriptionOptions {
    /// Highest QoS messages are sent with.
    pub qos: QoS,
    /// Messages of the subscriber itself are not sent back to it.
    pub no_local: bool,
    /// The retain flag is passed on as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// When a subscription is sent the retained messages that match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only when the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// The options byte of 5.0.
    pub const fn bits(self) -> u8 {
        self.qos.bits()
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    /// The options of a byte as 5.0 writes it; `None` for reserved bits and values.
    pub fn from_bits(bits: u8) -> Option<SubscriptionOptions> {
        SubscriptionOptions::decode(Version::V5, bits).ok()
    }

    fn decode(version: Version, bits: u8) -> Result<SubscriptionOptions, DecodeError> {
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if bits & reserved != 0 {
            return Err(DecodeError::SubscriptionReservedBits); // [MQTT-3.8.3-5]
        }
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::RetainHandling),
        };
        Ok(SubscriptionOptions {
            qos: QoS::from_bits(bits & 0x03).ok_or(DecodeError::SubscriptionQos)?,
            no_local: bits & 0x04 != 0,
            retain_as_published: bits & 0x08 != 0,
            retain_handling,
        })
    }
}

impl<'a> Subscribe<'a> {
    /// The body of a SUBSCRIBE.
    pub(crate) fn decode(
        version: Version,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<Subscribe<'a>, DecodeError> {
        let packet_id = body.packet_id()?;
        let mut subscription_id = None;
        let mut user_properties = UserProperties::default();
        if version == Version::V5 {
            let mut properties = Properties::take(&mut body, limits)?;
            while let Some(property) = properties.next()? {
                match property {
                    Property::SubscriptionId(_) if subscription_id.is_some() => {
                        return Err(DecodeError::PropertyRepeated);
                    }
                    Property::SubscriptionId(id) => subscription_id = Some(id),
                    Property::User(..) => {}
                    _ => return Err(DecodeError::PropertyNotAllowed),
                }
            }
            user_properties = properties.user_properties();
        }
        let filters = SubscribeFilters::decode(version, body, limits)?;
        Ok(Subscribe { packet_id, subscription_id, user_properties, filters })
    }
}

impl<'a> SubscribeFilters<'a> {
    /// Everything that is left of a body: at least one filter, each of them checked.
    fn decode(
        version: Version,
        body: Reader<'a>,
        limits: &Limits,
    ) -> Result<SubscribeFilters<'a>, DecodeError> {
        let mut left = 0;
        let mut unread = body;
        while !unread.is_empty() {
            if left == limits.filters_max {
                return Err(DecodeError::FiltersTooMany);
            }
            SubscribeFilter::take(version, &mut unread)?;
            left += 1;
        }
        if left == 0 {
            return Err(DecodeError::SubscribeEmpty); // [MQTT-3.8.3-2]
        }
        Ok(SubscribeFilters { body, left })
    }
}

impl<'a> SubscribeFilter<'a> {
    #[inline]
    fn take(version: Version, body: &mut Reader<'a>) -> Result<SubscribeFilter<'a>, DecodeError> {
        let filter = body.string()?; // [MQTT-3.8.3-1]
        let options = SubscriptionOptions::decode(version, body.u8()?)?;
        if filter.is_empty() {
            return Err(DecodeError::FilterEmpty); // [MQTT-4.7.3-1]
        }
        let shared = filter.starts_with("$share/") || filter.starts_with("$oshare/");
        if options.no_local && shared {
            return Err(DecodeError::NoLocalOnShared); // [MQTT-3.8.3-4]
        }
        Ok(SubscribeFilter { filter, options })
    }
}

impl SubscribeFilters<'_> {
    /// How many filters there are.
    pub fn len(&self) -> usize {
        usize::from(self.left)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = SubscribeFilter<'a>;

    fn next(&mut self) -> Option<SubscribeFilter<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Whatever 3.x allows means the same in 5.0.
        let filter = SubscribeFilter::take(Version::V5, &mut self.body);
        Some(filter.expect("the packet's decoder read it"))
    }
}

impl fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl PartialEq for SubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        (*self).eq(*other)
    }
}

impl Eq for SubscribeFilters<'_> {}

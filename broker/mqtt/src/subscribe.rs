//! SUBSCRIBE: topic filters, each with its options.

use crate::{PacketId, QoS, UserProperties};

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
    raw: &'a [u8],
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
    pub const fn from_bits(bits: u8) -> Option<SubscriptionOptions> {
        let retain_handling = match bits >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        let Some(qos) = QoS::from_bits(bits & 0x03) else { return None };
        Some(SubscriptionOptions {
            qos,
            no_local: bits & 0x04 != 0,
            retain_as_published: bits & 0x08 != 0,
            retain_handling,
        })
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
        let _ = self.raw;
        unimplemented!("next")
    }
}

impl core::fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl PartialEq for SubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        (*self).eq(*other)
    }
}

impl Eq for SubscribeFilters<'_> {}

//! How a subscription wants its messages, and the QoS and flags a message gets because of it.

use mqtt::{QoS, SubscriptionOptions};

use crate::message::Publication;

/// The options of one subscription that matter on delivery, in 32 bits, so that a fan-out list is flat:
/// `subscription id (28) | no local | retain as published | QoS (2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryOptions(u32);

impl DeliveryOptions {
    const NO_LOCAL: u32 = 1 << 3;
    const RETAIN_AS_PUBLISHED: u32 = 1 << 2;

    /// Packs a subscription's options; `subscription_id` is 0 for none.
    #[must_use]
    pub fn new(options: SubscriptionOptions, subscription_id: Option<u32>) -> DeliveryOptions {
        let id = subscription_id.unwrap_or(0);
        debug_assert!(id < 1 << 28, "checked by the decoder");
        DeliveryOptions(
            id << 4
                | if options.no_local { Self::NO_LOCAL } else { 0 }
                | if options.retain_as_published { Self::RETAIN_AS_PUBLISHED } else { 0 }
                | u32::from(options.qos.bits()),
        )
    }

    /// The same, with the retain flag passed on.
    #[must_use]
    pub fn with_retain_as_published(self) -> DeliveryOptions {
        DeliveryOptions(self.0 | Self::RETAIN_AS_PUBLISHED)
    }

    /// The packed form, as it is stored.
    #[must_use]
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// From the packed form that [`DeliveryOptions::to_bits`] gave.
    #[must_use]
    pub fn from_bits(bits: u32) -> DeliveryOptions {
        DeliveryOptions(bits)
    }

    /// The subscription's maximum QoS.
    #[must_use]
    pub fn qos(self) -> QoS {
        QoS::from_bits((self.0 & 3) as u8).expect("packed from a QoS")
    }

    /// The subscriber's own messages are not for it.
    #[must_use]
    pub fn no_local(self) -> bool {
        self.0 & Self::NO_LOCAL != 0
    }

    /// The retain flag is passed on.
    #[must_use]
    pub fn retain_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }

    /// The subscription identifier, 0 for none.
    #[must_use]
    pub fn subscription_id(self) -> u32 {
        self.0 >> 4
    }

    /// QoS [MQTT-3.8.4-8] and retain flag [MQTT-3.3.1-12, -13] of a message under this subscription.
    #[must_use]
    pub fn apply(self, publication: &Publication<'_>) -> (QoS, bool) {
        (publication.qos.min(self.qos()), publication.retain && self.retain_as_published())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything packed comes out again.
    #[test]
    fn options_survive_packing() {
        for bits in [0, 0b1110, 0b0101, 0b1000] {
            let options = SubscriptionOptions::from_bits(bits).unwrap();
            for id in [None, Some(1), Some(268_435_455)] {
                let packed = DeliveryOptions::new(options, id);
                assert_eq!(packed.qos(), options.qos);
                assert_eq!(packed.no_local(), options.no_local);
                assert_eq!(packed.retain_as_published(), options.retain_as_published);
                assert_eq!(packed.subscription_id(), id.unwrap_or(0));
            }
        }
    }
}

//! What a tenant's messages come to on one core.
//!
//! Hot path.

use mqtt::QoS;

use crate::counters::DROP_REASONS;

/// Messages in one direction, by QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// PUBLISH packets.
    pub messages: [u64; 3],
    /// Bytes of their payloads.
    pub payload_bytes: [u64; 3],
}

/// One tenant's messages on one core. Written by its core alone; the admin gets copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From clients.
    pub received: Flow,
    /// To clients.
    pub sent: Flow,
    /// Not delivered, by [`DropReason`](crate::counters::DropReason).
    pub dropped: [u64; DROP_REASONS],
}

impl Flow {
    /// Counts a PUBLISH packet.
    pub(crate) fn count(&mut self, qos: QoS, payload: &[u8]) {
        let qos = usize::from(qos.bits());
        self.messages[qos] += 1;
        self.payload_bytes[qos] += payload.len() as u64;
    }

    /// Adds another core's.
    pub fn add(&mut self, other: &Flow) {
        for (sum, count) in self.messages.iter_mut().zip(other.messages) {
            *sum += count;
        }
        for (sum, count) in self.payload_bytes.iter_mut().zip(other.payload_bytes) {
            *sum += count;
        }
    }
}

impl Traffic {
    /// Adds another core's.
    pub fn add(&mut self, other: &Traffic) {
        self.received.add(&other.received);
        self.sent.add(&other.sent);
        for (sum, count) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += count;
        }
    }
}

//! Hot path. Packet identifiers of one connection's own messages: which are in flight, and since when.

use mqtt::PacketId;

/// Where a message in flight stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Slot {
    #[default]
    Free,
    /// PUBLISH sent, at this time.
    Sent(u64),
    /// QoS 2: PUBREC seen, PUBREL sent.
    Released(u64),
}

/// Hands out identifiers in turn; grows with what is in flight.
#[derive(Debug)]
pub(crate) struct PacketIds {
    slots: Vec<Slot>,
    cursor: usize,
    inflight: u32,
}

impl PacketIds {
    /// None in flight, with room for `window` before it grows.
    pub(crate) fn new(window: u32) -> PacketIds {
        let slots = (window as usize * 2).clamp(4, usize::from(u16::MAX));
        PacketIds { slots: vec![Slot::Free; slots], cursor: 0, inflight: 0 }
    }

    /// Messages in flight.
    pub(crate) fn inflight(&self) -> u32 {
        self.inflight
    }

    /// An identifier that is not in flight; `None` when all 65 535 are.
    pub(crate) fn take(&mut self, now: u64) -> Option<PacketId> {
        if self.inflight as usize == self.slots.len() {
            let grown = (self.slots.len() * 2).min(usize::from(u16::MAX));
            if grown == self.slots.len() {
                return None;
            }
            self.cursor = self.slots.len();
            self.slots.resize(grown, Slot::Free);
        }
        while self.slots[self.cursor] != Slot::Free {
            self.cursor = (self.cursor + 1) % self.slots.len();
        }
        let index = self.cursor;
        self.slots[index] = Slot::Sent(now);
        self.cursor = (index + 1) % self.slots.len();
        self.inflight += 1;
        PacketId::new(u16::try_from(index + 1).ok()?)
    }

    /// PUBACK, or PUBREC with an error: the message is through. Says when it was sent; `None` for
    /// an identifier that waits for no such answer.
    pub(crate) fn finish_sent(&mut self, id: PacketId) -> Option<u64> {
        let slot = self.slots.get_mut(usize::from(id.get()) - 1)?;
        let Slot::Sent(since) = *slot else { return None };
        *slot = Slot::Free;
        self.inflight -= 1;
        Some(since)
    }

    /// PUBREC: the message waits for PUBCOMP now. `false` for an identifier that waits for neither.
    pub(crate) fn release(&mut self, id: PacketId) -> bool {
        match self.slots.get_mut(usize::from(id.get()) - 1) {
            Some(slot) => match *slot {
                Slot::Sent(since) => {
                    *slot = Slot::Released(since);
                    true
                }
                Slot::Released(_) => true,
                Slot::Free => false,
            },
            None => false,
        }
    }

    /// PUBCOMP: the message is through. Says when it was sent.
    pub(crate) fn finish_released(&mut self, id: PacketId) -> Option<u64> {
        let slot = self.slots.get_mut(usize::from(id.get()) - 1)?;
        let Slot::Released(since) = *slot else { return None };
        *slot = Slot::Free;
        self.inflight -= 1;
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No identifier is handed out twice while in flight, through growth up to the last one.
    #[test]
    fn every_identifier_is_used_once() {
        let mut ids = PacketIds::new(1);
        let mut seen = vec![false; 65_536];
        for _ in 0..65_535 {
            let id = ids.take(0).expect("one is free");
            assert!(!std::mem::replace(&mut seen[usize::from(id.get())], true));
        }
        assert_eq!(ids.take(0), None);
        let id = PacketId::new(77).unwrap();
        assert_eq!(ids.finish_sent(id), Some(0));
        assert_eq!(ids.take(5), Some(id));
    }

    /// The QoS 2 exchange goes PUBREC then PUBCOMP; answers out of place are told apart.
    #[test]
    fn answers_out_of_place_are_refused() {
        let mut ids = PacketIds::new(2);
        let id = ids.take(9).unwrap();
        assert_eq!(ids.finish_released(id), None);
        assert!(ids.release(id));
        assert_eq!(ids.finish_sent(id), None);
        assert_eq!(ids.finish_released(id), Some(9));
        assert!(!ids.release(id));
        assert_eq!(ids.inflight(), 0);
    }
}

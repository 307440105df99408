//! Hot path. The completion window: acknowledgements leave in the order of their publishes, whatever the
//! order in which they become ready [MQTT-4.6.0-2, MQTT-4.6.0-3].

use std::collections::VecDeque;

use mqtt::{PacketId, ReasonCode};

/// The publishes of one connection that are not acknowledged yet, oldest first. Also those of QoS 0 that
/// wait for a look-up, so that their number is bounded like that of the others.
#[derive(Debug, Default)]
pub struct CompletionWindow {
    /// Number of the slot in front.
    front: u64,
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    kind: Completion,
    /// Answers that are still to come.
    waiting: u16,
    reason: ReasonCode,
}

/// What is owed to the client when a publish is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Nothing: QoS 0.
    Nothing,
    /// PUBACK.
    PubAck(PacketId),
    /// PUBREC.
    PubRec(PacketId),
}

/// Names a slot for as long as its connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotNumber(pub u64);

impl CompletionWindow {
    /// Publishes that wait.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Number of the publish that has waited longest.
    pub fn front(&self) -> u64 {
        self.front
    }

    /// QoS 2 messages: the number, the packet identifier, the answers to come, and the reason so far.
    pub fn taken(&self) -> impl Iterator<Item = (SlotNumber, PacketId, u16, ReasonCode)> {
        (self.front..).map(SlotNumber).zip(&self.slots).filter_map(|(number, slot)| match slot.kind {
            Completion::PubRec(packet_id) => Some((number, packet_id, slot.waiting, slot.reason)),
            Completion::PubAck(_) | Completion::Nothing => None,
        })
    }

    /// What is owed, oldest first.
    pub fn completions(&self) -> impl Iterator<Item = Completion> {
        self.slots.iter().map(|slot| slot.kind)
    }

    /// The number that the next [`open`](Self::open) will give.
    pub fn next_number(&self) -> SlotNumber {
        SlotNumber(self.front + self.slots.len() as u64)
    }

    /// A publish was received; `waiting` answers are to come (0: it is complete as soon as it is in front).
    pub fn open(&mut self, kind: Completion, waiting: u16, reason: ReasonCode) -> SlotNumber {
        let number = self.next_number();
        self.slots.push_back(Slot { kind, waiting, reason });
        number
    }

    /// `more` further answers are to come for a slot, one of those it waited for has come with `reason`.
    /// The first error stays; a success never covers it.
    pub fn answer(&mut self, number: SlotNumber, more: u16, reason: ReasonCode) {
        let Some(slot) = number
            .0
            .checked_sub(self.front)
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.slots.get_mut(index))
        else {
            return;
        };
        slot.waiting = (slot.waiting + more).saturating_sub(1);
        let undecided = slot.reason == ReasonCode::SUCCESS;
        if undecided || (reason.is_error() && !slot.reason.is_error()) {
            slot.reason = reason;
        }
    }

    /// The next acknowledgement that may leave.
    pub fn pop_complete(&mut self) -> Option<(Completion, ReasonCode)> {
        let slot = self.slots.pop_front_if(|slot| slot.waiting == 0)?;
        self.front += 1;
        if self.slots.is_empty() {
            self.slots = VecDeque::new();
        }
        Some((slot.kind, slot.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    /// [MQTT-4.6.0-2]: a later publish that is ready first waits for the earlier ones.
    #[test]
    fn acknowledgements_keep_the_order_of_publishes() {
        let mut window = CompletionWindow::default();
        let first = window.open(Completion::PubAck(id(1)), 2, ReasonCode::SUCCESS);
        let second = window.open(Completion::PubRec(id(2)), 1, ReasonCode::SUCCESS);
        window.open(Completion::PubAck(id(3)), 0, ReasonCode::NO_MATCHING_SUBSCRIBERS);
        window.answer(second, 0, ReasonCode::SUCCESS);
        assert_eq!(window.pop_complete(), None);
        window.answer(first, 0, ReasonCode::QUOTA_EXCEEDED);
        assert_eq!(window.pop_complete(), None);
        window.answer(first, 0, ReasonCode::SUCCESS);
        assert_eq!(window.pop_complete(), Some((Completion::PubAck(id(1)), ReasonCode::QUOTA_EXCEEDED)));
        assert_eq!(window.pop_complete(), Some((Completion::PubRec(id(2)), ReasonCode::SUCCESS)));
        let last = (Completion::PubAck(id(3)), ReasonCode::NO_MATCHING_SUBSCRIBERS);
        assert_eq!(window.pop_complete(), Some(last));
        assert_eq!(window.pop_complete(), None);
    }

    /// Answers for slots that are gone change nothing.
    #[test]
    fn late_answers_are_ignored() {
        let mut window = CompletionWindow::default();
        let first = window.open(Completion::PubAck(id(1)), 1, ReasonCode::SUCCESS);
        window.answer(first, 0, ReasonCode::SUCCESS);
        assert!(window.pop_complete().is_some());
        let second = window.open(Completion::PubAck(id(2)), 1, ReasonCode::SUCCESS);
        window.answer(first, 0, ReasonCode::SUCCESS);
        assert_eq!(window.pop_complete(), None);
        window.answer(second, 0, ReasonCode::SUCCESS);
        assert!(window.pop_complete().is_some());
    }
}

//! The messages that wait for one session, by their place in its sequence.
//!
//! ```text
//!  first                 sent_before                 end
//!    │  may have been sent    │      never sent       │
//!    ▼                        ▼                       ▼
//!  [ R │ W │ D │ W │ W │ D │  W │ W │ W │ D │ W │ W ]      W waiting, R received, D done
//! ```
//!
//! The packet identifier of a message is its place in the sequence modulo 65 535, plus 1, so no place is ever
//! given to another message: one that is finished in the middle stays as a hole until all before it are.

use std::cell::Cell;

use mqtt::QoS;

use super::GroupNumber;
use super::places::Places;
use crate::delivery::DeliveryOptions;
use crate::expiring::Searched;
use crate::ranges::MessageId;
use crate::time::Wall;

/// Holes above which nothing is given up for newer messages: the client holds an old one unacknowledged for so
/// long that its packet identifiers are used up anyway.
const HOLES_MAX: usize = 65_535;

/// A place in a session's sequence of messages; the first is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// One message for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub message: MessageId,
    /// Seconds since 1970 when it expires, rounded up; `u32::MAX` if it does not.
    pub expires_seconds: u32,
    /// What it counts against the queue's limit.
    pub bytes: u32,
    /// Of the subscription it came by.
    pub options: DeliveryOptions,
    /// The shared subscription it came by.
    pub group: Option<GroupNumber>,
    /// To be sent with.
    pub qos: QoS,
    /// To be sent with.
    pub retain: bool,
    /// How far it has come.
    pub state: State,
}

const _: () = assert!(size_of::<Entry>() == 32, "places.rs says what a queued message costs");

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not acknowledged.
    Waiting,
    /// QoS 2: PUBREC has come, PUBCOMP has not. The message itself is gone.
    Received,
    /// Finished: a hole.
    Done,
}

/// What a queue may hold: the tenant's settings, as they stood when the message was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `queue_messages_max`
    pub messages: u32,
    /// `queue_bytes_max`
    pub bytes: u64,
    /// `queue_drop` is oldest.
    pub drop_oldest: bool,
}

/// What became of a message offered to a queue, and of others because of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Its place; none if the queue is full.
    pub sequence: Option<Sequence>,
    /// Older ones given up for it.
    pub displaced: u32,
    /// Older ones that had expired.
    pub expired: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Queue {
    places: Places,
    first: u64,
    sent_before: u64,
    /// Oldest messages before this place have been given up already; found out again after a restart.
    kept_before: u64,
    /// All with QoS 0 are before this place.
    plain_before: u64,
    bytes: u64,
    /// How far it was searched for what has expired. It follows from the rest, and changes nothing of it.
    searched: Cell<Searched>,
}

impl Queue {
    /// The queue that a checkpoint has, with all places.
    pub(super) fn restored(
        first: Sequence,
        sent_before: Sequence,
        entries: impl Iterator<Item = Entry>,
    ) -> Queue {
        let mut queue = Queue { first: first.0, sent_before: sent_before.0, ..Queue::default() };
        for entry in entries {
            queue.bytes += entry.held_bytes();
            queue.push_entry(&entry);
        }
        queue
    }

    /// Messages that are not finished.
    pub fn len(&self) -> u32 {
        self.places.live()
    }

    /// Whether no message is unfinished.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the messages that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The place of the oldest message that is not finished, or of the next to come.
    pub fn first(&self) -> Sequence {
        Sequence(self.first)
    }

    /// The place that the next message will have.
    pub fn end(&self) -> Sequence {
        Sequence(self.first + self.places.len() as u64)
    }

    /// Messages before this place may have been sent by a connection.
    pub fn sent_before(&self) -> Sequence {
        Sequence(self.sent_before)
    }

    /// No message from this place on has QoS 0.
    pub fn plain_before(&self) -> Sequence {
        Sequence(self.plain_before)
    }

    /// The message at a place, if it is not finished.
    pub fn get(&self, place: Sequence) -> Option<Entry> {
        self.unfinished(place).map(|(_, entry)| entry)
    }

    /// What is unfinished from a place on, in order.
    pub fn from(&self, from: Sequence) -> impl Iterator<Item = (Sequence, Entry)> {
        let skip = usize::try_from(from.0.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let skip = skip.min(self.places.len());
        let base = self.first + skip as u64;
        let places = (base..).map(Sequence);
        places.zip(self.places.from(skip)).filter(|(_, entry)| entry.state != State::Done)
    }

    /// All places, holes too, for a checkpoint.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.places.from(0)
    }

    /// Whether a message of so many bytes would find room, without any other leaving for it. Alone it always
    /// does: a packet that was taken from its publisher can be delivered.
    pub fn has_room(&self, bytes: u32, limits: &Limits) -> bool {
        self.len() < limits.messages && (self.is_empty() || self.bytes + u64::from(bytes) <= limits.bytes)
    }

    /// The same at a moment: what has expired by then, and was never sent, leaves for it.
    pub fn has_room_at(&self, bytes: u32, limits: &Limits, now: Wall) -> bool {
        if !self.has_expired(now) {
            return self.has_room(bytes, limits);
        }
        let (mut live, mut held) = (self.len(), self.bytes);
        for entry in self.places.from(self.unsent()) {
            if entry.state == State::Waiting && entry.is_expired(now) {
                live -= 1;
                held -= u64::from(entry.bytes);
            }
        }
        live < limits.messages && (live == 0 || held + u64::from(bytes) <= limits.bytes)
    }

    /// Offers a message; what leaves for it is appended to `finished`, as the other changes do with messages that
    /// are not needed any more. While a client is `connected` its core says what has expired, because it knows what
    /// was sent.
    pub(super) fn push(
        &mut self,
        entry: Entry,
        limits: &Limits,
        (now, connected): (Wall, bool),
        finished: &mut Vec<Entry>,
    ) -> Pushed {
        let mut pushed = Pushed::default();
        if !connected && !self.has_room(entry.bytes, limits) {
            pushed.expired = self.purge_expired(now, finished);
        }
        let hopeless = u64::from(entry.bytes) > limits.bytes || limits.messages == 0;
        while !self.has_room(entry.bytes, limits) {
            if !limits.drop_oldest || hopeless || self.holes() >= HOLES_MAX || !self.displace(finished) {
                return pushed;
            }
            pushed.displaced += 1;
        }
        pushed.sequence = Some(self.end());
        self.bytes += u64::from(entry.bytes);
        self.push_entry(&entry);
        pushed
    }

    /// Whether something has expired and was never sent. What was looked at is not looked at again before it may have.
    fn has_expired(&self, now: Wall) -> bool {
        let mut searched = self.searched.get();
        let begin = searched.begin(self.first + self.unsent() as u64, now);
        let skip = usize::try_from(begin - self.first).unwrap_or(usize::MAX).min(self.places.len());
        let mut found = false;
        for entry in self.places.from(skip).filter(|entry| entry.state == State::Waiting) {
            found |= entry.is_expired(now);
            searched.see(entry.expires());
        }
        searched.end(self.end().0);
        self.searched.set(searched);
        found
    }

    fn push_entry(&mut self, entry: &Entry) {
        self.places.push(entry);
        if entry.qos == QoS::AtMostOnce {
            self.plain_before = self.end().0;
        }
    }

    /// Finishes what has expired and was never sent: how many.
    fn purge_expired(&mut self, now: Wall, finished: &mut Vec<Entry>) -> u32 {
        if !self.has_expired(now) {
            return 0;
        }
        let mut count = 0;
        for index in self.unsent()..self.places.len() {
            let entry = self.places.get(index).expect("it is one of them");
            if entry.state == State::Waiting && entry.is_expired(now) {
                self.finish_at((index, entry), finished);
                count += 1;
            }
        }
        self.pop_holes();
        count
    }

    /// Gives up the oldest message that was never sent; false if there is none.
    fn displace(&mut self, finished: &mut Vec<Entry>) -> bool {
        let unsent = self.unsent();
        let mut entries = (unsent..).zip(self.places.from(unsent));
        let oldest = entries.find(|(_, entry)| entry.state == State::Waiting);
        drop(entries);
        let Some((index, entry)) = oldest else { return false };
        self.finish_at((index, entry), finished);
        // What lies before is never looked at again.
        self.kept_before = self.first + index as u64 + 1;
        self.pop_holes();
        true
    }

    /// Index of the first entry that may be given up for others.
    fn unsent(&self) -> usize {
        let kept = self.sent_before.max(self.kept_before).saturating_sub(self.first);
        usize::try_from(kept).unwrap_or(usize::MAX).min(self.places.len())
    }

    fn holes(&self) -> usize {
        self.places.len() - self.len() as usize
    }

    /// A message is acknowledged, refused or given up: false if it was finished already.
    pub(super) fn finish(&mut self, sequence: Sequence, finished: &mut Vec<Entry>) -> bool {
        let Some(found) = self.unfinished(sequence) else { return false };
        self.finish_at(found, finished);
        self.pop_holes();
        true
    }

    /// QoS 2: the client has the message, the handshake goes on. False if that was known, or it is finished.
    pub(super) fn receive(&mut self, sequence: Sequence, finished: &mut Vec<Entry>) -> bool {
        let Some((index, entry)) = self.unfinished(sequence) else { return false };
        if entry.state == State::Received || entry.qos != QoS::ExactlyOnce {
            return false;
        }
        finished.push(entry);
        self.bytes -= entry.held_bytes();
        self.places.set_state(index, State::Received);
        true
    }

    /// Messages before this place may have been sent.
    pub(super) fn mark_sent(&mut self, before: Sequence) {
        self.sent_before = self.sent_before.max(before.0.min(self.end().0));
    }

    fn unfinished(&self, sequence: Sequence) -> Option<(usize, Entry)> {
        let index = usize::try_from(sequence.0.checked_sub(self.first)?).ok()?;
        let entry = self.places.get(index).filter(|entry| entry.state != State::Done)?;
        Some((index, entry))
    }

    fn finish_at(&mut self, (index, entry): (usize, Entry), finished: &mut Vec<Entry>) {
        if entry.state == State::Waiting {
            finished.push(entry);
        }
        self.bytes -= entry.held_bytes();
        self.places.set_state(index, State::Done);
    }

    fn pop_holes(&mut self) {
        while self.places.pop_done() {
            self.first += 1;
        }
    }
}

impl Entry {
    /// Its time has passed.
    #[must_use]
    pub fn is_expired(&self, now: Wall) -> bool {
        self.expires() <= now
    }

    /// When it does; the end of time if it does not.
    #[must_use]
    pub fn expires(&self) -> Wall {
        match self.expires_seconds {
            u32::MAX => Wall::MAX,
            seconds => Wall(u64::from(seconds) * 1000),
        }
    }

    /// Bytes of the message while it is held.
    fn held_bytes(&self) -> u64 {
        if self.state == State::Waiting { u64::from(self.bytes) } else { 0 }
    }
}

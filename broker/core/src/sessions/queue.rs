//! Hot path. The messages of one session: those in flight and those that wait, in one sequence.
//!
//! A message's packet identifier follows from its place in the sequence (`sequence mod 65 535 + 1`), so
//! finding the message of an acknowledgement is arithmetic, identifiers of unfinished messages never
//! collide, and a resend has the same identifier without anything having been written down for it.
//!
//! ```text
//!            cursor          fresh
//!               |              |
//!  [ in flight  |  resend      |  never sent ]
//!    first …                           … end of the sequence
//! ```
//!
//! While a client is connected `cursor` is where sending goes on; after a reconnect it starts again at the
//! front, and what lies before `fresh` is sent once more, in order, with DUP [MQTT-4.4.0-1, MQTT-4.6.0-1].

use std::collections::VecDeque;
use std::sync::Arc;

use mqtt::{PacketId, QoS};

use crate::connection::Pressure;
use crate::dist::GroupKey;
use crate::message::Message;
use crate::time::Wall;

/// Packet identifiers are 1 to 65 535; the unfinished span must stay below that many.
pub(super) const PACKET_IDS: u64 = 65_535;

/// One message of a session.
#[derive(Debug)]
pub struct Entry {
    /// The message; gone when nothing but the handshake is left.
    message: Option<Arc<Message>>,
    /// The shared subscription it came by: on the session's end it goes to another member.
    group: Option<Arc<GroupKey>>,
    /// 0 for none.
    subscription_id: u32,
    qos: QoS,
    retain: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never sent.
    Queued,
    /// Sent, not acknowledged.
    Sent,
    /// QoS 2: PUBREC has come, PUBCOMP has not.
    Received,
    /// Finished; leaves with the entries before it.
    Done,
}

impl Entry {
    /// A message that waits to be sent.
    pub fn new(message: Arc<Message>, qos: QoS, retain: bool, subscription_id: u32) -> Entry {
        Entry { message: Some(message), group: None, subscription_id, qos, retain, state: State::Queued }
    }

    /// The same, by way of a shared subscription.
    #[must_use]
    pub fn shared_by(mut self, group: Arc<GroupKey>) -> Entry {
        self.group = Some(group);
        self
    }

    /// Whether it came by a shared subscription.
    pub fn is_shared(&self) -> bool {
        self.group.is_some()
    }

    fn bytes(&self) -> u64 {
        self.message.as_ref().map_or(0, |message| message.bytes())
    }

    fn expires(&self) -> Option<Wall> {
        self.message.as_ref().and_then(|message| message.expires)
    }
}

/// The limits of a session's queue, from its tenant's settings.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// `queue_messages_max`
    pub messages: u32,
    /// `queue_bytes_max`
    pub bytes: u64,
    /// `queue_drop` is oldest.
    pub drop_oldest: bool,
}

impl QueueLimits {
    /// How far a queue with so much in it has fallen behind.
    pub fn pressure(&self, messages: u32, bytes: u64) -> Pressure {
        let of_messages = Pressure::of(u64::from(messages), u64::from(self.messages));
        of_messages.max(Pressure::of(bytes, self.bytes))
    }
}

/// What became of a message offered to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Queued,
    /// It waits, and older ones left for it: so many given up, so many expired.
    Displaced { full: u32, expired: u32 },
    /// The queue is full, though so many older ones were given up, and so many had expired.
    Full { full: u32, expired: u32 },
}

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A PUBLISH.
    Publish(Delivery),
    /// A PUBREL that is owed from an earlier connection.
    Release(PacketId),
    /// A message expired before it was sent.
    Expired,
}

/// One PUBLISH of a session.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// None for QoS 0.
    pub packet_id: Option<PacketId>,
    /// Sent before, perhaps.
    pub dup: bool,
    /// What to send.
    pub message: Arc<Message>,
    /// With this QoS.
    pub qos: QoS,
    /// With this retain flag.
    pub retain: bool,
    /// With this subscription identifier, 0 for none.
    pub subscription_id: u32,
}

/// What an acknowledgement meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The message is finished.
    Finished,
    /// QoS 2: PUBREL is to follow.
    Received,
    /// No message in flight has this identifier.
    Unknown,
    /// The message in flight is of the other QoS: the client broke the protocol.
    WrongKind,
}

/// A message that a session leaves behind when it ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Leftover {
    /// It goes to another member of its group.
    Shared(Arc<GroupKey>, Arc<Message>),
    /// It is lost with the session.
    Lost,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Queue {
    entries: VecDeque<Entry>,
    /// Sequence number of the entry in front.
    first: u64,
    /// Index of the next entry to send on this connection.
    cursor: usize,
    /// Index of the first entry that no connection ever sent.
    fresh: usize,
    /// Entries before the cursor that wait for an acknowledgement.
    inflight: u32,
    /// Entries not done.
    live: u32,
    /// Bytes of the messages held.
    bytes: u64,
    /// When something may have expired that was never sent, and it is worth looking again.
    purge_at: Wall,
}

/// Milliseconds between two searches for what has expired: a search goes through the queue.
const PURGE_INTERVAL_MS: u64 = 1000;

impl Queue {
    /// Messages waiting or in flight.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Bytes of the messages held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Is there something to send?
    pub fn has_next(&self) -> bool {
        self.cursor < self.entries.len()
    }

    /// Whether a message of so many bytes would find room, without any other leaving for it. Alone it always
    /// does: a packet that was taken from its publisher can be delivered.
    pub fn has_room(&self, bytes: u64, limits: &QueueLimits) -> bool {
        self.live < limits.messages && (self.live == 0 || self.bytes + bytes <= limits.bytes)
    }

    /// Offers a message.
    pub fn push(&mut self, entry: Entry, limits: &QueueLimits, now: Wall) -> Pushed {
        let needed = entry.bytes();
        let (mut full, mut expired) = (0, 0);
        let mut purged = false;
        while !self.has_room(needed, limits) {
            if !purged {
                // What has expired makes room first.
                purged = true;
                expired = self.purge_expired(now);
                continue;
            }
            if !limits.drop_oldest || self.fresh >= self.entries.len() || needed > limits.bytes {
                return Pushed::Full { full, expired };
            }
            full += u32::from(self.remove_fresh(self.fresh));
        }
        self.live += 1;
        self.bytes += needed;
        if let Some(expires) = entry.expires() {
            self.purge_at = self.purge_at.min(expires);
        }
        self.entries.push_back(entry);
        if full + expired == 0 { Pushed::Queued } else { Pushed::Displaced { full, expired } }
    }

    /// The next thing to send while fewer than `window` messages are in flight. To be called until it
    /// answers None.
    pub fn next(&mut self, window: u16, now: Wall) -> Option<Next> {
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            let packet_id = packet_id_at(self.first + self.cursor as u64);
            match entry.state {
                State::Done => self.pass(0),
                State::Received => {
                    self.pass(1);
                    return Some(Next::Release(packet_id));
                }
                State::Queued if entry.message.as_ref().is_none_or(|message| message.is_expired(now)) => {
                    self.finish(self.cursor);
                    return Some(Next::Expired);
                }
                State::Queued | State::Sent => {
                    let spans = self.cursor as u64 + 1 >= PACKET_IDS;
                    if entry.qos != QoS::AtMostOnce && (self.inflight >= u32::from(window) || spans) {
                        return None;
                    }
                    return Some(Next::Publish(self.send(packet_id)));
                }
            }
        }
        None
    }

    /// Takes the message at the cursor to the wire.
    fn send(&mut self, packet_id: PacketId) -> Delivery {
        let entry = &mut self.entries[self.cursor];
        let delivery = Delivery {
            packet_id: (entry.qos != QoS::AtMostOnce).then_some(packet_id),
            dup: entry.state == State::Sent,
            message: Arc::clone(entry.message.as_ref().expect("kept until it is received or done")),
            qos: entry.qos,
            retain: entry.retain,
            subscription_id: entry.subscription_id,
        };
        if entry.qos == QoS::AtMostOnce {
            self.finish(self.cursor);
        } else {
            entry.state = State::Sent;
            self.pass(1);
        }
        delivery
    }

    /// A PUBACK has come.
    pub fn acknowledge(&mut self, packet_id: PacketId) -> Acknowledged {
        match self.find(packet_id) {
            None => Acknowledged::Unknown,
            Some(index) if self.entries[index].qos != QoS::AtLeastOnce => Acknowledged::WrongKind,
            Some(index) => {
                self.finish(index);
                Acknowledged::Finished
            }
        }
    }

    /// A PUBREC has come; `refused` if with a reason code of 0x80 or more, which ends the message.
    pub fn receive(&mut self, packet_id: PacketId, refused: bool) -> Acknowledged {
        let Some(index) = self.find(packet_id) else { return Acknowledged::Unknown };
        let entry = &mut self.entries[index];
        if entry.qos != QoS::ExactlyOnce {
            return Acknowledged::WrongKind;
        }
        if refused {
            self.finish(index);
            return Acknowledged::Finished;
        }
        self.bytes -= entry.bytes();
        entry.message = None;
        entry.state = State::Received;
        Acknowledged::Received
    }

    /// A PUBCOMP has come.
    pub fn complete(&mut self, packet_id: PacketId) -> Acknowledged {
        match self.find(packet_id) {
            None => Acknowledged::Unknown,
            Some(index) if self.entries[index].state != State::Received => Acknowledged::WrongKind,
            Some(index) => {
                self.finish(index);
                Acknowledged::Finished
            }
        }
    }

    /// A message that was just taken to the wire could not be sent (too large for the client).
    pub fn discard(&mut self, packet_id: PacketId) {
        if let Some(index) = self.find(packet_id) {
            self.finish(index);
        }
    }

    /// Whether anything waits for an acknowledgement.
    pub fn is_in_flight(&self) -> bool {
        self.inflight > 0
    }

    /// A connection begins (or ended): everything unfinished is to be sent again.
    pub fn rewind(&mut self) {
        self.cursor = 0;
        self.inflight = 0;
    }

    /// The session has ended: the next of its messages. QoS 1 messages of shared subscriptions, and those of
    /// QoS 2 that were never sent, can go to another member; a QoS 2 message in progress cannot
    /// [MQTT-4.8.2-4, MQTT-4.8.2-5].
    pub fn pop_leftover(&mut self) -> Option<Leftover> {
        loop {
            let entry = self.entries.pop_front()?;
            let movable = entry.qos == QoS::AtLeastOnce || entry.state == State::Queued;
            match (entry.state, entry.message, entry.group) {
                (State::Done, ..) => {}
                (_, Some(message), Some(group)) if movable => return Some(Leftover::Shared(group, message)),
                _ => return Some(Leftover::Lost),
            }
        }
    }

    /// The index of the message in flight with this identifier.
    fn find(&self, packet_id: PacketId) -> Option<usize> {
        let front = self.first % PACKET_IDS;
        let offset = (u64::from(packet_id.get()) - 1 + PACKET_IDS - front) % PACKET_IDS;
        let index = usize::try_from(offset).ok()?;
        let sent = |entry: &Entry| matches!(entry.state, State::Sent | State::Received);
        (index < self.fresh && self.entries.get(index).is_some_and(sent)).then_some(index)
    }

    fn pass(&mut self, inflight: u32) {
        self.inflight += inflight;
        self.cursor += 1;
        self.fresh = self.fresh.max(self.cursor);
    }

    fn finish(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        assert!(entry.state != State::Done, "finished once");
        self.bytes -= entry.bytes();
        entry.message = None;
        entry.group = None;
        entry.state = State::Done;
        self.live -= 1;
        if index < self.cursor {
            self.inflight -= 1;
        }
        while self.entries.pop_front_if(|entry| entry.state == State::Done).is_some() {
            self.first += 1;
            self.cursor = self.cursor.saturating_sub(1);
            self.fresh = self.fresh.saturating_sub(1);
        }
        if self.entries.is_empty() && self.entries.capacity() > 16 {
            self.entries = VecDeque::new();
        }
    }

    /// Removes a message that has no identifier yet; its place in the sequence goes to its successor. False if
    /// it is one of QoS 0 that was sent.
    fn remove_fresh(&mut self, index: usize) -> bool {
        assert!(index >= self.fresh, "an identifier the client knows stays");
        let waiting = self.entries.remove(index).filter(|entry| entry.state != State::Done);
        if let Some(entry) = &waiting {
            self.live -= 1;
            self.bytes -= entry.bytes();
        }
        waiting.is_some()
    }

    /// Drops what has expired and was never sent: how many. What expires within a second of a search waits for the
    /// next: a queue that is full is asked for each message that it has no room for.
    pub fn purge_expired(&mut self, now: Wall) -> u32 {
        if now < self.purge_at {
            return 0;
        }
        let before = self.live;
        let fresh = self.fresh;
        let (mut index, mut bytes, mut live) = (0, 0, 0);
        let mut next = Wall::MAX;
        self.entries.retain(|entry| {
            let expires = entry.expires().unwrap_or(Wall::MAX);
            let keep = index < fresh || expires > now;
            index += 1;
            if !keep {
                bytes += entry.bytes();
                live += 1;
            } else if index > fresh {
                next = next.min(expires);
            }
            keep
        });
        self.bytes -= bytes;
        self.live -= live;
        self.purge_at = next.max(Wall(now.0.saturating_add(PURGE_INTERVAL_MS)));
        before - self.live
    }
}

/// The packet identifier of a place in the sequence.
pub fn packet_id_at(sequence: u64) -> PacketId {
    let value = u16::try_from(sequence % PACKET_IDS + 1).expect("1 to 65535");
    PacketId::new(value).expect("not 0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Publication, Publisher};

    fn expiring(expires: Option<u64>) -> Entry {
        let tenant = Arc::from("default");
        let publication = Publication::new(&tenant, Publisher::default(), "t", QoS::AtLeastOnce);
        let publication = Publication { expires: expires.map(Wall), ..publication };
        Entry::new(Arc::clone(publication.share()), QoS::AtLeastOnce, false, 0)
    }

    /// A queue that is full is not gone through for each message that it has no room for: every publish to a stuck
    /// receiver with 100 000 messages took 0.1 ms of its core, and a turn seconds.
    #[test]
    fn a_full_queue_is_not_searched_in_vain() {
        let limits = QueueLimits { messages: 2, bytes: 1 << 20, drop_oldest: false };
        let full = |expired| Pushed::Full { full: 0, expired };
        let mut queue = Queue::default();
        for expires in [Some(2_000), Some(2_500)] {
            assert_eq!(queue.push(expiring(expires), &limits, Wall(0)), Pushed::Queued);
        }
        // The first search finds out when it is worth another.
        assert_eq!(queue.push(expiring(None), &limits, Wall(1)), full(0));
        assert_eq!(queue.purge_at, Wall(2_000));
        assert_eq!(queue.push(expiring(None), &limits, Wall(1_999)), full(0));
        let displaced = Pushed::Displaced { full: 0, expired: 1 };
        assert_eq!(queue.push(expiring(None), &limits, Wall(2_000)), displaced);
        // What expires soon after goes with the next search.
        assert_eq!(queue.push(expiring(None), &limits, Wall(2_999)), full(0));
        assert_eq!(queue.push(expiring(None), &limits, Wall(3_000)), displaced);
        assert_eq!(queue.push(expiring(None), &limits, Wall(4_000)), full(0));
        assert_eq!(queue.purge_at, Wall::MAX, "nothing in it expires");
    }
}

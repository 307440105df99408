//! Hot path. What a core knows of a persistent session while its client is connected, beside what the range
//! has of it: how far the client was sent its queue, and what it has acknowledged that is not in the log yet.
//!
//! ```text
//!            range: first          fresh                          end
//!                     │              │                             │
//!   entries           [ in flight    │   in flight  │  not sent yet ]
//!                       again (DUP)  │              │
//!                                                 cursor
//! ```
//!
//! Nothing of this outlives the connection. Whoever connects next begins at the front, and what lies before
//! the range's `sent_before` is sent with DUP.

use std::collections::BTreeMap;

use mqtt::{PacketId, QoS};
use wal::Window;

use super::queue::{Acknowledged, PACKET_IDS, packet_id_at};
use crate::delivery::DeliveryOptions;
use crate::expiring::Searched;
use crate::ranges::inbox::{Attached, Entry, Queue, Sequence, Session, State};
use crate::storage::LogSlot;
use crate::time::Wall;
use crate::unreleased::{Taken, Unreleased};

/// See the module's documentation.
#[derive(Debug)]
pub struct Stored {
    /// Which of the core's logs has the session.
    pub log: LogSlot,
    /// The connection's name in commands.
    pub epoch: u64,
    /// Where sending goes on.
    cursor: u64,
    /// What lies before may have been sent by a former connection.
    fresh: u64,
    /// Messages that wait for an acknowledgement, by place. The range may have given some of them up for others
    /// before it heard that they were sent.
    inflight: BTreeMap<u64, QoS>,
    /// What the client has acknowledged and the range does not know yet.
    marks: BTreeMap<u64, Mark>,
    /// How many of those are finished.
    finished: u32,
    /// What of that is not proposed yet.
    progress: Progress,
    /// That must not wait for company.
    due: bool,
    /// The range is to know before something is sent, because it gives up the oldest that was not.
    tells_sent: bool,
    /// All before this place is to be sent next.
    wanted: u64,
    /// What the range was told.
    told: u64,
    /// Messages that are proposed for it and not applied.
    pub appending: u32,
    /// Something with QoS 0 is among them; after that: all before this place may be such.
    detouring: bool,
    detour: u64,
    /// How far the queue was searched for what has expired.
    searched: Searched,
    /// Sending waits for this to be read in.
    reading: Option<Window>,
    /// The same of copies of retained messages.
    copying: bool,
    copies: u64,
    /// QoS 2 messages of the client that it has not released, and whether it has sent each of them before, on another
    /// connection.
    taken: Unreleased<bool>,
    next_generation: u64,
    /// Changes of subscriptions that are proposed and not applied.
    changes: BTreeMap<Box<str>, Change>,
    /// How many of them add one: counted as they come and go, for a packet asks for each of its filters.
    adding: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// PUBREC has come.
    Received,
    /// Finished.
    Finished,
}

/// What a client has acknowledged, by the places of the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// PUBREC has come.
    pub received: Vec<u64>,
    /// Finished.
    pub finished: Vec<u64>,
}

impl Progress {
    /// Nothing is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty() && self.finished.is_empty()
    }
}

/// When the range is to hear what is not proposed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// There is nothing.
    Nothing,
    /// When something else is written: lost with the process, it costs the client a message with DUP.
    CanWait,
    /// This turn: sending waits for it, a message of QoS 2 is in it, or there is enough.
    Due,
}

/// Finished messages of one session that wait for company. So many with DUP are what a crash can cost its client, and
/// as many are freed by one command.
const HELD_MAX: usize = 256;

#[derive(Debug)]
struct Change {
    /// None: it ends.
    options: Option<DeliveryOptions>,
    /// Commands that are not applied.
    proposed: u32,
    /// The session has none by this filter, and will have one.
    adds: bool,
}

impl Change {
    /// Enters it among those that add a subscription, or takes it out.
    fn count(&mut self, session: &Session, filter: &str, adding: &mut usize) {
        let adds = self.options.is_some() && !session.subscriptions.contains_key(filter);
        *adding = *adding + usize::from(adds) - usize::from(self.adds);
        self.adds = adds;
    }
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStored {
    /// A message, which has to be read.
    Publish {
        /// Its place.
        place: Sequence,
        /// None for QoS 0.
        packet_id: Option<PacketId>,
        /// Sent before, perhaps.
        dup: bool,
        /// What the queue has of it.
        entry: Entry,
    },
    /// A message that is not in memory: this has to be read in first.
    NotAtHand(Window),
    /// A PUBREL that is owed from an earlier connection.
    Release(PacketId),
    /// A message expired before it was sent.
    Expired,
    /// A QoS 0 message was sent by a former connection, or lost with it.
    PerhapsSent,
}

/// A QoS 2 message from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenHere {
    /// By which its client names it.
    pub packet_id: PacketId,
    /// Which of the session's it is.
    pub generation: u64,
    /// The first that is not released.
    pub oldest: u64,
    /// It was taken before.
    pub known: bool,
    /// The client has sent it before, on another connection: some logs may have it, whether it was taken or not.
    pub repeated: bool,
}

impl Stored {
    /// Whether the range hears what was sent before it is, and so may give up the oldest that was not.
    pub fn tells_sent(&self) -> bool {
        self.tells_sent
    }

    /// The session as its range has it when its client has just connected. With `tells_sent` the range hears what
    /// was sent though nothing is acknowledged.
    pub fn new(
        (log, epoch): (LogSlot, u64),
        attached: &Attached,
        session: &Session,
        tells_sent: bool,
    ) -> Stored {
        let taken = session.taken.to_list().into_iter().map(|Taken { packet_id, generation, .. }| Taken {
            packet_id,
            generation,
            value: true,
        });
        Stored {
            log,
            epoch,
            cursor: attached.first.0,
            fresh: attached.sent_before.0,
            inflight: BTreeMap::new(),
            marks: BTreeMap::new(),
            finished: 0,
            progress: Progress::default(),
            due: false,
            tells_sent,
            wanted: attached.sent_before.0,
            told: attached.sent_before.0,
            appending: 0,
            detouring: false,
            searched: Searched::default(),
            detour: session.queue.plain_before().0,
            copying: false,
            copies: session.queue.end().0,
            reading: None,
            taken: taken.collect(),
            next_generation: session.next_generation,
            changes: BTreeMap::new(),
            adding: 0,
        }
    }

    /// All before this place may have been sent.
    pub fn sent_before(&self) -> Sequence {
        Sequence(self.cursor.max(self.wanted))
    }

    /// A message that is to be sent waits for the disk. False if it was known.
    pub fn begin_reading(&mut self, window: Window) -> bool {
        self.reading.replace(window) != Some(window)
    }

    /// Something was read in. False if it does not wait for that: it has gone on before, and waits for something else
    /// or for nothing.
    pub fn end_reading(&mut self, window: Window) -> bool {
        self.reading.take_if(|reading| *reading == window).is_some()
    }

    /// What was proposed for it is in the queue.
    pub fn end_appending(&mut self, end: Option<Sequence>) {
        self.appending = self.appending.saturating_sub(1);
        let Some(end) = end.filter(|_| self.appending == 0) else { return };
        if std::mem::take(&mut self.detouring) {
            self.detour = end.0;
        }
        if std::mem::take(&mut self.copying) {
            self.copies = end.0;
        }
    }

    /// A copy of a retained message is proposed for it.
    pub fn begin_copy(&mut self) {
        self.copying = true;
    }

    /// Is a copy of a retained message on its way through the log, or waiting for the client's window?
    pub fn has_copies(&self) -> bool {
        self.copying || self.cursor < self.copies
    }

    /// Something with QoS 0 takes the way through the log.
    pub fn begin_detour(&mut self) {
        self.detouring = true;
    }

    /// Does something that has QoS 0 wait in the queue, perhaps, for what was queued before it?
    pub fn has_detour(&self) -> bool {
        self.detouring || self.cursor < self.detour
    }

    /// Is there something to send?
    pub fn has_next(&self, queue: &Queue) -> bool {
        self.cursor < queue.end().0
    }

    /// The next thing to send while fewer than `window` messages are in flight, if that is `at_hand`. To
    /// be called until it answers None, or what has to be read in first.
    pub fn next(
        &mut self,
        queue: &Queue,
        window: u16,
        now: Wall,
        at_hand: impl Fn(&Entry) -> Result<(), Window>,
    ) -> Option<NextStored> {
        loop {
            let Some((place, entry)) = queue.from(Sequence(self.cursor)).next() else {
                self.cursor = self.cursor.max(queue.end().0);
                return None;
            };
            let packet_id = packet_id_at(place.0);
            if let Some(mark) = self.marks.get(&place.0) {
                if *mark == Mark::Received {
                    self.inflight.insert(place.0, QoS::ExactlyOnce); // its PUBREL is on its way
                }
                self.cursor = place.0 + 1;
                continue;
            }
            if entry.state == State::Received {
                self.cursor = place.0 + 1;
                self.inflight.insert(place.0, QoS::ExactlyOnce);
                return Some(NextStored::Release(packet_id));
            }
            if place.0 >= self.fresh && entry.is_expired(now) {
                self.cursor = place.0 + 1;
                self.mark_finished(place);
                return Some(NextStored::Expired);
            }
            if entry.qos != QoS::AtMostOnce && self.inflight.len() >= usize::from(window) {
                return None;
            }
            if entry.qos != QoS::AtMostOnce && self.spans(place) {
                self.hurry();
                return None;
            }
            if entry.qos == QoS::AtMostOnce && place.0 < self.fresh {
                // It may have been sent, and is not sent twice.
                self.cursor = place.0 + 1;
                self.mark_finished(place);
                return Some(NextStored::PerhapsSent);
            }
            if self.tells_sent && place >= queue.sent_before() {
                // With as many others as there is room for.
                let room = (usize::from(window).saturating_sub(self.inflight.len())).max(1) as u64;
                self.wanted = self.wanted.max((place.0 + room).min(queue.end().0));
                return None;
            }
            if let Err(window) = at_hand(&entry) {
                return Some(NextStored::NotAtHand(window));
            }
            self.cursor = place.0 + 1;
            let packet_id = if entry.qos == QoS::AtMostOnce {
                self.mark_finished(place);
                None
            } else {
                self.inflight.insert(place.0, entry.qos);
                Some(packet_id)
            };
            let dup = packet_id.is_some() && place.0 < self.fresh;
            return Some(NextStored::Publish { place, packet_id, dup, entry });
        }
    }

    /// Whether a message's identifier is that of another, perhaps, which the range does not know to be finished: after
    /// a crash a PUBREL to that one would be taken for its own.
    fn spans(&self, place: Sequence) -> bool {
        let firsts = [self.inflight.keys().next(), self.marks.keys().next()];
        let first = firsts.into_iter().flatten().min().map_or(place.0, |first| place.0.min(*first));
        place.0 - first + 1 >= PACKET_IDS
    }

    /// What is to be sent after that.
    pub fn upcoming<'a>(&self, queue: &'a Queue) -> impl Iterator<Item = Entry> + use<'a> {
        queue.from(Sequence(self.cursor)).map(|(_, entry)| entry)
    }

    /// Whether anything waits for an acknowledgement.
    pub fn is_in_flight(&self) -> bool {
        !self.inflight.is_empty()
    }

    /// Everything unfinished is to be sent again.
    pub fn rewind(&mut self, queue: &Queue) {
        self.fresh = self.fresh.max(self.cursor);
        self.cursor = queue.first().0;
        self.inflight.clear();
    }

    /// A message that was just taken to the wire could not be sent, or may not be.
    pub fn discard(&mut self, queue: &Queue, place: Sequence) {
        if self.inflight.contains_key(&place.0) {
            self.finish(queue, place);
        }
    }

    /// A PUBACK has come.
    pub fn acknowledge(&mut self, queue: &Queue, packet_id: PacketId) -> Acknowledged {
        match self.find(packet_id) {
            None => Acknowledged::Unknown,
            Some((_, qos)) if qos != QoS::AtLeastOnce => Acknowledged::WrongKind,
            Some((place, _)) => {
                self.finish(queue, place);
                Acknowledged::Finished
            }
        }
    }

    /// A PUBREC has come; `refused` if with a reason code of 0x80 or more, which ends the message. PUBREL may
    /// follow when the range knows of it; one that it knows of already may be answered at once.
    pub fn receive(&mut self, queue: &Queue, packet_id: PacketId, refused: bool) -> Received {
        let Some((place, qos)) = self.find(packet_id) else { return Received::Now(Acknowledged::Unknown) };
        if qos != QoS::ExactlyOnce {
            return Received::Now(Acknowledged::WrongKind);
        }
        if refused {
            self.finish(queue, place);
            return Received::Now(Acknowledged::Finished);
        }
        if self.is_received(queue, place) {
            return Received::Now(Acknowledged::Received);
        }
        if self.marks.insert(place.0, Mark::Received).is_none() {
            self.progress.received.push(place.0);
            self.due = true;
        }
        Received::WhenDurable
    }

    /// A PUBCOMP has come.
    pub fn complete(&mut self, queue: &Queue, packet_id: PacketId) -> Acknowledged {
        match self.find(packet_id) {
            None => Acknowledged::Unknown,
            Some((place, qos)) => {
                let received = self.marks.contains_key(&place.0) || self.is_received(queue, place);
                if qos != QoS::ExactlyOnce || !received {
                    return Acknowledged::WrongKind;
                }
                self.finish(queue, place);
                Acknowledged::Finished
            }
        }
    }

    /// What is to be proposed, if anything is.
    pub fn take_progress(&mut self) -> Option<Progress> {
        if self.haste() == Haste::Nothing {
            return None;
        }
        self.told = self.told.max(self.wanted);
        self.due = false;
        Some(std::mem::take(&mut self.progress))
    }

    /// When that is to be done.
    pub fn haste(&self) -> Haste {
        if self.due || self.wanted > self.told || self.progress.finished.len() >= HELD_MAX {
            Haste::Due
        } else if self.progress.is_empty() {
            Haste::Nothing
        } else {
            Haste::CanWait
        }
    }

    /// What is not proposed yet is not to wait for company.
    pub fn hurry(&mut self) {
        self.due = !self.progress.is_empty();
    }

    /// The range knows of it now.
    pub fn on_progress(&mut self, progress: &Progress) {
        for place in &progress.finished {
            self.marks.remove(place);
            self.finished -= 1;
        }
        for place in &progress.received {
            // It may have been finished since.
            if self.marks.get(place) == Some(&Mark::Received) {
                self.marks.remove(place);
            }
        }
    }

    /// Messages of the queue that are finished, though the range does not know it yet.
    pub fn finished(&self) -> u32 {
        self.finished
    }

    /// A QoS 2 message comes from the client, which may say that it has sent it before.
    pub fn take(&mut self, packet_id: PacketId, dup: bool) -> TakenHere {
        let next = self.next_generation;
        let known = self.taken.get(packet_id.get());
        let taken = known.unwrap_or(Taken { packet_id: packet_id.get(), generation: next, value: dup });
        if known.is_none() {
            self.taken.insert(taken);
            self.next_generation += 1;
        }
        let oldest = self.taken.oldest().unwrap_or(next);
        let (generation, repeated) = (taken.generation, taken.value);
        TakenHere { packet_id, generation, oldest, known: known.is_some(), repeated }
    }

    /// Whether the client sends a message again that has this identifier.
    pub fn is_repeat(&self, packet_id: PacketId) -> bool {
        self.taken.get(packet_id.get()).is_some_and(|taken| taken.value)
    }

    /// The client releases a QoS 2 message's identifier: true if it was taken.
    pub fn release(&mut self, packet_id: PacketId) -> bool {
        self.taken.remove(packet_id.get())
    }

    /// A subscription is proposed to be as said; None: to end.
    pub fn change(&mut self, session: &Session, filter: &str, options: Option<DeliveryOptions>) {
        let change =
            self.changes.entry(filter.into()).or_insert(Change { options, proposed: 0, adds: false });
        change.options = options;
        change.proposed += 1;
        change.count(session, filter, &mut self.adding);
    }

    /// One such proposal is decided.
    pub fn on_changed(&mut self, session: &Session, filter: &str) {
        let Some(change) = self.changes.get_mut(filter) else { return };
        change.proposed -= 1;
        if change.proposed == 0 {
            change.options = None;
        }
        change.count(session, filter, &mut self.adding);
        if change.proposed == 0 {
            self.changes.remove(filter);
        }
    }

    /// Whether there is a subscription, or will be when what is proposed is applied.
    pub fn subscribes(&self, session: &Session, filter: &str) -> bool {
        match self.changes.get(filter) {
            Some(change) => change.options.is_some(),
            None => session.subscriptions.contains_key(filter),
        }
    }

    /// How many subscriptions there will be, at most, when what is proposed is applied.
    pub fn subscriptions(&self, session: &Session) -> usize {
        session.subscriptions.len() + self.adding
    }

    /// Gives up what has expired and was not sent: how many.
    pub fn expire(&mut self, queue: &Queue, now: Wall) -> u32 {
        let unsent = self.sent_before().0.max(self.fresh);
        let begin = Sequence(self.searched.begin(unsent, now));
        let mut expired: Vec<Sequence> = Vec::new();
        for (place, entry) in queue.from(begin).filter(|(_, entry)| entry.state == State::Waiting) {
            if !entry.is_expired(now) {
                self.searched.see(entry.expires());
            } else if !self.marks.contains_key(&place.0) {
                expired.push(place);
            }
        }
        self.searched.end(queue.end().0);
        expired.iter().for_each(|place| self.mark_finished(*place));
        u32::try_from(expired.len()).expect("fewer than messages")
    }

    fn mark_finished(&mut self, place: Sequence) {
        let former = self.marks.insert(place.0, Mark::Finished);
        assert!(former != Some(Mark::Finished), "finished once");
        self.finished += 1;
        self.progress.finished.push(place.0);
    }

    fn finish(&mut self, queue: &Queue, place: Sequence) {
        let qos = self.inflight.remove(&place.0);
        if queue.get(place).is_some() {
            self.mark_finished(place);
            self.due |= qos == Some(QoS::ExactlyOnce);
        }
    }

    /// Whether the range knows that PUBREC has come, or has given the message up.
    fn is_received(&self, queue: &Queue, place: Sequence) -> bool {
        queue.get(place).is_none_or(|entry| entry.state == State::Received)
    }

    /// The message in flight with this identifier.
    fn find(&self, packet_id: PacketId) -> Option<(Sequence, QoS)> {
        let (first, _) = self.inflight.first_key_value()?;
        let offset = (u64::from(packet_id.get()) - 1 + PACKET_IDS - first % PACKET_IDS) % PACKET_IDS;
        let place = first + offset;
        self.inflight.get(&place).map(|qos| (Sequence(place), *qos))
    }
}

/// What a PUBREC leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It means this.
    Now(Acknowledged),
    /// PUBREL follows when the range knows of it.
    WhenDurable,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Incarnation;

    fn new_stored(session: &Session) -> Stored {
        let attached = Attached {
            incarnation: session.incarnation,
            session_present: false,
            former_epoch: None,
            first: Sequence(0),
            sent_before: Sequence(0),
        };
        Stored::new((LogSlot(0), 1), &attached, session, false)
    }

    /// A queue that went on by an acknowledgement, before it was woken for what was read in, waited for the next piece
    /// twice, and for the one after that thrice: it is woken for what it waits for last, once.
    #[test]
    fn a_queue_waits_once_for_each_piece() {
        let session = Session::new(Incarnation(1));
        let mut stored = new_stored(&session);
        let [first, second] = [0, 1].map(|number| Window { segment: wal::SegmentId(1), number });
        assert!(stored.begin_reading(first) && !stored.begin_reading(first));
        assert!(stored.begin_reading(second), "the first was read in, and an acknowledgement came");
        assert!(!stored.end_reading(first), "it has gone on already");
        assert!(stored.end_reading(second) && !stored.end_reading(second));
    }

    /// Subscriptions to come are counted as they are proposed, repeated, revoked and decided; nobody goes through all of
    /// them for each filter of a packet: 5 000 filters took a turn of a second.
    #[test]
    fn subscriptions_to_come_are_counted() {
        let mut session = Session::new(Incarnation(1));
        session.subscriptions.insert("had".into(), DeliveryOptions::default());
        let mut stored = new_stored(&session);
        let some = Some(DeliveryOptions::default());
        for (filter, options, count) in [
            ("had", some, 1),
            ("new", some, 2),
            ("new", some, 2),
            ("new", None, 1),
            ("other", some, 2),
            ("had", None, 2), // at most: it may be refused
        ] {
            stored.change(&session, filter, options);
            assert_eq!(stored.subscriptions(&session), count, "{filter}");
        }
        // One is applied, the others are decided against what they began with.
        session.subscriptions.insert("other".into(), DeliveryOptions::default());
        for (filter, count) in [("had", 3), ("had", 3), ("new", 3), ("new", 3), ("new", 3), ("other", 3)] {
            assert_eq!(stored.subscriptions(&session), count, "{filter}");
            stored.on_changed(&session, filter);
        }
        assert_eq!(stored.subscriptions(&session), 2);
        assert!(stored.adding == 0 && stored.changes.is_empty());
    }
}

//! inbox: the sessions that are at home on this core, and what waits for them.
//!
//! A deterministic state machine: every method that changes something is one command of plain data, with
//! the proposer's wall time where time matters; what follows from it for others is appended as
//! [`Effect`]s. It knows neither packets nor sockets nor the other services.
//!
//! A session of a client that will not come back (session expiry 0) is *volatile*: it lives and dies with
//! its connection. All others are *durable*: they wait for their client until they expire.

mod overtaken;
mod owed;
mod queue;
mod session;

use hashbrown::{HashMap, HashTable};
use mqtt::PacketId;
use slab::Slab;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

pub use owed::{Ask, Owed, Step};
pub use queue::{Acknowledged, Delivery, Entry, Leftover, Next, Pushed, Queue, QueueLimits};
pub use session::{Inbox, Will};

use crate::access::Grant;
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, Incarnation};
use crate::message::Message;
use crate::time::Wall;
use crate::wheel::TimerId;

/// Where a session stands in its core's table; reused after the session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxSlot(pub u32);

impl InboxSlot {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A client connects.
#[derive(Debug)]
pub struct Attach<'a> {
    /// Its tenant.
    pub tenant: &'a Arc<str>,
    /// Its client id, never empty.
    pub client: &'a str,
    /// Its connection.
    pub connection: ConnectionId,
    /// Forget a former session.
    pub clean_start: bool,
    /// How long the session outlives the connection; `u32::MAX` is for ever.
    pub expiry_seconds: u32,
    /// The will of this connection.
    pub will: Option<Box<Will>>,
    /// The name of the session if a new one begins.
    pub incarnation: Incarnation,
}

/// What a client found when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The session's place.
    pub slot: InboxSlot,
    /// There was one before.
    pub session_present: bool,
}

/// What follows from a command.
#[derive(Debug)]
pub enum Effect {
    /// A former connection of the same client has to be closed, before anything else happens.
    TakenOver(ConnectionId),
    /// A will is to be published, if the client that left it may still do so.
    Publish {
        /// The will.
        message: Message,
        /// The client's id.
        client: Box<str>,
        /// What it may do.
        grant: Option<Arc<Grant>>,
    },
    /// The session wants to be told of this moment by [`Inboxes::on_due`], and of no other.
    Due(Incarnation, Wall),
    /// Nothing is due for a session any more: the timer for it is to be cancelled.
    NothingDue(TimerId),
    /// A session has ended: its routes and what it left are to be dealt with.
    Ended(Box<Ended>),
}

/// A session that is no more.
#[derive(Debug)]
pub struct Ended {
    /// Whose.
    pub tenant: Arc<str>,
    /// The client's id.
    pub client: Box<str>,
    /// Which.
    pub incarnation: Incarnation,
    /// Whether it was durable, and so had routes of its own.
    pub durable: bool,
    /// The connection it had when it ended, if it was volatile: its place in local fan-out lists.
    pub connection: Option<ConnectionId>,
    /// Its subscriptions, as the client spelled them: a million, perhaps, to be taken out bit by bit.
    pub subscriptions: BTreeMap<Box<str>, DeliveryOptions>,
    /// Its messages.
    pub queue: Queue,
}

/// All sessions at home on this core.
pub struct Inboxes {
    /// Boxed, so that the table never moves them and a free slot costs little.
    sessions: Slab<Box<Inbox>>,
    /// Slots by tenant and client id.
    by_client: HashTable<u32>,
    by_incarnation: HashMap<Incarnation, u32, foldhash::fast::FixedState>,
    hasher: foldhash::fast::FixedState,
}

impl Inboxes {
    /// No sessions yet.
    pub fn new(seed: u64) -> Inboxes {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        Inboxes {
            sessions: Slab::new(),
            by_client: HashTable::new(),
            by_incarnation: HashMap::with_hasher(hasher.clone()),
            hasher,
        }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Some of the sessions, from a place in the table on, each with its place; and where to go on, if that is not the
    /// end. So many places are looked at.
    pub fn page(&self, from: u32, looks: u32) -> (impl Iterator<Item = (InboxSlot, &Inbox)>, Option<u32>) {
        let end = from.saturating_add(looks);
        let at = |slot| Some((InboxSlot(slot), &**self.sessions.get(slot as usize)?));
        ((from..end).filter_map(at), ((end as usize) < self.sessions.capacity()).then_some(end))
    }

    /// The session at a place that its connection holds.
    pub fn at(&mut self, slot: InboxSlot) -> &mut Inbox {
        &mut self.sessions[slot.index()]
    }

    /// The same, to look at.
    pub fn get(&self, slot: InboxSlot) -> &Inbox {
        &self.sessions[slot.index()]
    }

    /// Where a session is, if it still is.
    pub fn find(&self, incarnation: Incarnation) -> Option<InboxSlot> {
        self.by_incarnation.get(&incarnation).map(|slot| InboxSlot(*slot))
    }

    /// A client connects: its session is resumed or begun, its former connection loses it.
    pub fn attach(&mut self, attach: Attach<'_>, now: Wall, effects: &mut Vec<Effect>) -> Attached {
        let mut resumed = None;
        if let Some(slot) = self.find_client(attach.tenant, attach.client) {
            let session = &mut self.sessions[slot.index()];
            if let Some(connection) = session.connection() {
                effects.push(Effect::TakenOver(connection));
            }
            if attach.clean_start || session.is_over(now) {
                self.end(slot, now, effects);
            } else {
                session.leave(now, effects);
                effects.extend(session.take_timer().map(Effect::NothingDue));
                resumed = Some(slot);
            }
        }
        let session_present = resumed.is_some();
        let slot = resumed.unwrap_or_else(|| self.begin(&attach));
        self.sessions[slot.index()].enter(attach.connection, attach.expiry_seconds, attach.will);
        Attached { slot, session_present }
    }

    /// A connection has ended. `keep_will` is false after a DISCONNECT that said so [MQTT-3.14.4-3];
    /// `expiry_seconds` comes from such a packet, if it changed the session expiry.
    pub fn detach(
        &mut self,
        slot: InboxSlot,
        keep_will: bool,
        expiry_seconds: Option<u32>,
        now: Wall,
        effects: &mut Vec<Effect>,
    ) {
        let session = &mut self.sessions[slot.index()];
        if !keep_will {
            session.discard_will();
        }
        if let Some(seconds) = expiry_seconds {
            session.set_expiry(seconds);
        }
        if session.expiry_seconds() == 0 {
            self.end(slot, now, effects);
        } else {
            session.wait(now, effects);
        }
    }

    /// A moment that a session asked for has come: its will is published, or it ends.
    pub fn on_due(&mut self, incarnation: Incarnation, now: Wall, effects: &mut Vec<Effect>) {
        let Some(slot) = self.find(incarnation) else { return };
        if self.sessions[slot.index()].is_expired(now) {
            self.end(slot, now, effects);
        } else {
            let session = &mut self.sessions[slot.index()];
            session.publish_due_will(now, effects);
            session.ask_for_due(effects);
        }
    }

    /// Adds or changes a subscription; true if it is new.
    pub fn subscribe(&mut self, slot: InboxSlot, filter: &str, options: DeliveryOptions) -> bool {
        self.sessions[slot.index()].subscriptions.insert(filter.into(), options).is_none()
    }

    /// Removes a subscription; true if there was one.
    pub fn unsubscribe(&mut self, slot: InboxSlot, filter: &str) -> bool {
        self.sessions[slot.index()].subscriptions.remove(filter).is_some()
    }

    /// A QoS 2 message arrives: true if it is new, false if its identifier is not released yet.
    pub fn take(&mut self, slot: InboxSlot, packet_id: PacketId) -> bool {
        self.sessions[slot.index()].take(packet_id)
    }

    /// A PUBREL arrives: true if its identifier was taken.
    pub fn release(&mut self, slot: InboxSlot, packet_id: PacketId) -> bool {
        self.sessions[slot.index()].release(packet_id)
    }

    /// Ends a session whose client is away, before its time.
    pub fn end_away(&mut self, slot: InboxSlot, now: Wall, effects: &mut Vec<Effect>) {
        self.end(slot, now, effects);
    }

    /// A client's session.
    pub fn find_client(&self, tenant: &str, client: &str) -> Option<InboxSlot> {
        let found = self.by_client.find(self.hash(tenant, client), |slot| {
            let session = &self.sessions[*slot as usize];
            &*session.client == client && &*session.tenant == tenant
        });
        found.map(|slot| InboxSlot(*slot))
    }

    fn begin(&mut self, attach: &Attach<'_>) -> InboxSlot {
        let durable = attach.expiry_seconds > 0;
        let session = Inbox::new(Arc::clone(attach.tenant), attach.client, attach.incarnation, durable);
        let hash = self.hash(attach.tenant, attach.client);
        let slot =
            u32::try_from(self.sessions.insert(Box::new(session))).expect("bounded by connections_max");
        let (sessions, hasher) = (&self.sessions, &self.hasher);
        self.by_client.insert_unique(hash, slot, |slot| {
            let session = &sessions[*slot as usize];
            hash_client(hasher, &session.tenant, &session.client)
        });
        let previous = self.by_incarnation.insert(attach.incarnation, slot);
        assert!(previous.is_none(), "incarnations are unique");
        InboxSlot(slot)
    }

    fn end(&mut self, slot: InboxSlot, now: Wall, effects: &mut Vec<Effect>) {
        let mut session = self.sessions.remove(slot.index());
        let hash = self.hash(&session.tenant, &session.client);
        if let Ok(entry) = self.by_client.find_entry(hash, |other| *other == slot.0) {
            entry.remove();
        }
        self.by_incarnation.remove(&session.incarnation());
        if let Some(will) = session.take_will() {
            effects.push(session.publish(*will, now));
        }
        effects.extend(session.take_timer().map(Effect::NothingDue));
        effects.push(Effect::Ended(Box::new(session.into_ended())));
    }

    fn hash(&self, tenant: &str, client: &str) -> u64 {
        hash_client(&self.hasher, tenant, client)
    }
}

fn hash_client(hasher: &impl BuildHasher, tenant: &str, client: &str) -> u64 {
    let mut state = hasher.build_hasher();
    tenant.hash(&mut state);
    client.hash(&mut state);
    state.finish()
}

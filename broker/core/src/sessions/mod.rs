//! sessions: those of the clients that are connected to this core.
//!
//! A deterministic state machine: every method that changes something is one command of plain data, with
//! the proposer's wall time where time matters; what follows from it for others is appended as
//! [`Effect`]s. It knows neither packets nor sockets nor the other services.
//!
//! A session of a client that will not come back (session expiry 0) is *volatile*: it lives and dies with
//! its connection, and all of it is here. All others are *persistent*: they wait for their client until they
//! expire, their state is that of a range ([`crate::ranges::inbox`]), and here is only what concerns their
//! present connection ([`Stored`]).

mod overtaken;
mod owed;
mod queue;
mod session;
mod stored;

use hashbrown::{HashMap, HashTable};
use mqtt::PacketId;
use slab::Slab;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

pub use overtaken::Live;
pub use owed::{Ask, Owed, Step};
pub use queue::{Acknowledged, Delivery, Entry, Leftover, Next, Pushed, Queue, QueueLimits, packet_id_at};
pub use session::{Session, Will};
pub use stored::{Haste, NextStored, Progress, Received, Stored, TakenHere};

use crate::access::Grant;
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, Incarnation};
use crate::message::Message;
use crate::time::Wall;

/// Where a session stands in its core's table; reused after the session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionSlot(pub u32);

impl SessionSlot {
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
    /// The will of this connection.
    pub will: Option<Box<Will>>,
    /// The name of the session.
    pub incarnation: Incarnation,
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
    /// A session has ended: its routes and what it left are to be dealt with.
    Ended(Box<Ended>),
}

/// A volatile session that is no more.
#[derive(Debug)]
pub struct Ended {
    /// Whose.
    pub tenant: Arc<str>,
    /// The client's id.
    pub client: Box<str>,
    /// Which.
    pub incarnation: Incarnation,
    /// The connection that it had: its place in local fan-out lists.
    pub connection: ConnectionId,
    /// Its subscriptions, as the client spelled them: a million, perhaps, to be taken out bit by bit.
    pub subscriptions: BTreeMap<Box<str>, DeliveryOptions>,
    /// Its messages.
    pub queue: Queue,
}

/// All sessions of clients that are connected to this core.
pub struct Sessions {
    /// Boxed, so that the table never moves them and a free slot costs little.
    sessions: Slab<Box<Session>>,
    /// Slots by tenant and client id.
    by_client: HashTable<u32>,
    by_incarnation: HashMap<Incarnation, u32, foldhash::fast::FixedState>,
    /// How many are persistent.
    stored: usize,
    hasher: foldhash::fast::FixedState,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(seed: u64) -> Sessions {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        Sessions {
            sessions: Slab::new(),
            by_client: HashTable::new(),
            by_incarnation: HashMap::with_hasher(hasher.clone()),
            stored: 0,
            hasher,
        }
    }

    /// How many sessions there are that do not last.
    pub fn volatile(&self) -> usize {
        self.sessions.len() - self.stored
    }

    /// Some of the sessions, from a place in the table on, each with its place; and where to go on, if that is not the
    /// end. So many places are looked at.
    pub fn page(
        &self,
        from: u32,
        looks: u32,
    ) -> (impl Iterator<Item = (SessionSlot, &Session)>, Option<u32>) {
        let end = from.saturating_add(looks);
        let at = |slot| Some((SessionSlot(slot), &**self.sessions.get(slot as usize)?));
        ((from..end).filter_map(at), ((end as usize) < self.sessions.capacity()).then_some(end))
    }

    /// The session at a place that its connection holds.
    pub fn at(&mut self, slot: SessionSlot) -> &mut Session {
        &mut self.sessions[slot.index()]
    }

    /// The same, to look at.
    pub fn get(&self, slot: SessionSlot) -> &Session {
        &self.sessions[slot.index()]
    }

    /// Where a session is, if it still is.
    pub fn find(&self, incarnation: Incarnation) -> Option<SessionSlot> {
        self.by_incarnation.get(&incarnation).map(|slot| SessionSlot(*slot))
    }

    /// A client without a persistent session connects; one that it had before ends, and its connection with it.
    pub fn attach(&mut self, attach: Attach<'_>, now: Wall, effects: &mut Vec<Effect>) -> SessionSlot {
        self.end_former(attach.tenant, attach.client, now, effects);
        let Attach { tenant, client, connection, will, incarnation } = attach;
        let mut session = Session::new(Arc::clone(tenant), client, incarnation, connection);
        session.enter(0, will);
        self.insert(session)
    }

    /// A client with a persistent session has connected. It has no other session here.
    pub fn attach_stored(
        &mut self,
        (tenant, client): (&Arc<str>, &str),
        connection: ConnectionId,
        (incarnation, expiry_seconds): (Incarnation, u32),
        stored: Stored,
    ) -> SessionSlot {
        let mut session = Session::new(Arc::clone(tenant), client, incarnation, connection);
        session.enter(expiry_seconds, None);
        session.stored = Some(Box::new(stored));
        self.insert(session)
    }

    /// The volatile session that a client has here ends, because it connects anew.
    pub fn end_former(&mut self, tenant: &str, client: &str, now: Wall, effects: &mut Vec<Effect>) {
        if let Some(slot) = self.find_client(tenant, client) {
            effects.push(Effect::TakenOver(self.sessions[slot.index()].connection()));
            self.end(slot, now, effects);
        }
    }

    /// The connection of a volatile session has ended. `keep_will` is false after a DISCONNECT that said so
    /// [MQTT-3.14.4-3].
    pub fn detach(&mut self, slot: SessionSlot, keep_will: bool, now: Wall, effects: &mut Vec<Effect>) {
        if !keep_will {
            self.sessions[slot.index()].discard_will();
        }
        self.end(slot, now, effects);
    }

    /// The connection of a persistent session has ended.
    pub fn detach_stored(&mut self, slot: SessionSlot) -> Box<Session> {
        self.remove(slot)
    }

    /// Adds or changes a subscription; true if it is new.
    pub fn subscribe(&mut self, slot: SessionSlot, filter: &str, options: DeliveryOptions) -> bool {
        self.sessions[slot.index()].subscriptions.insert(filter.into(), options).is_none()
    }

    /// Removes a subscription; true if there was one.
    pub fn unsubscribe(&mut self, slot: SessionSlot, filter: &str) -> bool {
        self.sessions[slot.index()].subscriptions.remove(filter).is_some()
    }

    /// A QoS 2 message arrives: true if it is new, false if its identifier is not released yet.
    pub fn take(&mut self, slot: SessionSlot, packet_id: PacketId) -> bool {
        self.sessions[slot.index()].take(packet_id)
    }

    /// A PUBREL arrives: true if its identifier was taken.
    pub fn release(&mut self, slot: SessionSlot, packet_id: PacketId) -> bool {
        self.sessions[slot.index()].release(packet_id)
    }

    /// The session that a client has here.
    pub fn find_client(&self, tenant: &str, client: &str) -> Option<SessionSlot> {
        let found = self.by_client.find(self.hash(tenant, client), |slot| {
            let session = &self.sessions[*slot as usize];
            &*session.client == client && &*session.tenant == tenant
        });
        found.map(|slot| SessionSlot(*slot))
    }

    fn insert(&mut self, session: Session) -> SessionSlot {
        let hash = self.hash(&session.tenant, &session.client);
        let incarnation = session.incarnation();
        self.stored += usize::from(session.stored.is_some());
        let slot =
            u32::try_from(self.sessions.insert(Box::new(session))).expect("bounded by connections_max");
        let (sessions, hasher) = (&self.sessions, &self.hasher);
        self.by_client.insert_unique(hash, slot, |slot| {
            let session = &sessions[*slot as usize];
            hash_client(hasher, &session.tenant, &session.client)
        });
        let previous = self.by_incarnation.insert(incarnation, slot);
        assert!(previous.is_none(), "incarnations are unique");
        SessionSlot(slot)
    }

    fn remove(&mut self, slot: SessionSlot) -> Box<Session> {
        let session = self.sessions.remove(slot.index());
        self.stored -= usize::from(session.stored.is_some());
        let hash = self.hash(&session.tenant, &session.client);
        if let Ok(entry) = self.by_client.find_entry(hash, |other| *other == slot.0) {
            entry.remove();
        }
        self.by_incarnation.remove(&session.incarnation());
        session
    }

    fn end(&mut self, slot: SessionSlot, now: Wall, effects: &mut Vec<Effect>) {
        let mut session = self.remove(slot);
        assert!(session.stored.is_none(), "a persistent session ends in its range");
        if let Some(will) = session.take_will() {
            effects.push(session.publish(*will, now));
        }
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

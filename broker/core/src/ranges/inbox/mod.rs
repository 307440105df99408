//! inbox: the persistent sessions of one range: subscriptions, what waits for the client, what it owes.
//!
//! A replicated state machine (see [`super`]). It knows neither packets nor connections: a connection is an
//! *epoch*, a number that its core gave it, and commands of a connection that has lost the session meanwhile
//! are [stale](Outcome::Stale) and change nothing. What follows elsewhere, on other ranges, is left as a
//! [`Task`] with the client, and stays until somebody says that it is done: it survives the leader.
//!
//! A message for any number of sessions is one command; their queues hold its [`MessageId`]. Who holds
//! messages is told by [`Effect::Held`] and [`Effect::Released`].

pub mod command;

mod checkpoint;
mod client;
mod groups;
mod machine;
mod messages;
mod names;
mod places;
mod queue;
mod sessions;
mod tasks;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use range::RangeId;
use rkyv::rancor::Error;
use slab::Slab;

pub use client::{Client, Session, Will};
pub use groups::GroupNumber;
pub use queue::{Entry, Limits, Pushed, Queue, Sequence, State};
pub use tasks::{Task, Tasks, Work};

use command::Command;
use groups::Groups;
use names::{Name, Names};

use super::seen::Seen;
use super::{Committed, MessageId};
use crate::counters::DropReason;
use crate::dist::GroupKey;
use crate::identity::Incarnation;
use crate::time::Wall;

/// What a command came to, for whoever proposed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The session is not there any more, or another connection has it: nothing was changed.
    Stale,
    /// [`command::Attach`]
    Attached(Attached),
    /// [`command::Append`]: so many sessions have it in their queues.
    Appended(u32),
    /// [`command::Append`]: this publish was applied before; nothing was changed.
    Repeated,
    /// [`command::Take`]
    Taken {
        /// Which of the session's QoS 2 messages it is.
        generation: u64,
        /// The first that is not released.
        oldest: u64,
        /// The client has sent it before.
        known: bool,
    },
    /// [`command::Release`]: whether the identifier was taken.
    Released(bool),
}

/// What a client found when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its session.
    pub incarnation: Incarnation,
    /// There was one before.
    pub session_present: bool,
    /// The connection that had it until now.
    pub former_epoch: Option<u64>,
    /// The place of its first message.
    pub first: Sequence,
    /// Messages before this place may have been sent before.
    pub sent_before: Sequence,
}

/// What follows from a command, for the leader's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// So many more hold a message.
    Held(MessageId, u32),
    /// One less holds a message.
    Released(MessageId),
    /// A message waits for a client that is connected.
    Queued {
        /// Its session.
        incarnation: Incarnation,
        /// Its connection.
        epoch: u64,
        /// The message's place.
        sequence: Sequence,
    },
    /// Messages for clients of a tenant are lost.
    Dropped(Arc<str>, DropReason, u32),
    /// The session wants a [`command::Due`] at this moment, and at no other.
    Due(Incarnation, Wall),
    /// Nothing is due for the session any more.
    NotDue(Incarnation),
    /// A session has ended.
    Ended {
        /// Which.
        incarnation: Incarnation,
        /// Whose.
        tenant: Arc<str>,
        /// Whose.
        client: Box<str>,
        /// How many shared subscriptions it had.
        shared: u64,
        /// How many others.
        plain: u64,
    },
    /// There is something new to be done elsewhere.
    Task {
        /// Because of whom.
        tenant: Arc<str>,
        /// Because of whom.
        client: Box<str>,
        /// Its name within the client.
        number: u64,
    },
    /// A message came for a session that is not here: a route to it is left over.
    Unknown(Incarnation),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct InboxRange {
    range: RangeId,
    clients: Slab<Box<Client>>,
    names: Names,
    /// Slots by session.
    by_incarnation: HashMap<Incarnation, u32, foldhash::fast::FixedState>,
    /// Names that clients share.
    tenants: HashSet<Arc<str>, foldhash::fast::FixedState>,
    groups: Groups,
    seen: Seen,
    /// Scratch.
    finished: Vec<Entry>,
    key: Vec<u8>,
    effects: Vec<Effect>,
}

impl InboxRange {
    /// A range without clients; `seed` is of its hash tables alone, and changes nothing that can be seen.
    #[must_use]
    pub fn new(range: RangeId, seed: u64) -> InboxRange {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        InboxRange {
            range,
            clients: Slab::new(),
            names: Names::default(),
            by_incarnation: HashMap::with_hasher(hasher.clone()),
            tenants: HashSet::with_hasher(hasher),
            groups: Groups::new(seed),
            seen: Seen::new(seed),
            finished: Vec::new(),
            key: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Executes a committed command.
    fn execute(
        &mut self,
        committed: Committed<'_>,
        command: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<Outcome, Error> {
        let outcome = match Command::decode(command)? {
            Command::Attach(attach) => self.attach(committed, attach, effects),
            Command::Detach(detach) => self.detach(committed, detach, effects),
            Command::Lost(lost) => self.lose(committed, lost, effects),
            Command::Subscribe(subscribe) => self.subscribe(committed, subscribe, effects),
            Command::Unsubscribe(unsubscribe) => self.unsubscribe(committed, unsubscribe, effects),
            Command::Append(append) => self.append(committed, append, effects),
            Command::Progress(progress) => self.progress(committed, progress, effects),
            Command::Take(take) => self.take(committed, take),
            Command::Release(release) => self.release(committed, release),
            Command::Due(due) => self.due(committed, due, effects),
            Command::TaskDone(done) => self.task_done(committed, done, effects),
            Command::Forget(forget) => {
                self.seen.forget(Incarnation(forget.incarnation.to_native()));
                Outcome::Done
            }
        };
        Ok(outcome)
    }

    /// How many clients it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many sessions it has.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.by_incarnation.len()
    }

    /// Whether it knows no client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// A client, if the range has anything of it.
    #[must_use]
    pub fn client(&self, tenant: &str, name: &str) -> Option<&Client> {
        self.names.find(&self.clients, (tenant, name)).map(|slot| &*self.clients[slot as usize])
    }

    /// A session, if it is.
    #[must_use]
    pub fn session(&self, incarnation: Incarnation) -> Option<&Session> {
        let slot = self.by_incarnation.get(&incarnation)?;
        self.clients[*slot as usize].session.as_ref()
    }

    /// The name of a session's client.
    #[must_use]
    pub fn client_of(&self, incarnation: Incarnation) -> Option<&str> {
        let slot = self.by_incarnation.get(&incarnation)?;
        Some(&self.clients[*slot as usize].name)
    }

    /// Every client, in no order that means anything, but the same for the same log.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().map(|(_, client)| &**client)
    }

    /// Some of the clients, from a place in the table on; and where to go on, if that is not the end. So many
    /// places are looked at.
    pub fn page(&self, from: u32, looks: u32) -> (impl Iterator<Item = (u32, &Client)>, Option<u32>) {
        let end = from.saturating_add(looks);
        let clients =
            (from..end).filter_map(|slot| self.clients.get(slot as usize).map(|client| (slot, &**client)));
        (clients, ((end as usize) < self.clients.capacity()).then_some(end))
    }

    /// The shared subscription that a message came by.
    #[must_use]
    pub fn group(&self, number: GroupNumber) -> &Arc<GroupKey> {
        self.groups.get(number)
    }

    /// The place of a session that a connection has, unless its state contains the entry already.
    fn owned(&mut self, committed: Committed<'_>, (incarnation, epoch): (u64, u64)) -> Option<u32> {
        let slot = self.standing(committed, Incarnation(incarnation))?;
        let session = self.clients[slot as usize].session.as_ref()?;
        (session.epoch == Some(epoch)).then_some(slot)
    }

    /// The place of a session, unless its state contains the entry already.
    fn standing(&mut self, committed: Committed<'_>, incarnation: Incarnation) -> Option<u32> {
        let slot = *self.by_incarnation.get(&incarnation)?;
        let client = &self.clients[slot as usize];
        let contained = contains(committed, (&client.tenant, &client.name), &mut self.key);
        (!contained).then_some(slot)
    }

    fn begin(&mut self, tenant: &str, name: &str, index: u64) -> u32 {
        let tenant = self.tenant(tenant);
        self.insert(Client::new(tenant, name, index))
    }

    /// A tenant's name, which its clients share.
    fn tenant(&mut self, name: &str) -> Arc<str> {
        if let Some(tenant) = self.tenants.get(name) {
            return Arc::clone(tenant);
        }
        let tenant: Arc<str> = name.into();
        self.tenants.insert(Arc::clone(&tenant));
        tenant
    }

    fn insert(&mut self, client: Client) -> u32 {
        let slot = u32::try_from(self.clients.insert(Box::new(client))).expect("bounded by memory");
        self.names.insert(&self.clients, slot);
        slot
    }

    /// Forgets a client of which nothing is left.
    fn tidy(&mut self, slot: u32) {
        if self.clients[slot as usize].is_empty() {
            self.remove(slot);
        }
    }

    fn remove(&mut self, slot: u32) -> Box<Client> {
        self.names.remove(&self.clients, slot);
        self.clients.remove(slot as usize)
    }
}

/// Whether the state of a client contains an entry that is replayed.
fn contains(committed: Committed<'_>, name: Name<'_>, key: &mut Vec<u8>) -> bool {
    committed.contained.is_some_and(|contained| {
        names::write_key(name, key);
        contained(key)
    })
}

#[cfg(test)]
mod tests;

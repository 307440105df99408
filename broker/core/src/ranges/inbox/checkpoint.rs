//! The range's state as a checkpoint keeps it: a value for each client, and one for what must not be repeated.
//!
//! A checkpoint is *fuzzy*: its keys are written while the range goes on, each as of the entry that was applied
//! last before it. A restart replays from the entry at which the checkpoint began, and a client ignores entries
//! that its value contains already. What must not be repeated has the least key, so that it is written first, as
//! of the checkpoint's beginning: it decides about whole commands and not about one client.

use std::collections::BTreeMap;
use std::sync::Arc;

use mqtt::QoS;
use rkyv::api::high::HighSerializer;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::InboxRange;
use super::client::{Client, Session, Will};
use super::groups::Groups;
use super::names::write_key;
use super::queue::{Entry, Queue, Sequence, State};
use super::tasks::{Tasks, Work};
use crate::delivery::DeliveryOptions;
use crate::dist::GroupKey;
use crate::identity::Incarnation;
use crate::ranges::MessageId;
use crate::time::Wall;
use crate::unreleased::Taken;

/// The key of what must not be repeated.
const SEEN_KEY: &[u8] = &[0];

#[derive(Archive, Serialize, Deserialize)]
struct StoredClient {
    tenant: String,
    name: String,
    session: Option<StoredSession>,
    next_task: u64,
    tasks: Vec<(u64, StoredWork)>,
    /// Shared subscriptions that the messages below came by.
    groups: Vec<StoredGroup>,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredSession {
    incarnation: u64,
    epoch: Option<u64>,
    expiry_seconds: u32,
    will: Option<StoredWill>,
    will_due: u64,
    expires: u64,
    subscriptions: Vec<(String, u32)>,
    first: u64,
    sent_before: u64,
    entries: Vec<StoredEntry>,
    taken: Vec<(u16, u64)>,
    next_generation: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredMessage {
    origin: u16,
    ordinal: u16,
    index: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredEntry {
    message: StoredMessage,
    expires_seconds: u32,
    bytes: u32,
    options: u32,
    /// 1 and more: place in the client's list; 0: none.
    group: u32,
    qos: u8,
    retain: bool,
    /// 0 waiting, 1 received, 2 done.
    state: u8,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredWill {
    message: StoredMessage,
    delay_seconds: u32,
    expiry_seconds: u32,
}

#[derive(Archive, Serialize, Deserialize, PartialEq)]
struct StoredGroup {
    name: String,
    filter: String,
    ordered: bool,
}

#[derive(Archive, Serialize, Deserialize)]
enum StoredWork {
    Route(u64, String, u32),
    Unroute(u64, String),
    Publish(u64, StoredWill, u64),
    PassOn(u32, StoredMessage),
    Forget(u64),
}

impl InboxRange {
    /// Hands out the keys behind `after` with their values, ascending, until `put` says that it is enough: true
    /// if nothing is left.
    pub(super) fn write_keys(&self, after: Option<&[u8]>, mut put: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        if after.is_none() && put(SEEN_KEY, &encode(&self.seen.to_list())) {
            return false;
        }
        let mut key = Vec::new();
        for slot in self.names.after(&self.clients, after) {
            let client = &self.clients[slot as usize];
            write_key((&client.tenant, &client.name), &mut key);
            if put(&key, &encode(&store_client(client, &self.groups))) {
                return false;
            }
        }
        true
    }

    /// Takes a key as a checkpoint has it; to be called before any entry is applied.
    pub(super) fn restore_key(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if key == SEEN_KEY {
            self.seen.restore(rkyv::from_bytes::<Vec<crate::ranges::seen::SeenV1>, Error>(value)?);
            return Ok(());
        }
        let stored = rkyv::from_bytes::<StoredClient, Error>(value)?;
        let tenant = self.tenant(&stored.tenant);
        let client = restore_client(stored, tenant, &mut self.groups);
        let incarnation = client.session.as_ref().map(|session| session.incarnation);
        let slot = self.insert(client);
        if let Some(incarnation) = incarnation {
            self.by_incarnation.insert(incarnation, slot);
        }
        Ok(())
    }
}

fn encode<T>(value: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
{
    rkyv::to_bytes::<Error>(value).expect("memory is all it takes").into_vec()
}

fn store_client(client: &Client, groups: &Groups) -> StoredClient {
    let mut numbers = Vec::new();
    let mut place = |group| {
        let at = numbers.iter().position(|number| *number == group).unwrap_or_else(|| {
            numbers.push(group);
            numbers.len() - 1
        });
        u32::try_from(at + 1).expect("fewer than messages")
    };
    let session = client.session.as_ref().map(|session| store_session(session, &mut place));
    let tasks = client.tasks.iter().map(|task| {
        let work = match &task.work {
            Work::Route(session, filter, options) => {
                StoredWork::Route(session.0, filter.to_string(), options.to_bits())
            }
            Work::Unroute(session, filter) => StoredWork::Unroute(session.0, filter.to_string()),
            Work::Publish(session, will, at) => StoredWork::Publish(session.0, store_will(will), at.0),
            Work::PassOn(group, message) => StoredWork::PassOn(place(*group), store_message(*message)),
            Work::Forget(session) => StoredWork::Forget(session.0),
        };
        (task.number, work)
    });
    StoredClient {
        tenant: client.tenant.to_string(),
        name: client.name.to_string(),
        session,
        next_task: client.tasks.next(),
        tasks: tasks.collect(),
        groups: numbers.into_iter().map(|number| store_group(groups.get(number))).collect(),
    }
}

fn store_session(session: &Session, place: &mut impl FnMut(super::GroupNumber) -> u32) -> StoredSession {
    let (will_due, expires) = session.moments();
    StoredSession {
        incarnation: session.incarnation.0,
        epoch: session.epoch,
        expiry_seconds: session.expiry_seconds,
        will: session.will.as_deref().map(store_will),
        will_due: will_due.0,
        expires: expires.0,
        subscriptions: session
            .subscriptions
            .iter()
            .map(|(filter, options)| (filter.to_string(), options.to_bits()))
            .collect(),
        first: session.queue.first().0,
        sent_before: session.queue.sent_before().0,
        entries: session.queue.entries().map(|entry| store_entry(&entry, place)).collect(),
        taken: session.taken.to_list().iter().map(|taken| (taken.packet_id, taken.generation)).collect(),
        next_generation: session.next_generation,
    }
}

fn store_entry(entry: &Entry, place: &mut impl FnMut(super::GroupNumber) -> u32) -> StoredEntry {
    // A hole holds nothing.
    let group = entry.group.filter(|_| entry.state == State::Waiting);
    StoredEntry {
        message: store_message(entry.message),
        expires_seconds: entry.expires_seconds,
        bytes: entry.bytes,
        options: entry.options.to_bits(),
        group: group.map_or(0, place),
        qos: entry.qos.bits(),
        retain: entry.retain,
        state: match entry.state {
            State::Waiting => 0,
            State::Received => 1,
            State::Done => 2,
        },
    }
}

fn store_message(message: MessageId) -> StoredMessage {
    StoredMessage { origin: message.origin(), ordinal: message.ordinal(), index: message.index() }
}

fn store_will(will: &Will) -> StoredWill {
    StoredWill {
        message: store_message(will.message),
        delay_seconds: will.delay_seconds,
        expiry_seconds: will.expiry_seconds,
    }
}

fn store_group(key: &GroupKey) -> StoredGroup {
    StoredGroup { name: key.name.to_string(), filter: key.filter.to_string(), ordered: key.ordered }
}

fn restore_client(stored: StoredClient, tenant: Arc<str>, groups: &mut Groups) -> Client {
    let keys: Vec<GroupKey> = stored
        .groups
        .into_iter()
        .map(|group| GroupKey {
            name: group.name.into(),
            ordered: group.ordered,
            filter: group.filter.into(),
        })
        .collect();
    let mut hold = |place: u32| groups.hold(&keys[place as usize - 1]);
    let session = stored.session.map(|session| restore_session(session, &mut hold));
    let mut tasks = Tasks::restored(stored.next_task);
    for (number, work) in stored.tasks {
        let work = match work {
            StoredWork::Route(session, filter, options) => {
                Work::Route(Incarnation(session), filter.into(), DeliveryOptions::from_bits(options))
            }
            StoredWork::Unroute(session, filter) => Work::Unroute(Incarnation(session), filter.into()),
            StoredWork::Publish(session, will, at) => {
                Work::Publish(Incarnation(session), Box::new(restore_will(&will)), Wall(at))
            }
            StoredWork::PassOn(group, message) => Work::PassOn(hold(group), restore_message(&message)),
            StoredWork::Forget(session) => Work::Forget(Incarnation(session)),
        };
        tasks.restore(number, work);
    }
    Client { tenant, name: stored.name.into(), session, tasks }
}

fn restore_session(stored: StoredSession, hold: &mut impl FnMut(u32) -> super::GroupNumber) -> Session {
    let entries = stored.entries.iter().map(|entry| restore_entry(entry, hold));
    let subscriptions: BTreeMap<Box<str>, DeliveryOptions> = stored
        .subscriptions
        .into_iter()
        .map(|(filter, options)| (filter.into(), DeliveryOptions::from_bits(options)))
        .collect();
    let mut session = Session::new(Incarnation(stored.incarnation));
    session.epoch = stored.epoch;
    session.expiry_seconds = stored.expiry_seconds;
    session.will = stored.will.map(|will| Box::new(restore_will(&will)));
    session.set_moments(Wall(stored.will_due), Wall(stored.expires));
    session.subscriptions = subscriptions;
    session.queue = Queue::restored(Sequence(stored.first), Sequence(stored.sent_before), entries);
    let taken = stored.taken.into_iter();
    session.taken = taken.map(|(packet_id, generation)| Taken { packet_id, generation, value: () }).collect();
    session.next_generation = stored.next_generation;
    session
}

fn restore_entry(stored: &StoredEntry, hold: &mut impl FnMut(u32) -> super::GroupNumber) -> Entry {
    Entry {
        message: restore_message(&stored.message),
        expires_seconds: stored.expires_seconds,
        bytes: stored.bytes,
        options: DeliveryOptions::from_bits(stored.options),
        group: (stored.group > 0).then(|| hold(stored.group)),
        qos: QoS::from_bits(stored.qos).expect("stored from a QoS"),
        retain: stored.retain,
        state: match stored.state {
            0 => State::Waiting,
            1 => State::Received,
            _ => State::Done,
        },
    }
}

fn restore_message(stored: &StoredMessage) -> MessageId {
    MessageId::new(stored.origin, stored.index, stored.ordinal)
}

fn restore_will(stored: &StoredWill) -> Will {
    Will {
        message: restore_message(&stored.message),
        delay_seconds: stored.delay_seconds,
        expiry_seconds: stored.expiry_seconds,
    }
}

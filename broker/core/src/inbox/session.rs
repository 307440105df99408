//! One session: whose it is, who is connected to it, what it subscribes to, what waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mqtt::PacketId;

use super::{Effect, Ended, Owed, Queue};
use crate::access::{Access, Grant};
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, Incarnation};
use crate::message::Message;
use crate::time::Wall;
use crate::wheel::TimerId;

/// A message to publish when a connection ends unannounced.
#[derive(Debug)]
pub struct Will {
    /// What to publish.
    pub message: Message,
    /// How long to wait for the client to come back first.
    pub delay_seconds: u32,
    /// Lifetime of the message, from its publication on.
    pub expiry_seconds: Option<u32>,
}

impl Will {
    /// The message, its lifetime beginning now.
    pub(super) fn into_message(self, now: Wall) -> Message {
        let expires = self.expiry_seconds.map(|seconds| now.after_seconds(seconds));
        Message { expires, ..self.message }
    }
}

/// The state of one session, on its client's home core.
#[derive(Debug)]
pub struct Inbox {
    pub(super) tenant: Arc<str>,
    pub(super) client: Box<str>,
    incarnation: Incarnation,
    connection: Option<ConnectionId>,
    durable: bool,
    expiry_seconds: u32,
    will: Option<Box<Will>>,
    /// There while the client is away.
    away: Option<Box<Away>>,
    /// What its client may do, as of its last connection: a view of the core, not part of the session's state.
    pub grant: Option<Arc<Grant>>,
    /// Subscriptions by filter as the client spelled it, share name included.
    pub subscriptions: BTreeMap<Box<str>, DeliveryOptions>,
    /// Messages for the client.
    pub queue: Queue,
    /// Retained messages for the client that are not in the queue yet.
    pub owed: Option<Box<Owed>>,
    /// Identifiers of QoS 2 messages from the client that it has not released, ascending.
    taken: Vec<PacketId>,
}

/// What is due while a client is away.
#[derive(Debug, Default)]
struct Away {
    /// Since when it is away.
    since: Wall,
    /// When the will is to be published.
    will_due: Option<Wall>,
    /// When the session ends.
    expires: Option<Wall>,
    /// The timer that the core armed for the earlier of the two; not part of the session's state.
    timer: Option<TimerId>,
}

const _: () = assert!(size_of::<Inbox>() <= 216, "README.md says what a session costs");

impl Inbox {
    pub(super) fn new(tenant: Arc<str>, client: &str, incarnation: Incarnation, durable: bool) -> Inbox {
        Inbox {
            tenant,
            client: client.into(),
            incarnation,
            connection: None,
            durable,
            expiry_seconds: 0,
            will: None,
            away: None,
            grant: None,
            subscriptions: BTreeMap::new(),
            queue: Queue::default(),
            owed: None,
            taken: Vec::new(),
        }
    }

    /// The client's tenant.
    pub fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// The client's id.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Its name among all sessions that ever were.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The connection that has it, if any.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// Whether it outlives its connection, or was meant to when it began.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Seconds it outlives its connection.
    pub fn expiry_seconds(&self) -> u32 {
        self.expiry_seconds
    }

    pub(super) fn enter(&mut self, connection: ConnectionId, expiry_seconds: u32, will: Option<Box<Will>>) {
        self.connection = Some(connection);
        self.expiry_seconds = expiry_seconds;
        self.will = will;
        self.away = None;
        self.rewind();
    }

    /// What was not finished on the former connection is to be sent on the next.
    fn rewind(&mut self) {
        self.queue.rewind();
        if let Some(owed) = &mut self.owed {
            owed.rewind();
        }
    }

    /// Another connection takes the session over, and it goes on: a will without delay is published; one
    /// with a delay is not, for the client has come back in time [MQTT-3.1.3-9].
    pub(super) fn leave(&mut self, now: Wall, effects: &mut Vec<Effect>) {
        let due = match self.away.as_ref().and_then(|away| away.will_due) {
            Some(due) => due <= now,
            None => self.will.as_ref().is_some_and(|will| will.delay_seconds == 0),
        };
        if let Some(will) = self.will.take().filter(|_| due) {
            effects.push(self.publish(*will, now));
        }
        self.connection = None;
    }

    /// The connection has ended, the session waits for its client.
    pub(super) fn wait(&mut self, now: Wall, effects: &mut Vec<Effect>) {
        self.connection = None;
        self.rewind();
        self.away = Some(Box::new(Away {
            since: now,
            will_due: self.will.as_ref().map(|will| now.after_seconds(will.delay_seconds)),
            expires: (self.expiry_seconds != u32::MAX).then(|| now.after_seconds(self.expiry_seconds)),
            timer: None,
        }));
        self.publish_due_will(now, effects);
        self.ask_for_due(effects);
    }

    /// Asks to be told of the next moment at which something is due.
    pub(super) fn ask_for_due(&self, effects: &mut Vec<Effect>) {
        let Some(away) = &self.away else { return };
        if let Some(due) = away.will_due.into_iter().chain(away.expires).min() {
            effects.push(Effect::Due(self.incarnation, due));
        }
    }

    pub(super) fn publish_due_will(&mut self, now: Wall, effects: &mut Vec<Effect>) {
        let Some(away) = &mut self.away else { return };
        if away.will_due.is_some_and(|due| due <= now) {
            away.will_due = None;
            if let Some(will) = self.will.take() {
                effects.push(self.publish(*will, now));
            }
        }
    }

    /// The will as an effect, with what its client may do.
    pub(super) fn publish(&self, will: Will, now: Wall) -> Effect {
        Effect::Publish {
            message: will.into_message(now),
            client: self.client.clone(),
            grant: self.grant.clone(),
        }
    }

    /// Whether what is published on a topic may be given to the client, or wait for it. A session that nobody
    /// has claimed since the core started takes everything: it is judged when somebody does.
    pub fn may_receive(&mut self, access: &Access, topic: &str) -> bool {
        let client = &self.client;
        self.grant.as_mut().is_none_or(|grant| {
            access.refresh(grant, || client.clone());
            grant.may_receive(topic)
        })
    }

    pub(super) fn is_expired(&self, now: Wall) -> bool {
        let expires = self.away.as_ref().and_then(|away| away.expires);
        expires.is_some_and(|expires| expires <= now)
    }

    /// Remembers the timer that was armed for what is due, the only one: asked for when the client leaves, and when
    /// the one before has fired.
    pub fn set_timer(&mut self, timer: TimerId) {
        if let Some(away) = &mut self.away {
            away.timer = Some(timer);
        }
    }

    /// The timer armed for what is due; nothing is, from now on.
    pub(super) fn take_timer(&mut self) -> Option<TimerId> {
        self.away.take().and_then(|away| away.timer)
    }

    /// Its time has passed, or passes with the connection that it has [MQTT-4.1.0-2].
    pub(super) fn is_over(&self, now: Wall) -> bool {
        self.expiry_seconds == 0 || self.is_expired(now)
    }

    /// Since when its client is away, and when it ends for that, if it does.
    pub fn away(&self) -> Option<(Wall, Option<Wall>)> {
        self.away.as_ref().map(|away| (away.since, away.expires))
    }

    /// The will of its connection, or the one that is due.
    pub fn will(&self) -> Option<&Will> {
        self.will.as_deref()
    }

    /// QoS 2 messages from its client that are not released.
    pub fn unreleased(&self) -> usize {
        self.taken.len()
    }

    /// Whether a will is to be published when the connection ends.
    pub fn has_will(&self) -> bool {
        self.will.is_some()
    }

    pub(super) fn discard_will(&mut self) {
        self.will = None;
    }

    pub(super) fn take_will(&mut self) -> Option<Box<Will>> {
        self.will.take()
    }

    pub(super) fn set_expiry(&mut self, seconds: u32) {
        self.expiry_seconds = seconds;
    }

    pub(super) fn take(&mut self, packet_id: PacketId) -> bool {
        match self.taken.binary_search(&packet_id) {
            Ok(_) => false,
            Err(index) => {
                self.taken.insert(index, packet_id);
                true
            }
        }
    }

    pub(super) fn release(&mut self, packet_id: PacketId) -> bool {
        let found = self.taken.binary_search(&packet_id);
        if let Ok(index) = found {
            self.taken.remove(index);
            if self.taken.is_empty() {
                self.taken = Vec::new();
            }
        }
        found.is_ok()
    }

    pub(super) fn into_ended(self) -> Ended {
        Ended {
            tenant: self.tenant,
            client: self.client,
            incarnation: self.incarnation,
            durable: self.durable,
            connection: self.connection,
            subscriptions: self.subscriptions,
            queue: self.queue,
        }
    }
}

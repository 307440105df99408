//! One session of a connected client: whose it is, what it subscribes to, what waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mqtt::PacketId;

use super::{Effect, Ended, Owed, Queue, Stored};
use crate::access::{Access, Grant};
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, Incarnation};
use crate::message::Message;
use crate::time::Wall;

/// A message to publish when a connection ends unannounced.
#[derive(Clone, Debug)]
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

/// The session of a client that is connected, on its home core.
#[derive(Debug)]
pub struct Session {
    pub(super) tenant: Arc<str>,
    pub(super) client: Box<str>,
    incarnation: Incarnation,
    connection: ConnectionId,
    expiry_seconds: u32,
    /// What its range has not, if it is persistent; its subscriptions, queue, will and what it has taken are
    /// there then, and those below are empty.
    pub stored: Option<Box<Stored>>,
    will: Option<Box<Will>>,
    /// What its client may do: a view of the core, not part of the session's state.
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

const _: () = assert!(size_of::<Session>() <= 216, "README.md says what a session costs");

impl Session {
    pub(super) fn new(
        tenant: Arc<str>,
        client: &str,
        incarnation: Incarnation,
        connection: ConnectionId,
    ) -> Session {
        Session {
            tenant,
            client: client.into(),
            incarnation,
            connection,
            expiry_seconds: 0,
            stored: None,
            will: None,
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

    /// The connection that has it.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Seconds it outlives its connection.
    pub fn expiry_seconds(&self) -> u32 {
        self.expiry_seconds
    }

    pub(super) fn enter(&mut self, expiry_seconds: u32, will: Option<Box<Will>>) {
        self.expiry_seconds = expiry_seconds;
        self.will = will;
    }

    /// The will as an effect, with what its client may do.
    pub(super) fn publish(&self, will: Will, now: Wall) -> Effect {
        Effect::Publish {
            message: will.into_message(now),
            client: self.client.clone(),
            grant: self.grant.clone(),
        }
    }

    /// Whether what is published on a topic may be given to the client, or wait for it.
    pub fn may_receive(&mut self, access: &Access, topic: &str) -> bool {
        let client = &self.client;
        self.grant.as_mut().is_none_or(|grant| {
            access.refresh(grant, || client.clone());
            grant.may_receive(topic)
        })
    }

    /// The will of its connection.
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
            connection: self.connection,
            subscriptions: self.subscriptions,
            queue: self.queue,
        }
    }
}

//! A message where it was written.

use std::cell::OnceCell;
use std::sync::Arc;

use mqtt::QoS;
use range::replica::Stored;
use wal::Window;

use super::StoredLog;
use crate::message::{Message, Publication, Publisher};
use crate::payload::Payload;
use crate::ranges::MessageId;
use crate::ranges::inbox::command::{ArchivedMessageHead, Command};
use crate::time::{Mono, Wall};

/// See the module's documentation.
pub(crate) struct StoredMessage<'a> {
    stored: Stored<'a>,
}

impl StoredLog {
    /// A message that a session holds.
    ///
    /// # Panics
    /// When the disk has changed under us: what was acknowledged cannot be delivered any more.
    pub(crate) fn message(&self, id: MessageId) -> StoredMessage<'_> {
        let id = id.global(self.inbox.range());
        let stored = self.inbox.read_command(&self.log, id);
        StoredMessage { stored: stored.unwrap_or_else(|error| panic!("a queued message: {error:?}")) }
    }
}

impl StoredLog {
    /// Whether a message can be read without waiting for the disk. If not: what it waits for, which has been asked
    /// for then.
    pub(crate) fn at_hand(&self, now: Mono, id: MessageId) -> Result<(), Window> {
        self.inbox.at_hand(wal::Mono(now.0), &self.log, id.global(self.inbox.range()))
    }
}

impl StoredMessage<'_> {
    fn head(&self) -> &ArchivedMessageHead<'static> {
        let head = match Command::decode(self.stored.body()) {
            Ok(Command::Append(append)) => Some(&append.message),
            Ok(Command::Attach(attach)) => attach.will.as_ref().map(|will| &will.message),
            _ => None,
        };
        head.expect("what a session holds came with a message")
    }

    /// The message, as the hot path sees it.
    pub fn publication<'a>(&'a self, tenant: &'a Arc<str>) -> Publication<'a> {
        let head = self.head();
        let expires = head.expires.to_native();
        Publication {
            tenant,
            publisher: Publisher { client_hash: head.client_hash.to_native() },
            topic: &head.topic,
            properties: &head.properties,
            payload: self.stored.payload(),
            expires: (expires != u64::MAX).then_some(Wall(expires)),
            qos: QoS::from_bits(head.qos).expect("written from a QoS"),
            retain: head.retain,
            origin: None,
            shared: OnceCell::new(),
        }
    }

    /// The message, to be kept.
    pub fn to_message(&self, tenant: &Arc<str>) -> Message {
        let publication = self.publication(tenant);
        Message {
            tenant: Arc::clone(tenant),
            publisher: publication.publisher,
            topic: publication.topic.into(),
            properties: publication.properties.into(),
            payload: Payload::copy_of(publication.payload),
            expires: publication.expires,
            qos: publication.qos,
            retain: publication.retain,
            origin: None,
        }
    }
}

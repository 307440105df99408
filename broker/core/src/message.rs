//! An application message on its way: as it lies in the receive buffer, and as it is kept.

use std::cell::OnceCell;
use std::sync::Arc;

use mqtt::QoS;
use smol_str::SmolStr;

use crate::payload::Payload;
use crate::random::mix;
use crate::ranges::inbox::command::{MessageHead, Origin};
use crate::time::Wall;

/// A message that outlives its receive buffer: queued, retained, or on its way to another core. Shared by
/// all who hold it, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Whose topic space it is in.
    pub tenant: Arc<str>,
    /// Who published it.
    pub publisher: Publisher,
    /// Never empty, without wildcards.
    pub topic: SmolStr,
    /// The properties that are forwarded unaltered, encoded as in MQTT 5.0.
    pub properties: Box<[u8]>,
    /// The application's bytes.
    pub payload: Payload,
    /// When it expires, if it does [MQTT-3.3.2-5].
    pub expires: Option<Wall>,
    /// As it was published.
    pub qos: QoS,
    /// As it was published.
    pub retain: bool,
    /// Which QoS 2 publish of which persistent session it is, so that a repeat can be told.
    pub origin: Option<Box<Origin>>,
}

// With the counts of an `Arc` three lines of the CPU's caches: of messages that wait none of it is in there.
const _: () = assert!(size_of::<Message>() + 2 * size_of::<usize>() == 192);

/// Who published a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publisher {
    /// Hash of its client id, for No Local, which holds over sessions, and for shared subscriptions that keep
    /// publishers together.
    pub client_hash: u64,
}

/// A number by which No Local and shared subscriptions know a publisher: the same on every core and in what is
/// stored.
pub fn hash_client(client: &str) -> u64 {
    mix(xxhash_rust::xxh3::xxh3_64(client.as_bytes()))
}

/// A message as the hot path sees it: borrowed, and turned into a shared [`Message`] only when somebody has
/// to keep it, and then once.
pub struct Publication<'a> {
    /// See [`Message`]; the same for the other fields.
    pub tenant: &'a Arc<str>,
    pub publisher: Publisher,
    pub topic: &'a str,
    pub properties: &'a [u8],
    pub payload: &'a [u8],
    pub expires: Option<Wall>,
    pub qos: QoS,
    pub retain: bool,
    pub origin: Option<Origin>,
    pub(crate) shared: OnceCell<Arc<Message>>,
}

impl<'a> Publication<'a> {
    /// A publication of what lies in a receive buffer.
    pub fn new(tenant: &'a Arc<str>, publisher: Publisher, topic: &'a str, qos: QoS) -> Publication<'a> {
        Publication {
            tenant,
            publisher,
            topic,
            properties: &[],
            payload: &[],
            expires: None,
            qos,
            retain: false,
            origin: None,
            shared: OnceCell::new(),
        }
    }

    /// See [`Message::bytes`].
    pub fn bytes(&self) -> u64 {
        (self.topic.len() + self.properties.len() + self.payload.len()) as u64
    }

    /// The message itself, made on first use.
    pub fn share(&self) -> &Arc<Message> {
        self.shared.get_or_init(|| {
            Arc::new(Message {
                tenant: Arc::clone(self.tenant),
                publisher: self.publisher,
                topic: self.topic.into(),
                properties: self.properties.into(),
                payload: Payload::copy_of(self.payload),
                expires: self.expires,
                qos: self.qos,
                retain: self.retain,
                origin: self.origin.map(Box::new),
            })
        })
    }

    /// What a command holds of it; its payload stands beside.
    pub fn head(&self) -> MessageHead<'_> {
        MessageHead {
            tenant: self.tenant,
            topic: self.topic,
            properties: self.properties,
            client_hash: self.publisher.client_hash,
            expires: self.expires.map_or(u64::MAX, |expires| expires.0),
            payload_bytes: u32::try_from(self.payload.len()).expect("a packet is below 256 MiB"),
            qos: self.qos.bits(),
            retain: self.retain,
        }
    }
}

impl<'a> From<&'a Arc<Message>> for Publication<'a> {
    fn from(message: &'a Arc<Message>) -> Publication<'a> {
        Publication {
            tenant: &message.tenant,
            publisher: message.publisher,
            topic: &message.topic,
            properties: &message.properties,
            payload: &message.payload,
            expires: message.expires,
            qos: message.qos,
            retain: message.retain,
            origin: message.origin.as_deref().copied(),
            shared: OnceCell::from(Arc::clone(message)),
        }
    }
}

impl Message {
    /// What a command holds of it; its payload stands beside.
    #[must_use]
    pub fn head(&self) -> MessageHead<'_> {
        MessageHead {
            tenant: &self.tenant,
            topic: &self.topic,
            properties: &self.properties,
            client_hash: self.publisher.client_hash,
            expires: self.expires.map_or(u64::MAX, |expires| expires.0),
            payload_bytes: u32::try_from(self.payload.len()).expect("a packet is below 256 MiB"),
            qos: self.qos.bits(),
            retain: self.retain,
        }
    }

    /// Bytes that count against a queue's limit: what the message itself needs, wherever it is shared.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.topic.len() + self.properties.len() + self.payload.len()) as u64
    }

    /// Whether its time has passed.
    #[must_use]
    pub fn is_expired(&self, now: Wall) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

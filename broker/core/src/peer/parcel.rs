//! Hot path. Small messages of a turn for volatile sessions of another core, packed: a few buffers for all of them.
//! Each message by itself would be three pieces of memory that one core takes and another gives back, and a count of
//! the tenant's name that both write to.
//!
//! ```text
//! heads     publisher, lengths, QoS │ …
//! topics    test/1 │ …
//! content   properties, payload │ …
//! ```

use std::sync::Arc;

use mqtt::QoS;

use crate::connection::COPIED_BYTES_MAX;
use crate::identity::ConnectionId;
use crate::message::{Publication, Publisher};
use crate::time::Wall;

/// Bytes after which another parcel is begun.
const BYTES_MAX: usize = 64 * 1024;

/// See the module's documentation. Never empty once it is posted.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Of all of them.
    tenant: Arc<str>,
    heads: Vec<Head>,
    topics: String,
    content: Vec<u8>,
}

#[derive(Debug)]
struct Head {
    client_hash: u64,
    /// To be slowed, if there is somebody.
    from: Option<ConnectionId>,
    expires: Option<Wall>,
    topic_bytes: u16,
    properties_bytes: u16,
    payload_bytes: u16,
    qos: QoS,
}

/// Bytes of a head, and about what a message costs beside its content.
const HEAD_BYTES: u64 = 64;

const _: () = assert!(size_of::<Head>() as u64 <= HEAD_BYTES && COPIED_BYTES_MAX <= u16::MAX as usize);

impl Parcel {
    /// For messages of this tenant.
    pub(crate) fn new(tenant: &Arc<str>) -> Parcel {
        Parcel { tenant: Arc::clone(tenant), heads: Vec::new(), topics: String::new(), content: Vec::new() }
    }

    /// Whether a message is one to be packed: not a large one, which is shared, nor one that changes what is retained
    /// or is known by name, which say more of themselves.
    pub(crate) fn packs(publication: &Publication<'_>) -> bool {
        let bytes = publication.bytes() as usize;
        bytes <= COPIED_BYTES_MAX && !publication.retain && publication.origin.is_none()
    }

    /// Whether there is room for such a message.
    pub(crate) fn takes(&self, publication: &Publication<'_>) -> bool {
        *self.tenant == **publication.tenant && self.content.len() + self.topics.len() < BYTES_MAX
    }

    /// Adds one, and says what it is charged.
    pub(crate) fn push(&mut self, publication: &Publication<'_>, from: Option<ConnectionId>) -> u64 {
        let length = |bytes: usize| u16::try_from(bytes).expect("it is a small one");
        self.heads.push(Head {
            client_hash: publication.publisher.client_hash,
            from,
            expires: publication.expires,
            topic_bytes: length(publication.topic.len()),
            properties_bytes: length(publication.properties.len()),
            payload_bytes: length(publication.payload.len()),
            qos: publication.qos,
        });
        self.topics.push_str(publication.topic);
        self.content.extend_from_slice(publication.properties);
        self.content.extend_from_slice(publication.payload);
        HEAD_BYTES + publication.bytes()
    }

    /// What all of them are charged.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.heads.len() as u64 * HEAD_BYTES + (self.topics.len() + self.content.len()) as u64
    }

    /// Whose they are.
    pub(crate) fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// The messages in order, under this core's own name of their tenant, with their publishers and what each is
    /// charged.
    pub(crate) fn messages<'a>(
        &'a self,
        tenant: &'a Arc<str>,
    ) -> impl Iterator<Item = (Publication<'a>, Option<ConnectionId>, u64)> {
        let (mut topics, mut content) = (&*self.topics, &*self.content);
        self.heads.iter().map(move |head| {
            let (topic, topics_left) = topics.split_at(usize::from(head.topic_bytes));
            let (properties, rest) = content.split_at(usize::from(head.properties_bytes));
            let (payload, content_left) = rest.split_at(usize::from(head.payload_bytes));
            (topics, content) = (topics_left, content_left);
            let publisher = Publisher { client_hash: head.client_hash };
            let expires = head.expires;
            let publication = Publication::new(tenant, publisher, topic, head.qos);
            let publication = Publication { properties, payload, expires, ..publication };
            let data_bytes = HEAD_BYTES + publication.bytes();
            (publication, head.from, data_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is packed is unpacked, in order, and charged alike at both ends; what does not belong in is left out.
    #[test]
    fn a_parcel_has_what_was_put_in() {
        let (tenant, other): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let from = Some(ConnectionId { slot: 3, generation: 4 });
        let mut parcel = Parcel::new(&tenant);
        let mut charged = 0;
        let payloads: Vec<Vec<u8>> = (0..50).map(|length| vec![7; length * 40]).collect();
        for (number, payload) in (0_u64..).zip(&payloads) {
            let publisher = Publisher { client_hash: number };
            let topic = if number % 2 == 0 { "a/ö" } else { "b" };
            let publication = Publication::new(&tenant, publisher, topic, QoS::AtLeastOnce);
            let expires = (number > 10).then_some(Wall(number));
            let publication = Publication { payload, properties: b"pp", expires, ..publication };
            assert!(Parcel::packs(&publication) && parcel.takes(&publication));
            charged += parcel.push(&publication, from.filter(|_| number > 5));
        }
        assert_eq!(parcel.data_bytes(), charged);
        let mut number = 0;
        for (publication, publisher, bytes) in parcel.messages(&other) {
            assert_eq!(publication.topic, if number % 2 == 0 { "a/ö" } else { "b" });
            assert_eq!((publication.payload, publication.properties), (&*payloads[number], &b"pp"[..]));
            assert_eq!((publication.publisher.client_hash, &**publication.tenant), (number as u64, "two"));
            assert_eq!(publication.expires, (number > 10).then_some(Wall(number as u64)));
            assert_eq!((publication.qos, publisher), (QoS::AtLeastOnce, from.filter(|_| number > 5)));
            charged -= bytes;
            number += 1;
        }
        assert_eq!((number, charged), (50, 0));
        let publication = Publication::new(&other, Publisher::default(), "a", QoS::AtMostOnce);
        assert!(!parcel.takes(&publication), "another tenant's");
        assert!(!Parcel::packs(&Publication { retain: true, ..publication }));
        let publication = Publication::new(&tenant, Publisher::default(), "a", QoS::AtMostOnce);
        assert!(!Parcel::packs(&Publication { payload: &[0; COPIED_BYTES_MAX], ..publication }));
    }
}

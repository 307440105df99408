//! The range's state as a checkpoint keeps it: a value for each topic, and one for what must not be repeated.
//!
//! Fuzzy, as that of sessions is: see [`inbox`](crate::ranges::inbox). What must not be repeated has the least
//! key here, too, and stands as of the checkpoint's beginning.

use rkyv::rancor::{Error, Source};
use rkyv::{Archive, Deserialize, Serialize};

use super::names::{split_key, write_key};
use super::topics::spell;
use super::{RetainRange, Topic};
use crate::ranges::MessageId;
use crate::ranges::archived::Unknown;

/// The key of what must not be repeated.
const SEEN_KEY: &[u8] = &[0];

/// A topic's value; tenant and topic are the key's.
#[derive(Archive, Serialize, Deserialize)]
struct StoredTopic {
    origin: u16,
    ordinal: u16,
    index: u64,
    expires: u64,
    bytes: u32,
}

impl RetainRange {
    /// Hands out the keys behind `after` with their values, ascending, until `put` says that it is enough: true
    /// if nothing is left.
    pub(super) fn write_keys(&self, after: Option<&[u8]>, mut put: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        if after.is_none() {
            let seen = rkyv::to_bytes::<Error>(&self.seen.to_list()).expect("memory is all it takes");
            if put(SEEN_KEY, &seen) {
                return false;
            }
        }
        let key_of = |slot: u32| {
            let topic = &self.topics[slot as usize];
            let (mut key, spelled) = (Vec::new(), spell(&topic.place).collect::<Vec<u8>>());
            write_key(&self.tenants[topic.tenant as usize].name, &spelled, &mut key);
            key
        };
        for (key, slot) in self.names.after(after, key_of) {
            let value = store(&self.topics[slot as usize]);
            let value = rkyv::to_bytes::<Error>(&value).expect("memory is all it takes");
            if put(&key, &value) {
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
        let (tenant, topic) =
            split_key(key).ok_or_else(|| Error::new(Unknown { kind: key[0], version: 0 }))?;
        let stored = rkyv::from_bytes::<StoredTopic, Error>(value)?;
        let message = MessageId::new(stored.origin, stored.index, stored.ordinal);
        let digest = write_key(tenant, topic.as_bytes(), &mut self.key);
        self.insert(tenant, topic, digest, (message, stored.expires, stored.bytes));
        Ok(())
    }
}

fn store(topic: &Topic) -> StoredTopic {
    StoredTopic {
        origin: topic.message.origin(),
        ordinal: topic.message.ordinal(),
        index: topic.message.index(),
        expires: topic.expires,
        bytes: topic.bytes,
    }
}

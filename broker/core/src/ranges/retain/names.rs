//! Topics by name, in the order of their keys: `hash (16, big-endian) | tenant | 0 | topic`.

use hashbrown::HashMap;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::placement::KeyHash;

/// Slots by the hash of their keys. A few share one, told apart by more of the digest: so a topic costs eight
/// bytes here, and finding it touches no other. The hashes are few enough to be gone through in their order.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_hash: HashMap<KeyHash, SmallVec<[Tagged; 2]>, foldhash::fast::FixedState>,
}

/// The digest's lower half, and a slot.
type Tagged = (u32, u32);

/// What a name is found by.
#[derive(Clone, Copy)]
pub(super) struct Digest {
    hash: KeyHash,
    tag: u32,
}

impl Names {
    /// The slot with this digest that `is` right.
    pub(super) fn find(&self, digest: Digest, is: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = self.by_hash.get(&digest.hash)?;
        slots.iter().find(|(tag, slot)| *tag == digest.tag && is(*slot)).map(|(_, slot)| *slot)
    }

    /// Adds a slot that is not here.
    pub(super) fn insert(&mut self, digest: Digest, slot: u32) {
        self.by_hash.entry(digest.hash).or_default().push((digest.tag, slot));
    }

    /// Removes a slot that is here.
    pub(super) fn remove(&mut self, digest: Digest, slot: u32) {
        let slots = self.by_hash.get_mut(&digest.hash).expect("every topic is found by its name");
        let at = slots.iter().position(|(_, other)| *other == slot);
        slots.swap_remove(at.expect("every topic is found by its name"));
        if slots.is_empty() {
            self.by_hash.remove(&digest.hash);
        }
    }

    /// The keys behind `after` with their slots, ascending; `write` says what the key of a slot is.
    pub(super) fn after(
        &self,
        after: Option<&[u8]>,
        write: impl Fn(u32) -> Vec<u8>,
    ) -> impl Iterator<Item = (Vec<u8>, u32)> {
        let after = after.unwrap_or_default().to_vec();
        let hash = after.first_chunk().map_or(0, |hash| u16::from_be_bytes(*hash));
        let found = (hash..=u16::MAX).filter_map(|hash| self.by_hash.get(&KeyHash(hash)));
        found.flat_map(move |slots| {
            let keys = slots.iter().map(|(_, slot)| (write(*slot), *slot));
            let mut keys: SmallVec<[(Vec<u8>, u32); 4]> = keys.filter(|(key, _)| *key > after).collect();
            keys.sort_unstable();
            keys
        })
    }
}

/// Writes a topic's key; answers what the topic is found by.
pub(super) fn write_key(tenant: &str, topic: &[u8], out: &mut Vec<u8>) -> Digest {
    out.clear();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(tenant.as_bytes());
    out.push(0); // occurs in no tenant and no topic
    out.extend_from_slice(topic);
    // The same as `placement::retain_key`, and what that does not need.
    let digest = xxh3_64(&out[2..]);
    let hash = (digest >> 48) as u16;
    out[..2].copy_from_slice(&hash.to_be_bytes());
    Digest { hash: KeyHash(hash), tag: digest as u32 }
}

/// Tenant and topic of a key; none of what is no such key.
pub(super) fn split_key(key: &[u8]) -> Option<(&str, &str)> {
    let (_, name) = key.split_first_chunk::<2>()?;
    std::str::from_utf8(name).ok()?.split_once('\0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::retain_key;

    /// A key falls into the range that its message is sent to, and says what it is the key of.
    #[test]
    fn keys_begin_with_their_hash() {
        let mut key = Vec::new();
        for (tenant, topic) in [("default", "a/b/c"), ("t", "/"), ("", "x")] {
            let digest = write_key(tenant, topic.as_bytes(), &mut key);
            assert_eq!(digest.hash, retain_key(tenant, topic));
            assert_eq!(key[..2], retain_key(tenant, topic).0.to_be_bytes());
            assert_eq!(split_key(&key), Some((tenant, topic)));
        }
    }
}

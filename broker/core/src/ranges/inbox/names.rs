//! Clients by name, in the order of their keys: `hash (16, big-endian) | tenant | 0 | client`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use slab::Slab;

use super::client::Client;
use crate::placement::{KeyHash, inbox_key};

/// Slots of clients. Those with the same hash stand together, in the order of their names: a few, so that a
/// client costs four bytes here, and no tree node of its own.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_hash: BTreeMap<KeyHash, Vec<u32>>,
}

/// A name as it is compared.
pub(super) type Name<'a> = (&'a str, &'a str);

impl Names {
    /// The slot of a client.
    pub(super) fn find(&self, clients: &Slab<Box<Client>>, name: Name<'_>) -> Option<u32> {
        let slots = self.by_hash.get(&inbox_key(name.0, name.1))?;
        let at = place(slots, clients, name).ok()?;
        Some(slots[at])
    }

    /// Adds a client that is not here.
    pub(super) fn insert(&mut self, clients: &Slab<Box<Client>>, slot: u32) {
        let name = name_of(clients, slot);
        let slots = self.by_hash.entry(inbox_key(name.0, name.1)).or_default();
        let at = place(slots, clients, name).expect_err("it is not here");
        slots.insert(at, slot);
    }

    /// Removes a client, which is still in its slot.
    pub(super) fn remove(&mut self, clients: &Slab<Box<Client>>, slot: u32) {
        let name = name_of(clients, slot);
        let hash = inbox_key(name.0, name.1);
        let slots = self.by_hash.get_mut(&hash).expect("every client is found by its name");
        let at = place(slots, clients, name).expect("every client is found by its name");
        slots.remove(at);
        if slots.is_empty() {
            self.by_hash.remove(&hash);
        }
    }

    /// The slots of all clients behind a key, ascending.
    pub(super) fn after<'a>(
        &'a self,
        clients: &'a Slab<Box<Client>>,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = u32> + 'a {
        let after = after.and_then(split_key);
        let from = after.map_or(KeyHash(0), |(hash, _)| hash);
        let skip = after.map_or(0, |(hash, name)| {
            let slots = self.by_hash.get(&hash).map_or(&[][..], Vec::as_slice);
            place(slots, clients, name).map_or_else(|at| at, |at| at + 1)
        });
        let slots = self.by_hash.range(from..);
        let first = after.map(|(hash, _)| hash);
        slots.flat_map(move |(hash, slots)| {
            let skip = if first == Some(*hash) { skip } else { 0 };
            slots[skip..].iter().copied()
        })
    }

    /// Clients.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_hash.values().map(Vec::len).sum()
    }
}

/// Writes a client's key.
pub(super) fn write_key(name: Name<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&inbox_key(name.0, name.1).0.to_be_bytes());
    out.extend_from_slice(name.0.as_bytes());
    out.push(0); // occurs in no tenant and no client id
    out.extend_from_slice(name.1.as_bytes());
}

/// The parts of a client's key; none of what is no such key.
fn split_key(key: &[u8]) -> Option<(KeyHash, Name<'_>)> {
    let (hash, name) = key.split_first_chunk::<2>()?;
    let (tenant, client) = std::str::from_utf8(name).ok()?.split_once('\0')?;
    Some((KeyHash(u16::from_be_bytes(*hash)), (tenant, client)))
}

fn place(slots: &[u32], clients: &Slab<Box<Client>>, name: Name<'_>) -> Result<usize, usize> {
    slots.binary_search_by(|slot| compare(name_of(clients, *slot), name))
}

/// As their keys compare: a tenant that begins another's name comes first, because 0 is the least byte.
fn compare(one: Name<'_>, other: Name<'_>) -> Ordering {
    one.0.cmp(other.0).then_with(|| one.1.cmp(other.1))
}

fn name_of(clients: &Slab<Box<Client>>, slot: u32) -> Name<'_> {
    let client = &clients[slot as usize];
    (&client.tenant, &client.name)
}

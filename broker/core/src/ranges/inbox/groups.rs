//! Shared subscriptions by number, so that a queued message needs four bytes for the one it came by.

use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

use crate::dist::GroupKey;

/// A shared subscription, as this replica numbers it while a message of it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupNumber(NonZeroU32);

#[cfg(test)]
impl GroupNumber {
    /// A number for tests of what holds them.
    pub(super) fn new(number: NonZeroU32) -> GroupNumber {
        GroupNumber(number)
    }
}

/// The shared subscriptions that messages of this range came by.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Slab<(Arc<GroupKey>, u64)>,
    numbers: HashMap<Arc<GroupKey>, GroupNumber, foldhash::fast::FixedState>,
}

impl Groups {
    pub(super) fn new(seed: u64) -> Groups {
        let numbers = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Groups { groups: Slab::new(), numbers }
    }

    /// The number of a group, held once more.
    pub(super) fn hold(&mut self, key: &GroupKey) -> GroupNumber {
        if let Some(number) = self.numbers.get(key) {
            self.groups[index(*number)].1 += 1;
            return *number;
        }
        let key = Arc::new(key.clone());
        let slot = self.groups.insert((Arc::clone(&key), 1));
        let number = u32::try_from(slot + 1).ok().and_then(NonZeroU32::new).expect("fewer than messages");
        self.numbers.insert(key, GroupNumber(number));
        GroupNumber(number)
    }

    /// Holds a group that is held already.
    pub(super) fn hold_again(&mut self, number: GroupNumber) {
        self.groups[index(number)].1 += 1;
    }

    /// One message of it less; the group is forgotten with the last.
    pub(super) fn release(&mut self, number: GroupNumber) {
        let (key, count) = &mut self.groups[index(number)];
        *count -= 1;
        if *count == 0 {
            let key = Arc::clone(key);
            self.numbers.remove(&key);
            self.groups.remove(index(number));
        }
    }

    /// Which group it is.
    pub(super) fn get(&self, number: GroupNumber) -> &Arc<GroupKey> {
        &self.groups[index(number)].0
    }

    /// Whether none is held.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

fn index(number: GroupNumber) -> usize {
    number.0.get() as usize - 1
}

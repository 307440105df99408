//! Hot path. By which cores know shared subscriptions without spelling their names: where the routes are each group
//! gets an id, and a core that publishes finds by it what it remembers of the group.
//!
//! ```text
//! GroupId: core u16 | slot u32 | number u64      slot: used again; number: which of its core's groups, never again
//! ```
//!
//! A group that lost its last member is no more: made again it is another, of another number, perhaps in a slot that
//! was another's. What is still on its way for the former one finds nothing of the later one.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::GroupState;
use crate::identity::CoreId;

/// Names a shared subscription for as long as it has members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// Where its routes are.
    core: CoreId,
    slot: u32,
    number: u64,
}

const _: () = assert!(size_of::<GroupId>() == 16);

/// The ids that a range gives: the lowest free slot first, so that tables by slot are as long as there are groups.
#[derive(Debug)]
pub struct GroupIds {
    core: CoreId,
    /// Slots below [`GroupIds::slots`] that no group has.
    free: BinaryHeap<Reverse<u32>>,
    slots: u32,
    /// Of the last one; the first is 1.
    number: u64,
}

impl GroupIds {
    /// None given yet.
    pub fn new(core: CoreId) -> GroupIds {
        GroupIds { core, free: BinaryHeap::new(), slots: 0, number: 0 }
    }

    /// For a new group.
    pub fn give(&mut self) -> GroupId {
        let slot = self.free.pop().map_or(self.slots, |Reverse(slot)| slot);
        self.slots = self.slots.max(slot + 1);
        self.number += 1;
        GroupId { core: self.core, slot, number: self.number }
    }

    /// Its group has no members left.
    pub fn take_back(&mut self, id: GroupId) {
        self.free.push(Reverse(id.slot));
        if self.free.len() == self.slots as usize {
            (self.free, self.slots) = (BinaryHeap::new(), 0);
        }
    }
}

/// What one core remembers of the shared subscriptions to which it publishes.
#[derive(Debug, Default)]
pub struct GroupStates {
    /// By the core that has the routes.
    cores: Vec<CoreStates>,
}

/// Of those whose routes one core has.
#[derive(Debug, Default)]
struct CoreStates {
    slots: Vec<Option<Kept>>,
    /// How many are kept.
    kept: usize,
    /// Where forgetting goes on.
    hand: usize,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    state: Rc<GroupState>,
}

/// So many states of a core's groups are kept, whether cached topics use them or not.
const KEPT_MIN: usize = 1024;

/// Places looked at, when one more is kept, for some that are not used.
const LOOKS: usize = 4;

impl GroupStates {
    /// The state of a group, made on first use. Of a group whose slot is another's by now nothing is remembered.
    pub fn of(&mut self, id: GroupId) -> Rc<GroupState> {
        let core = id.core.index();
        if self.cores.len() <= core {
            self.cores.resize_with(core + 1, CoreStates::default);
        }
        self.cores[core].of(id)
    }
}

impl CoreStates {
    fn of(&mut self, id: GroupId) -> Rc<GroupState> {
        let slot = id.slot as usize;
        if let Some(kept) = self.slots.get(slot).and_then(Option::as_ref) {
            match kept.number.cmp(&id.number) {
                Ordering::Equal => return Rc::clone(&kept.state),
                Ordering::Greater => return Rc::default(),
                Ordering::Less => {}
            }
        }
        if self.kept >= KEPT_MIN {
            self.forget();
        }
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let state = Rc::<GroupState>::default();
        let former = self.slots[slot].replace(Kept { number: id.number, state: Rc::clone(&state) });
        self.kept += usize::from(former.is_none());
        state
    }

    /// Forgets, of the next few, those that no cached topic uses.
    fn forget(&mut self) {
        for _ in 0..LOOKS {
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let slot = &mut self.slots[self.hand];
            self.kept -= usize::from(slot.take_if(|kept| Rc::strong_count(&kept.state) == 1).is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group made again has another id, though its slot may be the same.
    #[test]
    fn slots_are_used_again_and_numbers_never() {
        let mut ids = GroupIds::new(CoreId(3));
        let [first, second, third] = [ids.give(), ids.give(), ids.give()];
        ids.take_back(second);
        ids.take_back(first);
        let (again, later) = (ids.give(), ids.give());
        assert_eq!([again.slot, later.slot], [first.slot, second.slot], "the lowest first");
        assert!(again.number > third.number && later.number > again.number);
        [third, again, later].into_iter().for_each(|id| ids.take_back(id));
        let last = ids.give();
        assert_eq!(last.slot, 0);
        assert!(last.number > later.number);
    }

    /// Who publishes meets the same state each time, and those of different cores do not meet.
    #[test]
    fn a_group_keeps_its_state() {
        let mut states = GroupStates::default();
        let [here, there] = [0, 1].map(|core| GroupIds::new(CoreId(core)).give());
        let (one, other) = (states.of(here), states.of(there));
        assert!(Rc::ptr_eq(&one, &states.of(here)) && Rc::ptr_eq(&other, &states.of(there)));
        assert!(!Rc::ptr_eq(&one, &other));
    }

    /// What comes late for a group that is no more finds nothing of the group that has its slot, and takes nothing
    /// away from it: in whichever order both are met.
    #[test]
    fn a_stale_id_finds_nothing_of_the_later_group() {
        let mut ids = GroupIds::new(CoreId(0));
        let former = ids.give();
        ids.take_back(former);
        let later = ids.give();
        assert_eq!(former.slot, later.slot);
        for met in [vec![former, later], vec![later]] {
            let mut states = GroupStates::default();
            let last = met.into_iter().map(|id| states.of(id)).last().expect("one at least");
            assert!(!Rc::ptr_eq(&last, &states.of(former)));
            assert!(Rc::ptr_eq(&last, &states.of(later)));
        }
    }

    /// States that no cached topic uses are forgotten when there are very many; those in use stay.
    #[test]
    fn unused_states_are_forgotten() {
        let (mut ids, mut states) = (GroupIds::new(CoreId(0)), GroupStates::default());
        let all: Vec<_> = (0..20 * KEPT_MIN).map(|_| ids.give()).collect();
        let used: Vec<_> = all.iter().step_by(40).map(|id| (*id, states.of(*id))).collect();
        all.iter().for_each(|id| drop(states.of(*id)));
        assert!(states.cores[0].kept <= used.len() + KEPT_MIN + LOOKS, "{}", states.cores[0].kept);
        let kept = states.cores[0].slots.iter().flatten().count();
        assert_eq!(kept, states.cores[0].kept);
        assert!(used.iter().all(|(id, state)| Rc::ptr_eq(state, &states.of(*id))));
    }
}

//! Hot path. Which member of a shared subscription gets a message.

use std::cell::{Cell, RefCell};

use hashbrown::HashMap;

use super::Member;
use crate::config::SharedStrategy;
use crate::identity::Incarnation;
use crate::random::{Random, mix};

/// What one core remembers of a shared subscription to which it publishes.
#[derive(Debug, Default)]
pub struct GroupState {
    /// Whose turn it is.
    next: Cell<usize>,
    /// Members by the publishers that they have; forgotten together when there are too many.
    sticky: RefCell<HashMap<u64, Incarnation, foldhash::fast::FixedState>>,
}

/// Publishers remembered for one group.
const STICKY_MAX: usize = 100_000;

/// What a choice depends on beside the members.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// How to choose.
    pub strategy: SharedStrategy,
    /// `$oshare`: by publisher, and by nothing else.
    pub ordered: bool,
    /// The publisher.
    pub client_hash: u64,
    /// The message's topic.
    pub topic: &'a str,
}

/// Chooses among the members for which `free` is true. None: there is none.
pub fn choose(
    state: &GroupState,
    choice: Choice<'_>,
    members: &[Member],
    random: &mut Random,
    free: impl Fn(&Member) -> bool,
    load: impl Fn(&Member) -> u32,
) -> Option<Member> {
    if choice.ordered {
        return rendezvous(choice.client_hash, members, free);
    }
    match choice.strategy {
        SharedStrategy::HashClient => rendezvous(choice.client_hash, members, free),
        SharedStrategy::HashTopic => {
            rendezvous(xxhash_rust::xxh3::xxh3_64(choice.topic.as_bytes()), members, free)
        }
        SharedStrategy::RoundRobin => {
            from(state.next.get(), members, free, |index| state.next.set(index + 1))
        }
        SharedStrategy::Random => from(random.below(members.len()), members, free, |_| {}),
        SharedStrategy::Sticky => stick(state, choice.client_hash, members, random, free),
        SharedStrategy::LeastInflight => {
            // Equal ones take turns.
            let start = state.next.get();
            let member = (0..members.len())
                .map(|offset| &members[start.wrapping_add(offset) % members.len()])
                .filter(|member| free(member))
                .min_by_key(|member| load(member))?;
            state.next.set(start.wrapping_add(1));
            Some(*member)
        }
    }
}

/// The first free member at or after a place.
fn from(
    start: usize,
    members: &[Member],
    free: impl Fn(&Member) -> bool,
    chosen: impl FnOnce(usize),
) -> Option<Member> {
    let start = start % members.len();
    let index = (start..members.len()).chain(0..start).find(|index| free(&members[*index]))?;
    chosen(index);
    Some(members[index])
}

/// Highest random weight (Thaler and Ravishankar, 1998): a member that comes or goes moves only the keys
/// that it has.
fn rendezvous(key: u64, members: &[Member], free: impl Fn(&Member) -> bool) -> Option<Member> {
    let weight = |member: &&Member| mix(key ^ mix(member.target.session.0));
    members.iter().filter(|member| free(member)).max_by_key(weight).copied()
}

fn stick(
    state: &GroupState,
    client: u64,
    members: &[Member],
    random: &mut Random,
    free: impl Fn(&Member) -> bool,
) -> Option<Member> {
    let mut sticky = state.sticky.borrow_mut();
    let known = sticky.get(&client).copied();
    let held = members.iter().find(|member| Some(member.target.session) == known && free(member));
    if let Some(member) = held {
        return Some(*member);
    }
    let member = from(random.below(members.len()), members, free, |_| {})?;
    if sticky.len() >= STICKY_MAX {
        sticky.clear();
    }
    sticky.insert(client, member.target.session);
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryOptions;
    use crate::dist::Target;
    use crate::identity::CoreId;

    fn members(sessions: &[u64]) -> Vec<Member> {
        let target = |session| Target {
            core: CoreId(0),
            session: Incarnation(session),
            options: DeliveryOptions::default(),
        };
        sessions.iter().map(|session| Member { target: target(*session), durable: false }).collect()
    }

    struct Group {
        state: GroupState,
        random: Random,
    }

    impl Group {
        fn new() -> Group {
            Group { state: GroupState::default(), random: Random::new(7) }
        }

        fn pick(&mut self, strategy: SharedStrategy, client: u64, members: &[Member], busy: &[u64]) -> u64 {
            let choice = Choice { strategy, ordered: false, client_hash: client, topic: "a/b" };
            let free = |member: &Member| !busy.contains(&member.target.session.0);
            let load = |member: &Member| member.target.session.0 as u32;
            let member = choose(&self.state, choice, members, &mut self.random, free, load);
            member.map_or(0, |member| member.target.session.0)
        }
    }

    /// Round robin goes around, and passes over those that are busy.
    #[test]
    fn round_robin_goes_around() {
        let (mut group, members) = (Group::new(), members(&[1, 2, 3]));
        let mut pick = |busy: &[u64]| group.pick(SharedStrategy::RoundRobin, 0, &members, busy);
        assert_eq!([pick(&[]), pick(&[]), pick(&[]), pick(&[])], [1, 2, 3, 1]);
        assert_eq!([pick(&[2]), pick(&[2])], [3, 1]);
        assert_eq!(pick(&[1, 2, 3]), 0);
    }

    /// A publisher stays with its member until that one leaves, also when others join.
    #[test]
    fn sticky_stays_until_the_member_leaves() {
        let mut group = Group::new();
        let first = group.pick(SharedStrategy::Sticky, 42, &members(&[1, 2, 3]), &[]);
        for _ in 0..20 {
            assert_eq!(group.pick(SharedStrategy::Sticky, 42, &members(&[1, 2, 3, 4, 5]), &[]), first);
        }
        let left: Vec<u64> = [1, 2, 3].into_iter().filter(|session| *session != first).collect();
        let second = group.pick(SharedStrategy::Sticky, 42, &members(&left), &[]);
        assert!(left.contains(&second));
        assert_eq!(group.pick(SharedStrategy::Sticky, 42, &members(&[1, 2, 3]), &[]), second);
    }

    /// Hashing keeps a publisher with its member, and a leaving member moves only its own publishers.
    #[test]
    fn hashing_moves_only_what_must_move() {
        let mut group = Group::new();
        let before: Vec<u64> = (0..100)
            .map(|client| group.pick(SharedStrategy::HashClient, client, &members(&[1, 2, 3]), &[]))
            .collect();
        for (client, member) in before.iter().enumerate() {
            let after = group.pick(SharedStrategy::HashClient, client as u64, &members(&[1, 3]), &[]);
            assert!(after == *member || *member == 2);
        }
        assert!([1, 2, 3].iter().all(|member| before.iter().filter(|other| *other == member).count() > 15));
    }

    /// The least loaded free member.
    #[test]
    fn least_inflight_takes_the_least() {
        let mut group = Group::new();
        assert_eq!(group.pick(SharedStrategy::LeastInflight, 0, &members(&[5, 2, 9]), &[]), 2);
        assert_eq!(group.pick(SharedStrategy::LeastInflight, 0, &members(&[5, 2, 9]), &[2]), 5);
    }
}

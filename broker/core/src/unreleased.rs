//! Hot path. The QoS 2 messages of a client whose packet identifiers it has not released: found by identifier, the
//! oldest known. Up to 16 stand in a list in the order of their generations, more in two trees, so that each step
//! costs the logarithm of how many there are; none takes no memory.

use std::collections::{BTreeMap, BTreeSet};

/// So many stand in a list.
const FEW_MAX: usize = 16;

/// A message that is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken<V> {
    /// Its packet identifier.
    pub packet_id: u16,
    /// Which of the session's QoS 2 messages it is.
    pub generation: u64,
    /// What else is known of it.
    pub value: V,
}

/// See the module's documentation. Lives on the core of the session.
#[derive(Debug)]
pub struct Unreleased<V> {
    messages: Messages<V>,
}

#[derive(Debug)]
enum Messages<V> {
    /// By generation.
    Few(Vec<Taken<V>>),
    Many(Box<Many<V>>),
}

#[derive(Debug)]
struct Many<V> {
    by_id: BTreeMap<u16, (u64, V)>,
    generations: BTreeSet<u64>,
}

impl<V> Default for Unreleased<V> {
    fn default() -> Unreleased<V> {
        Unreleased { messages: Messages::Few(Vec::new()) }
    }
}

impl<V: Copy> Unreleased<V> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.messages {
            Messages::Few(list) => list.len(),
            Messages::Many(many) => many.by_id.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message with an identifier.
    #[must_use]
    pub fn get(&self, packet_id: u16) -> Option<Taken<V>> {
        match &self.messages {
            Messages::Few(list) => list.iter().find(|taken| taken.packet_id == packet_id).copied(),
            Messages::Many(many) => {
                let (generation, value) = *many.by_id.get(&packet_id)?;
                Some(Taken { packet_id, generation, value })
            }
        }
    }

    /// The least generation of all.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        match &self.messages {
            Messages::Few(list) => list.first().map(|taken| taken.generation),
            Messages::Many(many) => many.generations.first().copied(),
        }
    }

    /// Takes a message; neither its identifier nor its generation is another's.
    pub fn insert(&mut self, new: Taken<V>) {
        match &mut self.messages {
            Messages::Few(list) if list.len() < FEW_MAX => {
                // They come in order, but from a checkpoint.
                let place = list.iter().rposition(|taken| taken.generation < new.generation);
                list.insert(place.map_or(0, |place| place + 1), new);
            }
            Messages::Few(list) => {
                let mut many = Box::new(Many { by_id: BTreeMap::new(), generations: BTreeSet::new() });
                list.iter().chain([&new]).for_each(|taken| many.insert(*taken));
                self.messages = Messages::Many(many);
            }
            Messages::Many(many) => many.insert(new),
        }
    }

    /// Releases an identifier: true if there was a message with it.
    pub fn remove(&mut self, packet_id: u16) -> bool {
        match &mut self.messages {
            Messages::Few(list) => {
                let Some(place) = list.iter().position(|taken| taken.packet_id == packet_id) else {
                    return false;
                };
                list.remove(place);
                if list.is_empty() {
                    *list = Vec::new();
                }
            }
            Messages::Many(many) => {
                let Some((generation, _)) = many.by_id.remove(&packet_id) else { return false };
                many.generations.remove(&generation);
                // Well below the limit, so that who stays at it does not rebuild this each time.
                if many.by_id.len() <= FEW_MAX / 2 {
                    let mut list: Vec<Taken<V>> = many.iter().collect();
                    list.sort_unstable_by_key(|taken| taken.generation);
                    self.messages = Messages::Few(list);
                }
            }
        }
        true
    }

    /// All, ascending by identifier.
    #[must_use]
    pub fn to_list(&self) -> Vec<Taken<V>> {
        match &self.messages {
            Messages::Few(list) => {
                let mut list = list.clone();
                list.sort_unstable_by_key(|taken| taken.packet_id);
                list
            }
            Messages::Many(many) => many.iter().collect(),
        }
    }
}

impl<V: Copy> Many<V> {
    fn insert(&mut self, Taken { packet_id, generation, value }: Taken<V>) {
        let former = self.by_id.insert(packet_id, (generation, value));
        assert!(former.is_none(), "an identifier is taken once");
        assert!(self.generations.insert(generation), "each message has a generation of its own");
    }

    fn iter(&self) -> impl Iterator<Item = Taken<V>> {
        let taken = |(packet_id, (generation, value)): (&u16, &(u64, V))| Taken {
            packet_id: *packet_id,
            generation: *generation,
            value: *value,
        };
        self.by_id.iter().map(taken)
    }
}

impl<V: Copy> FromIterator<Taken<V>> for Unreleased<V> {
    fn from_iter<I: IntoIterator<Item = Taken<V>>>(taken: I) -> Unreleased<V> {
        let mut all = Unreleased::default();
        taken.into_iter().for_each(|taken| all.insert(taken));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_list<V>(all: &Unreleased<V>) -> bool {
        matches!(&all.messages, Messages::Few(_))
    }

    /// Against a list that is searched, in random lives with few and with many under way: who is there, who is the
    /// oldest, and what a checkpoint makes of it.
    #[test]
    fn unreleased_is_as_in_a_list() {
        let mut random = 3_u64;
        for most in [1, 4, 16, 17, 40, 700] {
            let mut all = Unreleased::default();
            let mut model: Vec<Taken<bool>> = Vec::new();
            for generation in 0..6_000 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let packet_id = 1 + (random >> 40) as u16 % 1_000;
                let known = model.iter().find(|taken| taken.packet_id == packet_id).copied();
                assert_eq!(all.get(packet_id), known);
                let grows = generation / 1_500 % 2 == 0;
                if known.is_none() && model.len() < most && (grows || random >> 60 == 0) {
                    let new = Taken { packet_id, generation, value: random & 1 << 50 != 0 };
                    all.insert(new);
                    model.push(new);
                } else if !model.is_empty() {
                    // The oldest as a rule.
                    let at = if random >> 62 == 0 { (random >> 30) as usize % model.len() } else { 0 };
                    assert!(all.remove(model.remove(at).packet_id));
                    assert!(known.is_some() || !all.remove(packet_id));
                    model.retain(|taken| known.is_none() || all.get(taken.packet_id).is_some());
                }
                assert_eq!((all.len(), all.is_empty()), (model.len(), model.is_empty()));
                assert_eq!(all.oldest(), model.iter().map(|taken| taken.generation).min());
            }
            model.sort_by_key(|taken| taken.packet_id);
            assert_eq!(all.to_list(), model);
            let restored: Unreleased<bool> = model.iter().copied().collect();
            assert_eq!((restored.to_list(), restored.oldest()), (model, all.oldest()));
        }
    }

    /// Few take a list and many do not; when few are left there is a list again, and nothing when none is.
    #[test]
    fn what_is_released_takes_no_room() {
        let mut all = Unreleased::default();
        let taken = |packet_id: u16| Taken { packet_id, generation: u64::from(packet_id), value: () };
        (1..=16).for_each(|packet_id| all.insert(taken(packet_id)));
        assert!(is_list(&all));
        (17..=1_000).for_each(|packet_id| all.insert(taken(packet_id)));
        assert!(!is_list(&all));
        (1..=992).for_each(|packet_id| assert!(all.remove(packet_id)));
        assert!(is_list(&all) && all.oldest() == Some(993));
        (993..=1_000).for_each(|packet_id| assert!(all.remove(packet_id)));
        assert!(matches!(&all.messages, Messages::Few(list) if list.capacity() == 0));
    }
}

//! The routes of one core's dist range.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{GroupId, GroupIds, GroupKey};
use crate::delivery::DeliveryOptions;
use crate::identity::{CoreId, Incarnation};
use crate::trie::Trie;

/// Where messages of a filter go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A core, for all its volatile sessions that subscribe: it fans out by itself.
    Core(CoreId),
    /// A durable session.
    Session(Target),
    /// A member of a shared subscription.
    Member(Arc<GroupKey>, Member),
}

/// A durable session as a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its home.
    pub core: CoreId,
    /// Which life of it.
    pub session: Incarnation,
    /// Of the subscription that matched.
    pub options: DeliveryOptions,
}

/// A member of a shared subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where and which.
    pub target: Target,
    /// Whether it waits for its client, and so can have messages while it is away.
    pub durable: bool,
}

/// A shared subscription as a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRoute {
    /// By which it is known to be the same.
    pub id: GroupId,
    /// Which.
    pub key: Arc<GroupKey>,
    /// Never empty, in the order in which they joined.
    pub members: Arc<[Member]>,
}

/// Who wants a topic: the answer to a match, from one or several ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// Cores with volatile sessions that subscribe, ascending.
    pub cores: SmallVec<[CoreId; 4]>,
    /// Durable sessions; one that subscribes by several filters is here for each of them.
    pub sessions: Vec<Target>,
    /// Shared subscriptions.
    pub groups: Vec<GroupRoute>,
}

impl Destinations {
    /// Nobody?
    pub fn is_empty(&self) -> bool {
        self.cores.is_empty() && self.sessions.is_empty() && self.groups.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.cores.len() + self.sessions.len() + self.groups.len()
    }

    /// Adds another range's answer.
    pub fn merge(&mut self, other: Destinations) {
        for core in other.cores {
            self.add_core(core);
        }
        self.sessions.extend(other.sessions);
        self.groups.extend(other.groups);
    }

    fn add_core(&mut self, core: CoreId) {
        if let Err(index) = self.cores.binary_search(&core) {
            self.cores.insert(index, core);
        }
    }
}

/// What stands under one filter. Sorted, so that a route is found among very many.
#[derive(Debug, Default)]
struct RouteSet {
    cores: SmallVec<[CoreId; 4]>,
    sessions: Vec<Target>,
    groups: Vec<GroupRoute>,
}

impl RouteSet {
    fn is_empty(&self) -> bool {
        self.cores.is_empty() && self.sessions.is_empty() && self.groups.is_empty()
    }
}

/// All routes of a range.
pub struct Routes {
    tenants: HashMap<Arc<str>, Trie<RouteSet>, foldhash::fast::FixedState>,
    group_ids: GroupIds,
    seed: u64,
}

impl Routes {
    /// No routes yet, of a range that this core hosts.
    pub fn new(core: CoreId, seed: u64) -> Routes {
        let tenants = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Routes { tenants, group_ids: GroupIds::new(core), seed }
    }

    /// Adds a route or replaces its options; false if it was there just so.
    pub fn add(&mut self, tenant: &Arc<str>, filter: &str, route: Route) -> bool {
        let trie = self.tenants.entry(Arc::clone(tenant)).or_insert_with(|| Trie::new(self.seed));
        let set = trie.get_or_insert_with(filter, RouteSet::default);
        match route {
            Route::Core(core) => match set.cores.binary_search(&core) {
                Ok(_) => false,
                Err(index) => {
                    set.cores.insert(index, core);
                    true
                }
            },
            Route::Session(target) => {
                match set.sessions.binary_search_by_key(&target.session, |other| other.session) {
                    Ok(index) if set.sessions[index] == target => false,
                    Ok(index) => {
                        set.sessions[index] = target;
                        true
                    }
                    Err(index) => {
                        set.sessions.insert(index, target);
                        true
                    }
                }
            }
            Route::Member(key, member) => add_member(set, key, member, &mut self.group_ids),
        }
    }

    /// Removes a route; false if it was not there.
    pub fn remove(&mut self, tenant: &Arc<str>, filter: &str, route: &Route) -> bool {
        let Some(trie) = self.tenants.get_mut(tenant) else { return false };
        let Some(set) = trie.get_mut(filter) else { return false };
        let removed = match route {
            Route::Core(core) => match set.cores.binary_search(core) {
                Ok(index) => {
                    set.cores.remove(index);
                    true
                }
                Err(_) => false,
            },
            Route::Session(target) => {
                match set.sessions.binary_search_by_key(&target.session, |other| other.session) {
                    Ok(index) => {
                        set.sessions.remove(index);
                        true
                    }
                    Err(_) => false,
                }
            }
            Route::Member(key, member) => remove_member(set, key, member.target.session, &mut self.group_ids),
        };
        if set.is_empty() {
            trie.remove(filter);
            if trie.is_empty() {
                self.tenants.remove(tenant);
            }
        }
        removed
    }

    /// A shared subscription, if it has members.
    pub fn group(&self, tenant: &str, key: &GroupKey) -> Option<&GroupRoute> {
        let set = self.tenants.get(tenant)?.get(&key.filter)?;
        let at = set.groups.binary_search_by(|group| (*group.key).cmp(key)).ok()?;
        Some(&set.groups[at])
    }

    /// Who wants a topic, and how many places of the trie were visited to find out.
    pub fn matching(&self, tenant: &str, topic: &str) -> (Destinations, usize) {
        let mut destinations = Destinations::default();
        let mut visited = 0;
        if let Some(trie) = self.tenants.get(tenant) {
            visited = trie.matching_filters(topic, |set| {
                for core in &set.cores {
                    destinations.add_core(*core);
                }
                destinations.sessions.extend_from_slice(&set.sessions);
                destinations.groups.extend_from_slice(&set.groups);
            });
        }
        (destinations, visited)
    }
}

fn add_member(set: &mut RouteSet, key: Arc<GroupKey>, member: Member, ids: &mut GroupIds) -> bool {
    let group = match set.groups.binary_search_by(|group| group.key.cmp(&key)) {
        Ok(at) => &mut set.groups[at],
        Err(at) => {
            set.groups.insert(at, GroupRoute { id: ids.give(), key, members: Arc::from([member]) });
            return true;
        }
    };
    let mut members = group.members.to_vec();
    match members.iter_mut().find(|other| other.target.session == member.target.session) {
        Some(other) if *other == member => return false,
        Some(other) => *other = member,
        None => members.push(member),
    }
    group.members = members.into();
    true
}

fn remove_member(set: &mut RouteSet, key: &Arc<GroupKey>, session: Incarnation, ids: &mut GroupIds) -> bool {
    let Ok(at) = set.groups.binary_search_by(|group| group.key.cmp(key)) else { return false };
    let members = &mut set.groups[at].members;
    let left: Vec<_> = members.iter().filter(|member| member.target.session != session).copied().collect();
    let removed = left.len() < members.len();
    if left.is_empty() {
        ids.take_back(set.groups.remove(at).id);
    } else {
        *members = left.into();
    }
    removed
}

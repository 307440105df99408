//! Who gets what, as simply as it can be and still carry every scenario.
//!
//! A filter is known by its literal levels before the first wildcard, and whatever follows them
//! matches: wrong for a broker, enough for a ceiling, because the harness never sends what would
//! tell the difference.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Deepest prefix looked up.
const DEPTH_MAX: usize = 8;

/// A place in the table that stays what it is while the fake runs.
pub(super) type RouteId = u32;

/// One subscription of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// The session's slot.
    pub(super) slot: usize,
    /// Two bits.
    pub(super) qos: u8,
}

/// Subscriptions under one filter.
#[derive(Debug, Default)]
pub(super) struct Route {
    /// Each gets every message.
    pub(super) targets: Vec<Target>,
    /// Each group gives every message to one of its members, in turn.
    pub(super) groups: Vec<Group>,
}

/// A shared subscription.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
    members: Vec<Target>,
    next: usize,
}

impl Group {
    /// The member whose turn it is.
    pub(super) fn next(&mut self) -> Option<Target> {
        self.next = if self.next + 1 < self.members.len() { self.next + 1 } else { 0 };
        self.members.get(self.next).copied()
    }
}

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Routes {
    ids: HashMap<String, RouteId, FixedState>,
    routes: Vec<Route>,
    /// Bit d: there are wildcard filters with d literal levels.
    depths: u32,
}

/// A filter taken apart.
struct Parts<'a> {
    group: Option<&'a str>,
    key: String,
    depth: Option<usize>,
}

fn parts(filter: &str) -> Parts<'_> {
    let (group, filter) = match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) => (Some(group), filter),
        None => (None, filter),
    };
    match filter.split('/').position(|level| level == "+" || level == "#") {
        None => Parts { group, key: filter.to_owned(), depth: None },
        Some(depth) => {
            let levels: Vec<&str> = filter.split('/').take(depth).collect();
            Parts { group, key: levels.join("/") + "/", depth: Some(depth) }
        }
    }
}

/// The prefix under which a filter finds retained messages, slash at its end; `None` for an exact
/// topic.
pub(super) fn wildcard_prefix(filter: &str) -> Option<String> {
    let parts = parts(filter);
    parts.depth.map(|_| parts.key)
}

impl Routes {
    /// Adds a subscription and says where.
    pub(super) fn subscribe(&mut self, filter: &str, target: Target) -> RouteId {
        let parts = parts(filter);
        if let Some(depth) = parts.depth {
            self.depths |= 1 << depth.min(DEPTH_MAX);
        }
        let next = self.routes.len() as RouteId;
        let id = *self.ids.entry(parts.key).or_insert(next);
        if id == next {
            self.routes.push(Route::default());
        }
        let route = &mut self.routes[id as usize];
        let Some(name) = parts.group else {
            route.targets.retain(|other| other.slot != target.slot);
            route.targets.push(target);
            return id;
        };
        match route.groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.members.push(target),
            None => {
                let members = vec![target];
                route.groups.push(Group { name: name.to_owned(), members, next: 0 });
            }
        }
        id
    }

    /// Takes every subscription of a session away from a route.
    pub(super) fn leave(&mut self, id: RouteId, slot: usize) {
        let route = &mut self.routes[id as usize];
        route.targets.retain(|target| target.slot != slot);
        for group in &mut route.groups {
            group.members.retain(|target| target.slot != slot);
        }
    }

    /// The route of a filter that is there.
    pub(super) fn find(&self, filter: &str) -> Option<RouteId> {
        self.ids.get(&parts(filter).key).copied()
    }

    /// One route.
    pub(super) fn route_mut(&mut self, id: RouteId) -> &mut Route {
        &mut self.routes[id as usize]
    }

    /// The routes a topic takes: its own and those of its prefixes.
    pub(super) fn resolve(&self, topic: &str, found: &mut Vec<RouteId>) {
        found.clear();
        found.extend(self.ids.get(topic));
        let mut depth = 0;
        for (at, _) in topic.match_indices('/') {
            depth += 1;
            if self.depths & (1 << depth.min(DEPTH_MAX)) != 0 {
                found.extend(self.ids.get(&topic[..=at]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exact topics, prefixes and groups are found, and gone once left.
    #[test]
    fn subscriptions_are_found() {
        let mut routes = Routes::default();
        let target = |slot| Target { slot, qos: 0 };
        let exact = routes.subscribe("a/b", target(1));
        let prefix = routes.subscribe("dev/7/+/state", target(2));
        let shared = routes.subscribe("$share/g/test/#", target(3));
        routes.subscribe("$share/g/test/#", target(4));
        let mut found = Vec::new();
        routes.resolve("a/b", &mut found);
        assert_eq!(found, [exact]);
        routes.resolve("dev/7/x/state", &mut found);
        assert_eq!(found, [prefix]);
        routes.resolve("test/9", &mut found);
        assert_eq!(found, [shared]);
        let mut turns = || routes.route_mut(shared).groups[0].next().unwrap().slot;
        assert_eq!([turns(), turns(), turns()], [4, 3, 4]);
        routes.leave(exact, 1);
        assert!(routes.route_mut(exact).targets.is_empty());
        assert_eq!(routes.find("$share/g/test/#"), Some(shared));
        assert_eq!(wildcard_prefix("ret/00001/+").as_deref(), Some("ret/00001/"));
    }
}

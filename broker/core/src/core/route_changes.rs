//! Changes of routes, on both sides: at the range that hosts them, which answers only when no core serves
//! from the old state any more (promise 2), and at the core that asked, where SUBACKs wait for the answer.
//!
//! UNSUBACK means the end [MQTT-3.10.4-2]: each core that served from the old state tells the session's home
//! that it does no more, behind the last message that it sent there. A message for a shared subscription that
//! some member refused may come later, and is judged by the session's own filters.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use hashbrown::HashMap;
use mqtt::ReasonCode;
use smallvec::SmallVec;

use super::Core;
use super::deadlines::Epoch;
use super::stored_routes::StoredRoute;
use crate::dist::Route;
use crate::identity::CoreId;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::peer::{Body, Change, Forgotten};
use crate::placement::route_key;
use crate::quota::Total;
use crate::tenant::{SubscribeWait, TenantIndex};

/// The range's side.
#[derive(Default)]
pub(super) struct RouteChanges {
    /// Cores that may have answers of this range cached, by tenant, ascending.
    holders: HashMap<Arc<str>, SmallVec<[CoreId; 8]>, foldhash::fast::FixedState>,
    /// Changes that wait for holders, by number.
    pending: BTreeMap<u64, Pending>,
    next: u64,
}

struct Pending {
    requester: CoreId,
    change: u64,
    /// Holders that have not answered.
    waiting: u32,
}

/// The requester's side: what goes on when a change stands.
#[derive(Default)]
pub(super) struct RouteWaits {
    waits: BTreeMap<u64, Waiting>,
    next: u64,
}

/// A change that is not through.
struct Waiting {
    wait: RouteWait,
    tenant: Arc<str>,
    filter: Arc<str>,
    route: Route,
    asked: Epoch,
    /// The range has answered.
    answered: bool,
    /// Cores that are still to pass, less those that did before the range answered.
    passes: i32,
}

/// Who waits for a change.
#[derive(Debug)]
pub(super) enum RouteWait {
    /// All that wait for this core's route of a filter.
    Filter(TenantIndex),
    /// One filter of a SUBSCRIBE, the one of this number in it.
    Request(SubscribeWait, u16),
    /// One filter of an UNSUBSCRIBE.
    Removal(SubscribeWait),
    /// Nobody but the start: it stood before.
    Restored,
    /// A task of a persistent session.
    Stored(Box<StoredRoute>),
    /// The same, for a route that is to go.
    StoredRemoval(Box<StoredRoute>),
}

impl RouteWaits {
    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }
}

impl RouteChanges {
    /// Changes that wait for holders.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// A core is about to be told what this range answers.
    pub(super) fn add_holder(&mut self, tenant: &Arc<str>, core: CoreId) {
        if let Some(holders) = self.holders.get_mut(tenant) {
            if let Err(index) = holders.binary_search(&core) {
                holders.insert(index, core);
            }
        } else {
            self.holders.insert(Arc::clone(tenant), SmallVec::from_slice(&[core]));
        }
    }
}

impl Core {
    /// Asks the range for a new route. The number of the change, by which the answer comes.
    pub(super) fn add_route(
        &mut self,
        tenant: &Arc<str>,
        filter: &str,
        route: Route,
        wait: RouteWait,
    ) -> u64 {
        self.change_route(tenant, filter.into(), route, wait, None)
    }

    /// Asks the range to remove a route.
    pub(super) fn remove_route(
        &mut self,
        tenant: &Arc<str>,
        filter: &str,
        route: Route,
        wait: Option<RouteWait>,
    ) {
        if let Some(wait) = wait {
            self.change_route(tenant, filter.into(), route, wait, None);
            return;
        }
        let body =
            Body::RemoveRoute { tenant: Arc::clone(tenant), filter: filter.into(), route, change: None };
        self.post(self.config.core_of(route_key(tenant, filter)), body);
    }

    fn change_route(
        &mut self,
        tenant: &Arc<str>,
        filter: Arc<str>,
        route: Route,
        wait: RouteWait,
        repeats: Option<u64>,
    ) -> u64 {
        self.route_waits.next += 1;
        let number = self.route_waits.next;
        let range = self.config.core_of(route_key(tenant, &filter));
        let name = |number| NonZeroU64::new(number).expect("they begin with 1");
        let change = Some(Change { number: name(number), repeats: repeats.map(name) });
        let waiting = Waiting {
            wait,
            tenant: Arc::clone(tenant),
            filter: Arc::clone(&filter),
            route: route.clone(),
            asked: self.deadlines.epoch,
            answered: false,
            passes: 0,
        };
        let tenant = Arc::clone(tenant);
        let body = match waiting.wait {
            RouteWait::Removal(_) | RouteWait::StoredRemoval(_) => {
                Body::RemoveRoute { tenant, filter, route, change }
            }
            RouteWait::Filter(..) | RouteWait::Request(..) | RouteWait::Stored(_) | RouteWait::Restored => {
                Body::AddRoute { tenant, filter, route, change }
            }
        };
        self.route_waits.waits.insert(number, waiting);
        self.post(range, body);
        number
    }

    /// Asks again where an answer is overdue. How many changes that concerns, `max` at most.
    pub(super) fn repeat_changes(&mut self, overdue: Epoch, max: usize) -> usize {
        for repeated in 0..max {
            // Numbers ascend with time.
            let waits = &mut self.route_waits.waits;
            let Some(first) = waits.first_entry().filter(|first| first.get().asked < overdue) else {
                return repeated;
            };
            let (old, Waiting { wait, tenant, filter, route, .. }) = first.remove_entry();
            let index = match wait {
                RouteWait::Filter(index) => Some(index),
                _ => None,
            };
            let number = self.change_route(&tenant, Arc::clone(&filter), route, wait, Some(old));
            if let Some(local) = index.and_then(|index| self.tenants.at(index).local.get_mut(&filter))
                && let Some(waiting) = &mut local.waiting
                && waiting.change == old
            {
                waiting.change = number;
            }
        }
        max
    }

    /// At the range: a route is to be added or removed.
    pub(super) fn on_route(
        &mut self,
        requester: CoreId,
        tenant: &Arc<str>,
        filter: &str,
        (route, add): (Route, bool),
        change: Option<Change>,
    ) {
        if add && self.is_group_full(tenant, &route) {
            self.counters.limit(Limit::SharedMembers);
            if let Some(Change { number, .. }) = change {
                self.post(requester, Body::RouteRefused { change: number.get() });
            }
            return;
        }
        let changed = if add {
            self.routes.add(tenant, filter, route)
        } else {
            self.routes.remove(tenant, filter, &route)
        };
        let Some(Change { number, repeats }) = change else {
            if changed {
                self.invalidate(tenant, filter, Forgotten::Unsaid);
            }
            return;
        };
        let change = number.get();
        if let Some(repeats) = repeats {
            let same = |pending: &Pending| pending.requester == requester && pending.change == repeats.get();
            self.route_changes.pending.retain(|_, pending| !same(pending));
        }
        // What was changed before may still be on its way to the holders: the same again waits as well. Of
        // removals no account is kept.
        let strike = changed || !add || repeats.is_some() || !self.route_changes.pending.is_empty();
        if !strike {
            self.post(requester, Body::RouteChanged { change, passes: 0 });
        } else if add {
            let number = self.route_changes.next;
            self.route_changes.next += 1;
            let waiting = self.invalidate(tenant, filter, Forgotten::Invalidated(number));
            if waiting == 0 {
                self.post(requester, Body::RouteChanged { change, passes: 0 });
            } else {
                self.route_changes.pending.insert(number, Pending { requester, change, waiting });
            }
        } else {
            let passes = self.invalidate(tenant, filter, Forgotten::Passed(requester, change));
            self.post(requester, Body::RouteChanged { change, passes });
        }
    }

    /// Whether a shared subscription takes no further member (`shared_members_max`).
    fn is_group_full(&mut self, tenant: &Arc<str>, route: &Route) -> bool {
        let Route::Member(key, member) = route else { return false };
        let index = self.tenants.index(tenant, &self.config);
        let max = self.tenants.get(index).settings.shared_members_max as usize;
        self.routes.group(tenant, key).is_some_and(|group| {
            let members = &group.members;
            members.len() >= max && members.iter().all(|other| other.target.session != member.target.session)
        })
    }

    /// At the requester: the range takes no further member.
    pub(super) fn on_route_refused(&mut self, change: u64, out: &mut Outputs) {
        let Some(waiting) = self.route_waits.waits.remove(&change) else { return };
        if let RouteWait::Stored(route) = waiting.wait {
            return self.on_stored_route_refused(*route, &waiting.tenant, out);
        }
        let (Route::Member(key, member), RouteWait::Request(wait, number)) = (waiting.route, waiting.wait)
        else {
            return;
        };
        // The session has it still, unless it has given it up or ended meanwhile.
        if let Some(slot) = self.sessions.find(member.target.session) {
            let filter = key.subscription();
            if self.sessions.unsubscribe(slot, &filter) {
                let tenant = self.tenants.index(&waiting.tenant, &self.config);
                self.leave_total(tenant, Total::SharedSubscriptions, 1);
            }
        }
        self.set_reason(wait, number, ReasonCode::QUOTA_EXCEEDED);
        self.on_request_progress(wait, out);
    }

    /// Tells every core that may have answers cached, this one included: the message goes the way of the
    /// answers before it, so that none of them arrives later. The number of those that will answer.
    fn invalidate(&mut self, tenant: &Arc<str>, filter: &str, answer: Forgotten) -> u32 {
        let holders = self.route_changes.holders.get(tenant).cloned().unwrap_or_default();
        for holder in &holders {
            let body = Body::Invalidate { tenant: Arc::clone(tenant), filter: filter.into(), answer };
            self.post(*holder, body);
        }
        u32::try_from(holders.len()).expect("as many as cores")
    }

    /// At the range: a holder has forgotten.
    pub(super) fn on_invalidated(&mut self, number: u64) {
        let Some(pending) = self.route_changes.pending.get_mut(&number) else { return };
        pending.waiting -= 1;
        if pending.waiting == 0 {
            let (requester, change) = (pending.requester, pending.change);
            self.route_changes.pending.remove(&number);
            self.post(requester, Body::RouteChanged { change, passes: 0 });
        }
    }

    /// At the requester: the range has changed the route, and so many cores are to pass.
    pub(super) fn on_route_changed(&mut self, change: u64, passes: u32, out: &mut Outputs) {
        if let Some(waiting) = self.route_waits.waits.get_mut(&change) {
            waiting.answered = true;
            waiting.passes += i32::try_from(passes).expect("as many as cores");
        }
        self.end_route_wait(change, out);
    }

    /// At the requester: a core has sent the last message by the old state, and we have it [MQTT-3.10.4-2].
    pub(super) fn on_passed(&mut self, change: u64, out: &mut Outputs) {
        if let Some(waiting) = self.route_waits.waits.get_mut(&change) {
            waiting.passes -= 1;
        }
        self.end_route_wait(change, out);
    }

    /// If a change is through, what waits for it goes on.
    fn end_route_wait(&mut self, change: u64, out: &mut Outputs) {
        let waits = &mut self.route_waits.waits;
        if waits.get(&change).is_none_or(|waiting| !waiting.answered || waiting.passes != 0) {
            return;
        }
        let Waiting { wait, filter, .. } = waits.remove(&change).expect("looked up above");
        match wait {
            RouteWait::Request(wait, _) => self.on_request_progress(wait, out),
            // What the cores sent before is here, but perhaps not with the session yet.
            RouteWait::Removal(wait) if self.postponed.make_wait(wait) => {}
            RouteWait::Removal(wait) => self.on_request_progress(wait, out),
            RouteWait::Restored => self.on_route_restored(),
            RouteWait::Stored(route) | RouteWait::StoredRemoval(route) => self.on_stored_route(*route, out),
            RouteWait::Filter(tenant) => {
                let Some(local) = self.tenants.at(tenant).local.get_mut(&filter) else { return };
                let Some(waiting) = local.waiting.take_if(|waiting| waiting.change == change) else { return };
                for wait in waiting.requests {
                    self.on_request_progress(wait, out);
                }
            }
        }
    }
}

//! Changes of routes, on both sides: at the range that hosts them, which answers only when no core serves
//! from the old state any more (promise 2), and at the core that asked, where SUBACKs wait for the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::Core;
use crate::dist::Route;
use crate::identity::CoreId;
use crate::input::Outputs;
use crate::peer::Body;
use crate::placement::{core_of, route_key};
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
    waits: BTreeMap<u64, RouteWait>,
    next: u64,
}

/// Who waits for a change.
#[derive(Debug)]
pub(super) enum RouteWait {
    /// All that wait for this core's route of a filter.
    Filter(TenantIndex, Box<str>),
    /// One filter of one request.
    Request(SubscribeWait),
}

impl RouteChanges {
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
        let change = self.wait_for_route(wait);
        let body =
            Body::AddRoute { tenant: Arc::clone(tenant), filter: filter.into(), route, change: Some(change) };
        self.post(core_of(route_key(tenant, filter), self.config.cores), body);
        change
    }

    /// Asks the range to remove a route.
    pub(super) fn remove_route(
        &mut self,
        tenant: &Arc<str>,
        filter: &str,
        route: Route,
        wait: Option<RouteWait>,
    ) {
        let change = wait.map(|wait| self.wait_for_route(wait));
        let body = Body::RemoveRoute { tenant: Arc::clone(tenant), filter: filter.into(), route, change };
        self.post(core_of(route_key(tenant, filter), self.config.cores), body);
    }

    fn wait_for_route(&mut self, wait: RouteWait) -> u64 {
        let change = self.route_waits.next;
        self.route_waits.next += 1;
        self.route_waits.waits.insert(change, wait);
        change
    }

    /// At the range: a route is to be added or removed.
    pub(super) fn on_route(
        &mut self,
        requester: CoreId,
        tenant: &Arc<str>,
        filter: &str,
        (route, add): (Route, bool),
        change: Option<u64>,
    ) {
        let changed = if add {
            self.routes.add(tenant, filter, route)
        } else {
            self.routes.remove(tenant, filter, &route)
        };
        // What was changed before may still be on its way to the holders: the same again waits as well.
        let strike = changed || (change.is_some() && !self.route_changes.pending.is_empty());
        let waiting = if strike { self.invalidate(tenant, filter) } else { 0 };
        let Some(change) = change else { return };
        if waiting == 0 {
            self.post(requester, Body::RouteChanged { change });
        } else {
            let number = self.route_changes.next - 1;
            self.route_changes.pending.insert(number, Pending { requester, change, waiting });
        }
    }

    /// Tells every core that may have answers cached, this one included: the message goes the way of the
    /// answers before it, so that none of them arrives later. The number of those that will answer.
    fn invalidate(&mut self, tenant: &Arc<str>, filter: &str) -> u32 {
        let number = self.route_changes.next;
        self.route_changes.next += 1;
        let holders = self.route_changes.holders.get(tenant).cloned().unwrap_or_default();
        for holder in &holders {
            let body = Body::Invalidate { tenant: Arc::clone(tenant), filter: filter.into(), number };
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
            self.post(requester, Body::RouteChanged { change });
        }
    }

    /// At the requester: a change stands.
    pub(super) fn on_route_changed(&mut self, change: u64, out: &mut Outputs) {
        match self.route_waits.waits.remove(&change) {
            None => {}
            Some(RouteWait::Request(wait)) => self.on_request_progress(wait, out),
            Some(RouteWait::Filter(tenant, filter)) => {
                let Some(local) = self.tenants.at(tenant).local.get_mut(&filter) else { return };
                let Some(waiting) = local.waiting.take_if(|waiting| waiting.change == change) else { return };
                for wait in waiting.requests {
                    self.on_request_progress(wait, out);
                }
            }
        }
    }
}

//! Routes of persistent sessions: each change of one is a task of its client, and the packet that asked for it waits for
//! that task and no other.

use std::sync::Arc;

use mqtt::ReasonCode;

use super::Core;
use super::route_changes::RouteWait;
use super::stored::{Awaited, RouteWaiter};
use super::tasks::TaskRef;
use crate::delivery::DeliveryOptions;
use crate::dist::Route;
use crate::identity::Incarnation;
use crate::input::Outputs;
use crate::quota::Total;
use crate::ranges::inbox::{Task, Work, command};
use crate::storage::UPKEEP;

/// A change of a persistent session's route that is on its way.
#[derive(Clone, Debug)]
pub(super) struct StoredRoute {
    pub task: TaskRef,
    /// Whose.
    pub session: Incarnation,
    /// The filter as its client spelled it.
    pub spelled: Box<str>,
}

impl Core {
    /// A change of a route is with the range: the first packet that waits for such a one waits for its task.
    pub(super) fn bind_route_waiter(&mut self, task: &TaskRef) {
        let range = self.storage.log(task.slot).inbox().machine();
        let client = range.client(&task.tenant, &task.client);
        let (session, filter, ends) = match client.and_then(|client| client.tasks.get(task.number)) {
            Some(Work::Route(session, filter, _)) => (*session, filter, false),
            Some(Work::Unroute(session, filter)) => (*session, filter, true),
            _ => return,
        };
        let waiters = self.stored.route_waits.get_mut(&(session, filter.clone()));
        let mut unbound = waiters.into_iter().flatten().filter(|waiter| waiter.task.is_none());
        if let Some(waiter) = unbound.next().filter(|waiter| waiter.ends == ends) {
            waiter.task = Some(task.number);
        }
    }

    /// A persistent session's route is to stand (with these options), or to go.
    pub(super) fn change_stored_route(
        &mut self,
        task: TaskRef,
        session: Incarnation,
        spelled: &str,
        options: Option<DeliveryOptions>,
    ) {
        let parsed = mqtt::validate_filter(spelled).expect("was granted");
        let tenant = Arc::clone(&task.tenant);
        let route = self.stored_route(session, spelled, options.unwrap_or_default());
        let wait = StoredRoute { task, session, spelled: spelled.into() };
        match options {
            Some(_) => {
                let wait = RouteWait::Stored(Box::new(wait));
                self.add_route(&tenant, parsed.filter, route, wait);
            }
            None => {
                let wait = RouteWait::StoredRemoval(Box::new(wait));
                self.remove_route(&tenant, parsed.filter, route, Some(wait));
            }
        }
    }

    /// The route of a persistent session's subscription.
    pub(super) fn stored_route(
        &self,
        session: Incarnation,
        spelled: &str,
        options: DeliveryOptions,
    ) -> Route {
        let parsed = mqtt::validate_filter(spelled).expect("was granted");
        let target = self.target(session, options);
        match parsed.share {
            Some(share) => {
                let (key, member) = self.member(share, parsed.filter, target, true);
                Route::Member(key, member)
            }
            None => Route::Session(target),
        }
    }

    /// A route is left as it is, because a later task changes it: who waits for this one waits for that.
    pub(super) fn leave_route(&mut self, route: StoredRoute, out: &mut Outputs) {
        let Some(later) = self.later_change(&route) else { return self.on_stored_route(route, out) };
        let StoredRoute { task, session, spelled } = route;
        let waiters = self.stored.route_waits.get_mut(&(session, spelled));
        for waiter in waiters.into_iter().flatten().filter(|waiter| waiter.task == Some(task.number)) {
            waiter.task = Some(later);
        }
        self.finish_task(task, out);
    }

    /// The next task of the same route.
    fn later_change(&self, route: &StoredRoute) -> Option<u64> {
        let StoredRoute { task, session, spelled } = route;
        let range = self.storage.log(task.slot).inbox().machine();
        let mut tasks = range.client(&task.tenant, &task.client)?.tasks.iter();
        let is_later = |other: &Task| match &other.work {
            Work::Route(by, filter, _) | Work::Unroute(by, filter) => {
                by == session && filter == spelled && other.number > task.number
            }
            _ => false,
        };
        tasks.find(|other| is_later(other)).map(|other| other.number)
    }

    /// A route stands, or is gone: who waits for it goes on.
    pub(super) fn on_stored_route(&mut self, route: StoredRoute, out: &mut Outputs) {
        let StoredRoute { task, session, spelled } = route;
        let key = (session, spelled);
        while let Some(waiters) = self.stored.route_waits.get_mut(&key) {
            // A route may stand before a removal is through that was asked for earlier.
            let at = waiters.iter().position(|waiter| waiter.task == Some(task.number));
            let Some(RouteWaiter { wait, ends, .. }) = at.and_then(|at| waiters.remove(at)) else { break };
            if waiters.is_empty() {
                self.stored.route_waits.remove(&key);
            }
            // What was sent by it before is here, but perhaps not with the session yet.
            if !(ends && self.postponed.make_wait(wait)) {
                self.on_request_progress(wait, out);
            }
        }
        self.finish_task(task, out);
    }

    /// The range takes no further member of a shared subscription: the session has none.
    pub(super) fn on_stored_route_refused(
        &mut self,
        route: StoredRoute,
        tenant: &Arc<str>,
        out: &mut Outputs,
    ) {
        let StoredRoute { task, session, spelled } = &route;
        let key = (*session, spelled.clone());
        let mut waiters = self.stored.route_waits.get(&key).into_iter().flatten().copied();
        if let Some(waiter) = waiters.find(|waiter| waiter.task == Some(task.number)) {
            self.set_reason(waiter.wait, waiter.number, ReasonCode::QUOTA_EXCEEDED);
        }
        if let Some(slot) = self.sessions.find(*session)
            && let Some(stored) = &mut self.sessions.at(slot).stored
        {
            let range = self.storage.log(stored.log).inbox().machine();
            if let Some(state) = range.session(*session) {
                stored.change(state, spelled, None);
            }
            let (slot, epoch, incarnation) = (stored.log, stored.epoch, session.0);
            let subscriptions = [command::Subscription { filter: spelled, options: 0 }];
            let command = command::Unsubscribe { incarnation, epoch, subscriptions: &subscriptions };
            let awaited = Some(Awaited::Refused(*session, spelled.clone()));
            self.propose(slot, UPKEEP, awaited, (&command, &[]), out);
            let tenant = self.tenants.index(tenant, &self.config);
            self.leave_total(tenant, Total::SharedSubscriptions, 1);
        }
        self.on_stored_route(route, out);
    }
}

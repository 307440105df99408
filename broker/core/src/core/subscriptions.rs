//! Subscriptions of persistent sessions: what a SUBSCRIBE or UNSUBSCRIBE changes is one command; its routes follow
//! as tasks when that is durable, and the acknowledgement follows the routes.

use std::sync::Arc;

use mqtt::ReasonCode;

use super::Core;
use super::quotas::kind;
use super::stored::{Awaited, RouteWaiter};
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, Incarnation};
use crate::input::Outputs;
use crate::ranges::inbox::command;
use crate::sessions::SessionSlot;
use crate::storage::{NEW_DATA, UPKEEP};
use crate::tenant::SubscribeWait;

/// What one packet changes: filters as the client spelled them; without options they end.
pub(super) type StoredChanges = Vec<(Box<str>, Option<DeliveryOptions>)>;

impl Core {
    /// Whether a connected session has a subscription, or will have when what is proposed is applied.
    pub(super) fn subscribes_at(&self, slot: SessionSlot, filter: &str) -> bool {
        let session = self.sessions.get(slot);
        let Some(stored) = &session.stored else { return session.subscriptions.contains_key(filter) };
        let range = self.storage.log(stored.log).inbox().machine();
        range.session(session.incarnation()).is_some_and(|state| stored.subscribes(state, filter))
    }

    /// How many it has or will have.
    pub(super) fn subscriptions_at(&self, slot: SessionSlot) -> usize {
        let session = self.sessions.get(slot);
        let Some(stored) = &session.stored else { return session.subscriptions.len() };
        let range = self.storage.log(stored.log).inbox().machine();
        range.session(session.incarnation()).map_or(0, |state| stored.subscriptions(state))
    }

    /// Notes a change of a persistent session, whose route the packet then waits for: its filter of this number. False if the session is not
    /// persistent.
    pub(super) fn change_stored(
        &mut self,
        (wait, number): (SubscribeWait, u16),
        slot: SessionSlot,
        filter: &str,
        options: Option<DeliveryOptions>,
        changes: &mut StoredChanges,
    ) -> bool {
        let session = self.sessions.at(slot);
        let incarnation = session.incarnation();
        let Some(stored) = &mut session.stored else { return false };
        let range = self.storage.log(stored.log).inbox().machine();
        if let Some(state) = range.session(incarnation) {
            stored.change(state, filter, options);
        }
        changes.push((filter.into(), options));
        let waiter = RouteWaiter { wait, number, ends: options.is_none(), task: None };
        self.stored.route_waits.entry((incarnation, filter.into())).or_default().push_back(waiter);
        true
    }

    /// Proposes what a packet changes. How many decisions it waits for.
    pub(super) fn propose_subscriptions(
        &mut self,
        id: ConnectionId,
        request: u64,
        changes: &StoredChanges,
        out: &mut Outputs,
    ) -> u32 {
        if changes.is_empty() {
            return 0;
        }
        let Some(connection) = self.connections.get(id) else { return 0 };
        let session = self.sessions.get(connection.session);
        let session_name = session.incarnation();
        let Some(stored) = &session.stored else { return 0 };
        let (slot, epoch, incarnation) = (stored.log, stored.epoch, session_name.0);
        let subscriptions: Vec<command::Subscription<'_>> = changes
            .iter()
            .map(|(filter, options)| command::Subscription {
                filter,
                options: options.unwrap_or_default().to_bits(),
            })
            .collect();
        // A packet is of one kind.
        let subscribe = changes.iter().any(|(_, options)| options.is_some());
        let filters = changes.iter().map(|(filter, _)| filter.clone()).collect();
        let wait = SubscribeWait { connection: id, request };
        let awaited = Some(Awaited::Subscriptions(wait, session_name, filters));
        if subscribe {
            let command = command::Subscribe { incarnation, epoch, subscriptions: &subscriptions };
            self.propose(slot, NEW_DATA, awaited, (&command, &[]), out);
        } else {
            let command = command::Unsubscribe { incarnation, epoch, subscriptions: &subscriptions };
            self.propose(slot, UPKEEP, awaited, (&command, &[]), out);
        }
        1
    }

    /// The range has made the changes of a packet.
    pub(super) fn on_subscriptions_changed(&mut self, session: Incarnation, filters: &[Box<str>]) {
        let Some(slot) = self.sessions.find(session) else { return };
        let Some(stored) = &mut self.sessions.at(slot).stored else { return };
        let range = self.storage.log(stored.log).inbox().machine();
        let Some(state) = range.session(session) else { return };
        filters.iter().for_each(|filter| stored.on_changed(state, filter));
    }

    /// A full disk takes no new subscriptions: their filters are refused, and are as they were before.
    pub(super) fn refuse_subscriptions(&mut self, out: &mut Outputs) {
        for (wait, incarnation, filters) in std::mem::take(&mut self.stored.refused) {
            self.on_subscriptions_changed(incarnation, &filters);
            for filter in filters {
                self.refuse_subscription(wait, incarnation, &filter, out);
            }
            self.on_request_progress(wait, out);
        }
    }

    fn refuse_subscription(
        &mut self,
        wait: SubscribeWait,
        incarnation: Incarnation,
        filter: &str,
        out: &mut Outputs,
    ) {
        let Some((number, void)) = self.leave_route_waits(wait, incarnation, filter) else { return };
        if let Some(slot) = self.sessions.find(incarnation)
            && void.is_none()
            && !self.subscribes_at(slot, filter)
        {
            let tenant = Arc::clone(self.sessions.get(slot).tenant());
            let tenant = self.tenants.index(&tenant, &self.config);
            let shared = mqtt::validate_filter(filter).is_ok_and(|parsed| parsed.share.is_some());
            self.leave_total(tenant, kind(shared, true), 1);
        }
        if let Some(request) = self.request_mut(wait) {
            request.retained.retain(|(other, _)| **other != *filter);
        }
        self.set_reason(wait, number, ReasonCode::QUOTA_EXCEEDED);
        self.on_request_progress(wait, out);
        void.into_iter().for_each(|void| self.on_request_progress(void, out));
    }

    /// A refused SUBSCRIBE waits for no route, and an UNSUBSCRIBE that came behind it for none either if nothing was
    /// there before. The number of the filter, and that UNSUBSCRIBE.
    fn leave_route_waits(
        &mut self,
        wait: SubscribeWait,
        incarnation: Incarnation,
        filter: &str,
    ) -> Option<(u16, Option<SubscribeWait>)> {
        let log = self.log_of_session(incarnation);
        let state = log.and_then(|log| self.storage.log(log).inbox().machine().session(incarnation));
        let stands = state.is_some_and(|state| state.subscriptions.contains_key(filter));
        let key = (incarnation, Box::from(filter));
        let waiters = self.stored.route_waits.get_mut(&key)?;
        let at = waiters.iter().position(|waiter| waiter.wait == wait)?;
        let number = waiters.remove(at)?.number;
        let there = at.checked_sub(1).map_or(stands, |before| !waiters[before].ends);
        let void = waiters.get(at).filter(|next| next.ends && !there).map(|next| next.wait);
        if void.is_some() {
            waiters.remove(at);
        }
        if waiters.is_empty() {
            self.stored.route_waits.remove(&key);
        }
        Some((number, void))
    }
}

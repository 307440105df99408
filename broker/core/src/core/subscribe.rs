//! SUBSCRIBE and UNSUBSCRIBE. SUBACK means routed (promise 2): it leaves when every core that might answer
//! without the new route has forgotten what it knew. Other packets do not wait for it.

use std::sync::Arc;

use mqtt::encode::{self, SubAckOut};
use mqtt::{
    Filter, ReasonCode, RetainHandling, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, Version,
};
use smallvec::SmallVec;

use super::Core;
use super::close::Denied;
use super::greet::topic_limit;
use super::quotas::kind;
use super::route_changes::RouteWait;
use super::subscriptions::StoredChanges;
use crate::config::Settings;
use crate::connection::SubscribeRequest;
use crate::delivery::DeliveryOptions;
use crate::dist::Route;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::notice::Event;
use crate::sight::{Answer, Refusal, Said};
use crate::tenant::{RouteWaiting, SubscribeWait, TenantIndex};
use crate::time::Now;

impl Core {
    pub(super) fn on_subscribe(
        &mut self,
        now: Now,
        id: ConnectionId,
        subscribe: &Subscribe<'_>,
        out: &mut Outputs,
    ) {
        // [MQTT-3.8.3-4]: judged before anything is subscribed.
        let breaks = |filter: SubscribeFilter<'_>| {
            filter.options.no_local && mqtt::validate_filter(filter.filter).is_ok_and(|it| it.share.is_some())
        };
        if subscribe.filters.into_iter().any(breaks) {
            self.refuse(now, id, ReasonCode::PROTOCOL_ERROR, out);
            return;
        }
        if let Err(denied) = self.judge_kinds(id, subscribe) {
            self.refuse_denied(now, id, denied, out);
            return;
        }
        self.charge_filters(subscribe.filters.len());
        let mut request = self.begin_request(id, subscribe.packet_id, false);
        let mut changes = StoredChanges::new();
        for filter in subscribe.filters {
            let wait = SubscribeWait { connection: id, request: request.number };
            let reason = match self.judge_filter(id, &filter, subscribe.subscription_id) {
                Ok(parsed) => match self.check_subscribe(now, id, &filter, &parsed) {
                    Ok(()) => {
                        let id = subscribe.subscription_id;
                        self.subscribe(&mut request, wait, &filter, parsed, id, &mut changes)
                    }
                    Err(denied) => self.count_denied(id, denied, out),
                },
                Err(denied) => self.count_denied(id, denied, out),
            };
            request.reasons.push(reason);
        }
        request.waiting += self.propose_subscriptions(id, request.number, &changes, out);
        self.enter_request(id, request, out);
    }

    fn count_denied(&mut self, id: ConnectionId, denied: Denied, out: &mut Outputs) -> ReasonCode {
        if let Some(limit) = denied.limit {
            self.counters.limit(limit);
            self.notice(id, Event::Limit(limit), out);
        }
        self.notice(id, Event::SubscribeDenied(denied.reason), out);
        denied.reason
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        now: Now,
        id: ConnectionId,
        unsubscribe: &Unsubscribe<'_>,
        out: &mut Outputs,
    ) {
        self.charge_filters(unsubscribe.filters.len());
        let mut request = self.begin_request(id, unsubscribe.packet_id, true);
        let mut changes = StoredChanges::new();
        for filter in unsubscribe.filters {
            let wait = SubscribeWait { connection: id, request: request.number };
            let reason = match (mqtt::validate_filter(filter), self.check_unsubscribe(now, id)) {
                (Ok(parsed), Ok(())) => {
                    self.unsubscribe(&mut request, wait, filter, parsed, &mut changes, out)
                }
                (Err(_), _) => ReasonCode::TOPIC_FILTER_INVALID,
                // 0x97 is not among the codes of UNSUBACK.
                (_, Err(_)) => ReasonCode::UNSPECIFIED_ERROR,
            };
            request.reasons.push(reason);
        }
        let wait = SubscribeWait { connection: id, request: request.number };
        request.waiting += u32::from(self.postponed.make_wait(wait));
        request.waiting += self.propose_subscriptions(id, request.number, &changes, out);
        self.enter_request(id, request, out);
    }

    /// A filter costs a turn what a delivery does.
    pub(super) fn charge_filters(&mut self, filters: usize) {
        let filters = u32::try_from(filters).expect("at most 65 535");
        self.deliveries_left = self.deliveries_left.saturating_sub(filters);
    }

    pub(super) fn begin_request(
        &mut self,
        id: ConnectionId,
        packet_id: mqtt::PacketId,
        unsubscribe: bool,
    ) -> SubscribeRequest {
        let extras = self.connections.get_mut(id).expect("is being processed").extras();
        let number = extras.next_request;
        extras.next_request += 1;
        SubscribeRequest {
            number,
            packet_id,
            unsubscribe,
            asked: None,
            reasons: SmallVec::new(),
            waiting: 0,
            retained: Vec::new(),
            point: None,
        }
    }

    /// A kind of subscription that CONNACK said is not available is a protocol error with a code of its own
    /// (3.2.2.3.11 to 3.2.2.3.13). A 3.x client was not told, and hears of it in SUBACK.
    fn judge_kinds(&self, id: ConnectionId, subscribe: &Subscribe<'_>) -> Result<(), Denied> {
        let connection = self.connections.get(id).expect("is being processed");
        let settings = connection.settings();
        if connection.version != Version::V5 {
            return Ok(());
        }
        subscribe
            .filters
            .into_iter()
            .filter_map(|filter| mqtt::validate_filter(filter.filter).ok())
            .try_for_each(|parsed| judge_kind(&parsed, subscribe.subscription_id, settings))
    }

    /// What the settings and the client's permissions say about one filter.
    pub(super) fn judge_filter<'a>(
        &self,
        id: ConnectionId,
        filter: &SubscribeFilter<'a>,
        subscription_id: Option<u32>,
    ) -> Result<Filter<'a>, Denied> {
        let connection = self.connections.get(id).expect("is being processed");
        let settings = connection.settings();
        let parsed = mqtt::validate_filter(filter.filter).map_err(|_| ReasonCode::TOPIC_FILTER_INVALID)?;
        judge_kind(&parsed, subscription_id, settings)?;
        if let Some(limit) = topic_limit(parsed.filter, settings) {
            return Err(Denied::by(limit, ReasonCode::TOPIC_FILTER_INVALID));
        }
        if !connection.grant.as_ref().is_some_and(|grant| grant.may_subscribe(parsed.filter)) {
            return Err(ReasonCode::NOT_AUTHORIZED.into());
        }
        let slot = connection.session;
        let max = settings.subscriptions_max as usize;
        // A client that takes none of its retained messages may ask for them as often as it may subscribe.
        let streams = self.sessions.get(slot).owed.as_ref().map_or(0, |owed| owed.len());
        if streams >= max || self.subscriptions_at(slot) >= max && !self.subscribes_at(slot, filter.filter) {
            return Err(Denied::by(Limit::Subscriptions, ReasonCode::QUOTA_EXCEEDED));
        }
        Ok(parsed)
    }

    /// Enters one subscription, and asks for its route.
    pub(super) fn subscribe(
        &mut self,
        request: &mut SubscribeRequest,
        wait: SubscribeWait,
        filter: &SubscribeFilter<'_>,
        parsed: Filter<'_>,
        subscription_id: Option<u32>,
        changes: &mut StoredChanges,
    ) -> ReasonCode {
        let connection = self.connections.get(wait.connection).expect("is being processed");
        let (tenant, slot) = (connection.tenant, connection.session);
        let (retain, qos_max) = (connection.settings().retain, connection.settings().qos_max);
        let name = Arc::clone(&self.tenants.get(tenant).name);
        let granted = filter.options.qos.min(qos_max);
        let options = SubscriptionOptions { qos: granted, ..filter.options };
        let delivery = DeliveryOptions::new(options, subscription_id);
        let new = !self.subscribes_at(slot, filter.filter);
        let number = u16::try_from(request.reasons.len()).expect("as many as subscribe_filters_max");
        if self.change_stored((wait, number), slot, filter.filter, Some(delivery), changes) {
            request.waiting += 1;
        } else {
            self.sessions.subscribe(slot, filter.filter, delivery);
        }
        let session = self.sessions.get(slot);
        let (target, volatile) = (self.target(session.incarnation(), delivery), session.stored.is_none());
        if new {
            self.enter_total(tenant, kind(parsed.share.is_some(), !volatile), 1);
        }
        match parsed.share {
            Some(share) if volatile => {
                let (key, member) = self.member(share, parsed.filter, target, false);
                let wait = RouteWait::Request(wait, number);
                self.add_route(&name, parsed.filter, Route::Member(key, member), wait);
                request.waiting += 1;
            }
            _ if !volatile => {}
            _ => request.waiting += u32::from(self.add_local(tenant, parsed.filter, delivery, wait)),
        }
        let wanted = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => new,
            RetainHandling::DoNotSend => false,
        };
        if wanted && parsed.share.is_none() && retain {
            request.retained.push((parsed.filter.into(), delivery));
        }
        ReasonCode::from_value(granted.bits()).expect("0 to 2")
    }

    pub(super) fn unsubscribe(
        &mut self,
        request: &mut SubscribeRequest,
        wait: SubscribeWait,
        filter: &str,
        parsed: Filter<'_>,
        changes: &mut StoredChanges,
        out: &mut Outputs,
    ) -> ReasonCode {
        let connection = self.connections.get(wait.connection).expect("is being processed");
        let (tenant, slot) = (connection.tenant, connection.session);
        // One that is not there any more may have routes that are still going: the answer waits for them, for after
        // it nothing may be sent by them [MQTT-3.10.4-2].
        let there = self.subscribes_at(slot, filter);
        let reason = if there { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED };
        if parsed.share.is_none() {
            self.give_up_retained(wait.connection, parsed.filter);
        }
        if there {
            let durable = self.sessions.get(slot).stored.is_some();
            self.leave_total(tenant, kind(parsed.share.is_some(), durable), 1);
        }
        if there && self.change_stored((wait, 0), slot, filter, None, changes) {
            request.waiting += 1;
            return reason;
        }
        let name = Arc::clone(&self.tenants.get(tenant).name);
        self.sessions.unsubscribe(slot, filter);
        let session = self.sessions.get(slot);
        let target = self.target(session.incarnation(), DeliveryOptions::default());
        let route = match parsed.share {
            _ if session.stored.is_some() => {
                self.stored_route(session.incarnation(), filter, DeliveryOptions::default())
            }
            Some(share) => {
                let (key, member) = self.member(share, parsed.filter, target, false);
                Route::Member(key, member)
            }
            None => {
                if reason == ReasonCode::SUCCESS {
                    self.remove_local(&name, parsed.filter, wait.connection, out);
                }
                return reason;
            }
        };
        self.remove_route(&name, parsed.filter, route, Some(RouteWait::Removal(wait)));
        request.waiting += 1;
        reason
    }

    /// Adds a volatile session to this core's own subscribers. True if its SUBACK has to wait for the
    /// core's route.
    fn add_local(
        &mut self,
        tenant: TenantIndex,
        filter: &str,
        options: DeliveryOptions,
        wait: SubscribeWait,
    ) -> bool {
        let local = self.tenants.at(tenant).local.get_or_insert_with(filter, Default::default);
        let first = local.is_empty();
        local.add(wait.connection, options);
        let waits = match &mut local.waiting {
            Some(waiting) => {
                waiting.requests.push(wait);
                true
            }
            None => first,
        };
        self.cache.strike(tenant, filter);
        if first {
            let name = Arc::clone(&self.tenants.get(tenant).name);
            let route = Route::Core(self.id);
            let change = self.add_route(&name, filter, route, RouteWait::Filter(tenant));
            if let Some(local) = self.tenants.at(tenant).local.get_mut(filter) {
                local.waiting = Some(RouteWaiting { change, requests: vec![wait] });
            }
        }
        waits
    }

    /// Removes a volatile session from this core's subscribers, and the core's route with the last.
    pub(super) fn remove_local(
        &mut self,
        tenant: &Arc<str>,
        filter: &str,
        connection: ConnectionId,
        out: &mut Outputs,
    ) {
        let index = self.tenants.index(tenant, &self.config);
        let Some(local) = self.tenants.at(index).local.get_mut(filter) else { return };
        local.remove(connection);
        let empty = local.is_empty();
        let waiting = if empty { local.waiting.take() } else { None };
        self.cache.strike(index, filter);
        if empty {
            self.tenants.at(index).local.remove(filter);
            self.remove_route(tenant, filter, Route::Core(self.id), None);
        }
        for wait in waiting.into_iter().flat_map(|waiting| waiting.requests) {
            self.on_request_progress(wait, out); // nobody is left to be routed to
        }
    }

    pub(super) fn enter_request(
        &mut self,
        id: ConnectionId,
        mut request: SubscribeRequest,
        out: &mut Outputs,
    ) {
        if request.waiting == 0 && wants_point(self.config.cores, &request) {
            self.find_point(SubscribeWait { connection: id, request: request.number });
            request.waiting = 1;
        }
        if request.waiting == 0 {
            self.finish_request(id, request, out);
        } else if let Some(connection) = self.connections.get_mut(id) {
            let extras = connection.extras();
            extras.requested_filters += request.reasons.len();
            extras.requests.push_back(request);
        }
    }

    /// One filter of a request has another answer than was thought.
    pub(super) fn set_reason(&mut self, wait: SubscribeWait, number: u16, reason: ReasonCode) {
        let Some(request) = self.request_mut(wait) else { return };
        if let Some(answer) = request.reasons.get_mut(usize::from(number)) {
            *answer = reason;
        }
    }

    /// A request that is not answered.
    pub(super) fn request_mut(&mut self, wait: SubscribeWait) -> Option<&mut SubscribeRequest> {
        let requests = &mut self.connections.get_mut(wait.connection)?.extras.as_mut()?.requests;
        let at = requests.binary_search_by_key(&wait.request, |request| request.number).ok()?;
        Some(&mut requests[at])
    }

    /// A route that a request waits for stands.
    pub(super) fn on_request_progress(&mut self, wait: SubscribeWait, out: &mut Outputs) {
        let Some(connection) = self.connections.get_mut(wait.connection) else { return };
        if !connection.is_online() {
            return;
        }
        let extras = connection.extras();
        // Their numbers ascend, and others' requests may have been done before.
        let Ok(at) = extras.requests.binary_search_by_key(&wait.request, |request| request.number) else {
            return;
        };
        extras.requests[at].waiting -= 1;
        if extras.requests[at].waiting > 0 {
            return;
        }
        if wants_point(self.config.cores, &extras.requests[at]) {
            extras.requests[at].waiting = 1;
            return self.find_point(wait);
        }
        if let Some(request) = extras.requests.remove(at) {
            extras.requested_filters -= request.reasons.len();
            self.finish_request(wait.connection, request, out);
            self.unstall(wait.connection);
        }
    }

    /// Acknowledges, and begins with the retained messages.
    fn finish_request(&mut self, id: ConnectionId, request: SubscribeRequest, out: &mut Outputs) {
        match request.asked {
            Some(number) => answer_asked(number, &request, out),
            None => {
                self.write_suback(id, &request, out);
                let event = if request.unsubscribe { Event::Unsubscribed } else { Event::Subscribed };
                self.notice(id, event, out);
            }
        }
        let Some(slot) = self.connections.get(id).map(|connection| connection.session) else { return };
        if !request.retained.is_empty() {
            let point = request.point.or_else(|| self.point_at_hand());
            let owed = self.sessions.at(slot).owed.get_or_insert_default();
            for (filter, options) in request.retained {
                owed.push(filter, options, point.clone());
            }
            self.start_retained(slot);
        }
    }

    fn write_suback(&mut self, id: ConnectionId, request: &SubscribeRequest, out: &mut Outputs) {
        self.write(id, out, |tail, version| {
            let ack = SubAckOut {
                packet_id: request.packet_id,
                reason_string: None,
                user_properties: Default::default(),
                reasons: &request.reasons,
            };
            if request.unsubscribe {
                encode::unsuback(tail, version, &ack);
            } else {
                encode::suback(tail, version, &ack);
            }
        });
    }
}

/// Whether a request of which all routes stand is to know from where on it gets live what changes retained messages.
fn wants_point(cores: u16, request: &SubscribeRequest) -> bool {
    cores > 1 && !request.retained.is_empty() && request.point.is_none()
}

/// Answers the operator, on whose behalf one filter was asked for.
fn answer_asked(number: u64, request: &SubscribeRequest, out: &mut Outputs) {
    let refused = |reason: &ReasonCode| reason.is_error() || *reason == ReasonCode::NO_SUBSCRIPTION_EXISTED;
    let refusal = request.reasons.iter().copied().find(refused).map(Refusal::Reason);
    out.answers.push(Answer { number, said: Said::Done(refusal.map_or(Ok(()), Err)) });
}

/// What kinds of subscriptions are offered to the tenant's clients.
fn judge_kind(parsed: &Filter<'_>, subscription_id: Option<u32>, settings: &Settings) -> Result<(), Denied> {
    if parsed.share.is_some() && !settings.shared_subscriptions {
        let reason = ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED;
        return Err(Denied::by(Limit::SharedSubscriptions, reason));
    }
    if !settings.wildcard_subscriptions && parsed.filter.contains(['+', '#']) {
        let reason = ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
        return Err(Denied::by(Limit::Wildcards, reason));
    }
    if subscription_id.is_some() && !settings.subscription_identifiers {
        let reason = ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED;
        return Err(Denied::by(Limit::SubscriptionIdentifiers, reason));
    }
    Ok(())
}

//! What a tenant has and does on this core is entered in its account, and judged by it (`quota.rs`).

use std::sync::Arc;

use mqtt::{Filter, QoS, ReasonCode, RetainHandling, SubscribeFilter, Version};

use super::Core;
use super::close::Denied;
use super::timers::Timer;
use crate::config::Settings;
use crate::connection::Pressure;
use crate::counters::DropReason;
use crate::dist::{CachedTopic, Destinations};
use crate::identity::{ConnectionId, CoreId};
use crate::limit::Limit;
use crate::message::Publication;
use crate::peer::Body;
use crate::quota::{Rate, TOTALS, Total};
use crate::tenant::TenantIndex;
use crate::time::Now;

/// How long after one measuring the next begins, nanoseconds.
const MEASURE_INTERVAL: u64 = 1_000_000_000;

/// A look at all sessions: what waits for them.
#[derive(Debug, Default)]
pub(super) struct Measuring {
    /// Where it goes on; None: it is not going on.
    slot: Option<u32>,
    /// The timer for the next is armed.
    armed: bool,
    /// How many tenants there were at the end of the last turn.
    tenants: usize,
    /// Bytes so far by tenant: of sessions that end with their connections, of others.
    bytes: Vec<[u64; 2]>,
}

impl Measuring {
    pub(super) fn is_going_on(&self) -> bool {
        self.slot.is_some()
    }
}

/// The total that a subscription counts in.
pub(super) fn kind(is_shared: bool, durable: bool) -> Total {
    match (is_shared, durable) {
        (true, _) => Total::SharedSubscriptions,
        (false, true) => Total::PersistentSubscriptions,
        (false, false) => Total::TransientSubscriptions,
    }
}

impl Core {
    /// There is so much more of something.
    pub(super) fn enter_total(&mut self, tenant: TenantIndex, total: Total, more: u64) {
        self.tenants.at(tenant).quota.add(total, more);
        self.tell_totals_of(tenant);
    }

    /// There is so much less.
    pub(super) fn leave_total(&mut self, tenant: TenantIndex, total: Total, less: u64) {
        self.tenants.at(tenant).quota.take(total, less);
        self.tell_totals_of(tenant);
    }

    fn set_total(&mut self, tenant: TenantIndex, total: Total, own: u64) {
        if self.tenants.at(tenant).quota.set(total, own) {
            self.tell_totals_of(tenant);
        }
    }

    fn tell_totals_of(&mut self, tenant: TenantIndex) {
        let account = self.tenants.at(tenant);
        if account.wanted.totals && self.config.cores > 1 && !account.quota.untold {
            account.quota.untold = true;
            self.untold_totals.push(tenant);
        }
    }

    /// Tells the other cores, once a turn, what has changed.
    pub(super) fn tell_totals(&mut self) {
        // Of one that is new here there may be something in the logs.
        if std::mem::replace(&mut self.measuring.tenants, self.tenants.len()) != self.tenants.len()
            && self.tenants.wanted().retained
        {
            self.enter_retained();
        }
        for index in std::mem::take(&mut self.untold_totals) {
            let tenant = self.tenants.at(index);
            tenant.quota.untold = false;
            let (name, totals) = (Arc::clone(&tenant.name), tenant.quota.own());
            for core in (0..self.config.cores).map(CoreId) {
                if core != self.id {
                    self.post(core, Body::Totals { tenant: Arc::clone(&name), totals: Box::new(totals) });
                }
            }
        }
    }

    pub(super) fn on_totals(&mut self, from: CoreId, tenant: &Arc<str>, totals: [u64; TOTALS]) {
        let tenant = self.tenants.index(tenant, &self.config);
        self.tenants.at(tenant).quota.learn(from, totals);
    }

    /// Other quotas may be wanted: what was not counted among cores is told, who was not held back may have to be.
    pub(super) fn on_quotas_changed(&mut self, now: Now) {
        for tenant in self.tenants.indexes() {
            self.tell_totals_of(tenant);
        }
        self.enter_retained();
        self.arm_measuring(now);
        if self.tenants.wanted().inbound {
            self.begin_sweep();
        }
    }

    /// A tenant is new here.
    pub(super) fn arm_measuring(&mut self, now: Now) {
        if !self.measuring.armed && self.tenants.wanted().bytes {
            self.measuring.armed = true;
            self.wheel.arm(now.monotonic.0 + MEASURE_INTERVAL, Timer::Measure);
        }
    }

    pub(super) fn on_measure_timer(&mut self) {
        self.measuring.slot = Some(0);
        self.measuring.bytes.clear();
    }

    /// Goes on with measuring what waits for sessions.
    pub(super) fn go_on_measuring(&mut self, now: Now) {
        let Some(from) = self.measuring.slot else { return };
        let mut bytes = std::mem::take(&mut self.measuring.bytes);
        let (sessions, next) = self.sessions_from(from);
        let queued: Vec<_> = sessions
            .iter()
            .map(|session| (Arc::clone(session.tenant), session.stored.is_some(), session.queued().1))
            .collect();
        for (tenant, durable, queued_bytes) in queued {
            let tenant = self.tenants.index(&tenant, &self.config).index();
            if bytes.len() <= tenant {
                bytes.resize(tenant + 1, [0; 2]);
            }
            bytes[tenant][usize::from(durable)] += queued_bytes;
        }
        self.measuring.slot = next;
        if next.is_none() {
            for tenant in self.tenants.indexes() {
                let [transient, persistent] = bytes.get(tenant.index()).copied().unwrap_or_default();
                self.set_total(tenant, Total::TransientBytes, transient);
                self.set_total(tenant, Total::PersistentBytes, persistent);
            }
            self.measuring.armed = false;
            self.arm_measuring(now);
        } else {
            self.measuring.bytes = bytes;
        }
    }

    /// Whether a tenant may do something once more; it is entered if so.
    fn try_pay(&mut self, now: Now, tenant: TenantIndex, rate: Rate, units: u64) -> Result<(), Limit> {
        let account = self.tenants.at(tenant);
        account.quota.try_pay(now.monotonic, &account.settings, self.config.cores, rate, units)
    }

    fn pay(&mut self, now: Now, tenant: TenantIndex, rate: Rate, units: u64) {
        let account = self.tenants.at(tenant);
        account.quota.pay(now.monotonic, &account.settings, self.config.cores, rate, units);
    }

    fn has_room(&self, tenant: TenantIndex, total: Total, more: u64) -> Result<(), Limit> {
        let account = self.tenants.get(tenant);
        account.quota.has_room(&account.settings, total, more)
    }

    /// Whether the tenant may have this client. One that takes its own place over needs none; one whose session
    /// waits for it may always have that.
    pub(super) fn check_quotas(
        &mut self,
        now: Now,
        tenant: TenantIndex,
        client: &str,
        (clean_start, lasts): (bool, bool),
    ) -> Result<(), Denied> {
        let denied = |limit| Denied::by(limit, ReasonCode::QUOTA_EXCEEDED);
        self.arm_measuring(now);
        let name = &self.tenants.get(tenant).name;
        let former = self.session_of(name, client);
        let online = former.as_ref().is_some_and(|session| session.here.is_some());
        let resumed = former.is_some_and(|session| session.stored.is_some() && !clean_start);
        if !online {
            self.has_room(tenant, Total::Connections, 1).map_err(denied)?;
        }
        if lasts && !resumed {
            self.has_room(tenant, Total::PersistentSessions, 1).map_err(denied)?;
            self.has_room(tenant, Total::PersistentBytes, 0).map_err(denied)?;
        }
        if !lasts {
            self.has_room(tenant, Total::TransientBytes, 0).map_err(denied)?;
        }
        self.try_pay(now, tenant, Rate::Connects, 1).map_err(denied)
    }

    /// Whether the tenant may have this subscription.
    pub(super) fn check_subscribe(
        &mut self,
        now: Now,
        id: ConnectionId,
        filter: &SubscribeFilter<'_>,
        parsed: &Filter<'_>,
    ) -> Result<(), Denied> {
        let denied = |limit| Denied::by(limit, ReasonCode::QUOTA_EXCEEDED);
        let connection = self.connections.get(id).expect("is being processed");
        let (tenant, session) = (connection.tenant, self.sessions.get(connection.session));
        let (durable, is_shared) = (session.stored.is_some(), parsed.share.is_some());
        let new = !self.subscribes_at(connection.session, filter.filter);
        if new {
            self.has_room(tenant, kind(is_shared, durable), 1).map_err(denied)?;
        }
        let wants_retained = !is_shared
            && match filter.options.retain_handling {
                RetainHandling::Send => true,
                RetainHandling::SendIfNew => new,
                RetainHandling::DoNotSend => false,
            };
        if wants_retained {
            let account = self.tenants.get(tenant);
            for rate in [Rate::RetainMatches, Rate::RetainMatchBytes] {
                if account.quota.overdrawn(now.monotonic, &account.settings, rate).is_some() {
                    return Err(denied(rate.limit()));
                }
            }
        }
        let rate = if durable { Rate::PersistentSubscribes } else { Rate::TransientSubscribes };
        self.try_pay(now, tenant, rate, 1).map_err(denied)
    }

    /// Whether the tenant may give this subscription up. A 3.x client cannot be told no.
    pub(super) fn check_unsubscribe(&mut self, now: Now, id: ConnectionId) -> Result<(), Limit> {
        let connection = self.connections.get(id).expect("is being processed");
        let (tenant, version) = (connection.tenant, connection.version);
        let durable = self.sessions.get(connection.session).stored.is_some();
        let rate = if durable { Rate::PersistentUnsubscribes } else { Rate::TransientUnsubscribes };
        match self.try_pay(now, tenant, rate, 1) {
            Err(limit) if version == Version::V5 => {
                self.bite(tenant, limit);
                Err(limit)
            }
            _ => Ok(()),
        }
    }

    /// Retained messages for a new subscription are sent.
    pub(super) fn pay_retained(&mut self, now: Now, tenant: TenantIndex, bytes: u64) {
        self.pay(now, tenant, Rate::RetainMatches, 1);
        self.pay(now, tenant, Rate::RetainMatchBytes, bytes);
    }

    /// Whether the tenant may have a message of so many bytes retained, in place of one of so many.
    pub(super) fn check_retain(
        &self,
        now: Now,
        tenant: TenantIndex,
        bytes: u64,
        former: Option<u64>,
    ) -> Result<(), Limit> {
        let account = self.tenants.get(tenant);
        for rate in [Rate::Retains, Rate::RetainedBytes] {
            if account.quota.overdrawn(now.monotonic, &account.settings, rate).is_some() {
                return Err(rate.limit());
            }
        }
        if former.is_none() {
            self.has_room(tenant, Total::RetainedTopics, 1)?;
        }
        match bytes.saturating_sub(former.unwrap_or(0)) {
            0 => Ok(()),
            more => self.has_room(tenant, Total::RetainedBytes, more),
        }
    }

    /// A retained message of so many bytes is on its way into the log.
    pub(super) fn pay_retain(&mut self, now: Now, tenant: &Arc<str>, bytes: u64) {
        if self.tenants.wanted().retained {
            let tenant = self.tenants.index(tenant, &self.config);
            self.pay(now, tenant, Rate::Retains, 1);
            self.pay(now, tenant, Rate::RetainedBytes, bytes);
        }
    }

    /// What is retained here has changed: whose it is, is not said.
    pub(super) fn enter_retained(&mut self) {
        for tenant in self.tenants.indexes() {
            if self.tenants.get(tenant).wanted.retained {
                let name = &self.tenants.get(tenant).name;
                let (count, bytes) = (self.storage.retained_of(name), self.storage.retained_bytes_of(name));
                self.set_total(tenant, Total::RetainedTopics, count as u64);
                self.set_total(tenant, Total::RetainedBytes, bytes);
            }
        }
    }

    /// Until when a connection's packets wait because its tenant has sent too much.
    pub(super) fn tenant_holds_back(&self, now: Now, id: ConnectionId) -> Option<(crate::time::Mono, Limit)> {
        let tenant = self.tenants.get(self.connections.get(id)?.tenant);
        let until = tenant.quota.overdrawn(now.monotonic, &tenant.settings, Rate::InboundBytes)?;
        Some((until, Rate::InboundBytes.limit()))
    }

    /// A packet of a connection that is paced is paid for by its tenant, too.
    pub(super) fn pay_inbound(&mut self, now: Now, id: ConnectionId, bytes: usize) {
        if let Some(tenant) = self.connections.get(id).map(|connection| connection.tenant)
            && self.tenants.get(tenant).wanted.inbound
        {
            self.pay(now, tenant, Rate::InboundBytes, bytes as u64);
        }
    }

    /// How many of so many receivers a message reaches. What QoS 1 and 2 promise is kept: their publishers are slowed.
    pub(super) fn pay_fan_out(
        &mut self,
        now: Now,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        receivers: usize,
        durable: bool,
    ) -> usize {
        let rate = if durable { Rate::PersistentFanOutBytes } else { Rate::TransientFanOutBytes };
        let account = self.tenants.at(tenant);
        let Some(_) = account.quota.overdrawn(now.monotonic, &account.settings, rate) else {
            let bytes = publication.payload.len() + publication.topic.len();
            self.pay(now, tenant, rate, (bytes * receivers) as u64);
            return receivers;
        };
        self.bite_message(tenant, publication.topic, rate.limit());
        self.pressure = Pressure::FULL;
        if publication.qos != QoS::AtMostOnce {
            let bytes = publication.payload.len() + publication.topic.len();
            self.pay(now, tenant, rate, (bytes * receivers) as u64);
            return receivers;
        }
        let reached = receivers.min(1);
        self.tenants.lose(&mut self.counters, tenant, DropReason::FanOut, (receivers - reached) as u64);
        reached
    }

    /// What the settings leave of a message's destinations, if they are too many; the limit that says so.
    pub(super) fn limit_fan_out(
        &self,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        cached: &CachedTopic,
    ) -> Option<(CachedTopic, Limit, usize)> {
        let settings: &Settings = &self.tenants.get(tenant).settings;
        let Destinations { sessions, groups, .. } = &cached.elsewhere.as_ref()?.destinations;
        let groups_max = settings.group_fan_out_max as usize;
        let bytes = (publication.payload.len() as u64).max(1);
        let by_bytes = usize::try_from(settings.persistent_fan_out_bytes_max / bytes).unwrap_or(usize::MAX);
        let sessions_max = by_bytes.min(settings.persistent_fan_out_max as usize);
        let left_out = sessions.len().saturating_sub(sessions_max) + groups.len().saturating_sub(groups_max);
        if left_out == 0 {
            return None;
        }
        let limit = if groups.len() > groups_max {
            Limit::GroupFanOut
        } else if by_bytes < settings.persistent_fan_out_max as usize {
            Limit::PersistentFanOutBytes
        } else {
            Limit::PersistentFanOut
        };
        let mut reduced = cached.clone();
        let elsewhere = reduced.elsewhere.as_mut().expect("there are too many");
        elsewhere.destinations.sessions.truncate(sessions_max);
        elsewhere.destinations.groups.truncate(groups_max);
        elsewhere.groups.truncate(groups_max);
        Some((reduced, limit, left_out))
    }
}

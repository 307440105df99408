//! Hot path. A message to all its destinations: this core's volatile sessions at once, durable sessions and
//! other cores by batch, one member of each shared subscription.

use std::rc::Rc;
use std::sync::Arc;

use mqtt::{QoS, ReasonCode};

use super::Core;
use super::append::AnswerTo;
use super::postponed::{Origin, Recipients};
use super::publish::Routed;
use super::receive::mark_dirty;
use crate::config::Ack;
use crate::connection::{Fields, Pressure};
use crate::counters::DropReason;
use crate::dist::{CachedTopic, FanOut, Target};
use crate::identity::{ConnectionId, CoreId};
use crate::input::Outputs;
use crate::message::Publication;
use crate::notice::{About, Event};
use crate::peer::{Body, Reply};
use crate::sessions::Entry;
use crate::tenant::TenantIndex;
use crate::time::Now;

impl Core {
    /// `reply` names the publish that waits for what cannot be done at once.
    pub(super) fn dispatch(
        &mut self,
        now: Now,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        cached: &Rc<CachedTopic>,
        reply: Option<Reply>,
        out: &mut Outputs,
    ) -> Routed {
        if self.watch.is_on() {
            self.see_matched(publication, cached);
        }
        let matched = !cached.local.is_empty() || cached.elsewhere.is_some();
        if !matched {
            self.counters.publishes_unmatched += u64::from(cached.denied == 0);
            self.tenants.lose(&mut self.counters, tenant, DropReason::NoPermission, u64::from(cached.denied));
            if cached.denied > 0 && self.watch.is_on() {
                self.see_denied(publication);
            }
            return Routed::default();
        }
        if publication.expires.is_some_and(|expires| expires <= now.wall) {
            self.tenants.lose(&mut self.counters, tenant, DropReason::Expired, 1);
            if self.watch.is_on() {
                self.see_route(publication, Event::Dropped(DropReason::Expired));
            }
            return Routed { matched, ..Routed::default() };
        }
        if let Some(refused) = self.refuse_to_append(tenant, publication, cached, reply) {
            return refused;
        }
        let reduced = self.reduce_fan_out(tenant, publication, cached);
        let refused = reduced.is_some().then_some(ReasonCode::QUOTA_EXCEEDED);
        let cached = reduced.as_ref().unwrap_or(cached);
        let publisher = reply.map(|reply| reply.connection);
        let owed = self.owed(tenant, publication, reply);
        if self.must_wait(tenant, publication.topic, cached.local.len()) {
            self.tenants.lose(&mut self.counters, tenant, DropReason::NoPermission, u64::from(cached.denied));
            if cached.denied > 0 && self.watch.is_on() {
                self.see_denied(publication);
            }
            let origin = Origin { core: self.id, publisher, reply: None, data_bytes: 0 };
            self.postpone(tenant, publication, Recipients::Volatile(Rc::clone(cached)), origin);
        } else {
            self.fan_out(now, publication, &cached.local, cached.denied, out);
        }
        let mut waiting = 0;
        if let Some(elsewhere) = &cached.elsewhere {
            for core in &elsewhere.destinations.cores {
                self.counters.messages_crossed += 1;
                self.post_delivery(*core, publication, publisher);
            }
            waiting += self.dispatch_durable(now, tenant, publication, cached, (publisher, owed), out);
            for (group, state) in elsewhere.destinations.groups.iter().zip(&elsewhere.groups) {
                waiting += self.dispatch_shared(now, publication, group, state, (publisher, owed), out);
            }
        }
        self.slow_publisher(now, publisher, None);
        Routed { matched, waiting, refused }
    }

    /// Whom the tenant's limits of a fan-out let it go to, if that is not all; the others are counted.
    fn reduce_fan_out(
        &mut self,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        cached: &Rc<CachedTopic>,
    ) -> Option<Rc<CachedTopic>> {
        if !self.tenants.wanted().fan_out {
            return None;
        }
        let (reduced, limit, left_out) = self.limit_fan_out(tenant, publication, cached)?;
        self.bite_message(tenant, publication.topic, limit);
        self.tenants.lose(&mut self.counters, tenant, DropReason::FanOut, left_out as u64);
        if self.watch.is_on() {
            self.see_route(publication, Event::FanOutLimited(limit));
        }
        Some(Rc::new(reduced))
    }

    /// To durable sessions, by core. The number of answers to wait for.
    fn dispatch_durable(
        &mut self,
        now: Now,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        cached: &Rc<CachedTopic>,
        (publisher, owed): (Option<ConnectionId>, Option<Reply>),
        out: &mut Outputs,
    ) -> u16 {
        let mut waiting = 0;
        let mut at = 0;
        for batch in cached.sessions().chunk_by(|one, other| one.core == other.core) {
            let range = at..at + batch.len();
            at = range.end;
            if batch[0].core == self.id && self.must_wait(tenant, publication.topic, batch.len()) {
                let origin = Origin { core: self.id, publisher, reply: owed, data_bytes: 0 };
                self.postpone(tenant, publication, Recipients::Durable(Rc::clone(cached), range), origin);
                waiting += u16::from(owed.is_some());
            } else {
                waiting += self.append(now, publication, batch, (publisher, owed), out);
            }
        }
        waiting
    }

    /// To volatile sessions of this core. `denied` more subscribe, and may not receive it.
    pub(super) fn fan_out(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        targets: &[FanOut],
        denied: u32,
        out: &mut Outputs,
    ) {
        self.lose_of(publication.tenant, DropReason::NoPermission, u64::from(denied));
        if denied > 0 && self.watch.is_on() {
            self.see_denied(publication);
        }
        let targets =
            if self.tenants.wanted().fan_out { self.reached(now, publication, targets) } else { targets };
        self.frames.clear();
        let budget = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        self.deliveries_left = self.deliveries_left.saturating_sub(budget);
        for target in targets {
            let Some(connection) = self.connections.get_mut(target.connection) else { continue };
            if !connection.is_online()
                || (target.options.no_local()
                    && connection.publisher.client_hash == publication.publisher.client_hash)
            {
                if self.watch.is_on() {
                    self.see(
                        target.connection,
                        About::new(publication, publication.qos, None),
                        Event::NoLocal,
                    );
                }
                continue; // [MQTT-3.8.3-3]
            }
            let (qos, retain) = target.options.apply(publication);
            let subscription_id = target.options.subscription_id();
            if qos != QoS::AtMostOnce {
                let slot = connection.session;
                let entry = Entry::new(Arc::clone(publication.share()), qos, retain, subscription_id);
                let queued = self.enqueue(now, slot, entry);
                if self.watch.is_on() {
                    self.see_queued(target.connection, publication, qos, queued);
                }
                if queued && publication.retain {
                    self.overtake_retained(slot, publication, true);
                }
                self.pump_shared(now, target.connection, Some(publication), out);
                continue;
            }
            if connection.send.len() > connection.settings().send_bytes_max as usize {
                self.tenants.lose(&mut self.counters, connection.tenant, DropReason::SlowReader, 1);
                if connection.is_progressing(now.monotonic) {
                    self.pressure = Pressure::FULL;
                }
                if self.watch.is_on() {
                    let about = About::new(publication, qos, None);
                    self.see(target.connection, about, Event::Dropped(DropReason::SlowReader));
                }
                continue;
            }
            let fields = Fields { packet_id: None, dup: false, qos, retain, subscription_id };
            let sent = self.frames.send(connection, &mut self.pool, publication, fields, now.wall);
            match sent {
                Ok(()) => {
                    self.counters.publishes_sent[0] += 1;
                    self.tenants.at(connection.tenant).traffic.sent.count(qos, publication.payload);
                    mark_dirty(connection, out);
                    if publication.retain {
                        let slot = connection.session;
                        self.overtake_retained(slot, publication, false);
                    }
                }
                Err(_) => self.tenants.lose(&mut self.counters, connection.tenant, DropReason::TooLarge, 1),
            }
            if self.watch.is_on() {
                self.see_given(target.connection, publication, qos, sent.is_ok());
            }
        }
    }

    /// To durable sessions that are at home on one core. The number of answers to wait for.
    fn append(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        targets: &[Target],
        (publisher, owed): (Option<ConnectionId>, Option<Reply>),
        out: &mut Outputs,
    ) -> u16 {
        let core = targets[0].core;
        if core == self.id {
            let answer = self.begin_answer(owed.map(|reply| AnswerTo { core, reply }));
            self.append_all(now, publication, targets, answer, out);
            return u16::from(self.end_answer(answer));
        }
        self.counters.messages_crossed += 1;
        self.charge_routes(targets.len());
        let message = Arc::clone(publication.share());
        let stamp = self.retain_stamp(publication);
        self.post(core, Body::Append { message, targets: targets.to_vec(), reply: owed, publisher, stamp });
        u16::from(owed.is_some())
    }

    /// The answers that a publish waits for, if it does: its tenant may trust memory (`ack`).
    pub(super) fn owed(
        &self,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        reply: Option<Reply>,
    ) -> Option<Reply> {
        let trusts = || self.tenants.get(tenant).settings.ack == Ack::Memory;
        reply.filter(|_| publication.qos != QoS::AtMostOnce && !trusts())
    }

    /// Those volatile sessions that the tenant's quotas let a message reach.
    fn reached<'a>(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        targets: &'a [FanOut],
    ) -> &'a [FanOut] {
        let tenant = self.tenants.index(publication.tenant, &self.config);
        let reached = self.pay_fan_out(now, tenant, publication, targets.len(), false);
        &targets[..reached]
    }

    /// A receiver of the message at hand falls behind: its publisher is read more slowly, wherever it is.
    pub(super) fn slow_publisher(&mut self, now: Now, publisher: Option<ConnectionId>, at: Option<CoreId>) {
        let pressure = std::mem::take(&mut self.pressure);
        if pressure == Pressure::NONE {
            return;
        }
        match (publisher, at) {
            (Some(connection), None) => self.slow(now, connection, pressure),
            (Some(connection), Some(core)) => self.post(core, Body::Slow { connection }),
            (None, _) => {}
        }
    }
}

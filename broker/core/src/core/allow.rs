//! Hot path. Who may receive what: deliveries are judged one by one, at once where they are queued or sent, and
//! for this core's volatile sessions once for each cached topic.

use std::sync::Arc;

use mqtt::ReasonCode;

use super::Core;
use super::timers::{Timer, due};
use crate::access::{Grant, Identity};
use crate::counters::DropReason;
use crate::dist::FanOut;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::sessions::SessionSlot;
use crate::tenant::TenantIndex;
use crate::time::{Now, Wall};

impl Core {
    /// Whether what is published on `topic` may be given to a session that is at home here. What may not is
    /// counted.
    pub(super) fn admit_delivery(&mut self, slot: SessionSlot, topic: &str) -> bool {
        if !self.access.is_restricted() {
            return true;
        }
        let admitted = self.sessions.at(slot).may_receive(&self.access, topic);
        if !admitted {
            let tenant = Arc::clone(self.sessions.get(slot).tenant());
            self.lose_of(&tenant, DropReason::NoPermission, 1);
        }
        admitted
    }

    /// This core's volatile sessions that get what is published on a topic, and how many do not because they
    /// may not.
    pub(super) fn local_readers(&mut self, tenant: TenantIndex, topic: &str) -> (Vec<FanOut>, u32) {
        let mut local = Vec::new();
        let visited = self.tenants.get(tenant).local.matching_filters(topic, |filter| {
            local.extend_from_slice(filter.subscribers());
        });
        self.charge_routes(visited + local.len());
        let denied = self.leave_out_denied(&mut local, topic);
        (local, denied)
    }

    /// Leaves out who may not receive what is published on a topic, and says how many.
    fn leave_out_denied(&mut self, local: &mut Vec<FanOut>, topic: &str) -> u32 {
        if !self.access.is_restricted() {
            return 0;
        }
        let all = local.len();
        local.retain(|target| {
            let Some(connection) = self.connections.get_mut(target.connection) else { return true };
            let client = || self.sessions.get(connection.session).client().into();
            connection.grant.as_mut().is_some_and(|grant| {
                self.access.refresh(grant, client);
                grant.may_receive(topic)
            })
        });
        u32::try_from(all - local.len()).unwrap_or(u32::MAX)
    }

    /// Gives a message to some of those who were to have it when it was published, as far as they may have it now.
    /// Who may have it was settled under `generation` of the access list.
    pub(super) fn fan_out_late(
        &mut self,
        now: Now,
        publication: &Publication<'_>,
        targets: &[FanOut],
        generation: u32,
        out: &mut Outputs,
    ) {
        if generation == self.access.generation() {
            return self.fan_out(now, publication, targets, 0, out);
        }
        let mut local = targets.to_vec();
        let denied = self.leave_out_denied(&mut local, publication.topic);
        self.fan_out(now, publication, &local, denied, out);
    }

    /// Brings a connection's grant up to date. What waits in its queue is judged again if it was not.
    pub(super) fn refresh_grant(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(grant) = &mut connection.grant else { return };
        let slot = connection.session;
        if self.access.refresh(grant, || self.sessions.get(slot).client().into()) {
            connection.recheck = true;
        }
    }

    /// The client has shown anew who it is.
    pub(super) fn change_grant(&mut self, id: ConnectionId, identity: &Identity) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let session = self.sessions.at(connection.session);
        let grant = self.access.grant(identity, session.client());
        if connection.grant.as_ref().is_some_and(|former| former.is_same(&grant)) {
            return;
        }
        session.grant = Some(Arc::clone(&grant));
        connection.grant = Some(grant);
        connection.recheck = true;
        // Cached topics know who may receive them.
        self.access.invalidate();
    }

    /// The client's connection ends when what it has shown runs out; None: it does not.
    pub(super) fn set_expiry(&mut self, now: Now, id: ConnectionId, expires: Option<Wall>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some((_, timer)) = connection.extras.as_mut().and_then(|extras| extras.expires.take()) {
            self.wheel.cancel(timer);
        }
        if let Some(at) = expires {
            let timer = self.wheel.arm(due(now, at).0, Timer::Expiry(id));
            connection.extras().expires = Some((at, timer));
        }
    }

    pub(super) fn on_expiry_timer(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        let Some(connection) = self.connections.get(id) else { return };
        let Some((at, _)) = connection.extras.as_ref().and_then(|extras| extras.expires) else { return };
        if !connection.is_online() {
            return;
        }
        if at <= now.wall {
            self.counters.credentials_expired += 1;
            self.disconnect(now, id, ReasonCode::MAXIMUM_CONNECT_TIME, None, out);
        } else {
            self.set_expiry(now, id, Some(at)); // the wall clock was set back
        }
    }

    /// Whether a will may still be published. What may not is counted.
    pub(super) fn admit_will(&mut self, will: &Message, client: &str, grant: Option<Arc<Grant>>) -> bool {
        let admitted = grant.is_none_or(|mut grant| {
            self.access.refresh(&mut grant, || client.into());
            grant.may_publish(&will.topic)
        });
        if !admitted {
            self.lose_of(&will.tenant, DropReason::NoPermission, 1);
        }
        admitted
    }
}

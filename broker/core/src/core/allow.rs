//! Hot path. Who may receive what: deliveries are judged one by one, at once where they are queued or sent, and
//! for this core's volatile sessions once for each cached topic.

use std::sync::Arc;

use super::Core;
use crate::access::{Grant, Identity};
use crate::counters::DropReason;
use crate::dist::FanOut;
use crate::identity::ConnectionId;
use crate::inbox::InboxSlot;
use crate::message::Message;
use crate::tenant::TenantIndex;

impl Core {
    /// Whether what is published on `topic` may be given to a session that is at home here. What may not is
    /// counted.
    pub(super) fn admit_delivery(&mut self, slot: InboxSlot, topic: &str) -> bool {
        if !self.access.is_restricted() {
            return true;
        }
        let admitted = self.inboxes.at(slot).may_receive(&self.access, topic);
        if !admitted {
            self.counters.drop_messages(DropReason::NoPermission, 1);
        }
        admitted
    }

    /// This core's volatile sessions that get what is published on a topic, and how many do not because they
    /// may not.
    pub(super) fn local_readers(&mut self, tenant: TenantIndex, topic: &str) -> (Vec<FanOut>, u32) {
        let mut local = Vec::new();
        self.tenants.get(tenant).local.matching_filters(topic, |filter| {
            local.extend_from_slice(filter.subscribers());
        });
        if !self.access.is_restricted() {
            return (local, 0);
        }
        let all = local.len();
        local.retain(|target| {
            let Some(connection) = self.connections.get_mut(target.connection) else { return true };
            let client = || self.inboxes.get(connection.inbox).client().into();
            connection.grant.as_mut().is_some_and(|grant| {
                self.access.refresh(grant, client);
                grant.may_receive(topic)
            })
        });
        let denied = u32::try_from(all - local.len()).unwrap_or(u32::MAX);
        (local, denied)
    }

    /// Brings a connection's grant up to date. What waits in its queue is judged again if it was not.
    pub(super) fn refresh_grant(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(grant) = &mut connection.grant else { return };
        let inbox = connection.inbox;
        if self.access.refresh(grant, || self.inboxes.get(inbox).client().into()) {
            connection.recheck = true;
        }
    }

    /// The client has shown anew who it is.
    pub(super) fn change_grant(&mut self, id: ConnectionId, identity: &Identity) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let session = self.inboxes.at(connection.inbox);
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

    /// Whether a will may still be published. What may not is counted.
    pub(super) fn admit_will(&mut self, will: &Message, client: &str, grant: Option<Arc<Grant>>) -> bool {
        let admitted = grant.is_none_or(|mut grant| {
            self.access.refresh(&mut grant, || client.into());
            grant.may_publish(&will.topic)
        });
        if !admitted {
            self.counters.drop_messages(DropReason::NoPermission, 1);
        }
        admitted
    }
}

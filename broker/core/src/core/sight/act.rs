//! What is done for an operator: a small part of it in each turn.

use std::sync::Arc;

use mqtt::{PacketId, SubscribeFilter};

use super::super::Core;
use super::super::greet::topic_limit;
use super::super::subscriptions::StoredChanges;
use crate::connection::Connection;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::message::{Message, Publication, Publisher};
use crate::ranges::retain::Position;
use crate::sessions::SessionSlot;
use crate::sight::{Disconnect, Farewell, Progress, Publish, Refusal, Subscribe, Unsubscribe};
use crate::tenant::SubscribeWait;
use crate::time::Now;

/// Clients disconnected and sessions ended in one turn for one question: each closes a socket, or takes routes away.
const ENDED_MAX: usize = 64;

/// Stands in requests that no packet asked for.
const NO_PACKET: PacketId = PacketId::new(1).expect("not 0");

impl Core {
    pub(super) fn disconnect_client(
        &mut self,
        now: Now,
        disconnect: &Disconnect,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let (_, connection) = self.client_online(&disconnect.tenant, &disconnect.client)?;
        self.say_farewell(now, connection, &disconnect.farewell, out);
        Ok(())
    }

    pub(super) fn disconnect_clients(
        &mut self,
        now: Now,
        (tenant, user): (&str, Option<&str>),
        farewell: &Farewell,
        from: u32,
        out: &mut Outputs,
    ) -> Progress {
        let (sessions, mut next) = self.sessions_from(from);
        let mut connections = Vec::new();
        for session in &sessions {
            let Some(connection) = session.connection().filter(|_| **session.tenant == *tenant) else {
                continue;
            };
            if user.is_some_and(|user| user != self.user_of(session)) {
                continue;
            }
            if connections.len() == ENDED_MAX {
                next = Some(session.place);
                break;
            }
            connections.push(connection);
        }
        for connection in &connections {
            self.say_farewell(now, *connection, farewell, out);
        }
        Progress { count: connections.len() as u32, next }
    }

    fn say_farewell(&mut self, now: Now, id: ConnectionId, farewell: &Farewell, out: &mut Outputs) {
        self.disconnect(now, id, farewell.reason, farewell.server_reference.as_deref(), out);
    }

    /// A client's session and its connection.
    fn client_online(&self, tenant: &str, client: &str) -> Result<(SessionSlot, ConnectionId), Refusal> {
        let connection = self.session_of(tenant, client).ok_or(Refusal::NoSession)?.connection();
        let slot = self.sessions.find_client(tenant, client).ok_or(Refusal::Away)?;
        let online = |id: &ConnectionId| self.connections.get(*id).is_some_and(Connection::is_online);
        Ok((slot, connection.filter(online).ok_or(Refusal::Away)?))
    }

    pub(in crate::core) fn publish_for(
        &mut self,
        now: Now,
        publish: Publish,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let Publish { tenant, topic, qos, retain, payload, properties, expiry_seconds } = publish;
        // Strangers make no tenants, and operators do not by accident.
        if !self.config.has_tenant(&tenant) {
            return Err(Refusal::NoTenant);
        }
        let settings = self.config.settings(&tenant);
        if retain && !settings.retain {
            return Err(Refusal::Limit(Limit::Retain));
        }
        if let Some(limit) = topic_limit(&topic, settings) {
            return Err(Refusal::Limit(limit));
        }
        if topic.len() + properties.len() + payload.len() > settings.packet_bytes_max as usize {
            return Err(Refusal::Limit(Limit::PacketBytes));
        }
        let message = Message {
            tenant: Arc::from(tenant),
            publisher: Publisher::default(),
            topic: topic.into(),
            properties: properties.into(),
            payload: payload.into(),
            expires: expiry_seconds.map(|seconds| now.wall.after_seconds(seconds)),
            qos,
            retain,
            origin: None,
        };
        self.publish_own(now, message, out);
        Ok(())
    }

    pub(super) fn subscribe_for(
        &mut self,
        number: u64,
        subscribe: &Subscribe,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let Subscribe { tenant, client, filter, options, subscription_id } = subscribe;
        let (_, id) = self.client_online(tenant, client)?;
        let filter = SubscribeFilter { filter, options: *options };
        let parsed = self
            .judge_filter(id, &filter, *subscription_id)
            .map_err(|denied| denied.limit.map_or(Refusal::Reason(denied.reason), Refusal::Limit))?;
        self.charge_filters(1);
        let mut request = self.begin_request(id, NO_PACKET, false);
        request.asked = Some(number);
        let wait = SubscribeWait { connection: id, request: request.number };
        let mut changes = StoredChanges::new();
        let reason = self.subscribe(&mut request, wait, &filter, parsed, *subscription_id, &mut changes);
        request.reasons.push(reason);
        request.waiting += self.propose_subscriptions(id, request.number, &changes, out);
        self.enter_request(id, request, out);
        Ok(())
    }

    pub(super) fn unsubscribe_for(
        &mut self,
        number: u64,
        unsubscribe: &Unsubscribe,
        out: &mut Outputs,
    ) -> Result<(), Refusal> {
        let Unsubscribe { tenant, client, filter } = unsubscribe;
        let (_, id) = self.client_online(tenant, client)?;
        let invalid = mqtt::ReasonCode::TOPIC_FILTER_INVALID;
        let parsed = mqtt::validate_filter(filter).map_err(|_| Refusal::Reason(invalid))?;
        self.charge_filters(1);
        let mut request = self.begin_request(id, NO_PACKET, true);
        request.asked = Some(number);
        let wait = SubscribeWait { connection: id, request: request.number };
        let mut changes = StoredChanges::new();
        let reason = self.unsubscribe(&mut request, wait, filter, parsed, &mut changes, out);
        request.reasons.push(reason);
        request.waiting += self.propose_subscriptions(id, request.number, &changes, out);
        request.waiting += u32::from(self.postponed.make_wait(wait));
        self.enter_request(id, request, out);
        Ok(())
    }

    pub(super) fn expire_sessions(
        &mut self,
        now: Now,
        tenant: &str,
        away_seconds: u32,
        from: u32,
        out: &mut Outputs,
    ) -> Progress {
        let (sessions, mut next) = self.sessions_from(from);
        let mut ended = Vec::new();
        for session in &sessions {
            let since = self.away_since(session).filter(|_| **session.tenant == *tenant);
            if since.is_none_or(|since| since.after_seconds(away_seconds) > now.wall) {
                continue;
            }
            if ended.len() == ENDED_MAX {
                next = Some(session.place);
                break;
            }
            ended.extend(
                session
                    .stored
                    .map(|(slot, _)| (slot, session.tenant.clone(), Box::<str>::from(session.client))),
            );
        }
        let count = ended.len() as u32;
        for (slot, tenant, client) in ended {
            self.end_away(slot, &tenant, &client, out);
        }
        Progress { count, next }
    }

    pub(super) fn clear_retained(
        &mut self,
        now: Now,
        tenant: &str,
        filter: &str,
        after: Option<&str>,
    ) -> Progress<Box<str>> {
        let after = after.map(Position::after);
        let page = self.storage.retained_page(&tenant.into(), filter, after.as_ref(), now.wall);
        let count = page.messages.len() as u32;
        for message in page.messages {
            let publisher = Publisher::default();
            let mut empty = Publication::new(&message.tenant, publisher, &message.topic, message.qos);
            empty.retain = true;
            // It is this core's, and nobody waits for it.
            let _ = self.retain(now, &empty, (None, None));
        }
        Progress { count, next: page.rest.map(|rest| rest.topic().into()) }
    }
}

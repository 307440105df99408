//! Hot path. PUBLISH from a client: judged, routed, acknowledged in order.

use std::sync::Arc;

use mqtt::{PacketId, Publish, QoS, ReasonCode, Version};

use super::Core;
use super::close::Denied;
use super::greet::topic_limit;
use super::taken::Taken;
use crate::connection::{Completion, Connection};
use crate::counters::DropReason;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::message::Publication;
use crate::notice::Event;
use crate::peer::Reply;
use crate::tenant::TenantIndex;
use crate::time::Now;

/// Where a publish stands after it was routed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Routed {
    /// Somebody wants it, as far as is known.
    pub matched: bool,
    /// Answers that are still to come.
    pub waiting: u16,
    /// A part of it was refused at once.
    pub refused: Option<ReasonCode>,
}

impl Routed {
    /// Done, as far as its publisher is concerned.
    const DONE: Routed = Routed { matched: true, waiting: 0, refused: None };
}

/// Why a publish goes no further.
enum Rejection {
    /// The connection ends for it.
    Disconnect(Denied),
    /// Its acknowledgement says so; QoS 0 has none, and ends the connection where `fatal`.
    Negative { denied: Denied, fatal: bool },
}

impl Rejection {
    fn reason(&self) -> ReasonCode {
        let (Rejection::Disconnect(denied) | Rejection::Negative { denied, .. }) = self;
        denied.reason
    }
}

impl Core {
    pub(super) fn on_publish(
        &mut self,
        now: Now,
        id: ConnectionId,
        publish: &Publish<'_>,
        out: &mut Outputs,
    ) {
        self.counters.publishes_received[usize::from(publish.qos.bits())] += 1;
        if publish.properties.topic_alias.is_none() {
            self.on_named_publish(now, id, publish, out);
            return;
        }
        match self.resolve_alias(id, publish) {
            Ok(Some(topic)) => {
                self.on_named_publish(now, id, &Publish { topic: &topic, ..*publish }, out);
            }
            Ok(None) => self.on_named_publish(now, id, publish, out),
            Err(denied) => self.refuse_denied(now, id, denied, out),
        }
    }

    /// The topic of an alias; None if the packet names it itself, and the alias is set.
    fn resolve_alias(&mut self, id: ConnectionId, publish: &Publish<'_>) -> Result<Option<Box<str>>, Denied> {
        let connection = self.connections.get_mut(id).expect("is being processed");
        let max = connection.settings().topic_alias_max;
        let alias = publish.properties.topic_alias.unwrap_or_default();
        // [MQTT-3.3.2-8, MQTT-3.3.2-9]
        if alias == 0 {
            return Err(ReasonCode::TOPIC_ALIAS_INVALID.into());
        }
        if alias > max {
            return Err(Denied::by(Limit::TopicAlias, ReasonCode::TOPIC_ALIAS_INVALID));
        }
        let aliases = &mut connection.extras().inbound_aliases;
        if publish.topic.is_empty() {
            // [MQTT-3.3.2-7 and 3.3.2.3.4]: an alias that was never set is a protocol error.
            let topic = aliases.get(alias).ok_or(ReasonCode::PROTOCOL_ERROR)?;
            return Ok(Some(topic.into()));
        }
        aliases.set(alias, publish.topic);
        Ok(None)
    }

    fn on_named_publish(&mut self, now: Now, id: ConnectionId, publish: &Publish<'_>, out: &mut Outputs) {
        let restricted = self.access.is_restricted();
        if restricted {
            self.refresh_grant(id);
        }
        if self.watch.is_on() {
            self.see_published(id, publish, Event::Received { retain: publish.retain });
        }
        let connection = self.connections.get_mut(id).expect("is being processed");
        let tenant = connection.tenant;
        self.tenants.at(tenant).traffic.received.count(publish.qos, publish.payload);
        let rejected = judge(connection, publish, restricted).err();
        if let Some(rejection) = &rejected
            && self.watch.is_on()
        {
            self.see_published(id, publish, Event::PublishDenied(rejection.reason()));
        }
        if let Some(Rejection::Disconnect(denied)) = rejected {
            self.refuse_denied(now, id, denied, out);
            return;
        }
        let mut taken = Taken::New(None);
        if let Some(packet_id) = publish.packet_id {
            match self.take_packet_id(id, publish, packet_id, rejected.is_some(), out) {
                Some(Taken::UnderWay(former)) => {
                    let waiting = self.adopt(former, self.next_reply(id));
                    let routed = Routed { waiting, ..Routed::DONE };
                    self.complete(now, id, Completion::PubRec(packet_id), routed, None, out);
                    return;
                }
                Some(new @ (Taken::New(_) | Taken::Again(_))) => taken = new,
                Some(Taken::Known) => {
                    // [MQTT-4.3.3-10]: acknowledged again, not published again.
                    self.complete(now, id, Completion::PubRec(packet_id), Routed::DONE, None, out);
                    return;
                }
                None => {
                    let reason = ReasonCode::RECEIVE_MAXIMUM_EXCEEDED; // [MQTT-3.3.4-7]
                    self.refuse_denied(now, id, Denied::by(Limit::ReceiveMaximum, reason), out);
                    return;
                }
            }
        }
        if let Some(Rejection::Negative { denied, fatal }) = rejected {
            self.reject(now, id, publish, denied, fatal, out);
            return;
        }
        let routed = self.route_publish(now, id, tenant, publish, taken, out);
        self.complete(now, id, completion(publish), routed, None, out);
    }

    /// By which the parts of a connection's next publish are answered.
    fn next_reply(&self, id: ConnectionId) -> Reply {
        let connection = self.connections.get(id).expect("is being processed");
        Reply { connection: id, slot: connection.window.next_number() }
    }

    fn route_publish(
        &mut self,
        now: Now,
        id: ConnectionId,
        tenant: TenantIndex,
        publish: &Publish<'_>,
        taken: Taken,
        out: &mut Outputs,
    ) -> Routed {
        let reply = self.next_reply(id);
        let connection = self.connections.get(id).expect("is being processed");
        let publisher = connection.publisher;
        let mut gathered = Vec::new();
        let properties = publish.properties.forwarded().unwrap_or_else(|| {
            publish.properties.write_forwarded(&mut gathered);
            &gathered
        });
        let name = Arc::clone(&self.tenants.get(tenant).name);
        let mut publication = Publication::new(&name, publisher, publish.topic, publish.qos);
        publication.properties = properties;
        publication.payload = publish.payload;
        publication.expires =
            publish.properties.message_expiry.map(|seconds| now.wall.after_seconds(seconds));
        publication.retain = publish.retain;
        let mut waiting = 0;
        match taken {
            Taken::New(Some(here)) => {
                publication.origin = self.origin(id, here);
                let packet_id = publish.packet_id.expect("it was taken by it");
                let owed = self.owed(tenant, &publication, Some(reply));
                waiting += self.propose_take(id, packet_id, owed, out);
            }
            Taken::Again(here) => publication.origin = self.origin(id, here),
            Taken::New(None) | Taken::UnderWay(_) | Taken::Known => {}
        }
        let routed = self.route(now, tenant, &publication, Some(reply), out);
        Routed { waiting: routed.waiting + waiting, ..routed }
    }

    /// Takes a QoS 1 or 2 message's identifier into account.
    /// None: there are too many of them.
    fn take_packet_id(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        packet_id: PacketId,
        rejected: bool,
        out: &mut Outputs,
    ) -> Option<Taken> {
        let mut taken = Taken::New(None);
        let takes = publish.qos == QoS::ExactlyOnce && !rejected;
        if takes {
            // A rejected message is finished with its PUBREC and takes no identifier [MQTT-4.3.3-9].
            taken = self.take(id, packet_id, publish.dup);
            if taken == Taken::Known {
                return Some(taken);
            }
        }
        let connection = self.connections.get_mut(id).expect("is being processed");
        let max = connection.settings().receive_maximum;
        // A 3.x client was not told of a maximum; the completion window bounds it by slowing it.
        if connection.version == Version::V5 && connection.inbound_inflight >= max {
            if takes {
                self.release_taken(id, packet_id, out); // it may come again on another connection
            }
            return None;
        }
        connection.inbound_inflight = connection.inbound_inflight.saturating_add(1);
        Some(taken)
    }

    /// A publish that is not to be routed, under the rules of its version and QoS.
    fn reject(
        &mut self,
        now: Now,
        id: ConnectionId,
        publish: &Publish<'_>,
        denied: Denied,
        fatal: bool,
        out: &mut Outputs,
    ) {
        let connection = self.connections.get(id).expect("is being processed");
        let version = Some(connection.version);
        let reason = denied.reason;
        if reason == ReasonCode::NOT_AUTHORIZED {
            self.tenants.lose(&mut self.counters, connection.tenant, DropReason::NoPermission, 1);
        }
        if fatal && (publish.qos == QoS::AtMostOnce || version != Some(Version::V5)) {
            self.refuse_denied(now, id, denied, out);
            return;
        }
        let tenant = connection.tenant;
        denied.limit.into_iter().for_each(|limit| self.bite(tenant, limit));
        // 3.x has only the positive acknowledgement [MQTT-3.3.5-2 of 3.1.1].
        self.complete(now, id, completion(publish), Routed::DONE, Some(reason), out);
        if publish.qos == QoS::ExactlyOnce && version != Some(Version::V5) {
            // The client will go on with PUBREL.
            if let Some(packet_id) = publish.packet_id {
                self.take(id, packet_id, publish.dup);
            }
        }
    }

    /// Acknowledges a publish at once if nothing stands before it, or enters it in the window.
    fn complete(
        &mut self,
        now: Now,
        id: ConnectionId,
        completion: Completion,
        routed: Routed,
        rejected: Option<ReasonCode>,
        out: &mut Outputs,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let reason = rejected.or(routed.refused).unwrap_or(match routed {
            Routed { matched: false, waiting: 0, .. } => ReasonCode::NO_MATCHING_SUBSCRIBERS,
            _ => ReasonCode::SUCCESS,
        });
        if routed.waiting == 0 && connection.window.len() == 0 {
            self.acknowledge_publish(id, completion, reason, out);
        } else {
            connection.window.open(completion, routed.waiting, reason);
            self.watch_answers(now, id);
        }
    }
}

/// What is owed for a publish.
fn completion(publish: &Publish<'_>) -> Completion {
    match (publish.qos, publish.packet_id) {
        (QoS::AtLeastOnce, Some(packet_id)) => Completion::PubAck(packet_id),
        (QoS::ExactlyOnce, Some(packet_id)) => Completion::PubRec(packet_id),
        _ => Completion::Nothing,
    }
}

/// Whether only the broker itself publishes on a topic: below `$SYS`, as in Mosquitto, with its exception for the
/// states of bridges.
pub(super) fn is_ours(topic: &str) -> bool {
    topic.starts_with("$SYS/") && !(topic.starts_with("$SYS/broker/connection/") && topic.ends_with("/state"))
}

/// What the settings and the client's permissions say about a publish.
fn judge(connection: &Connection, publish: &Publish<'_>, restricted: bool) -> Result<(), Rejection> {
    let settings = connection.settings();
    if !publish.properties.subscription_ids().is_empty() {
        return Err(Rejection::Disconnect(ReasonCode::PROTOCOL_ERROR.into())); // [MQTT-3.3.4-6]
    }
    if publish.qos > settings.qos_max {
        let denied = Denied::by(Limit::Qos, ReasonCode::QOS_NOT_SUPPORTED);
        return Err(Rejection::Disconnect(denied)); // [MQTT-3.2.2-11]
    }
    if publish.retain && !settings.retain {
        let denied = Denied::by(Limit::Retain, ReasonCode::RETAIN_NOT_SUPPORTED);
        return Err(Rejection::Disconnect(denied)); // [MQTT-3.2.2-14]
    }
    if let Some(limit) = topic_limit(publish.topic, settings) {
        let denied = Denied::by(limit, ReasonCode::TOPIC_NAME_INVALID);
        return Err(Rejection::Negative { denied, fatal: true });
    }
    if settings.payload_format_check
        && publish.properties.payload_format_utf8
        && std::str::from_utf8(publish.payload).is_err()
    {
        return Err(Rejection::Negative { denied: ReasonCode::PAYLOAD_FORMAT_INVALID.into(), fatal: true });
    }
    if is_ours(publish.topic) {
        return Err(Rejection::Negative { denied: ReasonCode::NOT_AUTHORIZED.into(), fatal: false });
    }
    if restricted && !connection.grant.as_ref().is_some_and(|grant| grant.may_publish(publish.topic)) {
        return Err(Rejection::Negative { denied: ReasonCode::NOT_AUTHORIZED.into(), fatal: false });
    }
    Ok(())
}

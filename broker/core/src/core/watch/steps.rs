//! The steps of messages, as those who want to know of them hear of them. Each is called only while somebody does.

use std::sync::Arc;

use mqtt::{PacketId, QoS, ReasonCode};

use super::super::Core;
use super::{Steps, UNACKNOWLEDGED_MAX, Way};
use crate::counters::DropReason;
use crate::delivery::DeliveryOptions;
use crate::dist::{CachedTopic, Destinations};
use crate::identity::{ConnectionId, Incarnation};
use crate::message::{Message, Publication};
use crate::notice::{About, Event, Matched, Notice};
use crate::ranges::inbox::{Limits, command};
use crate::storage::LogSlot;

impl Core {
    fn take_step(&mut self, notice: Notice) {
        self.watch.take(&self.config, notice);
        self.tell_followed();
    }

    /// A step of a message at a connection.
    #[cold]
    pub(in crate::core) fn see(&mut self, id: ConnectionId, about: About, event: Event) {
        let Some(connection) = self.connections.get(id) else { return };
        let online = connection.is_online();
        let notice = Notice {
            connection: Some(id),
            peer: connection.peer(),
            tenant: online.then(|| Arc::clone(&self.tenants.get(connection.tenant).name)),
            client: online.then(|| self.sessions.get(connection.session).client().into()),
            event,
            message: Some(Box::new(about)),
        };
        self.take_step(notice);
    }

    /// A request of a client that is no message.
    #[cold]
    pub(in crate::core) fn see_request(&mut self, id: ConnectionId, event: Event) {
        let Some(connection) = self.connections.get(id) else { return };
        let notice = Notice {
            connection: Some(id),
            peer: connection.peer(),
            tenant: Some(Arc::clone(&self.tenants.get(connection.tenant).name)),
            client: Some(self.sessions.get(connection.session).client().into()),
            event,
            message: None,
        };
        self.take_step(notice);
    }

    /// A step of a message that is of a session without a connection, or of none.
    #[cold]
    pub(in crate::core) fn see_of(
        &mut self,
        tenant: &Arc<str>,
        client: Option<&str>,
        about: About,
        event: Event,
    ) {
        let (tenant, client, message) =
            (Some(Arc::clone(tenant)), client.map(Into::into), Some(Box::new(about)));
        let notice = Notice { connection: None, peer: None, tenant, client, event, message };
        self.take_step(notice);
    }

    /// A step of a message before it is with anybody.
    #[cold]
    pub(in crate::core) fn see_route(&mut self, publication: &Publication<'_>, event: Event) {
        let about = About::new(publication, publication.qos, None);
        self.see_of(publication.tenant, None, about, event);
    }

    /// The same at a connection that published it.
    #[cold]
    pub(in crate::core) fn see_published(
        &mut self,
        id: ConnectionId,
        publish: &mqtt::Publish<'_>,
        event: Event,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let about = About {
            topic: publish.topic.into(),
            qos: publish.qos,
            bytes: publish.payload.len() as u64,
            packet_id: publish.packet_id.map(PacketId::get),
            publisher: Some(connection.publisher.client_hash),
        };
        if matches!(event, Event::Received { .. }) {
            self.remember(id, Way::FromClient, &about);
        }
        self.see(id, about, event);
    }

    /// It is known who wants a message.
    #[cold]
    pub(in crate::core) fn see_matched(&mut self, publication: &Publication<'_>, cached: &CachedTopic) {
        let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
        let none = Destinations::default();
        let elsewhere = cached.elsewhere.as_ref().map_or(&none, |elsewhere| &elsewhere.destinations);
        let Destinations { cores, sessions, groups } = elsewhere;
        let matched = Matched {
            local: count(cached.local.len()),
            cores: count(cores.len()),
            persistent: count(sessions.len()),
            groups: count(groups.len()),
            denied: cached.denied,
        };
        self.see_route(publication, Event::Matched(matched));
    }

    /// A message came to a session's queue.
    #[cold]
    pub(in crate::core) fn see_queued(
        &mut self,
        id: ConnectionId,
        publication: &Publication<'_>,
        qos: QoS,
        queued: bool,
    ) {
        let event = if queued { Event::Queued } else { Event::Dropped(DropReason::QueueFull) };
        self.see(id, About::new(publication, qos, None), event);
    }

    /// A message was given to a connection, or is too large for its client.
    #[cold]
    pub(in crate::core) fn see_given(
        &mut self,
        id: ConnectionId,
        publication: &Publication<'_>,
        qos: QoS,
        sent: bool,
    ) {
        let event = if sent { Event::Sent { dup: false } } else { Event::Dropped(DropReason::TooLarge) };
        self.see(id, About::new(publication, qos, None), event);
    }

    /// A step of a message for a persistent session that is at home here.
    #[cold]
    pub(in crate::core) fn see_target(
        &mut self,
        publication: &Publication<'_>,
        session: Incarnation,
        event: Event,
    ) {
        if let Some(slot) = self.sessions.find(session) {
            let id = self.sessions.get(slot).connection();
            return self.see(id, About::new(publication, publication.qos, None), event);
        }
        let range = self.log_of_session(session).map(|slot| self.storage.log(slot).inbox().machine());
        let client = range.and_then(|range| range.client_of(session)).map(Box::<str>::from);
        let about = About::new(publication, publication.qos, None);
        self.see_of(publication.tenant, client.as_deref(), about, event);
    }

    /// A message is on its way into a log for sessions. Whether their queues take it is settled when it is there;
    /// this is how they stand now.
    #[cold]
    pub(in crate::core) fn see_appended(
        &mut self,
        slot: LogSlot,
        publication: &Publication<'_>,
        targets: &[command::Target],
    ) {
        let limits =
            self.limits_of(publication, targets.iter().map(|target| Incarnation(target.incarnation)));
        let limits =
            Limits { messages: limits.messages, bytes: limits.bytes, drop_oldest: limits.drop_oldest };
        let bytes = u32::try_from(publication.bytes()).unwrap_or(u32::MAX);
        for target in targets {
            let session = Incarnation(target.incarnation);
            let range = self.storage.log(slot).inbox().machine();
            let Some(state) = range.session(session) else { continue };
            let takes = limits.drop_oldest || state.queue.has_room_at(bytes, &limits, self.watch.now.wall);
            let event = if takes { Event::Queued } else { Event::Dropped(DropReason::QueueFull) };
            let client = range.client_of(session).map(Box::<str>::from);
            let (qos, _) = DeliveryOptions::from_bits(target.options).apply(publication);
            let about = About::new(publication, qos, None);
            self.see_of(publication.tenant, client.as_deref(), about, event);
        }
    }

    /// What has happened to messages of a client's queue.
    #[inline]
    pub(in crate::core) fn see_steps(&mut self, id: ConnectionId, steps: Steps) {
        for (about, event) in steps.steps {
            if matches!(event, Event::Sent { .. }) {
                self.remember(id, Way::ToClient, &about);
            }
            self.see(id, about, event);
        }
    }

    fn remember(&mut self, id: ConnectionId, way: Way, about: &About) {
        if let Some(packet_id) = about.packet_id
            && self.watch.unacknowledged.len() < UNACKNOWLEDGED_MAX
        {
            self.watch.unacknowledged.insert((id, way, packet_id), about.clone());
        }
    }

    /// An acknowledgement goes one way or the other.
    #[cold]
    pub(in crate::core) fn see_acknowledged(
        &mut self,
        id: ConnectionId,
        (way, packet_id): (Way, PacketId),
        last: bool,
        event: Event,
    ) {
        let about = self.watch.acknowledged((id, way, packet_id.get()), last);
        self.see(id, about, event);
    }

    /// Nothing is acknowledged on a connection any more.
    pub(in crate::core) fn forget_unacknowledged(&mut self, id: ConnectionId) {
        if self.watch.on {
            let none = (id, Way::FromClient, 0)..=(id, Way::ToClient, u16::MAX);
            let keys: Vec<_> = self.watch.unacknowledged.range(none).map(|(key, _)| *key).collect();
            for key in keys {
                self.watch.unacknowledged.remove(&key);
            }
        }
    }

    /// Who of this core's volatile sessions subscribes and may not receive a message.
    #[cold]
    pub(in crate::core) fn see_denied(&mut self, publication: &Publication<'_>) {
        let mut all = Vec::new();
        let tenant = self.tenants.index(publication.tenant, &self.config);
        self.tenants.get(tenant).local.matching_filters(publication.topic, |filter| {
            all.extend(filter.subscribers().iter().map(|subscriber| subscriber.connection));
        });
        for id in all {
            let Some(connection) = self.connections.get(id) else { continue };
            if !connection.grant.as_ref().is_some_and(|grant| grant.may_receive(publication.topic)) {
                let about = About::new(publication, publication.qos, None);
                self.see(id, about, Event::Dropped(DropReason::NoPermission));
            }
        }
    }

    /// A message is to be kept, or what was kept is to go.
    #[cold]
    pub(in crate::core) fn see_retained(
        &mut self,
        publication: &Publication<'_>,
        refused: Option<ReasonCode>,
    ) {
        let kept = if publication.payload.is_empty() { Event::RetainedCleared } else { Event::Retained };
        self.see_route(publication, refused.map_or(kept, Event::RetainRefused));
    }

    /// A step of a kept message at a connection.
    #[cold]
    pub(in crate::core) fn see_kept(&mut self, id: ConnectionId, message: &Arc<Message>, event: Event) {
        let publication = Publication::from(message);
        self.see(id, About::new(&publication, message.qos, None), event);
    }
}

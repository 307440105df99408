//! Sessions, subscriptions and retained messages, a page at a time.

use std::ops::Bound;
use std::sync::Arc;

use super::super::Core;
use super::super::deliver::queue_limits;
use super::Looks;
use super::view::View;
use crate::message::Message;
use crate::ranges::retain::Position;
use crate::sessions;
use crate::sight::{
    Away, FindSessions, FindSubscriptions, Online, Page, Place, RetainedMessage, Session, SessionDetails,
    Subscription, WillSummary,
};
use crate::time::{Now, Wall};

impl Core {
    pub(super) fn find_sessions(&self, find: &FindSessions) -> Page<Session> {
        let FindSessions { tenant, client_contains, user, online, from, max } = find;
        let (sessions, mut next) = self.sessions_from(*from);
        let (mut items, mut looks) = (Vec::new(), Looks::default());
        for session in &sessions {
            if looks.are_spent() || items.len() >= usize::from(*max) {
                next = Some(session.place);
                break;
            }
            let mut bytes = client_contains.as_ref().map_or(0, |_| session.client.len());
            let found = tenant.as_ref().is_none_or(|tenant| **session.tenant == **tenant)
                && online.is_none_or(|online| session.here.is_some() == online)
                && client_contains.as_ref().is_none_or(|part| session.client.contains(&**part))
                && user.as_ref().is_none_or(|user| self.user_of(session) == &**user);
            if found {
                let described = self.describe(session);
                bytes += described.client.len() + described.user.len();
                items.push(described);
            }
            looks.spend(bytes);
        }
        Page { items, next }
    }

    fn describe(&self, session: &View<'_>) -> Session {
        let connection = session.connection().and_then(|id| self.connections.get(id));
        let expires = session.expires().filter(|expires| *expires != Wall::MAX);
        let (queued_messages, queued_bytes) = session.queued();
        Session {
            tenant: (**session.tenant).into(),
            client: session.client.into(),
            user: self.user_of(session).into(),
            online: connection.map(|connection| Online {
                peer: connection.peer(),
                listener: connection.listener,
                version: connection.version,
                keep_alive_ms: connection.keep_alive_ms,
                unsent_bytes: connection.send.len() as u64,
            }),
            away: self.away_since(session).map(|since| Away { since, expires }),
            expiry_seconds: session.expiry_seconds(),
            subscriptions: session.subscriptions().map_or(0, |subscriptions| subscriptions.len() as u64),
            queued_messages,
            queued_bytes,
        }
    }

    pub(super) fn session_details(&mut self, tenant: &str, client: &str) -> Option<Box<SessionDetails>> {
        let name = Arc::clone(self.session_of(tenant, client)?.tenant);
        let index = self.tenants.index(&name, &self.config);
        let limits = queue_limits(&self.tenants.get(index).settings);
        let session = self.session_of(tenant, client)?;
        let owed = session.here.is_some_and(|here| here.owed.is_some());
        let (unreleased, away_owed) = match (session.stored, session.here) {
            (Some((_, stored)), _) => {
                let away = self.stored.away.get(&stored.incarnation);
                (stored.taken.len(), away.is_some_and(|away| away.owed.is_some()))
            }
            (None, Some(here)) => (here.unreleased(), false),
            (None, None) => (0, false),
        };
        Some(Box::new(SessionDetails {
            session: self.describe(&session),
            will: self.will_of(&session),
            unreleased: u32::try_from(unreleased).unwrap_or(u32::MAX),
            retained_owed: owed || away_owed,
            queue_messages_max: limits.messages,
            queue_bytes_max: limits.bytes,
            drops_oldest: limits.drop_oldest,
        }))
    }

    fn will_of(&self, session: &View<'_>) -> Option<WillSummary> {
        let Some((slot, stored)) = session.stored else {
            return session
                .here
                .and_then(sessions::Session::will)
                .map(|will| summary(&will.message, will.delay_seconds));
        };
        let will = stored.will.as_ref()?;
        let message = self.storage.log(slot).message(will.message).to_message(session.tenant);
        Some(summary(&message, will.delay_seconds))
    }

    pub(super) fn find_subscriptions(&self, find: &FindSubscriptions) -> Page<Subscription, Place> {
        let FindSubscriptions { tenant, client, from, max, .. } = find;
        // Without its tenant a client is looked for among all.
        if let (Some(tenant), Some(client)) = (tenant, client) {
            let mut page = Page { items: Vec::new(), next: None };
            if let Some(session) = self.session_of(tenant, client) {
                let mut looks = Looks::default();
                let after = from.after.as_deref();
                page.next = subscriptions_of(&session, after, find, &mut looks, &mut page.items);
            }
            return page;
        }
        let (sessions, next) = self.sessions_from(from.slot);
        let (mut items, mut looks) = (Vec::new(), Looks::default());
        for session in &sessions {
            let found = tenant.as_ref().is_none_or(|tenant| **session.tenant == **tenant)
                && client.as_ref().is_none_or(|client| session.client == &**client);
            if !found {
                continue;
            }
            if looks.are_spent() || items.len() >= usize::from(*max) {
                return Page { items, next: Some(Place { slot: session.place, after: None }) };
            }
            let after = from.after.as_deref().filter(|_| session.place == from.slot);
            let rest = subscriptions_of(session, after, find, &mut looks, &mut items);
            if rest.is_some() {
                return Page { items, next: rest };
            }
        }
        Page { items, next: next.map(|slot| Place { slot, after: None }) }
    }

    pub(super) fn find_retained(
        &self,
        now: Now,
        tenant: &str,
        filter: &str,
        after: Option<&str>,
    ) -> Page<RetainedMessage, Box<str>> {
        let after = after.map(Position::after);
        let page = self.storage.retained_page(&tenant.into(), filter, after.as_ref(), now.wall);
        let items = page.messages.iter().map(RetainedMessage::from).collect();
        Page { items, next: page.rest.map(|rest| rest.topic().into()) }
    }
}

/// Adds a session's subscriptions. Where to go on, if that is not behind the last.
fn subscriptions_of(
    session: &View<'_>,
    after: Option<&str>,
    find: &FindSubscriptions,
    looks: &mut Looks,
    items: &mut Vec<Subscription>,
) -> Option<Place> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut last = after;
    for (filter, options) in session.subscriptions()?.range::<str, _>((from, Bound::Unbounded)) {
        if looks.are_spent() || items.len() >= usize::from(find.max) {
            return Some(Place { slot: session.place, after: last.map(Into::into) });
        }
        looks.spend(filter.len() + session.client.len());
        last = Some(filter);
        if find.filter_contains.as_ref().is_none_or(|part| filter.contains(&**part)) {
            items.push(Subscription {
                tenant: (**session.tenant).into(),
                client: session.client.into(),
                filter: filter.clone(),
                options: *options,
            });
        }
    }
    None
}

fn summary(message: &Message, delay_seconds: u32) -> WillSummary {
    WillSummary {
        topic: message.topic.as_str().into(),
        qos: message.qos,
        retain: message.retain,
        delay_seconds,
        payload_bytes: message.payload.len() as u64,
    }
}

//! Sessions, subscriptions and retained messages, a page at a time.

use std::ops::Bound;

use super::super::Core;
use super::super::deliver::queue_limits;
use super::SESSIONS_LOOKS_MAX;
use crate::inbox::{Inbox, InboxSlot, Will};
use crate::ranges::retain::Position;
use crate::sight::{
    Away, FindSessions, FindSubscriptions, Online, Page, Place, RetainedMessage, Session, SessionDetails,
    Subscription, WillSummary,
};
use crate::time::Now;

impl Core {
    pub(super) fn find_sessions(&self, find: &FindSessions) -> Page<Session> {
        let FindSessions { tenant, client_contains, user, online, from, max } = find;
        let (sessions, mut next) = self.inboxes.page(*from, SESSIONS_LOOKS_MAX);
        let mut items = Vec::new();
        for (slot, session) in sessions {
            let found = tenant.as_ref().is_none_or(|tenant| **session.tenant() == **tenant)
                && online.is_none_or(|online| session.connection().is_some() == online)
                && client_contains.as_ref().is_none_or(|part| session.client().contains(&**part))
                && user.as_ref().is_none_or(|user| user_of(session) == &**user);
            if !found {
                continue;
            }
            if items.len() >= usize::from(*max) {
                next = Some(slot.0);
                break;
            }
            items.push(self.describe(session));
        }
        Page { items, next }
    }

    fn describe(&self, session: &Inbox) -> Session {
        let connection = session.connection().and_then(|id| self.connections.get(id));
        Session {
            tenant: (**session.tenant()).into(),
            client: session.client().into(),
            user: user_of(session).into(),
            online: connection.map(|connection| Online {
                peer: connection.peer(),
                listener: connection.listener,
                version: connection.version,
                keep_alive_ms: connection.keep_alive_ms,
                unsent_bytes: connection.send.len() as u64,
            }),
            away: session.away().map(|(since, expires)| Away { since, expires }),
            expiry_seconds: session.expiry_seconds(),
            subscriptions: session.subscriptions.len() as u64,
            queued_messages: session.queue.len(),
            queued_bytes: session.queue.bytes(),
        }
    }

    pub(super) fn session_details(&mut self, tenant: &str, client: &str) -> Option<Box<SessionDetails>> {
        let slot = self.inboxes.find_client(tenant, client)?;
        let name = self.inboxes.get(slot).tenant().clone();
        let index = self.tenants.index(&name, &self.config);
        let limits = queue_limits(&self.tenants.get(index).settings);
        let session = self.inboxes.get(slot);
        Some(Box::new(SessionDetails {
            session: self.describe(session),
            will: session.will().map(summary),
            unreleased: u32::try_from(session.unreleased()).unwrap_or(u32::MAX),
            retained_owed: session.owed.is_some(),
            queue_messages_max: limits.messages,
            queue_bytes_max: limits.bytes,
            drops_oldest: limits.drop_oldest,
        }))
    }

    /// A subscription is a look, like a session.
    pub(super) fn find_subscriptions(&self, find: &FindSubscriptions) -> Page<Subscription, Place> {
        let FindSubscriptions { tenant, client, from, max, .. } = find;
        // Without its tenant a client is looked for among all.
        if let (Some(tenant), Some(client)) = (tenant, client) {
            let slot = self.inboxes.find_client(tenant, client);
            let mut page = Page { items: Vec::new(), next: None };
            if let Some(slot) = slot {
                let mut looks = SESSIONS_LOOKS_MAX;
                let after = from.after.as_deref();
                page.next = self.subscriptions_of(slot, after, find, &mut looks, &mut page.items);
            }
            return page;
        }
        let (sessions, next) = self.inboxes.page(from.slot, SESSIONS_LOOKS_MAX);
        let (mut items, mut looks) = (Vec::new(), SESSIONS_LOOKS_MAX);
        for (slot, session) in sessions {
            let found = tenant.as_ref().is_none_or(|tenant| **session.tenant() == **tenant)
                && client.as_ref().is_none_or(|client| session.client() == &**client);
            if !found {
                continue;
            }
            if looks == 0 || items.len() >= usize::from(*max) {
                return Page { items, next: Some(Place { slot: slot.0, after: None }) };
            }
            let after = from.after.as_deref().filter(|_| slot.0 == from.slot);
            let rest = self.subscriptions_of(slot, after, find, &mut looks, &mut items);
            if rest.is_some() {
                return Page { items, next: rest };
            }
        }
        Page { items, next: next.map(|slot| Place { slot, after: None }) }
    }

    /// Adds a session's subscriptions. Where to go on, if that is not behind the last.
    fn subscriptions_of(
        &self,
        slot: InboxSlot,
        after: Option<&str>,
        find: &FindSubscriptions,
        looks: &mut u32,
        items: &mut Vec<Subscription>,
    ) -> Option<Place> {
        let session = self.inboxes.get(slot);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = after;
        for (filter, options) in session.subscriptions.range::<str, _>((from, Bound::Unbounded)) {
            if *looks == 0 || items.len() >= usize::from(find.max) {
                return Some(Place { slot: slot.0, after: last.map(Into::into) });
            }
            *looks -= 1;
            last = Some(filter);
            if find.filter_contains.as_ref().is_none_or(|part| filter.contains(&**part)) {
                items.push(Subscription {
                    tenant: (**session.tenant()).into(),
                    client: session.client().into(),
                    filter: filter.clone(),
                    options: *options,
                });
            }
        }
        None
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

fn user_of(session: &Inbox) -> &str {
    session.grant.as_ref().map_or("", |grant| grant.user())
}

fn summary(will: &Will) -> WillSummary {
    WillSummary {
        topic: will.message.topic.clone(),
        qos: will.message.qos,
        retain: will.message.retain,
        delay_seconds: will.delay_seconds,
        payload_bytes: will.message.payload.len() as u64,
    }
}

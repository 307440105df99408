//! Sessions as an operator sees them, wherever they stand: those that end with their connection in the core's own
//! table, persistent ones in their ranges. A place in the one or the others is a number; those of the ranges begin
//! behind all of the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Core;
use super::SESSIONS_LOOKS_MAX;
use crate::delivery::DeliveryOptions;
use crate::identity::{ConnectionId, Incarnation};
use crate::placement::inbox_key;
use crate::ranges::inbox::Session;
use crate::sessions;
use crate::storage::{LogSlot, Storage};
use crate::time::Wall;

/// From here on places are in the ranges of logs, so many for each.
const STORED: u32 = 1 << 31;
const STORED_STEP: u32 = 1 << 26;

/// A session.
pub(in crate::core) struct View<'a> {
    pub place: u32,
    pub tenant: &'a Arc<str>,
    pub client: &'a str,
    /// There if its client is connected.
    pub here: Option<&'a sessions::Session>,
    /// There if it is persistent: where, and what.
    pub stored: Option<(LogSlot, &'a Session)>,
}

impl View<'_> {
    pub fn connection(&self) -> Option<ConnectionId> {
        self.here.map(sessions::Session::connection)
    }

    pub fn subscriptions(&self) -> Option<&BTreeMap<Box<str>, DeliveryOptions>> {
        let stored = self.stored.map(|(_, session)| &session.subscriptions);
        stored.or(self.here.map(|here| &here.subscriptions))
    }

    /// Messages and bytes.
    pub fn queued(&self) -> (u32, u64) {
        match (self.stored, self.here) {
            (Some((_, session)), _) => (session.queue.len(), session.queue.bytes()),
            (None, Some(here)) => (here.queue.len(), here.queue.bytes()),
            (None, None) => (0, 0),
        }
    }

    pub fn expiry_seconds(&self) -> u32 {
        self.stored.map_or(0, |(_, session)| session.expiry_seconds)
    }

    /// Unless its client is connected, when it ends; the end of time for never.
    pub fn expires(&self) -> Option<Wall> {
        let (_, session) = self.stored.filter(|_| self.here.is_none())?;
        Some(session.moments().1)
    }
}

impl Core {
    /// Some of the sessions, from a place on; and where to go on, if that is not the end.
    pub(in crate::core) fn sessions_from(&self, from: u32) -> (Vec<View<'_>>, Option<u32>) {
        if from < STORED {
            let (sessions, next) = self.sessions.page(from, SESSIONS_LOOKS_MAX);
            let volatile = sessions.filter(|(_, session)| session.stored.is_none());
            let views = volatile.map(|(slot, here)| View {
                place: slot.0,
                tenant: here.tenant(),
                client: here.client(),
                here: Some(here),
                stored: None,
            });
            return (views.collect(), Some(next.unwrap_or(STORED)));
        }
        let (log, place) = ((from - STORED) / STORED_STEP, (from - STORED) % STORED_STEP);
        let Some(slot) = self.storage.slots().nth(log as usize) else { return (Vec::new(), None) };
        let (clients, next) = self.storage.log(slot).inbox().machine().page(place, SESSIONS_LOOKS_MAX);
        let views = clients.filter_map(|(at, client)| {
            let session = client.session.as_ref()?;
            Some(View {
                place: STORED + log * STORED_STEP + at,
                tenant: &client.tenant,
                client: &client.name,
                here: self.connected(session.incarnation),
                stored: Some((slot, session)),
            })
        });
        let next_log = STORED + (log + 1) * STORED_STEP;
        (views.collect(), Some(next.map_or(next_log, |next| STORED + log * STORED_STEP + next)))
    }

    /// A client's session.
    pub(in crate::core) fn session_of(&self, tenant: &str, client: &str) -> Option<View<'_>> {
        let slot = Storage::slot_of(&self.config, inbox_key(tenant, client));
        let here = self.sessions.find_client(tenant, client).map(|slot| self.sessions.get(slot));
        let stored = self.storage.log_if(slot).and_then(|log| log.inbox().machine().client(tenant, client));
        let session = stored.and_then(|client| client.session.as_ref().map(|session| (client, session)));
        match (here, session) {
            (here, Some((client, session))) if here.is_none_or(|here| here.stored.is_some()) => {
                let stored = Some((slot, session));
                Some(View { place: 0, tenant: &client.tenant, client: &client.name, here, stored })
            }
            (Some(here), _) => Some(View {
                place: 0,
                tenant: here.tenant(),
                client: here.client(),
                here: Some(here),
                stored: None,
            }),
            (None, _) => None,
        }
    }

    fn connected(&self, incarnation: Incarnation) -> Option<&sessions::Session> {
        self.sessions.find(incarnation).map(|slot| self.sessions.get(slot))
    }

    /// The user of a session.
    pub(super) fn user_of<'a>(&'a self, view: &View<'a>) -> &'a str {
        let away = view.stored.and_then(|(_, session)| self.stored.away.get(&session.incarnation));
        let grant = view.here.and_then(|here| here.grant.as_ref());
        grant.or(away.and_then(|away| away.grant.as_ref())).map_or("", |grant| grant.user())
    }

    /// Since when a session's client is away. For one that waits for ever and that nobody has claimed since the start:
    /// since the start.
    pub(super) fn away_since(&self, view: &View<'_>) -> Option<Wall> {
        let (_, session) = view.stored.filter(|_| view.here.is_none())?;
        let known = self.stored.away.get(&session.incarnation).and_then(|away| away.since);
        let expires = session.moments().1;
        let computed = (expires != Wall::MAX)
            .then(|| Wall(expires.0.saturating_sub(u64::from(session.expiry_seconds) * 1000)));
        Some(known.or(computed).unwrap_or(self.stored.started))
    }
}

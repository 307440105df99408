//! Clients from the addresses that traces are for. A message says who has published it, and not from where: so the core
//! on which a client comes from such an address tells the others, once a second while something happens to it, and
//! before they hear of its messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::Core;
use crate::identity::CoreId;
use crate::message::hash_client;
use crate::network::Network;
use crate::notice::Notice;
use crate::peer::Body;
use crate::time::Mono;

/// Clients that one trace follows; messages of further ones are told where their connections are.
const FOLLOWED_MAX: usize = 4096;

/// How soon the others are told again: one of them may have begun the trace later.
const AGAIN: Duration = Duration::from_secs(1);

/// A client that a trace follows: to other cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Follow {
    pub(super) number: u64,
    pub(super) tenant: Arc<str>,
    pub(super) client_hash: u64,
}

/// The clients that a trace follows on one core, and when the others were told so.
#[derive(Debug, Default)]
pub(super) struct Followed(BTreeMap<(Arc<str>, u64), Mono>);

impl Followed {
    /// Whether a message is of one of them.
    pub(super) fn has_published(&self, notice: &Notice) -> bool {
        let publisher = notice.message.as_deref().and_then(|about| about.publisher);
        let (Some(tenant), Some(publisher)) = (&notice.tenant, publisher) else { return false };
        self.0.contains_key(&(Arc::clone(tenant), publisher))
    }

    /// Something has happened on a connection. Some: the others are to be told of its client.
    pub(super) fn on_notice(
        &mut self,
        now: Mono,
        network: &Network,
        notice: &Notice,
    ) -> Option<(Arc<str>, u64)> {
        let (tenant, client) = notice.tenant.as_ref().zip(notice.client.as_deref())?;
        notice.peer.filter(|peer| network.contains(peer.ip()))?;
        let key = (Arc::clone(tenant), hash_client(client));
        let due = self.0.get(&key).is_none_or(|told| now.since(*told) >= AGAIN);
        (due && self.add(now, key.clone())).then_some(key)
    }

    /// One more. False: there are too many.
    pub(super) fn add(&mut self, now: Mono, key: (Arc<str>, u64)) -> bool {
        let has_room = self.0.len() < FOLLOWED_MAX || self.0.contains_key(&key);
        if has_room {
            self.0.insert(key, now);
        }
        has_room
    }
}

impl Core {
    /// Tells the other cores whom traces follow, before they hear of their messages.
    pub(super) fn tell_followed(&mut self) {
        for Follow { number, tenant, client_hash } in std::mem::take(&mut self.watch.untold) {
            for core in (0..self.config.cores).map(CoreId) {
                if core != self.id {
                    self.post(core, Body::Follow { number, tenant: Arc::clone(&tenant), client_hash });
                }
            }
        }
    }

    /// Another core has a client that a trace follows.
    pub(in crate::core) fn on_follow(&mut self, number: u64, tenant: Arc<str>, client_hash: u64) {
        let now = self.watch.now.monotonic;
        // One that begins here later hears of it again.
        if let Some(running) = self.watch.traces.iter_mut().find(|running| running.trace.number == number) {
            running.followed.add(now, (tenant, client_hash));
        }
    }
}

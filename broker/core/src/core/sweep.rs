//! Clients that are online and may not stay: after a change of what keeps clients out, all of them are looked at, some
//! in each turn.

use std::collections::BTreeSet;
use std::sync::Arc;

use mqtt::ReasonCode;

use super::Core;
use crate::bans::{Ban, Target};
use crate::connection::Connection;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::time::Now;

/// Connections looked at in a turn.
const CONNECTIONS_MAX: usize = 4096;

/// A look at all connections, from the first slot to the last.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The next slot; None: it is not going on.
    slot: Option<u32>,
    /// Names that let nobody in any more since it began.
    users_gone: BTreeSet<Arc<str>>,
}

impl Sweep {
    pub(super) fn is_going_on(&self) -> bool {
        self.slot.is_some()
    }
}

impl Core {
    pub(super) fn on_ban(&mut self, now: Now, ban: Ban) {
        if self.bans.insert(now.wall, ban, self.config.bans_max) {
            self.sweep.slot = Some(0);
        } else {
            self.counters.limit(Limit::Bans);
        }
    }

    pub(super) fn on_unban(&mut self, target: &Target) {
        self.bans.remove(target);
    }

    pub(super) fn on_users_gone(&mut self, users: &BTreeSet<Arc<str>>) {
        self.sweep.users_gone.extend(users.iter().cloned());
        self.sweep.slot = Some(0);
    }

    /// Looks at all connections, from the first on.
    pub(super) fn begin_sweep(&mut self) {
        self.sweep.slot = Some(0);
    }

    /// A connection's tenant may have got a rate.
    fn pace_by_tenant(&mut self, now: Now, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id).filter(|it| it.is_online() && !it.paced)
            && self.tenants.get(connection.tenant).wanted.inbound
        {
            connection.start_pace(now, true);
        }
    }

    /// Goes on with a sweep.
    pub(super) fn go_on_sweeping(&mut self, now: Now, out: &mut Outputs) {
        let Some(mut slot) = self.sweep.slot else { return };
        for _ in 0..CONNECTIONS_MAX {
            let Some(id) = self.connections.at_or_after(slot) else {
                self.sweep = Sweep::default();
                return;
            };
            slot = id.slot + 1;
            self.pace_by_tenant(now, id);
            if let Some(reason) = self.reason_to_leave(now, id) {
                self.disconnect(now, id, reason, None, out);
            }
        }
        self.sweep.slot = Some(slot);
    }

    /// Why a client may not stay online. 0x8A, Banned, is for CONNACK alone.
    fn reason_to_leave(&mut self, now: Now, id: ConnectionId) -> Option<ReasonCode> {
        let connection = self.connections.get(id).filter(|connection| connection.is_online())?;
        let tenant = &self.tenants.get(connection.tenant).name;
        let user = connection.grant.as_ref().map_or("", |grant| grant.user());
        let client = self.sessions.get(connection.session).client();
        let banned = self.bans.has_client(now.wall, tenant, client, user)
            || connection.peer().is_some_and(|peer| self.bans.has_address(now.wall, peer.ip()));
        if banned {
            self.counters.clients_banned += 1;
            return Some(ReasonCode::ADMINISTRATIVE_ACTION);
        }
        let gone = &self.sweep.users_gone;
        if gone.is_empty() || !connection.grant.as_ref().is_some_and(|grant| grant.is_listed()) {
            return None;
        }
        // By the names that make this user of this tenant: its own, or with the tenant in front.
        let full = format!("{tenant}/{user}");
        let is_gone = [user, &full].into_iter().any(|name| {
            let identity = self.config.identify(connection.listener, Some(tenant), Some(name));
            gone.contains(name) && identity == Ok((Arc::clone(tenant), user))
        });
        is_gone.then_some(ReasonCode::NOT_AUTHORIZED)
    }

    /// Whether a CONNECT may not go on, for where it comes from.
    pub(super) fn is_banned_here(&mut self, now: Now, id: ConnectionId) -> bool {
        if self.bans.is_empty() {
            return false;
        }
        let peer = self.connections.get(id).and_then(Connection::peer);
        let banned = peer.is_some_and(|peer| self.bans.has_address(now.wall, peer.ip()));
        self.counters.clients_banned += u64::from(banned);
        banned
    }
}

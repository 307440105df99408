//! A client connects that is online on another connection: what that one's socket has received by then is heard first,
//! before the newcomer takes over. Who says DISCONNECT on one socket and CONNECT on the next has said it in this order;
//! taken the other way round, its will would be published, its session kept, and its last words lost.
//!
//! Bounded by the host, which gives what has come and no more, and not to be held up by the former connection: if its
//! bytes are not wanted at this moment, the newcomer takes over at once.

use std::sync::Arc;

use mqtt::Connect;

use super::Core;
use crate::access::Identity;
use crate::connection::{Connection, Phase};
use crate::identity::ConnectionId;
use crate::input::{Close, HearOut, Outputs};
use crate::time::Now;

/// A client that is let in when its former connection has been heard. Lives on the client's home core.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// Its CONNECT, as it came.
    packet: Vec<u8>,
    identity: Identity,
    authentication_data: Option<Vec<u8>>,
    client: Box<str>,
}

impl Core {
    /// The connection of this client that has to be heard out before another one takes over.
    pub(super) fn former_to_hear(
        &mut self,
        now: Now,
        (tenant, client): (&str, &str),
        out: &mut Outputs,
    ) -> Option<ConnectionId> {
        let found =
            |core: &Core| Some(core.sessions.get(core.sessions.find_client(tenant, client)?).connection());
        let former = found(self)?;
        // What would wait for the turn's end comes before what its socket holds.
        if let Some(connection) = self.connections.get_mut(former).filter(|former| former.in_backlog) {
            connection.in_backlog = false;
            if connection.wants_bytes() {
                self.process_received(now, former, out);
            }
        }
        let former = found(self)?;
        let hears = |former| self.connections.get(former).is_some_and(Connection::wants_bytes);
        (hears(former) && self.wants_clients()).then_some(former)
    }

    /// Has the former connection heard out. `packet` begins with the newcomer's CONNECT.
    pub(super) fn hear_out(
        &mut self,
        now: Now,
        (id, former): (ConnectionId, ConnectionId),
        packet: &[u8],
        (connect, identity): (&Connect<'_>, Identity),
        authentication_data: Option<Vec<u8>>,
        out: &mut Outputs,
    ) {
        let key = (Arc::clone(&identity.tenant), Box::from(connect.client_id));
        if let Some(earlier) = self.stored.attaching.insert(key, id) {
            self.counters.take_overs += 1;
            self.linger(now, earlier, Close::Flush, out); // it was not greeted, and cannot be told
        }
        let connection = self.connections.get_mut(id).expect("is being admitted");
        connection.phase = Phase::HearingOut;
        let newcomer = Newcomer {
            packet: packet.to_vec(),
            client: connect.client_id.into(),
            identity,
            authentication_data,
        };
        self.newcomers.insert(id, newcomer);
        out.hear_out.push(HearOut { former, newcomer: id });
    }

    /// The former connection has been heard, or is gone: the newcomer takes over.
    pub(super) fn on_heard_out(&mut self, now: Now, id: ConnectionId, out: &mut Outputs) {
        let Some(newcomer) = self.newcomers.remove(&id) else { return };
        let Newcomer { packet, identity, authentication_data, client } = newcomer;
        let key = (Arc::clone(&identity.tenant), client);
        if self.stored.attaching.get(&key) == Some(&id) {
            self.stored.attaching.remove(&key);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::HearingOut) {
            return;
        }
        connection.phase = Phase::Connecting;
        let Ok(Some((connect, _))) = mqtt::decode_connect(&packet, &self.connect_limits()) else {
            unreachable!("decoded before under the same limits");
        };
        self.admit_at_home(now, id, &connect, &identity, authentication_data.as_deref(), out);
        self.resume(id);
    }
}

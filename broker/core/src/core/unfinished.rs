//! Packets that have not come whole, of all of a core's clients together: each may be large and may never be finished,
//! so what they take up has a maximum (`unfinished_bytes_max`). Beyond it, who has most there is refused; clients that
//! are not let in yet have an eighth of it, so that strangers are refused for what strangers do.

use std::collections::{BTreeMap, BTreeSet};

use mqtt::{Limits, ReasonCode, packet_length};

use super::Core;
use super::close::Denied;
use crate::connection::{Connection, Phase};
use crate::identity::ConnectionId;
use crate::input::{Outputs, RECEIVE_BYTES_MAX};
use crate::limit::Limit;
use crate::time::Now;

/// So much of a client that is let in is not counted: what is left of one receipt and the whole of another is, as often as
/// an unfinished packet, what a client has sent that is slowed.
const FREE_BYTES: usize = 2 * RECEIVE_BYTES_MAX;

/// The same of one that is not.
const STRANGER_FREE_BYTES: usize = 4 * 1024;

/// Of `unfinished_bytes_max`, what is for clients that are not let in.
const STRANGERS_PART: u64 = 8;

/// How much room there is for a packet that comes, at most, as a multiple of what has come of it; and from when on it
/// has all that it will need, so that no more than this is ever moved.
const ROOM_FACTOR: usize = 8;
const MOVED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a core keeps of large unfinished packets.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Whether it is a stranger, and how many bytes.
    kept: BTreeMap<ConnectionId, (bool, u64)>,
    of_clients: Group,
    of_strangers: Group,
}

#[derive(Debug, Default)]
struct Group {
    by_bytes: BTreeSet<(u64, ConnectionId)>,
    bytes: u64,
}

impl Unfinished {
    /// Bytes of them all.
    pub(super) fn bytes(&self) -> u64 {
        self.of_clients.bytes + self.of_strangers.bytes
    }

    fn group(&mut self, is_stranger: bool) -> &mut Group {
        if is_stranger { &mut self.of_strangers } else { &mut self.of_clients }
    }

    /// So many bytes are kept of a connection now.
    fn set(&mut self, id: ConnectionId, is_stranger: bool, bytes: usize) {
        if let Some((was_stranger, before)) = self.kept.remove(&id) {
            let group = self.group(was_stranger);
            group.by_bytes.remove(&(before, id));
            group.bytes -= before;
        }
        if bytes > if is_stranger { STRANGER_FREE_BYTES } else { FREE_BYTES } {
            let bytes = bytes as u64;
            self.kept.insert(id, (is_stranger, bytes));
            let group = self.group(is_stranger);
            group.by_bytes.insert((bytes, id));
            group.bytes += bytes;
        }
    }

    /// Who has to go, if there is more than there may be.
    fn excess(&self, bytes_max: u64) -> Option<ConnectionId> {
        let strangers = self.of_strangers.bytes > bytes_max / STRANGERS_PART;
        let group = if strangers { &self.of_strangers } else { &self.of_clients };
        let too_many = strangers || self.bytes() > bytes_max;
        group.by_bytes.last().filter(|_| too_many).map(|(_, id)| *id)
    }
}

impl Core {
    /// What is kept of a connection's bytes has changed from so many.
    pub(super) fn note_unfinished(&mut self, id: ConnectionId, before: usize) {
        let connection = self.connections.get(id);
        let (is_stranger, bytes) =
            connection.map_or((true, 0), |connection| (!connection.is_online(), connection.received.len()));
        if before.max(bytes) > STRANGER_FREE_BYTES {
            self.unfinished.set(id, is_stranger, bytes);
        }
    }

    /// Refuses those who have most while there is more than there may be.
    pub(super) fn bound_unfinished(&mut self, now: Now, out: &mut Outputs) {
        while let Some(id) = self.unfinished.excess(u64::from(self.config.unfinished_bytes_max)) {
            let denied = Denied::by(Limit::UnfinishedBytes, ReasonCode::QUOTA_EXCEEDED);
            if let Some(connection) = self.connections.get_mut(id)
                && matches!(connection.phase, Phase::Connecting)
                && let Some(version) = mqtt::connect_version(&connection.received)
            {
                connection.version = version;
            }
            self.refuse_denied(now, id, denied, out);
            // A connection that is closed keeps nothing.
            self.unfinished.set(id, true, 0);
        }
    }
}

impl Connection {
    /// Keeps bytes behind those that are kept. A large packet gets its room in few steps, for each moves what has come
    /// of it, and no more than it will need.
    pub(super) fn keep_more(&mut self, bytes: &[u8], limits: &Limits) {
        let (have, needed) = (self.received.len(), self.received.len() + bytes.len());
        if needed > self.received.capacity() && have > FREE_BYTES {
            let whole = packet_length(&self.received, limits).ok().flatten().unwrap_or(needed);
            let room = if have < MOVED_BYTES_MAX { whole.min(have * ROOM_FACTOR) } else { whole };
            self.received.reserve_exact(room.max(needed) - have);
        }
        self.received.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ConnectionId {
        ConnectionId { slot: number, generation: 1 }
    }

    /// Strangers go for what strangers keep, those who have most first; who is let in, or has finished, counts where he
    /// is now.
    #[test]
    fn who_has_most_goes() {
        const KIB: usize = 1024;
        let max = 8 * 1024 * 1024;
        let mut unfinished = Unfinished::default();
        unfinished.set(id(1), false, FREE_BYTES);
        unfinished.set(id(2), true, STRANGER_FREE_BYTES);
        assert_eq!(unfinished.bytes(), 0, "so much is free");
        unfinished.set(id(1), false, 7000 * KIB);
        unfinished.set(id(2), true, 1000 * KIB);
        assert_eq!(unfinished.excess(max), None);
        unfinished.set(id(3), true, 25 * KIB);
        assert_eq!(unfinished.excess(max), Some(id(2)), "strangers have more than an eighth");
        unfinished.set(id(2), false, 1000 * KIB);
        assert_eq!((unfinished.excess(max), unfinished.bytes()), (None, 8025 * 1024));
        unfinished.set(id(4), false, 200 * KIB);
        assert_eq!(unfinished.excess(max), Some(id(1)));
        for number in 1..=4 {
            unfinished.set(id(number), false, 0);
        }
        assert!(unfinished.bytes() == 0 && unfinished.kept.is_empty());
    }
}

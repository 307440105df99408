//! The logs' part of a turn: what was proposed is written, what is durable is applied, and what follows from
//! that goes on.

use mqtt::ReasonCode;

use super::Core;
use crate::input::Outputs;
use crate::storage::{StorageAnswer, StoredLog};
use crate::time::Now;

/// Of what will never be stored: to a client of version 5 it is said as 0x97, one of an earlier version has no
/// acknowledgement.
pub(super) const NOT_STORED: ReasonCode = ReasonCode::SERVER_BUSY;

/// Rounds that one turn gives its logs: what is applied may lead to further proposals. The rest waits for the
/// next turn.
const ROUNDS_MAX: u32 = 16;

impl Core {
    /// The host has done something for a log.
    pub(super) fn on_storage(&mut self, now: Now, answer: StorageAnswer) {
        let salt = self.random.next();
        self.storage.on_answer(now, answer, salt);
    }

    /// Ends the turn of the logs.
    pub(super) fn end_storage_turn(&mut self, now: Now, out: &mut Outputs) {
        for _ in 0..ROUNDS_MAX {
            for _ in 0..ROUNDS_MAX {
                self.storage.turn(now);
                if !self.settle_retained(now, out) {
                    break;
                }
            }
            self.storage.flush(now);
            if !self.storage.serve_memory(now, &mut self.random) {
                break;
            }
        }
        out.storage.append(&mut self.storage.requests);
    }

    /// One of this core's logs, for its writer.
    #[must_use]
    pub fn stored_log(&self, log: wal::LogId) -> Option<&StoredLog> {
        self.storage.by_id(log)
    }

    /// Writes behind all that was appended that it was written, for an orderly stop. The host calls it, and ends
    /// turns, until [`Core::logs_are_closed`].
    pub fn close_logs(&mut self, now: Now) {
        self.storage.close(now);
    }

    /// Whether all that was appended is on the disk, and marked to be, where there was room for that.
    #[must_use]
    pub fn logs_are_closed(&self) -> bool {
        self.storage.is_closed()
    }

    /// A log could not be written. Nothing is acknowledged any more, and the process is to end.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.storage.is_poisoned()
    }
}

//! What waits for the disk: queues and pages of retained messages that lie in pieces of the log which nobody has read
//! lately. The host reads them in, and they go on; a page fault on the core would make all its clients wait.

use std::collections::BTreeMap;

use wal::{LogId, Window};

use super::Core;
use crate::identity::{CoreId, Incarnation};
use crate::input::Outputs;
use crate::peer::RetainedAsk;
use crate::time::Now;

/// Bytes that clients are given in one turn, of what was read in for them; the rest is for the next. Half a
/// millisecond's worth, most of it in the kernel.
const READ_BYTES_MAX: usize = 1 << 20;

/// What a page of retained messages counts for in that.
const PAGE_BYTES: usize = 64 << 10;

/// Who waits, by what is read in.
#[derive(Default)]
pub(super) struct Readers(BTreeMap<(LogId, Window), Waiting>);

#[derive(Default)]
struct Waiting {
    /// Connected sessions, for their queues.
    sessions: Vec<Incarnation>,
    /// Requests for retained messages, with the cores they came from.
    asks: Vec<(CoreId, Box<RetainedAsk>)>,
}

impl Readers {
    /// A session's queue cannot go on without a piece of a log.
    pub(super) fn add_session(&mut self, log: LogId, window: Window, session: Incarnation) {
        self.0.entry((log, window)).or_default().sessions.push(session);
    }

    /// A page of retained messages cannot be read without one.
    pub(super) fn add_ask(&mut self, log: LogId, window: Window, from: CoreId, ask: Box<RetainedAsk>) {
        self.0.entry((log, window)).or_default().asks.push((from, ask));
    }
}

impl Core {
    /// What was waited for has been read in: it is used, as much of it as a turn has room for.
    pub(super) fn go_on_reading(&mut self, now: Now, out: &mut Outputs) {
        let mut budget = READ_BYTES_MAX;
        for slot in self.storage.slots() {
            while budget > 0
                && let Some(window) = self.storage.log_mut(slot).next_read_in()
            {
                let key = (self.storage.log(slot).id(), window);
                let Waiting { sessions, asks } = self.stored.readers.0.remove(&key).unwrap_or_default();
                for session in sessions {
                    budget = budget.saturating_sub(self.end_reading(now, session, window, out));
                }
                for (from, ask) in asks {
                    budget = budget.saturating_sub(PAGE_BYTES);
                    self.answer_find_retained(now, from, ask);
                }
            }
        }
    }

    /// A session's queue goes on. Bytes that its client has before it then.
    fn end_reading(&mut self, now: Now, session: Incarnation, window: Window, out: &mut Outputs) -> usize {
        let Some(slot) = self.sessions.find(session) else { return 0 };
        let session = self.sessions.at(slot);
        let id = session.connection();
        if !session.stored.as_mut().is_some_and(|stored| stored.end_reading(window)) {
            return 0;
        }
        self.pump(now, id, out);
        self.connections.get(id).map_or(0, |connection| connection.send.len())
    }
}

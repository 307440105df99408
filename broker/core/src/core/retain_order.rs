//! Promise 3 for retained messages: a page of them is not older than what its reader's core has seen live.
//!
//! A message that changes what is retained travels two ways: to the range that keeps it, and to its subscribers. The
//! two are not ordered with each other, and a change counts when it is durable: a core may see the message before the
//! range makes the change, and what it asks the range for then would show the state before. So each core counts what it sends to each range, says the count with
//! the live message, and a range holds a request back until it has seen all that the asker knows of. (What passes a
//! page on its way from the range is for [`crate::sessions::Owed`].)

use std::num::NonZeroU64;

use wal::LogId;

use super::Core;
use crate::identity::CoreId;
use crate::message::Publication;
use crate::peer::{RetainStamp, RetainedAsk};
use crate::storage::{LogSlot, Storage};
use crate::time::Now;

/// What one core knows of changes under way. Counts begin with the process, as all cores do. A range goes by its log.
pub(super) struct RetainOrder {
    id: CoreId,
    cores: usize,
    /// Changes made here: by range, then by the core that sent them.
    made: Vec<u64>,
    /// Changes known here, those sent from here and those of live messages: by range, then by the core that sent them.
    known: Vec<u64>,
    /// Requests that came before changes their askers know of.
    early: Vec<(CoreId, Box<RetainedAsk>)>,
}

impl RetainOrder {
    pub(super) fn new(id: CoreId, cores: u16, logs: u16) -> RetainOrder {
        let (cores, logs) = (usize::from(cores), usize::from(logs));
        RetainOrder {
            id,
            cores,
            made: vec![0; logs.div_ceil(cores) * cores],
            known: vec![0; logs * cores],
            early: Vec::new(),
        }
    }

    /// A change leaves for its range.
    pub(super) fn sends(&mut self, log: LogId) {
        let at = self.place(log, self.id);
        self.known[at] += 1;
    }

    fn place(&self, log: LogId, from: CoreId) -> usize {
        usize::from(log.0) * self.cores + from.index()
    }

    /// A live message has come.
    pub(super) fn saw(&mut self, from: CoreId, stamp: Option<RetainStamp>) {
        if let Some(RetainStamp { log, changes }) = stamp {
            let at = self.place(log, from);
            self.known[at] = changes.get().max(self.known[at]);
        }
    }

    /// What a range is to know before it answers.
    pub(super) fn known(&self, log: LogId) -> &[u64] {
        &self.known[usize::from(log.0) * self.cores..][..self.cores]
    }

    /// At the range: a change that a core sent is made, and so are all that it sent before.
    pub(super) fn makes(&mut self, slot: LogSlot, from: CoreId) {
        self.made[usize::from(slot.0) * self.cores + from.index()] += 1;
    }

    fn is_early(&self, slot: LogSlot, ask: &RetainedAsk) -> bool {
        let made = &self.made[usize::from(slot.0) * self.cores..];
        ask.known.iter().zip(made).any(|(known, made)| known > made)
    }
}

impl Core {
    /// What a message says of the changes that left before it.
    pub(super) fn retain_stamp(&self, publication: &Publication<'_>) -> Option<RetainStamp> {
        if !publication.retain {
            return None;
        }
        let log = self.config.retain_log(publication.tenant, publication.topic);
        let changes = NonZeroU64::new(self.retain_order.known[self.retain_order.place(log, self.id)])?;
        Some(RetainStamp { log, changes })
    }

    /// At the range: a page is wanted.
    pub(super) fn on_find_retained(&mut self, now: Now, from: CoreId, ask: Box<RetainedAsk>) {
        let slot = Storage::slot_of_log(&self.config, ask.log);
        if self.retain_order.is_early(slot, &ask) {
            self.retain_order.early.push((from, ask));
        } else {
            self.answer_find_retained(now, from, &ask);
        }
    }

    /// At the range: changes have been made.
    pub(super) fn answer_early(&mut self, now: Now) {
        if self.retain_order.early.is_empty() {
            return;
        }
        for (from, ask) in std::mem::take(&mut self.retain_order.early) {
            self.on_find_retained(now, from, ask);
        }
    }
}

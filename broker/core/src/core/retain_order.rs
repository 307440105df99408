//! Promise 3 for retained messages: a page of them is not older than what its reader's core has seen live.
//!
//! A message that changes what is retained travels two ways: to the range that keeps it, and to its subscribers. The
//! two are not ordered with each other, and a change counts when it is durable: a core may see the message before the
//! range makes the change, and what it asks the range for then would show the state before. So each core counts what it sends to each range, says the count with
//! the live message, and a range holds a request back until it has seen all that the asker knows of. (What passes a
//! page on its way from the range is for [`crate::sessions::Owed`].)
//!
//! Nor does a message fall between the two ways. What was routed before a subscriber's route stood does not reach it
//! live, so the first page for its filter has to know it. It left its core before that core heard of the route, and so
//! before SUBACK, and may still be on its way to the range, or from there into the log: the range asks every core for
//! a sign, which comes behind all that the core has sent ([`Body::Barrier`]), and then answers when all changes
//! that have come by then are made. The pages asked for in one turn share a round of signs; one core alone needs none.

use std::num::NonZeroU64;

use wal::LogId;

use super::Core;
use crate::identity::CoreId;
use crate::message::Publication;
use crate::peer::{Body, RetainStamp, RetainedAsk};
use crate::storage::{LogSlot, Storage};
use crate::time::Now;

/// What one core knows of changes under way. Counts begin with the process, as all cores do. A range goes by its log.
pub(super) struct RetainOrder {
    id: CoreId,
    cores: usize,
    /// Changes that have come here: by range, then by the core that sent them.
    come: Vec<u64>,
    /// Those that are made.
    made: Vec<u64>,
    /// Changes known here, those sent from here and those of live messages: by range, then by the core that sent them.
    known: Vec<u64>,
    /// Requests that came before changes their askers know of.
    early: Vec<(CoreId, Box<RetainedAsk>)>,
    /// Requests that wait for the round of signs that begins next.
    gathered: Vec<(CoreId, Box<RetainedAsk>)>,
    /// Those of the round that is under way, and how many cores have not given theirs.
    round: Vec<(CoreId, Box<RetainedAsk>)>,
    signs: usize,
}

impl RetainOrder {
    pub(super) fn new(id: CoreId, cores: u16, logs: u16) -> RetainOrder {
        let (cores, logs) = (usize::from(cores), usize::from(logs));
        RetainOrder {
            id,
            cores,
            come: vec![0; logs.div_ceil(cores) * cores],
            made: vec![0; logs.div_ceil(cores) * cores],
            known: vec![0; logs * cores],
            early: Vec::new(),
            gathered: Vec::new(),
            round: Vec::new(),
            signs: 0,
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

    /// At the range: a change that a core sent has come.
    pub(super) fn comes(&mut self, slot: LogSlot, from: CoreId) {
        self.come[usize::from(slot.0) * self.cores + from.index()] += 1;
    }

    /// At the range: it is made, and so are all that the core sent before.
    pub(super) fn makes(&mut self, slot: LogSlot, from: CoreId) {
        self.made[usize::from(slot.0) * self.cores + from.index()] += 1;
    }

    /// At the range: the answer is to know all that has come.
    fn demand_come(&self, slot: LogSlot, ask: &mut RetainedAsk) {
        let come = &self.come[usize::from(slot.0) * self.cores..];
        ask.known.iter_mut().zip(come).for_each(|(known, come)| *known = (*known).max(*come));
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
    pub(super) fn on_find_retained(&mut self, now: Now, from: CoreId, mut ask: Box<RetainedAsk>) {
        // A later page follows one that knew of them.
        if ask.after.is_none() {
            if self.config.cores > 1 {
                self.retain_order.gathered.push((from, ask));
                return;
            }
            self.retain_order.demand_come(Storage::slot_of_log(&self.config, ask.log), &mut ask);
        }
        self.answer_or_keep(now, from, ask);
    }

    /// A turn ends: requests of it have every core asked for a sign, one round after the other.
    pub(super) fn ask_for_signs(&mut self) {
        let order = &mut self.retain_order;
        if order.gathered.is_empty() || order.signs > 0 {
            return;
        }
        std::mem::swap(&mut order.gathered, &mut order.round);
        order.signs = order.cores - 1;
        for core in (0..self.config.cores).map(CoreId) {
            if core != self.id {
                self.post(core, Body::Barrier);
            }
        }
    }

    /// At the range: all that a core had sent before it was asked is here.
    pub(super) fn on_sign(&mut self, now: Now) {
        self.retain_order.signs -= 1;
        if self.retain_order.signs > 0 {
            return;
        }
        let mut round = std::mem::take(&mut self.retain_order.round);
        for (from, mut ask) in round.drain(..) {
            self.retain_order.demand_come(Storage::slot_of_log(&self.config, ask.log), &mut ask);
            self.answer_or_keep(now, from, ask);
        }
        self.retain_order.round = round;
    }

    fn answer_or_keep(&mut self, now: Now, from: CoreId, ask: Box<RetainedAsk>) {
        let slot = Storage::slot_of_log(&self.config, ask.log);
        if self.retain_order.is_early(slot, &ask) {
            self.retain_order.early.push((from, ask));
        } else {
            self.answer_find_retained(now, from, ask);
        }
    }

    /// At the range: changes have been made.
    pub(super) fn answer_early(&mut self, now: Now) {
        if self.retain_order.early.is_empty() {
            return;
        }
        for (from, ask) in std::mem::take(&mut self.retain_order.early) {
            self.answer_or_keep(now, from, ask);
        }
    }
}

//! Promise 3 for retained messages: a page of them is not older than what its reader's core has seen live.
//!
//! A message that changes what is retained travels two ways: to the range that keeps it, and to its subscribers. The
//! two are not ordered with each other, so a core may see the message before the range does, and what it asks the
//! range for then would show the state before. So each core counts what it sends to each range, says the count with
//! the live message, and a range holds a request back until it has seen all that the asker knows of. (What passes a
//! page on its way from the range is for [`crate::inbox::Owed`].)

use std::num::NonZeroU64;

use super::Core;
use crate::identity::CoreId;
use crate::message::Publication;
use crate::peer::{RetainStamp, RetainedAsk};
use crate::placement::retain_key;
use crate::time::Now;

/// What one core knows of changes under way. Counts begin with the process, as all cores do.
pub(super) struct RetainOrder {
    cores: usize,
    /// Changes sent from here, by range.
    sent: Vec<u64>,
    /// Changes made here, by the core that sent them.
    made: Vec<u64>,
    /// Changes known here from live messages: by range, then by the core that sent them.
    known: Vec<u64>,
    /// Requests that came before changes their askers know of.
    early: Vec<(CoreId, Box<RetainedAsk>)>,
}

impl RetainOrder {
    pub(super) fn new(cores: u16) -> RetainOrder {
        let cores = usize::from(cores);
        RetainOrder {
            cores,
            sent: vec![0; cores],
            made: vec![0; cores],
            known: vec![0; cores * cores],
            early: Vec::new(),
        }
    }

    /// A change leaves for its range.
    pub(super) fn sends(&mut self, range: CoreId) {
        self.sent[range.index()] += 1;
    }

    /// A live message has come.
    pub(super) fn saw(&mut self, from: CoreId, stamp: Option<RetainStamp>) {
        if let Some(RetainStamp { range, changes }) = stamp {
            let known = &mut self.known[range.index() * self.cores + from.index()];
            *known = changes.get().max(*known);
        }
    }

    /// What a range is to know before it answers.
    pub(super) fn known(&self, range: CoreId) -> &[u64] {
        &self.known[range.index() * self.cores..][..self.cores]
    }

    fn is_early(&self, ask: &RetainedAsk) -> bool {
        ask.known.iter().zip(&self.made).any(|(known, made)| known > made)
    }
}

impl Core {
    /// What a message says of the changes that left before it.
    pub(super) fn retain_stamp(&self, publication: &Publication<'_>) -> Option<RetainStamp> {
        if !publication.retain {
            return None;
        }
        let range = self.config.core_of(retain_key(publication.tenant, publication.topic));
        let changes = NonZeroU64::new(self.retain_order.sent[range.index()])?;
        Some(RetainStamp { range, changes })
    }

    /// At the range: a page is wanted.
    pub(super) fn on_find_retained(&mut self, now: Now, from: CoreId, ask: Box<RetainedAsk>) {
        if self.retain_order.is_early(&ask) {
            self.retain_order.early.push((from, ask));
        } else {
            self.answer_find_retained(now, from, &ask);
        }
    }

    /// At the range: a change that a core sent has been made.
    pub(super) fn on_retain_done(&mut self, now: Now, from: CoreId) {
        self.retain_order.made[from.index()] += 1;
        if self.retain_order.early.is_empty() {
            return;
        }
        for (from, ask) in std::mem::take(&mut self.retain_order.early) {
            self.on_find_retained(now, from, ask);
        }
    }
}

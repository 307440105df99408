//! Promise 3 for retained messages: a page of them is not older than what its reader's core has seen live.
//!
//! A message that changes what is retained travels two ways: to the range that keeps it, and to its subscribers. The
//! two are not ordered with each other, and a change counts when it is durable: a core may see the message before the
//! range makes the change, and what it asks the range for then would show the state before. So each core counts what it
//! sends to each range, says the count with the live message, and a range holds a request back until it has made all
//! that the asker knows of. (What passes a page on its way from the range is for [`crate::sessions::Owed`].)
//!
//! Nor does a message come by neither way, or by both: a request names the point from which on the subscription gets
//! changes live ([`super::retain_point`]). The range answers when it has made all before that point, and leaves out
//! what has come behind it: that, and what was published on its topic before, is still to come live. It remembers so
//! much of this; whoever asks with a point before something that is forgotten finds out a new one first, and by then all
//! before it has come.
//!
//! A copy that meets a live message of its topic on the way is compared with it by the range's order: the page says which
//! changes it was made of. So the promise is: what a subscriber is given of a topic, live and as copies, does not go back
//! behind what one publisher said later, and the last of it is not older than what the range has made last. Two cores'
//! messages of one moment may come live in another order than the range's; then the range's last comes again as the copy.
//! MQTT asks for less: for order among the messages of one client on one topic [MQTT-4.6.0-5].

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use wal::LogId;

use super::Core;
use crate::changes::ChangeName;
use crate::identity::CoreId;
use crate::message::Publication;
use crate::peer::{RetainStamp, RetainedAsk};
use crate::ranges::MessageId;
use crate::storage::{LogSlot, Storage};
use crate::time::{Mono, Now};

/// How long the message of a change is taken for one that may be on its way to its subscribers. Who asks later is to say
/// that it has come; a copy is then for those whom it did not reach: it was dropped, because its reader was slow.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Changes of one range that are remembered for this.
const RECENT_MAX: usize = 4096;

/// What one core knows of changes under way. Counts begin with the process, as all cores do. A range goes by its log.
pub(super) struct RetainOrder {
    id: CoreId,
    cores: usize,
    /// Changes that have come here: by range, then by the core that sent them.
    come: Vec<u64>,
    /// Those that are made.
    made: Vec<u64>,
    /// The last of them that have left a message, by range.
    recent: Vec<VecDeque<Recent>>,
    /// The last of those that are not remembered any more: by range, then by the core that sent them.
    forgotten: Vec<u64>,
    /// The core that has sent the live message at hand.
    giver: CoreId,
    /// Changes known here, those sent from here and those of live messages: by range, then by the core that sent them.
    known: Vec<u64>,
    /// Requests that came before changes their askers know of.
    early: Vec<(CoreId, Box<RetainedAsk>)>,
}

/// A message that a change has left.
#[derive(Clone, Copy)]
struct Recent {
    message: MessageId,
    change: ChangeName,
    made: Mono,
}

impl RetainOrder {
    pub(super) fn new(id: CoreId, cores: u16, logs: u16) -> RetainOrder {
        let (cores, logs) = (usize::from(cores), usize::from(logs));
        let here = logs.div_ceil(cores);
        RetainOrder {
            id,
            cores,
            come: vec![0; here * cores],
            made: vec![0; here * cores],
            recent: vec![VecDeque::new(); here],
            forgotten: vec![0; here * cores],
            giver: id,
            known: vec![0; logs * cores],
            early: Vec::new(),
        }
    }

    /// A change leaves for its range.
    pub(super) fn sends(&mut self, log: LogId) {
        let at = self.place(log, self.id);
        self.known[at] += 1;
    }

    /// How many have left, by the range's log.
    pub(super) fn sent(&self) -> Box<[u64]> {
        self.known.iter().skip(self.id.index()).step_by(self.cores).copied().collect()
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

    /// The live messages at hand come from this core; None: from here.
    pub(super) fn gives(&mut self, from: Option<CoreId>) {
        self.giver = from.unwrap_or(self.id);
    }

    /// The change that the live message at hand makes at a range: by name, or a later one of its core.
    pub(super) fn change_at_hand(&self, log: LogId) -> ChangeName {
        ChangeName { from: self.giver, number: self.known[self.place(log, self.giver)] }
    }

    /// What a range is to know before it answers.
    pub(super) fn known(&self, log: LogId) -> &[u64] {
        &self.known[usize::from(log.0) * self.cores..][..self.cores]
    }

    /// At the range: a change that a core sent has come.
    pub(super) fn comes(&mut self, slot: LogSlot, from: CoreId) -> ChangeName {
        let come = &mut self.come[usize::from(slot.0) * self.cores + from.index()];
        *come += 1;
        ChangeName { from, number: *come }
    }

    /// At the range: it has left a message. In the order of the range's log.
    pub(super) fn leaves(&mut self, now: Now, slot: LogSlot, message: MessageId, change: ChangeName) {
        let recent = &mut self.recent[usize::from(slot.0)];
        while recent.front().is_some_and(|first| recent.len() >= RECENT_MAX || !first.is_on_its_way(now)) {
            let Some(Recent { change: ChangeName { from, number }, .. }) = recent.pop_front() else { break };
            self.forgotten[usize::from(slot.0) * self.cores + from.index()] = number;
        }
        recent.push_back(Recent { message, change, made: now.monotonic });
    }

    /// At the range: forgets what is not on its way any more.
    fn forget(&mut self, now: Now, slot: LogSlot) {
        let recent = &mut self.recent[usize::from(slot.0)];
        while let Some(Recent { change, .. }) = recent.pop_front_if(|first| !first.is_on_its_way(now)) {
            self.forgotten[usize::from(slot.0) * self.cores + change.from.index()] = change.number;
        }
    }

    /// At the range: whether changes behind the point of a request are forgotten whose messages have not come to the
    /// asker's core, for all that is known.
    fn is_stale(&self, slot: LogSlot, ask: &RetainedAsk) -> bool {
        let come = ask.known.iter().zip(&ask.point).map(|(known, point)| known.max(point));
        let forgotten = &self.forgotten[usize::from(slot.0) * self.cores..][..self.cores];
        come.zip(forgotten).any(|(come, forgotten)| forgotten > come)
    }

    /// At the range: it is made, and so are all that the core sent before.
    pub(super) fn makes(&mut self, slot: LogSlot, from: CoreId) {
        self.made[usize::from(slot.0) * self.cores + from.index()] += 1;
    }

    /// At the range: how many are made, by core.
    pub(super) fn made(&self, slot: LogSlot) -> &[u64] {
        &self.made[usize::from(slot.0) * self.cores..][..self.cores]
    }

    fn is_early(&self, slot: LogSlot, ask: &RetainedAsk) -> bool {
        let needed = ask.known.iter().zip(&ask.point).map(|(known, point)| known.max(point));
        needed.zip(self.made(slot)).any(|(needed, made)| needed > made)
    }

    /// At the range: whether anything is behind the point of a request at all.
    fn has_passed(&self, slot: LogSlot, ask: &RetainedAsk) -> bool {
        ask.point.iter().zip(self.made(slot)).any(|(point, made)| made > point)
    }

    /// At the range: which change has left a message, if it was one of the last.
    fn recent(&self, slot: LogSlot, message: MessageId) -> Option<ChangeName> {
        let recent = &self.recent[usize::from(slot.0)];
        let at = recent.binary_search_by_key(&message, |recent| recent.message).ok()?;
        Some(recent[at].change)
    }
}

impl Recent {
    fn is_on_its_way(&self, now: Now) -> bool {
        now.monotonic.since(self.made) < ON_ITS_WAY
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

    /// At the range: a page is wanted. It is handed out when all that it is to know is made, and in memory.
    pub(super) fn on_find_retained(&mut self, now: Now, to: CoreId, ask: Box<RetainedAsk>) {
        let slot = Storage::slot_of_log(&self.config, ask.log);
        if self.retain_order.is_early(slot, &ask) {
            self.retain_order.early.push((to, ask));
        } else {
            self.answer_find_retained(now, to, ask);
        }
    }

    /// At the range: whether a page cannot be told from what is on its way to the asker live.
    pub(super) fn is_stale(&mut self, now: Now, ask: &RetainedAsk) -> bool {
        let slot = Storage::slot_of_log(&self.config, ask.log);
        self.retain_order.forget(now, slot);
        self.retain_order.is_stale(slot, ask)
    }

    /// At the range: whether a message is not for a page, because it is on its way to the asker live.
    pub(super) fn comes_live(&self, ask: &RetainedAsk) -> impl Fn(MessageId) -> bool {
        let slot = Storage::slot_of_log(&self.config, ask.log);
        let passed = self.retain_order.has_passed(slot, ask);
        move |message| {
            let change = || self.retain_order.recent(slot, message);
            passed && change().is_some_and(|change| change.is_behind(&ask.point))
        }
    }

    /// At the range: changes have been made.
    pub(super) fn answer_early(&mut self, now: Now) {
        if self.retain_order.early.is_empty() {
            return;
        }
        for (to, ask) in std::mem::take(&mut self.retain_order.early) {
            self.on_find_retained(now, to, ask);
        }
    }
}

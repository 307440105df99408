//! From where on a subscription gets what changes retained messages live, and up to where as copies: exactly once.
//!
//! When a subscription's routes stand, every core is asked how many changes it has sent to each range, before SUBACK.
//! What a core sends behind that count it routes by the new routes, so it comes live, and no page is to have it. What it
//! sent before may have been routed without them, and may still be on its way to the range, or from there into the log:
//! the page is to have that. A message that crosses its subscriber's SUBSCRIBE may come by both ways. A core answers
//! behind all messages of the changes that it counts, so that none comes live behind a copy of a later one.
//!
//! What is asked for in one turn shares a round of questions, one round follows the other; a core alone asks nobody.

use std::sync::Arc;

use super::Core;
use super::deadlines::Epoch;
use crate::changes::Point;
use crate::identity::{CoreId, Incarnation};
use crate::input::Outputs;
use crate::peer::Body;
use crate::tenant::SubscribeWait;
use crate::time::Now;

/// The rounds of one core.
#[derive(Default)]
pub(super) struct PointRounds {
    /// Who waits for the round that begins next.
    gathered: Vec<Waiter>,
    /// And for the one that is under way.
    round: Vec<Waiter>,
    /// Its number.
    number: u64,
    /// Cores that have not answered.
    missing: Vec<CoreId>,
    /// When they were asked.
    asked: Epoch,
    /// What was answered: by the range's log, then by core.
    changes: Vec<u64>,
    /// Answers that this core owes, itself included.
    owed: Vec<Owed>,
}

/// How many changes were sent is not said before their messages have left: one that waits for a look-up would come live
/// behind the copy of one that was published after it.
struct Owed {
    to: CoreId,
    round: u64,
    /// When it was asked.
    sent: Box<[u64]>,
    /// And the number of the next look-up.
    before: u64,
}

/// Who waits for a point.
#[derive(Clone, Copy)]
enum Waiter {
    /// A SUBSCRIBE whose routes stand.
    Request(SubscribeWait),
    /// A session that goes on with what it is owed, and by which number it knows the answer.
    Session(Incarnation, u64),
}

impl PointRounds {
    /// Requests under way.
    pub(super) fn len(&self) -> usize {
        self.missing.len()
    }
}

impl Core {
    /// The point as of now, if no other core has to be asked for it.
    pub(super) fn point_at_hand(&self) -> Option<Point> {
        let alone = self.config.cores == 1;
        alone.then(|| Point::new(Arc::from(self.retain_order.sent()), 1))
    }

    /// A SUBSCRIBE is to know its point: it has one more part to wait for.
    pub(super) fn find_point(&mut self, wait: SubscribeWait) {
        self.points.gathered.push(Waiter::Request(wait));
    }

    /// A session is to know the point of what it is owed, by a number.
    pub(super) fn find_point_again(&mut self, session: Incarnation, number: u64) {
        self.points.gathered.push(Waiter::Session(session, number));
    }

    /// A turn ends: a round begins for what was asked for in it, unless one is under way.
    pub(super) fn begin_points(&mut self) {
        let points = &mut self.points;
        if points.gathered.is_empty() || !points.missing.is_empty() {
            return;
        }
        std::mem::swap(&mut points.gathered, &mut points.round);
        points.number += 1;
        let waits = self.lookups.hold_change(self.lookups.next_number());
        points.missing.extend((0..self.config.cores).map(CoreId).filter(|core| waits || *core != self.id));
        let places = usize::from(self.config.logs()) * usize::from(self.config.cores);
        points.changes.resize(places, 0);
        self.ask_for_counts();
        let sent = self.retain_order.sent();
        if !waits {
            self.enter_counts(self.id, &sent);
        }
    }

    fn ask_for_counts(&mut self) {
        self.points.asked = self.deadlines.epoch;
        let round = self.points.number;
        for at in 0..self.points.missing.len() {
            self.post(self.points.missing[at], Body::CountChanges { round });
        }
    }

    /// A core asks how many changes were sent from here.
    pub(super) fn on_count_changes(&mut self, to: CoreId, round: u64) {
        let is_known = |owed: &Owed| owed.to == to && owed.round == round;
        if !self.points.owed.iter().any(is_known) {
            let (sent, before) = (self.retain_order.sent(), self.lookups.next_number());
            self.points.owed.push(Owed { to, round, sent, before });
        }
    }

    /// A turn ends: what is owed is answered, unless messages wait.
    pub(super) fn answer_counts(&mut self) {
        if self.points.owed.is_empty() {
            return;
        }
        for owed in std::mem::take(&mut self.points.owed) {
            if self.lookups.hold_change(owed.before) {
                self.points.owed.push(owed);
            } else {
                self.post(owed.to, Body::ChangesCounted { round: owed.round, sent: owed.sent });
            }
        }
    }

    /// Asks those again that have not answered in time. The number of requests repeated.
    pub(super) fn repeat_counts(&mut self, overdue: Epoch) -> usize {
        if self.points.missing.is_empty() || self.points.asked >= overdue {
            return 0;
        }
        self.ask_for_counts();
        self.points.missing.len()
    }

    fn enter_counts(&mut self, from: CoreId, sent: &[u64]) {
        let cores = usize::from(self.config.cores);
        let of_core = self.points.changes.iter_mut().skip(from.index()).step_by(cores);
        of_core.zip(sent).for_each(|(entry, sent)| *entry = *sent);
    }

    /// A core has said what it had sent.
    pub(super) fn on_changes_counted(
        &mut self,
        now: Now,
        from: CoreId,
        round: u64,
        sent: &[u64],
        out: &mut Outputs,
    ) {
        let points = &mut self.points;
        let Some(at) = points.missing.iter().position(|core| *core == from) else { return };
        if points.number != round {
            return;
        }
        points.missing.swap_remove(at);
        self.enter_counts(from, sent);
        if !self.points.missing.is_empty() {
            return;
        }
        let point = Point::new(Arc::from(&*self.points.changes), usize::from(self.config.cores));
        let mut round = std::mem::take(&mut self.points.round);
        for waiter in round.drain(..) {
            match waiter {
                Waiter::Request(wait) => {
                    if let Some(request) = self.request_mut(wait) {
                        request.point = Some(point.clone());
                    }
                    self.on_request_progress(wait, out);
                }
                Waiter::Session(session, number) => self.on_point(now, session, number, &point, out),
            }
        }
        self.points.round = round;
    }
}

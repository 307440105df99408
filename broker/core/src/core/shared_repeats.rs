//! A QoS 2 message of a shared subscription that its client sends again after the node ended: perhaps a member has it,
//! and whoever the strategy would choose now is another. Before one is chosen the cores are asked, one after the other,
//! whether a log of theirs has given it to a member.

use std::sync::Arc;

use mqtt::ReasonCode;

use super::Core;
use super::append::AnswerTo;
use crate::dist::GroupRoute;
use crate::identity::{ConnectionId, CoreId};
use crate::input::Outputs;
use crate::message::Publication;
use crate::peer::{Body, Reply, SharedRepeat};
use crate::time::Now;

impl Core {
    /// Begins to ask. The number of answers to wait for.
    pub(super) fn ask_for_repeat(
        &mut self,
        publication: &Publication<'_>,
        group: &GroupRoute,
        (publisher, reply): (Option<ConnectionId>, Option<Reply>),
    ) -> u16 {
        let message = Arc::clone(publication.share());
        let repeat = SharedRepeat { message, group: group.clone(), from: self.id, reply, publisher };
        self.post(CoreId(0), Body::SharedRepeat(Box::new(repeat)));
        u16::from(reply.is_some())
    }

    /// A core is asked: it answers, or asks the next.
    pub(super) fn on_shared_repeat(&mut self, repeat: Box<SharedRepeat>, out: &mut Outputs) {
        if self.has_shared(&repeat) {
            if let Some(reply) = repeat.reply {
                self.give_answer(AnswerTo { core: repeat.from, reply }, ReasonCode::SUCCESS, out);
            }
            return;
        }
        let next = CoreId(self.id.0 + 1);
        if next.0 < self.config.cores {
            self.post(next, Body::SharedRepeat(repeat));
        } else {
            self.post(repeat.from, Body::SharedUnknown(repeat));
        }
    }

    fn has_shared(&self, repeat: &SharedRepeat) -> bool {
        let Some(origin) = &repeat.message.origin else { return false };
        let mut slots = self.storage.slots();
        slots.any(|slot| self.storage.log(slot).inbox().machine().has_for_group(origin, &repeat.group.key))
    }

    /// No member has it: one is chosen.
    pub(super) fn on_shared_unknown(&mut self, now: Now, repeat: &SharedRepeat, out: &mut Outputs) {
        let SharedRepeat { message, group, reply, publisher, .. } = repeat;
        let state = self.shared.states.of(group.id);
        let publication = Publication::from(message);
        let waiting = self.give_to_member(now, &publication, group, &state, (*publisher, *reply), out);
        self.end_member_wait(*reply, waiting, out);
        self.slow_publisher(now, *publisher, None);
    }
}

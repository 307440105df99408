//! What the end of a whole node leaves certain: what was acknowledged, and what persistent sessions were owed.
//! The rest may have been kept, or not.

use broker_core::time::Mono;
use mqtt::QoS;

use super::{Ledger, LinkState, MessageId, Outcome};
use crate::history::{Link, Message, Moment};

impl Ledger {
    /// Every connection ends, and with them the sessions that do not outlive theirs.
    pub(super) fn on_crashed(&mut self, moment: Moment, at: Mono, messages: &[Message]) {
        for link in 0..self.links.len() {
            let quiet = self.quiet;
            let state = &mut self.links[link];
            // Whether the broker had read the DISCONNECT is not known.
            state.withdrew_will &= state.left.is_some_and(|left| left < quiet);
            if state.gone.is_none() {
                state.gone = Some(moment);
                self.on_over(Link(link as u32), moment, at);
            }
        }
        for index in 0..messages.len() {
            let id = MessageId(index as u32);
            if self.messages[index].begun.is_none() || self.messages[index].settled.is_some() {
                continue;
            }
            let lasts = messages[index].qos > QoS::AtMostOnce && !self.is_will_of_volatile(id, messages);
            let state = &mut self.messages[index];
            state.crashed = true;
            // A will has no identity by which a repeat would be known: one that was under way is published again.
            state.sends += u32::from(messages[index].will);
            if !lasts && state.outcome == Outcome::Accepted {
                state.outcome = Outcome::Unknown;
            }
        }
    }

    /// Such a will is written down nowhere.
    fn is_will_of_volatile(&self, id: MessageId, messages: &[Message]) -> bool {
        let carries = |link: &&LinkState| {
            let greeting = link.greeting.as_ref();
            greeting.and_then(|greeting| greeting.will).is_some_and(|will| will.message == id)
        };
        messages[id.0 as usize].will
            && self
                .links
                .iter()
                .find(carries)
                .is_some_and(|link| link.greeting.as_ref().is_some_and(|greeting| greeting.expiry == 0))
    }
}

//! The inbox range under a replica: what the log brings is applied, what a checkpoint wants is written.

use range::checkpoint::{Chunk, RestoreError};
use range::{Apply, Command, Effects, RangeId, StateMachine};

use super::{Effect, InboxRange, Outcome};
use crate::ranges::Committed;

impl StateMachine for InboxRange {
    type Effect = Effect;
    type Outcome = Outcome;

    fn apply(&mut self, apply: &Apply<'_>, command: &Command<'_>, effects: &mut Effects<Effect>) -> Outcome {
        let contained = |key: &[u8]| apply.has(key);
        let committed = Committed::new(apply, command, &contained);
        let mut list = std::mem::take(&mut self.effects);
        let outcome = self.execute(committed, command.body, &mut list);
        for effect in list.drain(..) {
            match effect {
                Effect::Held(message, times) => effects.retain_times(message.global(self.range), times),
                Effect::Released(message) => effects.release(message.global(self.range)),
                effect => effects.push(effect),
            }
        }
        self.effects = list;
        // What is committed cannot be refused, and a replica that skips it is not the same any more.
        outcome
            .unwrap_or_else(|error| panic!("entry {}: {error}: written by a later release?", apply.index.0))
    }

    fn references(&self, each: &mut dyn FnMut(range::MessageId)) {
        let messages = self.clients.iter().flat_map(|(_, client)| client.messages());
        messages.for_each(|message| each(message.global(self.range)));
    }

    fn checkpoint(&self, after: Option<&[u8]>, chunk: &mut Chunk) -> bool {
        self.write_keys(after, |key, value| {
            chunk.put(key, value);
            chunk.is_full()
        })
    }

    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
        self.restore_key(key, value).map_err(|_| RestoreError::Value)
    }
}

impl InboxRange {
    /// Which range it is.
    #[must_use]
    pub fn range(&self) -> RangeId {
        self.range
    }
}

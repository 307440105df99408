//! The retain range under a replica: what the log brings is applied, what a checkpoint wants is written.

use range::checkpoint::{Chunk, RestoreError};
use range::{Apply, Command, Effects, StateMachine};

use super::{Outcome, RetainRange};
use crate::ranges::Committed;

impl StateMachine for RetainRange {
    type Effect = ();
    type Outcome = Outcome;

    fn apply(&mut self, apply: &Apply<'_>, command: &Command<'_>, effects: &mut Effects<()>) -> Outcome {
        let contained = |key: &[u8]| apply.has(key);
        let committed = Committed::new(apply, command, &contained);
        // What is committed cannot be refused, and a replica that skips it is not the same any more.
        let change = self
            .execute(committed, command.body)
            .unwrap_or_else(|error| panic!("entry {}: {error}: written by a later release?", apply.index.0));
        if change.holds {
            effects.retain(committed.message().global(self.range));
        }
        if let Some(former) = change.released {
            effects.release(former.global(self.range));
        }
        change.outcome
    }

    fn references(&self, each: &mut dyn FnMut(range::MessageId)) {
        self.messages().for_each(|message| each(message.global(self.range)));
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

//! Hot path. What a service implements to be replicated: commands in, effects out.

use crate::checkpoint::{Chunk, RestoreError, Restored};
use crate::identity::{LogIndex, MessageId, Wall};

/// The state of one service for the keys of one range. Lives on the core that serves the range's log.
///
/// Deterministic: what [`StateMachine::apply`] does follows from the state and its arguments and from nothing
/// else. All state stands under keys, in the order of their bytes, so that it can be written piece by piece
/// while it changes. What is larger than a chunk of a checkpoint is cut over several keys by the service.
pub trait StateMachine {
    /// What the outside world is to do because of a command, on the leader and on every other replica. Not
    /// repeated by a restart: what must not be lost stands in the state.
    type Effect;
    /// What the proposer learns of its command.
    type Outcome;

    /// Executes one committed command. A key for which [`Apply::has`] is true already contains it, and is
    /// neither read nor changed; a command that touches several keys judges each by itself.
    fn apply(
        &mut self,
        apply: &Apply<'_>,
        command: &Command<'_>,
        effects: &mut Effects<Self::Effect>,
    ) -> Self::Outcome;

    /// Every reference to a payload that the state holds, each as often as it was retained.
    fn references(&self, each: &mut dyn FnMut(MessageId));

    /// Puts all keys after `after` (all, if none) with their values into the chunk, ascending, until it is
    /// full. True when nothing is left.
    fn checkpoint(&self, after: Option<&[u8]>, chunk: &mut Chunk) -> bool;

    /// Takes a key as a checkpoint has it. The state was empty at first.
    fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), RestoreError>;
}

/// What all commands of an entry share.
#[derive(Clone, Copy)]
pub struct Apply<'a> {
    /// The entry's place.
    pub index: LogIndex,
    /// The time at which it was proposed.
    pub wall: Wall,
    pub(crate) restored: &'a Restored,
}

impl Apply<'_> {
    /// May a key contain the entry already? False in the ordinary course of things: then no key needs to be
    /// asked about.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.index <= self.restored.greatest()
    }

    /// Does the state of this key contain the entry already, because a checkpoint brought it?
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        self.restored.has(key, self.index)
    }
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Its name; also that of its payload.
    pub id: MessageId,
    /// What the service encoded.
    pub body: &'a [u8],
    /// What came beside it. It stays readable by the id while the state holds a reference.
    pub payload: &'a [u8],
}

/// What a command leads to.
pub struct Effects<E> {
    effects: Vec<E>,
    /// Changes of the counts, in order.
    pub(crate) references: Vec<(MessageId, i32)>,
}

impl<E> Default for Effects<E> {
    fn default() -> Effects<E> {
        Effects { effects: Vec::new(), references: Vec::new() }
    }
}

impl<E> Effects<E> {
    /// Asks the outside world for something.
    pub fn push(&mut self, effect: E) {
        self.effects.push(effect);
    }

    /// The state holds one more reference to this payload. The command's own, or one it holds already.
    pub fn retain(&mut self, id: MessageId) {
        self.references.push((id, 1));
    }

    /// The same, so many times.
    pub fn retain_times(&mut self, id: MessageId, times: u32) {
        let times = i32::try_from(times).expect("fewer holders than two billion");
        self.references.push((id, times));
    }

    /// The state holds one reference less.
    pub fn release(&mut self, id: MessageId) {
        self.references.push((id, -1));
    }

    pub(crate) fn drain_into(&mut self, out: &mut Vec<E>) {
        out.append(&mut self.effects);
    }

    pub(crate) fn clear(&mut self) {
        self.effects.clear();
        self.references.clear();
    }
}

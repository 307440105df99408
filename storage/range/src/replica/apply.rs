//! Hot path. Committed entries, once and in order: into the state machine, and to whoever proposed them.

use raft::eraftpb::Entry;
use wal::Log;

use super::{Decision, Outputs, Replica};
use crate::checkpoint::Restored;
use crate::format::entry::{Commands, split_content};
use crate::identity::{LogIndex, MessageId, Term, Ticket, Wall};
use crate::machine::{Apply, Command, StateMachine};

impl<S: StateMachine> Replica<S> {
    pub(super) fn apply(&mut self, entries: &[Entry], log: &mut Log, out: &mut Outputs<S>) {
        if entries.is_empty() {
            return;
        }
        for entry in entries {
            self.apply_entry(entry, log, out);
        }
        self.raft.advance_apply_to(self.applied.0);
        let bytes_max = if self.is_alone() { 0 } else { self.config.recent_bytes_max };
        self.raft.mut_store().shrink(self.applied, bytes_max);
    }

    fn apply_entry(&mut self, entry: &Entry, log: &mut Log, out: &mut Outputs<S>) {
        let index = LogIndex(entry.index);
        assert_eq!(index, self.applied.next(), "entries are applied once, and in order");
        let tickets = self.tickets_of(index, Term(entry.term), out);
        let (batch, payloads) = split_content(&entry.data).expect("checked when it came");
        let commands = Commands::decode(batch, payloads).expect("checked when it came");
        self.wall = self.wall.max(commands.wall().unwrap_or_default());
        let nothing = Restored::default();
        let apply = Apply { index, wall: commands.wall().unwrap_or_default(), restored: &nothing };
        for ordinal in 0..commands.count() {
            let (body, payload) = commands.get(ordinal);
            let id = MessageId { origin: self.range, index, ordinal: ordinal_of(ordinal) };
            let outcome = self.machine.apply(&apply, &Command { id, body, payload }, &mut self.effects);
            if let Some(ticket) = tickets.get(ordinal) {
                out.decided.push((*ticket, Decision::Applied { id, outcome }));
            }
        }
        self.applied = index;
        self.tally.entries += 1;
        self.tally.commands += commands.count() as u64;
        self.count_references(log);
        self.effects.drain_into(&mut out.effects);
    }

    /// The tickets of the entry that is being applied, if this node proposed it in this term. What was
    /// proposed in its place, or in an earlier term behind it, is lost for good: along a log terms ascend.
    fn tickets_of(&mut self, index: LogIndex, term: Term, out: &mut Outputs<S>) -> Vec<Ticket> {
        while let Some(first) = self.proposed.front()
            && (first.index <= index || first.term < term)
        {
            let first = self.proposed.pop_front().expect("there is one");
            self.proposed_bytes -= first.bytes;
            if (first.index, first.term) == (index, term) {
                return first.tickets;
            }
            out.decided.extend(first.tickets.into_iter().map(|ticket| (ticket, Decision::Dropped)));
        }
        Vec::new()
    }

    /// Brings the counts of the payloads up to date; what nobody refers to, and is no Raft log, is dead.
    fn count_references(&mut self, log: &mut Log) {
        let first = self.raft.raft.store().first();
        let mut references = std::mem::take(&mut self.effects.references);
        for (id, change) in references.drain(..) {
            assert_eq!(id.origin, self.range, "payloads of other ranges come with splits and merges");
            let (references, place) = self.entries.count(id.index, change);
            if references == 0 && id.index.0 < first {
                self.entries.remove(id.index);
                log.dead(place.position, place.bytes);
            }
        }
        self.effects.references = references;
    }
}

/// The time of an entry's commands; 0 if it has none.
pub(super) fn wall_of(entry: &Entry) -> Wall {
    let (batch, payloads) = split_content(&entry.data).expect("checked when it came");
    Commands::decode(batch, payloads).expect("checked when it came").wall().unwrap_or_default()
}

/// Ordinals are bounded by a record's size.
pub(super) fn ordinal_of(at: usize) -> u32 {
    u32::try_from(at).expect("fewer commands than bytes")
}

/// Executes an entry that recovery found, for its state alone.
pub(super) fn replay<S: StateMachine>(
    machine: &mut S,
    effects: &mut crate::machine::Effects<S::Effect>,
    restored: &Restored,
    (range, index): (wal::RangeId, LogIndex),
    commands: &Commands<'_>,
) -> Wall {
    let wall = commands.wall().unwrap_or_default();
    let apply = Apply { index, wall, restored };
    for ordinal in 0..commands.count() {
        let (body, payload) = commands.get(ordinal);
        let id = MessageId { origin: range, index, ordinal: ordinal_of(ordinal) };
        machine.apply(&apply, &Command { id, body, payload }, effects);
    }
    effects.clear();
    wall
}

//! A replica at its begin: new, or from what a recovered log and a checkpoint hold of it.

use std::collections::VecDeque;

use raft::eraftpb::{Entry, HardState};
use raft::{RawNode, StateRole};
use wal::{Log, Lsn, RangeId};

use super::apply::{replay, wall_of};
use super::checkpoint::Checkpoint;
use super::persist::read_entry;
use super::{Config, Replica, Tally};
use crate::checkpoint::{Restored, restore};
use crate::entries::Entries;
use crate::format::entry::{Commands, EntryHeader};
use crate::format::state::StateRecord;
use crate::identity::{LogIndex, MessageId, ReplicaId, Wall};
use crate::machine::{Effects, StateMachine};
use crate::raft_log::RaftLog;
use crate::recovery::{OpenError, ReplicaRecords};

impl<S: StateMachine> Replica<S> {
    /// A replica that no log knows yet, of a group that begins with these voters; `machine` is empty. Nothing
    /// is written before it has something to say.
    ///
    /// # Panics
    /// When it is not one of the voters.
    #[must_use]
    pub fn new(
        config: Config,
        range: RangeId,
        id: ReplicaId,
        voters: &[ReplicaId],
        machine: S,
    ) -> Replica<S> {
        assert!(voters.contains(&id) && id.0 != 0, "a new replica votes");
        let state = StateRecord { replica: id, voters: voters.to_vec(), ..StateRecord::default() };
        let log = RaftLog::new(HardState::default(), voters, state.truncated);
        Replica::start(config, range, state, log, LogIndex(0), machine)
    }

    /// The replica that a log knows. `machine` is empty; `checkpoint` is what
    /// [`ReplicaRecords::checkpoint`] names. Replays what is committed, and tells the log what lives.
    pub fn open(
        config: Config,
        range: RangeId,
        mut records: ReplicaRecords,
        checkpoint: Option<&[u8]>,
        mut machine: S,
        log: &mut Log,
    ) -> Result<Replica<S>, OpenError> {
        let (state, state_place) = records.state.take().ok_or(OpenError::NoState)?;
        records.settle();
        let mut raft_log = RaftLog::new(HardState::default(), &state.voters, state.truncated);
        let mut entries = Entries::default();
        for found in records.log(&state.truncated)? {
            raft_log.restore(found.term, found.sequence);
            entries.insert(found.index, found.place);
        }
        let (mut wall, mut restored) = (Wall(0), Restored::default());
        if state.checkpoint != 0 {
            let bytes = checkpoint.ok_or(OpenError::NoCheckpoint(state.checkpoint))?;
            let expected = (config.cluster, range, state.checkpoint);
            let (header, keys) = restore(bytes, expected, &mut machine).map_err(OpenError::Checkpoint)?;
            (wall, restored) = (header.wall, keys);
        }
        let commit = committed(&state, &raft_log, &records, &restored)?;
        for index in state.checkpoint_index.0 + 1..=commit.0 {
            let index = LogIndex(index);
            wall = wall.max(replay_entry(log, &entries, (range, index), &restored, &mut machine)?);
        }
        raft_log.hard_state =
            HardState { term: state.term.0, vote: state.vote.0, commit: commit.0, ..HardState::default() };
        let uncommitted = uncommitted(log, &entries, (commit, raft_log.last()))?;
        wall = uncommitted.iter().map(wall_of).fold(wall, Wall::max);
        raft_log.restore_recent(uncommitted);
        count_references(&machine, range, &mut entries, &records)?;
        let mut replica = Replica::start(config, range, state, raft_log, commit, machine);
        replica.state_place = Some(state_place);
        replica.sequence = records.sequence;
        replica.wall = wall;
        replica.entries = entries;
        replica.say_what_lives(log, &records);
        Ok(replica)
    }

    fn start(
        config: Config,
        range: RangeId,
        state: StateRecord,
        log: RaftLog,
        applied: LogIndex,
        machine: S,
    ) -> Replica<S> {
        let raft_config = raft::Config {
            id: state.replica.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: applied.0,
            max_size_per_msg: config.message_bytes,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&raft_config, log, &logger).expect("the limits make sense");
        let mut replica = Replica {
            range,
            config,
            raft,
            machine,
            batches: VecDeque::new(),
            proposed: VecDeque::new(),
            proposed_bytes: 0,
            writing: None,
            persisting: VecDeque::new(),
            last_lsn: Lsn::NONE,
            sequence: 0,
            state,
            state_place: None,
            applied,
            tally: Tally::default(),
            wall: Wall(0),
            entries: Entries::default(),
            effects: Effects::default(),
            checkpoint: Checkpoint::default(),
            everywhere: LogIndex(0),
            idle_ticks: 0,
            asleep: false,
            disk_full: false,
            metadata: Vec::new(),
        };
        if replica.is_alone() {
            replica.raft.campaign().expect("a lone voter elects itself");
            assert_eq!(replica.raft.raft.state, StateRole::Leader, "a lone voter wins");
        }
        replica.draw_timeout();
        replica
    }

    fn say_what_lives(&self, log: &mut Log, records: &ReplicaRecords) {
        let store = self.raft.raft.store();
        for found in &records.entries {
            if self.place(found.index).is_some_and(|place| place == found.place) {
                log.live(found.place.position, found.place.bytes);
            }
        }
        let place = self.state_place.expect("it was found");
        log.live(place.position, place.bytes);
        assert!(store.first() <= self.applied.0 + 1, "what is applied is behind the truncated index");
    }
}

/// How far the log is known to be committed. All of it, if nobody else has a say.
fn committed(
    state: &StateRecord,
    log: &RaftLog,
    records: &ReplicaRecords,
    restored: &Restored,
) -> Result<LogIndex, OpenError> {
    let last = LogIndex(log.last());
    // A checkpoint has only what was committed, and an entry only what it knew to be.
    let needed = restored.greatest().max(state.checkpoint_index);
    if needed > last {
        return Err(OpenError::LogTooShort { last, needed });
    }
    let alone = state.voters == [state.replica];
    Ok(if alone { last } else { records.commit.min(last).max(needed).max(state.truncated.index) })
}

fn replay_entry<S: StateMachine>(
    log: &Log,
    entries: &Entries,
    (range, index): (RangeId, LogIndex),
    restored: &Restored,
    machine: &mut S,
) -> Result<Wall, OpenError> {
    let damaged = OpenError::Damaged(index);
    let place = entries.get(index).ok_or_else(|| damaged.clone())?.place;
    let read = log.read(place.position).map_err(|_| damaged.clone())?;
    let (header, batch) = EntryHeader::decode(read.metadata()).map_err(|_| damaged.clone())?;
    let commands = Commands::decode(batch, read.payload()).map_err(|_| damaged.clone())?;
    if header.index != index {
        return Err(damaged);
    }
    let mut effects = Effects::default();
    Ok(replay(machine, &mut effects, restored, (range, index), &commands))
}

/// The entries Raft may still have to hand out.
fn uncommitted(
    log: &Log,
    entries: &Entries,
    (commit, last): (LogIndex, u64),
) -> Result<Vec<Entry>, OpenError> {
    (commit.0 + 1..=last)
        .map(|index| {
            let index = LogIndex(index);
            let entry = entries.get(index).and_then(|record| read_entry(log, record.place, index));
            entry.ok_or(OpenError::Damaged(index))
        })
        .collect()
}

/// Counts what the state refers to, be it Raft log or before it.
fn count_references<S: StateMachine>(
    machine: &S,
    range: RangeId,
    entries: &mut Entries,
    records: &ReplicaRecords,
) -> Result<(), OpenError> {
    let mut missing: Option<MessageId> = None;
    machine.references(&mut |id| {
        if id.origin != range {
            missing.get_or_insert(id);
        } else if let Some(record) = entries.get_mut(id.index) {
            record.references += 1;
        } else if let Some(found) = records.find(id.index) {
            entries.insert(id.index, found.place);
            entries.count(id.index, 1);
        } else {
            missing.get_or_insert(id);
        }
    });
    missing.map_or(Ok(()), |id| Err(OpenError::PayloadMissing(id)))
}

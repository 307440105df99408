//! Hot path. Into the log, and back from it.

use raft::eraftpb::Entry;
use wal::{AppendError, Class, Log, Lsn, Mono, NewRecord};

use super::{Outputs, Persisting, Replica};
use crate::entries::Place;
use crate::format::entry::{Commands, EntryHeader, join_content, split_content};
use crate::format::{KIND_ENTRY, KIND_STATE, VERSION};
use crate::identity::{LogIndex, Term};
use crate::machine::StateMachine;
use crate::raft_log::Fetch;

impl<S: StateMachine> Replica<S> {
    /// Writes the present Ready, as far as the log takes it. What is left waits for the next turn, and
    /// refuses new proposals meanwhile.
    pub(super) fn write(&mut self, now: Mono, log: &mut Log) {
        let Some(mut writing) = self.writing.take() else { return };
        if writing.state && self.write_state(now, log).is_ok() {
            writing.state = false;
        }
        while !writing.state
            && let Some((entry, sequence)) = writing.entries.front()
        {
            if self.write_entry(now, log, entry, *sequence).is_err() {
                break;
            }
            writing.entries.pop_front();
        }
        if writing.state || !writing.entries.is_empty() {
            self.writing = Some(writing);
            return;
        }
        let (number, messages) = (writing.number, writing.messages);
        self.persisting.push_back(Persisting { number, lsn: self.last_lsn, messages });
    }

    fn write_entry(
        &mut self,
        now: Mono,
        log: &mut Log,
        entry: &Entry,
        sequence: u64,
    ) -> Result<(), AppendError> {
        let (batch, payload) = split_content(&entry.data).expect("checked when it came");
        let index = LogIndex(entry.index);
        let commit = LogIndex(self.raft.raft.raft_log.committed);
        self.metadata.clear();
        EntryHeader { index, term: Term(entry.term), sequence, commit }.encode(&mut self.metadata);
        self.metadata.extend_from_slice(batch);
        let record = NewRecord {
            range: self.range,
            kind: KIND_ENTRY,
            version: VERSION,
            metadata: &self.metadata,
            payload,
        };
        let class = if batch.is_empty() { Class::Control } else { Class::Ordinary };
        let appended = match log.append(now, class, &record) {
            // Raft has it already, and commands behind it may give space back. One turn's worth at most: the
            // next ordinary proposals are refused.
            Err(AppendError::DiskFull | AppendError::SegmentsMax) => {
                self.disk_full = true;
                log.append(now, Class::Control, &record)?
            }
            Err(AppendError::TooLarge { bytes, bytes_max }) => {
                panic!(
                    "an entry of {bytes} bytes: range.record_bytes_max is above wal.record_bytes_max, {bytes_max}"
                )
            }
            result => result?,
        };
        self.last_lsn = appended.lsn;
        self.checkpoint.log_bytes += u64::from(appended.bytes);
        let mark = self.raft.raft.store().mark(index).expect("it is in the log");
        assert_eq!(mark.sequence, sequence, "nothing is overwritten before it is written");
        self.entries.insert(index, Place { position: appended.position, bytes: appended.bytes });
        Ok(())
    }

    /// Writes the state as it is now, in the place of the former record.
    pub(super) fn write_state(&mut self, now: Mono, log: &mut Log) -> Result<Lsn, AppendError> {
        self.state.sequence = self.sequence + 1;
        self.metadata.clear();
        self.state.encode(&mut self.metadata);
        let record = NewRecord {
            range: self.range,
            kind: KIND_STATE,
            version: VERSION,
            metadata: &self.metadata,
            payload: &[],
        };
        let appended = log.append(now, Class::Control, &record)?;
        self.sequence += 1;
        self.last_lsn = appended.lsn;
        let place = Place { position: appended.position, bytes: appended.bytes };
        if let Some(former) = self.state_place.replace(place) {
            log.dead(former.position, former.bytes);
        }
        Ok(appended.lsn)
    }

    /// Tells Raft what is durable, and sends what waited for it.
    pub(super) fn on_durable(&mut self, log: &Log, out: &mut Outputs<S>) {
        let durable = log.durable();
        let mut number = None;
        while self.persisting.front().is_some_and(|persisting| persisting.lsn <= durable) {
            let persisting = self.persisting.pop_front().expect("there is one");
            number = Some(persisting.number);
            self.send(&persisting.messages, out);
        }
        if let Some(number) = number {
            self.raft.on_persist_ready(number);
        }
    }

    /// Reads back the entries a lagging follower needs.
    pub(super) fn fetch(&mut self, log: &Log) {
        for fetch in self.raft.mut_store().take_fetches() {
            let entries = self.read_entries(log, &fetch);
            self.raft.mut_store().fetched = entries;
            self.raft.on_entries_fetched(fetch.context);
            self.raft.mut_store().fetched = Vec::new();
        }
    }

    fn read_entries(&self, log: &Log, fetch: &Fetch) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in (fetch.first..fetch.end).map(LogIndex) {
            let Some(entry) = self.place(index).and_then(|place| read_entry(log, place, index)) else {
                break;
            };
            bytes += entry.data.len() as u64;
            entries.push(entry);
            if bytes >= fetch.bytes_max {
                break;
            }
        }
        entries
    }
}

/// The entry whose record is at a place; none if the disk has changed under us.
pub(super) fn read_entry(log: &Log, place: Place, index: LogIndex) -> Option<Entry> {
    let read = log.read(place.position).ok()?;
    let (header, batch) = EntryHeader::decode(read.metadata()).ok()?;
    if header.index != index {
        return None;
    }
    Commands::decode(batch, read.payload()).ok()?;
    let data = join_content(batch, read.payload()).into();
    Some(Entry { index: index.0, term: header.term.0, data, ..Entry::default() })
}

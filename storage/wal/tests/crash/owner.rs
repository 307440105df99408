//! A replica in miniature: it appends records, revokes them by tombstones, remembers where they are, and
//! after a restart rebuilds itself from what recovery shows. Beside it stands the journal: what was appended
//! under which LSN, which no crash touches, and from which follows what must be there.

use std::collections::{BTreeMap, BTreeSet};

use wal::log::reclaim::Candidate;
use wal::recovery::Record;
use wal::simulated_disk::Random;
use wal::{Appended, Log, Lsn, Position, RangeId, Recovery};

pub const KIND_DATA: u16 = 1;
pub const KIND_TOMBSTONE: u16 = 2;
const VERSION: u16 = 7;

/// What was appended, as a pure function of its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub id: u64,
    pub range: RangeId,
    pub kind: u16,
    pub metadata: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Content {
    pub fn data(id: u64, range: RangeId, bytes: usize) -> Content {
        let mut random = Random::new(id);
        let payload = (0..bytes).map(|_| random.number().to_le_bytes()[0]).collect();
        Content { id, range, kind: KIND_DATA, metadata: id.to_le_bytes().to_vec(), payload }
    }

    pub fn tombstone(id: u64, range: RangeId, killed: &[u64]) -> Content {
        let payload = killed.iter().flat_map(|id| id.to_le_bytes()).collect();
        Content { id, range, kind: KIND_TOMBSTONE, metadata: id.to_le_bytes().to_vec(), payload }
    }

    pub fn record(&self) -> wal::NewRecord<'_> {
        wal::NewRecord {
            range: self.range,
            kind: self.kind,
            version: VERSION,
            metadata: &self.metadata,
            payload: &self.payload,
        }
    }

    fn killed(payload: &[u8]) -> Vec<u64> {
        payload.as_chunks::<8>().0.iter().map(|id| u64::from_le_bytes(*id)).collect()
    }
}

/// Where a record is, and until when a tombstone is needed.
#[derive(Clone, Copy, Debug)]
struct Place {
    position: Position,
    bytes: u32,
    lsn: Lsn,
    range: RangeId,
    kind: u16,
}

/// What the replica knows; gone with the process.
#[derive(Default)]
pub struct Owner {
    places: BTreeMap<u64, Place>,
    /// Tombstones that are not durable yet, and whom they kill.
    dying: Vec<(Lsn, u64, Vec<u64>)>,
    /// Tombstone → it is needed while recovery might show a record with this LSN.
    needed: BTreeMap<u64, Lsn>,
}

impl Owner {
    pub fn on_appended(&mut self, content: &Content, appended: Appended) {
        let Appended { lsn, position, bytes } = appended;
        let place = Place { position, bytes, lsn, range: content.range, kind: content.kind };
        self.places.insert(content.id, place);
        if content.kind == KIND_TOMBSTONE {
            self.dying.push((lsn, content.id, Content::killed(&content.payload)));
        }
    }

    /// Data records no tombstone was appended for.
    pub fn unrevoked(&self) -> Vec<u64> {
        let dying: BTreeSet<u64> = self.dying.iter().flat_map(|(_, _, ids)| ids.iter().copied()).collect();
        let data = self.places.iter().filter(|(id, place)| place.kind == KIND_DATA && !dying.contains(id));
        data.map(|(id, _)| *id).collect()
    }

    pub fn range_of(&self, id: u64) -> RangeId {
        self.places[&id].range
    }

    pub fn position_of(&self, id: u64) -> Position {
        self.places[&id].position
    }

    /// What tombstones up to here revoke dies.
    pub fn on_durable(&mut self, log: &mut Log, durable: Lsn) {
        let (durable_now, later) =
            std::mem::take(&mut self.dying).into_iter().partition(|(lsn, ..)| *lsn <= durable);
        self.dying = later;
        for (lsn, tombstone, ids) in durable_now {
            let mut needed = lsn;
            for id in ids {
                let Some(place) = self.places.remove(&id) else { continue };
                needed = needed.max(place.lsn);
                log.dead(place.position, place.bytes);
            }
            self.needed.insert(tombstone, needed);
        }
    }

    /// Tombstones die when no file holds what they revoke.
    pub fn sweep(&mut self, log: &mut Log, oldest: Lsn) {
        let places = &mut self.places;
        self.needed.retain(|tombstone, needed| {
            if *needed >= oldest {
                return true;
            }
            if let Some(place) = places.remove(tombstone) {
                log.dead(place.position, place.bytes);
            }
            false
        });
    }

    /// The range has left: nothing of it lives.
    pub fn forget(&mut self, log: &mut Log, range: RangeId) {
        self.dying
            .retain(|(_, tombstone, _)| self.places.get(tombstone).is_none_or(|place| place.range != range));
        self.places.retain(|_, place| {
            if place.range == range {
                log.dead(place.position, place.bytes);
            }
            place.range != range
        });
    }

    pub fn is_live(&self, candidate: &Candidate<'_>) -> bool {
        let id = u64::from_le_bytes(candidate.metadata.try_into().expect("metadata is an id"));
        self.places.get(&id).is_some_and(|place| place.position == candidate.position)
    }

    /// Reclaiming has moved a record; answers whose.
    pub fn on_moved(&mut self, from: Position, to: Appended) -> u64 {
        let moved = self.places.iter_mut().find(|(_, place)| place.position == from);
        let (id, place) = moved.expect("only what lives is moved");
        (place.position, place.bytes, place.lsn) = (to.position, to.bytes, to.lsn);
        *id
    }

    /// A replica's start: the records in order, a copy replacing what it is a copy of.
    pub fn rebuild(recovery: &Recovery<'_>) -> Owner {
        let mut owner = Owner::default();
        let mut newest: BTreeMap<u64, Lsn> = BTreeMap::new();
        let mut killed = Vec::new();
        for record in recovery.records() {
            let id = id_of(&record);
            let Record { header, position, bytes, .. } = record;
            let place = Place { position, bytes, lsn: header.lsn, range: header.range, kind: header.kind };
            owner.places.insert(id, place);
            newest.insert(id, header.lsn);
            if header.kind == KIND_TOMBSTONE {
                killed.push((id, header.lsn, Content::killed(record.payload)));
            }
        }
        for (tombstone, lsn, ids) in killed {
            let needed = ids.iter().filter_map(|id| newest.get(id)).max().copied();
            owner.needed.insert(tombstone, needed.unwrap_or(Lsn::NONE).max(lsn));
            for id in ids {
                owner.places.remove(&id);
            }
        }
        owner
    }

    /// Tells a resumed log what lives.
    pub fn announce(&self, log: &mut Log) {
        for place in self.places.values() {
            log.live(place.position, place.bytes);
        }
        log.start_reclaiming();
    }

    /// Data records that live.
    pub fn data(&self) -> BTreeSet<u64> {
        self.places.iter().filter(|(_, place)| place.kind == KIND_DATA).map(|(id, _)| *id).collect()
    }
}

pub fn id_of(record: &Record<'_>) -> u64 {
    u64::from_le_bytes(record.metadata.try_into().expect("metadata is an id"))
}

/// What happened, whatever the disk says.
#[derive(Default)]
pub struct Journal {
    contents: BTreeMap<u64, Content>,
    /// LSN → which record, and whether as a copy. LSNs that are missing are the log's own.
    records: BTreeMap<Lsn, (u64, bool)>,
    last: Lsn,
    /// Ranges that have left: up to where, and the first table after.
    forgotten: Vec<(RangeId, Lsn, Option<Lsn>)>,
}

impl Journal {
    pub fn on_appended(&mut self, content: &Content, lsn: Lsn) {
        self.note_tables(lsn.previous());
        self.last = lsn;
        self.contents.insert(content.id, content.clone());
        self.records.insert(lsn, (content.id, false));
    }

    pub fn on_moved(&mut self, id: u64, lsn: Lsn) {
        self.note_tables(lsn.previous());
        self.last = lsn;
        self.records.insert(lsn, (id, true));
    }

    /// Everything up to here has happened: an LSN nobody was told of is a table's.
    pub fn note_tables(&mut self, last: Lsn) {
        if last > self.last {
            let first = self.last.next();
            self.forgotten.iter_mut().for_each(|(_, _, table)| *table = table.or(Some(first)));
            self.last = last;
        }
    }

    pub fn on_forgotten(&mut self, range: RangeId, last: Lsn) {
        self.note_tables(last);
        self.forgotten.push((range, last, None));
    }

    pub fn content(&self, id: u64) -> &Content {
        &self.contents[&id]
    }

    /// Data that lives if the log ends at `last`.
    fn expected(&self, last: Lsn) -> BTreeSet<u64> {
        let mut expected = BTreeSet::new();
        for (lsn, (id, _)) in self.records.range(..=last) {
            let content = &self.contents[id];
            let has_left = |(range, left, table): &(RangeId, Lsn, Option<Lsn>)| {
                *range == content.range && lsn <= left && table.is_some_and(|table| table <= last)
            };
            if self.forgotten.iter().any(has_left) {
                continue;
            }
            if content.kind == KIND_DATA {
                expected.insert(*id);
            }
        }
        for (id, _) in self.records.range(..=last).map(|(_, record)| record) {
            if self.contents[id].kind == KIND_TOMBSTONE {
                for id in Content::killed(&self.contents[id].payload) {
                    expected.remove(&id);
                }
            }
        }
        expected
    }

    /// Panics where the log is not what it should be.
    pub fn check(&self, recovery: &Recovery<'_>, acknowledged: Lsn) {
        let last = recovery.next_lsn().previous();
        assert!(last >= acknowledged, "acknowledged to {acknowledged}, recovered to {last}");
        assert!(last <= self.last, "appended to {}, recovered to {last}", self.last);
        assert!(recovery.durable() <= acknowledged, "a record says more is durable than ever was");
        let mut before = Lsn::NONE;
        for record in recovery.records() {
            let lsn = record.header.lsn;
            assert!(lsn > before, "records come in order: {lsn} after {before}");
            before = lsn;
            let (id, moved) = *self.records.get(&lsn).expect("an LSN that the log gave");
            let content = &self.contents[&id];
            assert_eq!(id, id_of(&record), "another record has LSN {lsn}");
            assert_eq!((content.range, content.kind), (record.header.range, record.header.kind));
            assert_eq!((VERSION, moved), (record.header.version, record.header.moved));
            assert!(content.payload == record.payload, "record {id} at {lsn} has another payload");
        }
        let (expected, found) = (self.expected(last), Owner::rebuild(recovery).data());
        let lost: Vec<_> = expected.difference(&found).collect();
        let risen: Vec<_> = found.difference(&expected).collect();
        assert!(lost.is_empty() && risen.is_empty(), "lost {lost:?}, risen from the dead {risen:?}");
    }

    /// The log ends here; what was beyond has never been.
    pub fn cut(&mut self, last: Lsn) {
        self.records.split_off(&last.next());
        self.last = last;
        self.forgotten.retain(|(_, left, _)| *left <= last);
        for (_, _, table) in &mut self.forgotten {
            *table = table.filter(|table| *table <= last);
        }
        // What was forgotten and is in no table has not been forgotten.
        self.forgotten.retain(|(_, _, table)| table.is_some());
    }
}

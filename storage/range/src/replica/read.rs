//! Hot path. Payloads by their ids, and what reclaiming asks and tells.

use std::ops::{Deref, Range};

use wal::format::RecordHeader;
use wal::{Appended, Log, Mono, Position, Read, SealedRecord, Window};

use super::Replica;
use crate::entries::Place;
use crate::format::entry::{EntryHeader, HEADER_BYTES, find_command};
use crate::format::{KIND_ENTRY, KIND_STATE};
use crate::identity::{LogIndex, MessageId};
use crate::machine::StateMachine;

/// Why a payload cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// No reference is held to it, or its entry has no such command.
    Unknown(MessageId),
    /// The log cannot read its own record: the disk has changed under us.
    Log(wal::ReadError),
    /// The record is not the one it should be.
    Damaged(MessageId),
}

/// A payload where it was written.
pub struct Payload<'a> {
    read: Read<'a>,
    range: Range<usize>,
}

/// A command where it was written: its body, and its payload beside it.
pub struct Stored<'a> {
    read: Read<'a>,
    body: Range<usize>,
    payload: Range<usize>,
}

impl Stored<'_> {
    /// What the service encoded.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.read.metadata()[self.body.clone()]
    }

    /// What came beside it.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.read.payload()[self.payload.clone()]
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.read.payload()[self.range.clone()]
    }
}

impl Payload<'_> {
    /// The payload as something that can be kept, if it is in a sealed segment: the record, and where in its
    /// payload this one is. In the tail it is to be copied.
    #[must_use]
    pub fn into_sealed(self) -> Option<(SealedRecord, Range<usize>)> {
        match self.read {
            Read::Sealed(record) => Some((record, self.range)),
            Read::Tail { .. } => None,
        }
    }
}

impl<S: StateMachine> Replica<S> {
    /// The payload of a message the state refers to, or of an entry that is Raft log.
    pub fn read<'a>(&self, log: &'a Log, id: MessageId) -> Result<Payload<'a>, ReadError> {
        let Stored { read, payload: range, .. } = self.read_command(log, id)?;
        Ok(Payload { read, range })
    }

    /// The same with the command that it came with. Costs the same however many commands the entry has.
    pub fn read_command<'a>(&self, log: &'a Log, id: MessageId) -> Result<Stored<'a>, ReadError> {
        let place = (id.origin == self.range).then(|| self.place(id.index)).flatten();
        let place = place.ok_or(ReadError::Unknown(id))?;
        let read = log.read(place.position).map_err(ReadError::Log)?;
        let damaged = ReadError::Damaged(id);
        let (header, batch) = EntryHeader::decode(read.metadata()).map_err(|_| damaged)?;
        if header.index != id.index {
            return Err(damaged);
        }
        let found = find_command(batch, read.payload().len(), id.ordinal).map_err(|_| damaged)?;
        let (body, payload) = found.ok_or(ReadError::Unknown(id))?;
        let body = HEADER_BYTES + body.start..HEADER_BYTES + body.end;
        Ok(Stored { read, body, payload })
    }

    /// Whether [`Replica::read_command`] would wait for the disk; if so, a window of the log that it waits for. See
    /// [`Log::at_hand`].
    pub fn at_hand(&self, now: Mono, log: &Log, id: MessageId) -> Result<(), Window> {
        let place = (id.origin == self.range).then(|| self.place(id.index)).flatten();
        place.map_or(Ok(()), |place| log.at_hand(now, place.position, place.bytes))
    }

    /// Where an entry's record is, if anything needs it: it is Raft log, or a payload of it is referred to.
    pub(super) fn place(&self, index: LogIndex) -> Option<Place> {
        self.entries.get(index).map(|record| record.place)
    }

    /// For [`Log::reclaim`]: is this record of the range still needed?
    #[must_use]
    pub fn is_live(&self, position: Position, header: &RecordHeader, metadata: &[u8]) -> bool {
        let place = match header.kind {
            KIND_ENTRY => EntryHeader::decode(metadata).ok().and_then(|(header, _)| self.place(header.index)),
            KIND_STATE => self.state_place,
            _ => None,
        };
        place.is_some_and(|place| place.position == position)
    }

    /// [`Log::reclaim`] has moved a record of the range that was live. To be called before the log changes
    /// again.
    ///
    /// # Panics
    /// When the record was not live.
    pub fn on_moved(&mut self, log: &Log, from: Position, to: &Appended) {
        let place = Place { position: to.position, bytes: to.bytes };
        if self.state_place.is_some_and(|place| place.position == from) {
            self.state_place = Some(place);
            return;
        }
        let read = log.read(to.position).expect("it was appended just now");
        let (header, _) = EntryHeader::decode(read.metadata()).expect("an entry of this range");
        let record = self.entries.get_mut(header.index).expect("a live record has a place");
        assert_eq!(record.place.position, from, "a live record moves from its place");
        record.place = place;
    }
}

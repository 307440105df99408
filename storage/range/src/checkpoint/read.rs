//! Reading a checkpoint back, and remembering which entries its keys contain already.

use wal::{ClusterId, RangeId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{FLAG_LAST, HEADER_BYTES, Header, MAGIC, VERSION};
use crate::format::{DecodeError, Reader};
use crate::identity::{LogIndex, Term, Wall};
use crate::machine::StateMachine;

/// Why a state cannot be had from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// No checkpoint of this format.
    Header,
    /// A version this crate does not know.
    Version(u32),
    /// It is of another cluster or range, or another one than was asked for.
    Foreign(Header),
    /// The chunk that begins at this byte is damaged, or the file ends there.
    Chunk(u64),
    /// The state machine does not know what to make of a value.
    Value,
}

impl From<DecodeError> for RestoreError {
    fn from(_: DecodeError) -> RestoreError {
        RestoreError::Value
    }
}

/// Which keys stand at which index since a state was restored. Empty otherwise, and as soon as the log has
/// passed the greatest.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// Ascending: up to this key (none: all), at this index.
    ends: Vec<(Option<Vec<u8>>, LogIndex)>,
    greatest: LogIndex,
}

impl Restored {
    /// Hot path. Does the restored state of the key contain the entry?
    #[must_use]
    pub fn has(&self, key: &[u8], index: LogIndex) -> bool {
        if index > self.greatest {
            return false;
        }
        let at = self.ends.partition_point(|(end, _)| end.as_deref().is_some_and(|end| end < key));
        self.ends.get(at).is_some_and(|(_, stands)| index <= *stands)
    }

    /// The greatest index any key stands at.
    #[must_use]
    pub fn greatest(&self) -> LogIndex {
        self.greatest
    }
}

/// Reads a whole checkpoint into an empty state machine. `expected` is what the header must be of: cluster,
/// range and number.
pub fn restore<S: StateMachine>(
    bytes: &[u8],
    expected: (ClusterId, RangeId, u64),
    machine: &mut S,
) -> Result<(Header, Restored), RestoreError> {
    let (header, seed) = header(bytes)?;
    if (header.cluster, header.range, header.number) != expected {
        return Err(RestoreError::Foreign(header));
    }
    let restored = walk(bytes, seed, |key, value| machine.restore(key, value))?;
    Ok((header, restored))
}

/// Reads a whole checkpoint without a state machine: its header, and how many keys it has. Of the values only the
/// checksums are looked at.
pub fn verify(bytes: &[u8]) -> Result<(Header, u64), RestoreError> {
    let (header, seed) = header(bytes)?;
    let mut keys = 0;
    walk(bytes, seed, |_, _| {
        keys += 1;
        Ok(())
    })?;
    Ok((header, keys))
}

/// Hands out keys and values, chunk after chunk.
fn walk(
    bytes: &[u8],
    seed: u64,
    mut found: impl FnMut(&[u8], &[u8]) -> Result<(), RestoreError>,
) -> Result<Restored, RestoreError> {
    let mut restored = Restored::default();
    let mut offset = HEADER_BYTES;
    loop {
        let error = RestoreError::Chunk(offset as u64);
        let chunk = chunk(&bytes[offset..], seed).map_err(|_| error)?;
        let mut items = Reader(chunk.items);
        while !items.0.is_empty() {
            let (key, value) = item(&mut items).map_err(|_| error)?;
            found(key, value)?;
        }
        offset += chunk.bytes;
        restored.greatest = restored.greatest.max(chunk.index);
        restored.ends.push((chunk.key_end.map(<[u8]>::to_vec), chunk.index));
        if chunk.key_end.is_none() {
            return Ok(restored);
        }
    }
}

fn header(bytes: &[u8]) -> Result<(Header, u64), RestoreError> {
    let mut reader = Reader(bytes.get(..HEADER_BYTES).ok_or(RestoreError::Header)?);
    let mut read = || {
        let magic: [u8; 8] = reader.array()?;
        let version = reader.u32()?;
        reader.u32()?;
        let header = Header {
            cluster: ClusterId(reader.u128()?),
            range: RangeId(reader.u128()?),
            number: reader.u64()?,
            index: LogIndex(reader.u64()?),
            term: Term(reader.u64()?),
            wall: Wall(reader.u64()?),
        };
        Ok::<_, DecodeError>((magic, version, header, reader.u64()?))
    };
    let (magic, version, header, check) = read().map_err(|_| RestoreError::Header)?;
    if magic != MAGIC || check != xxh3_64(&bytes[..HEADER_BYTES - 8]) {
        return Err(RestoreError::Header);
    }
    if version != VERSION {
        return Err(RestoreError::Version(version));
    }
    Ok((header, check))
}

struct ReadChunk<'a> {
    bytes: usize,
    index: LogIndex,
    /// None: it is the last one.
    key_end: Option<&'a [u8]>,
    items: &'a [u8],
}

fn chunk(bytes: &[u8], seed: u64) -> Result<ReadChunk<'_>, DecodeError> {
    let mut reader = Reader(bytes);
    let check = reader.u64()?;
    let length = reader.u32()? as usize;
    let mut content = Reader(reader.bytes(length)?);
    if check != xxh3_64_with_seed(&bytes[8..12 + length], seed) {
        return Err(DecodeError::Invalid);
    }
    let flags = content.u32()?;
    let index = LogIndex(content.u64()?);
    let key_end = content.u32()? as usize;
    let key_end = content.bytes(key_end)?;
    let key_end = (flags & FLAG_LAST == 0).then_some(key_end);
    Ok(ReadChunk { bytes: 12 + length, index, key_end, items: content.0 })
}

fn item<'a>(items: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    let key = items.u32()? as usize;
    let value = items.u32()? as usize;
    Ok((items.bytes(key)?, items.bytes(value)?))
}

//! Which range has a key, and which log has the range's replica on this node.
//!
//! A key begins with 16 bits of hash, big-endian, so that keys of one tenant spread and still stand in one
//! order. [`key_hash`] and the cut at bootstrap are part of format version 1: the hash is the upper 16 bits
//! of xxh3-64 over the tenant and, behind a zero byte each, the other parts; n ranges cut the 65 536 hashes so
//! that hash h falls into range ⌊h · n / 65 536⌋.
//!
//! ```text
//!  0         8         12       16
//! ┌─────────┬─────────┬────────┬────────────────┬───────┐
//! │ magic   │ version │ ranges │ range, range … │ check │   check is xxh3-64 over what is before it
//! │ 8       │ u32     │ u32    │                │ u64   │
//! └─────────┴─────────┴────────┴────────────────┴───────┘
//! range
//! ┌──────┬─────────┬─────┬─────────┬────────┬────────┬───────┬──────┬───────┬──────┐
//! │ id   │ service │ log │ replica │ voters │ voter… │ start │ end  │ start │ end  │   end without bytes:
//! │ u128 │ u8      │ u16 │ u64     │ u32    │ u64    │ u32   │ u32  │ bytes │ bytes│   the last of its service
//! └──────┴─────────┴─────┴─────────┴────────┴────────┴───────┴──────┴───────┴──────┘
//! ```

use wal::{LogId, RangeId};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::format::state::VOTERS_MAX;
use crate::format::{DecodeError, Reader, length};
use crate::identity::ReplicaId;

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"HERMODCT";
/// The version this crate writes and reads.
pub const VERSION: u32 = 1;

/// A kind of state machine, with a key space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Service {
    /// Routes.
    Dist = 1,
    /// Persistent sessions.
    Inbox = 2,
    /// Retained messages.
    Retain = 3,
}

impl Service {
    /// All of them, in the order of the catalog.
    pub const ALL: [Service; 3] = [Service::Dist, Service::Inbox, Service::Retain];
}

/// The hash a key begins with. No part has a zero byte in it.
#[must_use]
pub fn key_hash(tenant: &str, parts: &[&str]) -> u16 {
    let mut hasher = Xxh3::new();
    hasher.update(tenant.as_bytes());
    for part in parts {
        hasher.update(&[0]);
        hasher.update(part.as_bytes());
    }
    (hasher.digest() >> 48) as u16
}

/// A range, and this node's replica of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    /// The range.
    pub range: RangeId,
    /// What its state machine is.
    pub service: Service,
    /// Its first key; empty for the first of its service.
    pub start: Vec<u8>,
    /// The first key behind it; empty for the last of its service.
    pub end: Vec<u8>,
    /// Where its replica writes.
    pub log: LogId,
    /// The replica.
    pub replica: ReplicaId,
    /// The group at its begin; what it is now its state records say.
    pub voters: Vec<ReplicaId>,
}

/// The ranges of which a node has a replica. A view of the node, the same on each of its cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// By service and start.
    entries: Vec<CatalogEntry>,
}

/// Why bytes are no catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogError {
    /// Not a whole one.
    Damaged,
    /// A version this crate does not know.
    Version(u32),
}

impl From<DecodeError> for CatalogError {
    fn from(_: DecodeError) -> CatalogError {
        CatalogError::Damaged
    }
}

/// The core that serves a log.
///
/// # Panics
/// When there are no cores.
#[must_use]
pub fn core_of(log: LogId, cores: u16) -> u16 {
    assert!(cores > 0, "a node has a core");
    log.0 % cores
}

impl Catalog {
    /// The catalog of a new cluster of one node: for each service one range per log, each a group of one.
    /// `random` names the ranges.
    ///
    /// # Panics
    /// When there are no logs.
    #[must_use]
    pub fn bootstrap(logs: u16, mut random: impl FnMut() -> u128) -> Catalog {
        assert!(logs > 0, "a node has a log");
        let mut entries = Vec::new();
        for service in Service::ALL {
            for log in 0..logs {
                let replica = ReplicaId(1);
                entries.push(CatalogEntry {
                    range: RangeId(random()),
                    service,
                    start: cut(log, logs),
                    end: if log + 1 == logs { Vec::new() } else { cut(log + 1, logs) },
                    log: LogId(log),
                    replica,
                    voters: vec![replica],
                });
            }
        }
        Catalog { entries }
    }

    /// The ranges, by service and first key.
    #[must_use]
    pub fn entries(&self) -> &[CatalogEntry] {
        &self.entries
    }

    /// A range is given up, and another begins in its place, with nothing in it. False if there is none of that
    /// name.
    pub fn begin_anew(&mut self, range: RangeId, anew: RangeId) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.range == range);
        entry.map(|entry| entry.range = anew).is_some()
    }

    /// Hot path. The range a key falls into; none if this node has no replica of it.
    #[must_use]
    pub fn find(&self, service: Service, key: &[u8]) -> Option<&CatalogEntry> {
        let behind =
            self.entries.partition_point(|entry| (entry.service, &entry.start[..]) <= (service, key));
        let entry = self.entries.get(behind.checked_sub(1)?)?;
        let inside = entry.service == service && (entry.end.is_empty() || key < &entry.end[..]);
        inside.then_some(entry)
    }

    /// Hot path. The log of the range that all keys with this hash fall into; none if they fall into several, or
    /// this node has no replica.
    #[must_use]
    pub fn log_of_hash(&self, service: Service, hash: u16) -> Option<LogId> {
        let entry = self.find(service, &hash.to_be_bytes())?;
        let next = hash.checked_add(1).map(u16::to_be_bytes);
        let whole = entry.end.is_empty() || next.is_some_and(|next| next[..] <= entry.end[..]);
        whole.then_some(entry.log)
    }

    /// Appends the file's content.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&length(self.entries.len()).to_le_bytes());
        for entry in &self.entries {
            out.extend_from_slice(&entry.range.0.to_le_bytes());
            out.push(entry.service as u8);
            out.extend_from_slice(&entry.log.0.to_le_bytes());
            out.extend_from_slice(&entry.replica.0.to_le_bytes());
            out.extend_from_slice(&length(entry.voters.len()).to_le_bytes());
            entry.voters.iter().for_each(|voter| out.extend_from_slice(&voter.0.to_le_bytes()));
            out.extend_from_slice(&length(entry.start.len()).to_le_bytes());
            out.extend_from_slice(&length(entry.end.len()).to_le_bytes());
            out.extend_from_slice(&entry.start);
            out.extend_from_slice(&entry.end);
        }
        let check = xxh3_64(&out[begin..]);
        out.extend_from_slice(&check.to_le_bytes());
    }

    /// Reads the file's content.
    pub fn decode(bytes: &[u8]) -> Result<Catalog, CatalogError> {
        let (content, check) = bytes.split_last_chunk::<8>().ok_or(CatalogError::Damaged)?;
        let mut reader = Reader(content);
        if u64::from_le_bytes(*check) != xxh3_64(content) || reader.array()? != MAGIC {
            return Err(CatalogError::Damaged);
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(CatalogError::Version(version));
        }
        let mut entries = Vec::new();
        for _ in 0..reader.u32()? {
            entries.push(decode_entry(&mut reader)?);
        }
        reader.end()?;
        // There may be holes: ranges that only other nodes have.
        let follow = |a: &CatalogEntry, b: &CatalogEntry| !a.end.is_empty() && a.end <= b.start;
        if !entries.is_sorted_by(|a, b| a.service < b.service || (a.service == b.service && follow(a, b))) {
            return Err(CatalogError::Damaged);
        }
        Ok(Catalog { entries })
    }
}

/// The first key of the `part`th of so many equal parts.
fn cut(part: u16, parts: u16) -> Vec<u8> {
    if part == 0 {
        return Vec::new();
    }
    let first = (u32::from(part) << 16).div_ceil(u32::from(parts));
    u16::try_from(first).expect("less than all").to_be_bytes().to_vec()
}

fn decode_entry(reader: &mut Reader<'_>) -> Result<CatalogEntry, CatalogError> {
    let range = RangeId(reader.u128()?);
    let number = reader.u8()?;
    let service = Service::ALL.into_iter().find(|service| *service as u8 == number);
    let service = service.ok_or(CatalogError::Damaged)?;
    let log = LogId(reader.u16()?);
    let replica = ReplicaId(reader.u64()?);
    let count = reader.u32()? as usize;
    if count > VOTERS_MAX {
        return Err(CatalogError::Damaged);
    }
    let mut voters = Vec::new();
    for _ in 0..count {
        voters.push(ReplicaId(reader.u64()?));
    }
    let (start, end) = (reader.u32()? as usize, reader.u32()? as usize);
    let (start, end) = (reader.bytes(start)?.to_vec(), reader.bytes(end)?.to_vec());
    Ok(CatalogEntry { range, service, start, end, log, replica, voters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{damage, hex};

    fn catalog(logs: u16) -> Catalog {
        let mut id = 0;
        Catalog::bootstrap(logs, || {
            id += 1;
            id
        })
    }

    /// Every hash of every service has one range, the one the format says, for any number of logs.
    #[test]
    fn every_key_has_one_range() {
        for logs in [1, 2, 3, 5, 7, 64, 1000] {
            let catalog = catalog(logs);
            for service in Service::ALL {
                for hash in 0..=u16::MAX {
                    let log = (u32::from(hash) * u32::from(logs)) >> 16;
                    let log = Some(LogId(u16::try_from(log).unwrap()));
                    assert_eq!(catalog.log_of_hash(service, hash), log, "{hash} of {logs}");
                }
                let key = [&[0x80, 0x00][..], b"tenant", &[0], b"client"].concat();
                let entry = catalog.find(service, &key).unwrap();
                assert_eq!(entry.service, service);
                assert!(entry.start <= key && (entry.end.is_empty() || key < entry.end));
            }
        }
    }

    /// A range that was cut within a hash has no log for the whole hash; a missing one has none.
    #[test]
    fn a_hash_cut_in_two_has_no_one_log() {
        let mut catalog = catalog(2);
        let mut second = catalog.entries[0].clone();
        let key = [0x10, 0x00, b'm'].to_vec();
        catalog.entries[0].end.clone_from(&key);
        second.start.clone_from(&key);
        catalog.entries.insert(1, second);
        assert_eq!(catalog.log_of_hash(Service::Dist, 0x1000), None);
        assert_eq!(catalog.log_of_hash(Service::Dist, 0x0fff), Some(LogId(0)));
        assert_eq!(catalog.log_of_hash(Service::Dist, 0x1001), Some(LogId(0)));
        assert_eq!(catalog.find(Service::Dist, &key).unwrap().start, key);
        catalog.entries.remove(0);
        assert_eq!(catalog.find(Service::Dist, &[0, 0]), None);
    }

    /// Logs are served whatever the number of cores is now.
    #[test]
    fn logs_are_dealt_over_the_cores() {
        let cores = |cores| (0..5).map(|log| core_of(LogId(log), cores)).collect::<Vec<_>>();
        assert_eq!(cores(2), [0, 1, 0, 1, 0]);
        assert_eq!(cores(8), [0, 1, 2, 3, 4]);
    }

    /// The hash is part of the format: these values stand in data that exists.
    #[test]
    fn golden_hashes() {
        let hashes = [
            key_hash("default", &["sensor-1"]),
            key_hash("default", &["a/b/c"]),
            key_hash("default", &["a", "b"]),
            key_hash("default", &[]),
        ];
        assert_eq!(hashes, [59_518, 26_788, 56_297, 27_739]);
    }

    /// The bytes of version 1, which stand in data that exists.
    #[test]
    fn golden_catalog() {
        let mut catalog = catalog(2);
        catalog.entries.truncate(2);
        let mut bytes = Vec::new();
        catalog.encode(&mut bytes);
        let golden = concat!(
            "4845524d4f4443540100000002000000",
            "01000000000000000000000000000000",
            "010000",
            "0100000000000000",
            "010000000100000000000000",
            "00000000020000008000",
            "02000000000000000000000000000000",
            "010100",
            "0100000000000000",
            "010000000100000000000000",
            "02000000000000008000",
            "8e066369d553ef93",
        );
        assert_eq!(hex(&bytes), golden);
        assert_eq!(Catalog::decode(&bytes), Ok(catalog));
    }

    /// Damage is seen, and ranges that overlap are no catalog; holes are. Method: 50 000 seeded damages.
    #[test]
    fn damaged_catalogs_are_refused() {
        let encoded = |catalog: &Catalog| {
            let mut bytes = Vec::new();
            catalog.encode(&mut bytes);
            bytes
        };
        let bytes = encoded(&catalog(3));
        damage(&bytes, 50_000, |damaged| assert!(damaged == bytes || Catalog::decode(damaged).is_err()));
        let mut other = catalog(3);
        other.entries.remove(1);
        assert_eq!(Catalog::decode(&encoded(&other)), Ok(other.clone()));
        other.entries[0].end = vec![0xF0];
        assert_eq!(Catalog::decode(&encoded(&other)), Err(CatalogError::Damaged));
    }
}

//! The list in a backup: what it is of, how far, and every file with its checksum. It is written when all of them are
//! on the disk, so a backup without a whole list is none.
//!
//! ```text
//! hermod backup format 1
//! hermod 0.1.0, 1764000000000 ms
//! log 0 to LSN 123
//! file 6fd0…(xxh3-128) 4096 67108864 log-0000/00000001.seg      bytes stored, and bytes of the file: the rest is zeros
//! end 1a2b…(xxh3-64 of all before)
//! ```

use std::fmt;
use std::fmt::Write;

use broker_core::time::Wall;
use wal::{LogId, Lsn};
use xxhash_rust::xxh3::xxh3_64;

/// Its name in a backup.
pub(super) const NAME: &str = "backup";
const FORMAT: &str = "hermod backup format ";
/// The version that this program writes and reads.
const VERSION: u32 = 1;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The program that wrote it, and when.
    pub(super) by: String,
    pub(super) logs: Vec<(LogId, Lsn)>,
    pub(super) files: Vec<Entry>,
}

/// A file of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it is below the data directory and the backup.
    pub(super) name: String,
    /// Bytes in the backup.
    pub(super) stored: u64,
    /// Bytes in the data directory.
    pub(super) bytes: u64,
    /// Of those stored.
    pub(super) hash: u128,
}

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManifestError {
    /// There is none.
    Missing,
    /// A format that this program does not know.
    Version(String),
    /// Not all of it is there, or not as it was.
    Damaged,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestError::Missing => {
                write!(f, "is no backup, or none that was finished: it has no file `{NAME}`")
            }
            ManifestError::Version(found) => {
                write!(f, "is a backup of format {found}, and this version of hermod knows format {VERSION}")
            }
            ManifestError::Damaged => write!(f, "is no whole backup: its file `{NAME}` is cut or damaged"),
        }
    }
}

impl Manifest {
    pub(super) fn new(now: Wall) -> Manifest {
        let by = format!("hermod {}, {} ms", env!("CARGO_PKG_VERSION"), now.0);
        Manifest { by, ..Manifest::default() }
    }

    pub(super) fn encode(&self) -> String {
        let mut text = format!("{FORMAT}{VERSION}\n{}\n", self.by);
        for (log, last) in &self.logs {
            let _ = writeln!(text, "log {} to LSN {}", log.0, last.0);
        }
        for Entry { name, stored, bytes, hash } in &self.files {
            let _ = writeln!(text, "file {hash:032x} {stored} {bytes} {name}");
        }
        let end = xxh3_64(text.as_bytes());
        let _ = writeln!(text, "end {end:016x}");
        text
    }

    pub(super) fn decode(text: &str) -> Result<Manifest, ManifestError> {
        let (first, _) = text.split_once('\n').ok_or(ManifestError::Damaged)?;
        match first.strip_prefix(FORMAT) {
            None => return Err(ManifestError::Damaged),
            Some(version) if version != VERSION.to_string() => {
                return Err(ManifestError::Version(version.to_owned()));
            }
            Some(_) => {}
        }
        parse(text).ok_or(ManifestError::Damaged)
    }
}

fn parse(text: &str) -> Option<Manifest> {
    let (content, end) = text.trim_end_matches('\n').rsplit_once('\n')?;
    let content = &text[..=content.len()];
    if end != format!("end {:016x}", xxh3_64(content.as_bytes())) {
        return None;
    }
    let mut lines = content.lines().skip(1);
    let mut manifest = Manifest { by: lines.next()?.to_owned(), ..Manifest::default() };
    for line in lines {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        match words[..] {
            ["log", log, "to", "LSN", last] => {
                manifest.logs.push((LogId(log.parse().ok()?), Lsn(last.parse().ok()?)));
            }
            ["file", hash, stored, bytes, name] if is_inside(name) => manifest.files.push(Entry {
                name: name.to_owned(),
                stored: stored.parse().ok()?,
                bytes: bytes.parse().ok()?,
                hash: u128::from_str_radix(hash, 16).ok()?,
            }),
            _ => return None,
        }
    }
    Some(manifest)
}

/// Whether a name is one that a data directory may have, and leads nowhere else.
fn is_inside(name: &str) -> bool {
    let is_plain = |part: &str| {
        !part.starts_with('.')
            && !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    name.split('/').count() <= 2 && name.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry =
            |name: &str, stored| Entry { name: name.to_owned(), stored, bytes: 65_536, hash: u128::MAX / 3 };
        Manifest {
            by: "hermod 0.1.0, 5 ms".to_owned(),
            logs: vec![(LogId(0), Lsn(123)), (LogId(1), Lsn(0))],
            files: vec![entry("format", 21), entry("log-0000/0000000a.seg", 4096)],
        }
    }

    /// The list, line by line. A change here is a new format version.
    #[test]
    fn a_list_is_these_lines() {
        let text = manifest().encode();
        let golden = "hermod backup format 1\nhermod 0.1.0, 5 ms\nlog 0 to LSN 123\nlog 1 to LSN 0\n\
                      file 55555555555555555555555555555555 21 65536 format\n\
                      file 55555555555555555555555555555555 4096 65536 log-0000/0000000a.seg\n\
                      end ";
        assert!(text.starts_with(golden), "{text}");
        assert_eq!(Manifest::decode(&text), Ok(manifest()));
    }

    /// A list that is cut anywhere, or in which any byte has changed, is none.
    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let text = manifest().encode();
        for end in 0..text.len() - 1 {
            assert!(Manifest::decode(&text[..end]).is_err(), "cut at {end}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let decoded = Manifest::decode(&changed);
            assert!(decoded.is_err() || at + 1 == text.len(), "changed at {at}: {decoded:?}");
        }
        let newer = text.replace("format 1\n", "format 2\n");
        assert_eq!(Manifest::decode(&newer), Err(ManifestError::Version("2".to_owned())));
    }

    /// Names that lead out of a directory are none.
    #[test]
    fn names_stay_inside() {
        for name in ["format", "log-0000/0000000a.seg", "checkpoints/0a-1.checkpoint"] {
            assert!(is_inside(name), "{name}");
        }
        for name in ["", "/etc", "../a", "a/../b", "a/b/c", "a b", ".hidden", "a/"] {
            assert!(!is_inside(name), "{name}");
        }
    }
}

//! The data directory as a whole: locked, of a known format, of one cluster and one node. Blocking, for
//! start-up.
//!
//! ```text
//! <data>/lock, <data>/format     see `wal::files`
//! <data>/identity                cluster <32 hex digits>, node <16 hex digits>, incarnation <decimal>; a line each
//! <data>/catalog                 the ranges
//! <data>/checkpoints/            their states
//! <data>/log-0000/ …             their logs
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wal::files::{DirectoryLock, OpenError, list_logs, open_directory, other_format};
use wal::{ClusterId, NodeId};

use crate::catalog::{self, Catalog, CatalogError};
use crate::files::replace;

/// Who the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node in it.
    pub node: NodeId,
    /// Counts the starts, from 1.
    pub incarnation: u64,
}

/// A data directory that is this process's for as long as this exists.
#[derive(Debug)]
pub struct Directory {
    /// Where.
    pub path: PathBuf,
    /// Who.
    pub identity: Identity,
    /// It was empty.
    pub is_new: bool,
    _lock: DirectoryLock,
}

/// What a start expects of its directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// The cluster the node is configured for, if it is for one.
    pub cluster: Option<ClusterId>,
    /// Random ids for a directory that is empty; none if this node must not begin a cluster, because it is to
    /// join one.
    pub bootstrap: Option<(ClusterId, NodeId)>,
}

/// Why a directory cannot be served. Prints as a sentence that names it.
#[derive(Debug)]
pub struct DirectoryError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// See [`DirectoryError`].
#[derive(Debug)]
pub enum Reason {
    /// Another process serves it.
    InUse,
    /// Another format, usually a newer one: what its file says.
    Format(String),
    /// The catalog has another format than the rest would have.
    Catalog(u32),
    /// It belongs to another cluster.
    Cluster {
        /// To this one.
        found: ClusterId,
        /// And not to this one.
        expected: ClusterId,
    },
    /// It is empty, and this node must not begin a cluster.
    Empty,
    /// This file of it is missing or damaged, though there are others.
    Damaged(&'static str),
    /// The file system says no.
    Io(io::Error),
}

impl Directory {
    /// The ranges of the node. A directory without logs gets its first catalog: one range per service and
    /// log, named by `random`. To be called before any log is created.
    pub fn catalog(&self, logs: u16, random: impl FnMut() -> u128) -> Result<Catalog, DirectoryError> {
        let catalog = || match read_catalog(&self.path)? {
            Some(Ok(catalog)) => Ok(catalog),
            Some(Err(CatalogError::Version(version))) => Err(Reason::Catalog(version)),
            None if list_logs(&self.path)?.is_empty() => {
                let catalog = Catalog::bootstrap(logs, random);
                write_catalog(&self.path, &catalog)?;
                Ok(catalog)
            }
            Some(Err(CatalogError::Damaged)) | None => Err(Reason::Damaged("catalog")),
        };
        catalog().map_err(|reason| DirectoryError { path: self.path.clone(), reason })
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data directory {} ", self.path.display())?;
        match &self.reason {
            Reason::InUse => f.write_str("is in use by another process"),
            Reason::Format(found) => f.write_str(&other_format(found)),
            Reason::Catalog(version) => write!(
                f,
                "has another format than this version knows: its catalog has version {version}, and not {}",
                catalog::VERSION
            ),
            Reason::Cluster { found, expected } => {
                write!(f, "belongs to cluster {:032x} and not to {:032x}", found.0, expected.0)
            }
            Reason::Empty => f.write_str("is empty, and a node with seeds does not begin a cluster"),
            Reason::Damaged(file) => write!(f, "holds data, but its file `{file}` is missing or damaged"),
            Reason::Io(error) => write!(f, "cannot be used: {error}"),
        }
    }
}

impl std::error::Error for DirectoryError {}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Reason {
        Reason::Io(error)
    }
}

/// Locks the directory, checks that it is of the expected cluster and a known format, counts the start; an
/// empty one becomes a new node's.
pub fn open(path: &Path, expected: &Expected) -> Result<Directory, DirectoryError> {
    open_inner(path, expected).map_err(|reason| DirectoryError { path: path.to_owned(), reason })
}

fn open_inner(path: &Path, expected: &Expected) -> Result<Directory, Reason> {
    let has_data = path.is_dir() && (path.join("identity").exists() || !list_logs(path)?.is_empty());
    if has_data && !path.join("format").exists() {
        return Err(Reason::Damaged("format"));
    }
    if !has_data && expected.bootstrap.is_none() {
        return Err(Reason::Empty);
    }
    let lock = open_directory(path).map_err(|error| match error {
        OpenError::InUse => Reason::InUse,
        OpenError::Format(found) => Reason::Format(found),
        OpenError::Io(error) => Reason::Io(error),
    })?;
    let found = match fs::read_to_string(path.join("identity")) {
        Ok(text) => Some(parse(&text).ok_or(Reason::Damaged("identity"))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Reason::Io(error)),
    };
    let mut identity = match (found, expected.bootstrap) {
        (Some(identity), _) => identity,
        (None, _) if !list_logs(path)?.is_empty() => return Err(Reason::Damaged("identity")),
        (None, Some((cluster, node))) => Identity { cluster, node, incarnation: 0 },
        (None, None) => return Err(Reason::Empty),
    };
    if let Some(cluster) = expected.cluster
        && cluster != identity.cluster
    {
        return Err(Reason::Cluster { found: identity.cluster, expected: cluster });
    }
    identity.incarnation += 1;
    replace(path, "identity", print(&identity).as_bytes())?;
    Ok(Directory { path: path.to_owned(), identity, is_new: found.is_none(), _lock: lock })
}

/// The catalog of a data directory; none if it has none.
pub fn read_catalog(data: &Path) -> io::Result<Option<Result<Catalog, CatalogError>>> {
    match fs::read(data.join("catalog")) {
        Ok(bytes) => Ok(Some(Catalog::decode(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a catalog in the place of the former one.
pub fn write_catalog(data: &Path, catalog: &Catalog) -> io::Result<()> {
    let mut bytes = Vec::new();
    catalog.encode(&mut bytes);
    replace(data, "catalog", &bytes)
}

fn print(identity: &Identity) -> String {
    let Identity { cluster, node, incarnation } = identity;
    format!("cluster {:032x}\nnode {:016x}\nincarnation {incarnation}\n", cluster.0, node.0)
}

fn parse(text: &str) -> Option<Identity> {
    let mut lines = text.lines();
    let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    let identity = Identity {
        cluster: ClusterId(u128::from_str_radix(value("cluster")?, 16).ok()?),
        node: NodeId(u64::from_str_radix(value("node")?, 16).ok()?),
        incarnation: value("incarnation")?.parse().ok()?,
    };
    (print(&identity) == text).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Expected = Expected { cluster: None, bootstrap: Some((ClusterId(0xC1), NodeId(0x42))) };

    /// A new directory gets its identity once, and counts its starts.
    #[test]
    fn an_identity_is_given_once() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("data");
        let first = open(&path, &NEW).unwrap();
        assert!(first.is_new);
        assert_eq!(first.identity, Identity { cluster: ClusterId(0xC1), node: NodeId(0x42), incarnation: 1 });
        drop(first);
        let other = Expected { cluster: None, bootstrap: Some((ClusterId(9), NodeId(9))) };
        let second = open(&path, &other).unwrap();
        assert!(!second.is_new);
        assert_eq!(
            second.identity,
            Identity { cluster: ClusterId(0xC1), node: NodeId(0x42), incarnation: 2 }
        );
        let golden = "cluster 000000000000000000000000000000c1\nnode 0000000000000042\nincarnation 2\n";
        assert_eq!(fs::read_to_string(path.join("identity")).unwrap(), golden);
    }

    /// A second opening is refused while the first lives, and the message names the directory.
    #[test]
    fn a_directory_is_served_once() {
        let data = tempfile::tempdir().unwrap();
        let first = open(data.path(), &NEW).unwrap();
        let error = open(data.path(), &NEW).unwrap_err();
        assert!(matches!(error.reason, Reason::InUse));
        let expected = format!("the data directory {} is in use by another process", data.path().display());
        assert_eq!(error.to_string(), expected);
        drop(first);
        open(data.path(), &NEW).unwrap();
    }

    /// Another cluster's directory, a newer format and an empty one are refused, and stay as they are.
    #[test]
    fn what_is_not_ours_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let joining = Expected { cluster: Some(ClusterId(0xC2)), bootstrap: None };
        assert!(matches!(open(data.path(), &joining).unwrap_err().reason, Reason::Empty));
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "nothing was written");
        drop(open(data.path(), &NEW).unwrap());
        let error = open(data.path(), &joining).unwrap_err();
        assert!(matches!(
            error.reason,
            Reason::Cluster { found: ClusterId(0xC1), expected: ClusterId(0xC2) }
        ));
        fs::write(data.path().join("format"), "hermod data format 2\n").unwrap();
        let error = open(data.path(), &NEW).unwrap_err();
        assert!(matches!(&error.reason, Reason::Format(found) if found == "hermod data format 2\n"));
        let both = "knows: \"hermod data format 2\", and not \"hermod data format 1\"";
        assert!(error.to_string().ends_with(both), "{error}");
    }

    /// The first catalog is kept, whatever the number of logs is said to be later; a lost one is not replaced.
    #[test]
    fn a_catalog_is_made_once() {
        let data = tempfile::tempdir().unwrap();
        let directory = open(data.path(), &NEW).unwrap();
        let first = directory.catalog(2, || 7).unwrap();
        assert_eq!(first.entries().len(), 6);
        assert_eq!(directory.catalog(5, || 8).unwrap(), first);
        fs::create_dir(data.path().join("log-0000")).unwrap();
        fs::write(data.path().join("catalog"), b"").unwrap();
        assert!(matches!(directory.catalog(2, || 9).unwrap_err().reason, Reason::Damaged("catalog")));
        fs::remove_file(data.path().join("catalog")).unwrap();
        assert!(matches!(directory.catalog(2, || 9).unwrap_err().reason, Reason::Damaged("catalog")));
    }

    /// Data without an identity or a format is refused, and not taken for an empty directory.
    #[test]
    fn a_directory_that_lost_a_file_is_refused() {
        let data = tempfile::tempdir().unwrap();
        drop(open(data.path(), &NEW).unwrap());
        fs::create_dir(data.path().join("log-0000")).unwrap();
        fs::write(data.path().join("identity"), "cluster 1\n").unwrap();
        assert!(matches!(open(data.path(), &NEW).unwrap_err().reason, Reason::Damaged("identity")));
        fs::remove_file(data.path().join("identity")).unwrap();
        assert!(matches!(open(data.path(), &NEW).unwrap_err().reason, Reason::Damaged("identity")));
        fs::remove_file(data.path().join("format")).unwrap();
        assert!(matches!(open(data.path(), &NEW).unwrap_err().reason, Reason::Damaged("format")));
    }
}

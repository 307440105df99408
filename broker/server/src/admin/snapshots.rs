//! The snapshot that a backup copies from: one at a time, made by the cores' threads, and given up when nobody holds it
//! or the disk is full.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout_at};
use wal::{LogId, Lsn, files};

use super::asking::ToCore;
use crate::node::Control;
use crate::storage::snapshot::{self, Linked, Wish};

/// How long the threads may take: they may have a segment to write first.
const PATIENCE: Duration = Duration::from_secs(25);

/// How long whoever asked may take to hold the snapshot.
const GRACE: Duration = Duration::from_secs(10);

/// How often it is looked whether it is still held.
const INTERVAL: Duration = Duration::from_secs(1);

/// The data directory, as the administration has to know it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Where, from the root.
    pub(crate) data: PathBuf,
    /// How many logs there are.
    pub(crate) logs: u16,
    /// Below this much free space a snapshot is given up.
    pub(crate) space_free_bytes: u64,
}

/// See the module's documentation.
pub(super) struct Snapshots {
    kept: Option<Kept>,
    cores: Vec<ToCore>,
    current: Mutex<Current>,
}

/// Which snapshot there is.
#[derive(Default)]
struct Current {
    is_there: bool,
    /// Counts them.
    number: u64,
}

/// A snapshot, and what of each log was durable when it was made.
pub(super) struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) logs: Vec<(LogId, Lsn)>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum SnapshotError {
    /// The node keeps nothing.
    NothingKept,
    /// Somebody copies from another one.
    Busy,
    /// The file system says no.
    Io(io::Error),
    /// Some core, or its thread, does not answer.
    Late,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::NothingKept => f.write_str("the node keeps nothing: node.data is \"none\""),
            SnapshotError::Busy => f.write_str("another backup is under way"),
            SnapshotError::Io(error) => write!(f, "the data directory cannot be held as it is: {error}"),
            SnapshotError::Late => f.write_str("a core or its disk takes too long"),
        }
    }
}

impl Snapshots {
    pub(super) fn new(kept: Option<Kept>, cores: Vec<ToCore>) -> Snapshots {
        Snapshots { kept, cores, current: Mutex::default() }
    }

    /// Makes one, in place of one that nobody holds. To be held soon, by a lock on its file `lock`.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Snapshot, SnapshotError> {
        let kept = self.kept.as_ref().ok_or(SnapshotError::NothingKept)?;
        let mut current = self.current.lock().await;
        if current.is_there && snapshot::is_held(&kept.data) {
            return Err(SnapshotError::Busy);
        }
        let (data, logs) = (kept.data.clone(), kept.logs);
        let path = blocking(move || snapshot::begin(&data, logs)).await.map_err(SnapshotError::Io)?;
        current.is_there = true;
        current.number += 1;
        match self.link(&path, logs).await {
            Ok(logs) => {
                tokio::spawn(Arc::clone(self).watch(current.number));
                Ok(Snapshot { path, logs })
            }
            Err(error) => {
                remove(kept, &mut current).await;
                Err(error)
            }
        }
    }

    /// Gives the snapshot up, if there is one.
    pub(super) async fn end(&self) -> Result<(), SnapshotError> {
        let kept = self.kept.as_ref().ok_or(SnapshotError::NothingKept)?;
        remove(kept, &mut *self.current.lock().await).await;
        Ok(())
    }

    /// Has every core's thread make its names.
    async fn link(&self, into: &Path, logs: u16) -> Result<Vec<(LogId, Lsn)>, SnapshotError> {
        let (reply, mut replies) = mpsc::unbounded_channel();
        let wish = Wish { into: into.into(), reply };
        for core in &self.cores {
            core.control.try_send(Control::Link(wish.clone())).map_err(|_| SnapshotError::Late)?;
            core.wake.signal();
        }
        drop(wish);
        let (deadline, mut linked) = (Instant::now() + PATIENCE, Vec::new());
        while linked.len() < usize::from(logs) {
            let reply = timeout_at(deadline, replies.recv()).await.ok().flatten();
            let Linked { log, durable } = reply.ok_or(SnapshotError::Late)?;
            linked.push((log, durable.map_err(SnapshotError::Io)?));
        }
        linked.sort_unstable();
        Ok(linked)
    }

    /// Ends a snapshot that nobody holds any more, or for which there is no space.
    async fn watch(self: Arc<Self>, number: u64) {
        let kept = self.kept.as_ref().expect("there is a snapshot");
        sleep(GRACE).await;
        loop {
            let mut current = self.current.lock().await;
            if !current.is_there || current.number != number {
                return;
            }
            let (held, free) = (snapshot::is_held(&kept.data), files::space_available(&kept.data));
            if !held {
                tracing::warn!("backup: nobody copies any more, and what was held is given back");
                return remove(kept, &mut current).await;
            }
            if free.is_ok_and(|free| free < kept.space_free_bytes) {
                tracing::warn!("backup: given up, because less than wal.space_free_bytes is free");
                return remove(kept, &mut current).await;
            }
            drop(current);
            sleep(INTERVAL).await;
        }
    }
}

async fn remove(kept: &Kept, current: &mut Current) {
    let data = kept.data.clone();
    if let Err(error) = blocking(move || snapshot::remove(&data)).await {
        // The next one, or the next start, tries again.
        tracing::warn!("backup: what was held cannot be given back: {error}");
    }
    current.is_there = false;
}

/// Does what may wait for a disk beside the administration's own thread.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?
}

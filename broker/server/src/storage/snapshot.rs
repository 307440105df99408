//! A data directory as it is at a moment, while it is served: second names for its files, made by the threads that also
//! remove and recycle them, in the order in which their cores ask. So a core does for it no more than to name its logs'
//! durable LSNs, and whoever copies the files has all the time it needs.
//!
//! ```text
//! <data>/snapshot/lock                  held by whoever copies
//! <data>/snapshot/identity, …           as in the data directory: what every backup begins with
//! <data>/snapshot/log-0007/….seg        all segments; what of them is the log, its durable LSN says
//! <data>/snapshot/checkpoints/          all that the durable LSNs' states name, and perhaps others
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::Core;
use tokio::sync::mpsc::UnboundedSender;
use wal::{LogId, Lsn, files};

use super::Storage;
use super::background::Job;

/// A wish for second names, as it goes to each core and on to its thread.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The directory that holds them.
    pub(crate) into: Arc<Path>,
    /// Hears of each log.
    pub(crate) reply: UnboundedSender<Linked>,
}

/// One log's files have second names.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) log: LogId,
    /// What was durable before, or why there are no names.
    pub(crate) durable: io::Result<Lsn>,
}

/// Where the snapshot of a data directory is.
pub(crate) fn place(data: &Path) -> PathBuf {
    data.join("snapshot")
}

/// Begins an empty snapshot of so many logs, with what does not change while a directory is served.
pub(crate) fn begin(data: &Path, logs: u16) -> io::Result<PathBuf> {
    let place = place(data);
    remove(data)?;
    fs::create_dir(&place)?;
    File::create(place.join("lock"))?;
    for name in STABLE {
        fs::hard_link(data.join(name), place.join(name))?;
    }
    range::files::checkpoint_directory(&place)?;
    (0..logs).try_for_each(|log| files::log_directory(&place, LogId(log)).map(drop))?;
    Ok(place)
}

/// Files of a data directory that are only ever replaced as a whole, and only at its start.
pub(crate) const STABLE: [&str; 3] = ["format", "identity", "catalog"];

/// Takes a snapshot's names away, if there is one: what nothing else names is given back to the disk. The lock's goes
/// first: as long as it has one, nothing that was linked has been recycled.
pub(crate) fn remove(data: &Path) -> io::Result<()> {
    let place = place(data);
    for removed in [fs::remove_file(place.join("lock")), fs::remove_dir_all(place)] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether somebody copies from it.
pub(crate) fn is_held(data: &Path) -> bool {
    File::open(place(data).join("lock")).is_ok_and(|lock| lock.try_lock().is_err())
}

impl Storage {
    /// Has second names made for all logs of the core. What is durable now is in the files then, because the thread
    /// gives up nothing in between that the core has not given up before.
    pub(crate) fn link(&self, wish: &Wish, core: &Core) {
        for log in &self.logs {
            let durable = core.stored_log(*log).expect("its core serves it").log().durable();
            // Without the thread there is no answer, which is one.
            let _ = self.background.send(Job::Link(*log, durable, wish.clone()));
        }
    }
}

/// Makes the names of one log's files, and of all checkpoints: those of other logs' ranges may be gone before, and have
/// names by then.
pub(super) fn link(log: LogId, directory: &Path, checkpoints: &Path, into: &Path) -> io::Result<()> {
    files::link_segments(directory, &files::log_directory(into, log)?)?;
    range::files::link_checkpoints(checkpoints, &range::files::checkpoint_directory(into)?)
}

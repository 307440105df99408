//! `hermod backup`: a running node is asked to hold its data directory as it is, which is then copied here.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use wal::{LogId, Lsn};

use super::{Node, RemoteError, Target};
use crate::clock::Clock;
use crate::storage::backup::{self, Copied};

/// What to back up, and where to.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The directory that the backup becomes. It must not be there yet.
    #[arg(value_name = "DIR")]
    to: PathBuf,

    /// The data directory of a stopped node. Without it a running node is asked.
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,

    #[command(flatten)]
    target: Target,
}

const SNAPSHOTS: &str = "/api/v1/snapshot";

impl Backup {
    pub(super) fn run(&self) -> Result<(), RemoteError> {
        let node = Node::new(&self.target)?;
        let copied = match &self.data {
            Some(data) => backup::of_stopped(data, &self.to, Clock::wall()).map_err(RemoteError::Backup)?,
            None => self.of_running(&node)?,
        };
        let Copied { logs, files, bytes } = copied;
        let path = self.to.display().to_string();
        node.one(&json!({ "backup": path, "logs": logs, "files": files, "bytes": bytes }))
    }

    fn of_running(&self, node: &Node) -> Result<Copied, RemoteError> {
        let snapshot = node.value("POST", SNAPSHOTS, None)?;
        let strange = || RemoteError::Strange(snapshot.to_string());
        let path = snapshot["path"].as_str().ok_or_else(strange)?;
        let log = |log: &Value| {
            let id = u16::try_from(log["log"].as_u64()?).ok()?;
            Some((LogId(id), Lsn(log["durable"].as_u64()?)))
        };
        let logs =
            snapshot["logs"].as_array().and_then(|logs| logs.iter().map(log).collect::<Option<Vec<_>>>());
        let logs = logs.ok_or_else(strange)?;
        let copied = backup::of_running(Path::new(path), &logs, &self.to, Clock::wall());
        // The node finds out by itself if it is not told, and it may be gone.
        let _ = node.text("DELETE", SNAPSHOTS, None);
        copied.map_err(RemoteError::Backup)
    }
}

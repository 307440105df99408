//! Holding the data directory as it is, for who copies it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as From;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::State;
use super::super::gate::{self, Problem};
use super::super::snapshots::SnapshotError;

/// A data directory as it was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Snapshot {
    /// Where it is on the node's machine. It is held as long as somebody has a lock on the file `lock` in it (flock(2)), and
    /// given up if nobody has one ten seconds after the answer.
    path: String,
    logs: Vec<Log>,
}

/// A log in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Log {
    log: u16,
    /// The last LSN that belongs to it; what else is in its files was written later.
    durable: u64,
}

/// Holds the data directory as it is, while the node goes on: `hermod backup` copies it.
#[utoipa::path(post, path = "/api/v1/snapshot", tag = "backup",
    responses((status = OK, body = Snapshot), (status = "default", body = gate::Body)))]
pub(super) async fn take(From(state): From<Arc<State>>) -> Result<Json<Snapshot>, Problem> {
    let snapshot = state.snapshots.take().await.map_err(|error| problem(&error))?;
    let log = |(log, durable): (wal::LogId, wal::Lsn)| Log { log: log.0, durable: durable.0 };
    let logs = snapshot.logs.into_iter().map(log).collect();
    Ok(Json(Snapshot { path: snapshot.path.display().to_string(), logs }))
}

/// Holds it no more.
#[utoipa::path(delete, path = "/api/v1/snapshot", tag = "backup",
    responses((status = NO_CONTENT, description = "Its space is given back."), (status = "default", body = gate::Body)))]
pub(super) async fn end(From(state): From<Arc<State>>) -> Result<StatusCode, Problem> {
    state.snapshots.end().await.map_err(|error| problem(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn problem(error: &SnapshotError) -> Problem {
    let (status, code) = match error {
        SnapshotError::NothingKept => (StatusCode::CONFLICT, "nothing_kept"),
        SnapshotError::Busy => (StatusCode::CONFLICT, "backup_under_way"),
        SnapshotError::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "disk"),
        SnapshotError::Late => (StatusCode::SERVICE_UNAVAILABLE, "core_does_not_answer"),
    };
    Problem::new(status, code, error.to_string())
}

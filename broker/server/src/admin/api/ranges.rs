//! The ranges of this node: the logs, and the replicas that stand in them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as From;
use broker_core::identity::CoreId;
use broker_core::sight::{LogState, ReplicaState, Said, What};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::State;
use super::super::gate::{self, Problem};

/// The replicas of this node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ranges {
    /// By log.
    items: Vec<Range>,
}

/// A replica of a range, and the log that it stands in with others.
#[derive(Debug, Serialize, ToSchema)]
struct Range {
    /// 32 hexadecimal digits.
    id: String,
    /// `inbox` (sessions) or `retain` (retained messages).
    service: &'static str,
    /// The first 16 bits of its keys: from here on.
    key_from: u32,
    /// And up to, but without, this one; 65536 is the end.
    key_until: u32,
    /// The core that serves it.
    core: u16,
    /// The log.
    log: u16,
    /// Which member of its group.
    replica: u64,
    /// Whether it is the group's leader.
    leader: bool,
    term: u64,
    /// The last entry of its Raft log.
    last_index: u64,
    /// The last entry that its state contains.
    applied_index: u64,
    /// Entries that a start would read again at most.
    log_entries: u64,
    /// The checkpoint that a start would begin with; 0: there is none.
    checkpoint: u64,
    /// Checkpoints that could not be written.
    checkpoint_failures: u64,
    /// Records that only their payloads keep.
    payloads_kept: u64,
    /// Sessions, or retained messages.
    items: u64,
    /// Of the log: all records up to here are on the disk.
    durable_lsn: u64,
    /// The log's files, spare ones included.
    log_bytes: u64,
    /// Bytes of what is live in its full segments.
    live_bytes: u64,
    /// Percent of those segments that are.
    #[serde(skip_serializing_if = "Option::is_none")]
    live_percent: Option<u64>,
    /// Appended, and not on the disk yet.
    unflushed_bytes: u64,
    /// `ok`, `disk_full` (it takes only what frees space) or `poisoned` (it cannot be written any more).
    state: &'static str,
}

impl Range {
    fn new(core: CoreId, log: &LogState, replica: &ReplicaState) -> Range {
        Range {
            id: format!("{:032x}", replica.range),
            service: replica.service,
            key_from: log.key_from,
            key_until: log.key_until,
            core: core.0,
            log: log.log,
            replica: replica.replica,
            leader: replica.leader,
            term: replica.term,
            last_index: replica.last_index,
            applied_index: replica.applied_index,
            log_entries: replica.log_entries,
            checkpoint: replica.checkpoint,
            checkpoint_failures: replica.checkpoint_failures,
            payloads_kept: replica.payloads_kept,
            items: replica.items,
            durable_lsn: log.durable_lsn,
            log_bytes: log.sealed_bytes + log.other_bytes,
            live_bytes: log.live_bytes,
            live_percent: (log.live_bytes * 100).checked_div(log.sealed_bytes),
            unflushed_bytes: log.unflushed_bytes,
            state: match log {
                LogState { poisoned: true, .. } => "poisoned",
                LogState { disk_full: true, .. } => "disk_full",
                _ => "ok",
            },
        }
    }
}

/// Lists the ranges of this node.
#[utoipa::path(get, path = "/api/v1/ranges", tag = "ranges",
    responses((status = OK, body = Ranges), (status = "default", body = gate::Body)))]
pub(super) async fn list(From(state): From<Arc<State>>) -> Result<Json<Ranges>, Problem> {
    let mut items = Vec::new();
    for core in state.cores.ids() {
        let Said::Ranges(logs) = state.cores.ask(core, What::Ranges).await?.said else {
            unreachable!("the answer to the question")
        };
        for log in &logs {
            items.extend(log.replicas.iter().map(|replica| Range::new(core, log, replica)));
        }
    }
    items.sort_by_key(|range| range.log);
    Ok(Json(Ranges { items }))
}

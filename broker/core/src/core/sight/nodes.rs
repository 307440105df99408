//! Logs and replicas, and who is kept out.

use std::ops::Bound;

use range::{Replica, StateMachine};

use super::super::Core;
use crate::bans::{Ban, Target};
use crate::config::Config;
use crate::limit::Limit;
use crate::sight::{LogState, Page, ReplicaState};
use crate::storage::StoredLog;
use crate::time::Now;

/// Bans of one page.
const BANS_MAX: usize = 256;

impl Core {
    pub(super) fn ban_for(&mut self, now: Now, ban: Ban) -> bool {
        let before = self.counters.limited(Limit::Bans);
        self.on_ban(now, ban);
        self.counters.limited(Limit::Bans) == before
    }

    pub(super) fn unban_for(&mut self, target: &Target) -> bool {
        let was = self.bans.get(target).is_some();
        self.on_unban(target);
        was
    }

    /// Those that hold, from one on.
    pub(super) fn find_bans(&self, now: Now, after: Option<&Target>) -> Page<Ban, Target> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut bans = self.bans.from(from);
        let items: Vec<Ban> = bans.by_ref().take(BANS_MAX).cloned().collect();
        let next = items.last().filter(|_| bans.next().is_some()).map(|ban| ban.target.clone());
        Page { items: items.into_iter().filter(|ban| ban.holds(now.wall)).collect(), next }
    }

    pub(super) fn log_states(&self) -> Vec<LogState> {
        self.storage.slots().map(|slot| log_state(&self.config, self.storage.log(slot))).collect()
    }
}

fn log_state(config: &Config, stored: &StoredLog) -> LogState {
    let (log, logs) = (stored.id().0, u32::from(config.logs()));
    let first_key = |log: u32| (log << 16).div_ceil(logs);
    let usage = stored.log().usage();
    let (inbox, retain) = (stored.inbox(), stored.retain());
    LogState {
        log,
        key_from: first_key(u32::from(log)),
        key_until: first_key(u32::from(log) + 1),
        durable_lsn: stored.log().durable().0,
        next_lsn: stored.log().next_lsn().0,
        poisoned: stored.log().poison().is_some(),
        disk_full: stored.log().is_disk_full(),
        sealed_segments: usage.sealed_segments,
        sealed_bytes: usage.sealed_bytes,
        live_bytes: usage.live_bytes,
        other_bytes: usage.tail_bytes + usage.spare_bytes + usage.leaving_bytes,
        unflushed_bytes: usage.unflushed_bytes,
        replicas: vec![
            replica_state("inbox", inbox, inbox.machine().sessions()),
            replica_state("retain", retain, retain.machine().len()),
        ],
    }
}

fn replica_state<S: StateMachine>(service: &'static str, replica: &Replica<S>, items: usize) -> ReplicaState {
    ReplicaState {
        service,
        range: replica.range().0,
        replica: replica.id().0,
        leader: replica.is_leader(),
        term: replica.term().0,
        last_index: replica.last_index().0,
        applied_index: replica.applied().0,
        log_entries: replica.log_entries(),
        checkpoint: replica.checkpoint(),
        checkpoint_failures: replica.checkpoint_failures(),
        payloads_kept: replica.payloads_kept() as u64,
        items: items as u64,
    }
}

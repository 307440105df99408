//! Settings that bite without a client's being told more than a reason code, or anything at all: a slower reader, a
//! message for one receiver instead of all. They are said of the tenant, for each setting once a second and core.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Core;
use crate::input::Outputs;
use crate::limit::Limit;
use crate::notice::{Event, Notice};
use crate::tenant::TenantIndex;
use crate::time::{Mono, Now};

/// How often the same is said.
const INTERVAL: Duration = Duration::from_secs(1);

/// Of how many it is remembered when they were said, before those that may be said again are forgotten.
const TOLD_MAX: usize = 1024;

/// What has bitten. Of one core.
#[derive(Debug, Default)]
pub(super) struct Bites {
    /// In this turn.
    new: BTreeSet<(TenantIndex, Limit)>,
    /// When it was last said.
    told: BTreeMap<(TenantIndex, Limit), Mono>,
}

impl Core {
    /// Counts that a setting of a tenant has bitten.
    pub(super) fn bite(&mut self, tenant: TenantIndex, limit: Limit) {
        self.counters.limit(limit);
        if self.config.notices {
            self.bites.new.insert((tenant, limit));
        }
    }

    /// The same for a message; what the broker says itself makes no events, or the first would never end.
    pub(super) fn bite_message(&mut self, tenant: TenantIndex, topic: &str, limit: Limit) {
        if topic.starts_with("$SYS/") {
            self.counters.limit(limit);
        } else {
            self.bite(tenant, limit);
        }
    }

    /// Says what has bitten in this turn, unless it has been said just before.
    pub(super) fn tell_bites(&mut self, now: Now, out: &mut Outputs) {
        while let Some(bite) = self.bites.new.pop_first() {
            let is_due = |at: &Mono| now.monotonic.since(*at) >= INTERVAL;
            if !self.bites.told.get(&bite).is_none_or(is_due) {
                continue;
            }
            if self.bites.told.len() >= TOLD_MAX {
                self.bites.told.retain(|_, at| !is_due(at));
            }
            self.bites.told.insert(bite, now.monotonic);
            let (tenant, event) = (Some(Arc::clone(&self.tenants.get(bite.0).name)), Event::Limit(bite.1));
            self.tell(
                Notice { connection: None, peer: None, tenant, client: None, event, message: None },
                out,
            );
        }
    }
}

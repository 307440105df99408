//! Whether a log of the node takes nothing new. Every core knows it, because who publishes is refused where the publish
//! comes in, before anybody has any of it: a message of which some logs had a part and others not could neither be
//! acknowledged nor be sent again without coming twice.
//!
//! What was let in before its core had heard of it is stored all the same, in what every log keeps for that
//! ([`LET_IN`](crate::storage::LET_IN)).

use mqtt::QoS;
use smallvec::SmallVec;

use super::Core;
use super::publish::Routed;
use super::stored::NOT_STORED;
use crate::counters::DropReason;
use crate::dist::{CachedTopic, GroupRoute, Member, Target};
use crate::identity::CoreId;
use crate::message::Publication;
use crate::notice::Event;
use crate::peer::{Body, Reply};
use crate::tenant::TenantIndex;

/// What this core knows of the node's logs.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    /// One of its own.
    own: bool,
    /// The others were told so.
    told: bool,
    /// Those cores that said it of theirs.
    elsewhere: SmallVec<[CoreId; 8]>,
}

impl Fullness {
    fn is_full(&self) -> bool {
        self.own || !self.elsewhere.is_empty()
    }
}

impl Core {
    /// Whether a log of the node takes nothing new, as far as this core has heard: what clients publish for persistent
    /// sessions, or to be retained, is refused.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.fullness.is_full()
    }

    /// Something has happened to the logs of this core.
    pub(super) fn look_at_fullness(&mut self) {
        self.fullness.own = self.storage.is_full();
    }

    /// The turn ends: the other cores are told of a change.
    pub(super) fn tell_fullness(&mut self) {
        self.look_at_fullness();
        let is_full = self.fullness.own;
        if std::mem::replace(&mut self.fullness.told, is_full) == is_full {
            return;
        }
        for core in (0..self.config.cores).map(CoreId) {
            if core != self.id {
                self.post(core, Body::DiskFull { is_full });
            }
        }
    }

    /// A core tells.
    pub(super) fn on_disk_full(&mut self, from: CoreId, is_full: bool) {
        self.fullness.elsewhere.retain(|core| *core != from);
        if is_full {
            self.fullness.elsewhere.push(from);
        }
    }

    /// What a client publishes to be retained is not let in while the disk is full. To clear a topic gives space back.
    pub(super) fn refuse_to_retain(
        &mut self,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        reply: Option<Reply>,
    ) -> Option<Routed> {
        let retains = publication.retain && !publication.payload.is_empty();
        (retains && self.may_refuse(publication, reply)).then(|| self.refuse_to_store(tenant, publication))
    }

    /// Nor is what a log would have to take for a session.
    pub(super) fn refuse_to_append(
        &mut self,
        tenant: TenantIndex,
        publication: &Publication<'_>,
        cached: &CachedTopic,
        reply: Option<Reply>,
    ) -> Option<Routed> {
        (self.may_refuse(publication, reply) && needs_a_log(cached))
            .then(|| self.refuse_to_store(tenant, publication))
    }

    /// Somebody waits for the answer, and is told.
    fn may_refuse(&self, publication: &Publication<'_>, reply: Option<Reply>) -> bool {
        self.is_disk_full() && publication.qos != QoS::AtMostOnce && reply.is_some()
    }

    fn refuse_to_store(&mut self, tenant: TenantIndex, publication: &Publication<'_>) -> Routed {
        self.tenants.lose(&mut self.counters, tenant, DropReason::DiskFull, 1);
        if self.watch.is_on() {
            self.see_route(publication, Event::Dropped(DropReason::DiskFull));
        }
        Routed { matched: true, waiting: 0, refused: Some(NOT_STORED) }
    }
}

/// Whether a message to these goes into a log.
fn needs_a_log(cached: &CachedTopic) -> bool {
    let stores = |target: &Target| target.options.qos() != QoS::AtMostOnce;
    let member = |member: &Member| member.durable && stores(&member.target);
    let group = |group: &GroupRoute| group.members.iter().any(member);
    cached.sessions().iter().any(stores)
        || cached.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.destinations.groups.iter().any(group))
}

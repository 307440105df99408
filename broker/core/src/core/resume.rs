//! A start with what the logs hold: routes are in memory alone, so each core puts those of its persistent
//! sessions up again, and takes no clients before all cores have (promises 1 and 2). Then it goes on with what
//! was under way: connections that ended with the process, wills and expiries that are due, tasks.
//!
//! A start with a million sessions takes many turns, each as long as the budget says.

use std::collections::BTreeMap;
use std::sync::Arc;

use mqtt::PacketId;

use super::Core;
use super::route_changes::RouteWait;
use super::stored::Again;
use crate::identity::CoreId;
use crate::input::Outputs;
use crate::peer::Body;
use crate::quota::Total;
use crate::ranges::inbox::{Client, command};
use crate::storage::{LogSlot, UPKEEP};
use crate::time::{Now, Wall};

/// Clients looked at in a step.
const CLIENTS_MAX: u32 = 1024;

/// Steps of a turn.
const STEPS_MAX: u32 = 8;

/// How far the start has come.
pub(super) struct Resuming {
    stage: Stage,
    /// Where to go on.
    slot: LogSlot,
    place: u32,
    /// Routes that are on their way.
    pub routes: u64,
    /// Cores that have not put theirs up.
    pub cores: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Routes are put up.
    Routes,
    /// Those of other cores are awaited.
    Others,
    /// What was under way goes on.
    Sessions,
}

/// Something that a session had under way.
enum UnderWay {
    Detach { incarnation: u64, epoch: u64, sent_before: u64 },
    Due(crate::identity::Incarnation, Wall),
    Taken(crate::identity::Incarnation, Vec<PacketId>),
    Task(Arc<str>, Box<str>, u64),
    Totals(Arc<str>, u64, u64),
}

impl Resuming {
    /// Of a core whose logs may hold something.
    pub(super) fn new(cores: u16) -> Resuming {
        Resuming { stage: Stage::Routes, slot: LogSlot(0), place: 0, routes: 0, cores }
    }
}

impl Core {
    /// Whether clients may come.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resuming.as_ref().is_none_or(|resuming| resuming.stage == Stage::Sessions)
    }

    /// Whether the start wants a turn.
    pub(super) fn is_resuming_now(&self) -> bool {
        self.resuming.as_ref().is_some_and(|resuming| match resuming.stage {
            Stage::Routes => {
                usize::from(resuming.slot.0) < self.storage.slots().count() || resuming.routes == 0
            }
            Stage::Others => resuming.cores == 0,
            Stage::Sessions => true,
        })
    }

    /// A turn of the start.
    pub(super) fn go_on_resuming(&mut self, now: Now, out: &mut Outputs) {
        for _ in 0..STEPS_MAX {
            if !self.is_resuming_now() {
                break;
            }
            self.resume_step(now, out);
        }
    }

    fn resume_step(&mut self, now: Now, out: &mut Outputs) {
        let Some(resuming) = &self.resuming else { return };
        match resuming.stage {
            Stage::Routes if usize::from(resuming.slot.0) < self.storage.slots().count() => {
                self.restore_routes();
            }
            Stage::Routes if resuming.routes == 0 => {
                for core in 0..self.config.cores {
                    self.post(CoreId(core), Body::Resumed);
                }
                self.set_stage(Stage::Others);
            }
            Stage::Others if resuming.cores == 0 => self.set_stage(Stage::Sessions),
            Stage::Sessions if usize::from(resuming.slot.0) < self.storage.slots().count() => {
                self.restore_sessions(now, out);
            }
            Stage::Sessions => self.resuming = None,
            Stage::Routes | Stage::Others => {}
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(resuming) = &mut self.resuming {
            (resuming.stage, resuming.slot, resuming.place) = (stage, LogSlot(0), 0);
        }
    }

    /// A core has put its routes up.
    pub(super) fn on_resumed(&mut self) {
        if let Some(resuming) = &mut self.resuming {
            resuming.cores -= 1;
        }
    }

    /// A route stands again.
    pub(super) fn on_route_restored(&mut self) {
        if let Some(resuming) = &mut self.resuming {
            resuming.routes -= 1;
        }
    }

    /// Looks at the next clients.
    fn next_clients<T>(&mut self, look: impl Fn(&Client, &mut Vec<T>)) -> Option<(LogSlot, Vec<T>)> {
        let resuming = self.resuming.as_mut()?;
        let slot = resuming.slot;
        let range = self.storage.log(slot).inbox().machine();
        let (clients, next) = range.page(resuming.place, CLIENTS_MAX);
        let mut found = Vec::new();
        clients.for_each(|(_, client)| look(client, &mut found));
        match next {
            Some(place) => resuming.place = place,
            None => (resuming.slot, resuming.place) = (LogSlot(slot.0 + 1), 0),
        }
        Some((slot, found))
    }

    fn restore_routes(&mut self) {
        let found = self.next_clients(|client, found| {
            let Some(session) = &client.session else { return };
            for (filter, options) in &session.subscriptions {
                found.push((Arc::clone(&client.tenant), session.incarnation, filter.clone(), *options));
            }
        });
        let Some((_, found)) = found else { return };
        if let Some(resuming) = &mut self.resuming {
            resuming.routes += found.len() as u64;
        }
        for (tenant, session, spelled, options) in found {
            let route = self.stored_route(session, &spelled, options);
            let parsed = mqtt::validate_filter(&spelled).expect("was granted");
            self.add_route(&tenant, parsed.filter, route, RouteWait::Restored);
        }
    }

    fn restore_sessions(&mut self, now: Now, out: &mut Outputs) {
        let Some((slot, found)) = self.next_clients(under_way) else { return };
        for under_way in found {
            match under_way {
                UnderWay::Detach { incarnation, epoch, sent_before } => {
                    let (keep_will, expiry_seconds) = (true, None);
                    let detach =
                        command::Detach { incarnation, epoch, keep_will, expiry_seconds, sent_before };
                    self.propose(slot, UPKEEP, None, (&detach, &[]), out);
                }
                UnderWay::Due(incarnation, at) => self.arm_session(now, incarnation, at),
                UnderWay::Taken(incarnation, packet_ids) => {
                    let again = packet_ids.into_iter().map(|packet_id| (packet_id, Again::Route));
                    self.stored.unrouted.insert(incarnation, again.collect::<BTreeMap<_, _>>());
                }
                UnderWay::Totals(tenant, shared, plain) => {
                    let tenant = self.tenants.index(&tenant, &self.config);
                    self.enter_total(tenant, Total::PersistentSessions, 1);
                    self.enter_total(tenant, Total::SharedSubscriptions, shared);
                    self.enter_total(tenant, Total::PersistentSubscriptions, plain);
                }
                UnderWay::Task(tenant, client, number) => self.add_task(slot, tenant, client, number),
            }
        }
    }
}

/// What a client of a process that has ended had under way.
fn under_way(client: &Client, found: &mut Vec<UnderWay>) {
    for task in client.tasks.iter() {
        found.push(UnderWay::Task(Arc::clone(&client.tenant), client.name.clone(), task.number));
    }
    let Some(session) = &client.session else { return };
    let incarnation = session.incarnation;
    let (shared, plain) = session.subscription_counts();
    found.push(UnderWay::Totals(Arc::clone(&client.tenant), shared, plain));
    if !session.taken.is_empty() {
        let packet_ids = session.taken.iter().filter_map(|taken| PacketId::new(taken.packet_id));
        found.push(UnderWay::Taken(incarnation, packet_ids.collect()));
    }
    match session.epoch {
        // Nobody knows how much that connection has sent.
        Some(epoch) => {
            let sent_before = session.queue.end().0;
            found.push(UnderWay::Detach { incarnation: incarnation.0, epoch, sent_before });
        }
        None => found.extend(session.due().map(|at| UnderWay::Due(incarnation, at))),
    }
}

//! A start with what the logs hold: routes are in memory alone, so each core puts those of its persistent
//! sessions up again, and takes no clients before all cores have (promises 1 and 2). Then it goes on with what
//! was under way when the last process ended: connections, wills and expiries that are due, tasks.
//!
//! A start with a million sessions takes many turns, each as long as the budget says.

use std::collections::VecDeque;
use std::sync::Arc;

use mqtt::PacketId;

use super::Core;
use super::route_changes::RouteWait;
use super::stored::Again;
use crate::delivery::DeliveryOptions;
use crate::identity::{CoreId, Incarnation};
use crate::input::Outputs;
use crate::peer::Body;
use crate::quota::Total;
use crate::ranges::inbox::{Client, Session, command};
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
    routes: u64,
    /// Cores that have not put theirs up.
    cores: u16,
    /// What the last process had under way, as it was before any client came.
    under_way: VecDeque<(LogSlot, UnderWay)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Clients are looked at, and their routes put up.
    Routes,
    /// Routes are awaited, then those of other cores.
    Others,
    /// What was under way goes on.
    Sessions,
}

/// What a look at the clients finds.
enum Found {
    Route(Arc<str>, Incarnation, Box<str>, DeliveryOptions),
    Taken(Incarnation, Vec<PacketId>),
    Totals(Arc<str>, u64, u64),
    UnderWay(UnderWay),
}

/// Something that goes on.
enum UnderWay {
    Detach { incarnation: u64, epoch: u64, sent_before: u64 },
    Due(Incarnation, Wall),
    Task(Arc<str>, Box<str>, u64),
}

impl Resuming {
    /// Of a core whose logs may hold something.
    pub(super) fn new(cores: u16) -> Resuming {
        let under_way = VecDeque::new();
        Resuming { stage: Stage::Routes, slot: LogSlot(0), place: 0, routes: 0, cores, under_way }
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
            Stage::Routes => self.storage.log_if(resuming.slot).is_some() || resuming.routes == 0,
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
        let Some(resuming) = &mut self.resuming else { return };
        match resuming.stage {
            Stage::Routes if self.storage.log_if(resuming.slot).is_some() => self.look_at_clients(),
            Stage::Routes => {
                resuming.stage = Stage::Others;
                for core in 0..self.config.cores {
                    self.post(CoreId(core), Body::Resumed);
                }
            }
            Stage::Others => resuming.stage = Stage::Sessions,
            Stage::Sessions => self.take_up(now, out),
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

    fn look_at_clients(&mut self) {
        let Some(resuming) = &mut self.resuming else { return };
        let slot = resuming.slot;
        let (clients, next) = self.storage.log(slot).inbox().machine().page(resuming.place, CLIENTS_MAX);
        let mut found = Vec::new();
        clients.for_each(|(_, client)| look_at(client, &mut found));
        match next {
            Some(place) => resuming.place = place,
            None => (resuming.slot, resuming.place) = (LogSlot(slot.0 + 1), 0),
        }
        for found in found {
            match found {
                Found::Route(tenant, session, spelled, options) => {
                    let route = self.stored_route(session, &spelled, options);
                    let parsed = mqtt::validate_filter(&spelled).expect("was granted");
                    if let Some(resuming) = &mut self.resuming {
                        resuming.routes += 1;
                    }
                    self.add_route(&tenant, parsed.filter, route, RouteWait::Restored);
                }
                Found::Taken(session, packet_ids) => {
                    let again = packet_ids.into_iter().map(|packet_id| (packet_id, Again::Route));
                    self.stored.unrouted.insert(session, again.collect());
                }
                Found::Totals(tenant, shared, plain) => {
                    let tenant = self.tenants.index(&tenant, &self.config);
                    self.enter_total(tenant, Total::PersistentSessions, 1);
                    self.enter_total(tenant, Total::SharedSubscriptions, shared);
                    self.enter_total(tenant, Total::PersistentSubscriptions, plain);
                }
                Found::UnderWay(under_way) => {
                    if let Some(resuming) = &mut self.resuming {
                        resuming.under_way.push_back((slot, under_way));
                    }
                }
            }
        }
    }

    /// Goes on with what was under way.
    fn take_up(&mut self, now: Now, out: &mut Outputs) {
        for _ in 0..CLIENTS_MAX {
            let next = self.resuming.as_mut().and_then(|resuming| resuming.under_way.pop_front());
            let Some((slot, under_way)) = next else {
                self.resuming = None;
                return;
            };
            match under_way {
                UnderWay::Detach { incarnation, epoch, sent_before } => {
                    let (keep_will, expiry_seconds) = (true, None);
                    let detach =
                        command::Detach { incarnation, epoch, keep_will, expiry_seconds, sent_before };
                    self.propose(slot, UPKEEP, None, (&detach, &[]), out);
                }
                UnderWay::Due(incarnation, at) => {
                    // Unless its client is here already.
                    if self.sessions.find(incarnation).is_none() {
                        self.arm_session(now, incarnation, at);
                    }
                }
                UnderWay::Task(tenant, client, number) => self.add_task(slot, tenant, client, number),
            }
        }
    }
}

/// What there is to do for a client of a process that has ended.
fn look_at(client: &Client, found: &mut Vec<Found>) {
    for task in client.tasks.iter() {
        let task = UnderWay::Task(Arc::clone(&client.tenant), client.name.clone(), task.number);
        found.push(Found::UnderWay(task));
    }
    let Some(session) = &client.session else { return };
    for (filter, options) in &session.subscriptions {
        let tenant = Arc::clone(&client.tenant);
        found.push(Found::Route(tenant, session.incarnation, filter.clone(), *options));
    }
    let (shared, plain) = session.subscription_counts();
    found.push(Found::Totals(Arc::clone(&client.tenant), shared, plain));
    if !session.taken.is_empty() {
        let packet_ids = session.taken.iter().filter_map(|taken| PacketId::new(taken.packet_id));
        found.push(Found::Taken(session.incarnation, packet_ids.collect()));
    }
    found.extend(end_of(session).map(Found::UnderWay));
}

/// How a session waits from now on.
fn end_of(session: &Session) -> Option<UnderWay> {
    let incarnation = session.incarnation;
    let Some(epoch) = session.epoch else {
        return session.due().map(|at| UnderWay::Due(incarnation, at));
    };
    // Nobody knows how much that connection has sent.
    let sent_before = session.queue.end().0;
    Some(UnderWay::Detach { incarnation: incarnation.0, epoch, sent_before })
}

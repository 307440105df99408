//! A start with what the logs hold: routes are in memory alone, so each core puts those of its persistent
//! sessions up again, and takes no clients before all cores have (promises 1 and 2). Then connections end that the last
//! process had, as of when it ended: a session that was over by then is not resumed. Then it goes on with what else was
//! under way: wills and expiries that are due, tasks.
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
    /// When the last process was gone, at the latest.
    ended: Wall,
    stage: Stage,
    /// Where to go on.
    slot: LogSlot,
    place: u32,
    /// Routes that are on their way.
    routes: u64,
    /// How often each core has said that it has come to the end of a stage that all wait for.
    heard: Box<[u8]>,
    /// Connections that ended with the last process.
    lost: VecDeque<(LogSlot, command::Lost)>,
    /// What it had under way, as it was before any client came.
    under_way: VecDeque<(LogSlot, UnderWay)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Clients are looked at, and their routes put up.
    Routes,
    /// Those of other cores are awaited.
    Others,
    /// Connections of the last process end, so that no client finds a session that was over by then.
    Connections,
    /// Those of other cores are awaited, which may be handed clients as soon as one takes them.
    OthersConnections,
    /// What was under way goes on, and clients come.
    Sessions,
}

/// What a look at the clients finds.
enum Found {
    Route(Arc<str>, Incarnation, Box<str>, DeliveryOptions),
    Taken(Incarnation, Vec<PacketId>),
    Totals(Arc<str>, u64, u64),
    Lost(command::Lost),
    UnderWay(UnderWay),
}

/// Something that goes on.
enum UnderWay {
    Due(Incarnation, Wall),
    Task(Arc<str>, Box<str>, u64),
}

impl Resuming {
    /// Of a core whose logs may hold something of a process that was gone then.
    pub(super) fn new(cores: u16, ended: Wall) -> Resuming {
        Resuming {
            ended,
            stage: Stage::Routes,
            slot: LogSlot(0),
            place: 0,
            routes: 0,
            heard: vec![0; usize::from(cores)].into(),
            lost: VecDeque::new(),
            under_way: VecDeque::new(),
        }
    }

    fn has_heard_all(&self, times: u8) -> bool {
        self.heard.iter().all(|heard| *heard >= times)
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
            Stage::Others => resuming.has_heard_all(1),
            Stage::OthersConnections => resuming.has_heard_all(2),
            Stage::Connections | Stage::Sessions => true,
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
            Stage::Routes => self.await_others(Stage::Others),
            Stage::Others => resuming.stage = Stage::Connections,
            Stage::Connections => self.end_lost(out),
            Stage::OthersConnections => resuming.stage = Stage::Sessions,
            Stage::Sessions => self.take_up(now),
        }
    }

    /// Goes no further before all cores have come so far.
    fn await_others(&mut self, stage: Stage) {
        let Some(resuming) = &mut self.resuming else { return };
        resuming.stage = stage;
        for core in 0..self.config.cores {
            self.post(CoreId(core), Body::Resumed);
        }
    }

    /// A core has come to the end of a stage that all wait for.
    pub(super) fn on_resumed(&mut self, from: CoreId) {
        if let Some(resuming) = &mut self.resuming {
            resuming.heard[from.index()] += 1;
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
        let (slot, ended) = (resuming.slot, resuming.ended);
        let (clients, next) = self.storage.log(slot).inbox().machine().page(resuming.place, CLIENTS_MAX);
        let mut found = Vec::new();
        clients.for_each(|(_, client)| look_at(client, ended, &mut found));
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
                Found::Lost(lost) => {
                    if let Some(resuming) = &mut self.resuming {
                        resuming.lost.push_back((slot, lost));
                    }
                }
                Found::UnderWay(under_way) => {
                    if let Some(resuming) = &mut self.resuming {
                        resuming.under_way.push_back((slot, under_way));
                    }
                }
            }
        }
    }

    /// Ends connections of the last process.
    fn end_lost(&mut self, out: &mut Outputs) {
        for _ in 0..CLIENTS_MAX {
            let Some(resuming) = &mut self.resuming else { return };
            let Some((slot, lost)) = resuming.lost.pop_front() else {
                return self.await_others(Stage::OthersConnections);
            };
            self.propose(slot, UPKEEP, None, (&lost, &[]), out);
        }
    }

    /// Goes on with what was under way.
    fn take_up(&mut self, now: Now) {
        for _ in 0..CLIENTS_MAX {
            let next = self.resuming.as_mut().and_then(|resuming| resuming.under_way.pop_front());
            let Some((slot, under_way)) = next else {
                self.resuming = None;
                return;
            };
            match under_way {
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
fn look_at(client: &Client, ended: Wall, found: &mut Vec<Found>) {
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
        let taken = session.taken.to_list();
        let packet_ids = taken.iter().filter_map(|taken| PacketId::new(taken.packet_id));
        found.push(Found::Taken(session.incarnation, packet_ids.collect()));
    }
    found.extend(end_of(session, ended));
}

/// How a session waits from now on.
fn end_of(session: &Session, ended: Wall) -> Option<Found> {
    let incarnation = session.incarnation;
    let Some(epoch) = session.epoch else {
        return session.due().map(|at| Found::UnderWay(UnderWay::Due(incarnation, at)));
    };
    // Nobody knows how much that connection has sent.
    let sent_before = session.queue.end().0;
    Some(Found::Lost(command::Lost { incarnation: incarnation.0, epoch, sent_before, at: ended.0 }))
}

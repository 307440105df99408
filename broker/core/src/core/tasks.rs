//! What persistent sessions leave to be done elsewhere: routes, wills, messages of shared subscriptions. Each
//! stands with its client in the log until it is done, and is safe to repeat.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::Core;
use super::stored_routes::StoredRoute;
use super::timers::Timer;
use crate::access::Grant;
use crate::connection::SlotNumber;
use crate::counters::DropReason;
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::input::Outputs;
use crate::message::{Message, Publication};
use crate::notice::Event;
use crate::peer::{Body, Reply};
use crate::quota::Total;
use crate::ranges::MessageId;
use crate::ranges::inbox::{Effect, Will, Work, command};
use crate::storage::{LogSlot, UPKEEP};
use crate::time::{Mono, Now, Wall};

/// The tasks of this core's clients that are not done.
#[derive(Default)]
pub(super) struct Tasks {
    /// Not begun.
    ready: VecDeque<TaskRef>,
    /// Publications that are on their way for one.
    publishing: HashMap<u64, (TaskRef, u16), foldhash::fast::FixedState>,
    next: u64,
    /// Publishers whose sessions have ended: since when.
    forgetting: VecDeque<(Mono, TaskRef, Incarnation)>,
}

/// A task of a client.
#[derive(Clone, Debug)]
pub(super) struct TaskRef {
    pub slot: LogSlot,
    pub tenant: Arc<str>,
    pub client: Box<str>,
    pub number: u64,
}

/// No message of a session is under way so long after its end.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The connection that stands for the publisher of a will.
const NO_CONNECTION: ConnectionId = ConnectionId { slot: u32::MAX, generation: u32::MAX };

impl Core {
    /// What a command to a range of sessions leads to.
    pub(super) fn on_stored_effect(&mut self, now: Now, slot: LogSlot, effect: Effect, out: &mut Outputs) {
        match effect {
            Effect::Held(..) | Effect::Released(_) => unreachable!("the range has taken it"),
            Effect::Queued { incarnation, epoch, .. } => {
                let Some(slot) = self.sessions.find(incarnation) else { return };
                let session = self.sessions.get(slot);
                let connection = session.connection();
                if session.stored.as_ref().is_some_and(|stored| stored.epoch == epoch) {
                    self.pump(now, connection, out);
                }
            }
            Effect::Dropped(tenant, reason, count) => self.lose_of(&tenant, reason, u64::from(count)),
            Effect::Due(incarnation, at) => self.arm_session(now, incarnation, at),
            Effect::NotDue(incarnation) => self.disarm_session(incarnation),
            Effect::Ended { incarnation, tenant, client, shared, plain } => {
                self.notice_of(&tenant, &client, Event::SessionEnded, out);
                let tenant = self.tenants.index(&tenant, &self.config);
                self.leave_total(tenant, Total::PersistentSessions, 1);
                self.leave_total(tenant, Total::SharedSubscriptions, shared);
                self.leave_total(tenant, Total::PersistentSubscriptions, plain);
                self.on_stored_session_ended(incarnation);
            }
            Effect::Task { tenant, client, number } => {
                let task = TaskRef { slot, tenant, client, number };
                self.bind_route_waiter(&task);
                self.stored.tasks.ready.push_back(task);
            }
            Effect::Unknown(_) => self.counters.drop_messages(DropReason::UnknownSession, 1),
        }
    }

    fn on_stored_session_ended(&mut self, incarnation: Incarnation) {
        self.forget_member(incarnation);
        self.disarm_session(incarnation);
        self.stored.unrouted.remove(&incarnation);
        // What its client may do is asked once more, for its will: then it goes.
        if let Some(grant) = self.stored.away.remove(&incarnation).and_then(|away| away.grant) {
            self.stored.last_grants.push((incarnation, grant));
        }
    }

    /// A start has found something to be done.
    pub(super) fn add_task(&mut self, slot: LogSlot, tenant: Arc<str>, client: Box<str>, number: u64) {
        self.stored.tasks.ready.push_back(TaskRef { slot, tenant, client, number });
    }

    /// Whether tasks wait for a turn.
    pub(super) fn has_tasks(&self) -> bool {
        !self.stored.tasks.ready.is_empty()
    }

    /// Begins tasks, as many as a turn allows.
    pub(super) fn run_tasks(&mut self, now: Now, out: &mut Outputs) {
        while self.endings_left > 0 {
            self.endings_left -= 1;
            let Some(task) = self.stored.tasks.ready.pop_front() else { break };
            self.run_task(now, task, out);
        }
        if self.stored.tasks.ready.is_empty() {
            self.stored.last_grants.clear();
        }
    }

    fn run_task(&mut self, now: Now, task: TaskRef, out: &mut Outputs) {
        let range = self.storage.log(task.slot).inbox().machine();
        let Some(work) =
            range.client(&task.tenant, &task.client).and_then(|client| client.tasks.get(task.number))
        else {
            return;
        };
        match work {
            Work::Route(session, filter, options) => {
                let stands = range.session(*session).is_some_and(|it| it.subscriptions.contains_key(filter));
                let (session, filter, options) = (*session, filter.clone(), *options);
                if !stands {
                    // It was given up since: a start would put the route up once more, until the next task ends it.
                    return self.leave_route(StoredRoute { task, session, spelled: filter }, out);
                }
                self.change_stored_route(task, session, &filter, Some(options));
            }
            Work::Unroute(session, filter) => {
                let stands = range.session(*session).is_some_and(|it| it.subscriptions.contains_key(filter));
                let (session, filter) = (*session, filter.clone());
                if stands {
                    // It subscribes anew, and that route's task may be done before this one is repeated.
                    return self.leave_route(StoredRoute { task, session, spelled: filter }, out);
                }
                self.change_stored_route(task, session, &filter, None);
            }
            Work::Publish(session, will, at) => {
                let (session, will, at) = (*session, Will::clone(will), *at);
                self.publish_stored_will(now, task, session, &will, at, out);
            }
            Work::PassOn(group, message) => {
                let group = Arc::clone(range.group(*group));
                let message = Arc::new(self.read_stored(&task, *message));
                self.pass_on(group, message);
                self.finish_task(task, out);
            }
            Work::Forget(session) => {
                let session = *session;
                self.forget_later(now, task, session);
            }
        }
    }

    /// What a session published may still be under way: it is forgotten when nothing is any more.
    fn forget_later(&mut self, now: Now, task: TaskRef, session: Incarnation) {
        if self.stored.tasks.forgetting.is_empty() {
            self.wheel.arm(now.monotonic.after(FORGET_AFTER).0, Timer::Forget);
        }
        self.stored.tasks.forgetting.push_back((now.monotonic, task, session));
    }

    pub(super) fn on_forget_timer(&mut self, now: Now, out: &mut Outputs) {
        while let Some((since, ..)) = self.stored.tasks.forgetting.front() {
            if since.after(FORGET_AFTER) > now.monotonic {
                self.wheel.arm(since.after(FORGET_AFTER).0, Timer::Forget);
                break;
            }
            let Some((_, task, session)) = self.stored.tasks.forgetting.pop_front() else { break };
            for core in 0..self.config.cores {
                self.post(CoreId(core), Body::ForgetPublisher { session });
            }
            self.finish_task(task, out);
        }
    }

    /// A task is done.
    pub(super) fn finish_task(&mut self, task: TaskRef, out: &mut Outputs) {
        let TaskRef { slot, tenant, client, number } = task;
        let done = command::TaskDone { tenant: &tenant, client: &client, number };
        self.propose(slot, UPKEEP, None, (&done, &[]), out);
    }

    fn publish_stored_will(
        &mut self,
        now: Now,
        task: TaskRef,
        session: Incarnation,
        will: &Will,
        at: Wall,
        out: &mut Outputs,
    ) {
        let message = self.read_stored(&task, will.message);
        let expires = (will.expiry_seconds != u32::MAX).then(|| at.after_seconds(will.expiry_seconds));
        let message = Message { expires, ..message };
        let grant = self.grant_of_gone(session);
        if !self.admit_will(&message, &task.client, grant) {
            self.notice_of(&task.tenant, &task.client, Event::WillDenied, out);
            self.finish_task(task, out);
            return;
        }
        self.notice_of(&task.tenant, &task.client, Event::WillPublished, out);
        let number = self.stored.tasks.next;
        self.stored.tasks.next += 1;
        let reply = Reply { connection: NO_CONNECTION, slot: SlotNumber(number) };
        let message = Arc::new(message);
        let tenant = self.tenants.index(&message.tenant, &self.config);
        let routed = self.route(now, tenant, &Publication::from(&message), Some(reply), out);
        if routed.waiting == 0 {
            self.finish_task(task, out);
        } else {
            self.stored.tasks.publishing.insert(number, (task, routed.waiting));
        }
    }

    fn grant_of_gone(&self, session: Incarnation) -> Option<Arc<Grant>> {
        let away = self.stored.away.get(&session).and_then(|away| away.grant.as_ref());
        let last = self.stored.last_grants.iter().find(|(other, _)| *other == session);
        away.or(last.map(|(_, grant)| grant)).cloned()
    }

    /// A part of a will's publication is done, and `more` are to come. True if it was a will's.
    pub(super) fn on_task_answer(&mut self, reply: Reply, more: u16, out: &mut Outputs) -> bool {
        if reply.connection != NO_CONNECTION {
            return false;
        }
        let SlotNumber(number) = reply.slot;
        if let Some((_, waiting)) = self.stored.tasks.publishing.get_mut(&number) {
            *waiting = *waiting + more - 1;
            if *waiting == 0
                && let Some((task, _)) = self.stored.tasks.publishing.remove(&number)
            {
                self.finish_task(task, out);
            }
        }
        true
    }

    /// A publishing session has ended somewhere.
    pub(super) fn forget_publisher(&mut self, session: Incarnation, out: &mut Outputs) {
        let forget = command::Forget { incarnation: session.0 };
        for slot in self.storage.slots() {
            self.propose(slot, UPKEEP, None, (&forget, &[]), out);
        }
        self.forget_retaining(session);
    }

    fn read_stored(&self, task: &TaskRef, message: MessageId) -> Message {
        self.storage.log(task.slot).message(message).to_message(&task.tenant)
    }
}

//! A client whose session is persistent: it is attached when its log says so, and greeted then; and what
//! becomes of the session when the connection ends.

use std::sync::Arc;

use mqtt::Connect;

use super::Core;
use super::append::Append;
use super::greet::Welcome;
use super::stored::{Awaited, Away};
use super::timers::{Timer, due};
use crate::config::QueueDrop;
use crate::connection::Phase;
use crate::counters::DropReason;
use crate::identity::{ConnectionId, Incarnation};
use crate::input::{Close, Outputs};
use crate::message::hash_client;
use crate::placement::inbox_key;
use crate::ranges::inbox::{Attached, command};
use crate::sessions::{SessionSlot, Stored, Will};
use crate::storage::{LogSlot, Storage, UPKEEP};
use crate::tenant::TenantIndex;
use crate::time::{Now, Wall};

/// A CONNECT whose session is on its way.
pub(super) struct Attaching {
    connection: ConnectionId,
    tenant: TenantIndex,
    client: Box<str>,
    epoch: u64,
    /// There will be a persistent session; otherwise a former one ends, and the client has one that does not
    /// last.
    persistent: bool,
    expiry_seconds: u32,
    /// Of a session that does not last.
    will: Option<Box<Will>>,
    welcome: Welcome,
}

impl Core {
    /// Which log is to be asked about a client that connects; none if it neither has nor wants a persistent
    /// session.
    pub(super) fn log_to_ask(&self, tenant: &str, client: &str, expiry_seconds: u32) -> Option<LogSlot> {
        let slot = Storage::slot_of(&self.config, inbox_key(tenant, client));
        if expiry_seconds > 0 {
            return Some(slot);
        }
        let attaching = &self.stored.attaching;
        let attaching = !attaching.is_empty() && attaching.contains_key(&(tenant.into(), client.into()));
        let range = self.storage.log(slot).inbox().machine();
        let has =
            !range.is_empty() && range.client(tenant, client).is_some_and(|client| client.session.is_some());
        (attaching || has).then_some(slot)
    }

    /// Asks the log for the client's session. What the client sends meanwhile waits.
    #[expect(clippy::too_many_arguments, reason = "what a CONNECT brings")]
    pub(super) fn propose_attach(
        &mut self,
        now: Now,
        id: ConnectionId,
        slot: LogSlot,
        connect: &Connect<'_>,
        (tenant, client): (TenantIndex, &str),
        mut will: Option<Box<Will>>,
        welcome: Welcome,
        out: &mut Outputs,
    ) {
        let name = Arc::clone(&self.tenants.get(tenant).name);
        self.leave_former(now, &name, client, out);
        let (epoch, incarnation) = (self.new_incarnation().0, self.new_incarnation().0);
        let persistent = welcome.expiry_seconds > 0 || !connect.clean_start;
        let to_store = will.take_if(|_| persistent);
        let payload = to_store.as_ref().map(|will| will.message.payload.to_bytes()).unwrap_or_default();
        let stored_will = to_store.as_ref().map(|will| command::Will {
            message: will.message.head(),
            delay_seconds: will.delay_seconds,
            expiry_seconds: will.expiry_seconds.unwrap_or(u32::MAX),
        });
        let attach = command::Attach {
            tenant: &name,
            client,
            incarnation,
            epoch,
            clean_start: connect.clean_start,
            durable: persistent,
            expiry_seconds: welcome.expiry_seconds,
            will: stored_will,
        };
        let connection = self.connections.get_mut(id).expect("is being admitted");
        connection.phase = Phase::Attaching;
        let attaching = Attaching {
            connection: id,
            tenant,
            client: client.into(),
            epoch,
            persistent,
            expiry_seconds: welcome.expiry_seconds,
            will,
            welcome,
        };
        self.stored.attaching.insert((Arc::clone(&name), client.into()), id);
        let awaited = Some(Awaited::Attach(Box::new(attaching)));
        self.propose(slot, UPKEEP, awaited, (&attach, &payload), out);
    }

    /// [MQTT-3.1.4-3]: a former connection of the client is told and closed, before the new one hears anything.
    fn leave_former(&mut self, now: Now, tenant: &Arc<str>, client: &str, out: &mut Outputs) {
        let attaching = self.stored.attaching.remove(&(Arc::clone(tenant), client.into()));
        if let Some(former) = attaching {
            self.counters.take_overs += 1;
            self.linger(now, former, Close::Flush, out); // it was not greeted, and cannot be told
        }
        let Some(slot) = self.sessions.find_client(tenant, client) else { return };
        let session = self.sessions.get(slot);
        if session.stored.is_some() {
            let former = session.connection();
            self.leave_session(now, former, true, None, out);
            self.close_taken_over(now, former, out);
        } else {
            let mut effects = std::mem::take(&mut self.effects);
            self.sessions.end_former(tenant, client, now.wall, &mut effects);
            self.settle(now, effects, out);
        }
    }

    /// The log has given the client its session.
    pub(super) fn on_attached(
        &mut self,
        now: Now,
        slot: LogSlot,
        attaching: Attaching,
        attached: Attached,
        out: &mut Outputs,
    ) {
        let Attaching { connection: id, tenant, client, epoch, persistent, expiry_seconds, will, welcome } =
            attaching;
        let name = Arc::clone(&self.tenants.get(tenant).name);
        let key = (Arc::clone(&name), client);
        if self.stored.attaching.get(&key) == Some(&id) {
            self.stored.attaching.remove(&key);
        }
        let waits = |phase: &Phase| matches!(phase, Phase::Attaching);
        if !self.connections.get(id).is_some_and(|connection| waits(&connection.phase)) {
            if persistent {
                let sent_before = attached.sent_before.0;
                let incarnation = attached.incarnation.0;
                let detach = command::Detach {
                    incarnation,
                    epoch,
                    keep_will: true,
                    expiry_seconds: None,
                    sent_before,
                };
                self.propose(slot, UPKEEP, None, (&detach, &[]), out);
            }
            return;
        }
        if !persistent {
            let slot = self.attach_volatile(now, id, (&name, &key.1), will, out);
            self.settle_in(now, id, slot, false, &welcome, out);
            self.resume(id);
            return;
        }
        let range = self.storage.log(slot).inbox().machine();
        let session = range.session(attached.incarnation).expect("it was attached just now");
        let tells_sent = self.tenants.get(tenant).settings.queue_drop == QueueDrop::Oldest;
        let stored = Stored::new((slot, epoch), &attached, session, tells_sent);
        let names = (attached.incarnation, expiry_seconds);
        let slot = self.sessions.attach_stored((&name, &key.1), id, names, stored);
        if let Some(away) = self.stored.away.remove(&attached.incarnation) {
            away.timer.into_iter().for_each(|timer| {
                self.wheel.cancel(timer);
            });
            self.sessions.at(slot).owed = away.owed;
        }
        if self.tenants.get(tenant).settings.queue_qos0 {
            self.mark_arrival(slot, out);
        }
        self.settle_in(now, id, slot, attached.session_present, &welcome, out);
        self.resume(id);
    }

    /// QoS 0 messages that came while the session was on its way stand behind it in the log: those that come now follow
    /// them there, until a command behind all of them is applied.
    fn mark_arrival(&mut self, slot: SessionSlot, out: &mut Outputs) {
        let session = self.sessions.at(slot);
        let name = session.incarnation();
        let Some(stored) = &mut session.stored else { return };
        stored.begin_detour();
        stored.appending += 1;
        let (slot, epoch, incarnation) = (stored.log, stored.epoch, name.0);
        let nothing = command::Progress { incarnation, epoch, sent_before: 0, received: &[], finished: &[] };
        let awaited = Some(Awaited::Append(Append::counted_by(name)));
        self.propose(slot, UPKEEP, awaited, (&nothing, &[]), out);
    }

    /// The connection of a persistent session has ended.
    pub(super) fn leave_stored(
        &mut self,
        now: Now,
        id: ConnectionId,
        slot: SessionSlot,
        keep_will: bool,
        expiry_seconds: Option<u32>,
        out: &mut Outputs,
    ) {
        self.propose_progress_of(slot, out);
        let session = self.sessions.detach_stored(slot);
        let incarnation = session.incarnation();
        let stored = session.stored.expect("is persistent");
        self.leave_orphans(id, incarnation);
        let detach = command::Detach {
            incarnation: incarnation.0,
            epoch: stored.epoch,
            keep_will,
            expiry_seconds,
            sent_before: stored.sent_before().0,
        };
        let mut owed = session.owed;
        if let Some(owed) = &mut owed {
            owed.rewind();
        }
        let away = Away { grant: session.grant, since: Some(now.wall), owed, timer: None };
        self.stored.away.insert(incarnation, away);
        self.propose(stored.log, UPKEEP, None, (&detach, &[]), out);
    }

    /// Counts a will that is not published because the server stops.
    pub(super) fn count_stopped_will(&mut self, slot: SessionSlot) {
        let session = self.sessions.get(slot);
        let has_will = match &session.stored {
            Some(stored) => {
                let range = self.storage.log(stored.log).inbox().machine();
                range.session(session.incarnation()).is_some_and(|session| session.will.is_some())
            }
            None => session.has_will(),
        };
        let tenant = Arc::clone(session.tenant());
        self.lose_of(&tenant, DropReason::Stopping, u64::from(has_will));
    }

    /// A session whose client is away ends before its time: as if its client had come without wanting one.
    pub(super) fn end_away(&mut self, slot: LogSlot, tenant: &str, client: &str, out: &mut Outputs) {
        let (incarnation, epoch) = (self.new_incarnation().0, self.new_incarnation().0);
        let attach = command::Attach {
            tenant,
            client,
            incarnation,
            epoch,
            clean_start: true,
            durable: false,
            expiry_seconds: 0,
            will: None,
        };
        self.propose(slot, UPKEEP, None, (&attach, &[]), out);
    }

    /// Something is due for a session that is away: it has one timer at most.
    pub(super) fn arm_session(&mut self, now: Now, incarnation: Incarnation, at: Wall) {
        let timer = self.wheel.arm(due(now, at).0, Timer::Session(incarnation));
        let away = self.stored.away.entry(incarnation).or_default();
        if let Some(former) = away.timer.replace(timer) {
            self.wheel.cancel(former);
        }
    }

    /// Nothing is due for it any more.
    pub(super) fn disarm_session(&mut self, incarnation: Incarnation) {
        let timer = self.stored.away.get_mut(&incarnation).and_then(|away| away.timer.take());
        timer.into_iter().for_each(|timer| {
            self.wheel.cancel(timer);
        });
    }

    /// The moment has come.
    pub(super) fn on_session_timer(&mut self, incarnation: Incarnation, out: &mut Outputs) {
        if let Some(away) = self.stored.away.get_mut(&incarnation) {
            away.timer = None;
        }
        if let Some(slot) = self.log_of_session(incarnation) {
            let due = command::Due { incarnation: incarnation.0 };
            self.propose(slot, UPKEEP, None, (&due, &[]), out);
        }
    }

    /// Which log has a session.
    pub(super) fn log_of_session(&self, incarnation: Incarnation) -> Option<LogSlot> {
        let has = |slot: &LogSlot| self.storage.log(*slot).inbox().machine().session(incarnation).is_some();
        self.storage.slots().find(has)
    }

    /// Whether a client that is away may receive what is published on a topic, as of its last connection. One
    /// that nobody has claimed since the start takes everything: it is judged when somebody does.
    pub(super) fn away_may_receive(&mut self, slot: LogSlot, incarnation: Incarnation, topic: &str) -> bool {
        if !self.access.is_restricted() {
            return true;
        }
        let Some(away) = self.stored.away.get_mut(&incarnation) else { return true };
        let Some(grant) = &mut away.grant else { return true };
        let range = self.storage.log(slot).inbox().machine();
        self.access.refresh(grant, || range.client_of(incarnation).unwrap_or_default().into());
        grant.may_receive(topic)
    }

    /// Hash of a client's id, for No Local.
    pub(super) fn is_own(&self, slot: SessionSlot, client_hash: u64) -> bool {
        hash_client(self.sessions.get(slot).client()) == client_hash
    }
}

//! The core: inputs in, outputs out, one turn at a time.
//!
//! `Core` holds the state and the `match` over what can happen; each kind of event is handled in a file of
//! its own beside this one, named after it. A PUBLISH comes in through [`receive`], is judged in [`publish`],
//! finds its destinations in [`lookup`] and leaves through [`dispatch`].

mod acknowledge;
mod allow;
mod append;
mod attach;
mod authenticate;
mod bites;
mod close;
mod connect;
mod deadlines;
mod deliver;
mod disconnect;
mod dispatch;
mod drain;
mod effects;
mod fullness;
mod greet;
mod hear_out;
mod held;
mod lookup;
mod members;
mod pace;
mod peers;
mod postponed;
mod publish;
mod quotas;
mod read_in;
mod reading;
mod receive;
mod resend;
mod resume;
mod retain_changes;
mod retain_order;
mod retain_point;
mod retained;
mod route_changes;
mod route_requests;
mod shared;
mod shared_repeats;
mod sight;
mod stop;
mod stored;
mod stored_routes;
mod subscribe;
mod subscriptions;
mod sweep;
mod taken;
mod tasks;
mod timers;
mod unfinished;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::access::Access;
use crate::bans::{Ban, Bans, Flaps};
use crate::config::Config;
use crate::connection::{BufferPool, Connection, Connections, Frames, Pressure};
use crate::counters::{Counters, DropReason};
use crate::dist::{MatchCache, Routes};
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::input::{Input, Outputs};
use crate::random::{Random, mix};
use crate::sessions::{Effect, Ended, Sessions};
use crate::storage::{Storage, StoredLog};
use crate::tenant::{TenantIndex, Tenants};
use crate::time::{Mono, Now, Wall};
use crate::wheel::Wheel;

use bites::Bites;
use deadlines::Deadlines;
use effects::ENDINGS_MAX;
use fullness::Fullness;
use hear_out::Newcomer;
use lookup::Lookups;
use peers::Peers;
use postponed::Postponed;
use quotas::Measuring;
use reading::ReadingClock;
use resume::Resuming;
use retain_changes::RetainChanges;
use retain_order::RetainOrder;
use retain_point::PointRounds;
use route_changes::{RouteChanges, RouteWaits};
use route_requests::RouteRequests;
use shared::SharedGroups;
use stop::Stopping;
use stored::StoredSessions;
use sweep::Sweep;
use timers::Timer;
use unfinished::Unfinished;
use watch::Watch;

/// Everything one CPU of a node owns. See the crate's documentation.
pub struct Core {
    config: Arc<Config>,
    id: CoreId,
    random: Random,
    counters: Counters,

    // Clients.
    connections: Connections,
    access: Access,
    bans: Bans,
    flaps: Flaps,
    /// Who came too often in this turn.
    flapping: Vec<Ban>,
    sweep: Sweep,
    measuring: Measuring,
    /// Tenants whose totals the other cores are to be told.
    untold_totals: Vec<TenantIndex>,
    tenants: Tenants,
    cache: MatchCache,
    lookups: Lookups,
    shared: SharedGroups,
    route_waits: RouteWaits,

    // The ranges hosted here.
    routes: Routes,
    route_changes: RouteChanges,
    /// What a budget left over of what they are asked.
    route_requests: RouteRequests,
    sessions: Sessions,
    retain_changes: RetainChanges,
    retain_order: RetainOrder,
    points: PointRounds,

    storage: Storage,
    stored: StoredSessions,
    /// There while what the logs hold is being taken up.
    resuming: Option<Resuming>,

    // Between turns.
    wheel: Wheel<Timer>,
    peers: Peers,
    fullness: Fullness,
    deadlines: Deadlines,
    reading: ReadingClock,
    /// Large packets that have not come whole.
    unfinished: Unfinished,
    /// Connections with input that a budget left over.
    backlog: VecDeque<ConnectionId>,
    /// Deliveries that a budget left over.
    postponed: Postponed,
    /// Ended sessions whose routes and messages are not all gone yet.
    ending: VecDeque<Box<Ended>>,
    /// Clients that wait until their former connections are heard.
    newcomers: BTreeMap<ConnectionId, Newcomer>,
    stopping: Option<Stopping>,
    /// What is told of single messages.
    bites: Bites,
    watch: Watch,
    /// Inputs were taken since the last turn ended.
    turn_open: bool,

    // Scratch.
    deliveries_left: u32,
    /// The same for what other cores send.
    mail_deliveries_left: u32,
    /// Filters and messages of ended sessions that the turn still deals with.
    endings_left: u32,
    /// A receiver of the publication at hand falls behind.
    pressure: Pressure,
    frames: Frames,
    pool: BufferPool,
    effects: Vec<Effect>,
    fired: Vec<Timer>,
    next_incarnation: u64,
    next_retained_request: u64,
}

impl Core {
    /// A core of a node that has just started. `node_incarnation` is the start's own number, greater than
    /// that of any earlier start and below 2^44 (milliseconds since 1970 will do); `seed` feeds everything
    /// that looks random. Nothing it keeps outlives it.
    #[must_use]
    pub fn new(config: Arc<Config>, id: CoreId, node_incarnation: u64, seed: u64, now: Now) -> Core {
        let mut random = Random::new(mix(seed) ^ u64::from(id.0));
        let storage = Storage::in_memory(&config, id, &mut random);
        Core::with_storage(config, id, node_incarnation, (random, storage), now)
    }

    /// The same, with what is kept in logs on disk: those that this core serves, ascending by id. `ended` is when
    /// the process that had them last was gone, at the latest: since then its clients are away.
    #[must_use]
    pub fn open(
        config: Arc<Config>,
        id: CoreId,
        node_incarnation: u64,
        seed: u64,
        logs: Vec<StoredLog>,
        ended: Wall,
        now: Now,
    ) -> Core {
        let random = Random::new(mix(seed) ^ u64::from(id.0));
        let resuming = Some(Resuming::new(config.cores, ended));
        let storage = (random, Storage::on_disk(logs));
        Core { resuming, ..Core::with_storage(config, id, node_incarnation, storage, now) }
    }

    fn with_storage(
        config: Arc<Config>,
        id: CoreId,
        node_incarnation: u64,
        (mut random, storage): (Random, Storage),
        now: Now,
    ) -> Core {
        let deliveries_left = config.turn_deliveries_max;
        let mut core = Core {
            id,
            counters: Counters::default(),
            connections: Connections::default(),
            access: Access::new(),
            bans: Bans::default(),
            flaps: Flaps::new(random.next()),
            flapping: Vec::new(),
            sweep: Sweep::default(),
            measuring: Measuring::default(),
            untold_totals: Vec::new(),
            tenants: Tenants::new(random.next()),
            cache: MatchCache::new(random.next(), config.match_cache_topics_max),
            lookups: Lookups::new(random.next()),
            shared: SharedGroups::new(random.next()),
            route_waits: RouteWaits::default(),
            routes: Routes::new(id, random.next()),
            route_changes: RouteChanges::default(),
            route_requests: RouteRequests::new(config.cores),
            sessions: Sessions::new(random.next()),
            retain_changes: RetainChanges::new(storage.slots().count()),
            retain_order: RetainOrder::new(id, config.cores, config.logs()),
            points: PointRounds::default(),
            stored: StoredSessions::new(now.wall, storage.slots().count()),
            storage,
            resuming: None,
            wheel: Wheel::new(now.monotonic.0),
            peers: Peers::new(config.cores),
            fullness: Fullness::default(),
            deadlines: Deadlines::default(),
            reading: ReadingClock::default(),
            unfinished: Unfinished::default(),
            backlog: VecDeque::new(),
            postponed: Postponed::default(),
            ending: VecDeque::new(),
            newcomers: BTreeMap::new(),
            stopping: None,
            bites: Bites::default(),
            watch: Watch::default(),
            turn_open: false,
            deliveries_left,
            mail_deliveries_left: deliveries_left,
            endings_left: ENDINGS_MAX,
            pressure: Pressure::NONE,
            frames: Frames::default(),
            pool: BufferPool::default(),
            effects: Vec::new(),
            fired: Vec::new(),
            // Room for 2^20 sessions per millisecond of a start before it could meet the next one's.
            next_incarnation: (node_incarnation << 20) + u64::from(id.0),
            next_retained_request: 0,
            random,
            config,
        };
        core.watch.configure(&core.config);
        core.expire_all_retained(now);
        core
    }

    /// Takes one input. What it causes is appended to `out`.
    pub fn on_input(&mut self, now: Now, input: Input<'_>, out: &mut Outputs) {
        self.begin_turn(now);
        match input {
            Input::ClientAccepted { connection, listener, peer } => {
                self.on_accepted(now, connection, listener, peer, out);
            }
            Input::ClientRelayed { connection, peer } => self.on_relayed(connection, peer),
            Input::ClientNamed { connection, name } => self.on_named(connection, name),
            Input::ClientCertified { connection, user } => self.on_certified(connection, user),
            Input::ClientHandedOver { connection, handover } => {
                self.on_handed_over(now, connection, *handover, out);
            }
            Input::ClientBytes { connection, bytes } => self.on_bytes(now, connection, bytes, out),
            Input::ClientSent { connection, bytes } => self.on_sent(now, connection, bytes, out),
            Input::ClientBroken { connection, doubt } => self.on_broken(connection, doubt, out),
            Input::ClientClosed { connection } => self.on_closed(now, connection, out),
            Input::PeerMessages { from, messages } => {
                // What other cores' clients cause is not on the account of this core's.
                std::mem::swap(&mut self.deliveries_left, &mut self.mail_deliveries_left);
                for message in messages {
                    self.on_peer(now, from, message.0, out);
                }
                std::mem::swap(&mut self.deliveries_left, &mut self.mail_deliveries_left);
            }
            Input::ClientHeardOut { connection } => self.on_heard_out(now, connection, out),
            Input::Decided(decided) => self.on_decided(now, decided, out),
            Input::Storage(answer) => self.on_storage(now, answer),
            Input::Configure(config) => self.configure(now, config),
            Input::AccessList(list) => self.access.replace(list),
            Input::Ban(ban) => self.on_ban(now, ban),
            Input::Unban(target) => self.on_unban(&target),
            Input::UsersGone(users) => self.on_users_gone(&users),
            Input::Ask(ask) => self.on_ask(now, *ask, out),
            Input::Announce(publish) => {
                // Whom it does not reach is counted as for any message.
                let _ = self.publish_for(now, *publish, out);
            }
            Input::Stop => self.on_stop(now, out),
        }
    }

    /// Does what is due: timers, and what an earlier turn's budget left undone. To be called when
    /// [`Core::next_timeout`] has come; calling it early does no harm.
    pub fn on_timeout(&mut self, now: Now, out: &mut Outputs) {
        self.begin_turn(now);
        self.on_timers(now, out);
        self.process_postponed(now, out);
        self.process_routes(now, out);
        self.process_backlog(now, out);
        self.go_on_sweeping(now, out);
        self.go_on_measuring(now);
        self.go_on_resuming(now, out);
    }

    fn begin_turn(&mut self, now: Now) {
        if !self.turn_open {
            let due = self.next_timeout();
            self.reading.begin_turn(now.monotonic, due);
            self.turn_open = true;
        }
        self.watch.set_now(now);
    }

    /// Ends a turn: everything gathered per turn is worked off and leaves. To be called once after the
    /// turn's inputs, before the host acts on `out`.
    pub fn end_turn(&mut self, now: Now, out: &mut Outputs) {
        self.peers.take_later();
        self.on_own_messages(now, out);
        self.clear_ended(out);
        self.answer_counts();
        self.on_own_messages(now, out);
        self.end_storage_turn(now, out);
        self.begin_points();
        self.tell_fullness();
        self.tell_loads();
        self.tell_totals();
        self.tell_bites(now, out);
        self.watch_requests(now);
        self.send_posted(out);
        self.tell_noticed(out);
        out.banned.append(&mut self.flapping);
        self.reading.end_turn(now.monotonic, self.wants_clients());
        // What was worked off since may have stalled some again.
        out.resumed.retain(|connection| self.wants_bytes(*connection));
        for connection in &out.dirty {
            if let Some(connection) = self.connections.get_mut(*connection) {
                connection.dirty = false;
            }
        }
        self.deliveries_left = self.config.turn_deliveries_max;
        self.mail_deliveries_left = self.config.turn_deliveries_max;
        self.endings_left = ENDINGS_MAX;
        self.turn_open = false;
    }

    /// When [`Core::on_timeout`] wants to be called next; a time in the past means at once.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Mono> {
        let left_over = !(self.backlog.is_empty() && self.postponed.is_empty() && self.ending.is_empty());
        let left_over = left_over || self.has_tasks() || self.is_resuming_now();
        let left_over = left_over || !self.route_requests.is_empty() || self.lookups.wait_for_budget();
        if self.turn_open
            || left_over
            || self.sweep.is_going_on()
            || self.measuring.is_going_on()
            || self.peers.has_own()
        {
            return Some(Mono(0));
        }
        let timer = self.wheel.next_deadline().map(Mono);
        timer.into_iter().chain(self.storage.next_timeout()).min()
    }

    /// Whether the host should receive for this connection. When it becomes true again the connection is
    /// in [`Outputs::resumed`].
    #[must_use]
    pub fn wants_bytes(&self, connection: ConnectionId) -> bool {
        self.connections.get(connection).is_some_and(Connection::wants_bytes)
    }

    /// Which of the configured listeners accepted a connection, by index.
    #[must_use]
    pub fn listener_of(&self, connection: ConnectionId) -> Option<u16> {
        self.connections.get(connection).map(|connection| connection.listener)
    }

    /// Whether clients should be read at all: false while another core has not caught up with what this
    /// one sent it. To be asked once a turn; messages from that core end it.
    #[must_use]
    pub fn wants_clients(&self) -> bool {
        self.peers.have_credit(self.config.mailbox_bytes_max) && self.logs_keep_up() && self.is_resumed()
    }

    /// The connection's unsent bytes that may leave now, in order; empty for a connection that is gone.
    pub fn unsent(&self, connection: ConnectionId) -> impl Iterator<Item = &[u8]> {
        let connection = self.connections.get(connection);
        let mut left = connection.map_or(0, Connection::sendable_bytes);
        connection.into_iter().flat_map(|connection| connection.send.slices()).map_while(move |slice| {
            let slice = &slice[..slice.len().min(left)];
            left -= slice.len();
            (!slice.is_empty()).then_some(slice)
        })
    }

    /// Who is kept out, those included whose time is over, as long as nobody needs their room.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.iter()
    }

    /// What this core has counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How much there is of what has a maximum, for metrics and checkers.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            connections: self.connections.len(),
            sessions: self.sessions.volatile() + self.storage.sessions(),
            cached_topics: self.cache.len(),
            timers: self.wheel.len(),
            watched_members: self.shared.loads.len(),
            postponed: self.postponed.len(),
            requests: self.lookups.len()
                + self.route_waits.len()
                + self.route_changes.len()
                + self.points.len(),
            tenants: self.tenants.len(),
            retained: self.storage.retained(),
            unprocessed_bytes: self.peers.unprocessed_bytes(),
            unfinished_bytes: self.unfinished.bytes(),
            retain_changes: self.retain_changes.len(),
        }
    }

    /// True when an orderly stop has told every client and nothing is left to send. A log that cannot be written
    /// never comes to rest, and is not waited for.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let is_quiet = self.is_poisoned() || self.is_storage_quiet();
        self.stopping.is_some() && self.connections.len() == 0 && is_quiet
    }

    fn configure(&mut self, now: Now, config: Arc<Config>) {
        self.tenants.configure(&config);
        self.watch.configure(&config);
        self.config = config;
        self.on_quotas_changed(now);
    }

    /// Counts messages of a tenant, known by its name, that were not delivered.
    fn lose_of(&mut self, tenant: &Arc<str>, reason: DropReason, messages: u64) {
        if messages > 0 {
            let tenant = self.tenants.index(tenant, &self.config);
            self.tenants.lose(&mut self.counters, tenant, reason, messages);
        }
    }

    fn new_incarnation(&mut self) -> Incarnation {
        let incarnation = Incarnation(self.next_incarnation);
        self.next_incarnation += u64::from(self.config.cores);
        incarnation
    }
}

/// See [`Core::usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections, greeted or not.
    pub connections: usize,
    /// Sessions at home here, online or away.
    pub sessions: usize,
    /// Topics in the match cache.
    pub cached_topics: usize,
    /// Timers armed.
    pub timers: usize,
    /// Members of shared subscriptions on other cores whose load is followed.
    pub watched_members: usize,
    /// Messages that have not reached all their sessions here yet.
    pub postponed: usize,
    /// Requests to other cores without an answer yet, and answers owed to them.
    pub requests: usize,
    /// Tenants that the core has met.
    pub tenants: usize,
    /// Retained messages that it keeps.
    pub retained: usize,
    /// Bytes of messages to other cores that these have not processed (`mailbox_bytes_max` is for each).
    pub unprocessed_bytes: u64,
    /// Bytes of large packets that have not come whole (`unfinished_bytes_max`).
    pub unfinished_bytes: u64,
    /// Changes of retained messages that are not durable yet.
    pub retain_changes: usize,
}

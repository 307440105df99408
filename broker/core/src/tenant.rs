//! What a core knows of each tenant: its settings, and which of this core's volatile sessions subscribe to
//! what.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::config::{Config, Settings};
use crate::counters::{Counters, DropReason};
use crate::delivery::DeliveryOptions;
use crate::dist::FanOut;
use crate::identity::ConnectionId;
use crate::quota::{Quota, Wanted};
use crate::sight::Traffic;
use crate::trie::Trie;

/// A tenant's place in its core's table: means nothing on another core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantIndex(pub u32);

impl TenantIndex {
    /// As an index into tables by tenant.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One tenant on one core.
pub struct Tenant {
    /// Its name, as messages carry it.
    pub name: Arc<str>,
    /// Its settings as they are now; a connection keeps those it was greeted under.
    pub settings: Arc<Settings>,
    /// The same for clients of each listener that has settings of its own.
    on_listeners: Vec<Option<Arc<Settings>>>,
    /// Filters of this core's volatile sessions.
    pub local: Trie<LocalFilter>,
    /// What its messages came to.
    pub traffic: Traffic,
    /// What it has and does, for its quotas.
    pub quota: Quota,
    /// Which of those it has.
    pub wanted: Wanted,
}

impl Tenant {
    /// Copies of this core's own: connections count their use, and cores share no cache line for it.
    fn configure(&mut self, config: &Config) {
        self.settings = Arc::new(Settings::clone(config.settings(&self.name)));
        self.wanted = Wanted::by(&self.settings);
        self.on_listeners = (0..config.listeners.len())
            .map(|listener| u16::try_from(listener).expect("listeners are numbered so"))
            .map(|listener| config.settings_on(listener, &self.name).map(Arc::new))
            .collect();
    }

    /// What a client of a listener is greeted under.
    pub fn settings_on(&self, listener: u16) -> &Arc<Settings> {
        let own = self.on_listeners.get(usize::from(listener)).and_then(Option::as_ref);
        own.unwrap_or(&self.settings)
    }
}

/// A filter to which volatile sessions of this core subscribe. The core as a whole has one route for it.
#[derive(Debug, Default)]
pub struct LocalFilter {
    /// Sorted by connection.
    subscribers: SmallVec<[FanOut; 1]>,
    /// SUBACKs that wait until the core's route stands; None: it stands.
    pub waiting: Option<RouteWaiting>,
}

/// Who waits for a core's route.
#[derive(Debug)]
pub struct RouteWaiting {
    /// The change that puts it up.
    pub change: u64,
    /// Requests to go on then.
    pub requests: Vec<SubscribeWait>,
}

/// One filter of a SUBSCRIBE or UNSUBSCRIBE whose acknowledgement waits for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeWait {
    /// Whose.
    pub connection: ConnectionId,
    /// Which of its requests.
    pub request: u64,
}

impl LocalFilter {
    /// Nobody subscribes any more.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// The subscribers, by connection.
    pub fn subscribers(&self) -> &[FanOut] {
        &self.subscribers
    }

    /// Adds a subscriber or changes its options.
    pub fn add(&mut self, connection: ConnectionId, options: DeliveryOptions) {
        let entry = FanOut { connection, options };
        match self.subscribers.binary_search_by_key(&connection, |other| other.connection) {
            Ok(index) => self.subscribers[index] = entry,
            Err(index) => self.subscribers.insert(index, entry),
        }
    }

    /// Removes a subscriber.
    pub fn remove(&mut self, connection: ConnectionId) {
        if let Ok(index) = self.subscribers.binary_search_by_key(&connection, |other| other.connection) {
            self.subscribers.remove(index);
        }
    }
}

/// All tenants that this core has met. Bounded by what authentication admits; never shrinks.
pub struct Tenants {
    by_name: HashMap<Arc<str>, TenantIndex, foldhash::fast::FixedState>,
    tenants: Vec<Tenant>,
    /// What any of them wants.
    wanted: Wanted,
    seed: u64,
}

impl Tenants {
    /// None yet.
    pub fn new(seed: u64) -> Tenants {
        let by_name = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Tenants { by_name, tenants: Vec::new(), wanted: Wanted::default(), seed }
    }

    /// The place of a tenant, made on first sight.
    pub fn index(&mut self, name: &Arc<str>, config: &Config) -> TenantIndex {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = TenantIndex(u32::try_from(self.tenants.len()).expect("fewer than 2^32 tenants"));
        let mut tenant = Tenant {
            name: Arc::clone(name),
            settings: Arc::default(),
            on_listeners: Vec::new(),
            local: Trie::new(self.seed),
            traffic: Traffic::default(),
            quota: Quota::default(),
            wanted: Wanted::default(),
        };
        tenant.configure(config);
        self.wanted = self.wanted.or(tenant.wanted);
        self.tenants.push(tenant);
        self.by_name.insert(Arc::clone(name), index);
        index
    }

    /// All tenants have other settings from now on.
    pub fn configure(&mut self, config: &Config) {
        self.wanted = Wanted::default();
        for tenant in &mut self.tenants {
            tenant.configure(config);
            self.wanted = self.wanted.or(tenant.wanted);
        }
    }

    /// What quotas any of them has.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// The places of all.
    pub fn indexes(&self) -> impl Iterator<Item = TenantIndex> + use<> {
        (0..u32::try_from(self.tenants.len()).expect("fewer than 2^32 tenants")).map(TenantIndex)
    }

    /// The tenant at a place.
    pub fn at(&mut self, index: TenantIndex) -> &mut Tenant {
        &mut self.tenants[index.index()]
    }

    /// Counts messages of a tenant that were not delivered.
    pub fn lose(&mut self, counters: &mut Counters, tenant: TenantIndex, reason: DropReason, messages: u64) {
        if messages > 0 {
            counters.drop_messages(reason, messages);
            self.at(tenant).traffic.dropped[reason as usize] += messages;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Those from a place on.
    pub fn from(&self, place: u32) -> impl Iterator<Item = &Tenant> {
        self.tenants.iter().skip(place as usize)
    }

    /// The same, to look at.
    pub fn get(&self, index: TenantIndex) -> &Tenant {
        &self.tenants[index.index()]
    }
}

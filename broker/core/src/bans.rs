//! Who is kept out: clients, users and addresses, each until a time or for good. A plain table that knows no
//! connections; each core has one of its own.
//!
//! What the host says ([`Input::Ban`](crate::input::Input)) it says to all cores. Who came back too often
//! (`Flaps`) is kept out by the client's home core alone, which is where each of its CONNECTs ends.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::network::Network;
use crate::random::mix;
use crate::time::{Mono, Wall};

/// Whom a ban is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Clients of this id, of one tenant or of any.
    Client {
        /// The tenant; None: of any.
        tenant: Option<Arc<str>>,
        /// The id.
        client: Arc<str>,
    },
    /// Clients that are let in as this user, of one tenant or of any.
    User {
        /// The tenant; None: of any.
        tenant: Option<Arc<str>>,
        /// The user.
        user: Arc<str>,
    },
    /// Clients from these addresses.
    Address(Network),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, tenant, name) = match self {
            Target::Client { tenant, client } => ("client", tenant, client),
            Target::User { tenant, user } => ("user", tenant, user),
            Target::Address(network) => return write!(f, "address {network}"),
        };
        match tenant {
            Some(tenant) => write!(f, "{kind} {name} of {tenant}"),
            None => write!(f, "{kind} {name}"),
        }
    }
}

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// For whom.
    pub target: Target,
    /// From then on no more; None: for good.
    pub until: Option<Wall>,
    /// Why, for people who read lists.
    pub reason: Arc<str>,
}

impl Ban {
    /// Whether it is not over.
    #[must_use]
    pub fn holds(&self, now: Wall) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// One core's table.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    by_target: BTreeMap<Target, Ban>,
    /// Those of them that are for more than one address.
    networks: Vec<Network>,
}

impl Bans {
    /// Enters a ban, in place of another for the same target. False: there are `bans_max` that hold.
    pub(crate) fn insert(&mut self, now: Wall, ban: Ban, bans_max: u32) -> bool {
        let bans_max = bans_max as usize;
        if self.by_target.len() >= bans_max && !self.by_target.contains_key(&ban.target) {
            self.forget_past(now);
            if self.by_target.len() >= bans_max {
                return false;
            }
        }
        if let Target::Address(network) = &ban.target
            && network.single().is_none()
            && !self.networks.contains(network)
        {
            self.networks.push(*network);
        }
        self.by_target.insert(ban.target.clone(), ban);
        true
    }

    /// Takes a ban out again.
    pub(crate) fn remove(&mut self, target: &Target) {
        self.by_target.remove(target);
        if let Target::Address(network) = target {
            self.networks.retain(|other| other != network);
        }
    }

    fn forget_past(&mut self, now: Wall) {
        self.by_target.retain(|_, ban| ban.holds(now));
        self.networks.retain(|network| self.by_target.contains_key(&Target::Address(*network)));
    }

    /// All of them, those that no longer hold too, as long as nobody needs their room.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.by_target.values()
    }

    /// Those from one on, in order.
    pub(crate) fn from(&self, from: Bound<&Target>) -> impl Iterator<Item = &Ban> {
        self.by_target.range::<Target, _>((from, Bound::Unbounded)).map(|(_, ban)| ban)
    }

    pub(crate) fn get(&self, target: &Target) -> Option<&Ban> {
        self.by_target.get(target)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    fn has(&self, now: Wall, target: &Target) -> bool {
        self.by_target.get(target).is_some_and(|ban| ban.holds(now))
    }

    /// Whether clients from an address are kept out.
    pub(crate) fn has_address(&self, now: Wall, address: IpAddr) -> bool {
        if self.is_empty() {
            return false;
        }
        let network = self.networks.iter().filter(|network| network.contains(address));
        self.has(now, &Target::Address(address.into()))
            || network.into_iter().any(|network| self.has(now, &Target::Address(*network)))
    }

    /// Whether a client is kept out, by its id or as the user that it is.
    pub(crate) fn has_client(&self, now: Wall, tenant: &Arc<str>, client: &str, user: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        let (client, user): (Arc<str>, Arc<str>) = (client.into(), user.into());
        [None, Some(Arc::clone(tenant))].into_iter().any(|tenant| {
            let by_id = Target::Client { tenant: tenant.clone(), client: Arc::clone(&client) };
            let as_user = Target::User { tenant, user: Arc::clone(&user) };
            self.has(now, &by_id) || (!user.is_empty() && self.has(now, &as_user))
        })
    }
}

/// Clients whose CONNECTs are counted at a time; about 32 B each.
const FLAPS_MAX: usize = 100_000;

/// How often clients came lately. Lives at their home.
#[derive(Debug)]
pub(crate) struct Flaps {
    /// By hash of tenant and client id: when the counting began, and how many came since.
    by_client: HashMap<u64, (Mono, u32), foldhash::fast::FixedState>,
}

impl Flaps {
    pub(crate) fn new(seed: u64) -> Flaps {
        Flaps { by_client: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)) }
    }

    /// Counts a CONNECT. Whether the client has come more often than `connects_max` times within `window`.
    pub(crate) fn count(
        &mut self,
        now: Mono,
        (tenant, client_hash): (u32, u64),
        connects_max: u32,
        window: Duration,
    ) -> bool {
        if self.by_client.len() >= FLAPS_MAX {
            self.by_client.retain(|_, (begun, _)| now.since(*begun) < window);
            if self.by_client.len() >= FLAPS_MAX {
                self.by_client.clear(); // a crowd that comes once each is none that flaps
            }
        }
        let key = client_hash ^ mix(u64::from(tenant));
        let (begun, connects) = self.by_client.entry(key).or_insert((now, 0));
        if now.since(*begun) >= window {
            (*begun, *connects) = (now, 0);
        }
        *connects += 1;
        let flaps = *connects > connects_max;
        if flaps {
            self.by_client.remove(&key); // the ban is its penalty; after it, it begins anew
        }
        flaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(target: Target, until: Option<u64>) -> Ban {
        Ban { target, until: until.map(Wall), reason: "test".into() }
    }

    fn address(network: &str) -> Target {
        Target::Address(network.parse().expect("a network"))
    }

    /// Clients and users are kept out of their tenant or of all, addresses by themselves or by their network, each
    /// until its time, and no longer than somebody says.
    #[test]
    fn bans_hold() {
        let (acme, other): (Arc<str>, Arc<str>) = ("acme".into(), "other".into());
        let mut bans = Bans::default();
        let lamp = Target::Client { tenant: Some(Arc::clone(&acme)), client: "lamp".into() };
        for entry in [
            ban(lamp.clone(), None),
            ban(Target::User { tenant: None, user: "eve".into() }, Some(1000)),
            ban(address("192.0.2.0/24"), None),
            ban(address("2001:db8::1"), Some(1000)),
        ] {
            assert!(bans.insert(Wall(0), entry, 4));
        }
        let at = |text: &str| text.parse().expect("an address");
        let now = Wall(999);
        assert!(bans.has_client(now, &acme, "lamp", "") && !bans.has_client(now, &other, "lamp", ""));
        assert!(bans.has_client(now, &acme, "x", "eve") && bans.has_client(now, &other, "y", "eve"));
        assert!(!bans.has_client(now, &acme, "eve", "lamp"));
        assert!(bans.has_address(now, at("::ffff:192.0.2.9")) && !bans.has_address(now, at("192.0.3.1")));
        assert!(bans.has_address(now, at("2001:db8::1")));
        let later = Wall(1000);
        assert!(!bans.has_client(later, &acme, "x", "eve") && !bans.has_address(later, at("2001:db8::1")));
        bans.remove(&lamp);
        bans.remove(&address("192.0.2.0/24"));
        assert!(!bans.has_client(now, &acme, "lamp", "") && !bans.has_address(now, at("192.0.2.9")));
    }

    /// What is full takes no more, but for what is there already and in place of what is past.
    #[test]
    fn bans_are_bounded() {
        let mut bans = Bans::default();
        assert!(bans.insert(Wall(0), ban(address("::1"), None), 2));
        assert!(bans.insert(Wall(0), ban(address("::/64"), Some(5)), 2));
        assert!(!bans.insert(Wall(0), ban(address("::3"), None), 2));
        assert!(bans.insert(Wall(0), ban(address("::1"), Some(9)), 2));
        assert!(bans.insert(Wall(5), ban(address("::3"), None), 2));
        assert_eq!((bans.iter().count(), bans.networks.len()), (2, 0));
    }

    /// Who comes too often within the window flaps; who takes longer does not, nor does another of the same hash in
    /// another tenant.
    #[test]
    fn flaps_are_counted() {
        let mut flaps = Flaps::new(1);
        let window = Duration::from_secs(10);
        let mut came =
            |second: u64, tenant| flaps.count(Mono(second * 1_000_000_000), (tenant, 7), 3, window);
        assert_eq!([0, 1, 2].map(|second| came(second, 1)), [false; 3]);
        assert_eq!([0, 1, 2].map(|second| came(second, 2)), [false; 3]);
        assert!(came(3, 1), "the fourth within ten seconds");
        assert!(!came(4, 1), "it begins anew");
        assert_eq!([20, 21, 22].map(|second| came(second, 2)), [false; 3]);
        assert!(came(29, 2));
    }

    /// However many come, the table has its bound.
    #[test]
    fn flaps_are_bounded() {
        let mut flaps = Flaps::new(1);
        for client in 0..3 * FLAPS_MAX as u64 {
            assert!(!flaps.count(Mono(client), (1, mix(client)), 1, Duration::from_secs(1)));
        }
        assert!(flaps.by_client.len() <= FLAPS_MAX);
    }
}

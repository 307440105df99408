//! What a tenant may have and do on the whole node, whoever its clients are: totals, which cores tell each other
//! about, and rates, of which each core has its share.
//!
//! A total is judged by what this core has and what the others said last, at the end of their last turn: many
//! CONNECTs in the same moment on several cores may go beyond it by as many as one turn of each lets in.

use crate::config::Settings;
use crate::identity::CoreId;
use crate::limit::Limit;
use crate::time::Mono;

/// A second, in nanoseconds: a tenant that was quiet for as long may do a second's worth at once.
const SECOND: u64 = 1_000_000_000;

macro_rules! totals {
    ($($(#[$doc:meta])* $total:ident: $setting:ident),+ $(,)?) => {
        /// Something of which a tenant has so much.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Total {
            $($(#[$doc])* $total,)+
        }

        impl Total {
            /// All of them, in order.
            pub const ALL: &'static [Total] = &[$(Total::$total),+];

            fn max(self, settings: &Settings) -> u64 {
                match self {
                    $(Total::$total => settings.$setting,)+
                }
            }
        }
    };
}

totals! {
    /// Clients that are online.
    Connections: total_connections_max,
    /// Bytes that wait for sessions that end with their connections.
    TransientBytes: total_session_bytes_max,
    /// Sessions that outlive their connections.
    PersistentSessions: total_persistent_sessions_max,
    /// Bytes that wait for those.
    PersistentBytes: total_persistent_bytes_max,
    /// Memberships in shared subscriptions.
    SharedSubscriptions: total_shared_subscriptions_max,
    /// Other subscriptions of sessions that end with their connections.
    TransientSubscriptions: total_transient_subscriptions_max,
    /// Other subscriptions of sessions that outlive them.
    PersistentSubscriptions: total_persistent_subscriptions_max,
    /// Retained messages.
    RetainedTopics: total_retained_topics_max,
    /// Their bytes.
    RetainedBytes: total_retained_bytes_max,
}

macro_rules! rates {
    ($($(#[$doc:meta])* $rate:ident: $setting:ident),+ $(,)?) => {
        /// Something that a tenant does so often in a second.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Rate {
            $($(#[$doc])* $rate,)+
        }

        impl Rate {
            /// All of them, in order.
            pub const ALL: &'static [Rate] = &[$(Rate::$rate),+];

            fn per_second(self, settings: &Settings) -> u64 {
                match self {
                    $(Rate::$rate => settings.$setting,)+
                }
            }
        }
    };
}

rates! {
    /// CONNECTs that are let in.
    Connects: total_connects_per_second_max,
    /// Filters of SUBSCRIBEs, of sessions that end with their connections.
    TransientSubscribes: total_transient_subscribes_per_second_max,
    /// The same of sessions that outlive them.
    PersistentSubscribes: total_persistent_subscribes_per_second_max,
    /// Filters of UNSUBSCRIBEs, likewise.
    TransientUnsubscribes: total_transient_unsubscribes_per_second_max,
    /// Likewise.
    PersistentUnsubscribes: total_persistent_unsubscribes_per_second_max,
    /// Bytes of packets from clients.
    InboundBytes: total_inbound_bytes_per_second_max,
    /// Bytes of messages for sessions that end with their connections, each as often as it has receivers.
    TransientFanOutBytes: total_transient_fan_out_bytes_per_second_max,
    /// The same for sessions that outlive them.
    PersistentFanOutBytes: total_persistent_fan_out_bytes_per_second_max,
    /// Changes of retained messages.
    Retains: total_retains_per_second_max,
    /// Their bytes.
    RetainedBytes: total_retained_bytes_per_second_max,
    /// Retained messages for new subscriptions.
    RetainMatches: total_retain_matches_per_second_max,
    /// Their bytes.
    RetainMatchBytes: total_retain_match_bytes_per_second_max,
}

/// How many totals there are.
pub const TOTALS: usize = Total::ALL.len();

impl Total {
    /// The setting by its name.
    pub fn limit(self) -> Limit {
        match self {
            Total::Connections => Limit::TotalConnections,
            Total::TransientBytes => Limit::TotalSessionBytes,
            Total::PersistentSessions => Limit::TotalPersistentSessions,
            Total::PersistentBytes => Limit::TotalPersistentBytes,
            Total::SharedSubscriptions => Limit::TotalSharedSubscriptions,
            Total::TransientSubscriptions => Limit::TotalTransientSubscriptions,
            Total::PersistentSubscriptions => Limit::TotalPersistentSubscriptions,
            Total::RetainedTopics => Limit::TotalRetainedTopics,
            Total::RetainedBytes => Limit::TotalRetainedBytes,
        }
    }
}

impl Rate {
    /// The setting by its name.
    pub fn limit(self) -> Limit {
        match self {
            Rate::Connects => Limit::TotalConnects,
            Rate::TransientSubscribes => Limit::TotalTransientSubscribes,
            Rate::PersistentSubscribes => Limit::TotalPersistentSubscribes,
            Rate::TransientUnsubscribes => Limit::TotalTransientUnsubscribes,
            Rate::PersistentUnsubscribes => Limit::TotalPersistentUnsubscribes,
            Rate::InboundBytes => Limit::TotalInboundBytes,
            Rate::TransientFanOutBytes => Limit::TotalTransientFanOutBytes,
            Rate::PersistentFanOutBytes => Limit::TotalPersistentFanOutBytes,
            Rate::Retains => Limit::TotalRetains,
            Rate::RetainedBytes => Limit::TotalRetainedRate,
            Rate::RetainMatches => Limit::TotalRetainMatches,
            Rate::RetainMatchBytes => Limit::TotalRetainMatchBytes,
        }
    }
}

/// Which quotas a tenant's settings have: what is not wanted costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Cores have to tell each other.
    pub totals: bool,
    /// Sessions' queues have to be measured.
    pub bytes: bool,
    /// Packets have to be paid for.
    pub inbound: bool,
    /// Messages have to be paid for, or may have too many receivers.
    pub fan_out: bool,
    /// Retained messages have to be counted and paid for.
    pub retained: bool,
}

impl Wanted {
    /// What the settings want.
    pub fn by(settings: &Settings) -> Wanted {
        let has = |total: Total| total.max(settings) < u64::MAX >> 1;
        let paid = |rate: Rate| rate.per_second(settings) > 0;
        Wanted {
            totals: Total::ALL.iter().any(|total| has(*total)),
            bytes: has(Total::TransientBytes) || has(Total::PersistentBytes),
            inbound: paid(Rate::InboundBytes),
            fan_out: paid(Rate::TransientFanOutBytes)
                || paid(Rate::PersistentFanOutBytes)
                || settings.group_fan_out_max < u32::MAX
                || settings.persistent_fan_out_max < u32::MAX
                || settings.persistent_fan_out_bytes_max < u64::MAX >> 1,
            retained: has(Total::RetainedTopics)
                || has(Total::RetainedBytes)
                || [Rate::Retains, Rate::RetainedBytes, Rate::RetainMatches, Rate::RetainMatchBytes]
                    .into_iter()
                    .any(paid),
        }
    }

    /// What one of two wants.
    pub fn or(self, other: Wanted) -> Wanted {
        Wanted {
            totals: self.totals | other.totals,
            bytes: self.bytes | other.bytes,
            inbound: self.inbound | other.inbound,
            fan_out: self.fan_out | other.fan_out,
            retained: self.retained | other.retained,
        }
    }
}

/// One tenant's account on one core.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    /// What this core has.
    own: [u64; TOTALS],
    /// What the others have, by core, as far as they have said.
    others: Vec<[u64; TOTALS]>,
    /// When everything that was charged is paid for.
    paid_at: [u64; Rate::ALL.len()],
    /// The others are to be told when the turn ends.
    pub untold: bool,
}

impl Quota {
    /// This core has so much more.
    pub fn add(&mut self, total: Total, more: u64) {
        self.own[total as usize] += more;
    }

    /// This core has so much less.
    pub fn take(&mut self, total: Total, less: u64) {
        let own = &mut self.own[total as usize];
        *own = own.saturating_sub(less);
    }

    /// This core has so much; true if that is news.
    pub fn set(&mut self, total: Total, own: u64) -> bool {
        std::mem::replace(&mut self.own[total as usize], own) != own
    }

    /// What this core has, for the others.
    pub fn own(&self) -> [u64; TOTALS] {
        self.own
    }

    /// Another core has so much.
    pub fn learn(&mut self, core: CoreId, totals: [u64; TOTALS]) {
        if self.others.len() <= core.index() {
            self.others.resize(core.index() + 1, [0; TOTALS]);
        }
        self.others[core.index()] = totals;
    }

    /// What all cores have.
    pub fn sum(&self, total: Total) -> u64 {
        let at = total as usize;
        self.others.iter().fold(self.own[at], |sum, other| sum.saturating_add(other[at]))
    }

    /// Whether there may be so much more of something.
    pub fn has_room(&self, settings: &Settings, total: Total, more: u64) -> Result<(), Limit> {
        let fits = self.sum(total).saturating_add(more) <= total.max(settings);
        if fits { Ok(()) } else { Err(total.limit()) }
    }

    /// Pays for something, whether it may be or not.
    pub fn pay(&mut self, now: Mono, settings: &Settings, cores: u16, rate: Rate, units: u64) {
        let per_second = rate.per_second(settings);
        if per_second > 0 {
            let price = u128::from(units) * u128::from(SECOND) * u128::from(cores) / u128::from(per_second);
            let paid_at = &mut self.paid_at[rate as usize];
            let from = (*paid_at).max(now.0.saturating_sub(SECOND));
            *paid_at = from.saturating_add(u64::try_from(price).unwrap_or(u64::MAX));
        }
    }

    /// Until when the tenant has done more than it may.
    pub fn overdrawn(&self, now: Mono, settings: &Settings, rate: Rate) -> Option<Mono> {
        let paid_at = self.paid_at[rate as usize];
        (rate.per_second(settings) > 0 && paid_at > now.0).then_some(Mono(paid_at))
    }

    /// Pays for something if it may be.
    pub fn try_pay(
        &mut self,
        now: Mono,
        settings: &Settings,
        cores: u16,
        rate: Rate,
        units: u64,
    ) -> Result<(), Limit> {
        if self.overdrawn(now, settings, rate).is_some() {
            return Err(rate.limit());
        }
        self.pay(now, settings, cores, rate, units);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A total is that of all cores, and each has room up to it.
    #[test]
    fn totals_are_of_all_cores() {
        let settings = Settings { total_connections_max: 5, ..Settings::default() };
        let mut quota = Quota::default();
        quota.learn(CoreId(2), [3; TOTALS]);
        quota.learn(CoreId(2), [2; TOTALS]);
        quota.add(Total::Connections, 2);
        assert_eq!(quota.sum(Total::Connections), 4);
        assert_eq!(quota.has_room(&settings, Total::Connections, 1), Ok(()));
        assert_eq!(quota.has_room(&settings, Total::Connections, 2), Err(Limit::TotalConnections));
        assert_eq!(quota.has_room(&settings, Total::PersistentSessions, 1 << 40), Ok(()));
        quota.take(Total::Connections, 1);
        assert_eq!(quota.has_room(&settings, Total::Connections, 2), Ok(()));
    }

    /// Over any time no more passes than a core's share of the rate and a second's worth of it, and no less than
    /// the share.
    #[test]
    fn rates_are_shared() {
        for (per_second, cores, unit) in [(8, 1, 1), (8, 4, 1), (3, 4, 1), (1_000_000, 3, 700)] {
            let settings = Settings { total_inbound_bytes_per_second_max: per_second, ..Settings::default() };
            let (mut quota, begin) = (Quota::default(), Mono(100 * SECOND));
            let (mut now, mut passed) = (begin, 0);
            while now.0 < begin.0 + 20 * SECOND {
                match quota.overdrawn(now, &settings, Rate::InboundBytes) {
                    Some(until) => now = until,
                    None => {
                        quota.pay(now, &settings, cores, Rate::InboundBytes, unit);
                        passed += unit;
                    }
                }
            }
            let share = per_second * 20 / u64::from(cores);
            let most = per_second * 21 / u64::from(cores) + 2 * unit;
            assert!(
                (share..=most).contains(&passed),
                "{per_second} on {cores}: {passed} of {share} to {most}"
            );
        }
    }

    /// What no setting names is never too much.
    #[test]
    fn nothing_is_wanted_by_default() {
        let settings = Settings::default();
        assert_eq!(Wanted::by(&settings), Wanted::default());
        let mut quota = Quota::default();
        for rate in Rate::ALL {
            assert_eq!(quota.try_pay(Mono(0), &settings, 1, *rate, u64::MAX), Ok(()));
            assert_eq!(quota.try_pay(Mono(0), &settings, 1, *rate, u64::MAX), Ok(()));
        }
        for total in Total::ALL {
            assert_eq!(quota.has_room(&settings, *total, 1 << 60), Ok(()));
        }
        assert_eq!((Total::ALL.len(), Rate::ALL.len()), (9, 12));
    }
}

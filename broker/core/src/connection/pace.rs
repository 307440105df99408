//! Rates of a connection: how much may come from its client and go to it in a second. What is too much waits: the
//! client is read, or sent to, again when its time has come. Only connections whose settings have a rate have one.

use crate::config::Settings;
use crate::limit::Limit;
use crate::time::Mono;

/// A second, in nanoseconds: a client that was quiet for as long may do a second's worth at once.
const SECOND: u64 = 1_000_000_000;

/// So many units in a second, and a second's worth at once: the generic cell rate algorithm, which needs one
/// moment of state.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// 0: no limit.
    per_second: u32,
    /// When everything that was charged is paid for.
    paid_at: u64,
}

impl Rate {
    fn new(per_second: u32, now: Mono) -> Rate {
        Rate { per_second, paid_at: now.0.saturating_sub(SECOND) }
    }

    fn charge(&mut self, now: Mono, units: u64) {
        if self.per_second > 0 {
            let price = units.saturating_mul(SECOND) / u64::from(self.per_second);
            self.paid_at = self.paid_at.max(now.0.saturating_sub(SECOND)).saturating_add(price);
        }
    }

    /// When the next unit may come, if that is not now.
    fn wait(&self, now: Mono) -> Option<Mono> {
        (self.per_second > 0 && self.paid_at > now.0).then_some(Mono(self.paid_at))
    }

    /// How many units may come now.
    fn open(&self, now: Mono) -> u64 {
        if self.per_second == 0 {
            return u64::MAX;
        }
        let saved = now.0.saturating_sub(self.paid_at).min(SECOND);
        saved * u64::from(self.per_second) / SECOND
    }
}

/// The rates of one connection.
#[derive(Debug)]
pub struct Pace {
    publishes: Rate,
    inbound: Rate,
    outbound: Rate,
    /// Bytes that may be sent before the clock is read again.
    outbound_open: u64,
    /// A timer will open it.
    pub outbound_waits: bool,
}

impl Pace {
    /// The rates that the settings name, if they name any.
    pub fn new(settings: &Settings, now: Mono) -> Option<Pace> {
        let Settings {
            publishes_per_second_max: publishes,
            inbound_bytes_per_second_max: inbound,
            outbound_bytes_per_second_max: outbound,
            ..
        } = *settings;
        let outbound = Rate::new(outbound, now);
        let any = publishes > 0 || inbound > 0 || outbound.per_second > 0;
        any.then(|| Pace {
            publishes: Rate::new(publishes, now),
            inbound: Rate::new(inbound, now),
            outbound_open: outbound.open(now),
            outbound,
            outbound_waits: false,
        })
    }

    /// None of its own.
    pub fn free(now: Mono) -> Pace {
        let any = || Rate::new(0, now);
        Pace {
            publishes: any(),
            inbound: any(),
            outbound: any(),
            outbound_open: u64::MAX,
            outbound_waits: false,
        }
    }

    /// A packet has come.
    pub fn on_packet(&mut self, now: Mono, bytes: usize, is_publish: bool) {
        self.inbound.charge(now, bytes as u64);
        self.publishes.charge(now, u64::from(is_publish));
    }

    /// Until when the next packet has to wait, and which rate says so.
    pub fn inbound_wait(&self, now: Mono) -> Option<(Mono, Limit)> {
        let publishes = self.publishes.wait(now).map(|until| (until, Limit::PublishRate));
        let inbound = self.inbound.wait(now).map(|until| (until, Limit::InboundRate));
        publishes.max(inbound)
    }

    /// Bytes may have gone, and time has.
    pub fn on_sent(&mut self, now: Mono, bytes: usize) {
        self.outbound.charge(now, bytes as u64);
        self.outbound_open = self.outbound.open(now);
    }

    /// Bytes that may be sent now.
    pub fn outbound_open(&self) -> usize {
        usize::try_from(self.outbound_open).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Over any time from a second on, no more than the rate and one second's worth passes, and no less than the
    /// rate: whoever waits as long as it is told loses nothing.
    #[test]
    fn rate_is_kept() {
        for (per_second, unit) in [(1, 1), (7, 1), (1000, 300), (4_000_000_000, 1_000_000)] {
            let begin = Mono(5 * SECOND);
            let mut rate = Rate::new(per_second, begin);
            let (mut now, mut passed) = (begin, 0_u64);
            while now.0 < begin.0 + 20 * SECOND {
                match rate.wait(now) {
                    Some(until) => now = until,
                    None => {
                        rate.charge(now, unit);
                        passed += unit;
                        now.0 += 1000;
                    }
                }
            }
            let expected = u64::from(per_second) * 20;
            let most = expected + u64::from(per_second) + unit;
            assert!(passed <= most, "{per_second}: {passed} of {most}");
            // One unit of 1 µs each is all that this loop offers.
            assert!(
                passed >= expected.min(unit * 20_000_000) * 9 / 10,
                "{per_second}: {passed} of {expected}"
            );
        }
    }

    /// What is open is a second's worth at most, and comes back with time.
    #[test]
    fn open_comes_back() {
        let mut now = Mono(9 * SECOND);
        let mut rate = Rate::new(1000, now);
        assert_eq!(rate.open(now), 1000);
        rate.charge(now, 1000);
        assert_eq!(rate.open(now), 0);
        now.0 += SECOND / 4;
        assert_eq!(rate.open(now), 250);
        now.0 += SECOND * 9;
        assert_eq!(rate.open(now), 1000);
        assert_eq!(Rate::new(0, now).open(now), u64::MAX);
    }
}

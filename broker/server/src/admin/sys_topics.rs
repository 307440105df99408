//! `$SYS/broker/…`: the numbers that Mosquitto's users are used to, as retained messages of the default tenant. Each is
//! published when it has changed; who may see them is the access list's affair.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker_core::sight::{Census, Publish, What};
use broker_core::time::Mono;
use mqtt::QoS;
use tokio::time::{MissedTickBehavior, interval};

use super::State;
use super::gather::{self, Numbers};
use super::process::Process;
use crate::clock::Clock;

/// Minutes over which loads are averaged.
const LOAD_MINUTES: [(f64, &str); 3] = [(1.0, "1min"), (5.0, "5min"), (15.0, "15min")];

/// Publishes what has changed, every so many seconds, until the node stops.
pub(super) async fn publish(state: Arc<State>, seconds: u32) {
    let mut ticks = interval(Duration::from_secs(u64::from(seconds)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut loads = Loads::default();
    let mut published = BTreeMap::new();
    loop {
        ticks.tick().await;
        if state.stopping.load(Ordering::Relaxed) {
            return;
        }
        // A core that does not answer is the watchdog's affair.
        let Ok(numbers) = gather::numbers(&state).await else { continue };
        let uptime_seconds = Clock::wall().0.saturating_sub(state.facts.started_ms) / 1000;
        let counts = Counts::of(&numbers);
        loads.take(state.clock.monotonic(), &counts);
        let resident_bytes = Process::read().resident_bytes.unwrap_or(0);
        loads.heap_max = loads.heap_max.max(resident_bytes);
        loads.clients_max = loads.clients_max.max(counts.census.online + counts.census.away);
        let topics = topics(&counts, &loads, uptime_seconds, resident_bytes);
        for (topic, value) in topics {
            if published.get(&topic) != Some(&value) {
                say(&state, &topic, &value).await;
                published.insert(topic, value);
            }
        }
    }
}

async fn say(state: &State, topic: &str, value: &str) {
    let topic = format!("$SYS/broker/{topic}");
    let tenant = &state.config.default_tenant;
    let core = state.config.keeper(tenant, &topic);
    let publish = Publish {
        tenant: (**tenant).into(),
        topic: topic.into(),
        qos: QoS::AtMostOnce,
        retain: true,
        payload: value.into(),
        properties: Vec::new(),
        expiry_seconds: None,
    };
    let _ = state.cores.ask(core, What::Publish(Box::new(publish))).await;
}

/// Of the whole node, since its start or now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    census: Census,
    retained: u64,
    received: u64,
    sent: u64,
    received_payload_bytes: u64,
    sent_payload_bytes: u64,
    dropped: u64,
    bytes_received: u64,
    bytes_sent: u64,
    sockets: u64,
    greeted: u64,
}

impl Counts {
    fn of(numbers: &Numbers) -> Counts {
        let mut counts = Counts::default();
        for core in &numbers.cores {
            let counters = &core.totals.counters;
            counts.census.add(core.census);
            counts.retained += core.totals.usage.retained as u64;
            counts.received += counters.publishes_received.iter().sum::<u64>();
            counts.sent += counters.publishes_sent.iter().sum::<u64>();
            counts.received_payload_bytes += core.traffic.received.payload_bytes.iter().sum::<u64>();
            counts.sent_payload_bytes += core.traffic.sent.payload_bytes.iter().sum::<u64>();
            counts.dropped += counters.dropped.iter().sum::<u64>();
            counts.bytes_received += counters.bytes_received;
            counts.bytes_sent += counters.bytes_sent;
            counts.sockets += counters.connections_accepted;
            counts.greeted += counters.clients_greeted;
        }
        counts
    }

    /// What has a load, under the name it has in Mosquitto. Packets other than PUBLISH are not counted, so messages and
    /// publishes are the same.
    fn loads(&self) -> [(&'static str, u64); 9] {
        [
            ("messages/received", self.received),
            ("messages/sent", self.sent),
            ("publish/dropped", self.dropped),
            ("publish/received", self.received),
            ("publish/sent", self.sent),
            ("bytes/received", self.bytes_received),
            ("bytes/sent", self.bytes_sent),
            ("sockets", self.sockets),
            ("connections", self.greeted),
        ]
    }
}

/// Moving averages per minute, as Mosquitto has them: an old average decays by e in its time.
#[derive(Debug, Default)]
struct Loads {
    last: Option<(Mono, Counts)>,
    averages: [[f64; LOAD_MINUTES.len()]; 9],
    /// The most sessions at once.
    clients_max: u64,
    /// The most memory.
    heap_max: u64,
}

impl Loads {
    #[expect(clippy::cast_precision_loss, reason = "averages are shown with two decimals")]
    fn take(&mut self, now: Mono, counts: &Counts) {
        let Some((then, last)) = self.last.replace((now, *counts)) else { return };
        let minutes = now.since(then).as_secs_f64() / 60.0;
        if minutes <= 0.0 {
            return;
        }
        for ((averages, (_, count)), (_, last)) in
            self.averages.iter_mut().zip(counts.loads()).zip(last.loads())
        {
            let present = count.saturating_sub(last) as f64 / minutes;
            for (average, (over, _)) in averages.iter_mut().zip(LOAD_MINUTES) {
                *average = present + (-minutes / over).exp() * (*average - present);
            }
        }
    }
}

/// All topics behind `$SYS/broker/`, with their values.
fn topics(counts: &Counts, loads: &Loads, uptime_seconds: u64, resident_bytes: u64) -> Vec<(String, String)> {
    let Census { online, away, subscriptions, queued_messages, queued_bytes } = counts.census;
    let stored = queued_messages + counts.retained;
    let mut topics = vec![
        ("version".to_owned(), format!("hermod version {}", env!("CARGO_PKG_VERSION"))),
        ("uptime".to_owned(), format!("{uptime_seconds} seconds")),
    ];
    let numbers = [
        ("clients/total", online + away),
        ("clients/connected", online),
        ("clients/active", online),
        ("clients/disconnected", away),
        ("clients/inactive", away),
        ("clients/maximum", loads.clients_max),
        ("messages/received", counts.received),
        ("messages/sent", counts.sent),
        ("messages/stored", stored),
        ("store/messages/count", stored),
        ("store/messages/bytes", queued_bytes),
        ("subscriptions/count", subscriptions),
        ("retained messages/count", counts.retained),
        ("heap/current", resident_bytes),
        ("heap/maximum", loads.heap_max),
        ("publish/messages/dropped", counts.dropped),
        ("publish/messages/received", counts.received),
        ("publish/messages/sent", counts.sent),
        ("publish/bytes/received", counts.received_payload_bytes),
        ("publish/bytes/sent", counts.sent_payload_bytes),
        ("bytes/received", counts.bytes_received),
        ("bytes/sent", counts.bytes_sent),
    ];
    topics.extend(numbers.map(|(topic, number)| (topic.to_owned(), number.to_string())));
    for (averages, (name, _)) in loads.averages.iter().zip(counts.loads()) {
        for (average, (_, over)) in averages.iter().zip(LOAD_MINUTES) {
            let mut value = String::new();
            // Writing to a string cannot fail.
            let _ = write!(value, "{average:.2}");
            topics.push((format!("load/{name}/{over}"), value));
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Mono {
        Mono(minutes * 60_000_000_000)
    }

    /// A steady rate is its own average after long enough, and an average decays to a third and a bit in its time.
    #[test]
    fn loads_are_averages() {
        let mut loads = Loads::default();
        loads.take(minutes(0), &Counts::default());
        for minute in 1..=100 {
            loads.take(minutes(minute), &Counts { sent: 60 * minute, ..Counts::default() });
        }
        let sent = |loads: &Loads| loads.averages[1];
        assert!(sent(&loads).iter().all(|average| (average - 60.0).abs() < 0.1), "{:?}", sent(&loads));
        loads.take(minutes(105), &Counts { sent: 6000, ..Counts::default() });
        let expected = [60.0 * (-5.0_f64).exp(), 60.0 * (-1.0_f64).exp(), 60.0 * (-5.0_f64 / 15.0).exp()];
        let near =
            sent(&loads).iter().zip(expected).all(|(average, expected)| (average - expected).abs() < 0.1);
        assert!(near, "{:?} {expected:?}", sent(&loads));
    }

    /// Each topic stands once, and is a valid one.
    #[test]
    fn topics_are_distinct() {
        let mut names: Vec<_> = topics(&Counts::default(), &Loads::default(), 7, 1).into_iter().collect();
        assert!(names.contains(&("uptime".to_owned(), "7 seconds".to_owned())));
        assert!(names.iter().all(|(name, _)| mqtt::validate_topic(&format!("$SYS/broker/{name}")).is_ok()));
        let count = names.len();
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        assert_eq!((names.len(), count), (count, 2 + 22 + 27));
    }
}

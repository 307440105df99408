//! The scenarios by name: EMQ's Open MQTT Benchmark Suite, and the saturated forms.

use std::time::Duration;

use mqtt::{QoS, Version};

use crate::persistent::{Sessions, Stage};
use crate::plan::{Flow, Load, Plan, Shape};

/// One named scenario.
pub(crate) struct Scenario {
    /// As users know it.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    make: fn() -> Plan,
}

impl Scenario {
    /// The scenario's plan, before any override.
    pub(crate) fn plan(&self) -> Plan {
        Plan { name: self.name.to_owned(), ..(self.make)() }
    }
}

/// The scenario of that name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    CATALOGUE.iter().find(|scenario| scenario.name == name)
}

/// The rows a comparison takes when none is named: the saturated forms.
pub(crate) const TARGETS: [&str; 16] = [
    "sat-fanout",
    "sat-p2p",
    "sat-p2p-qos1",
    "sat-p2p-qos2",
    "window1-p2p",
    "window1-p2p-qos1",
    "latency-20k",
    "latency-20k-qos1",
    "sat-shared",
    "sat-shared-qos1",
    "sat-wildcard",
    "sat-unique-topics",
    "retained-set",
    "retained-get",
    "idle",
    "mixed",
];

const QOS0: QoS = QoS::AtMostOnce;
const QOS1: QoS = QoS::AtLeastOnce;
const QOS2: QoS = QoS::ExactlyOnce;

macro_rules! scenarios {
    ($($name:literal, $about:literal, $make:expr;)*) => {
        &[$(Scenario { name: $name, about: $about, make: || $make }),*]
    };
}

/// All of them, in the order `hermod-bench list` shows.
pub(crate) const CATALOGUE: &[Scenario] = scenarios! {
    "conn-tcp-10K-100", "10 000 connections at 100/s, then held",
        idle(10_000, Some(100.0));
    "fanout-1-1K-1-1K", "1 publisher, 1 msg/s, 1 topic, 1 000 subscribers: 1 000 deliveries/s",
        suite(Shape::FanOut, 1, 1_000, 1, 1.0);
    "fanout-5-1000-5-250K", "5 publishers at 50 msg/s, 1 000 subscribers on all 5 topics: 250 000 deliveries/s",
        suite(Shape::FanOut, 5, 1_000, 5, 250.0);
    "p2p-1K-1K-1K-1K", "1 000 pairs, 1 msg/s each",
        suite(Shape::OneToOne, 1_000, 1_000, 1_000, 1_000.0);
    "p2p-50K-50K-50K-50K", "50 000 pairs, 1 msg/s each",
        suite(Shape::OneToOne, 50_000, 50_000, 50_000, 50_000.0);
    "sharesub-1K-5-1K-1K", "1 000 publishers, 1 msg/s each, 5 members of one shared subscription, MQTT 5",
        v5(suite(Shape::Shared, 1_000, 5, 0, 1_000.0));
    "sharesub-50K-500-50K-50K", "50 000 publishers, 1 msg/s each, 500 members, MQTT 5",
        v5(suite(Shape::Shared, 50_000, 500, 0, 50_000.0));
    "sat-fanout", "saturated: 1 publisher to 1 000 subscribers, QoS 0, 64 B, window 32",
        saturated(Shape::FanOut, 1, 1_000, 1, QOS0, 32);
    "sat-p2p", "saturated: 100 pairs, QoS 0, 64 B, window 32",
        saturated(Shape::OneToOne, 100, 100, 0, QOS0, 32);
    "sat-p2p-qos1", "the same, QoS 1",
        saturated(Shape::OneToOne, 100, 100, 0, QOS1, 32);
    "sat-p2p-qos2", "the same, QoS 2",
        saturated(Shape::OneToOne, 100, 100, 0, QOS2, 32);
    "window1-p2p", "100 pairs, one message in flight each, QoS 0: what cannot be batched",
        saturated(Shape::OneToOne, 100, 100, 0, QOS0, 1);
    "window1-p2p-qos1", "the same, QoS 1",
        saturated(Shape::OneToOne, 100, 100, 0, QOS1, 1);
    "latency-20k", "100 pairs, 20 000 msg/s together, QoS 0: latency from the time a message was due",
        paced(Shape::OneToOne, 100, 100, 20_000.0, QOS0);
    "latency-20k-qos1", "the same, QoS 1",
        paced(Shape::OneToOne, 100, 100, 20_000.0, QOS1);
    "sat-shared", "saturated: 1 000 publishers, 4 members of one shared subscription, QoS 0, window 8",
        saturated(Shape::Shared, 1_000, 4, 0, QOS0, 8);
    "sat-shared-qos1", "the same, QoS 1",
        saturated(Shape::Shared, 1_000, 4, 0, QOS1, 8);
    "sat-wildcard", "saturated: 100 subscribers hold 100 000 filters dev/<n>/+/state, 100 publishers go through them; --topics 100 is the same load without the filters",
        saturated(Shape::Wildcard, 100, 100, 100_000, QOS0, 32);
    "sat-unique-topics", "saturated: 100 pairs, every publish to a topic never seen before",
        saturated(Shape::UniqueTopics, 100, 100, 0, QOS0, 32);
    "retained-set", "100 publishers set 10 000 retained messages over and over, QoS 1, nobody listens",
        saturated(Shape::RetainedSet, 100, 0, 10_000, QOS1, 32);
    "retained-get", "10 000 retained messages, 10 subscribers fetch them 100 at a time by wildcard, over and over",
        retained_get();
    "connect-storm", "10 000 connections as fast as 128 handshakes at a time allow, then held",
        idle(10_000, None);
    "idle", "20 000 connections that do nothing: memory and CPU each",
        idle(20_000, Some(5_000.0));
    "offline-enqueue", "100 sessions that outlive their connections are away, 100 publishers fill their queues: QoS 1, 256 B, window 32; what was acknowledged is fetched at the end",
        persistent(Sessions::Away, Shape::OneToOne, (100, 100), QOS1, Load::Window(32), 256);
    "offline-drain", "100 sessions come back to 2 000 messages of 256 B each, QoS 1",
        offline_drain();
    "persistent-p2p-1500-p256-1mps", "1 500 pairs, 1 msg/s each, QoS 1, 256 B, sessions that outlive their connections",
        persistent(Sessions::Online, Shape::OneToOne, (1_500, 1_500), QOS1, Load::Rate(1_500.0), 256);
    "persistent-p2p-300-p32-50mps", "300 pairs, 50 msg/s each, QoS 1, 32 B, such sessions",
        persistent(Sessions::Online, Shape::OneToOne, (300, 300), QOS1, Load::Rate(15_000.0), 32);
    "persistent-p2p-sat", "sat-p2p-qos1 with such sessions",
        persistent(Sessions::Online, Shape::OneToOne, (100, 100), QOS1, Load::Window(32), 64);
    "persistent-fanout", "1 publisher to 1 000 such sessions that are away: QoS 1, 256 B, window 8",
        persistent(Sessions::Away, Shape::FanOut, (1, 1_000), QOS1, Load::Window(8), 256);
    "mixed", "side by side: 100 pairs at each QoS, 1 to 100 fan-out, 100 to 4 shared, 100 pairs over 10 000 wildcard filters, 1 000 idle; 50 000 msg/s in",
        mixed();
};

fn plan(flows: Vec<Flow>) -> Plan {
    Plan {
        name: String::new(),
        flows,
        idle: 0,
        version: Version::V311,
        login: None,
        payload_bytes: 64,
        connect_rate: None,
        handshakes_max: 128,
        warmup: Duration::from_secs(1),
        duration: Duration::from_secs(5),
        drain: Duration::from_secs(10),
        messages: None,
        sessions: Sessions::Clean,
        stage: Stage::All,
        populate: None,
    }
}

fn suite(shape: Shape, publishers: u32, subscribers: u32, topics: u32, rate: f64) -> Plan {
    let load = Load::Rate(rate);
    Plan {
        payload_bytes: 16,
        duration: Duration::from_secs(30),
        connect_rate: Some(5_000.0),
        ..plan(vec![Flow { shape, publishers, subscribers, topics, qos: QOS1, load }])
    }
}

fn v5(plan: Plan) -> Plan {
    Plan { version: Version::V5, ..plan }
}

fn saturated(shape: Shape, publishers: u32, subscribers: u32, topics: u32, qos: QoS, window: u32) -> Plan {
    plan(vec![Flow { shape, publishers, subscribers, topics, qos, load: Load::Window(window) }])
}

fn paced(shape: Shape, publishers: u32, subscribers: u32, rate: f64, qos: QoS) -> Plan {
    plan(vec![Flow { shape, publishers, subscribers, topics: 0, qos, load: Load::Rate(rate) }])
}

fn idle(connections: u32, connect_rate: Option<f64>) -> Plan {
    Plan { idle: connections, connect_rate, warmup: Duration::ZERO, ..plan(Vec::new()) }
}

fn persistent(
    sessions: Sessions,
    shape: Shape,
    (publishers, subscribers): (u32, u32),
    qos: QoS,
    load: Load,
    payload_bytes: usize,
) -> Plan {
    let flow = Flow { shape, publishers, subscribers, topics: 1, qos, load };
    Plan { sessions, payload_bytes, drain: Duration::from_secs(60), ..plan(vec![flow]) }
}

fn offline_drain() -> Plan {
    let back = persistent(Sessions::Back, Shape::OneToOne, (100, 100), QOS1, Load::Window(32), 256);
    Plan { messages: Some(2_000), duration: Duration::from_secs(120), ..back }
}

fn retained_get() -> Plan {
    let set = saturated(Shape::RetainedSet, 100, 0, 10_000, QOS1, 32);
    let populate = Plan {
        name: "retained-get: set".to_owned(),
        warmup: Duration::ZERO,
        duration: Duration::from_secs(60),
        messages: Some(100),
        ..set
    };
    let get = saturated(Shape::RetainedGet, 100, 10, 10_000, QOS0, 1);
    Plan { populate: Some(Box::new(populate)), ..get }
}

fn mixed() -> Plan {
    let flow = |shape, publishers, subscribers, topics, qos, rate| Flow {
        shape,
        publishers,
        subscribers,
        topics,
        qos,
        load: Load::Rate(rate),
    };
    let flows = vec![
        flow(Shape::OneToOne, 100, 100, 0, QOS0, 20_000.0),
        flow(Shape::OneToOne, 100, 100, 0, QOS1, 10_000.0),
        flow(Shape::OneToOne, 100, 100, 0, QOS2, 3_000.0),
        flow(Shape::FanOut, 1, 100, 1, QOS0, 100.0),
        flow(Shape::Shared, 100, 4, 0, QOS1, 6_900.0),
        flow(Shape::Wildcard, 100, 100, 10_000, QOS0, 10_000.0),
    ];
    Plan { idle: 1_000, connect_rate: Some(5_000.0), ..plan(flows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every scenario's plan can run, no name is there twice, and every row of a comparison exists.
    #[test]
    fn every_scenario_can_run() {
        for (index, scenario) in CATALOGUE.iter().enumerate() {
            assert_eq!(scenario.plan().check(), Ok(()), "{}", scenario.name);
            assert!(CATALOGUE[..index].iter().all(|other| other.name != scenario.name));
        }
        for name in TARGETS {
            assert!(find(name).is_some(), "{name}");
        }
    }
}

//! Whole sessions of random packets, right and wrong, against nodes of one to three cores: nothing panics, nothing
//! grows beyond its bound, whatever the broker sends is well-formed and in its place, and when all have left
//! nothing remains.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{Identity, Permissions, Rules, Verdict};
use broker_core::config::{Authentication, Config, Settings, SharedStrategy};
use host::random::{REASONS, Random};
use host::{Client, Node};
use mqtt::Packet;

const STEPS: usize = 1500;
const CLIENTS: usize = 12;
const SEND_BYTES_MAX: u32 = 8192;
/// No packet of the broker's is larger here.
const PACKET_BYTES_MAX: u32 = 4096;

/// A client that need not keep to anything.
struct Speaker {
    client: Client,
    /// It has sent something that is not right; what version it is taken for is unknown.
    wild: bool,
    heard: bool,
    reads: bool,
}

impl Speaker {
    /// What the broker sent is well-formed, begins with CONNACK or AUTH, and ends with DISCONNECT.
    fn listen(&mut self) {
        if self.wild && !self.heard {
            let bytes = self.client.take_bytes();
            self.heard |= !bytes.is_empty();
            assert!(matches!(bytes.first(), None | Some(0x20 | 0xF0)), "{bytes:x?}");
        } else if self.wild {
            self.client.take_bytes();
        } else {
            let packets = self.client.packets();
            for (at, packet) in packets.iter().enumerate() {
                let first = !std::mem::replace(&mut self.heard, true);
                let greeting = matches!(packet, Packet::ConnAck(_) | Packet::Auth(_));
                assert!(!first || greeting, "{packet:?}");
                if matches!(packet, Packet::Disconnect(_)) {
                    assert_eq!(at + 1, packets.len(), "nothing after DISCONNECT");
                }
            }
        }
    }
}

fn config(random: &mut Random) -> Config {
    let settings = Settings {
        packet_bytes_max: PACKET_BYTES_MAX,
        receive_maximum: 5,
        inflight_max: 5,
        topic_alias_max: 5,
        topic_alias_outbound_max: 5,
        shared_strategy: random.pick(&[
            SharedStrategy::RoundRobin,
            SharedStrategy::Random,
            SharedStrategy::Sticky,
            SharedStrategy::HashClient,
            SharedStrategy::HashTopic,
            SharedStrategy::LeastInflight,
        ]),
        shared_queue_max: 5,
        session_expiry_seconds_max: 1000,
        queue_messages_max: 20,
        queue_bytes_max: 20_000,
        queue_qos0: random.one_in(2),
        send_bytes_max: SEND_BYTES_MAX,
        subscriptions_max: 5,
        retained_messages_max: 3,
        ..Settings::default()
    };
    Config {
        cores: 1 + random.below(3) as u16,
        authentication: random.pick(&[Authentication::Open, Authentication::Ask]),
        settings: Arc::new(settings),
        connect_timeout_ms: 3000,
        connect_bytes_max: 1000,
        connections_max: 8,
        match_cache_topics_max: 4,
        mailbox_bytes_max: 5000,
        turn_deliveries_max: random.pick(&[1, 10, 1000]),
        stop_disconnects_per_second: 10,
        ..Config::default()
    }
}

fn verdict(random: &mut Random, has_method: bool) -> Verdict {
    let permissions =
        if random.one_in(5) { Permissions::Own(Arc::new(Rules::new([]))) } else { Permissions::All };
    match random.below(6) {
        0 => Verdict::Refuse {
            reason: random.pick(&REASONS),
            doubt: None,
            server_reference: Some("elsewhere".to_owned()),
        },
        1 | 2 if has_method => Verdict::Continue { data: None },
        _ => {
            let identity = Identity {
                tenant: Arc::from("default"),
                user: Arc::from(""),
                response_information: None,
                expires: None,
                listed: false,
                permissions,
            };
            Verdict::Allow { identity, data: has_method.then(|| vec![1]) }
        }
    }
}

fn step(node: &Node, random: &mut Random, speakers: &mut Vec<Speaker>, cores: u16) {
    speakers.retain(|speaker| speaker.client.is_held());
    if speakers.len() < CLIENTS && random.one_in(4) {
        let mut client = node.accept_on(random.below(usize::from(cores)) as u16);
        let mut bytes = random.connect();
        client.version = mqtt::connect_version(&bytes).expect("a CONNECT");
        let wild = random.one_in(8);
        if wild {
            random.mutate(&mut bytes);
        }
        client.send(&bytes);
        speakers.push(Speaker { client, wild, heard: false, reads: true });
    }
    while let Some(asked) = node.question() {
        let verdict = verdict(random, asked.question.method.is_some());
        node.answer(&asked, verdict);
    }
    match random.below(40) {
        0 => node.advance(Duration::from_millis(random.below(3000) as u64)),
        1 => node.advance(Duration::from_secs(random.below(30) as u64)),
        2 => node.split_input(random.pick(&[1, 10, 65_536])),
        3 => node.shift_wall_clock(random.below(4000) as i64 - 2000),
        _ => {}
    }
    if speakers.is_empty() {
        return;
    }
    let at = random.below(speakers.len());
    let speaker = &mut speakers[at];
    match random.below(60) {
        0 => speaker.client.drop_socket(),
        1 => {
            speaker.reads = !speaker.reads;
            speaker.client.reads(speaker.reads);
        }
        2 => speaker.client.hold_open(),
        3 => {
            let mut bytes = random.packet(speaker.client.version);
            random.mutate(&mut bytes);
            speaker.client.send(&bytes);
        }
        4 => {
            let bytes = random.packet(speaker.client.version);
            speaker.client.send(&bytes[..random.below(bytes.len())]);
        }
        5 => {
            let bytes = random.packet(speaker.client.version);
            speaker.client.send(&bytes.repeat(1 + 10_000 / (1 + bytes.len())));
        }
        _ => {
            for _ in 0..=random.below(4) {
                let bytes = random.packet(speaker.client.version);
                speaker.client.send(&bytes);
            }
        }
    }
}

fn check_bounds(node: &Node, speakers: &[Speaker], cores: u16) {
    let cores = u64::from(cores);
    assert!(node.connections() as u64 <= 8 * cores + CLIENTS as u64);
    assert!(node.count(|core| core.usage().cached_topics as u64) <= 4 * cores);
    for speaker in speakers {
        let unsent = speaker.client.unsent();
        let bound = 2 * SEND_BYTES_MAX as usize + 20 * 1000 + PACKET_BYTES_MAX as usize;
        assert!(unsent <= bound, "{unsent} bytes unsent");
    }
}

/// A slowed publisher's timer outlives it by a tick; apart from those, each session has one, each retained message,
/// each core for its requests, and each connection two.
fn check_timers(node: &Node, cores: u16) {
    node.advance(Duration::from_millis(40));
    let expected = 2 * node.connections() + node.sessions() + 5 * usize::from(cores);
    assert!(node.timers() <= expected, "{} timers, {expected} expected", node.timers());
}

/// What a run must have come across to have tested anything.
type Seen = [u64; 8];

fn seen(node: &Node) -> Seen {
    let count = |of: fn(&broker_core::counters::Counters) -> u64| node.count(|core| of(core.counters()));
    [
        count(|counters| counters.clients_greeted),
        count(|counters| counters.protocol_errors),
        count(|counters| counters.take_overs),
        count(|counters| counters.connect_timeouts),
        count(|counters| counters.keep_alive_expired),
        count(|counters| counters.publishes_sent[1]),
        count(|counters| counters.publishes_sent[2]),
        count(|counters| counters.publishers_slowed),
    ]
}

fn run(seed: u64) -> Seen {
    let mut random = Random::new(seed);
    let config = config(&mut random);
    let cores = config.cores;
    let node = Node::seeded(config, seed);
    let mut speakers = Vec::new();
    for round in 0..STEPS {
        step(&node, &mut random, &mut speakers, cores);
        speakers.iter_mut().for_each(Speaker::listen);
        check_bounds(&node, &speakers, cores);
        if round % 16 == 0 {
            check_timers(&node, cores);
        }
    }
    if random.one_in(2) {
        node.stop();
        node.advance(Duration::from_secs(100));
        assert!(node.is_stopped());
    }
    for speaker in &mut speakers {
        speaker.client.drop_socket();
    }
    node.advance(Duration::from_secs(2000));
    let left = (node.connections(), node.sessions(), node.timers());
    assert_eq!(left, (0, 0, 0), "connections, sessions and timers when all have gone");
    seen(&node)
}

/// [MQTT-4.8.0-1 of 3.1.1, MQTT-4.13.1-1] Random sessions; a seed that fails is named, and `run(seed)` repeats it.
#[test]
fn random_sessions() {
    let mut total = Seen::default();
    for seed in 0..40 {
        let result = std::panic::catch_unwind(|| run(seed));
        let seen = result.unwrap_or_else(|_| panic!("seed {seed}"));
        total.iter_mut().zip(seen).for_each(|(total, seen)| *total += seen);
    }
    assert!(total.iter().all(|seen| *seen >= 20), "{total:?}");
}

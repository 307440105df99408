//! Micro-benchmark: PUBLISH packets through the state machine to many subscribers, without a socket. Prints
//! nanoseconds per delivered message, by QoS and number of subscribers; best of several rounds.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::sync::Arc;
use std::time::Instant;

use broker_core::Core;
use broker_core::config::Config;
use broker_core::identity::{ConnectionId, CoreId};
use broker_core::input::{Input, Outputs};
use broker_core::time::{Mono, Now, Wall};
use mqtt::encode::{self, PublishOut, SubscribeOut};
use mqtt::{
    Ack, Connect, PacketId, PacketKind, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions, Version,
};

/// One core and its clients, all of which take what they are sent at once.
struct Bench {
    core: Core,
    out: Outputs,
    now: Now,
}

impl Bench {
    fn new() -> Bench {
        let now = Now { monotonic: Mono(0), wall: Wall(1) };
        let core = Core::new(Arc::new(Config::default()), CoreId(0), 1, 1, now);
        Bench { core, out: Outputs::new(1), now }
    }

    fn connect(&mut self, slot: u32) -> ConnectionId {
        let connection = ConnectionId { slot, generation: 1 };
        self.core.on_input(
            self.now,
            Input::ClientAccepted { connection, listener: 0, peer: None },
            &mut self.out,
        );
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &Connect::new(Version::V311, &format!("client-{slot}")));
        self.receive(connection, &bytes);
        connection
    }

    fn subscribe(&mut self, connection: ConnectionId, filter: &str, qos: QoS) {
        let mut bytes = Vec::new();
        let subscribe = SubscribeOut {
            packet_id: id(1),
            subscription_id: None,
            user_properties: Default::default(),
            filters: &[SubscribeFilter {
                filter,
                options: SubscriptionOptions { qos, ..Default::default() },
            }],
        };
        encode::subscribe(&mut bytes, Version::V311, &subscribe);
        self.receive(connection, &bytes);
    }

    /// One turn with bytes of one client; everything sent is taken.
    fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.core.on_input(self.now, Input::ClientBytes { connection, bytes }, &mut self.out);
        self.turn();
    }

    fn turn(&mut self) {
        loop {
            self.core.end_turn(self.now, &mut self.out);
            let dirty = std::mem::take(&mut self.out.dirty);
            for connection in &dirty {
                let bytes = self.core.unsent(*connection).map(<[u8]>::len).sum();
                let sent = Input::ClientSent { connection: *connection, bytes };
                self.core.on_input(self.now, sent, &mut self.out);
            }
            if dirty.is_empty() {
                break;
            }
        }
        self.core.on_timeout(self.now, &mut self.out);
        self.out.resumed.clear();
    }
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not 0")
}

/// Nanoseconds per delivery of `batch` messages a turn to `subscribers`.
fn measure(subscribers: u32, qos: QoS, batch: u16) -> f64 {
    let mut bench = Bench::new();
    let targets: Vec<_> = (1..=subscribers).map(|slot| bench.connect(slot)).collect();
    for target in &targets {
        bench.subscribe(*target, "a/benchmark/topic", qos);
    }
    let publisher = bench.connect(0);
    let mut bytes = Vec::new();
    for number in 0..batch {
        let publish = PublishOut {
            qos,
            topic: "a/benchmark/topic",
            packet_id: (qos != QoS::AtMostOnce).then(|| id(number + 1)),
            payload: &[7; 64],
            ..PublishOut::default()
        };
        encode::publish(&mut bytes, Version::V311, &publish);
    }
    let rounds = (2_000_000 / (u64::from(subscribers) * u64::from(batch))).max(3);
    let mut best = f64::MAX;
    let mut next = 0u32; // sequence of the subscribers' queues
    for _ in 0..7 {
        let mut spent = 0.0;
        for _ in 0..rounds {
            let start = Instant::now();
            bench.receive(publisher, &bytes);
            if qos == QoS::AtLeastOnce {
                acknowledge(&mut bench, &targets, next, batch);
            }
            spent += start.elapsed().as_secs_f64();
            next += u32::from(batch);
        }
        best = best.min(spent * 1e9 / (rounds as f64 * f64::from(subscribers) * f64::from(batch)));
    }
    best
}

/// Every subscriber acknowledges the batch whose first message has this place in its queue.
fn acknowledge(bench: &mut Bench, targets: &[ConnectionId], first: u32, batch: u16) {
    let mut bytes = Vec::new();
    for sequence in first..first + u32::from(batch) {
        let packet_id = id(u16::try_from(sequence % 65_535 + 1).expect("1 to 65535"));
        let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
        encode::ack(&mut bytes, Version::V311, PacketKind::PubAck, &ack);
    }
    for target in targets {
        bench.receive(*target, &bytes);
    }
}

fn main() {
    println!("{:>12} {:>6} {:>6} {:>14}", "subscribers", "qos", "batch", "ns/delivery");
    for (subscribers, batch) in [(1, 1), (1, 64), (10, 64), (1000, 1), (1000, 16)] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let ns = measure(subscribers, qos, batch);
            println!("{subscribers:>12} {:>6} {batch:>6} {ns:>14.1}", qos.bits());
        }
    }
}

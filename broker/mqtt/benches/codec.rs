//! Nanoseconds per PUBLISH, decoded and encoded: the least of some rounds over one buffer of packets.
//!
//! `cargo bench -p mqtt`. Topic 33 bytes, payload 64 bytes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mqtt::encode::{self, PropertyWriter, PublishOut};
use mqtt::{Ack, Limits, PacketId, PacketKind, QoS, ReasonCode, Version};

const TOPIC: &str = "site/0042/line/7/sensor/000123/tp";
const PAYLOAD: [u8; 64] = [0x5A; 64];
/// Packets in the buffer: it stays in the second level cache.
const PACKETS: usize = 2_000;
const ROUNDS: usize = 60;

fn main() {
    assert!(TOPIC.len() == 33);
    let packet_id = PacketId::new(7);
    let qos0 = PublishOut { topic: TOPIC, payload: &PAYLOAD, ..PublishOut::default() };
    let qos1 = PublishOut { qos: QoS::AtLeastOnce, packet_id, ..qos0 };
    let mut forwarded = Vec::new();
    let mut writer = PropertyWriter::new(&mut forwarded);
    writer.content_type("application/json");
    writer.user_property("trace", "0af7651916cd43dd");
    let properties = PublishOut { forwarded: &forwarded, message_expiry: Some(3600), ..qos1 };

    let cases = [
        ("PUBLISH QoS 0, 3.1.1", Version::V311, qos0),
        ("PUBLISH QoS 1, 3.1.1", Version::V311, qos1),
        ("PUBLISH QoS 0, 5.0", Version::V5, qos0),
        ("PUBLISH QoS 1, 5.0", Version::V5, qos1),
        ("PUBLISH QoS 1, 5.0, 3 properties", Version::V5, properties),
    ];
    report(&format!("{:34} {:>8} {:>8} {:>8}", "ns per packet", "decode", "encode", "header"));
    for (name, version, publish) in cases {
        let write = |out: &mut Vec<u8>| {
            encode::publish(out, version, black_box(&publish));
        };
        let (decode, encode) = (measure_decode(version, write), measure_encode(write));
        let header = measure_encode(|out| {
            encode::publish_header(out, version, black_box(&publish), PAYLOAD.len());
        });
        report(&format!("{name:34} {decode:8.1} {encode:8.1} {header:8.1}"));
    }
    for (name, version) in [("PUBACK, 3.1.1", Version::V311), ("PUBACK, 5.0", Version::V5)] {
        let puback = Ack::new(PacketId::new(7).expect("not zero"), ReasonCode::SUCCESS);
        let write = |out: &mut Vec<u8>| encode::ack(out, version, PacketKind::PubAck, black_box(&puback));
        let (decode, encode) = (measure_decode(version, write), measure_encode(write));
        report(&format!("{name:34} {decode:8.1} {encode:8.1}"));
    }
}

/// Decodes a buffer of what `write` writes, packet after packet.
fn measure_decode(version: Version, write: impl Fn(&mut Vec<u8>)) -> f64 {
    let mut bytes = Vec::new();
    (0..PACKETS).for_each(|_| write(&mut bytes));
    let limits = Limits::default();
    least_ns_per_packet(|| {
        let mut rest = black_box(bytes.as_slice());
        while !rest.is_empty() {
            // Looked at where it was built: a caller that matches on it does not move it either.
            let answer = mqtt::decode(version, rest, &limits);
            black_box(&answer);
            let Ok(Some((_, consumed))) = answer else { panic!("{answer:?}") };
            rest = &rest[consumed..];
        }
    })
}

/// Writes packets one behind the other into a buffer that has room for them.
fn measure_encode(write: impl Fn(&mut Vec<u8>)) -> f64 {
    let mut out = Vec::new();
    least_ns_per_packet(|| {
        out.clear();
        (0..PACKETS).for_each(|_| write(&mut out));
        black_box(&out);
    })
}

fn least_ns_per_packet(mut round: impl FnMut()) -> f64 {
    let least = (0..ROUNDS).map(|_| time(&mut round)).min().expect("a round");
    least.as_secs_f64() * 1e9 / PACKETS as f64
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is what clocks are for")]
fn time(round: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    round();
    start.elapsed()
}

#[expect(clippy::print_stdout, reason = "the result of the benchmark")]
fn report(line: &str) {
    println!("{line}");
}

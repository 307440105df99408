//! What a session is, step by step, across `kill -9`: handshakes of QoS 2, wills, expiry of sessions and messages
//! with the time that passed while down, and damage to the log that came with the crash.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use support::Broker;
use support::data::{Data, WAYS};
use support::packets::{Connect, Heard, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, Wire};

/// More than the seconds after which something expires here.
const PASSED: Duration = Duration::from_millis(2100);

fn connect(broker: &Broker, connect: &Connect<'_>) -> (Wire, bool) {
    Wire::connect(broker.address(), connect).expect("it listens")
}

/// A session that subscribes to a filter with QoS 2, and goes.
fn subscribe_and_go(broker: &Broker, id: &str, v5: bool, filter: &str) {
    let (mut wire, _) = connect(broker, &Connect::persistent(id, v5));
    wire.subscribe(filter, 2).expect("it answers");
    wire.disconnect().expect("it closes");
}

fn publish(topic: &str, payload: &str, qos: u8, packet_id: u16) -> Publish {
    Publish { topic: topic.into(), payload: payload.into(), qos, packet_id, ..Publish::default() }
}

/// Sends a message and takes its acknowledgement; with QoS 2 up to PUBREC.
fn send(wire: &mut Wire, publish: &Publish) {
    wire.send(publish);
    let kind = if publish.qos == 1 { PUBACK } else { PUBREC };
    assert_eq!(wire.hear().expect("an answer"), Heard::Answer(kind, publish.packet_id, 0), "{publish:?}");
}

/// The next message, unanswered.
fn message(wire: &mut Wire) -> Publish {
    match wire.hear().expect("a message") {
        Heard::Publish(publish) => publish,
        heard => panic!("{heard:?} instead of a message"),
    }
}

/// The payloads that come up to `last`, with QoS 1.
fn payloads_until(wire: &mut Wire, last: &str) -> Vec<String> {
    let mut payloads = Vec::new();
    loop {
        let publish = message(wire);
        wire.answer(PUBACK, publish.packet_id);
        if publish.payload == last {
            return payloads;
        }
        payloads.push(publish.payload);
    }
}

fn restart(data: &Data, broker: Broker, round: usize) -> Broker {
    broker.kill();
    data.start_by(WAYS[round % WAYS.len()], &["--cores", ["0", "0,1"][round % 2]])
}

/// A publisher that repeats what PUBREC or PUBCOMP answered before the crash changes nothing; its identifier is free
/// when PUBCOMP has come, and not before.
#[test]
fn a_qos_2_publish_is_one_across_crashes() {
    let data = Data::new();
    let mut broker = data.start(&["--cores", "0,1"]);
    subscribe_and_go(&broker, "reader", false, "once/#");
    let publisher = Connect::persistent("publisher", false);
    for round in 0..3 {
        let (payload, next) = (format!("{round}"), format!("{round} again"));
        let (mut wire, _) = connect(&broker, &publisher);
        send(&mut wire, &publish("once/a", &payload, 2, 7));
        broker = restart(&data, broker, round);
        let (mut wire, present) = connect(&broker, &publisher);
        assert!(present);
        send(&mut wire, &Publish { dup: true, ..publish("once/a", &payload, 2, 7) });
        wire.answer(PUBREL, 7);
        assert_eq!(wire.hear().expect("an answer"), Heard::Answer(PUBCOMP, 7, 0));
        broker = restart(&data, broker, round + 1);
        let (mut wire, _) = connect(&broker, &publisher);
        wire.answer(PUBREL, 7);
        assert_eq!(wire.hear().expect("an answer"), Heard::Answer(PUBCOMP, 7, 0));
        send(&mut wire, &publish("once/a", &next, 2, 7));
        wire.answer(PUBREL, 7);
        assert_eq!(wire.hear().expect("an answer"), Heard::Answer(PUBCOMP, 7, 0));
        send(&mut wire, &publish("once/a", "last", 1, 8));
    }
    let (mut wire, present) = connect(&broker, &Connect::persistent("reader", false));
    assert!(present);
    let expected: Vec<String> =
        (0..3).flat_map(|round| [format!("{round}"), format!("{round} again"), "last".into()]).collect();
    // No window bounds them: all are sent before anything is acknowledged.
    let delivered: Vec<String> = expected.iter().map(|_| message(&mut wire).payload).collect();
    assert_eq!(delivered, expected);
    let (mut other, _) = connect(&broker, &Connect::clean("publisher of the end", false));
    send(&mut other, &publish("once/a", "end", 1, 1));
    assert_eq!(message(&mut wire).payload, "end", "nothing else has come");
}

/// A message whose PUBREC was not sent comes again, marked, under the same identifier; after PUBREL it does not, and
/// PUBREL does.
#[test]
fn a_qos_2_delivery_is_one_across_crashes() {
    let data = Data::new();
    let mut broker = data.start(&["--cores", "0,1"]);
    let reader = Connect::persistent("reader", true);
    subscribe_and_go(&broker, "reader", true, "once/#");
    let (mut wire, _) = connect(&broker, &Connect::clean("publisher", true));
    send(&mut wire, &publish("once/a", "first", 2, 1));
    let (mut wire, _) = connect(&broker, &reader);
    let first = message(&mut wire);
    assert_eq!((first.dup, first.payload.as_str()), (false, "first"));
    broker = restart(&data, broker, 0);
    let (mut wire, _) = connect(&broker, &reader);
    assert_eq!(message(&mut wire), Publish { dup: true, ..first.clone() });
    wire.answer(PUBREC, first.packet_id);
    assert_eq!(wire.hear().expect("an answer"), Heard::Answer(PUBREL, first.packet_id, 0));
    broker = restart(&data, broker, 1);
    let (mut wire, _) = connect(&broker, &reader);
    assert_eq!(wire.hear().expect("PUBREL is owed"), Heard::Answer(PUBREL, first.packet_id, 0));
    wire.answer(PUBCOMP, first.packet_id);
    let (mut other, _) = connect(&broker, &Connect::clean("publisher", true));
    send(&mut other, &publish("once/a", "second", 2, 1));
    let second = message(&mut wire);
    assert_eq!((second.dup, second.payload.as_str()), (false, "second"));
    assert_ne!(second.packet_id, first.packet_id);
}

/// Wills of sessions whose connections ended with the process are published after the start when their delay is
/// over, unless their clients are back before.
#[test]
fn wills_outlive_kill_9() {
    let data = Data::new();
    let broker = data.start(&["--cores", "0,1"]);
    subscribe_and_go(&broker, "reader", false, "wills/#");
    let clients = [("at-once", false, 0), ("soon", true, 1), ("late", true, 3600)];
    let connections = clients.map(|(id, v5, delay)| {
        let will = Some(("wills/of", id, delay));
        connect(&broker, &Connect { will, ..Connect::persistent(id, v5) })
    });
    let broker = restart(&data, broker, 0);
    drop(connections);
    let (mut reader, present) = connect(&broker, &Connect::persistent("reader", false));
    assert!(present);
    let wills: BTreeSet<String> = (0..2)
        .map(|_| {
            let will = message(&mut reader);
            reader.answer(PUBACK, will.packet_id);
            will.payload
        })
        .collect();
    assert_eq!(wills, BTreeSet::from(["at-once".to_owned(), "soon".to_owned()]));
    // Who is back has no will any more, neither now nor after one more crash.
    for (id, v5) in [("late", true), ("at-once", false)] {
        let (wire, present) = connect(&broker, &Connect::persistent(id, v5));
        assert!(present);
        wire.disconnect().expect("it closes");
    }
    let broker = restart(&data, broker, 1);
    let (mut wire, _) = connect(&broker, &Connect::clean("publisher", true));
    send(&mut wire, &publish("wills/none", "last", 1, 1));
    let (mut reader, _) = connect(&broker, &Connect::persistent("reader", false));
    let repeated = payloads_until(&mut reader, "last");
    assert!(repeated.iter().all(|payload| wills.contains(payload)), "{repeated:?}");
}

/// Sessions and messages expire while the broker is down, and messages are delivered with what is left of their time.
#[test]
fn time_passes_while_the_broker_is_down() {
    let data = Data::new();
    let broker = data.start(&["--cores", "0,1"]);
    let short = Connect { session_expiry_seconds: 1, ..Connect::persistent("short", true) };
    let long = Connect::persistent("long", true);
    for client in [&short, &long] {
        let (mut wire, _) = connect(&broker, client);
        wire.subscribe("time/#", 1).expect("it answers");
        wire.disconnect().expect("it closes");
    }
    let (mut wire, _) = connect(&broker, &Connect::clean("publisher", true));
    for (packet_id, expiry_seconds) in [(1, Some(1)), (2, Some(3600)), (3, None)] {
        send(&mut wire, &Publish { expiry_seconds, ..publish("time/a", "what is left", 1, packet_id) });
    }
    broker.kill();
    thread::park_timeout(PASSED);
    let broker = data.start(&["--cores", "0"]);
    assert!(!connect(&broker, &short).1, "the session has expired");
    let (mut wire, present) = connect(&broker, &long);
    assert!(present);
    let left = message(&mut wire).expiry_seconds.expect("it expires");
    assert!(left <= 3598, "{left} s are left");
    assert_eq!(message(&mut wire).expiry_seconds, None);
}

/// Publishes numbers to a session that is away, each when the former is acknowledged.
fn fill(address: SocketAddr, numbers: std::ops::Range<u16>) {
    let (mut wire, _) = Wire::connect(address, &Connect::clean("publisher", true)).expect("it listens");
    for number in numbers {
        send(&mut wire, &publish("tail/a", &number.to_string(), 1, number + 1));
    }
}

/// The places of the log's records: segment and offset.
fn places(data: &Data) -> Vec<String> {
    let (code, text) = data.wal("dump", &["--log", "0"]);
    assert_eq!(code, Some(0), "{text}");
    let records = text.lines().filter(|line| line.contains(" range "));
    records.map(|line| line.split(' ').nth(1).expect("a place").to_owned()).collect()
}

/// Bytes of the last record of a killed broker's log that are wrong are cut off with it, and nothing before; a start
/// says so, and what is written afterwards is kept. A byte in the middle is refused.
#[test]
fn the_last_bytes_of_a_log_may_be_wrong() {
    let data = Data::new();
    let broker = data.start(&["--cores", "0"]);
    subscribe_and_go(&broker, "reader", false, "tail/#");
    fill(broker.address(), 0..20);
    broker.kill();
    let before = places(&data);
    data.damage(0, before.last().expect("records"), 70);
    let broker = data.start(&["--cores", "0"]);
    fill(broker.address(), 20..30);
    let (mut reader, present) = connect(&broker, &Connect::persistent("reader", false));
    assert!(present);
    let delivered = payloads_until(&mut reader, "29");
    // The last record is the twentieth message's, or what followed from it.
    let whole: Vec<String> = (0..29).map(|number| number.to_string()).collect();
    let cut: Vec<String> = whole.iter().filter(|number| *number != "19").cloned().collect();
    assert!(delivered == whole || delivered == cut, "{delivered:?}");
    broker.kill();
    let places = places(&data);
    data.damage(0, &places[places.len() / 2], 70);
    let output = data.refused(&["--cores", "0"]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(error.contains("is damaged:\n  lost: LSN ") && error.contains("--quarantine"), "{error}");
}

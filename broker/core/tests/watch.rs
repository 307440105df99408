//! What is told of single messages: to tenants that ask for it, and to traces, across cores.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{AccessList, Action, Line, Rule, Subject};
use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use broker_core::input::Input;
use broker_core::notice::{Event, Level, Matched};
use broker_core::sight::{Publish, Said, Trace, TraceLine, Traced, What};
use host::exchange::lasting;
use host::{Client, Node};
use mqtt::{Connect, PacketKind, QoS, ReasonCode, Version};

const CORES: u16 = 3;

fn debugging(cores: u16) -> Node {
    let settings = Arc::new(Settings { events: Level::Debug, ..Settings::default() });
    Node::with(Config { cores, notices: true, settings, ..Config::default() })
}

/// The types of what was told, without connections' comings and goings.
fn told(node: &Node) -> Vec<&'static str> {
    let kinds = node.take_notices().into_iter().filter(|notice| notice.message.is_some());
    kinds.filter_map(|notice| notice.kind()).map(|kind| kind.name).collect()
}

/// Starts a trace on all cores.
fn trace(node: &Node, of: &Traced, lines_max: u32) {
    for core in 0..CORES {
        let trace = Trace { number: 7, of: of.clone(), seconds: 60, lines_max };
        assert_eq!(node.ask(core, What::StartTrace(Box::new(trace))), Said::Agreed(true));
    }
}

fn of_client(client: &str) -> Traced {
    Traced::Client { tenant: "default".into(), client: client.into() }
}

fn of_topic(filter: &str) -> Traced {
    Traced::Topic { tenant: "default".into(), filter: filter.into() }
}

/// All lines, of all cores.
fn lines(node: &Node) -> Vec<TraceLine> {
    let lines = |core| match node.ask(core, What::TraceLines { number: 7, from: 0 }) {
        Said::TraceLines(Some(page)) => page.items,
        other => panic!("lines, not {other:?}"),
    };
    (0..CORES).flat_map(lines).collect()
}

/// What happened to whom.
fn steps(node: &Node) -> Vec<(&'static str, Option<String>)> {
    let step = |line: TraceLine| (line.notice.event.name(), line.notice.client.map(String::from));
    let mut steps: Vec<_> = lines(node).into_iter().map(step).collect();
    steps.sort();
    steps
}

fn at(name: &'static str, client: &str) -> (&'static str, Option<String>) {
    (name, Some(client.to_owned()))
}

fn nowhere(name: &'static str) -> (&'static str, Option<String>) {
    (name, None)
}

/// Connects a publisher and a subscriber that are not at home on the same core.
fn apart(node: &Node, qos: QoS) -> (Client, Client) {
    let publisher = node.connect_at(0, Version::V5, "publisher");
    let mut subscriber = node.connect_at(1, Version::V5, "subscriber");
    subscriber.subscribe("a/+", qos);
    (publisher, subscriber)
}

/// The steps of a QoS 2 message to a client of the same core are told in order to a tenant that wants to know, and
/// nothing of it to one that does not.
#[test]
fn messages_are_told() {
    let node = debugging(1);
    let mut client = node.connect(Version::V5, "a");
    client.subscribe("t", QoS::ExactlyOnce);
    node.take_notices();
    let packet_id = client.publish("t", QoS::ExactlyOnce, "x");
    let publish = client.expect_publish();
    client.expect_ack(PacketKind::PubRec, packet_id);
    client.acknowledge(&publish);
    let theirs = publish.packet_id.expect("QoS 2").get();
    client.expect_ack(PacketKind::PubRel, theirs);
    client.send_ack(PacketKind::PubComp, theirs);
    let expected = ["DISTED", "DELIVERED", "QOS2_PUSHED", "PUB_RECED", "QOS2_RECEIVED", "QOS2_CONFIRMED"];
    assert_eq!(told(&node), expected);

    let settings = Arc::new(Settings::default());
    node.configure(Config { cores: 1, notices: true, settings, ..Config::default() });
    client.publish_fully("t", QoS::AtMostOnce, "x");
    client.expect_publish();
    assert_eq!(told(&node), [""; 0]);
}

/// What happens to an event that is published makes no events, or the first would never end; nor does what else the
/// broker says of itself. A client that tries to say it does.
#[test]
fn events_make_no_events() {
    for (topic, retain) in [("$SYS/events/KICKED", false), ("$SYS/broker/uptime", true)] {
        nothing_is_told_of(topic, retain);
    }
}

fn nothing_is_told_of(topic: &str, retain: bool) {
    let node = debugging(1);
    let mut client = node.connect(Version::V5, "a");
    client.subscribe("$SYS/#", QoS::AtLeastOnce);
    node.take_notices();
    let announce = || {
        Input::Announce(Box::new(Publish {
            tenant: "default".into(),
            topic: topic.into(),
            qos: QoS::AtLeastOnce,
            retain,
            payload: b"{}".to_vec(),
            properties: Vec::new(),
            expiry_seconds: None,
        }))
    };
    node.tell_all(announce);
    node.run();
    let publish = client.expect_payload("{}");
    client.acknowledge(&publish);
    assert_eq!(told(&node), [""; 0]);
    client.publish(topic, QoS::AtMostOnce, "x");
    assert_eq!(told(&node), ["PUB_ACTION_DISALLOW"]);
}

/// A trace of a publisher has its message's way to a subscriber on another core, and back what was acknowledged.
#[test]
fn publisher_is_traced_across_cores() {
    let node = Node::new(CORES);
    let (mut publisher, mut subscriber) = apart(&node, QoS::AtLeastOnce);
    trace(&node, &of_client(&publisher.client_id), 100);
    let packet_id = publisher.publish("a/b", QoS::AtLeastOnce, "x");
    publisher.expect_ack(PacketKind::PubAck, packet_id);
    let publish = subscriber.expect_publish();
    subscriber.acknowledge(&publish);
    let (from, to) = (&publisher.client_id, &subscriber.client_id);
    let steps = steps(&node);
    for step in [
        at("received", from),
        nowhere("matched"),
        at("queued", to),
        at("sent", to),
        at("confirmed", to),
        at("acknowledged", from),
    ] {
        assert!(steps.contains(&step), "{step:?} in {steps:?}");
    }
    let matched = lines(&node).into_iter().find_map(|line| match line.notice.event {
        Event::Matched(matched) => Some(matched),
        _ => None,
    });
    assert_eq!(matched, Some(Matched { cores: 1, ..Matched::default() }));
}

/// A trace of an address has the ways of messages from there, wherever their receivers come from; and nothing of others'
/// messages to those.
#[test]
fn address_is_traced_across_cores() {
    for lasts in [false, true] {
        let node = Node::new(CORES);
        let publisher = node.accept_on(0);
        let peer = |address: &str| Some(address.parse().expect("an address"));
        publisher.tell(|connection| Input::ClientRelayed { connection, peer: peer("192.0.2.1:1000") });
        let mut publisher = publisher;
        let connack = publisher.greet(&Connect::new(Version::V5, "traced"));
        assert!(!connack.reason.is_error());
        let (mut other, _) = apart(&node, QoS::AtLeastOnce);
        let mut subscribers: Vec<_> = (0..CORES)
            .map(|core| {
                let prefix = format!("s{core}-");
                let mut subscriber = node.connect_at_with(core, &prefix, |id| match lasts {
                    true => lasting(Version::V5, id),
                    false => Connect::new(Version::V5, id),
                });
                subscriber.subscribe("a/+", QoS::AtLeastOnce);
                subscriber
            })
            .collect();
        trace(&node, &Traced::Address("192.0.2.0/24".parse().expect("a network")), 100);
        other.publish_fully("a/b", QoS::AtLeastOnce, "other");
        publisher.publish_fully("a/b", QoS::AtLeastOnce, "traced");
        subscribers.iter_mut().for_each(|subscriber| drop(subscriber.drain()));
        let steps = steps(&node);
        assert_eq!(steps.iter().filter(|(name, _)| *name == "received").count(), 1, "{steps:?}");
        for subscriber in &subscribers {
            for step in ["queued", "sent", "confirmed"] {
                let step = at(step, &subscriber.client_id);
                let count = steps.iter().filter(|it| **it == step).count();
                assert_eq!(count, 1, "{step:?} in {steps:?}");
            }
        }
    }
}

/// A trace of a receiver says why it does not get what it subscribes to, in sessions of both kinds.
#[test]
fn receiver_hears_why_not() {
    for lasts in [false, true] {
        let node = Node::new(CORES);
        let mut publisher = node.connect(Version::V5, "publisher");
        let mut receiver = match lasts {
            true => node.connect_with(&lasting(Version::V5, "receiver")),
            false => node.connect(Version::V5, "receiver"),
        };
        receiver.subscribe("secret", QoS::AtLeastOnce);
        let rule = |action, filter: &str, allow| Line {
            subject: Subject::Everybody,
            rule: Rule { action, filter: filter.into(), allow },
        };
        let list = AccessList::new([rule(Action::Any, "#", true), rule(Action::Subscribe, "secret", false)]);
        node.access_list(Some(list));
        trace(&node, &of_client("receiver"), 100);
        let packet_id = publisher.publish("secret", QoS::AtLeastOnce, "x");
        publisher.expect_ack(PacketKind::PubAck, packet_id);
        let events: Vec<_> = lines(&node).into_iter().map(|line| line.notice.event).collect();
        assert_eq!(events, [Event::Dropped(DropReason::NoPermission)], "lasting: {lasts}");
    }
}

/// A trace of topics has messages for sessions that are away, and those that find no room.
#[test]
fn topics_are_traced() {
    let settings = Settings { queue_messages_max: 1, ..Settings::default() };
    let node = Node::of_settings_and_cores(settings, CORES);
    let mut away = node.connect_with(&lasting(Version::V5, "away"));
    away.subscribe("a/#", QoS::AtLeastOnce);
    away.drop_socket();
    let mut publisher = node.connect(Version::V5, "publisher");
    trace(&node, &of_topic("a/+"), 100);
    for topic in ["a/b", "a/b/c", "a/c", "b"] {
        let packet_id = publisher.publish(topic, QoS::AtLeastOnce, "x");
        publisher.expect_ack(PacketKind::PubAck, packet_id);
    }
    let steps = steps(&node);
    let count = |name, client| steps.iter().filter(|step| **step == at(name, client)).count();
    assert_eq!((count("received", "publisher"), count("acknowledged", "publisher")), (2, 2));
    assert_eq!((count("queued", "away"), count("dropped", "away")), (1, 1), "{steps:?}");
}

/// A trace has no more lines than it was given, counts the rest, ends with its time or when it is told to, and is
/// gone when it is removed.
#[test]
fn traces_are_bounded() {
    let node = Node::new(CORES);
    let mut client = node.connect(Version::V5, "a");
    trace(&node, &of_topic("#"), 3);
    for _ in 0..4 {
        client.publish_fully("t", QoS::AtMostOnce, "x");
    }
    let state = |node: &Node| match node.ask(client_core(node), What::Traces) {
        Said::Traces(traces) => traces.into_iter().next(),
        other => panic!("traces, not {other:?}"),
    };
    let before = state(&node).expect("it runs");
    assert_eq!((before.lines, before.running), (3, true));
    assert!(before.missed > 0);
    node.advance(Duration::from_secs(61));
    client.publish_fully("t", QoS::AtMostOnce, "x");
    let after = state(&node).expect("it is there");
    assert_eq!((after.missed, after.running), (before.missed, false));
    for core in 0..CORES {
        assert_eq!(node.ask(core, What::StopTrace { number: 7, remove: true }), Said::Agreed(true));
        assert_eq!(node.ask(core, What::StopTrace { number: 7, remove: true }), Said::Agreed(false));
        assert_eq!(node.ask(core, What::TraceLines { number: 7, from: 0 }), Said::TraceLines(None));
    }
}

/// Topics may have 64 KiB: a trace has no more of their bytes than it can keep, and a page has few of them.
#[test]
fn long_topics_end_a_trace() {
    let node = Node::new(CORES);
    let mut client = node.connect(Version::V5, "a");
    trace(&node, &of_topic("#"), 10_000);
    let topic = "t".repeat(60_000);
    for _ in 0..200 {
        client.publish_fully(&topic, QoS::AtMostOnce, "x");
    }
    let core = client_core(&node);
    let (mut lines, mut from) = (0, Some(0));
    while let Some(place) = from {
        let Said::TraceLines(Some(page)) = node.ask(core, What::TraceLines { number: 7, from: place }) else {
            panic!("lines")
        };
        assert!((1..=4).contains(&page.items.len()), "{} lines", page.items.len());
        lines += page.items.len();
        from = page.next;
    }
    assert_eq!(lines, 8 * 1024 * 1024 / 60_000);
    let Said::Traces(traces) = node.ask(core, What::Traces) else { panic!("traces") };
    assert!(traces[0].missed >= 400 - 140, "received and matched each time: {}", traces[0].missed);
}

/// Traces that have ended and that nobody came for do not keep others from beginning; those that run do.
#[test]
fn an_ended_trace_gives_way() {
    let node = Node::new(1);
    let start = |number| {
        let trace = Trace { number, of: of_topic("#"), seconds: 60, lines_max: 1 };
        node.ask(0, What::StartTrace(Box::new(trace)))
    };
    assert!((0..16).all(|number| start(number) == Said::Agreed(true)));
    assert_eq!(start(16), Said::Agreed(false), "all of them run");
    node.ask(0, What::StopTrace { number: 3, remove: false });
    assert_eq!(start(16), Said::Agreed(true));
    let Said::Traces(traces) = node.ask(0, What::Traces) else { panic!("traces") };
    assert!(traces.len() == 16 && traces.iter().all(|state| state.trace.number != 3));
    node.advance(Duration::from_secs(61));
    assert_eq!(start(17), Said::Agreed(true), "their time is over");
}

/// The core on which the only client is.
fn client_core(node: &Node) -> u16 {
    let clients = |core| match node.ask(core, What::Totals) {
        Said::Totals(totals) => totals.usage.connections,
        other => panic!("totals, not {other:?}"),
    };
    (0..CORES).find(|core| clients(*core) > 0).expect("it is somewhere")
}

/// What a client may not publish is traced, and how it was answered.
#[test]
fn denied_publish_is_traced() {
    let node = Node::new(CORES);
    let mut publisher = node.connect(Version::V5, "publisher");
    trace(&node, &of_client("publisher"), 100);
    let packet_id = publisher.publish("$SYS/mine", QoS::AtLeastOnce, "x");
    publisher.expect_ack(PacketKind::PubAck, packet_id);
    let denied = ReasonCode::NOT_AUTHORIZED;
    let events: Vec<_> = lines(&node).into_iter().map(|line| line.notice.event).collect();
    let expected =
        [Event::Received { retain: false }, Event::PublishDenied(denied), Event::Acknowledged(denied)];
    assert_eq!(events, expected);
}

//! Slow readers, floods and bounds: what is held back, what is dropped, and that nobody else suffers (promises 4 and 7).

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use host::exchange::{lasting, numbers, options};
use host::packets::{id, publish_packet};
use host::{Client, Node};
use mqtt::encode::PublishOut;
use mqtt::{Connect, Packet, PacketKind, QoS, SubscribeFilter, Version};

/// So many QoS 0 publishes on a topic, as bytes.
fn flood(topic: &str, count: usize, payload: &[u8]) -> Vec<u8> {
    let publish = PublishOut { topic, payload, ..PublishOut::default() };
    publish_packet(Version::V311, &publish).repeat(count)
}

/// A slow reader loses QoS 0 beyond `tenant.send_bytes_max`, counted, and no QoS 1, which waits; others lose nothing, and
/// what it gets is whole and in order.
#[test]
fn a_slow_reader() {
    let node = Node::of_settings(Settings { send_bytes_max: 10_000, ..Settings::default() });
    let mut slow = node.connect_with(&lasting(Version::V311, "slow"));
    slow.subscribe("#", QoS::AtLeastOnce);
    slow.reads(false);
    let mut quick = node.connect(Version::V311, "quick");
    quick.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in 0..500 {
        let payload = format!("{number}-{}", "x".repeat(100));
        publisher.publish_patiently("zero", QoS::AtMostOnce, &payload);
        publisher.publish_patiently("one", QoS::AtLeastOnce, &payload);
        assert!(slow.unsent() < 2 * 10_000);
    }
    assert_eq!(quick.drain().len(), 1000);
    let lost = node.dropped(DropReason::SlowReader);
    assert!(lost > 300, "{lost}");
    slow.reads(true);
    let received = slow.drain();
    let (zero, one): (Vec<_>, Vec<_>) = received.iter().partition(|publish| publish.topic == "zero");
    assert_eq!(zero.len() as u64 + lost, 500);
    let number = |publish: &&mqtt::Publish<'_>| -> u32 {
        let payload = std::str::from_utf8(publish.payload).expect("text");
        payload.split('-').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    assert!(zero.iter().map(number).is_sorted());
    assert!(one.iter().map(number).eq(0..500));
}

/// A publisher whose receiver falls behind is read more slowly while that one makes progress, also across cores, and
/// not once it is stuck.
#[test]
fn publishers_are_slowed() {
    for cores in [1, 2] {
        let settings = Settings { queue_messages_max: 1000, inflight_max: 10, ..Settings::default() };
        let node = Node::of_settings_and_cores(settings, cores);
        let mut slow = node.connect_at(cores - 1, Version::V311, "slow");
        slow.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        let mut bytes = Vec::new();
        for packet_id in 1..=5000 {
            let publish = PublishOut {
                topic: "t",
                qos: QoS::AtLeastOnce,
                packet_id: Some(id(packet_id)),
                ..PublishOut::default()
            };
            bytes.extend(publish_packet(Version::V311, &publish));
        }
        node.split_input(1000);
        publisher.send(&bytes);
        let mut got = 0;
        for _ in 0..20_000 {
            got += slow.drain().len();
            node.advance(Duration::from_millis(5));
            if got == 5000 {
                break;
            }
        }
        assert_eq!(got, 5000, "{cores} cores");
        assert_eq!(node.dropped(DropReason::QueueFull), 0);
        assert!(node.count(|core| core.counters().publishers_slowed) > 0);
        // Now it takes nothing any more: nobody waits for it.
        slow.reads(false);
        node.advance(Duration::from_secs(2));
        let slowed = node.count(|core| core.counters().publishers_slowed);
        publisher.packets();
        for _ in 0..2000 {
            publisher.publish("t", QoS::AtMostOnce, "x");
            publisher.publish("t", QoS::AtLeastOnce, "x");
        }
        assert_eq!(node.count(|core| core.counters().publishers_slowed), slowed);
        assert_eq!(publisher.unreceived(), 0);
    }
}

/// A publisher that is slowed is answered for what came together, and with one send: each packet used to wait for a
/// timer of its own. The fuller the queue is, the less of it is taken.
#[test]
fn a_slowed_publisher_was_answered_packet_by_packet() {
    let settings = Settings { queue_messages_max: 1600, inflight_max: 10, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut slow = node.connect(Version::V311, "slow");
    slow.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    let eight = |from: u16| -> Vec<u8> {
        let publish = |packet_id| {
            let packet_id = Some(id(packet_id));
            let publish =
                PublishOut { topic: "t", qos: QoS::AtLeastOnce, packet_id, ..PublishOut::default() };
            publish_packet(Version::V311, &publish)
        };
        (from..from + 8).flat_map(publish).collect()
    };
    let mut taken = Vec::new();
    while taken.len() < 400 {
        publisher.send(&eight(taken.len() as u16 * 8 + 1));
        taken.push(publisher.packets().len());
        slow.packets(); // it makes progress, and acknowledges nothing
        slow.send(&[0xC0, 0]);
        if taken.last() != Some(&8) {
            break;
        }
        node.advance(Duration::from_millis(40)); // a slowed publisher goes on
    }
    assert!(node.count(|core| core.counters().publishers_slowed) > 10);
    let full = taken.len() * 8;
    assert!((1200..1600).contains(&full), "eight at a time until {full} of 1600 places are taken");
    assert!((1..8).contains(taken.last().expect("it publishes")), "{taken:?}");
    assert_eq!(node.dropped(DropReason::QueueFull), 0);
}

/// A client that sends and never reads: what is held for it is bounded, and it goes on when it reads.
#[test]
fn a_client_that_never_reads_its_answers() {
    let node = Node::of_settings(Settings { send_bytes_max: 4096, ..Settings::default() });
    let mut client = node.connect(Version::V311, "client");
    client.reads(false);
    client.send(&[0xC0, 0].repeat(100_000));
    assert!(client.unsent() < 64 * 1024, "{} bytes of answers", client.unsent());
    assert!(client.unreceived() > 0);
    let mut other = node.connect(Version::V311, "other");
    other.ping();
    client.reads(true);
    assert_eq!(client.packets().len(), 100_000);
}

/// A large message on its way to a slow reader does not keep the broker from hearing its PINGREQs: it is not cut off by
/// its keep alive [MQTT-3.1.2-22].
#[test]
fn a_large_message_over_a_slow_line() {
    let node = Node::of_settings(Settings { send_bytes_max: 100_000, ..Settings::default() });
    let mut client = node.connect_with(&Connect { keep_alive: 10, ..Connect::new(Version::V311, "client") });
    client.subscribe("t", QoS::AtLeastOnce);
    client.reads(false);
    let mut publisher = node.connect(Version::V311, "publisher");
    publisher.publish_fully("t", QoS::AtLeastOnce, &"x".repeat(1_000_000));
    for _ in 0..50 {
        client.read(20_000);
        client.push(&[0xC0, 0]);
        node.advance(Duration::from_secs(9));
        assert!(!client.is_closed(), "cut off");
    }
    client.reads(true);
    let packets = client.packets();
    assert!(matches!(packets[0], Packet::Publish(publish) if publish.payload.len() == 1_000_000));
    assert_eq!(packets.len(), 51);
}

/// A node of whole turns with a small budget of deliveries.
fn budgeted(cores: u16, turn_deliveries_max: u32) -> Node {
    let node = Node::with(Config { cores, turn_deliveries_max, ..Config::default() });
    node.take_whole_turns();
    node
}

/// Turns until a client has its PINGRESP.
fn turns_until_ping(node: &Node, client: &mut Client, mut before_each: impl FnMut()) -> u32 {
    client.push(&[0xC0, 0]);
    for turn in 1..=50 {
        before_each();
        node.run_once();
        if client.packets().contains(&Packet::PingResp) {
            return turn;
        }
    }
    panic!("starved");
}

/// The budget of a turn (`turn_deliveries_max`) is shared out in turn: several floods at once keep neither each other
/// nor a quiet client waiting.
#[test]
fn floods_do_not_starve_others() {
    let node = budgeted(1, 100);
    let mut subscriber = node.connect(Version::V311, "subscriber");
    subscriber.subscribe("#", QoS::AtMostOnce);
    let mut floods: Vec<Client> =
        (0..3).map(|number| node.connect(Version::V311, &format!("flood-{number}"))).collect();
    let mut quiet = node.connect(Version::V311, "quiet");
    for (number, client) in floods.iter_mut().enumerate() {
        client.push(&flood(&number.to_string(), 20_000, b"x"));
    }
    for _ in 0..5 {
        assert!(turns_until_ping(&node, &mut quiet, || ()) <= 10);
    }
    subscriber.packets();
    for _ in 0..30 {
        node.run_once();
    }
    let came = subscriber.drain();
    for topic in ["0", "1", "2"] {
        let share = came.iter().filter(|publish| publish.topic == topic).count();
        assert!(share * 6 >= came.len(), "{share} of {} on topic {topic}", came.len());
    }
    node.run();
}

/// Clients whose every publish costs more than a turn's budget, read anew each turn, do not keep those waiting that an
/// earlier turn left over.
#[test]
fn wide_fan_out_does_not_starve_others() {
    let node = budgeted(1, 10);
    let mut subscribers: Vec<Client> =
        (0..50).map(|number| node.connect(Version::V311, &format!("subscriber-{number}"))).collect();
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("wide", QoS::AtMostOnce));
    let mut wide: Vec<Client> =
        (0..3).map(|number| node.connect(Version::V311, &format!("wide-{number}"))).collect();
    let mut quiet = node.connect(Version::V311, "quiet");
    for _ in 0..10 {
        let turns = turns_until_ping(&node, &mut quiet, || {
            wide.iter_mut().for_each(|client| client.push(&flood("wide", 1, b"x")));
        });
        assert!(turns <= 10, "{turns} turns");
    }
}

/// Deliveries for other cores' publishers do not eat up the budget of this core's own clients.
#[test]
fn other_cores_do_not_starve_clients() {
    let node = budgeted(2, 50);
    let mut subscribers: Vec<Client> =
        (0..20).map(|number| node.connect_at(0, Version::V311, &format!("subscriber-{number}"))).collect();
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("t", QoS::AtMostOnce));
    let mut elsewhere = node.connect_at(1, Version::V311, "elsewhere");
    let mut quiet = node.connect_at(0, Version::V311, "quiet");
    elsewhere.push(&flood("t", 2, b"x"));
    node.run();
    for _ in 0..10 {
        let turns = turns_until_ping(&node, &mut quiet, || elsewhere.push(&flood("t", 100, b"x")));
        assert!(turns <= 5, "{turns} turns");
    }
    node.run();
    assert!(subscribers.iter_mut().all(|subscriber| !subscriber.packets().is_empty()));
}

/// A SUBSCRIBE costs as much of the budget as it has filters: a client that sends many large ones shares the turns.
#[test]
fn subscribing_is_within_the_budget() {
    let node = budgeted(1, 1000);
    let mut greedy = node.connect(Version::V5, "greedy");
    let mut quiet = node.connect(Version::V5, "quiet");
    let names: Vec<String> = (0..500).map(|number| format!("a/{number}")).collect();
    let filters: Vec<_> =
        names.iter().map(|filter| SubscribeFilter { filter, options: options(QoS::AtMostOnce) }).collect();
    let mut bytes = Vec::new();
    for packet_id in 1..=60 {
        let subscribe = mqtt::encode::SubscribeOut {
            packet_id: id(packet_id),
            subscription_id: None,
            user_properties: mqtt::UserProperties::default(),
            filters: &filters,
        };
        mqtt::encode::subscribe(&mut bytes, Version::V5, &subscribe);
    }
    greedy.push(&bytes);
    node.run_once();
    let acknowledged = greedy.packets().len();
    assert!(acknowledged <= 6, "{acknowledged} of 60 in one turn");
    assert!(turns_until_ping(&node, &mut quiet, || ()) <= 3);
    node.run();
    assert_eq!(greedy.packets().len(), 60 - acknowledged);
}

/// SUBSCRIBEs that wait for another core's routes are bounded: the client is read no further until it answers.
#[test]
fn waiting_requests_are_bounded() {
    let node = Node::new(2);
    let mut client = node.connect_at(0, Version::V5, "client");
    node.hold_mail(1, 0);
    let bytes: Vec<u8> = (1..=10_000)
        .flat_map(|number| {
            let filter = format!("{number}/filter");
            host::packets::subscribe_packet(Version::V5, number, &filter, QoS::AtMostOnce)
        })
        .collect();
    node.split_input(1000);
    client.send(&bytes);
    assert!(client.unreceived() > bytes.len() / 2, "{} bytes wait", client.unreceived());
    node.release_mail();
    assert_eq!(client.unreceived(), 0);
    let mut acknowledged: Vec<u16> = client
        .packets()
        .iter()
        .map(|packet| match packet {
            Packet::SubAck(ack) => ack.packet_id.get(),
            other => panic!("{other:?}"),
        })
        .collect();
    acknowledged.sort_unstable();
    assert!(acknowledged.into_iter().eq(1..=10_000));
}

/// A core that another one does not keep up with stops reading its clients (`mailbox_bytes_max`), goes on when it does,
/// and loses nothing; control messages still pass.
#[test]
fn mailbox_credit() {
    let node = Node::with(Config { cores: 2, mailbox_bytes_max: 10_000, ..Config::default() });
    let mut subscriber = node.connect_at_with(1, "subscriber", |client_id| lasting(Version::V311, client_id));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect_at(0, Version::V311, "publisher");
    publisher.publish_fully("t", QoS::AtLeastOnce, "warm");
    subscriber.drain();
    node.hold_mail(0, 1);
    node.split_input(1000);
    let mut bytes = Vec::new();
    for packet_id in 1..=1000 {
        let payload = packet_id.to_string() + &"-".repeat(100);
        let publish = PublishOut {
            topic: "t",
            qos: QoS::AtLeastOnce,
            packet_id: Some(id(packet_id)),
            payload: payload.as_bytes(),
            ..PublishOut::default()
        };
        bytes.extend(publish_packet(Version::V311, &publish));
    }
    publisher.send(&bytes);
    let unreceived = publisher.unreceived();
    assert!(unreceived > bytes.len() - 20_000, "{unreceived} of {} bytes wait", bytes.len());
    assert!(node.count(|core| u64::from(!core.wants_clients())) == 1);
    node.release_mail();
    assert_eq!(publisher.packets().len(), 1000);
    assert_eq!(subscriber.drain().len(), 1000);
    assert_eq!(node.count(|core| u64::from(core.wants_clients())), 2);
}

/// Two cores whose mailboxes are both full do not lock each other: once they are looked into again all is delivered.
#[test]
fn two_full_mailboxes() {
    let node = Node::with(Config { cores: 2, mailbox_bytes_max: 1000, ..Config::default() });
    let mut clients: Vec<Client> = (0..2)
        .map(|core| {
            let prefix = format!("client-{core}");
            node.connect_at_with(core, &prefix, |client_id| lasting(Version::V311, client_id))
        })
        .collect();
    clients[0].subscribe("to/0", QoS::AtLeastOnce);
    clients[1].subscribe("to/1", QoS::AtLeastOnce);
    node.hold_mail(0, 1);
    node.hold_mail(1, 0);
    for number in numbers(0..200) {
        clients[0].publish("to/1", QoS::AtLeastOnce, &number);
        clients[1].publish("to/0", QoS::AtLeastOnce, &number);
    }
    node.release_mail();
    node.advance(Duration::from_secs(1)); // slowed publishers go on
    for client in &mut clients {
        let (mut acks, mut said) = (0, Vec::new());
        loop {
            let packets = client.packets();
            if packets.is_empty() {
                break;
            }
            for packet in packets {
                match packet {
                    Packet::Publish(publish) => {
                        said.push(String::from_utf8_lossy(publish.payload).into_owned());
                        client.acknowledge(&publish);
                    }
                    other => acks += u32::from(other.kind() == PacketKind::PubAck),
                }
            }
        }
        assert_eq!((acks, said), (200, numbers(0..200)));
    }
}

/// A million subscriptions of one client: they are granted, other clients are served meanwhile, and after the client's
/// end they are gone, again with others served.
#[test]
fn a_million_subscriptions_of_one_client() {
    const PACKETS: u32 = 125;
    const FILTERS: u32 = 8000;
    let settings = Arc::new(Settings { queue_qos0: true, ..Settings::default() });
    let node = Node::with(Config { cores: 2, settings, ..Config::default() });
    node.take_whole_turns();
    let mut greedy = node.connect_with(&Connect::new(Version::V5, "greedy"));
    let mut quiet = node.connect(Version::V5, "quiet");
    for packet in 0..PACKETS {
        let names: Vec<String> =
            (0..FILTERS).map(|number| format!("{}/{packet}/{number}", number % 7)).collect();
        let filters: Vec<_> = names
            .iter()
            .map(|filter| SubscribeFilter { filter, options: options(QoS::AtMostOnce) })
            .collect();
        let codes = greedy.subscribe_all(&filters, None);
        assert!(codes.iter().all(|code| *code == 0));
    }
    quiet.publish("3/77/10", QoS::AtMostOnce, "x");
    assert_eq!(greedy.drain().len(), 1);
    greedy.push(&[0xE0, 0]);
    for _ in 0..300 {
        assert_eq!(turns_until_ping(&node, &mut quiet, || ()), 1);
    }
    node.run();
    let packet_id = quiet.publish("3/77/10", QoS::AtLeastOnce, "x");
    let reason = quiet.expect_ack(PacketKind::PubAck, packet_id).reason;
    assert_eq!(reason, mqtt::ReasonCode::NO_MATCHING_SUBSCRIBERS);
}

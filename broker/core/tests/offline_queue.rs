//! Messages for a client that is away: which are kept, how many, in what order (sections 4.1, 4.5).

mod host;

use broker_core::config::{Config, QueueDrop, Settings};
use broker_core::counters::DropReason;
use host::exchange::{lasting, lasting_with_window, numbers};
use host::{Client, Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Disconnect, QoS, ReasonCode, Version};

/// A lasting session that subscribes to `t` and is away.
fn away(node: &Node, version: Version, qos: QoS) {
    let mut client = node.connect_with(&lasting(version, "client"));
    client.subscribe("t", qos);
    client.disconnect(ReasonCode::SUCCESS);
}

fn back(node: &Node, version: Version) -> Client {
    node.connect_with(&lasting(version, "client"))
}

fn dropped(node: &Node) -> Vec<(DropReason, u64)> {
    let all = DropReason::ALL.into_iter().map(|reason| (reason, node.dropped(reason)));
    all.filter(|(_, count)| *count > 0).collect()
}

/// [MQTT-4.1.0-1, MQTT-4.5.0-1, MQTT-3.1.2-5 of 3.1.1] QoS 1 and 2 messages wait for a lasting session, in order, with
/// their QoS, once; QoS 0 ones are dropped and counted unless `tenant.queue_qos0` keeps them.
#[test]
fn messages_wait() {
    for version in VERSIONS {
        for cores in [1, 3] {
            for queue_qos0 in [false, true] {
                let settings = Settings { queue_qos0, ..Settings::default() };
                let node = Node::of_settings_and_cores(settings, cores);
                away(&node, version, QoS::ExactlyOnce);
                let mut publisher = node.connect(version, "publisher");
                for number in 0..30 {
                    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
                    publisher.publish_fully("t", qos, &number.to_string());
                }
                let mut client = back(&node, version);
                let received = client.drain();
                let expected: Vec<String> = (0..30)
                    .filter(|number| queue_qos0 || number % 3 > 0)
                    .map(|number| number.to_string())
                    .collect();
                let said: Vec<_> =
                    received.iter().map(|publish| String::from_utf8_lossy(publish.payload)).collect();
                assert_eq!(said, expected);
                assert!(received.iter().all(|publish| !publish.dup && !publish.retain));
                let expected = if queue_qos0 { vec![] } else { vec![(DropReason::Away, 10)] };
                assert_eq!(dropped(&node), expected);
                client.drop_socket();
                back(&node, version).expect_silence();
            }
        }
    }
}

/// A queue full by count gives up the newest or the oldest, by setting; each is counted; those in flight stay.
#[test]
fn bounded_by_count() {
    for (queue_drop, expected) in [(QueueDrop::Newest, 0..5), (QueueDrop::Oldest, 15..20)] {
        for cores in [1, 2] {
            let settings = Settings { queue_messages_max: 5, queue_drop, ..Settings::default() };
            let node = Node::of_settings_and_cores(settings, cores);
            away(&node, Version::V5, QoS::AtLeastOnce);
            let mut publisher = node.connect(Version::V311, "publisher");
            for number in numbers(0..20) {
                publisher.publish_fully("t", QoS::AtLeastOnce, &number);
            }
            assert_eq!(dropped(&node), [(DropReason::QueueFull, 15)]);
            assert_eq!(back(&node, Version::V5).drain_payloads(), numbers(expected.clone()));
        }
    }
}

/// The same by bytes, of topic, properties and payload together; a message larger than the whole queue is dropped
/// alone where others wait.
#[test]
fn bounded_by_bytes() {
    for (queue_drop, expected) in [(QueueDrop::Newest, ["0", "1", "2"]), (QueueDrop::Oldest, ["7", "8", "9"])]
    {
        let settings = Settings { queue_bytes_max: 310, queue_drop, ..Settings::default() };
        let node = Node::of_settings(settings);
        away(&node, Version::V5, QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V5, "publisher");
        for number in numbers(0..10) {
            let payload = format!("{number}{}", "x".repeat(91));
            // 1 byte of topic, 7 of properties, 92 of payload: 100.
            let publish = PublishOut {
                topic: "t",
                qos: QoS::AtLeastOnce,
                payload: payload.as_bytes(),
                forwarded: &[0x26, 0, 1, b'a', 0, 1, b'b'],
                ..PublishOut::default()
            };
            let packet_id = publisher.publish_with(&publish);
            publisher.finish_publish(QoS::AtLeastOnce, packet_id);
        }
        publisher.publish_fully("t", QoS::AtLeastOnce, &"x".repeat(400));
        assert_eq!(dropped(&node), [(DropReason::QueueFull, 8)]);
        let said: Vec<String> =
            back(&node, Version::V5).drain_payloads().iter().map(|payload| payload[..1].to_owned()).collect();
        assert_eq!(said, expected);
    }
}

/// A message larger than the whole queue was acknowledged and dropped, live or retained, with nothing else in the
/// queue of a client that read everything [MQTT-4.5.0-1]: alone it finds room, and leaves it to the next.
#[test]
fn a_message_larger_than_its_queue_never_came() {
    let large = "x".repeat(1000);
    for cores in [1, 3] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let settings = Settings { queue_bytes_max: 300, ..Settings::default() };
            let node = Node::of_settings_and_cores(settings, cores);
            let mut publisher = node.connect(Version::V5, "publisher");
            publisher.retain("t", qos, &large);
            let mut subscriber = node.subscriber("t", qos);
            assert_eq!(subscriber.drain_payloads(), [&*large], "retained, {cores} {qos:?}");
            for payload in [&*large, "small", &*large] {
                publisher.publish_patiently("t", qos, payload);
                assert_eq!(subscriber.drain_payloads(), [payload], "live, {cores} {qos:?}");
            }
            assert_eq!(dropped(&node), []);
        }
    }
}

/// A queue of five gets twenty messages, and its client has taken three when it goes without a word.
fn overflow_in_flight(node: &Node, client: &mut Client) -> Client {
    let mut publisher = node.connect(Version::V5, "publisher");
    for number in numbers(0..20) {
        publisher.publish_patiently("t", QoS::ExactlyOnce, &number);
    }
    assert_eq!(dropped(node), [(DropReason::QueueFull, 15)]);
    assert_eq!(client.payloads(), ["0", "1", "2"]);
    client.drop_socket();
    publisher
}

/// Messages in flight count and are never given up, whatever the policy: those never sent are [MQTT-4.4.0-1].
#[test]
fn messages_in_flight_stay() {
    for (queue_drop, expected) in
        [(QueueDrop::Newest, ["0", "1", "2", "3", "4"]), (QueueDrop::Oldest, ["0", "1", "2", "18", "19"])]
    {
        let settings = Settings { queue_messages_max: 5, queue_drop, ..Settings::default() };
        let node = Node::of_settings(settings);
        let mut client = node.connect_with(&lasting_with_window("client", 3));
        client.subscribe("t", QoS::ExactlyOnce);
        overflow_in_flight(&node, &mut client);
        let mut client = node.connect_with(&lasting_with_window("client", 3));
        assert_eq!(client.drain_payloads(), expected);
    }
}

/// Since the queues gave up the oldest while their clients were connected, messages in flight were given up too: their
/// log does not know what was sent to a client that connected before. It is told by the client's next connection.
#[test]
fn messages_in_flight_stay_when_the_policy_changes() {
    let settings = |queue_drop| Settings { queue_messages_max: 5, queue_drop, ..Settings::default() };
    let node = Node::of_settings(settings(QueueDrop::Newest));
    let mut client = node.connect_with(&lasting_with_window("client", 3));
    client.subscribe("t", QoS::ExactlyOnce);
    let oldest = std::sync::Arc::new(settings(QueueDrop::Oldest));
    node.configure(Config { settings: oldest, ..Config::default() });
    let mut publisher = overflow_in_flight(&node, &mut client);
    let mut client = node.connect_with(&lasting_with_window("client", 3));
    for number in numbers(20..40) {
        publisher.publish_patiently("t", QoS::ExactlyOnce, &number);
    }
    assert_eq!(client.drain_payloads(), ["0", "1", "2", "38", "39"]);
}

/// What a queue gave up in vain was not counted: messages in flight are over a limit that has become smaller.
#[test]
fn what_was_given_up_in_vain_was_not_counted() {
    for lasting_session in [false, true] {
        let node = Node::new(1);
        let mut connect = lasting_with_window("client", 3);
        connect.properties.session_expiry *= u32::from(lasting_session);
        let mut client = node.connect_with(&connect);
        client.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V5, "publisher");
        let publish = |publisher: &mut Client, numbers: Vec<String>| {
            numbers.iter().for_each(|number| publisher.publish_patiently("t", QoS::AtLeastOnce, number));
        };
        publish(&mut publisher, numbers(0..10));
        let settings =
            Settings { queue_messages_max: 3, queue_drop: QueueDrop::Oldest, ..Settings::default() };
        node.configure(Config { settings: std::sync::Arc::new(settings), ..Config::default() });
        publish(&mut publisher, numbers(10..13));
        let delivered = client.drain_payloads().len() as u64;
        assert_eq!(node.dropped(DropReason::QueueFull) + delivered, 13, "{lasting_session}");
    }
}

/// With nothing but messages in flight there is nothing to give up for a new one.
#[test]
fn a_queue_all_in_flight() {
    let settings = Settings { queue_messages_max: 3, queue_drop: QueueDrop::Oldest, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut client = node.connect_with(&lasting_with_window("client", 100));
    client.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for number in numbers(0..5) {
        publisher.publish_patiently("t", QoS::AtLeastOnce, &number);
    }
    assert_eq!(dropped(&node), [(DropReason::QueueFull, 2)]);
    assert_eq!(client.drain_payloads(), numbers(0..3));
}

/// QoS 0 messages in the queue among others: counted exactly when they are given up, sent once when they are not.
#[test]
fn queued_qos0_under_drop_oldest() {
    let settings = Settings {
        queue_messages_max: 4,
        queue_drop: QueueDrop::Oldest,
        queue_qos0: true,
        send_bytes_max: 4096,
        ..Settings::default()
    };
    let node = Node::of_settings(settings);
    let mut client = node.connect_with(&lasting_with_window("client", 1));
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect(ReasonCode::SUCCESS);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("t", QoS::AtLeastOnce, "first");
    publisher.publish("t", QoS::AtMostOnce, &"x".repeat(4200));
    let mut client = node.accept();
    client.reads(false);
    client.send_connect(&lasting_with_window("client", 1));
    // The first is in flight, the large one fills the send buffer; the rest waits in the queue.
    for number in numbers(0..5) {
        publisher.publish_patiently("t", QoS::AtLeastOnce, &number);
    }
    assert_eq!(dropped(&node), [(DropReason::QueueFull, 2)]);
    client.reads(true);
    client.expect_connack();
    let said = client.drain_payloads();
    assert_eq!(said[0], "first");
    assert_eq!(said[2..], numbers(2..5));
}

/// A session that ends with messages in its queue: they are counted [promise 4], by expiry, by clean start and by
/// DISCONNECT.
#[test]
fn a_session_ends_with_its_queue() {
    for how in 0..3 {
        let node = Node::new(2);
        away(&node, Version::V5, QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V311, "publisher");
        for number in numbers(0..7) {
            publisher.publish_fully("t", QoS::AtLeastOnce, &number);
        }
        match how {
            0 => node.advance(std::time::Duration::from_secs(3601)),
            1 => node.connect(Version::V5, "client").expect_silence(),
            _ => {
                let mut client = back(&node, Version::V5);
                client.disconnect_with(&Disconnect {
                    session_expiry: Some(0),
                    ..Disconnect::new(ReasonCode::SUCCESS)
                });
            }
        }
        assert_eq!(dropped(&node), [(DropReason::SessionEnded, 7)]);
        publisher.publish_fully("t", QoS::AtLeastOnce, "late");
        assert_eq!(dropped(&node), [(DropReason::SessionEnded, 7)]);
    }
}

/// A volatile session has no queue after its end, and what it had in flight is counted.
#[test]
fn a_volatile_session_ends() {
    for version in VERSIONS {
        let node = Node::new(1);
        let mut client = node.connect(version, "client");
        client.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = node.connect(version, "publisher");
        publisher.publish_fully("t", QoS::AtLeastOnce, "x");
        client.drop_socket();
        publisher.publish_fully("t", QoS::AtLeastOnce, "y");
        assert_eq!(dropped(&node), [(DropReason::SessionEnded, 1)]);
        node.connect(version, "client").expect_silence();
    }
}

/// Tens of thousands of messages wait, come in order through a small window, and new ones come behind them.
#[test]
fn a_long_queue_and_a_small_window() {
    let node = Node::new(2);
    away(&node, Version::V5, QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V311, "publisher");
    for number in numbers(0..20_000) {
        publisher.publish("t", QoS::AtLeastOnce, &number);
    }
    assert_eq!(publisher.packets().len(), 20_000);
    let mut client = node.connect_with(&lasting_with_window("client", 10));
    for number in numbers(20_000..20_100) {
        publisher.publish("t", QoS::AtLeastOnce, &number);
    }
    assert_eq!(client.drain_payloads(), numbers(0..20_100));
    assert_eq!(dropped(&node), []);
}

//! Overlapping subscriptions and subscription identifiers (sections 3.3.4, 4.7.1).

mod host;

use host::exchange::{lasting, options};
use host::{Node, VERSIONS};
use mqtt::encode::{PropertyWriter, PublishOut};
use mqtt::{QoS, ReasonCode, SubscriptionOptions, Version};

/// [MQTT-3.3.4-2, MQTT-3.3.4-3, MQTT-3.3.4-4, MQTT-3.3.4-5] [MQTT-3.3.5-1 of 3.1.1] A client with several matching filters gets one copy
/// for each, with the QoS and the identifier of that one.
#[test]
fn one_copy_for_each_matching_subscription() {
    for lasting_session in [false, true] {
        for cores in [1, 4] {
            let node = Node::new(cores);
            let mut client = match lasting_session {
                true => node.connect_with(&lasting(Version::V5, "client")),
                false => node.connect(Version::V5, "client"),
            };
            client.subscribe_numbered("a/b", QoS::AtMostOnce, 1);
            client.subscribe_numbered("a/+", QoS::AtLeastOnce, 268_435_455);
            client.subscribe_numbered("#", QoS::ExactlyOnce, 128);
            client.subscribe("+/b", QoS::AtMostOnce);
            client.subscribe("other", QoS::AtMostOnce);
            node.connect(Version::V311, "publisher").publish_fully("a/b", QoS::ExactlyOnce, "x");
            let mut got: Vec<(Option<u32>, u8)> = client
                .drain()
                .iter()
                .map(|publish| {
                    let mut ids = publish.properties.subscription_ids();
                    assert!(ids.len() <= 1);
                    (ids.next(), publish.qos.bits())
                })
                .collect();
            got.sort_unstable();
            assert_eq!(got, [(None, 0), (Some(1), 0), (Some(128), 2), (Some(268_435_455), 1)]);
        }
    }
}

/// The highest QoS of the matching filters is among the copies for a 3.x client [MQTT-3.3.5-1 of 3.1.1], with an
/// identifier each of its own.
#[test]
fn overlapping_filters_of_old_clients() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut client = node.connect(version, "client");
        client.subscribe("a/#", QoS::AtMostOnce);
        client.subscribe("a/+", QoS::ExactlyOnce);
        client.publish("a/b", QoS::ExactlyOnce, "x");
        let mut copies = Vec::new();
        for packet in client.packets() {
            if let mqtt::Packet::Publish(publish) = packet {
                copies.push(publish.qos);
            }
        }
        copies.sort_unstable();
        assert_eq!(copies, [QoS::AtMostOnce, QoS::ExactlyOnce]);
    }
}

/// [MQTT-3.3.4-6] A subscription identifier in a client's PUBLISH is a protocol error.
#[test]
fn subscription_identifier_from_a_client() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.publish_with(&PublishOut { topic: "t", subscription_ids: &[1], ..PublishOut::default() });
    client.expect_ended(ReasonCode::PROTOCOL_ERROR);
}

/// The identifier goes with the message through the queue of an absent client and with each retained message, and a
/// new one holds from its SUBACK on (3.8.2.1.2).
#[test]
fn identifiers_in_queues_and_with_retained_messages() {
    let node = Node::new(2);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.retain("t", QoS::AtLeastOnce, "kept");
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    client.subscribe_numbered("t", QoS::AtLeastOnce, 5);
    assert!(client.drain()[0].properties.subscription_ids().eq([5]));
    client.drop_socket();
    publisher.publish_fully("t", QoS::AtLeastOnce, "away");
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    assert!(client.drain()[0].properties.subscription_ids().eq([5]));
    client.subscribe_numbered("t", QoS::AtLeastOnce, 6);
    assert!(client.drain()[0].properties.subscription_ids().eq([6]));
    publisher.publish_fully("t", QoS::AtLeastOnce, "live");
    assert!(client.drain()[0].properties.subscription_ids().eq([6]));
}

/// [MQTT-3.8.3-3] No Local of one filter does not silence another one that matches.
#[test]
fn no_local_of_one_of_two_filters() {
    for lasting_session in [false, true] {
        let node = Node::new(2);
        let mut client = match lasting_session {
            true => node.connect_with(&lasting(Version::V5, "client")),
            false => node.connect(Version::V5, "client"),
        };
        client.subscribe_as("t", SubscriptionOptions { no_local: true, ..options(QoS::AtLeastOnce) });
        client.subscribe_numbered("#", QoS::AtMostOnce, 3);
        client.publish("t", QoS::AtMostOnce, "x");
        let received = client.drain();
        assert_eq!(received.len(), 1);
        assert!(received[0].properties.subscription_ids().eq([3]));
    }
}

/// Giving one of two overlapping filters up leaves the other in force, in both orders, through warm caches.
#[test]
fn one_of_two_is_given_up() {
    for (first, second) in [("a/+", "a/#"), ("a/#", "a/+")] {
        for lasting_session in [false, true] {
            let node = Node::new(3);
            let mut client = match lasting_session {
                true => node.connect_with(&lasting(Version::V311, "client")),
                false => node.connect(Version::V311, "client"),
            };
            let mut publisher = node.connect(Version::V311, "publisher");
            client.subscribe(first, QoS::AtMostOnce);
            client.subscribe(second, QoS::AtMostOnce);
            for _ in 0..3 {
                publisher.publish("a/b", QoS::AtMostOnce, "x");
                assert_eq!(client.drain().len(), 2);
            }
            client.unsubscribe(first);
            publisher.publish("a/b", QoS::AtMostOnce, "x");
            assert_eq!(client.drain().len(), 1);
            client.unsubscribe(second);
            publisher.publish("a/b", QoS::AtMostOnce, "x");
            client.expect_silence();
        }
    }
}

/// [MQTT-3.3.4-3] The publisher's properties and the subscription's identifier travel together.
#[test]
fn identifier_beside_other_properties() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.subscribe_numbered("t", QoS::AtMostOnce, 77);
    let mut forwarded = Vec::new();
    PropertyWriter::new(&mut forwarded).content_type("text/plain");
    PropertyWriter::new(&mut forwarded).user_property("a", "b");
    let publish = PublishOut {
        topic: "t",
        forwarded: &forwarded,
        message_expiry: Some(10),
        payload: b"x",
        ..PublishOut::default()
    };
    client.publish_with(&publish);
    let received = client.expect_payload("x");
    assert!(received.properties.subscription_ids().eq([77]));
    assert_eq!(received.properties.content_type(), Some("text/plain"));
    assert_eq!(received.properties.message_expiry, Some(10));
    assert!(received.properties.user_properties().eq([("a", "b")]));
}

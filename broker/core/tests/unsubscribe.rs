//! UNSUBSCRIBE and UNSUBACK (sections 3.10, 3.11).

mod host;

use host::exchange::{lasting, lasting_with_window, numbers};
use host::{Node, VERSIONS};
use mqtt::{Packet, QoS, ReasonCode, Version};

/// [MQTT-3.10.4-4, MQTT-3.10.4-6, MQTT-3.11.3-1, MQTT-3.11.3-2] One UNSUBACK with the packet's identifier, whether a filter was there or
/// not: 5.0 has a code for each, in their order, 3.x none.
#[test]
fn one_code_for_each_filter() {
    for version in VERSIONS {
        for cores in [1, 3] {
            let node = Node::new(cores);
            let mut client = node.connect_with(&lasting(version, "client"));
            for filter in ["a", "b/#", "$share/g/a"] {
                client.subscribe(filter, QoS::AtLeastOnce);
            }
            let packet_id =
                client.send_unsubscribe(&["a", "never", "b/#", "a/#/b", "$share/g/a", "$share/h/a", "a"]);
            let Packet::UnsubAck(ack) = client.expect() else { panic!("no UNSUBACK") };
            assert_eq!(ack.packet_id.get(), packet_id);
            let codes: Vec<u8> = ack.reasons.into_iter().map(ReasonCode::value).collect();
            let expected: &[u8] = match version {
                Version::V5 => &[0, 0x11, 0, 0x8F, 0, 0x11, 0x11],
                _ => &[],
            };
            assert_eq!(codes, expected);
        }
    }
}

/// [MQTT-3.10.3-2, MQTT-3.10.1-1] An UNSUBSCRIBE without filter or with wrong header flags ends the connection.
#[test]
fn broken_unsubscribes_end_the_connection() {
    for (bytes, reason) in [
        (&[0xA2, 3, 0, 1, 0][..], ReasonCode::PROTOCOL_ERROR),
        (&[0xA0, 6, 0, 1, 0, 0, 1, b'a'], ReasonCode::MALFORMED_PACKET),
    ] {
        let node = Node::new(1);
        let mut client = node.connect(Version::V5, "client");
        client.send(bytes);
        client.expect_ended(reason);
    }
    let node = Node::new(1);
    let mut client = node.connect(Version::V311, "client");
    client.send(&[0xA2, 2, 0, 1]);
    client.expect_closed();
}

/// [MQTT-3.10.4-1] Filters are compared character by character: one that matches the same topics is another one.
#[test]
fn filters_are_compared_by_character() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.subscribe("a/+", QoS::AtMostOnce);
    for filter in ["a/#", "a/b", "A/+", "a/+/", "#"] {
        assert_eq!(client.unsubscribe(filter).reasons.next(), Some(ReasonCode::NO_SUBSCRIPTION_EXISTED));
    }
    client.publish("a/b", QoS::AtMostOnce, "x");
    assert_eq!(client.drain().len(), 1);
}

/// [MQTT-3.10.4-2, MQTT-3.10.4-3] After UNSUBACK nothing new comes by the filter; what was in flight is completed.
#[test]
fn messages_in_flight_are_completed() {
    let node = Node::new(2);
    let mut client = node.connect_with(&lasting_with_window("client", 1));
    client.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("t", QoS::ExactlyOnce, "begun");
    let begun = client.expect_payload("begun");
    client.unsubscribe("t");
    publisher.publish_fully("t", QoS::ExactlyOnce, "later");
    client.drop_socket();
    let mut client = node.connect_with(&lasting_with_window("client", 1));
    let again = client.expect_payload("begun");
    assert!(again.dup && again.packet_id == begun.packet_id);
    client.acknowledge(&again);
    assert_eq!(client.drain_payloads(), [""; 0]);
}

/// [MQTT-3.10.4-2] Retained messages that were still to come for the filter do not come any more; those of other filters
/// do.
#[test]
fn retained_messages_still_to_come() {
    for cores in [1, 3] {
        let node = Node::new(cores);
        let mut publisher = node.connect(Version::V5, "publisher");
        for number in numbers(0..3000) {
            publisher.retain(&format!("many/{number}"), QoS::AtLeastOnce, &number);
        }
        publisher.retain("one", QoS::AtLeastOnce, "one");
        let mut client = node.connect_with(&lasting_with_window("client", 5));
        client.subscribe("many/+", QoS::AtLeastOnce);
        let first = client.packets();
        assert_eq!(first.len(), 5);
        let one = mqtt::SubscribeFilter { filter: "one", options: host::exchange::options(QoS::AtLeastOnce) };
        client.send_subscribe(&[one], None);
        assert!(matches!(client.expect(), Packet::SubAck(_)));
        client.unsubscribe("many/+");
        for packet in first {
            if let Packet::Publish(publish) = packet {
                client.acknowledge(&publish);
            }
        }
        let said = client.drain_payloads();
        assert!(said.contains(&"one".to_owned()));
        assert!(said.len() < 2000, "{} of 3000 came after UNSUBACK", said.len());
    }
}

/// A filter given up while its SUBSCRIBE still waits for another core: both are answered, and it is not in force.
#[test]
fn given_up_before_it_stands() {
    for lasting_session in [false, true] {
        let node = Node::new(2);
        let mut publisher = node.connect_at(1, Version::V311, "publisher");
        publisher.publish("t", QoS::AtMostOnce, "x");
        let mut client = match lasting_session {
            true => node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id)),
            false => node.connect_at(0, Version::V5, "client"),
        };
        node.hold_mail(1, 0);
        node.hold_mail(0, 1);
        let filter =
            mqtt::SubscribeFilter { filter: "t", options: host::exchange::options(QoS::AtLeastOnce) };
        let subscribe = client.send_subscribe(&[filter], None);
        let unsubscribe = client.send_unsubscribe(&["t"]);
        node.release_mail();
        let mut kinds: Vec<_> = client
            .packets()
            .iter()
            .map(|packet| match packet {
                Packet::SubAck(ack) => ack.packet_id.get(),
                Packet::UnsubAck(ack) => ack.packet_id.get(),
                other => panic!("{other:?}"),
            })
            .collect();
        kinds.sort_unstable();
        assert_eq!(kinds, [subscribe, unsubscribe]);
        publisher.publish("t", QoS::AtLeastOnce, "x");
        client.expect_silence();
    }
}

/// [MQTT-3.10.4-2] A second UNSUBSCRIBE was answered before the routes of the first were gone, and messages came by
/// them after its UNSUBACK.
#[test]
fn second_unsubscribe_was_answered_too_early() {
    for filter in ["t", "$share/g/t"] {
        for cores in [0, 1] {
            let node = Node::new(2);
            let mut client =
                node.connect_at_with(cores, "client", |client_id| lasting(Version::V5, client_id));
            let mut publisher = node.connect_at(1 - cores, Version::V311, "publisher");
            client.subscribe(filter, QoS::AtLeastOnce);
            for _ in 0..3 {
                publisher.publish("t", QoS::AtMostOnce, "cached");
            }
            client.packets();
            node.hold_mail(0, 1);
            node.hold_mail(1, 0);
            let first = client.send_unsubscribe(&[filter]);
            let second = client.send_unsubscribe(&[filter]);
            client.expect_nothing();
            node.release_mail();
            for (packet_id, code) in [(first, 0), (second, 0x11)] {
                let Packet::UnsubAck(ack) = client.expect() else { panic!("no UNSUBACK") };
                let codes: Vec<u8> = ack.reasons.into_iter().map(ReasonCode::value).collect();
                assert_eq!((ack.packet_id.get(), &codes[..]), (packet_id, &[code][..]), "{filter}");
            }
            publisher.publish("t", QoS::AtMostOnce, "after");
            client.expect_silence();
        }
    }
}

//! Maximum packet size, both ways (sections 3.1.2.11.4, 3.2.2.3.6).

mod host;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::{lasting, options};
use host::{Client, Node, VERSIONS};
use mqtt::encode::{PropertyWriter, PublishOut};
use mqtt::{Packet, PacketKind, QoS, ReasonCode, SubscribeFilter, Version};

/// A lasting subscriber that takes packets of so many bytes.
fn taking(node: &Node, client_id: &str, maximum: u32) -> Client {
    let mut connect = lasting(Version::V5, client_id);
    connect.properties.maximum_packet_size = Some(maximum);
    node.connect_with(&connect)
}

/// [MQTT-3.1.2-24, MQTT-3.1.2-25] What is larger than the client takes is not sent to it, in no part, and counted, as if it had
/// been sent: the next message comes, the window is free, and a reconnect does not bring it back. Others get it.
#[test]
fn too_large_for_a_client() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for cores in [1, 2] {
            let node = Node::new(cores);
            let mut small = taking(&node, "small", 100);
            small.subscribe("t", qos);
            let mut large = node.connect(Version::V5, "large");
            large.subscribe("t", qos);
            let mut publisher = node.connect(Version::V311, "publisher");
            for bytes in [10, 200, 20, 100_000, 30] {
                publisher.publish_fully("t", qos, &"x".repeat(bytes));
            }
            let sizes = |client: &mut Client| -> Vec<usize> {
                client.drain().iter().map(|publish| publish.payload.len()).collect()
            };
            assert_eq!(sizes(&mut small), [10, 20, 30]);
            assert_eq!(sizes(&mut large), [10, 200, 20, 100_000, 30]);
            assert_eq!(node.dropped(DropReason::TooLarge), 2);
            small.drop_socket();
            let mut small = taking(&node, "small", 100_000_000);
            small.expect_silence();
        }
    }
}

/// [MQTT-3.1.2-24] To the byte: a packet of exactly the maximum is sent, one more is not, with identifier, expiry and
/// subscription identifier counted.
#[test]
fn to_the_byte() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        for number in [0, 1, 200] {
            let node = Node::new(1);
            let mut client = taking(&node, "client", 60);
            match number {
                0 => client.subscribe("t", qos),
                number => {
                    client.subscribe_numbered("t", qos, number);
                }
            }
            let mut block = Vec::new();
            PropertyWriter::new(&mut block).content_type("c");
            let mut publisher = node.connect(Version::V5, "publisher");
            let mut largest = 0;
            for bytes in 20..60 {
                let payload = "x".repeat(bytes);
                let publish = PublishOut {
                    topic: "t",
                    qos,
                    payload: payload.as_bytes(),
                    forwarded: &block,
                    message_expiry: Some(9),
                    ..PublishOut::default()
                };
                publisher.publish_with(&publish);
                publisher.packets();
                let packet = client.take_bytes();
                assert!(packet.len() <= 60);
                largest = largest.max(packet.len());
            }
            assert_eq!(largest, 60, "{qos:?} {number}");
        }
    }
}

/// A message that waits for a client which comes back taking less is dropped and counted then.
#[test]
fn a_smaller_maximum_on_reconnect() {
    let node = Node::new(1);
    let mut client = taking(&node, "client", 10_000);
    client.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("t", QoS::ExactlyOnce, &"x".repeat(500));
    client.expect_publish();
    client.drop_socket();
    publisher.publish_fully("t", QoS::ExactlyOnce, &"y".repeat(500));
    publisher.publish_fully("t", QoS::ExactlyOnce, "z");
    let mut client = taking(&node, "client", 100);
    assert_eq!(client.drain_payloads(), ["z"]);
    assert_eq!(node.dropped(DropReason::TooLarge), 2);
}

/// [MQTT-3.1.2-24] Answers obey the maximum as well: a SUBACK that does not fit is not sent; the client is told with 0x95.
#[test]
fn suback_larger_than_the_client_takes() {
    let node = Node::new(1);
    let mut client = taking(&node, "client", 50);
    let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let filters: Vec<_> =
        names.iter().map(|filter| SubscribeFilter { filter, options: options(QoS::AtMostOnce) }).collect();
    assert_eq!(client.subscribe_all(&filters[..40], None), [0; 40]);
    client.send_subscribe(&filters, None);
    client.expect_ended(ReasonCode::PACKET_TOO_LARGE);
    let mut client = taking(&node, "client", 50);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    client.send_unsubscribe(&names);
    client.expect_ended(ReasonCode::PACKET_TOO_LARGE);
}

/// [MQTT-3.4.2-2, MQTT-3.4.2-3, MQTT-3.5.2-2, MQTT-3.5.2-3, MQTT-3.6.2-2, MQTT-3.6.2-3, MQTT-3.7.2-2, MQTT-3.7.2-3] No
/// reason string and no user property makes an acknowledgement of a PUBLISH larger than the client takes: each is its
/// identifier and its reason, to a client that takes just its CONNACK, and to one that takes everything.
#[test]
fn acknowledgements_in_the_smallest_room() {
    let node = Node::new(2);
    let mut welcome = node.accept();
    welcome.send_connect(&lasting(Version::V5, "client"));
    let least = u32::try_from(welcome.take_bytes().len()).expect("a short CONNACK");
    for maximum in 1..least {
        let mut connect = lasting(Version::V5, "client");
        connect.properties.maximum_packet_size = Some(maximum);
        let mut client = node.accept();
        client.send_connect(&connect);
        assert!(client.take_bytes().len() <= maximum as usize);
        client.expect_closed();
    }
    for maximum in [least, u32::MAX] {
        let mut client = taking(&node, "client", maximum);
        let not_found = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND.value();
        let nobody = ReasonCode::NO_MATCHING_SUBSCRIBERS.value();
        client.send_ack(PacketKind::PubRec, 0x0107);
        assert_eq!(client.take_bytes(), [0x62, 3, 1, 7, not_found]);
        client.send_ack(PacketKind::PubRel, 0x0107);
        assert_eq!(client.take_bytes(), [0x70, 3, 1, 7, not_found]);
        client.publish("nobody/wants/it", QoS::AtLeastOnce, "x");
        assert_eq!(client.take_bytes(), [0x40, 3, 0, 1, nobody]);
        client.publish("nobody/wants/it", QoS::ExactlyOnce, "x");
        // Whether it says that nobody matched depends on what it waited for.
        assert!([&[0x50, 2, 0, 2][..], &[0x50, 3, 0, 2, nobody]].contains(&&client.take_bytes()[..]));
        client.send_ack(PacketKind::PubRel, 2);
        assert_eq!(client.take_bytes(), [0x70, 2, 0, 2]);
    }
}

/// [MQTT-3.2.2-15] What is larger than CONNACK announced is refused from its header on with 0x95, before its bytes are
/// kept; exactly that much is taken.
#[test]
fn too_large_for_the_server() {
    for version in VERSIONS {
        let node = Node::of_settings(Settings { packet_bytes_max: 1000, ..Settings::default() });
        let mut subscriber = node.subscriber("t", QoS::AtMostOnce);
        let mut client = node.connect(version, "client");
        let properties = usize::from(version == Version::V5);
        client.publish("t", QoS::AtMostOnce, &"x".repeat(1000 - 3 - 3 - properties));
        assert_eq!(subscriber.drain().len(), 1);
        client.send(&[0x30, 0xE6, 0x07]); // 998 bytes to come, 1001 in all
        client.expect_ended(ReasonCode::PACKET_TOO_LARGE);
    }
}

/// A large message is sent to a slow reader in one piece: nothing comes between its bytes.
#[test]
fn large_messages_in_pieces() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.subscribe("t", QoS::AtLeastOnce);
    client.reads(false);
    let mut publisher = node.connect(Version::V5, "publisher");
    let payload = "0123456789".repeat(30_000);
    publisher.publish_fully("t", QoS::AtLeastOnce, &payload);
    client.send(&[0xC0, 0]);
    publisher.publish_fully("t", QoS::AtLeastOnce, "after");
    let mut packets = Vec::new();
    while client.unsent() > 0 {
        client.read(7001);
        packets.extend(client.packets());
    }
    match packets[..] {
        [Packet::Publish(first), Packet::PingResp, Packet::Publish(second)] => {
            assert!(first.payload == payload.as_bytes() && second.payload == b"after");
        }
        ref other => panic!("{} packets", other.len()),
    }
}

//! What the clients of persistent sessions have acknowledged, on its way into the log.

mod host;

use std::sync::Arc;

use broker_core::config::{Config, Settings};
use host::disks::SOUND;
use host::exchange::{lasting_with_window, options};
use host::{Client, Node};
use mqtt::{Packet, PacketKind, QoS, SubscribeFilter, Version};

fn node_of(settings: Settings) -> Node {
    Node::on_disks(Config { cores: 1, settings: Arc::new(settings), ..Config::default() }, 1, SOUND)
}

/// A node with one log, a client with a lasting session that subscribes to `t`, and a publisher.
fn at_work(settings: Settings, qos: QoS) -> (Node, Client, Client) {
    let node = node_of(settings);
    let mut client = node.connect_with(&lasting_with_window("client", u16::MAX));
    client.subscribe("t", qos);
    let publisher = node.connect(Version::V5, "publisher");
    (node, client, publisher)
}

/// An identifier went to a new message while the log did not know that the former one's handshake was over: after a
/// crash the former one's PUBREL was taken for the new one's, whose message then came twice. Method: all identifiers
/// are in flight, the first handshakes end while the disk is held, and nothing follows until it goes on.
#[test]
fn an_identifier_is_used_again_when_the_log_knows_that_it_is_free() {
    let settings = Settings { inflight_max: u16::MAX, ..Settings::default() };
    let (node, mut client, mut publisher) = at_work(settings, QoS::ExactlyOnce);
    // Each level by its name or by a wildcard: 64 filters, each with a copy of its own.
    let filter =
        |number: usize| (0..6).map(|level| ["t", "+"][number >> level & 1]).collect::<Vec<_>>().join("/");
    let filters: Vec<String> = (0..64).map(filter).collect();
    let options = options(QoS::ExactlyOnce);
    let wanted: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
    client.subscribe_all(&wanted, None);
    client.drop_socket();
    (0..1_025).for_each(|_| publisher.publish_fully("t/t/t/t/t/t", QoS::ExactlyOnce, "message"));
    let mut client = node.connect_with(&lasting_with_window("client", u16::MAX));
    let came = client.packets().len();
    assert!((65_500..65_536).contains(&came), "{came}");
    let first: Vec<u16> = (1..=3).collect();
    for packet_id in &first {
        client.send_ack(PacketKind::PubRec, *packet_id);
        client.expect_ack(PacketKind::PubRel, *packet_id);
    }
    node.hold_disks(true);
    first.iter().for_each(|packet_id| client.send_ack(PacketKind::PubComp, *packet_id));
    for packet in client.packets() {
        let Packet::Publish(publish) = packet else { panic!("PUBLISH, not {packet:?}") };
        let packet_id = publish.packet_id.expect("has one").get();
        assert!(!first.contains(&packet_id), "the log does not know that {packet_id} is free");
    }
    node.hold_disks(false);
    assert!(!client.packets().is_empty());
}

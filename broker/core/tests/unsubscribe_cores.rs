//! UNSUBACK and messages that are on their way between cores at that moment [MQTT-3.10.4-2].

mod host;

use broker_core::config::Settings;
use host::exchange::{lasting, numbers};
use host::{Client, Node};
use mqtt::{Packet, PacketKind, QoS, Version};

/// What has come, and whether anything came behind the UNSUBACK.
fn kinds(client: &mut Client) -> Vec<PacketKind> {
    client.packets().iter().map(Packet::kind).collect()
}

/// A message that a third core had sent before it forgot the route came just after the UNSUBACK: the UNSUBACK
/// waits for it, wherever the route is.
#[test]
fn nothing_comes_behind_the_unsuback() {
    for prefix in ["", "$share/g/", "$oshare/g/"] {
        let mut waited = 0;
        for topic in numbers(0..12) {
            let node = Node::new(3);
            let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id));
            client.subscribe(&format!("{prefix}{topic}"), QoS::AtLeastOnce);
            let mut publisher = node.connect_at(1, Version::V311, "publisher");
            for _ in 0..3 {
                publisher.publish_fully(&topic, QoS::AtLeastOnce, "known");
            }
            assert_eq!(client.drain().len(), 3);
            node.hold_mail(1, 0);
            publisher.publish(&topic, QoS::AtLeastOnce, "on its way");
            client.send_unsubscribe(&[&format!("{prefix}{topic}")]);
            let before = kinds(&mut client);
            waited += usize::from(before.is_empty());
            node.release_mail();
            let all = [before, kinds(&mut client)].concat();
            assert_eq!(all, [PacketKind::Publish, PacketKind::UnsubAck], "{prefix}{topic}");
            publisher.publish(&topic, QoS::AtLeastOnce, "later");
            client.expect_silence();
        }
        assert_eq!(waited, 12, "for what was on its way");
    }
}

/// A message that another member refused went to a member that had unsubscribed meanwhile, and been told so.
#[test]
fn refused_elsewhere_and_tried_on_a_former_member() {
    let mut told = 0;
    for topic in numbers(0..12) {
        let settings = Settings { shared_queue_max: 1, ..Settings::default() };
        let node = Node::of_settings_and_cores(settings, 3);
        let filter = format!("$share/g/{topic}");
        let mut full = node.connect_at(1, Version::V5, "full");
        full.subscribe(&filter, QoS::AtLeastOnce);
        let mut former = node.connect_at(2, Version::V5, "former");
        former.subscribe(&filter, QoS::AtLeastOnce);
        let mut publisher = node.connect_at(0, Version::V311, "publisher");
        for number in numbers(0..2) {
            publisher.publish_fully(&topic, QoS::AtLeastOnce, &number);
        }
        assert_eq!(former.drain().len(), 1);
        node.hold_mail(1, 0);
        publisher.publish(&topic, QoS::AtLeastOnce, "refused"); // its turn is the full one's
        former.send_unsubscribe(&[&filter]);
        let before = kinds(&mut former);
        if before == [PacketKind::UnsubAck] {
            told += 1;
            node.release_mail();
            former.expect_silence();
            assert_eq!(full.drain_payloads(), ["0", "refused"]);
        }
    }
    assert!(told > 0, "some route is not where the mail was held");
}

/// A session that unsubscribes and subscribes again at once has the message that was on its way, and the later ones.
#[test]
fn subscribed_again_at_once() {
    for topic in numbers(0..12) {
        let node = Node::new(3);
        let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id));
        client.subscribe(&topic, QoS::AtLeastOnce);
        let mut publisher = node.connect_at(1, Version::V311, "publisher");
        for _ in 0..3 {
            publisher.publish_fully(&topic, QoS::AtLeastOnce, "known");
        }
        client.drain();
        node.hold_mail(1, 0);
        publisher.publish(&topic, QoS::AtLeastOnce, "on its way");
        client.send_unsubscribe(&[&topic]);
        let filter =
            mqtt::SubscribeFilter { filter: &topic, options: host::exchange::options(QoS::AtLeastOnce) };
        client.send_subscribe(&[filter], None);
        node.release_mail();
        publisher.publish(&topic, QoS::AtLeastOnce, "later");
        let said: Vec<String> = client
            .packets()
            .iter()
            .filter_map(|packet| match packet {
                Packet::Publish(publish) => Some(String::from_utf8_lossy(publish.payload).into_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(said, ["on its way", "later"]);
    }
}

/// A second UNSUBSCRIBE for the same filter is answered behind what is on its way as well, and not at once.
#[test]
fn nothing_comes_behind_a_second_unsuback() {
    for prefix in ["", "$share/g/"] {
        for topic in numbers(0..12) {
            let node = Node::new(3);
            let filter = format!("{prefix}{topic}");
            let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id));
            client.subscribe(&filter, QoS::AtLeastOnce);
            let mut publisher = node.connect_at(1, Version::V311, "publisher");
            for _ in 0..3 {
                publisher.publish_fully(&topic, QoS::AtLeastOnce, "known");
            }
            client.drain();
            node.hold_mail(1, 0);
            publisher.publish(&topic, QoS::AtLeastOnce, "on its way");
            client.send_unsubscribe(&[&filter]);
            client.send_unsubscribe(&[&filter]);
            let before = kinds(&mut client);
            node.release_mail();
            let all = [before, kinds(&mut client)].concat();
            assert_eq!(all, [PacketKind::Publish, PacketKind::UnsubAck, PacketKind::UnsubAck], "{filter}");
        }
    }
}

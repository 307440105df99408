//! UNSUBACK and messages that are on their way between cores at that moment [MQTT-3.10.4-2].

mod host;

use std::sync::Arc;

use broker_core::config::{Config, Settings};
use host::disks::SOUND;
use host::exchange::{lasting, numbers, options};
use host::packets::id;
use host::{Client, Node};
use mqtt::encode::{self, SubscribeOut, UnsubscribeOut};
use mqtt::{Packet, PacketKind, QoS, ReasonCode, SubscribeFilter, UserProperties, Version};
use wal::simulated_disk::Crash;

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
        let filter = SubscribeFilter { filter: &topic, options: options(QoS::AtLeastOnce) };
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

/// A subscription that was refused, and is asked for again before the range has heard that it is not to be, is acknowledged
/// when its own route stands: what the refusal had left to be done was taken for that. (The same of an UNSUBSCRIBE and a
/// route that a start makes again: seed 20534 of the simulator with --disks 100 --failing-disks 50 --full-disks 100.)
#[test]
fn a_change_is_not_acknowledged_by_an_older_one() {
    let settings = Arc::new(Settings { shared_members_max: 1, ..Settings::default() });
    let config = Config { cores: 2, settings, ..Config::default() };
    let mut elsewhere = 0;
    for topic in numbers(0..12) {
        let filter = format!("$share/g/{topic}");
        let asked = [SubscribeFilter { filter: &filter, options: options(QoS::AtLeastOnce) }];

        let waits = is_elsewhere(&config, &filter);
        elsewhere += usize::from(waits);
        let node = Node::on_disks(config.clone(), 1, SOUND);
        let mut first = node.connect_at(1, Version::V5, "first");
        first.subscribe(&filter, QoS::AtLeastOnce);
        let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id));
        node.hold_disks(true);
        let refused = client.send_subscribe(&asked, None);
        let mut came = client.packets();
        while came.is_empty() && node.step_disks() {
            came = client.packets();
        }
        assert!(
            matches!(&came[..], [Packet::SubAck(suback)] if suback.packet_id.get() == refused),
            "{came:?}"
        );
        first.unsubscribe(&filter);
        node.hold_mail(0, 1);
        let again = client.send_subscribe(&asked, None);
        node.hold_disks(false);
        assert_eq!(client.packets().is_empty(), waits, "{topic}");
        node.release_mail();
        if waits {
            let granted: Vec<_> = client.expect_suback(again).reasons.collect();
            assert_eq!(granted, [ReasonCode::GRANTED_QOS_1], "{topic}");
        }
    }
    assert!(elsewhere > 0);
}

/// Who unsubscribes and subscribes again in one breath hears that the old subscription is gone when the new one stands in its
/// place: until then messages came by the old one, with its QoS, behind the UNSUBACK (seed 2937 of the simulator). Who
/// subscribes anew and gives it up hears of the new options when the route is gone (seed 64948).
#[test]
fn nothing_comes_by_a_subscription_that_is_replaced() {
    let mut elsewhere = 0;
    let cases = ["$share/g/", "$oshare/g/"].into_iter().flat_map(|prefix| (0..12).map(move |n| (prefix, n)));
    for ((prefix, topic), stays) in cases.flat_map(|case| [(case, true), (case, false)]) {
        let filter = format!("{prefix}{topic}");
        let config = Config { cores: 2, ..Config::default() };
        elsewhere += usize::from(is_elsewhere(&config, &filter));
        let node = Node::on_disks(config.clone(), 1, SOUND);
        let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id));
        client.subscribe(&filter, QoS::ExactlyOnce);
        node.hold_mail(0, 1);
        node.hold_disks(true);
        // In one turn: one entry has both.
        let user_properties = UserProperties::default();
        let filters = [SubscribeFilter { filter: &filter, options: options(QoS::AtMostOnce) }];
        let unsubscribe = UnsubscribeOut { packet_id: id(21), user_properties, filters: &[&filter] };
        let subscribe =
            SubscribeOut { packet_id: id(22), subscription_id: None, user_properties, filters: &filters };
        client.send_with(|out, version| {
            if stays {
                encode::unsubscribe(out, version, &unsubscribe);
            }
            encode::subscribe(out, version, &subscribe);
            if !stays {
                encode::unsubscribe(out, version, &unsubscribe);
            }
        });
        node.hold_disks(false);
        let came = client.packets();
        assert_eq!(came.is_empty(), is_elsewhere(&config, &filter), "{filter} {came:?}");
        node.release_mail();
        let mut publisher = node.connect_at(1, Version::V311, "publisher");
        publisher.publish_fully(&topic.to_string(), QoS::AtLeastOnce, "new");
        let last = client.packets().pop();
        let given = matches!(last, Some(Packet::Publish(publish)) if publish.qos == QoS::AtMostOnce);
        assert_eq!(given, stays, "{filter}");
    }
    assert!(elsewhere > 0);
}

/// Whether the route of a shared subscription is on the second of two cores: without its mail the first cannot have it
/// there.
fn is_elsewhere(config: &Config, filter: &str) -> bool {
    let node = Node::with(config.clone());
    node.hold_mail(0, 1);
    let mut probe = node.connect_at(0, Version::V5, "probe");
    probe.send_subscribe(&[SubscribeFilter { filter, options: options(QoS::AtLeastOnce) }], None);
    probe.packets().is_empty()
}

/// A start does not put up a route that was given up before the node ended: it stood until the next task ended it, and
/// messages came by a subscription of which the UNSUBACK had been read. Method: the node ends when both are in the log, and
/// what its first core then has to tell the second is counted. (Seed 1631 of the simulator.)
#[test]
fn a_route_that_was_given_up_is_not_put_up_again() {
    let config = Config { cores: 2, ..Config::default() };
    let told = |node: &Node| {
        let before = node.messages_mailed_to(1);
        node.restart(2, Crash::Power);
        node.messages_mailed_to(1) - before
    };
    for topic in numbers(0..12) {
        let filter = format!("$share/g/{topic}");
        let elsewhere = is_elsewhere(&config, &filter);
        let node = Node::on_disks(config.clone(), 1, SOUND);
        let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id));
        node.hold_mail(1, 0); // no answer: neither task is done
        let asked = [SubscribeFilter { filter: &filter, options: options(QoS::AtLeastOnce) }];
        client.send_subscribe(&asked, None);
        client.send_unsubscribe(&[&filter]);
        node.open_mail();
        let once_more = told(&node);
        let nothing = told(&node);
        assert_eq!(once_more - nothing, usize::from(elsewhere), "{topic}: that it ends, and no more");
    }
}

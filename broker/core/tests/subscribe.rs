//! SUBSCRIBE and SUBACK (sections 3.8, 3.9) and topic filters (section 4.7).

mod host;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::{lasting, options};
use host::packets::subscribe_packet;
use host::{Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{QoS, ReasonCode, RetainHandling, SubscribeFilter, SubscriptionOptions, Version};

fn filter(filter: &str, qos: QoS) -> SubscribeFilter<'_> {
    SubscribeFilter { filter, options: options(qos) }
}

/// [MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-3.8.4-5, MQTT-3.8.4-6, MQTT-3.9.3-1] One SUBACK with the packet's identifier, and in it one
/// code for each filter, in their order, the granted QoS or the reason.
#[test]
fn one_code_for_each_filter() {
    for version in VERSIONS {
        for cores in [1, 3] {
            let node = Node::new(cores);
            let mut client = node.connect(version, "client");
            let filters = [
                filter("a", QoS::AtMostOnce),
                filter("a/#/b", QoS::AtLeastOnce),
                filter("b", QoS::ExactlyOnce),
                filter("a+", QoS::AtLeastOnce),
                filter("c/+", QoS::AtLeastOnce),
                filter("$share/g/a", QoS::AtLeastOnce),
            ];
            let expected: &[u8] =
                if version == Version::V5 { &[0, 0x8F, 2, 0x8F, 1, 1] } else { &[0, 0x80, 2, 0x80, 1, 1] };
            assert_eq!(client.subscribe_all(&filters, None), expected, "{version:?}");
            client.expect_silence();
        }
    }
}

/// [MQTT-3.8.3-2, MQTT-3.8.3-5, MQTT-3.8.1-1, MQTT-2.2.1-3] A SUBSCRIBE without filter, with reserved bits, QoS 3, wrong header
/// flags or identifier 0 ends the connection, and subscribes to nothing.
#[test]
fn broken_subscribes_end_the_connection() {
    let cases: [(&[u8], ReasonCode); 6] = [
        (&[0x82, 3, 0, 1, 0], ReasonCode::PROTOCOL_ERROR),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 0xC0], ReasonCode::MALFORMED_PACKET),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x03], ReasonCode::PROTOCOL_ERROR),
        (&[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], ReasonCode::PROTOCOL_ERROR),
        (&[0x80, 7, 0, 1, 0, 0, 1, b'a', 0x00], ReasonCode::MALFORMED_PACKET),
        (&[0x82, 7, 0, 0, 0, 0, 1, b'a', 0x00], ReasonCode::PROTOCOL_ERROR),
    ];
    for (bytes, reason) in cases {
        let node = Node::new(1);
        let mut client = node.connect(Version::V5, "client");
        client.send(bytes);
        client.expect_ended(reason);
    }
    let old: [&[u8]; 5] = [
        &[0x82, 2, 0, 1],
        &[0x82, 6, 0, 1, 0, 1, b'a', 0x04],
        &[0x82, 6, 0, 1, 0, 1, b'a', 0x03],
        &[0x80, 6, 0, 1, 0, 1, b'a', 0x00],
        &[0x82, 6, 0, 0, 0, 1, b'a', 0x00],
    ];
    for bytes in old {
        let node = Node::new(1);
        let mut client = node.connect(Version::V311, "client");
        client.send(bytes);
        client.expect_closed();
    }
}

/// [MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.1-3 of 3.1.1, MQTT-4.7.2-1, MQTT-4.7.3-4] Which filters match which topics.
#[test]
fn filters_and_topics() {
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("#", "sport/tennis", true),
        ("#", "/", true),
        ("+", "sport", true),
        ("+", "sport/", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "sport/tennis", true),
        ("sport/+/player1", "sport/tennis/player1", true),
        ("#", "$OWN/uptime", false),
        ("+/uptime", "$OWN/uptime", false),
        ("+/#", "$OWN/uptime", false),
        ("$OWN/#", "$OWN/uptime", true),
        ("$OWN/+", "$OWN/uptime", true),
        ("a/$b/+", "a/$b/c", true),
        ("+/$b", "a/$b", true),
        ("a/b", "A/b", false),
        ("a/b", "a/b/", false),
    ];
    for cores in [1, 4] {
        for (filter, topic, matches) in cases {
            let node = Node::new(cores);
            let mut subscriber = node.connect_with(&lasting(Version::V5, "subscriber"));
            subscriber.subscribe(filter, QoS::AtMostOnce);
            let mut publisher = node.connect(Version::V311, "publisher");
            publisher.publish(topic, QoS::AtMostOnce, "live");
            assert_eq!(subscriber.drain().len(), usize::from(matches), "{filter} {topic}");
            publisher.retain(topic, QoS::AtMostOnce, "kept");
            subscriber.drain();
            subscriber.subscribe(filter, QoS::AtMostOnce);
            assert_eq!(subscriber.drain().len(), usize::from(matches), "{filter} {topic}, retained");
        }
    }
}

/// [MQTT-3.8.4-3] The same filter again replaces the subscription with its options, its identifier and its QoS: one copy
/// of each message, by the new ones.
#[test]
fn a_subscription_is_replaced() {
    for lasting_session in [false, true] {
        let node = Node::new(2);
        let mut client = match lasting_session {
            true => node.connect_with(&lasting(Version::V5, "client")),
            false => node.connect(Version::V5, "client"),
        };
        let mut publisher = node.connect(Version::V5, "publisher");
        for (number, qos) in
            [(Some(7), QoS::AtMostOnce), (Some(9), QoS::ExactlyOnce), (None, QoS::AtLeastOnce)]
        {
            assert_eq!(client.subscribe_all(&[filter("t", qos)], number), [qos.bits()]);
            publisher.publish_fully("t", QoS::ExactlyOnce, "x");
            let received = client.drain();
            assert_eq!(received.len(), 1);
            assert_eq!(received[0].qos, qos);
            assert!(received[0].properties.subscription_ids().eq(number));
        }
        // No Local switched on and off.
        for no_local in [true, false] {
            client.subscribe_as("t", SubscriptionOptions { no_local, ..SubscriptionOptions::default() });
            client.publish("t", QoS::AtMostOnce, "mine");
            assert_eq!(client.drain().len(), usize::from(!no_local));
        }
        assert_eq!(client.unsubscribe("t").reasons.next(), Some(ReasonCode::SUCCESS));
        publisher.publish("t", QoS::AtMostOnce, "x");
        client.expect_silence();
    }
}

/// [MQTT-3.8.4-3] No message is lost while a subscription is replaced, whatever core it is published on.
#[test]
fn nothing_is_lost_while_a_subscription_is_replaced() {
    let node = Node::new(3);
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    client.subscribe("t", QoS::AtLeastOnce);
    let mut publishers: Vec<_> =
        (0..3).map(|core| node.connect_at(core, Version::V311, "publisher")).collect();
    let mut sent = 0;
    for round in 0..20 {
        node.hold_mail(round % 3, (round + 1) % 3);
        client.send(&subscribe_packet(Version::V5, 1000 + round, "t", QoS::AtLeastOnce));
        for publisher in &mut publishers {
            publisher.publish("t", QoS::AtLeastOnce, &sent.to_string());
            sent += 1;
        }
        if round % 4 == 3 {
            node.release_mail();
        }
    }
    node.release_mail();
    let mut said = Vec::new();
    for packet in client.packets() {
        if let mqtt::Packet::Publish(publish) = packet {
            said.push(publish.payload);
        }
    }
    assert_eq!(said.len(), sent);
}

/// [MQTT-3.8.3-3] With No Local a client's own messages do not come back to it, from any of its sessions' homes, over a
/// reconnect and through its queue; others' do.
#[test]
fn no_local() {
    for lasting_session in [false, true] {
        for cores in [1, 3] {
            let node = Node::new(cores);
            let connect = || match lasting_session {
                true => node.connect_with(&lasting(Version::V5, "client")),
                false => node.connect(Version::V5, "client"),
            };
            let mut client = connect();
            let own = SubscriptionOptions { no_local: true, ..options(QoS::AtLeastOnce) };
            client.subscribe_as("#", own);
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                client.publish_fully("t", qos, "mine");
                client.expect_silence();
            }
            node.connect(Version::V311, "other").publish_fully("t", QoS::AtLeastOnce, "theirs");
            assert_eq!(client.drain_payloads(), ["theirs"]);
            if lasting_session {
                client.drop_socket();
                client = connect();
                client.publish_fully("t", QoS::AtLeastOnce, "mine");
                client.expect_silence();
            }
            let dropped: u64 = DropReason::ALL.iter().map(|reason| node.dropped(*reason)).sum();
            assert_eq!(dropped, 0);
        }
    }
}

/// [MQTT-3.8.3-3] Nor those of its former session that were still on their way: the statement speaks of the client id.
#[test]
fn no_local_and_a_former_session() {
    for lasting_session in [false, true] {
        let node = Node::new(2);
        let mut client = node.connect_at_with(0, "client", |client_id| lasting(Version::V5, client_id));
        node.hold_mail(1, 0);
        for number in 0..20 {
            client.publish(&format!("{number}/t"), QoS::AtLeastOnce, "mine");
        }
        client.disconnect_with(&mqtt::Disconnect {
            session_expiry: Some(0),
            ..mqtt::Disconnect::new(ReasonCode::SUCCESS)
        });
        // The same name: the first that is at home there.
        let mut client = node.connect_at_with(0, "client", |client_id| match lasting_session {
            true => lasting(Version::V5, client_id),
            false => mqtt::Connect::new(Version::V5, client_id),
        });
        let options = SubscriptionOptions { no_local: true, ..options(QoS::AtLeastOnce) };
        client.send_subscribe(&[SubscribeFilter { filter: "#", options }], None);
        node.release_mail();
        assert!(matches!(client.packets()[..], [mqtt::Packet::SubAck(_)]));
    }
}

/// [MQTT-3.8.3-3] Nor do its own retained messages, which were published by a connection of the same client id.
#[test]
fn no_local_and_retained_messages() {
    let node = Node::new(2);
    let mut client = node.connect(Version::V5, "client");
    client.retain("mine", QoS::AtLeastOnce, "mine");
    node.connect(Version::V5, "other").retain("theirs", QoS::AtLeastOnce, "theirs");
    let own = SubscriptionOptions { no_local: true, ..options(QoS::AtLeastOnce) };
    client.subscribe_as("#", own);
    assert_eq!(client.drain_payloads(), ["theirs"]);
    client.disconnect(ReasonCode::SUCCESS);
    let mut client = node.connect(Version::V5, "client");
    client.subscribe_as("#", own);
    assert_eq!(client.drain_payloads(), ["theirs"]);
    client.subscribe_as("#", options(QoS::AtLeastOnce));
    assert_eq!(client.drain().len(), 2);
}

/// [MQTT-3.3.1-12, MQTT-3.3.1-13] The retain flag of a live message is passed on under Retain As Published, and only there.
#[test]
fn retain_as_published() {
    for cores in [1, 2] {
        let node = Node::new(cores);
        let mut plain = node.connect(Version::V5, "plain");
        plain.subscribe_as("t", options(QoS::AtLeastOnce));
        let mut kept = node.connect_with(&lasting(Version::V5, "kept"));
        let as_published = SubscriptionOptions { retain_as_published: true, ..options(QoS::AtLeastOnce) };
        kept.subscribe_as("t", as_published);
        let mut old = node.connect(Version::V311, "old");
        old.subscribe("t", QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V311, "publisher");
        for retain in [true, false] {
            publisher.publish_with(&PublishOut {
                topic: "t",
                retain,
                payload: b"x",
                ..PublishOut::default()
            });
            assert_eq!(kept.drain()[0].retain, retain);
            assert!(!plain.drain()[0].retain);
            assert!(!old.drain()[0].retain);
        }
    }
}

/// [MQTT-3.3.1-9, MQTT-3.3.1-10, MQTT-3.3.1-11] Retain handling: 0 sends retained messages with each SUBSCRIBE, 1 only with the first
/// for a filter, also after a reconnect, 2 never.
#[test]
fn retain_handling() {
    let node = Node::new(2);
    node.connect(Version::V311, "publisher").retain("t", QoS::AtLeastOnce, "kept");
    let handling = |retain_handling| SubscriptionOptions { retain_handling, ..options(QoS::AtLeastOnce) };
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    for (retain_handling, times) in [
        (RetainHandling::DoNotSend, 0),
        (RetainHandling::SendIfNew, 0),
        (RetainHandling::Send, 1),
        (RetainHandling::Send, 1),
        (RetainHandling::SendIfNew, 0),
    ] {
        client.subscribe_as("t", handling(retain_handling));
        assert_eq!(client.drain().len(), times, "{retain_handling:?}");
    }
    client.drop_socket();
    let mut client = node.connect_with(&lasting(Version::V5, "client"));
    client.subscribe_as("t", handling(RetainHandling::SendIfNew));
    client.expect_silence();
    client.unsubscribe("t");
    client.subscribe_as("t", handling(RetainHandling::SendIfNew));
    assert_eq!(client.drain().len(), 1);
}

/// A subscription kind that CONNACK said is not available is a protocol error with its own code in 5.0 (3.2.2.3.11 to
/// .13) [MQTT-4.13.1-1]; 3.x, which was not told, is answered in SUBACK and stays.
#[test]
fn subscriptions_that_are_not_offered() {
    let settings = Settings {
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        ..Settings::default()
    };
    for (name, number, reason) in [
        ("a/+", None, ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("a/#", None, ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("$share/g/a", None, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("$oshare/g/a", None, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        ("a", Some(1), ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED),
    ] {
        let node = Node::of_settings(settings.clone());
        let mut client = node.connect(Version::V5, "client");
        client.send_subscribe(&[filter("b", QoS::AtMostOnce), filter(name, QoS::AtMostOnce)], number);
        assert_eq!(client.expect_disconnect().reason, reason, "{name}");
        if number.is_none() {
            let mut old = node.connect(Version::V311, "old");
            let filters = [filter("b", QoS::AtMostOnce), filter(name, QoS::AtMostOnce)];
            assert_eq!(old.subscribe_all(&filters, None), [0, 0x80]);
        }
    }
}

/// A session has at most `tenant.subscriptions_max` subscriptions: 0x97 beyond, replacing one is always possible.
#[test]
fn subscriptions_have_a_maximum() {
    let node = Node::of_settings(Settings { subscriptions_max: 2, ..Settings::default() });
    let mut client = node.connect(Version::V5, "client");
    let names = ["a", "b", "c", "a"];
    let filters = names.map(|name| filter(name, QoS::AtMostOnce));
    assert_eq!(client.subscribe_all(&filters, None), [0, 0, 0x97, 0]);
    client.unsubscribe("a");
    assert_eq!(client.subscribe_all(&filters[2..3], None), [0]);
}

/// [MQTT-3.8.4-5] Thousands of filters in one packet, each with its code, each in force, each given up in one UNSUBSCRIBE
/// [MQTT-3.11.3-1].
#[test]
fn thousands_of_filters_in_one_packet() {
    for version in [Version::V311, Version::V5] {
        let node = Node::new(3);
        let mut client = node.connect_with(&lasting(version, "client"));
        let names: Vec<String> = (0..5000).map(|number| format!("many/{}/{number}", number % 70)).collect();
        let filters: Vec<_> = names.iter().map(|name| filter(name, QoS::AtLeastOnce)).collect();
        assert_eq!(client.subscribe_all(&filters, None), [1; 5000]);
        let mut publisher = node.connect(Version::V311, "publisher");
        for name in names.iter().step_by(97) {
            publisher.publish_fully(name, QoS::AtLeastOnce, "x");
            assert_eq!(client.drain().len(), 1);
        }
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let packet_id = client.send_unsubscribe(&all);
        match client.expect() {
            mqtt::Packet::UnsubAck(ack) => {
                assert_eq!(ack.packet_id.get(), packet_id);
                let successes = ack.reasons.into_iter().filter(|reason| !reason.is_error()).count();
                assert_eq!(successes, if version == Version::V5 { 5000 } else { 0 });
            }
            other => panic!("UNSUBACK, not {other:?}"),
        }
        publisher.publish_fully(&names[0], QoS::AtLeastOnce, "x");
        client.expect_silence();
    }
}

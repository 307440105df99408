//! Settings that refuse a client something: each bites, and is counted under its own name and no other.

mod host;

use broker_core::config::{Config, Settings};
use broker_core::limit::Limit;
use host::exchange::{lasting, options};
use host::packets::will;
use host::{Client, Node, VERSIONS};
use mqtt::encode::PublishOut;
use mqtt::{Connect, QoS, ReasonCode, SubscribeFilter, Version};

/// A client of version 5.0 on a node with these settings.
fn client(settings: Settings) -> (Node, Client) {
    let node = Node::of_settings(settings);
    let client = node.connect(Version::V5, "client");
    (node, client)
}

/// What a node has counted by limits: nothing but this many of one.
fn assert_counted(node: &Node, limit: Limit, times: u64) {
    for other in Limit::ALL {
        let expected = if *other == limit { times } else { 0 };
        assert_eq!(node.count(|core| core.counters().limited(*other)), expected, "{}", other.name());
    }
}

/// `tenant.mqtt_31`, `mqtt_311` and `mqtt_5`: a version that is switched off is refused like one that there is
/// not, in its own form; the others are let in.
#[test]
fn versions_can_be_switched_off() {
    let (on, off) = (true, false);
    for (version, limit, switches) in [
        (Version::V31, Limit::Mqtt31, [off, on, on]),
        (Version::V311, Limit::Mqtt311, [on, off, on]),
        (Version::V5, Limit::Mqtt5, [on, on, off]),
    ] {
        let [mqtt_31, mqtt_311, mqtt_5] = switches;
        let node = Node::of_settings(Settings { mqtt_31, mqtt_311, mqtt_5, ..Settings::default() });
        for other in VERSIONS {
            let mut client = node.accept();
            client.send_connect(&Connect::new(other, "client"));
            if other == version {
                assert_eq!(client.expect_refused().reason, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
            } else {
                assert_eq!(client.expect_connack().reason, ReasonCode::SUCCESS);
            }
        }
        assert_counted(&node, limit, 1);
    }
}

/// `tenant.topic_bytes_max`, `topic_levels_max` and `topic_level_bytes_max`: the last topic that is allowed, and
/// the first that is not, for publishes, filters and wills.
#[test]
fn topics_have_bounds() {
    let few = |topic_bytes_max, topic_levels_max, topic_level_bytes_max| Settings {
        topic_bytes_max,
        topic_levels_max,
        topic_level_bytes_max,
        ..Settings::default()
    };
    let most = u16::MAX;
    for (limit, settings, allowed, beyond) in [
        (Limit::TopicBytes, few(5, most, most), "ab/cd", "ab/cde"),
        (Limit::TopicLevels, few(most, 3, most), "a//", "a///"),
        (Limit::TopicLevelBytes, few(most, most, 3), "/abc/d", "d/abcd/"),
        (Limit::TopicLevelBytes, few(most, most, 3), "abc", "abcd"),
        (Limit::TopicLevelBytes, few(most, most, 3), "äb", "äbc"),
    ] {
        let (node, mut client) = client(settings);
        client.publish_fully(allowed, QoS::AtLeastOnce, "");
        client.subscribe(allowed, QoS::AtMostOnce);
        assert_counted(&node, limit, 0);
        let reasons = client
            .subscribe_all(&[SubscribeFilter { filter: beyond, options: options(QoS::AtMostOnce) }], None);
        assert_eq!(reasons, [ReasonCode::TOPIC_FILTER_INVALID.value()]);
        let packet_id = client.publish(beyond, QoS::AtLeastOnce, "");
        let ack = client.expect_ack(mqtt::PacketKind::PubAck, packet_id);
        assert_eq!(ack.reason, ReasonCode::TOPIC_NAME_INVALID);
        assert_counted(&node, limit, 2);
        let mut dying = node.accept();
        dying.send_connect(&Connect { will: Some(will(beyond, "")), ..Connect::new(Version::V5, "dying") });
        assert_eq!(dying.expect_refused().reason, ReasonCode::TOPIC_NAME_INVALID);
        assert_counted(&node, limit, 3);
    }
}

/// `tenant.subscribe_filters_max`: filters in one SUBSCRIBE, and in one UNSUBSCRIBE.
#[test]
fn filters_in_a_packet() {
    let filter = |filter| SubscribeFilter { filter, options: options(QoS::AtMostOnce) };
    let settings = || Settings { subscribe_filters_max: 2, ..Settings::default() };
    let (node, mut one) = client(settings());
    assert_eq!(one.subscribe_all(&[filter("a"), filter("b")], None), [0, 0]);
    one.send_unsubscribe(&["a", "b"]);
    one.packets();
    one.send_subscribe(&[filter("a"), filter("b"), filter("c")], None);
    one.expect_ended(ReasonCode::QUOTA_EXCEEDED);
    assert_counted(&node, Limit::SubscribeFilters, 1);
    let (node, mut other) = client(settings());
    other.send_unsubscribe(&["a", "b", "c"]);
    other.expect_ended(ReasonCode::QUOTA_EXCEEDED);
    assert_counted(&node, Limit::SubscribeFilters, 1);
}

/// What a subscription may be: wildcards, identifiers, shared ones, and how many.
#[test]
fn kinds_of_subscriptions() {
    let off = Settings {
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        subscriptions_max: 1,
        ..Settings::default()
    };
    for (limit, filter, number, reason) in [
        (Limit::Wildcards, "a/+", None, ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
        (Limit::SubscriptionIdentifiers, "b", Some(1), ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED),
        (Limit::SharedSubscriptions, "$share/g/a", None, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        (Limit::Subscriptions, "b", None, ReasonCode::QUOTA_EXCEEDED),
    ] {
        let (node, mut client) = client(off.clone());
        client.subscribe("a", QoS::AtMostOnce);
        let filters = [SubscribeFilter { filter, options: options(QoS::AtMostOnce) }];
        if limit == Limit::Subscriptions {
            assert_eq!(client.subscribe_all(&filters, number), [reason.value()]);
        } else {
            client.send_subscribe(&filters, number);
            client.expect_ended(reason);
        }
        assert_counted(&node, limit, 1);
    }
}

/// What a publish may be: how large, of which QoS, retained, with which alias, and how many at once.
#[test]
fn publishes_have_bounds() {
    let settings = Settings {
        packet_bytes_max: 128,
        qos_max: QoS::AtLeastOnce,
        retain: false,
        topic_alias_max: 2,
        receive_maximum: 1,
        ..Settings::default()
    };
    let large = [0; 128];
    let plain = PublishOut { topic: "a", ..PublishOut::default() };
    for (limit, publish, reason) in [
        (Limit::PacketBytes, PublishOut { payload: &large, ..plain }, ReasonCode::PACKET_TOO_LARGE),
        (Limit::Qos, PublishOut { qos: QoS::ExactlyOnce, ..plain }, ReasonCode::QOS_NOT_SUPPORTED),
        (Limit::Retain, PublishOut { retain: true, ..plain }, ReasonCode::RETAIN_NOT_SUPPORTED),
        (Limit::TopicAlias, PublishOut { topic_alias: Some(3), ..plain }, ReasonCode::TOPIC_ALIAS_INVALID),
    ] {
        let (node, mut client) = client(settings.clone());
        client.publish_with(&publish);
        client.expect_ended(reason);
        assert_counted(&node, limit, 1);
    }
}

/// `tenant.receive_maximum`: more QoS 2 messages than announced, none of them released.
#[test]
fn unacknowledged_publishes() {
    let (node, mut client) = client(Settings { receive_maximum: 1, ..Settings::default() });
    client.publish("a", QoS::ExactlyOnce, "");
    client.packets();
    client.publish("a", QoS::ExactlyOnce, "");
    client.expect_ended(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
    assert_counted(&node, Limit::ReceiveMaximum, 1);
}

/// What a will may be: how large, of which QoS, retained.
#[test]
fn wills_have_bounds() {
    let settings =
        Settings { will_bytes_max: 3, qos_max: QoS::AtLeastOnce, retain: false, ..Settings::default() };
    let plain = will("a", "xyz");
    for (limit, will, reason) in [
        (Limit::WillBytes, will("a", "wxyz"), ReasonCode::QUOTA_EXCEEDED),
        (Limit::Qos, mqtt::Will { qos: QoS::ExactlyOnce, ..plain }, ReasonCode::QOS_NOT_SUPPORTED),
        (Limit::Retain, mqtt::Will { retain: true, ..plain }, ReasonCode::RETAIN_NOT_SUPPORTED),
    ] {
        let node = Node::of_settings(settings.clone());
        node.connect_with(&Connect { will: Some(plain), ..Connect::new(Version::V5, "allowed") });
        let mut client = node.accept();
        client.send_connect(&Connect { will: Some(will), ..Connect::new(Version::V5, "client") });
        assert_eq!(client.expect_refused().reason, reason);
        assert_counted(&node, limit, 1);
    }
}

/// `tenant.retained_matches_max`: so many retained messages for each filter of a SUBSCRIBE, and no more; a filter
/// with as many is complete.
#[test]
fn retained_matches_have_a_bound() {
    let settings = |retained_matches_max| Settings { retained_matches_max, ..Settings::default() };
    for (max, matching, sent, bites) in [(3, 5, 3, 1), (3, 3, 3, 0), (0, 1, 0, 1), (0, 0, 0, 0)] {
        for (cores, qos) in [(1, QoS::AtMostOnce), (3, QoS::AtLeastOnce)] {
            let node = Node::of_settings_and_cores(settings(max), cores);
            let mut publisher = node.connect(Version::V311, "publisher");
            for number in 0..matching {
                publisher.retain(&format!("a/{number}"), qos, "x");
            }
            publisher.retain("b", qos, "x");
            let mut client = node.connect(Version::V5, "client");
            let filters = ["a/#", "c"].map(|filter| SubscribeFilter { filter, options: options(qos) });
            client.subscribe_all(&filters, None);
            assert_eq!(client.drain().len(), sent, "{max} of {matching}");
            assert_counted(&node, Limit::RetainedMatches, bites);
            client.subscribe("b", qos);
            assert_eq!(client.drain().len(), usize::from(max > 0), "each filter counts alone");
        }
    }
}

/// `connect_bytes_max` and `packet_properties_max`: of a CONNECT, before anybody knows whose it is.
#[test]
fn strangers_have_bounds() {
    let password = [b'x'; 300];
    let large = Connect { password: Some(&password), ..Connect::new(Version::V5, "client") };
    let node = Node::with(Config { connect_bytes_max: 200, ..Config::default() });
    let mut client = node.accept();
    client.send_connect(&large);
    assert_eq!(client.expect_refused().reason, ReasonCode::PACKET_TOO_LARGE);
    assert_counted(&node, Limit::ConnectBytes, 1);
    let mut many = Connect::new(Version::V5, "client");
    many.properties.receive_maximum = 5;
    many.properties.topic_alias_maximum = 5;
    let node = Node::with(Config { packet_properties_max: 1, ..Config::default() });
    let mut client = node.accept();
    client.send_connect(&many);
    assert_eq!(client.expect_refused().reason, ReasonCode::QUOTA_EXCEEDED);
    assert_counted(&node, Limit::PacketProperties, 1);
}

/// `tenant.session_expiry_seconds_min` and `_max`: a 5.0 client is told what it gets instead; a session that ends
/// with its connection stays so.
#[test]
fn session_expiry_has_bounds() {
    let settings =
        Settings { session_expiry_seconds_min: 60, session_expiry_seconds_max: 600, ..Settings::default() };
    for (wanted, told) in [(0, None), (1, Some(60)), (60, None), (600, None), (601, Some(600))] {
        let node = Node::of_settings(settings.clone());
        let mut connect = lasting(Version::V5, "client");
        connect.properties.session_expiry = wanted;
        let mut client = node.accept();
        assert_eq!(client.greet(&connect).properties.session_expiry, told, "{wanted}");
        client.drop_socket();
        node.advance(std::time::Duration::from_secs(u64::from(wanted) + 1));
        let left = told.is_some_and(|told| told > wanted);
        assert_eq!(node.sessions(), usize::from(left), "{wanted}");
        node.advance(std::time::Duration::from_secs(600));
        assert_eq!(node.sessions(), 0, "{wanted}");
    }
}

/// `tenant.keep_alive_seconds_min` and `_max`: a 5.0 client is told what it gets instead, and closed by that; a
/// 3.x client, which cannot be told, is not closed before the minimum has passed.
#[test]
fn keep_alive_has_bounds() {
    let second = std::time::Duration::from_secs(1);
    for (version, min, max, wanted, told, closed_after) in [
        (Version::V5, 10, 0, 4, Some(10), Some(15)),
        (Version::V5, 10, 20, 30, Some(20), Some(30)),
        (Version::V5, 10, 20, 0, Some(20), Some(30)),
        (Version::V5, 10, 0, 0, None, None),
        (Version::V5, 10, 20, 12, None, Some(18)),
        (Version::V311, 10, 0, 4, None, Some(15)),
        (Version::V311, 10, 0, 0, None, None),
    ] {
        let settings =
            Settings { keep_alive_seconds_min: min, keep_alive_seconds_max: max, ..Settings::default() };
        let node = Node::of_settings(settings);
        let mut client = node.accept();
        let connect = Connect { keep_alive: wanted, ..Connect::new(version, "client") };
        assert_eq!(client.greet(&connect).properties.server_keep_alive, told);
        let Some(closed_after) = closed_after else {
            node.advance(second * 1000);
            client.expect_silence();
            continue;
        };
        node.advance(second * (closed_after - 1));
        client.expect_silence();
        node.advance(second * 2);
        assert!(client.is_closed(), "{version:?} {wanted}");
    }
}

//! Quotas of a tenant: each total and each rate bites where it should, says its name, and lets go again.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use broker_core::limit::Limit;
use broker_core::notice::Event;
use host::{Client, Node, VERSIONS};
use mqtt::{
    Connect, Packet, PacketKind, QoS, ReasonCode, SubAck, SubscribeFilter, SubscriptionOptions, Version,
};

fn limited(node: &Node, limit: Limit) -> u64 {
    node.count(|core| core.counters().limited(limit))
}

/// A client whose session outlives its connection.
fn lasting(id: &str) -> Connect<'_> {
    let mut connect = Connect::new(Version::V5, id);
    connect.clean_start = false;
    connect.properties.session_expiry = 3600;
    connect
}

fn refused(node: &Node, connect: &Connect<'_>) {
    let mut client = node.accept();
    client.send_connect(connect);
    let connack = client.expect_refused();
    match connect.version {
        Version::V5 => assert_eq!(connack.reason, ReasonCode::QUOTA_EXCEEDED),
        _ => assert_eq!(mqtt::connect_return_code(connack.reason), 3),
    }
}

fn suback(client: &mut Client, filter: &str) -> ReasonCode {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let packet_id = client.send_subscribe(&[SubscribeFilter { filter, options }], None);
    let ack: SubAck<'static> = client.expect_suback(packet_id);
    ack.reasons.into_iter().next().expect("one")
}

/// Connections are those of all cores; who takes its own place over needs none, and one that goes makes room.
#[test]
fn connections() {
    for version in VERSIONS {
        let settings = Settings { total_connections_max: 5, ..Settings::default() };
        let node = Node::of_settings_and_cores(settings, 3);
        let mut clients: Vec<_> = (0..5).map(|id| node.connect(version, &format!("c{id}"))).collect();
        refused(&node, &Connect::new(version, "more"));
        let mut again = node.connect(version, "c3");
        clients[0].disconnect(ReasonCode::SUCCESS);
        node.connect(version, "more").ping();
        refused(&node, &Connect::new(version, "still-more"));
        clients[1].drop_socket();
        node.connect(version, "still-more").ping();
        again.ping();
        assert_eq!(limited(&node, Limit::TotalConnections), 2);
    }
}

/// Found by reading: the take-over of a persistent session counted its former connection out twice, so that with each
/// the tenant might have one connection more.
#[test]
fn connections_of_persistent_sessions_that_are_taken_over() {
    let settings = Settings { total_connections_max: 2, ..Settings::default() };
    let node = Node::of_settings_and_cores(settings, 2);
    let _other = node.connect(Version::V5, "other");
    let mut clients: Vec<_> = (0..4).map(|_| node.connect_with(&lasting("client"))).collect();
    clients[3].ping();
    refused(&node, &Connect::new(Version::V5, "more"));
    clients[3].disconnect(ReasonCode::SUCCESS);
    node.connect(Version::V5, "more").ping();
    refused(&node, &Connect::new(Version::V5, "still-more"));
}

/// Sessions that outlive their connections are counted while they are there; who has one comes in, and who wants none.
#[test]
fn persistent_sessions() {
    let settings = Settings { total_persistent_sessions_max: 2, ..Settings::default() };
    let node = Node::of_settings_and_cores(settings, 2);
    node.connect_with(&lasting("a")).disconnect(ReasonCode::SUCCESS);
    let _b = node.connect_with(&lasting("b"));
    refused(&node, &lasting("c"));
    node.connect(Version::V5, "d").ping();
    node.connect_with(&lasting("a")).ping();
    node.connect(Version::V5, "a").ping(); // a clean start ends the session
    node.connect_with(&lasting("c")).ping();
    assert_eq!(limited(&node, Limit::TotalPersistentSessions), 1);
    // One that expires makes room.
    node.connect(Version::V5, "b").ping();
    node.connect_with(&lasting("e")).disconnect(ReasonCode::SUCCESS);
    node.advance(Duration::from_secs(3601));
    node.connect_with(&lasting("f")).ping();
}

/// What waits for sessions is measured: while it is too much no further one begins.
#[test]
fn queued_bytes() {
    let settings = Settings { total_persistent_bytes_max: 1000, ..Settings::default() };
    let node = Node::of_settings_and_cores(settings, 2);
    let mut away = node.connect_with(&lasting("away"));
    away.subscribe("a", QoS::AtLeastOnce);
    away.disconnect(ReasonCode::SUCCESS);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish_fully("a", QoS::AtLeastOnce, &"x".repeat(2000));
    node.advance(Duration::from_secs(2));
    refused(&node, &lasting("new"));
    let mut away = node.connect_with(&lasting("away"));
    let message = away.expect_publish();
    away.send_ack(PacketKind::PubAck, message.packet_id.expect("QoS 1").get());
    node.advance(Duration::from_secs(2));
    node.connect_with(&lasting("new")).ping();
    assert_eq!(limited(&node, Limit::TotalPersistentBytes), 1);
}

/// The same for sessions that end with their connections.
#[test]
fn unsent_bytes() {
    let settings = Settings { total_session_bytes_max: 1000, inflight_max: 1, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut slow = node.connect(Version::V311, "slow");
    slow.subscribe("a", QoS::AtLeastOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    for _ in 0..2 {
        publisher.publish_fully("a", QoS::AtLeastOnce, &"x".repeat(2000));
    }
    node.advance(Duration::from_secs(2));
    refused(&node, &Connect::new(Version::V311, "new"));
    node.connect_with(&lasting("lasting")).ping();
    slow.drop_socket();
    node.advance(Duration::from_secs(2));
    node.connect(Version::V311, "new").ping();
}

/// Each kind of subscription has a total of its own; giving one up makes room, and so does a session's end.
#[test]
fn subscriptions() {
    let settings = Settings {
        total_shared_subscriptions_max: 1,
        total_transient_subscriptions_max: 2,
        total_persistent_subscriptions_max: 1,
        ..Settings::default()
    };
    for cores in [1, 3] {
        let node = Node::of_settings_and_cores(settings.clone(), cores);
        let mut one = node.connect(Version::V5, "one");
        let mut two = node.connect(Version::V5, "two");
        let mut lasts = node.connect_with(&lasting("lasts"));
        let (granted, full) = (ReasonCode::GRANTED_QOS_1, ReasonCode::QUOTA_EXCEEDED);
        assert_eq!([suback(&mut one, "a"), suback(&mut one, "a")], [granted, granted]);
        assert_eq!([suback(&mut two, "b"), suback(&mut two, "c")], [granted, full]);
        assert_eq!([suback(&mut lasts, "a"), suback(&mut lasts, "b")], [granted, full]);
        assert_eq!(suback(&mut lasts, "$share/g/a"), ReasonCode::GRANTED_QOS_1);
        assert_eq!(suback(&mut one, "$share/g/a"), ReasonCode::QUOTA_EXCEEDED);
        one.unsubscribe("a");
        assert_eq!(suback(&mut two, "c"), ReasonCode::GRANTED_QOS_1);
        lasts.unsubscribe("$share/g/a");
        assert_eq!(suback(&mut one, "$share/g/a"), ReasonCode::GRANTED_QOS_1);
        two.drop_socket();
        assert_eq!(suback(&mut one, "d"), ReasonCode::GRANTED_QOS_1);
        for limit in [
            Limit::TotalSharedSubscriptions,
            Limit::TotalTransientSubscriptions,
            Limit::TotalPersistentSubscriptions,
        ] {
            assert_eq!(limited(&node, limit), 1, "{}", limit.name());
        }
    }
}

/// A 3.x client is told by 0x80 that there is no room for its subscription.
#[test]
fn subscriptions_of_old_clients() {
    let settings = Settings { total_transient_subscriptions_max: 0, ..Settings::default() };
    let node = Node::of_settings(settings);
    let mut client = node.connect(Version::V311, "old");
    assert_eq!(suback(&mut client, "a").value(), 0x80);
}

/// CONNECTs, SUBSCRIBEs and UNSUBSCRIBEs have a second's worth at once, and then their rate.
#[test]
fn rates_of_requests() {
    let settings = Settings {
        total_connects_per_second_max: 4,
        total_transient_subscribes_per_second_max: 2,
        total_transient_unsubscribes_per_second_max: 2,
        ..Settings::default()
    };
    let node = Node::of_settings(settings);
    let mut clients: Vec<_> = (0..5).map(|id| node.connect(Version::V5, &format!("c{id}"))).collect();
    refused(&node, &Connect::new(Version::V311, "more"));
    node.advance(Duration::from_millis(300));
    node.connect(Version::V311, "more").ping();
    let client = &mut clients[0];
    let reasons = ["a", "b", "c", "d"].map(|filter| suback(client, filter));
    let granted = ReasonCode::GRANTED_QOS_1;
    assert_eq!(reasons, [granted, granted, granted, ReasonCode::QUOTA_EXCEEDED]);
    let answers = ["a", "b", "c", "x"]
        .map(|filter| client.unsubscribe(filter).reasons.into_iter().next().expect("one"));
    let done = ReasonCode::SUCCESS;
    assert_eq!(answers, [done, done, done, ReasonCode::UNSPECIFIED_ERROR]);
    for limit in [Limit::TotalConnects, Limit::TotalTransientSubscribes, Limit::TotalTransientUnsubscribes] {
        assert_eq!(limited(&node, limit), 1, "{}", limit.name());
    }
}

/// Who sends when its tenant has sent too much is read later, whoever sent it, and loses nothing; another tenant is not
/// held up, nor is a client that was there before the quota.
#[test]
fn inbound_bytes() {
    let node = Node::new(1);
    let mut early = node.connect(Version::V311, "early");
    let settings = Settings { total_inbound_bytes_per_second_max: 1000, ..Settings::default() };
    let config = |settings: Settings| Config { settings: settings.into(), ..Config::default() };
    node.configure(config(settings));
    let mut receiver = node.subscriber("#", QoS::AtMostOnce);
    let mut late = node.connect(Version::V5, "late");
    for number in 0..20 {
        let client = if number % 2 == 0 { &mut early } else { &mut late };
        client.publish("a", QoS::AtMostOnce, &"x".repeat(200));
    }
    let at_once = receiver.packets().len();
    assert!((4..12).contains(&at_once), "{at_once}");
    node.advance(Duration::from_secs(5));
    assert_eq!(at_once + receiver.packets().len(), 20);
    assert!(limited(&node, Limit::TotalInboundBytes) > 0);
}

/// Beyond its rate QoS 0 reaches one receiver; QoS 1 reaches all, whether their sessions last or not.
#[test]
fn fan_out_bytes() {
    let settings = Settings {
        total_transient_fan_out_bytes_per_second_max: 1000,
        total_persistent_fan_out_bytes_per_second_max: 1000,
        ..Settings::default()
    };
    for durable in [false, true] {
        let node = Node::of_settings(settings.clone());
        let mut receivers: Vec<_> = (0..4)
            .map(|id| {
                let id = format!("r{id}");
                let connect = if durable { lasting(&id) } else { Connect::new(Version::V5, &id) };
                let mut client = node.connect_with(&connect);
                client.subscribe("a", QoS::AtLeastOnce);
                client
            })
            .collect();
        let mut publisher = node.connect(Version::V5, "publisher");
        let payload = "x".repeat(1000);
        let mut received = |qos| {
            publisher.publish("a", qos, &payload);
            node.advance(Duration::from_millis(100)); // a publisher that is slowed goes on
            receivers.iter_mut().map(|receiver| receiver.packets().len()).sum::<usize>()
        };
        assert_eq!(received(QoS::AtMostOnce), 4);
        assert_eq!(received(QoS::AtMostOnce), 1);
        assert_eq!(received(QoS::AtLeastOnce), 4);
        assert_eq!(node.dropped(DropReason::FanOut), 3);
        let limit =
            if durable { Limit::TotalPersistentFanOutBytes } else { Limit::TotalTransientFanOutBytes };
        assert_eq!(limited(&node, limit), 2);
    }
}

fn retain(client: &mut Client, topic: &str, payload: &str) -> ReasonCode {
    let publish = mqtt::encode::PublishOut {
        topic,
        qos: QoS::AtLeastOnce,
        retain: true,
        payload: payload.as_bytes(),
        ..mqtt::encode::PublishOut::default()
    };
    let packet_id = client.publish_with(&publish);
    match client.expect_ack(PacketKind::PubAck, packet_id).reason {
        ReasonCode::NO_MATCHING_SUBSCRIBERS => ReasonCode::SUCCESS,
        reason => reason,
    }
}

/// Retained messages and their bytes are those of all cores; one may be replaced, and taking one away makes room.
#[test]
fn retained_totals() {
    let topics = Settings { total_retained_topics_max: 4, ..Settings::default() };
    let bytes = Settings { total_retained_bytes_max: 600, ..Settings::default() };
    for (settings, limit) in [(topics, Limit::TotalRetainedTopics), (bytes, Limit::TotalRetainedBytes)] {
        let node = Node::of_settings_and_cores(settings, 3);
        let mut client = node.connect(Version::V5, "client");
        let payload = "x".repeat(100);
        let kept = (0..20)
            .filter(|topic| retain(&mut client, &format!("t{topic}"), &payload) == ReasonCode::SUCCESS);
        let kept: Vec<_> = kept.collect();
        assert!((3..=5).contains(&kept.len()), "{kept:?}");
        let refused = limited(&node, limit);
        assert_eq!(refused, 20 - kept.len() as u64);
        assert_eq!(node.dropped(DropReason::RetainFull), refused);
        let topic = format!("t{}", kept[0]);
        assert_eq!(retain(&mut client, &topic, &"y".repeat(100)), ReasonCode::SUCCESS);
        assert_eq!(retain(&mut client, &topic, ""), ReasonCode::SUCCESS);
        assert_eq!(retain(&mut client, "new", &payload), ReasonCode::SUCCESS);
    }
}

/// A quota that nobody is told of but by a reason code, a slower reader or a message for one instead of all is told to
/// the host, with the tenant: once a second, however often it bites.
#[test]
fn quotas_are_told() {
    let settings = Settings {
        total_retained_topics_max: 1,
        total_transient_unsubscribes_per_second_max: 1,
        ..Settings::default()
    };
    let node = Node::with(Config { notices: true, settings: Arc::new(settings), ..Config::default() });
    let told = || {
        let notices = node.take_notices().into_iter();
        let mut limits: Vec<_> = notices
            .filter_map(|it| match it.event {
                Event::Limit(limit) => {
                    assert_eq!((it.tenant.as_deref(), it.client), (Some("default"), None));
                    Some(limit)
                }
                _ => None,
            })
            .collect();
        limits.sort();
        limits
    };
    let mut client = node.connect(Version::V5, "a");
    let mut bite = || {
        for topic in ["a", "b", "c"] {
            retain(&mut client, topic, "x");
        }
        for filter in ["x", "y", "z"] {
            client.subscribe(filter, QoS::AtMostOnce);
        }
        for filter in ["x", "y", "z"] {
            client.unsubscribe(filter);
        }
    };
    bite();
    let expected = [Limit::TotalRetainedTopics, Limit::TotalTransientUnsubscribes];
    assert_eq!(told(), expected);
    bite();
    assert_eq!(told(), []);
    node.advance(Duration::from_secs(1));
    bite();
    assert_eq!(told(), expected);
}

/// Changes of retained messages have their rate, and so have those that new subscriptions want.
#[test]
fn retained_rates() {
    let settings = Settings {
        total_retains_per_second_max: 3,
        total_retain_matches_per_second_max: 2,
        ..Settings::default()
    };
    let node = Node::of_settings(settings);
    let mut client = node.connect(Version::V5, "client");
    let reasons: Vec<_> = (0..5).map(|topic| retain(&mut client, &format!("t{topic}"), "x")).collect();
    let (kept, full) = (ReasonCode::SUCCESS, ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(reasons, [kept, kept, kept, kept, full]);
    let mut reader = node.connect(Version::V5, "reader");
    assert_eq!(suback(&mut reader, "#"), ReasonCode::GRANTED_QOS_1);
    assert_eq!(reader.packets().len(), 4);
    assert_eq!(suback(&mut reader, "+"), ReasonCode::QUOTA_EXCEEDED);
    node.advance(Duration::from_secs(3));
    assert_eq!(suback(&mut reader, "+"), ReasonCode::GRANTED_QOS_1);
    for limit in [Limit::TotalRetains, Limit::TotalRetainMatches] {
        assert_eq!(limited(&node, limit), 1, "{}", limit.name());
    }
}

/// A shared subscription takes no more members than it may have, whatever core they are on; one that leaves makes room.
#[test]
fn members_of_a_group() {
    for cores in [1, 3] {
        let settings = Settings { shared_members_max: 2, ..Settings::default() };
        let node = Node::of_settings_and_cores(settings, cores);
        let mut clients: Vec<_> = (0..3).map(|id| node.connect(Version::V5, &format!("c{id}"))).collect();
        let filter = "$share/g/a/+";
        let reasons: Vec<_> = clients.iter_mut().map(|client| suback(client, filter)).collect();
        let (granted, full) = (ReasonCode::GRANTED_QOS_1, ReasonCode::QUOTA_EXCEEDED);
        assert_eq!(reasons, [granted, granted, full]);
        assert_eq!(suback(&mut clients[0], filter), granted, "it is a member");
        assert_eq!(suback(&mut clients[2], "$share/other/a/+"), granted);
        clients[0].unsubscribe(filter);
        assert_eq!(suback(&mut clients[2], filter), granted);
        assert_eq!(limited(&node, Limit::SharedMembers), 1);
        // The one that was refused had no subscription in between.
        assert_eq!(clients[1].packets().len(), 0);
    }
}

/// A message for too many lasting sessions, or too many groups, goes to as many as it may, and its publisher is told.
#[test]
fn destinations_of_a_message() {
    let (sessions, bytes, groups) = (
        Settings { persistent_fan_out_max: 2, ..Settings::default() },
        Settings { persistent_fan_out_bytes_max: 25, ..Settings::default() },
        Settings { group_fan_out_max: 2, ..Settings::default() },
    );
    for (settings, limit, shared) in [
        (sessions, Limit::PersistentFanOut, false),
        (bytes, Limit::PersistentFanOutBytes, false),
        (groups, Limit::GroupFanOut, true),
    ] {
        let node = Node::of_settings_and_cores(settings, 2);
        let mut receivers: Vec<_> = (0..3)
            .map(|number| {
                let id = format!("r{number}");
                let mut client = node.connect_with(&lasting(&id));
                let share = format!("$share/g{number}/a");
                client.subscribe(if shared { &share } else { "a" }, QoS::AtLeastOnce);
                client
            })
            .collect();
        let mut publisher = node.connect(Version::V5, "publisher");
        let packet_id = publisher.publish("a", QoS::AtLeastOnce, "0123456789");
        let ack = publisher.expect_ack(PacketKind::PubAck, packet_id);
        assert_eq!(ack.reason, ReasonCode::QUOTA_EXCEEDED, "{}", limit.name());
        let received: usize = receivers.iter_mut().map(|receiver| receiver.packets().len()).sum();
        assert_eq!(received, 2, "{}", limit.name());
        assert_eq!((limited(&node, limit), node.dropped(DropReason::FanOut)), (1, 1));
    }
}

/// A 3.x client that stays silent is sent again what it has not acknowledged, so often and no more; a 5.0 client is not
/// [MQTT-4.4.0-1], nor anybody without the setting.
#[test]
fn resends() {
    for (version, seconds, expected) in
        [(Version::V311, 10, 2), (Version::V31, 10, 2), (Version::V5, 10, 0), (Version::V311, 0, 0)]
    {
        let settings = Settings { resend_seconds: seconds, resend_times_max: 2, ..Settings::default() };
        let node = Node::of_settings(settings);
        let mut client = node.connect(version, "client");
        client.subscribe("a", QoS::AtLeastOnce);
        let mut publisher = node.connect(Version::V5, "publisher");
        publisher.publish_fully("a", QoS::AtLeastOnce, "x");
        let first = client.expect_publish();
        assert!(!first.dup);
        node.advance(Duration::from_secs(100));
        let again = client.packets();
        assert_eq!(again.len(), expected, "{version:?}");
        for packet in again {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            assert!(publish.dup && publish.packet_id == first.packet_id);
        }
        assert_eq!(node.count(|core| core.counters().resends), expected as u64);
        client.send_ack(PacketKind::PubAck, first.packet_id.expect("QoS 1").get());
        node.advance(Duration::from_secs(100));
        assert_eq!(client.packets().len(), 0);
    }
}

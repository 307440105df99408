//! What clients may publish and receive under an access list, and when it changes (5.4.2 of MQTT 5.0).

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{AccessList, Action, Identity, Line, Permissions, Rule, Rules, Subject, Verdict};
use broker_core::config::{Authentication, Config};
use broker_core::counters::DropReason;
use host::packets::will;
use host::{Client, Node, VERSIONS};
use mqtt::{Connect, PacketKind, QoS, ReasonCode, Version};

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn line<'a>(subject: Subject<'a>, action: Action, filter: &str, allow: bool) -> Line<'a> {
    Line { subject, rule: Rule { action, filter: filter.into(), allow } }
}

/// Everybody may do everything but receive what is below `secret`, unless as `chief`.
fn secret_list() -> AccessList {
    AccessList::new([
        line(Subject::User("chief"), Action::Any, "#", true),
        line(Subject::Everybody, Action::Any, "#", true),
        line(Subject::Everybody, Action::Subscribe, "secret/#", false),
    ])
}

/// A client that was let in as `user` under the node's list, its session outliving it if `lasting`.
fn connect_as(node: &Node, version: Version, user: &str, client_id: &str, lasting: bool) -> Client {
    let mut connect = Connect { clean_start: !lasting, ..Connect::new(version, client_id) };
    connect.properties.session_expiry = if lasting { u32::MAX } else { 0 };
    let mut client = node.accept();
    client.send_connect(&connect);
    let asked = node.question().expect("asked about the client");
    node.answer(&asked, allow(user, Permissions::Listed));
    client.expect_connack();
    client
}

fn identity(user: &str, permissions: Permissions) -> Identity {
    let tenant = Arc::from("default");
    Identity {
        tenant,
        user: user.into(),
        response_information: None,
        permissions,
        expires: None,
        listed: false,
    }
}

fn allow(user: &str, permissions: Permissions) -> Verdict {
    Verdict::Allow { identity: identity(user, permissions), data: None }
}

fn asking(cores: u16) -> Node {
    Node::with(Config { cores, authentication: Authentication::Ask, ..Config::default() })
}

/// Without a list everybody may do everything; with an empty one nobody may do anything.
#[test]
fn empty_list_denies() {
    let node = Node::new(2);
    let mut subscriber = node.subscriber("#", QoS::AtMostOnce);
    let mut publisher = node.connect(Version::V5, "publisher");
    publisher.publish("a", QoS::AtMostOnce, "before");
    subscriber.expect_payload("before");
    node.access_list(Some(AccessList::new([])));
    let packet_id = publisher.publish("a", QoS::AtLeastOnce, "denied");
    let puback = publisher.expect_ack(PacketKind::PubAck, packet_id);
    assert_eq!(puback.reason, ReasonCode::NOT_AUTHORIZED);
    subscriber.expect_silence();
    node.access_list(None);
    publisher.publish("a", QoS::AtMostOnce, "after");
    subscriber.expect_payload("after");
}

/// A subscription is accepted as in Mosquitto, and each message on it judged: for sessions that end with
/// their connection and for others, whatever core and QoS; what may not be received is counted once for each
/// who would have had it.
#[test]
fn deliveries_are_judged() {
    for cores in [1, 3] {
        for lasting in [false, true] {
            for qos in ALL_QOS {
                let node = asking(cores);
                node.access_list(Some(secret_list()));
                let mut readers: Vec<Client> = (0..4)
                    .map(|n| connect_as(&node, VERSIONS[n % 3], "staff", &format!("reader-{n}"), lasting))
                    .collect();
                let mut chief = connect_as(&node, Version::V5, "chief", "chief", lasting);
                for reader in readers.iter_mut().chain([&mut chief]) {
                    reader.subscribe("secret/+", qos);
                    reader.subscribe("open/+", qos);
                }
                let mut publisher = connect_as(&node, Version::V5, "staff", "publisher", false);
                for round in 1..4 {
                    publisher.publish_fully("secret/a", qos, "secret");
                    publisher.publish_fully("open/a", qos, "open");
                    for reader in &mut readers {
                        assert_eq!(reader.drain_payloads(), ["open"], "{cores} {lasting} {qos:?}");
                    }
                    assert_eq!(chief.drain_payloads(), ["secret", "open"]);
                    assert_eq!(node.dropped(DropReason::NoPermission), 4 * round);
                }
            }
        }
    }
}

/// The list in force is the one that counts: for who is online, for what is cached, and back again.
#[test]
fn change_of_the_list_reaches_live_sessions() {
    for lasting in [false, true] {
        let node = asking(3);
        let mut reader = connect_as(&node, Version::V5, "staff", "reader", lasting);
        reader.subscribe("#", QoS::AtLeastOnce);
        let mut publisher = connect_as(&node, Version::V5, "staff", "publisher", false);
        for list in [None, Some(()), None, Some(()), None] {
            node.access_list(list.map(|()| secret_list()));
            for _ in 0..3 {
                publisher.publish_fully("secret/a", QoS::AtLeastOnce, "secret");
                let expected: &[&str] = if list.is_some() { &[] } else { &["secret"] };
                assert_eq!(reader.drain_payloads(), expected, "{lasting} {list:?}");
            }
        }
        assert_eq!(node.dropped(DropReason::NoPermission), 6);
    }
}

/// What waited for a client that is away when the list changed is judged again when it comes.
#[test]
fn change_of_the_list_reaches_queues() {
    let node = asking(2);
    let mut reader = connect_as(&node, Version::V5, "staff", "reader", true);
    reader.subscribe("#", QoS::AtLeastOnce);
    reader.drop_socket();
    let mut publisher = connect_as(&node, Version::V5, "staff", "publisher", false);
    publisher.publish_fully("secret/a", QoS::AtLeastOnce, "secret");
    publisher.publish_fully("open/a", QoS::AtLeastOnce, "open");
    node.access_list(Some(secret_list()));
    publisher.publish_fully("secret/a", QoS::AtLeastOnce, "another secret");
    assert_eq!(node.dropped(DropReason::NoPermission), 1, "it is away, and its user still known");
    let mut reader = connect_as(&node, Version::V5, "staff", "reader", true);
    assert_eq!(reader.drain_payloads(), ["open"]);
    assert_eq!(node.dropped(DropReason::NoPermission), 2);
}

/// A session that another user takes over gives it nothing that this user may not receive.
#[test]
fn queue_of_another_user() {
    let node = asking(2);
    node.access_list(Some(secret_list()));
    let mut chief = connect_as(&node, Version::V5, "chief", "client", true);
    chief.subscribe("#", QoS::AtLeastOnce);
    chief.drop_socket();
    let mut publisher = connect_as(&node, Version::V5, "staff", "publisher", false);
    publisher.publish_fully("secret/a", QoS::AtLeastOnce, "secret");
    publisher.publish_fully("open/a", QoS::AtLeastOnce, "open");
    let mut staff = connect_as(&node, Version::V5, "staff", "client", true);
    assert_eq!(staff.drain_payloads(), ["open"]);
}

/// Retained messages are judged for each who asks.
#[test]
fn retained_messages_are_judged() {
    let node = asking(3);
    node.access_list(Some(secret_list()));
    let mut publisher = connect_as(&node, Version::V5, "staff", "publisher", false);
    for topic in ["secret/a", "open/a"] {
        publisher.retain(topic, QoS::AtLeastOnce, topic);
    }
    for (user, expected) in [("staff", &["open/a"][..]), ("chief", &["open/a", "secret/a"][..])] {
        let mut reader = connect_as(&node, Version::V5, user, user, false);
        reader.subscribe("#", QoS::AtLeastOnce);
        let mut found = reader.drain_payloads();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}

/// A member of a shared subscription that may not receive a message is passed over.
#[test]
fn shared_members_are_judged() {
    for lasting in [false, true] {
        let node = asking(3);
        node.access_list(Some(secret_list()));
        let mut members: Vec<Client> = ["staff", "chief", "staff"]
            .iter()
            .enumerate()
            .map(|(n, user)| connect_as(&node, Version::V5, user, &format!("member-{n}"), lasting))
            .collect();
        members.iter_mut().for_each(|member| member.subscribe("$share/g/#", QoS::AtLeastOnce));
        let mut publisher = connect_as(&node, Version::V5, "staff", "publisher", false);
        for _ in 0..6 {
            publisher.publish_fully("secret/a", QoS::AtLeastOnce, "secret");
        }
        assert_eq!(members[1].drain_payloads().len(), 6);
        assert_eq!(node.dropped(DropReason::NoPermission), 0);
        for _ in 0..6 {
            publisher.publish_fully("open/a", QoS::AtLeastOnce, "open");
        }
        assert!(members.iter_mut().all(|member| !member.drain_payloads().is_empty()));
        members.remove(1).disconnect(ReasonCode::SUCCESS);
        publisher.publish_fully("secret/b", QoS::AtLeastOnce, "secret");
        members.iter_mut().for_each(Client::expect_silence);
    }
}

/// A will is judged when it is left, and again when it is published.
#[test]
fn wills_are_judged_twice() {
    let node = asking(2);
    let mut reader = connect_as(&node, Version::V5, "reader", "reader", false);
    reader.subscribe("#", QoS::AtMostOnce);
    let leave = |expected| {
        let mut client = node.accept();
        let connect = Connect { will: Some(will("wills/a", "gone")), ..Connect::new(Version::V5, "client") };
        client.send_connect(&connect);
        let asked = node.question().expect("asked about the client");
        node.answer(&asked, allow("staff", Permissions::Listed));
        assert_eq!(client.expect_connack().reason, expected);
        client
    };
    let mut client = leave(ReasonCode::SUCCESS);
    let list = || {
        AccessList::new([
            line(Subject::User("reader"), Action::Any, "#", true),
            line(Subject::Everybody, Action::Any, "only/%c", true),
        ])
    };
    node.access_list(Some(list()));
    client.drop_socket();
    reader.expect_silence();
    assert_eq!(node.dropped(DropReason::NoPermission), 1);
    leave(ReasonCode::NOT_AUTHORIZED);
    node.access_list(None);
    let mut client = leave(ReasonCode::SUCCESS);
    client.drop_socket();
    reader.expect_payload("gone");
}

/// Patterns put in the user's name and the client's id, also one that the broker chose, and follow a session
/// that is away.
#[test]
fn patterns_follow_the_client() {
    let node = asking(2);
    node.access_list(Some(AccessList::new([
        line(Subject::User("hub"), Action::Any, "#", true),
        line(Subject::Everybody, Action::Subscribe, "to/%u/%c/#", true),
        line(Subject::Everybody, Action::Publish, "from/%c", true),
    ])));
    let mut hub = connect_as(&node, Version::V5, "hub", "hub", false);
    hub.subscribe("from/#", QoS::AtMostOnce);
    let mut lamp = connect_as(&node, Version::V311, "ann", "lamp", true);
    lamp.subscribe("to/#", QoS::AtLeastOnce);
    lamp.publish("from/lamp", QoS::AtMostOnce, "mine");
    lamp.publish("from/other", QoS::AtMostOnce, "not mine");
    hub.expect_payload("mine");
    hub.expect_silence();
    for online in [true, false] {
        if !online {
            lamp.drop_socket();
        }
        for topic in ["to/ann/lamp", "to/ann/lamp/x", "to/bob/lamp", "to/ann/other"] {
            hub.publish_fully(topic, QoS::AtLeastOnce, topic);
        }
        if !online {
            lamp = connect_as(&node, Version::V311, "ann", "lamp", true);
        }
        assert_eq!(lamp.drain_payloads(), ["to/ann/lamp", "to/ann/lamp/x"]);
    }
    let mut client = node.accept();
    client.send_connect(&Connect::new(Version::V5, ""));
    let asked = node.question().expect("asked about the client");
    node.answer(&asked, allow("ann", Permissions::Listed));
    let connack = client.expect_connack();
    let id = connack.properties.assigned_client_id.expect("one is assigned").to_owned();
    client.publish(&format!("from/{id}"), QoS::AtMostOnce, "assigned");
    hub.expect_payload("assigned");
}

/// Names cannot smuggle wildcards or levels into patterns: whoever has such a name gets nothing from them.
#[test]
fn names_are_no_filters() {
    let node = asking(2);
    node.access_list(Some(AccessList::new([
        line(Subject::User("hub"), Action::Any, "#", true),
        line(Subject::Everybody, Action::Any, "home/%u/#", true),
        line(Subject::Everybody, Action::Any, "public/#", true),
    ])));
    let mut hub = connect_as(&node, Version::V5, "hub", "hub", false);
    for (number, user) in ["+", "#", "ann/x", "ann+", "$SYS"].into_iter().enumerate() {
        let mut client = connect_as(&node, Version::V5, user, &format!("client-{number}"), false);
        client.subscribe("#", QoS::AtMostOnce);
        client.subscribe("$SYS/#", QoS::AtMostOnce);
        for topic in ["home/ann/x/y", "home/ann", "home/annx", "public/a", "$SYS/a"] {
            hub.publish(topic, QoS::AtMostOnce, topic);
        }
        assert_eq!(client.drain_payloads(), Vec::<String>::new(), "{user}");
    }
    // A client id with a slash is common, and no pattern here puts it in.
    let mut client = connect_as(&node, Version::V5, "ann", "site/7", false);
    client.subscribe("#", QoS::AtMostOnce);
    hub.publish("home/ann/x/y", QoS::AtMostOnce, "hers");
    client.expect_payload("hers");
}

/// Rules of a client's own refuse a subscription that they leave nothing to receive, and judge the messages of
/// any other.
#[test]
fn own_rules_refuse_subscriptions() {
    let node = asking(2);
    let rule = |action, filter: &str, allow| Rule { action, filter: filter.into(), allow };
    let rules = Rules::new([
        rule(Action::Any, "mine/#", true),
        rule(Action::Any, "mine/not", false),
        rule(Action::Publish, "out", true),
    ]);
    let mut client = node.accept();
    client.send_connect(&Connect::new(Version::V5, "client"));
    let asked = node.question().expect("asked about the client");
    node.answer(&asked, allow("token", Permissions::Own(Arc::new(rules))));
    client.expect_connack();
    for (filter, expected) in
        [("mine/+", ReasonCode::SUCCESS), ("out", ReasonCode::NOT_AUTHORIZED), ("#", ReasonCode::SUCCESS)]
    {
        let packet_id = client.new_packet_id();
        client.send(&host::packets::subscribe_packet(Version::V5, packet_id, filter, QoS::AtMostOnce));
        let suback = client.expect_suback(packet_id);
        assert_eq!(suback.reasons.into_iter().collect::<Vec<_>>(), [expected], "{filter}");
    }
    client.unsubscribe("mine/+");
    for topic in ["mine/a", "mine/not", "out"] {
        client.publish(topic, QoS::AtMostOnce, topic);
    }
    assert_eq!(client.drain_payloads(), ["mine/a"]);
}

/// What a client has shown runs out: its connection ends in that moment, not before, with 0xA0 in 5.0, and its
/// session waits for it as usual. Timers do not outlive their connections.
#[test]
fn credentials_run_out() {
    for version in VERSIONS {
        let node = asking(2);
        let enter = || {
            let mut connect = Connect { clean_start: false, ..Connect::new(version, "client") };
            connect.properties.session_expiry = u32::MAX;
            let mut client = node.accept();
            client.send_connect(&connect);
            let asked = node.question().expect("asked about the client");
            let expires = Some(node.wall().after_seconds(60));
            let identity = Identity { expires, ..identity("user", Permissions::Listed) };
            node.answer(&asked, Verdict::Allow { identity, data: None });
            let present = client.expect_connack().session_present;
            (client, present)
        };
        let (mut client, _) = enter();
        node.advance(Duration::from_secs(59));
        client.ping();
        node.advance(Duration::from_secs(2));
        client.expect_ended(ReasonCode::MAXIMUM_CONNECT_TIME);
        assert_eq!(node.count(|core| core.counters().credentials_expired), 1);
        let (mut client, present) = enter();
        assert!(present || version != Version::V5);
        client.drop_socket();
        let (mut client, _) = enter();
        node.shift_wall_clock(-30_000);
        node.advance(Duration::from_secs(61));
        client.ping();
        node.advance(Duration::from_secs(30));
        client.expect_ended(ReasonCode::MAXIMUM_CONNECT_TIME);
        node.advance(Duration::from_secs(10));
        assert_eq!(node.timers(), 0);
    }
}

/// A certificate says who a client is: nobody is asked, what CONNECT says of the user counts for nothing, and the
/// access list goes by the certificate's; at home on any core, with authentication and without.
#[test]
fn certified_user() {
    for authentication in [Authentication::Ask, Authentication::Open] {
        for core in 0..3 {
            let node = Node::with(Config { cores: 3, authentication, ..Config::default() });
            node.access_list(Some(secret_list()));
            for (certified, claimed, hears) in [("chief", "nobody", true), ("nobody", "chief", false)] {
                let mut client = node.accept_on(core);
                client.certify(certified);
                client.send_connect(&Connect {
                    username: Some(claimed),
                    ..Connect::new(Version::V5, "client")
                });
                assert!(node.question().is_none());
                client.expect_connack();
                client.subscribe("secret/x", QoS::AtMostOnce);
                client.publish("secret/x", QoS::AtMostOnce, "heard");
                if hears {
                    client.expect_payload("heard");
                }
                client.expect_silence();
                client.drop_socket();
            }
            let mut client = node.accept_on(core);
            client.certify("chief");
            let mut connect = Connect::new(Version::V5, "client");
            connect.properties.authentication_method = Some("method");
            client.send_connect(&connect);
            assert_eq!(client.expect_refused().reason, ReasonCode::BAD_AUTHENTICATION_METHOD);
        }
    }
}

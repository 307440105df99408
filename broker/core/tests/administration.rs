//! What an operator finds and does: sessions, subscriptions and retained messages, and clients that go, are published
//! to and are subscribed for.

mod host;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use broker_core::limit::Limit;
use broker_core::sight::{
    Disconnect, Farewell, FindSessions, FindSubscriptions, Page, Place, Progress, Publish, Refusal,
    RetainedMessage, Said, Session, SessionDetails, Subscribe, Subscription, Unsubscribe, What,
};
use host::exchange::{lasting, options};
use host::packets::will;
use host::{Client, Node};
use mqtt::{Connect, PacketKind, QoS, ReasonCode, SubscriptionOptions, Version};
use std::time::Duration;

const TENANT: &str = "default";

fn sessions(node: &Node, core: u16, find: FindSessions) -> Page<Session> {
    match node.ask(core, What::Sessions(Box::new(find))) {
        Said::Sessions(page) => page,
        other => panic!("sessions, not {other:?}"),
    }
}

fn details(node: &Node, client: &str) -> Option<Box<SessionDetails>> {
    match node.ask(0, What::Session { tenant: TENANT.into(), client: client.into() }) {
        Said::Session(details) => details,
        other => panic!("a session, not {other:?}"),
    }
}

fn subscriptions(node: &Node, find: FindSubscriptions) -> Page<Subscription, Place> {
    match node.ask(0, What::Subscriptions(Box::new(find))) {
        Said::Subscriptions(page) => page,
        other => panic!("subscriptions, not {other:?}"),
    }
}

fn done(node: &Node, core: u16, what: What) -> Result<(), Refusal> {
    match node.ask(core, what) {
        Said::Done(done) => done,
        other => panic!("done or not, not {other:?}"),
    }
}

fn publish(topic: &str, qos: QoS, payload: &str) -> Publish {
    Publish {
        tenant: TENANT.into(),
        topic: topic.into(),
        qos,
        retain: false,
        payload: payload.into(),
        properties: Vec::new(),
        expiry_seconds: None,
    }
}

fn kick(client: &str, reason: ReasonCode, server_reference: Option<&str>) -> What {
    let farewell = Farewell { reason, server_reference: server_reference.map(Into::into) };
    What::Disconnect(Box::new(Disconnect { tenant: TENANT.into(), client: client.into(), farewell }))
}

/// A client whose session waits, gone.
fn away(node: &Node, client: &str, filter: &str) {
    let mut gone = node.connect_with(&lasting(Version::V5, client));
    gone.subscribe(filter, QoS::AtLeastOnce);
    gone.drop_socket();
}

/// Sessions are found by what is asked for, in pages of any size, each once, online or away.
#[test]
fn sessions_are_found() {
    let node = Node::new(1);
    let clients: Vec<_> = (0..7).map(|n| node.connect(Version::V311, &format!("here-{n}"))).collect();
    (0..3).for_each(|n| away(&node, &format!("gone-{n}"), "t"));
    for max in [1, 2, 3, 100] {
        let (mut names, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let page = sessions(&node, 0, FindSessions { from: place, max, ..FindSessions::default() });
            assert!(page.items.len() <= usize::from(max));
            names.extend(page.items.into_iter().map(|session| session.client));
            from = page.next;
        }
        names.sort();
        let all = (0..3).map(|n| format!("gone-{n}")).chain((0..7).map(|n| format!("here-{n}")));
        assert_eq!(
            names.iter().map(|name| &**name).collect::<Vec<_>>(),
            all.collect::<Vec<_>>(),
            "{max} a page"
        );
    }
    let count = |find: FindSessions| {
        let (mut count, mut from) = (0, Some(0));
        while let Some(place) = from {
            let page = sessions(&node, 0, FindSessions { from: place, max: 100, ..find.clone() });
            count += page.items.len();
            from = page.next;
        }
        count
    };
    assert_eq!(count(FindSessions { online: Some(true), ..Default::default() }), 7);
    assert_eq!(count(FindSessions { online: Some(false), ..Default::default() }), 3);
    assert_eq!(count(FindSessions { client_contains: Some("ne-1".into()), ..Default::default() }), 1);
    assert_eq!(count(FindSessions { tenant: Some("other".into()), ..Default::default() }), 0);
    assert_eq!(count(FindSessions { user: Some("nobody".into()), ..Default::default() }), 0);
    assert_eq!(count(FindSessions { user: Some("".into()), ..Default::default() }), 10);
    drop(clients);
}

/// A session is told with its connection, its will and its queue; or when it went.
#[test]
fn a_session_is_described() {
    let node = Node::new(1);
    let mut connect = lasting(Version::V5, "a");
    connect.will = Some(will("w", "gone"));
    connect.keep_alive = 60;
    let mut client = node.connect_with(&connect);
    client.subscribe("t", QoS::AtLeastOnce);
    let said = details(&node, "a").expect("it is there");
    let online = said.session.online.expect("it is online");
    assert_eq!((online.version, online.keep_alive_ms, online.unsent_bytes), (Version::V5, 90_000, 0));
    let will = said.will.as_ref().expect("it has one");
    assert_eq!((&*will.topic, will.payload_bytes, will.qos), ("w", 4, QoS::AtMostOnce));
    assert_eq!((said.session.subscriptions, said.session.away), (1, None));
    assert_eq!(said.queue_messages_max, Settings::default().queue_messages_max);
    client.disconnect(ReasonCode::SUCCESS);
    node.connect(Version::V311, "p").publish_fully("t", QoS::AtLeastOnce, "x");
    let said = details(&node, "a").expect("it waits");
    let away = said.session.away.expect("it is away");
    assert_eq!((away.since, away.expires), (node.wall(), Some(node.wall().after_seconds(3600))));
    assert_eq!((said.session.queued_messages, said.session.queued_bytes, said.will), (1, 2, None));
    assert_eq!(details(&node, "b"), None);
}

/// Subscriptions are found by tenant, client and filter, in pages of any size that may end within a session.
#[test]
fn subscriptions_are_found() {
    let node = Node::new(1);
    let mut clients: Vec<Client> = (0..3).map(|n| node.connect(Version::V5, &format!("c{n}"))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        for filter in 0..5 {
            client.subscribe(&format!("{number}/{filter}/#"), QoS::AtLeastOnce);
        }
    }
    for max in [1, 2, 4, 5, 6, 100] {
        let (mut filters, mut from) = (Vec::new(), Some(Place::default()));
        while let Some(place) = from {
            let page = subscriptions(&node, FindSubscriptions { from: place, max, ..Default::default() });
            assert!(page.items.len() <= usize::from(max));
            filters.extend(page.items.into_iter().map(|item| item.filter));
            from = page.next;
        }
        filters.sort();
        let all: Vec<_> = (0..15).map(|n| format!("{}/{}/#", n / 5, n % 5).into_boxed_str()).collect();
        assert_eq!(filters, all, "{max} a page");
    }
    let find = |find: FindSubscriptions| subscriptions(&node, FindSubscriptions { max: 100, ..find }).items;
    let (tenant, client) = (Some(TENANT.into()), Some("c1".into()));
    assert_eq!(find(FindSubscriptions { tenant, client: client.clone(), ..Default::default() }).len(), 5);
    assert_eq!(find(FindSubscriptions { client, ..Default::default() }).len(), 5);
    let found = find(FindSubscriptions { filter_contains: Some("2/3".into()), ..Default::default() });
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].client, found[0].options.qos()), ("c2", QoS::AtLeastOnce));
}

fn retained(node: &Node, core: u16, filter: &str) -> Vec<RetainedMessage> {
    let (mut all, mut after, mut more) = (Vec::new(), None, true);
    while more {
        let what = What::Retained { tenant: TENANT.into(), filter: filter.into(), after };
        let Said::Retained(page) = node.ask(core, what) else { panic!("retained messages") };
        all.extend(page.items);
        (more, after) = (page.next.is_some(), page.next);
    }
    all
}

/// Retained messages are listed page by page and cleared, by filter, and nobody is sent anything for it.
#[test]
fn retained_messages_are_listed_and_cleared() {
    let node = Node::new(2);
    let mut client = node.connect(Version::V5, "a");
    for number in 0..300 {
        client.retain(&format!("t/{number}"), QoS::AtMostOnce, "kept");
    }
    client.retain("u", QoS::AtMostOnce, "stays");
    client.subscribe("#", QoS::AtMostOnce);
    client.drain();
    let count = |filter: &str| retained(&node, 0, filter).len() + retained(&node, 1, filter).len();
    assert_eq!((count("#"), count("t/+"), count("t/7"), count("v")), (301, 300, 1, 0));
    let mut cleared = 0;
    for core in [0, 1] {
        let mut after = None;
        loop {
            let what = What::ClearRetained { tenant: TENANT.into(), filter: "t/#".into(), after };
            let Said::Cleared(Progress { count, next }) = node.ask(core, what) else { panic!("cleared") };
            assert!(count <= 64);
            cleared += count;
            after = next;
            if after.is_none() {
                break;
            }
        }
    }
    assert_eq!((cleared, count("#")), (300, 1));
    client.expect_silence();
    assert_eq!(
        &retained(&node, 0, "u").first().or(retained(&node, 1, "u").first()).expect("u").payload[..],
        b"stays"
    );
}

/// A client is told why it goes and where to; its session stays if it was to stay.
#[test]
fn clients_are_disconnected() {
    let node = Node::new(1);
    let mut five = node.connect(Version::V5, "five");
    let mut three = node.connect(Version::V311, "three");
    let mut lasts = node.connect_with(&lasting(Version::V5, "lasts"));
    assert_eq!(done(&node, 0, kick("five", ReasonCode::USE_ANOTHER_SERVER, Some("there:1883"))), Ok(()));
    let disconnect = five.expect_disconnect();
    assert_eq!(
        (disconnect.reason, disconnect.server_reference),
        (ReasonCode::USE_ANOTHER_SERVER, Some("there:1883"))
    );
    assert_eq!(done(&node, 0, kick("three", ReasonCode::ADMINISTRATIVE_ACTION, None)), Ok(()));
    three.expect_closed();
    assert_eq!(done(&node, 0, kick("lasts", ReasonCode::ADMINISTRATIVE_ACTION, None)), Ok(()));
    assert_eq!(lasts.expect_disconnect().reason, ReasonCode::ADMINISTRATIVE_ACTION);
    assert_eq!(done(&node, 0, kick("lasts", ReasonCode::ADMINISTRATIVE_ACTION, None)), Err(Refusal::Away));
    assert_eq!(
        done(&node, 0, kick("five", ReasonCode::ADMINISTRATIVE_ACTION, None)),
        Err(Refusal::NoSession)
    );
}

/// All clients of a tenant are disconnected in parts, sessions that are away are ended in parts: no turn has more
/// than 64 of either.
#[test]
fn many_go_in_parts() {
    let node = Node::new(1);
    let mut clients: Vec<_> =
        (0..200).map(|n| node.connect_with(&lasting(Version::V5, &format!("c{n}")))).collect();
    let parts = |ask: &dyn Fn(u32) -> What| -> Vec<u32> {
        let (mut counts, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let Said::Counted(Progress { count, next }) = node.ask(0, ask(place)) else { panic!("counted") };
            counts.push(count);
            from = next;
        }
        counts
    };
    let farewell = Farewell { reason: ReasonCode::ADMINISTRATIVE_ACTION, server_reference: None };
    let leave = |from| What::DisconnectAll {
        tenant: TENANT.into(),
        user: Some("".into()),
        farewell: farewell.clone(),
        from,
    };
    let counts = parts(&leave);
    assert_eq!((counts.iter().sum::<u32>(), counts.iter().all(|count| *count <= 64)), (200, true));
    for client in &mut clients {
        client.expect_disconnect();
    }
    node.advance(Duration::from_secs(10));
    let expire =
        |away_seconds| move |from| What::ExpireSessions { tenant: TENANT.into(), away_seconds, from };
    assert_eq!(parts(&expire(11)).iter().sum::<u32>(), 0, "not for so long");
    let counts = parts(&expire(10));
    assert_eq!((counts.iter().sum::<u32>(), counts.iter().all(|count| *count <= 64)), (200, true));
    assert_eq!(node.sessions(), 0);
}

/// A message is published for the operator as for a client, to any core; a tenant's settings hold for it, too.
#[test]
fn messages_are_published() {
    let node = Node::new(2);
    let mut client = node.connect(Version::V5, "a");
    client.subscribe("t", QoS::AtLeastOnce);
    for core in [0, 1] {
        assert_eq!(
            done(&node, core, What::Publish(Box::new(publish("t", QoS::AtLeastOnce, "hello")))),
            Ok(())
        );
        let message = client.expect_payload("hello");
        assert_eq!((message.qos, message.retain), (QoS::AtLeastOnce, false));
        client.acknowledge(&message);
    }
    let kept = Publish { retain: true, ..publish("kept", QoS::AtMostOnce, "x") };
    assert_eq!(done(&node, 0, What::Publish(Box::new(kept.clone()))), Ok(()));
    client.subscribe("kept", QoS::AtMostOnce);
    assert!(client.expect_payload("x").retain);
    let stranger = Publish { tenant: "stranger".into(), ..kept.clone() };
    assert_eq!(done(&node, 0, What::Publish(Box::new(stranger))), Err(Refusal::NoTenant));
    let node = Node::of_settings(Settings { retain: false, packet_bytes_max: 128, ..Settings::default() });
    assert_eq!(done(&node, 0, What::Publish(Box::new(kept))), Err(Refusal::Limit(Limit::Retain)));
    let large = What::Publish(Box::new(publish("t", QoS::AtMostOnce, &"x".repeat(200))));
    assert_eq!(done(&node, 0, large), Err(Refusal::Limit(Limit::PacketBytes)));
    assert_eq!(node.dropped(DropReason::RetainFull), 0);
}

fn subscribe(filter: &str, options: SubscriptionOptions) -> What {
    let (tenant, client) = (TENANT.into(), "a".into());
    let subscription_id = None;
    What::Subscribe(Box::new(Subscribe { tenant, client, filter: filter.into(), options, subscription_id }))
}

fn unsubscribe(filter: &str) -> What {
    let (tenant, client) = (TENANT.into(), "a".into());
    What::Unsubscribe(Box::new(Unsubscribe { tenant, client, filter: filter.into() }))
}

/// Who is subscribed for gets what is published after the answer, whatever core its route is on, what is retained,
/// and no SUBACK; and nothing any more after the answer to the opposite.
#[test]
fn clients_are_subscribed_for() {
    for connect in [Connect::new(Version::V5, "a"), lasting(Version::V311, "a")] {
        let node = Node::new(4);
        let mut client = node.connect_with(&connect);
        let home = client.core();
        let mut publisher = node.connect(Version::V311, "p");
        publisher.retain("t/0", QoS::AtLeastOnce, "kept");
        assert_eq!(done(&node, home, subscribe("t/+", options(QoS::AtLeastOnce))), Ok(()));
        let message = client.expect_payload("kept");
        client.acknowledge(&message);
        publisher.publish_fully("t/1", QoS::AtLeastOnce, "new");
        let message = client.expect_payload("new");
        client.acknowledge(&message);
        assert_eq!(done(&node, home, unsubscribe("t/+")), Ok(()));
        publisher.publish_fully("t/1", QoS::AtLeastOnce, "more");
        client.expect_silence();
        let none = Refusal::Reason(ReasonCode::NO_SUBSCRIPTION_EXISTED);
        assert_eq!(done(&node, home, unsubscribe("t/+")), Err(none));
        let invalid = Refusal::Reason(ReasonCode::TOPIC_FILTER_INVALID);
        assert_eq!(done(&node, home, subscribe("t#", options(QoS::AtMostOnce))), Err(invalid));
        client.drop_socket();
        let refusal = done(&node, home, subscribe("t", options(QoS::AtMostOnce))).unwrap_err();
        assert_eq!(refusal, if connect.clean_start { Refusal::NoSession } else { Refusal::Away });
    }
}

/// A setting that refuses the client a subscription refuses it to those who ask in its place.
#[test]
fn limits_hold_for_those_who_are_subscribed_for() {
    let node = Node::of_settings(Settings { subscriptions_max: 1, ..Settings::default() });
    let _client = node.connect(Version::V5, "a");
    assert_eq!(done(&node, 0, subscribe("t", options(QoS::AtMostOnce))), Ok(()));
    let more = done(&node, 0, subscribe("u", options(QoS::AtMostOnce)));
    assert_eq!(more, Err(Refusal::Limit(Limit::Subscriptions)));
}

/// Whoever asks for a client that goes before its route stands is answered, too.
#[test]
fn a_client_that_goes_is_answered_for() {
    let node = Node::new(2);
    let mut client = node.connect_at(0, Version::V5, "a");
    let id = client.client_id.clone();
    for filter in 0..8 {
        node.hold_mail(1, 0);
        let what = Subscribe {
            tenant: TENANT.into(),
            client: id.as_str().into(),
            filter: format!("{filter}/x").into(),
            options: options(QoS::AtMostOnce),
            subscription_id: None,
        };
        match node.begin_to_ask(0, What::Subscribe(Box::new(what))) {
            Ok(said) => assert_eq!(said, Said::Done(Ok(()))),
            Err(number) => {
                client.drop_socket();
                assert_eq!(node.answer_to(number), Some(Said::Done(Err(Refusal::Gone))));
                return;
            }
        }
    }
    panic!("one of eight filters has its route on the other core");
}

/// Below `$SYS` nobody but the broker publishes, not even a will, except the states of bridges: as in Mosquitto.
#[test]
fn clients_do_not_publish_below_sys() {
    let node = Node::new(1);
    let mut watcher = node.subscriber("$SYS/#", QoS::AtLeastOnce);
    let mut client = node.connect(Version::V5, "a");
    let id = client.publish("$SYS/broker/version", QoS::AtLeastOnce, "mine");
    assert_eq!(client.expect_ack(PacketKind::PubAck, id).reason, ReasonCode::NOT_AUTHORIZED);
    client.publish("$SYS/broker/version", QoS::AtMostOnce, "mine");
    watcher.expect_silence();
    assert_eq!(node.dropped(DropReason::NoPermission), 2);
    let mut connect = Connect::new(Version::V5, "b");
    connect.will = Some(will("$SYS/x", "mine"));
    let mut refused = node.accept();
    refused.send_connect(&connect);
    assert_eq!(refused.expect_refused().reason, ReasonCode::NOT_AUTHORIZED);
    client.publish_fully("$SYS/broker/connection/bridge/state", QoS::AtLeastOnce, "1");
    watcher.expect_payload("1");
    assert_eq!(done(&node, 0, What::Publish(Box::new(publish("$SYS/x", QoS::AtMostOnce, "ours")))), Ok(()));
    let packets = watcher.packets();
    assert_eq!(packets.len(), 1, "{packets:?}");
}

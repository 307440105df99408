//! Settings of tenants and listeners, and what becomes of them when they change while clients are there.

mod host;

use std::sync::Arc;

use broker_core::config::{Config, Listener, Settings, Value};
use broker_core::counters::DropReason;
use host::{Client, Node, VERSIONS};
use mqtt::{Connect, QoS, ReasonCode, Version};

fn of_user<'a>(version: Version, client_id: &'a str, username: &'a str) -> Connect<'a> {
    Connect { username: Some(username), ..Connect::new(version, client_id) }
}

fn settings(receive_maximum: u16) -> Arc<Settings> {
    Arc::new(Settings { receive_maximum, ..Settings::default() })
}

/// The Receive Maximum that a client is told.
fn told(mut client: Client, client_id: &str) -> u16 {
    client.send_connect(&Connect::new(Version::V5, client_id));
    client.expect_connack().properties.receive_maximum
}

/// `tenant_from_username`: the part before the first slash is the tenant, which has its own topics and clients;
/// a tenant that is not configured is refused like a wrong user name, in each version.
#[test]
fn tenant_from_the_username() {
    let listener = Listener { tenant_from_username: true, ..Listener::default() };
    for version in VERSIONS {
        let node = Node::with(Config {
            cores: 2,
            listeners: vec![listener.clone()],
            tenants: [("a".to_owned(), settings(7)), ("b".to_owned(), settings(8))].into(),
            ..Config::default()
        });
        let mut one = node.connect_with(&of_user(version, "client", "a/user"));
        one.subscribe("#", QoS::AtMostOnce);
        let mut other = node.connect_with(&of_user(version, "client", "b/user"));
        other.publish("t", QoS::AtMostOnce, "x");
        one.expect_silence();
        node.connect_with(&of_user(version, "another", "a/else")).publish("t", QoS::AtMostOnce, "y");
        one.expect_payload("y");
        let mut stranger = node.accept();
        stranger.send_connect(&of_user(version, "client", "c/user"));
        assert_eq!(stranger.expect_refused().reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    }
}

/// A listener's tenant and settings are those of its clients, on whatever core they are at home.
#[test]
fn listeners_have_tenants_and_settings() {
    let fixed = Listener { tenant: Some(Arc::from("a")), ..Listener::default() };
    let own = [("receive_maximum", Value::Number(9))];
    let node = Node::with(Config {
        cores: 3,
        listeners: vec![Listener::default(), fixed.clone(), Listener { settings: own.into(), ..fixed }],
        tenants: [("a".to_owned(), settings(7))].into(),
        ..Config::default()
    });
    for (listener, expected) in [(0, 1024), (1, 7), (2, 9)] {
        for number in 0..6 {
            assert_eq!(told(node.accept_from(listener), &format!("client-{number}")), expected);
        }
    }
}

/// A client that is online keeps what it was told, and what depends on it: under a smaller Receive Maximum it
/// would be closed for what it was allowed. The next CONNECT has the new settings.
#[test]
fn greeted_clients_keep_their_settings() {
    let node = Node::with(Config { cores: 2, settings: settings(100), ..Config::default() });
    let mut client = node.connect(Version::V5, "client");
    node.configure(Config {
        cores: 2,
        settings: Arc::new(Settings {
            retain: false,
            packet_bytes_max: 128,
            ..Settings::clone(&settings(1))
        }),
        ..Config::default()
    });
    client.publish_fully("a", QoS::AtLeastOnce, &"x".repeat(1000));
    client.ping();
    assert_eq!(told(node.accept(), "client"), 1);
    client.expect_ended(ReasonCode::SESSION_TAKEN_OVER);
}

/// What is of the tenant and not of a connection takes effect at once: a session's queue has the new bound.
#[test]
fn queues_take_new_bounds_at_once() {
    let bounded = |queue_messages_max| Config {
        settings: Arc::new(Settings { queue_messages_max, ..Settings::default() }),
        ..Config::default()
    };
    let node = Node::with(bounded(5));
    let mut connect = Connect::new(Version::V311, "away");
    connect.clean_start = false;
    let mut away = node.connect_with(&connect);
    away.subscribe("a", QoS::AtLeastOnce);
    away.drop_socket();
    let mut publisher = node.connect(Version::V311, "publisher");
    for (max, dropped) in [(5, 3), (9, 7), (2, 15)] {
        node.configure(bounded(max));
        for _ in 0..8 {
            publisher.publish_fully("a", QoS::AtLeastOnce, "x");
        }
        assert_eq!(node.dropped(DropReason::QueueFull), dropped, "after {max}");
    }
}

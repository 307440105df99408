//! Who is kept out: by id, user or address, until a time; and who comes too often.

mod host;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{Identity, Verdict};
use broker_core::bans::{Ban, Target};
use broker_core::config::{Config, Listener, Settings};
use broker_core::input::Input;
use broker_core::limit::Limit;
use host::asking::{asking, identity};
use host::{Client, Node, VERSIONS};
use mqtt::{Connect, ReasonCode, Version};

fn client(id: &str) -> Target {
    Target::Client { tenant: None, client: id.into() }
}

fn ban(node: &Node, target: &Target, seconds: Option<u32>) {
    let until = seconds.map(|seconds| node.wall().after_seconds(seconds));
    let ban = Ban { target: target.clone(), until, reason: "test".into() };
    node.tell_all(|| Input::Ban(ban.clone()));
}

fn refused(node: &Node, version: Version, id: &str) {
    let mut client = node.accept();
    client.send_connect(&Connect::new(version, id));
    let connack = client.expect_refused();
    match version {
        Version::V5 => assert_eq!(connack.reason, ReasonCode::BANNED),
        _ => assert_eq!(mqtt::connect_return_code(connack.reason), 5),
    }
}

/// A banned client is disconnected, and refused until the ban ends or is taken back, wherever it is at home.
#[test]
fn banned_clients() {
    for version in VERSIONS {
        let node = Node::new(3);
        let mut clients: Vec<_> = (0..8).map(|id| node.connect(version, &format!("c{id}"))).collect();
        ban(&node, &client("c3"), Some(60));
        for (id, client) in clients.iter_mut().enumerate() {
            if id == 3 {
                client.expect_ended(ReasonCode::ADMINISTRATIVE_ACTION);
            } else {
                client.ping();
            }
        }
        refused(&node, version, "c3");
        node.advance(Duration::from_secs(60));
        node.connect(version, "c3").ping();
        ban(&node, &client("c4"), None);
        refused(&node, version, "c4");
        node.tell_all(|| Input::Unban(client("c4")));
        node.connect(version, "c4").ping();
        assert_eq!(node.count(|core| core.counters().clients_banned), 4);
    }
}

/// The same for an address, also for one that only a proxy knows.
#[test]
fn banned_addresses() {
    let node = Node::new(1);
    let relayed = |address: &'static str| {
        let client = node.accept();
        let peer = Some(address.parse().expect("an address"));
        client.tell(|connection| Input::ClientRelayed { connection, peer });
        client
    };
    let mut online = relayed("192.0.2.7:1");
    online.greet(&Connect::new(Version::V5, "online"));
    ban(&node, &Target::Address("192.0.2.0/24".parse().expect("a network")), None);
    online.expect_ended(ReasonCode::ADMINISTRATIVE_ACTION);
    let mut again = relayed("192.0.2.8:1");
    again.send_connect(&Connect::new(Version::V5, "again"));
    assert_eq!(again.expect_refused().reason, ReasonCode::BANNED);
    relayed("192.0.3.8:1").greet(&Connect::new(Version::V5, "other"));
    node.connect(Version::V5, "nowhere").ping();
}

/// More clients than one turn looks at are all looked at.
#[test]
fn banned_among_many() {
    let node = Node::new(1);
    let mut clients: Vec<_> = (0..9000).map(|id| node.connect(Version::V5, &format!("c{id}"))).collect();
    ban(&node, &client("c8999"), None);
    clients[8999].expect_ended(ReasonCode::ADMINISTRATIVE_ACTION);
    assert_eq!(node.connections(), 8999);
}

/// There are no more bans than the configuration has room for, and what bites is counted by its name.
#[test]
fn bans_are_bounded() {
    let node = Node::with(Config { bans_max: 1, ..Config::default() });
    ban(&node, &client("a"), None);
    ban(&node, &client("b"), None);
    refused(&node, Version::V5, "a");
    node.connect(Version::V5, "b").ping();
    assert_eq!(node.count(|core| core.counters().limited(Limit::Bans)), 1);
    assert_eq!(node.count(|core| core.bans().count() as u64), 1);
}

/// Who comes too often within the window is kept out for its time; another is not, nor the same after it.
#[test]
fn flapping_clients() {
    let settings = Settings {
        flapping_connects_max: 3,
        flapping_window_seconds: 10,
        flapping_ban_seconds: 60,
        ..Settings::default()
    };
    let node = Node::of_settings_and_cores(settings, 2);
    for _ in 0..3 {
        node.connect(Version::V5, "flap").disconnect(ReasonCode::SUCCESS);
    }
    refused(&node, Version::V5, "flap");
    node.connect(Version::V5, "other").ping();
    node.advance(Duration::from_secs(59));
    refused(&node, Version::V5, "flap");
    node.advance(Duration::from_secs(1));
    node.connect(Version::V5, "flap").ping();
    assert_eq!(node.count(|core| core.counters().limited(Limit::FlappingConnects)), 1);
    assert_eq!(node.count(|core| core.counters().clients_banned), 1);
}

/// A client that is let in with this name and identity.
fn let_in(node: &Node, id: &str, user: &str, listed: bool) -> Client {
    let mut client = node.accept();
    client.send_connect(&Connect { username: Some(user), ..Connect::new(Version::V5, id) });
    let question = node.question().expect("a question");
    let identity = Identity { user: user.into(), listed, ..identity() };
    node.answer(&question, Verdict::Allow { identity, data: None });
    assert_eq!(client.expect_connack().reason, ReasonCode::SUCCESS);
    client
}

/// A user who is taken out of the list that let him in is disconnected; one of the same name who came otherwise, and
/// one who is banned in another tenant, are not.
#[test]
fn users_who_are_gone() {
    let node = asking(2);
    let (mut ann, mut bob) = (let_in(&node, "1", "ann", true), let_in(&node, "2", "bob", true));
    let mut token = let_in(&node, "3", "ann", false);
    let gone = Arc::new(BTreeSet::from([Arc::from("ann"), Arc::from("default/bob")]));
    node.tell_all(|| Input::UsersGone(Arc::clone(&gone)));
    ann.expect_ended(ReasonCode::NOT_AUTHORIZED);
    bob.ping();
    token.ping();
    let other = Target::User { tenant: Some("other".into()), user: "bob".into() };
    ban(&node, &other, None);
    bob.ping();
    ban(&node, &Target::User { tenant: Some("default".into()), user: "bob".into() }, None);
    bob.expect_ended(ReasonCode::ADMINISTRATIVE_ACTION);
}

/// A name with its tenant in front is the same user where the listener reads it so.
#[test]
fn users_of_tenants_who_are_gone() {
    let listener = Listener { tenant_from_username: true, ..Listener::default() };
    let config = Config {
        listeners: vec![listener],
        authentication: broker_core::config::Authentication::Ask,
        ..Config::default()
    };
    let node = Node::with(config);
    let mut bob = let_in(&node, "1", "bob", true);
    let gone = Arc::new(BTreeSet::from([Arc::from("default/bob")]));
    node.tell_all(|| Input::UsersGone(Arc::clone(&gone)));
    bob.expect_ended(ReasonCode::NOT_AUTHORIZED);
}

//! The orderly stop: clients are told, at a bounded rate, and nobody new is let in.

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::config::{Authentication, Config, Settings};
use broker_core::counters::DropReason;
use host::packets::{connect_packet, will};
use host::{Node, VERSIONS};
use mqtt::{Connect, QoS, ReasonCode, Version};

/// 4.11 and 3.14.2.1: 5.0 clients are told 0x8B, those of 3.x are closed; durable sessions stay.
#[test]
fn clients_are_told() {
    let node = Node::new(3);
    let mut clients: Vec<_> = (0..30)
        .map(|number| {
            let id = format!("client-{number}");
            let version = VERSIONS[number % 3];
            let mut connect = Connect { clean_start: number % 2 == 0, ..Connect::new(version, &id) };
            connect.properties.session_expiry = if number % 2 == 0 { 0 } else { 100 };
            node.connect_with(&connect)
        })
        .collect();
    assert!(!node.is_stopped());
    node.stop();
    for client in &mut clients {
        client.expect_ended(ReasonCode::SERVER_SHUTTING_DOWN);
    }
    assert!(node.is_stopped());
    assert_eq!((node.connections(), node.sessions()), (0, 15));
}

/// `stop_disconnects_per_second` bounds how many are told in any second, on each core.
#[test]
fn rate_is_bounded() {
    let node = Node::with(Config { stop_disconnects_per_second: 50, ..Config::default() });
    let clients: Vec<_> =
        (0..120).map(|number| node.connect(Version::V5, &format!("client-{number}"))).collect();
    let mut closed = vec![0];
    node.stop();
    for _ in 0..40 {
        closed.push(clients.iter().filter(|client| client.is_closed()).count());
        node.advance(Duration::from_millis(100));
    }
    assert!(closed.windows(2).all(|step| step[1] - step[0] <= 10), "{closed:?}");
    assert!(closed.windows(11).all(|second| second[10] - second[0] <= 55), "{closed:?}");
    let done = closed.iter().position(|closed| *closed == 120).expect("all are told");
    assert!((24..=36).contains(&done), "{done} steps");
    assert!(node.is_stopped());
}

/// Those who come during the stop are closed; those who wait for an answer get a CONNACK in their version; those
/// who have not said what they speak are told nothing; those who were told something else are not told twice.
#[test]
fn clients_in_other_phases() {
    let config = Config { authentication: Authentication::Ask, ..Config::default() };
    let node = Node::with(config);
    let mut silent = node.accept();
    let mut partial = node.accept();
    partial.send(&connect_packet(&Connect::new(Version::V5, "client"))[..12]);
    let mut waiting: Vec<_> = VERSIONS
        .map(|version| {
            let mut client = node.accept();
            client.send_connect(&Connect::new(version, "client"));
            client
        })
        .into();
    let mut refused = node.accept();
    refused.hold_open();
    refused.send(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 3, 0, 0, 0, 0, 0]);
    refused.version = Version::V5;
    assert_eq!(refused.expect_connack().reason, ReasonCode::MALFORMED_PACKET);
    node.stop();
    silent.expect_closed();
    partial.expect_closed();
    for client in &mut waiting {
        // [MQTT-3.2.2-8]: 0x8B is none of CONNACK's.
        assert_eq!(client.expect_refused().reason, ReasonCode::SERVER_UNAVAILABLE);
    }
    refused.expect_nothing();
    let mut late = node.accept();
    late.expect_closed();
    node.advance(Duration::from_secs(3));
    assert!(node.is_stopped());
}

/// `tenant.stop_publishes_wills`: by default the wills of those whom the stop closes are dropped, and counted.
#[test]
fn wills_by_setting() {
    for publishes in [false, true] {
        let settings = Settings { stop_publishes_wills: publishes, ..Settings::default() };
        let node = Node::with(Config {
            settings: Arc::new(settings),
            stop_disconnects_per_second: 10,
            ..Config::default()
        });
        let mut connect = Connect { will: Some(will("will", "gone")), ..Connect::new(Version::V5, "client") };
        let client = node.connect_with(&connect);
        connect.client_id = "another";
        node.connect_with(&connect).disconnect(ReasonCode::SUCCESS);
        let mut watcher = node.subscriber("will", QoS::AtMostOnce);
        node.stop();
        node.advance(Duration::from_secs(1));
        assert!(client.is_closed());
        if publishes {
            watcher.expect_payload("gone");
        }
        watcher.expect_ended(ReasonCode::SERVER_SHUTTING_DOWN);
        assert_eq!(node.dropped(DropReason::Stopping), u64::from(!publishes));
    }
}

/// A client that the stop tells at the very moment at which its keep alive would be looked at hears it: the end
/// of its lingering is another timer.
#[test]
fn told_in_the_tick_of_another_timer() {
    let config = Config { stop_disconnects_per_second: 10, ..Config::default() };
    for offset in 0..200 {
        let node = Node::with(config.clone());
        node.connect(Version::V5, "first");
        let mut client = node.connect_with(&Connect { keep_alive: 1, ..Connect::new(Version::V5, "second") });
        client.reads(false);
        node.advance(Duration::from_millis(40));
        client.send(&[0xC0, 0]); // its timer is armed again after 1.5 s, for 40 ms
        node.advance(Duration::from_millis(1300 + offset));
        node.stop();
        node.advance(Duration::from_millis(600));
        assert!(!client.is_closed(), "{offset}: it may still read");
        client.reads(true);
        let packets = client.packets();
        assert!(matches!(packets[..], [mqtt::Packet::PingResp, mqtt::Packet::Disconnect(_)]), "{packets:?}");
    }
}

/// A stopping node hands nobody over and takes nobody over: what is under way between two cores is refused.
#[test]
fn hand_over_during_the_stop() {
    let tenant = Arc::from("default");
    let config = Config { cores: 2, authentication: Authentication::Ask, ..Config::default() };
    for number in 0..10 {
        let node = Node::with(config.clone());
        let mut client = node.accept_on(0);
        client.send_connect(&Connect::new(Version::V5, &format!("client-{number}")));
        let asked = node.question().expect("a question");
        node.stop();
        assert_eq!(client.expect_refused().reason, ReasonCode::SERVER_UNAVAILABLE);
        let identity = broker_core::access::Identity {
            tenant: Arc::clone(&tenant),
            user: Arc::from(""),
            response_information: None,
            expires: None,
            listed: false,
            permissions: broker_core::access::Permissions::All,
        };
        node.answer(&asked, broker_core::access::Verdict::Allow { identity, data: None });
        client.expect_closed();
        assert!(node.is_stopped());
    }
}

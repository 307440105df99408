//! Limits around CONNECT: what a stranger may cost, how many may come, and what a client takes itself.

mod host;

use std::time::Duration;

use broker_core::config::{Config, Settings};
use broker_core::limit::Limit;
use host::Node;
use host::packets::{connect_packet, subscribe_packet};
use mqtt::{Connect, ConnectProperties, QoS, ReasonCode, Version};

fn v5(client_id: &str) -> Connect<'_> {
    Connect::new(Version::V5, client_id)
}

/// `inflight_max` does.
#[test]
fn receive_maximum_of_the_client() {
    let settings = Settings { inflight_max: 4, ..Settings::default() };
    for (version, receive_maximum, expected) in
        [(Version::V5, 3, 3), (Version::V5, u16::MAX, 4), (Version::V311, 0, 4), (Version::V31, 0, 4)]
    {
        let node = Node::of_settings(settings.clone());
        let mut publisher = node.connect(Version::V311, "publisher");
        let mut connect = Connect::new(version, "client");
        connect.properties.receive_maximum = receive_maximum;
        let mut client = node.connect_with(&connect);
        client.subscribe("a", QoS::AtLeastOnce);
        for _ in 0..10 {
            publisher.publish_fully("a", QoS::AtLeastOnce, "");
        }
        assert_eq!(client.packets().len(), expected, "{version:?}");
    }
}

/// its CONNACK is refused in one that fits, or without a word; one too small for another answer is told 0x95.
#[test]
fn maximum_packet_size_of_the_client() {
    let connect = |bytes| Connect {
        properties: ConnectProperties { maximum_packet_size: Some(bytes), ..ConnectProperties::default() },
        ..v5("")
    };
    for bytes in 1..200 {
        let mut client = Node::new(1).accept();
        client.send_connect(&connect(bytes));
        let received = client.take_bytes();
        assert!(received.len() <= bytes as usize, "{bytes}: {received:x?}");
        match received.get(3) {
            Some(0) => {
                client.version = Version::V5;
                client.ping();
            }
            Some(0x95) => assert!(bytes >= 5 && client.is_closed()),
            None => assert!(bytes < 5 && client.is_closed()),
            Some(other) => panic!("{other:x}"),
        }
    }
    let node =
        Node::of_settings(Settings { receive_maximum: u16::MAX, topic_alias_max: 0, ..Settings::default() });
    let mut client = node.accept();
    client.greet(&Connect { client_id: "client", ..connect(6) });
    client.send(&subscribe_packet(Version::V5, 1, "a", QoS::AtMostOnce));
    client.expect_suback(1);
    let filters = [0x82, 11, 0, 2, 0, 0, 1, b'a', 0, 0, 1, b'b', 0];
    client.send(&filters);
    client.expect_ended(ReasonCode::PACKET_TOO_LARGE);
}

/// `connect_timeout_ms`: a socket without a complete CONNECT is closed then, not before, and not after.
#[test]
fn connect_in_time() {
    let config = || Config { connect_timeout_ms: 5000, ..Config::default() };
    let packet = connect_packet(&v5("client"));
    for sent in [0, 1, packet.len() - 1] {
        let node = Node::with(config());
        let mut client = node.accept();
        client.send(&packet[..sent]);
        node.advance(Duration::from_millis(4999));
        client.expect_silence();
        node.advance(Duration::from_millis(40));
        client.expect_closed();
        assert_eq!(node.count(|core| core.counters().connect_timeouts), 1);
        assert_eq!(node.connections(), 0);
    }
    let node = Node::with(config());
    let mut client = node.accept();
    node.advance(Duration::from_millis(4999));
    client.greet(&v5("client"));
    node.advance(Duration::from_secs(1000));
    client.expect_silence();
}

/// `connections_max` bounds each core's connections, those that other cores hand over included.
#[test]
fn connections_are_bounded() {
    let probe = Node::new(2);
    let mut names: Vec<String> = (0..40).map(|number| format!("client-{number}")).collect();
    names.retain(|name| probe.connect(Version::V5, name).core() == 0);
    let node = Node::with(Config { cores: 2, connections_max: 3, ..Config::default() });
    let mut clients = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let mut client = node.accept_on(1);
        client.send_connect(&v5(name));
        let expected = if number < 3 { ReasonCode::SUCCESS } else { ReasonCode::SERVER_BUSY };
        assert_eq!(client.expect_connack().reason, expected);
        assert_eq!(client.is_closed(), number >= 3);
        clients.push(client);
    }
    assert!(clients.len() > 10 && node.connections() == 3, "core 0 is full");
    let mut beyond = node.accept_on(0);
    beyond.expect_closed();
    clients[0].drop_socket();
    node.accept_on(0).greet(&v5(&names[5]));
}

/// `connect_bytes_max` bounds what a stranger can make us keep: a longer CONNECT is refused by its header.
#[test]
fn unauthenticated_bytes_are_bounded() {
    let config = Config { connect_bytes_max: 200, ..Config::default() };
    let mut connect = v5("client");
    let password = [b'x'; 300];
    connect.password = Some(&password);
    let packet = connect_packet(&connect);
    for (sent, told) in [(3, false), (10, true)] {
        let mut client = Node::with(config.clone()).accept();
        client.version = Version::V5;
        client.send(&packet[..sent]);
        if told {
            assert_eq!(client.expect_connack().reason, ReasonCode::PACKET_TOO_LARGE);
        }
        client.expect_closed();
    }
    connect.password = Some(&password[..150]);
    Node::with(config).connect_with(&connect);
}

/// `unfinished_bytes_max` bounds packets that never come whole, of all clients together: who has most goes, and is told
/// so; strangers go for what strangers keep. 1 000 of them with a CONNECT of 1 MiB, but for its last byte, took 1 GB.
#[test]
fn unfinished_packets_are_bounded() {
    let config = Config { unfinished_bytes_max: 1024 * 1024, ..Config::default() };
    let node = Node::with(config);
    let limited = || node.count(|core| core.counters().limited(Limit::UnfinishedBytes));
    let kept = || node.count(|core| core.usage().unfinished_bytes);
    let begun = |bytes: usize| {
        let mut packet = connect_packet(&Connect { password: Some(&[b'x'; 60_000]), ..v5("stranger") });
        packet.truncate(bytes);
        packet
    };
    let mut strangers: Vec<_> = (0..4).map(|_| node.accept()).collect();
    for (stranger, bytes) in strangers.iter_mut().zip([30_000, 50_000, 40_000, 3_000]) {
        stranger.version = Version::V5;
        stranger.send(&begun(bytes));
    }
    assert_eq!((limited(), kept()), (0, 120_000));
    strangers[3].send(&begun(20_000)[3_000..]);
    assert_eq!(strangers[1].expect_connack().reason, ReasonCode::QUOTA_EXCEEDED);
    strangers[1].expect_closed();
    assert_eq!((limited(), kept()), (1, 90_000));

    let mut clients = [node.connect_with(&v5("a")), node.connect_with(&v5("b"))];
    let mut large = vec![0x30, 0x80, 0xea, 0x30, 0, 1, b't', 0]; // 800 000 bytes follow the length
    large.resize(500_000, 0);
    clients[0].send(&large[..400_000]);
    clients[1].send(&large);
    assert_eq!((limited(), kept()), (1, 990_000));
    clients[0].send(&[0; 90_000]);
    assert_eq!(clients[1].expect_disconnect().reason, ReasonCode::QUOTA_EXCEEDED);
    clients[1].expect_closed();
    assert_eq!((limited(), kept()), (2, 580_000));
    // The others go on, and leave nothing behind.
    clients[0].send(&vec![0; 800_004 - 490_000]);
    clients[0].ping();
    strangers[2].send(&begun(usize::MAX)[40_000..]);
    assert_eq!(strangers[2].expect_connack().reason, ReasonCode::SUCCESS);
    strangers[0].drop_socket();
    strangers.pop().expect("the fourth").drop_socket();
    assert_eq!(kept(), 0);
}

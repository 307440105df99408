//! Wills: when they are published, when not, and what they look like.

mod host;

use std::time::Duration;

use host::packets::will;
use host::{Client, Node, VERSIONS};
use mqtt::{Connect, Disconnect, Limits, PublishProperties, QoS, ReasonCode, Version, Will};

/// A way in which a connection can end: its name, how it is done, whether the will is published.
type End = (&'static str, fn(&Node, &mut Client), bool);

const ENDS: [End; 10] = [
    ("the network fails", |_, client| client.drop_socket(), true),
    ("DISCONNECT 0x00", |_, client| client.disconnect(ReasonCode::SUCCESS), false),
    ("DISCONNECT 0x04", |_, client| client.disconnect(ReasonCode::DISCONNECT_WITH_WILL), true),
    ("DISCONNECT 0x80", |_, client| client.disconnect(ReasonCode::UNSPECIFIED_ERROR), true),
    ("DISCONNECT 0x00, then more", |_, client| client.send(&[0xE0, 0, 0xFF, 0xFF]), false),
    ("a malformed packet", |_, client| client.send(&[0x00, 0]), true),
    ("a protocol error", |_, client| client.send(&[0xD0, 0]), true),
    ("half a packet, then nothing", half_a_packet, true),
    ("silence", |node, _| node.advance(Duration::from_secs(16)), true),
    ("another connection", |node, client| drop(node.connect(client.version, "client")), true),
];

fn half_a_packet(_: &Node, client: &mut Client) {
    client.send(&[0xE0]);
    client.drop_socket();
}

fn with_will<'a>(version: Version, will: Will<'a>) -> Connect<'a> {
    Connect { will: Some(will), keep_alive: 10, ..Connect::new(version, "client") }
}

/// [MQTT-3.1.2-7, MQTT-3.1.2-8, MQTT-3.1.2-10, MQTT-3.14.4-3, MQTT-3.14.1-1 of 3.1.1] A will is published when
/// its connection ends in any way but a normal DISCONNECT, once, and never again.
#[test]
fn ends_of_connections() {
    for version in VERSIONS {
        for (name, end, published) in ENDS {
            if version < Version::V5 && ["DISCONNECT 0x04", "DISCONNECT 0x80"].contains(&name) {
                continue; // 3.x has no reasons
            }
            let node = Node::new(3);
            let mut watcher = node.subscriber("will", QoS::AtMostOnce);
            let mut client = node.connect_with(&with_will(version, will("will", "gone")));
            watcher.expect_silence();
            end(&node, &mut client);
            assert!(client.is_closed(), "{name}");
            if published {
                watcher.expect_payload("gone");
            }
            node.connect(version, "client").disconnect(ReasonCode::SUCCESS);
            node.advance(Duration::from_secs(100));
            watcher.expect_silence();
        }
    }
}

/// [MQTT-3.1.2-9, MQTT-3.1.2-14, MQTT-3.1.2-15, MQTT-3.1.2-16 of 3.1.1, MQTT-3.1.2-17 of 3.1.1] A will has the QoS, retain flag,
/// topic and payload that its CONNECT gave it.
#[test]
fn flags() {
    for version in VERSIONS {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for retain in [false, true] {
                let node = Node::new(2);
                let mut watcher = node.subscriber("w/#", QoS::ExactlyOnce);
                let payload = [0, 0xFF, 0xC0, 7];
                let will = Will { qos, retain, payload: &payload, ..will("w/ü/😀", "") };
                node.connect_with(&with_will(version, will)).drop_socket();
                let publish = watcher.expect_publish();
                assert_eq!((publish.topic, publish.payload, publish.qos), ("w/ü/😀", &payload[..], qos));
                assert_eq!((publish.retain, publish.dup), (false, false));
                let mut late = node.connect(Version::V5, "late");
                late.subscribe("w/#", QoS::ExactlyOnce);
                let kept = late.packets();
                assert_eq!(kept.len(), usize::from(retain), "{kept:?}");
                if let Some(mqtt::Packet::Publish(publish)) = kept.first() {
                    assert!(publish.retain && publish.qos == qos && publish.payload == payload);
                }
            }
        }
    }
}

/// [MQTT-3.1.3-11 of 3.1.1] A retained will without payload clears the retained message.
#[test]
fn empty_retained_will() {
    let node = Node::new(2);
    let mut publisher = node.connect(Version::V311, "publisher");
    publisher.publish_with(&mqtt::encode::PublishOut {
        topic: "a",
        retain: true,
        payload: b"kept",
        ..Default::default()
    });
    node.connect_with(&with_will(Version::V311, Will { retain: true, ..will("a", "") })).drop_socket();
    let mut late = node.connect(Version::V5, "late");
    late.subscribe("a", QoS::AtMostOnce);
    late.expect_silence();
}

/// 3.1.3.2 and [MQTT-3.1.3-10]: a will's properties are those of its message, user properties in order, its
/// expiry counted from its publication.
#[test]
fn properties() {
    let mut block = vec![0x01, 1]; // payload format
    block.extend([0x02, 0, 0, 0, 30]); // expires after 30 s
    block.extend([0x03, 0, 1, b't']); // content type
    block.extend([0x08, 0, 1, b'r']); // response topic
    block.extend([0x09, 0, 2, 0, 0xFF]); // correlation data
    for (name, value) in [(b'b', b'1'), (b'a', b'2'), (b'b', b'3')] {
        block.extend([0x26, 0, 1, name, 0, 1, value]);
    }
    let properties = PublishProperties::parse(&block, &Limits::PROTOCOL).unwrap();
    let node = Node::new(3);
    let mut watcher = node.subscriber("will", QoS::AtMostOnce);
    let will = Will { delay_interval: 100, properties, ..will("will", "text") };
    let mut connect = with_will(Version::V5, will);
    connect.properties.session_expiry = 1000;
    // Away, with a queue in which the message waits.
    let mut away = Connect::new(Version::V5, "away");
    away.properties.session_expiry = 1000;
    let mut queue = node.connect_with(&away);
    queue.subscribe("will", QoS::AtLeastOnce);
    queue.drop_socket();
    node.connect_with(&Connect { will: Some(Will { qos: QoS::AtLeastOnce, ..will }), ..connect })
        .drop_socket();
    node.advance(Duration::from_millis(100_050));
    let publish = watcher.expect_payload("text");
    assert_eq!(publish.properties.message_expiry, Some(30));
    assert_eq!(publish.properties.forwarded().map(<[u8]>::len), Some(block.len() - 5));
    assert!(publish.properties.payload_format_utf8);
    assert_eq!(publish.properties.response_topic, Some("r"));
    let users: Vec<_> = publish.properties.user_properties().collect();
    assert_eq!(users, [("b", "1"), ("a", "2"), ("b", "3")]);

    node.advance(Duration::from_secs(20));
    let mut queue = node.connect_with(&Connect { clean_start: false, ..away });
    let expiry = queue.expect_payload("text").properties.message_expiry.unwrap();
    assert!((9..=10).contains(&expiry), "{expiry}");
}

/// 3.1.3.2.2: the will is published when its delay has passed, or the session ends, whichever comes first.
#[test]
fn delay_and_session_expiry() {
    for (delay, expiry, after) in
        [(0, 0, 0), (0, 100, 0), (10, 0, 0), (10, 100, 10), (100, 10, 10), (10, 10, 10), (20, u32::MAX, 20)]
    {
        let node = Node::new(2);
        let mut watcher = node.subscriber("will", QoS::AtMostOnce);
        let mut connect = with_will(Version::V5, Will { delay_interval: delay, ..will("will", "gone") });
        connect.properties.session_expiry = expiry;
        node.connect_with(&connect).drop_socket();
        if after > 0 {
            node.advance(Duration::from_millis(after * 1000 - 1));
            watcher.expect_silence();
            node.advance(Duration::from_millis(101));
        }
        watcher.expect_payload("gone");
        node.advance(Duration::from_secs(1000));
        watcher.expect_silence();
    }
}

/// [MQTT-3.1.3-9] A client that comes back to its session in time has no will published; one that comes with a
/// clean start ends the session, and has.
#[test]
fn delay_and_reconnect() {
    for (clean_start, taken_over, published) in
        [(false, false, false), (false, true, false), (true, false, true), (true, true, true)]
    {
        let node = Node::new(3);
        let mut watcher = node.subscriber("will", QoS::AtMostOnce);
        let mut connect = with_will(Version::V5, Will { delay_interval: 60, ..will("will", "gone") });
        connect.properties.session_expiry = 100;
        let mut client = node.connect_with(&connect);
        if !taken_over {
            client.drop_socket();
            node.advance(Duration::from_secs(59));
        }
        watcher.expect_silence();
        let mut again = node.connect_with(&Connect { will: None, keep_alive: 0, clean_start, ..connect });
        if published {
            watcher.expect_payload("gone");
        }
        node.advance(Duration::from_secs(200));
        watcher.expect_silence();
        again.disconnect(ReasonCode::DISCONNECT_WITH_WILL);
        node.advance(Duration::from_secs(200));
        watcher.expect_silence();
    }
}

/// A will without delay is published when its connection is taken over, even though the session goes on
/// (3.1.2.5), and the will of the new connection is the new one's.
#[test]
fn will_of_the_new_connection() {
    let node = Node::new(3);
    let mut watcher = node.subscriber("will", QoS::AtMostOnce);
    let mut connect = Connect { clean_start: false, ..with_will(Version::V5, will("will", "first")) };
    connect.properties.session_expiry = 100;
    node.connect_with(&connect);
    let mut second = node.connect_with(&Connect { will: Some(will("will", "second")), ..connect });
    watcher.expect_payload("first");
    watcher.expect_silence();
    second.drop_socket();
    watcher.expect_payload("second");
    node.connect_with(&Connect { will: None, ..connect }).drop_socket();
    node.advance(Duration::from_secs(200));
    watcher.expect_silence();
}

/// A delay can also be cut short by DISCONNECT: it ends the session with expiry 0 (3.14.2.2.2).
#[test]
fn delay_and_disconnect() {
    let node = Node::new(1);
    let mut watcher = node.subscriber("will", QoS::AtMostOnce);
    let mut connect = with_will(Version::V5, Will { delay_interval: 60, ..will("will", "gone") });
    connect.properties.session_expiry = 100;
    let leave =
        |expiry| Disconnect { session_expiry: expiry, ..Disconnect::new(ReasonCode::DISCONNECT_WITH_WILL) };
    node.connect_with(&connect).disconnect_with(&leave(Some(0)));
    watcher.expect_payload("gone");
    node.connect_with(&connect).disconnect_with(&leave(Some(10)));
    watcher.expect_silence();
    node.advance(Duration::from_millis(10_100));
    watcher.expect_payload("gone");
}

/// The last will of a session reaches the session's own queue, and that of its neighbour on the same topic.
#[test]
fn own_will() {
    let node = Node::new(2);
    let mut connect = with_will(Version::V5, Will { qos: QoS::AtLeastOnce, ..will("will", "gone") });
    connect.properties.session_expiry = 100;
    let mut client = node.connect_with(&connect);
    client.subscribe("will", QoS::AtLeastOnce);
    client.drop_socket();
    let mut client = node.connect_with(&Connect { clean_start: false, ..connect });
    client.expect_payload("gone");
}

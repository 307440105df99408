//! Retained messages (sections 3.3.1.3, 3.8.4).

mod host;

use std::time::Duration;

use broker_core::config::Settings;
use broker_core::counters::DropReason;
use host::exchange::lasting;
use host::{Node, VERSIONS};
use mqtt::encode::{PropertyWriter, PublishOut};
use mqtt::{PacketKind, QoS, ReasonCode, Version};

/// [MQTT-3.3.1-5, MQTT-3.3.1-8] [MQTT-3.3.1-6, MQTT-3.3.1-8 of 3.1.1] The last retained message of a topic, of whatever QoS, is sent to a new
/// subscription with the retain flag; other messages are not kept.
#[test]
fn the_last_one_is_kept() {
    for version in VERSIONS {
        for cores in [1, 3] {
            let node = Node::new(cores);
            let mut publisher = node.connect(version, "publisher");
            publisher.retain("t", QoS::ExactlyOnce, "first");
            publisher.retain("t", QoS::AtMostOnce, "last");
            publisher.publish_fully("t", QoS::AtLeastOnce, "not kept"); // [MQTT-3.3.1-8]
            let mut subscriber = node.connect(version, "subscriber");
            subscriber.subscribe("t", QoS::ExactlyOnce);
            let publish = subscriber.expect_payload("last");
            assert!(publish.retain && !publish.dup);
            assert_eq!(publish.qos, QoS::AtMostOnce);
            subscriber.expect_silence();
        }
    }
}

/// [MQTT-3.8.4-8] The QoS of a retained message is the lower of its own and the granted one, for all pairs.
#[test]
fn all_pairs_of_qos() {
    for version in VERSIONS {
        for published in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let node = Node::new(2);
            node.connect(version, "publisher").retain("t", published, "x");
            for granted in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut subscriber = node.connect(version, "subscriber");
                subscriber.subscribe("t", granted);
                let received = subscriber.drain();
                assert_eq!(received.len(), 1);
                assert_eq!(received[0].qos, published.min(granted));
                assert!(received[0].retain);
            }
        }
    }
}

/// [MQTT-3.3.1-6, MQTT-3.3.1-7] [MQTT-3.3.1-10, MQTT-3.3.1-11 of 3.1.1] An empty retained message is delivered, removes what was kept and is not
/// kept itself, with properties or without; removing what is not there does no harm.
#[test]
fn an_empty_payload_clears() {
    for version in VERSIONS {
        for with_properties in [false, true] {
            let node = Node::new(2);
            let mut publisher = node.connect(version, "publisher");
            let mut live = node.connect(Version::V5, "live");
            live.subscribe("t", QoS::AtLeastOnce);
            publisher.retain("t", QoS::AtLeastOnce, "x");
            live.drain();
            let mut forwarded = Vec::new();
            if with_properties {
                PropertyWriter::new(&mut forwarded).content_type("none");
                PropertyWriter::new(&mut forwarded).user_property("a", "b");
            }
            for _ in 0..2 {
                let publish =
                    PublishOut { topic: "t", retain: true, forwarded: &forwarded, ..PublishOut::default() };
                publisher.publish_with(&publish);
                let received = live.drain();
                assert_eq!(received.len(), 1);
                assert!(received[0].payload.is_empty());
            }
            let mut subscriber = node.connect(version, "subscriber");
            subscriber.subscribe("t", QoS::AtLeastOnce);
            subscriber.expect_silence();
        }
    }
}

/// [MQTT-3.3.2-4, MQTT-3.3.2-6, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-20] A retained message comes with all properties it
/// was published with, and what is left of its expiry.
#[test]
fn properties_are_kept() {
    for cores in [1, 4] {
        let node = Node::new(cores);
        let mut forwarded = Vec::new();
        let mut properties = PropertyWriter::new(&mut forwarded);
        properties.payload_format_utf8(true);
        properties.content_type("text/plain");
        properties.response_topic("answers/here");
        properties.correlation_data(&[0, 255, 1]);
        for number in 0..5 {
            properties.user_property("name", &number.to_string());
        }
        let publish = PublishOut {
            topic: "t",
            retain: true,
            payload: "é".as_bytes(),
            forwarded: &forwarded,
            message_expiry: Some(100),
            topic_alias: Some(3),
            ..PublishOut::default()
        };
        node.connect(Version::V5, "publisher").publish_with(&publish);
        node.advance(Duration::from_secs(40));
        let mut subscriber = node.connect(Version::V5, "subscriber");
        subscriber.subscribe("t", QoS::AtLeastOnce);
        let received = subscriber.expect_publish();
        assert_eq!(received.properties.message_expiry, Some(60));
        assert_eq!(received.properties.forwarded(), Some(&forwarded[..]));
        assert_eq!((received.topic, received.properties.topic_alias), ("t", None)); // [MQTT-3.3.2-7]
        let mut old = node.connect(Version::V311, "old");
        old.subscribe("t", QoS::AtLeastOnce);
        assert_eq!(old.expect_publish().payload, "é".as_bytes());
    }
}

/// [MQTT-3.3.2-5] A retained message whose time has passed is not sent any more; its successor is not harmed by it.
#[test]
fn retained_messages_expire() {
    let node = Node::new(2);
    let mut publisher = node.connect(Version::V5, "publisher");
    let mut keep = |topic, payload: &str, message_expiry| {
        let publish = PublishOut {
            topic,
            retain: true,
            payload: payload.as_bytes(),
            message_expiry,
            ..PublishOut::default()
        };
        publisher.publish_with(&publish);
    };
    keep("a", "short", Some(10));
    keep("b", "short", Some(10));
    keep("b", "long", Some(1000));
    keep("c", "short", Some(10));
    keep("c", "for ever", None);
    keep("d", "long", Some(1000));
    keep("d", "short", Some(10));
    for (seconds, expected) in
        [(9, &["long", "for ever", "short", "short"][..]), (1, &["long", "for ever"]), (990, &["for ever"])]
    {
        node.advance(Duration::from_secs(seconds));
        let mut subscriber = node.connect(Version::V311, "subscriber");
        subscriber.subscribe("+", QoS::AtLeastOnce);
        let mut said = subscriber.drain_payloads();
        let mut expected: Vec<String> = expected.iter().map(|payload| (*payload).to_owned()).collect();
        said.sort_unstable();
        expected.sort_unstable();
        assert_eq!(said, expected, "after {seconds} more seconds");
    }
}

/// However many retained messages expire and however often they are replaced, there is one timer, for the next of them.
#[test]
fn replaced_messages_leave_no_timers() {
    let node = Node::new(1);
    let mut publisher = node.connect(Version::V5, "publisher");
    let before = node.timers();
    for number in 0..1000 {
        let publish = PublishOut {
            topic: ["a", "b"][number % 2],
            retain: true,
            payload: b"x",
            message_expiry: Some(1_000_000),
            ..PublishOut::default()
        };
        publisher.publish_with(&publish);
    }
    assert_eq!(node.timers(), before + 1);
    publisher.retain("a", QoS::AtMostOnce, "");
    publisher.retain("b", QoS::AtMostOnce, "without expiry");
    assert_eq!(node.timers(), before);
}

/// [MQTT-3.3.1-12] A live message goes out without the flag, to all that subscribed before, on whatever core; a lasting
/// session that was away gets it likewise.
#[test]
fn live_messages_have_no_retain_flag() {
    for version in VERSIONS {
        let node = Node::new(3);
        let mut away = node.connect_with(&lasting(version, "away"));
        away.subscribe("t", QoS::AtLeastOnce);
        away.drop_socket();
        let mut here = node.connect(version, "here");
        here.subscribe("t", QoS::AtLeastOnce);
        node.connect(version, "publisher").retain("t", QoS::AtLeastOnce, "x");
        let mut away = node.connect_with(&lasting(version, "away"));
        for subscriber in [&mut here, &mut away] {
            assert!(!subscriber.expect_payload("x").retain);
            subscriber.expect_silence();
        }
    }
}

/// [MQTT-3.8.4-4] [MQTT-3.8.4-3 of 3.1.1] Subscribing again sends the retained messages again, without a break in the live ones.
#[test]
fn subscribing_again_sends_them_again() {
    for version in VERSIONS {
        let node = Node::new(2);
        let mut publisher = node.connect(version, "publisher");
        publisher.retain("t", QoS::AtLeastOnce, "kept");
        let mut client = node.connect_with(&lasting(version, "client"));
        for _ in 0..3 {
            client.subscribe("t", QoS::AtLeastOnce);
            let received = client.drain();
            assert_eq!(received.len(), 1);
            assert!(received[0].retain);
            publisher.publish_fully("t", QoS::AtLeastOnce, "live");
            assert!(!client.drain()[0].retain);
        }
    }
}

/// The maximum of retained messages (`tenant.retained_messages_max`, per core): 0x97 and a count beyond, live delivery
/// goes on, and replacing and clearing are always possible.
#[test]
fn retained_messages_have_a_maximum() {
    for cores in [1, 2] {
        let settings = Settings { retained_messages_max: 1, ..Settings::default() };
        let node = Node::of_settings_and_cores(settings, cores);
        let mut live = node.connect(Version::V5, "live");
        live.subscribe("#", QoS::AtMostOnce);
        let mut publisher = node.connect(Version::V5, "publisher");
        let mut refused = Vec::new();
        let topics: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        for topic in &topics {
            let publish = PublishOut {
                topic,
                retain: true,
                qos: QoS::AtLeastOnce,
                payload: b"x",
                ..PublishOut::default()
            };
            let packet_id = publisher.publish_with(&publish);
            if publisher.expect_ack(PacketKind::PubAck, packet_id).reason == ReasonCode::QUOTA_EXCEEDED {
                refused.push(topic);
            }
        }
        assert_eq!(refused.len(), 20 - usize::from(cores));
        assert_eq!(node.dropped(DropReason::RetainFull), refused.len() as u64);
        assert_eq!(live.drain().len(), 20);
        let kept: Vec<_> = topics.iter().filter(|topic| !refused.contains(topic)).collect();
        for topic in &kept {
            publisher.retain(topic, QoS::AtLeastOnce, "replaced");
            publisher.retain(topic, QoS::AtLeastOnce, "");
        }
        for topic in &topics {
            publisher.retain(topic, QoS::AtMostOnce, "x");
        }
        let mut subscriber = node.connect(Version::V311, "subscriber");
        subscriber.subscribe("#", QoS::AtMostOnce);
        assert_eq!(subscriber.drain().len(), usize::from(cores));
    }
}

/// [MQTT-4.7.3-4] A retained message is kept under its topic's characters: another case or level is another topic.
#[test]
fn topics_are_distinct() {
    let node = Node::new(2);
    let mut publisher = node.connect(Version::V311, "publisher");
    for topic in ["a", "A", "a/", "/a", "a/b"] {
        publisher.retain(topic, QoS::AtMostOnce, topic);
    }
    let mut subscriber = node.connect(Version::V311, "subscriber");
    subscriber.subscribe("a", QoS::AtMostOnce);
    assert_eq!(subscriber.drain_payloads(), ["a"]);
}

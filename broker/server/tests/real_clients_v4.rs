//! MQTT 3.1.1 as the `rumqttc` client speaks it, against the broker's process. Every wait is for an event;
//! that something does not come is shown by what comes after it.

#[path = "support/client.rs"]
mod client;
mod support;

/// The library's client for MQTT 3.1.1.
mod library {
    pub use rumqttc::{AsyncClient, ConnAck, ConnectionError, Event, LastWill, MqttOptions, Packet, Publish};
    pub use rumqttc::{QoS, SubscribeReasonCode};
}

use self::client::{Client, assert_counts_up, text, within};
use self::library::{LastWill, MqttOptions, Packet, QoS, SubscribeReasonCode};
use self::support::Broker;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn clean(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.address().ip().to_string(), broker.address().port());
    options.set_max_packet_size(64 * 1024 * 1024, 64 * 1024 * 1024);
    options
}

fn persistent(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = clean(broker, id);
    options.set_clean_session(false);
    options
}

/// [MQTT-3.8.4-6] and 4.3: for each QoS of publishing and subscribing a message arrives once, in order,
/// with the lower of the two, at a clean and at a persistent session.
#[tokio::test]
async fn every_pair_of_qos() {
    let broker = Broker::start(&[]);
    let publisher = Client::connect(clean(&broker, "publisher")).await;
    for options in [clean(&broker, "clean"), persistent(&broker, "persistent")] {
        let mut subscriber = Client::connect(options).await;
        for (published, subscribed) in pairs() {
            let topic = format!("pair/{published:?}/{subscribed:?}");
            let Packet::SubAck(granted) = subscriber.subscribe(&topic, subscribed).await else {
                unreachable!()
            };
            assert_eq!(granted.return_codes, [SubscribeReasonCode::Success(subscribed)]);
            for number in 0..10 {
                publisher.send(&topic, published, false, number.to_string().as_bytes()).await;
            }
            let lower = if (published as u8) < subscribed as u8 { published } else { subscribed };
            for number in 0..10 {
                let message = subscriber.message().await;
                assert_eq!((text(&message.payload), message.qos), (number.to_string(), lower), "{topic}");
                assert!(!message.dup && !message.retain && message.topic == topic, "{message:?}");
            }
        }
        subscriber.disconnect().await;
    }
    broker.stop();
}

/// [MQTT-3.1.2-5 of 3.1.1]: what comes for a persistent session while its client is away is delivered when it
/// returns, in order and once, if both sides asked for more than QoS 0.
#[tokio::test]
async fn offline_messages_wait() {
    let broker = Broker::start(&[]);
    let mut subscriber = Client::connect(persistent(&broker, "subscriber")).await;
    assert!(!subscriber.connack.session_present);
    for (published, subscribed) in pairs() {
        subscriber.subscribe(&format!("away/{published:?}/{subscribed:?}"), subscribed).await;
    }
    subscriber.disconnect().await;

    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    let mut expected = Vec::new();
    for (published, subscribed) in pairs() {
        let topic = format!("away/{published:?}/{subscribed:?}");
        for number in 0..20 {
            publisher.publish(&topic, published, false, number.to_string().as_bytes()).await;
            if published != QoS::AtMostOnce && subscribed != QoS::AtMostOnce {
                expected.push((topic.clone(), number.to_string()));
            }
        }
        // Its answer shows that the broker has taken all before it.
        publisher.publish(&topic, QoS::AtLeastOnce, false, b"last").await;
    }

    let mut subscriber = Client::connect(persistent(&broker, "subscriber")).await;
    assert!(subscriber.connack.session_present);
    publisher.publish("away/ExactlyOnce/ExactlyOnce", QoS::ExactlyOnce, false, b"end").await;
    let mut received = Vec::new();
    loop {
        let message = subscriber.message().await;
        match text(&message.payload) {
            end if end == "end" => break,
            last if last == "last" => {}
            payload => received.push((message.topic, payload)),
        }
    }
    // Order is promised for each topic.
    received.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(received, expected);
    broker.stop();
}

/// [MQTT-4.4.0-1]: messages that were sent and not acknowledged come again after a reconnect, before later
/// ones, in order and marked as duplicates; those that were acknowledged do not.
#[tokio::test]
async fn unacknowledged_messages_come_again() {
    let broker = Broker::start(&[]);
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let id = format!("careful-{qos:?}");
        let topic = format!("again/{qos:?}");
        let mut by_hand = persistent(&broker, &id);
        by_hand.set_manual_acks(true);
        let mut subscriber = Client::connect(by_hand).await;
        subscriber.subscribe(&topic, qos).await;
        for number in 0..10 {
            publisher.publish(&topic, qos, false, number.to_string().as_bytes()).await;
        }
        for number in 0..10 {
            let message = subscriber.message().await;
            assert_eq!((text(&message.payload), message.dup), (number.to_string(), false));
            if number < 4 {
                subscriber.confirm(&message).await;
                if qos == QoS::ExactlyOnce {
                    subscriber.answer(|packet| matches!(packet, Packet::PubRel(_))).await;
                }
            }
        }
        // An answered request shows that the broker has the confirmations.
        subscriber.subscribe("again/unused", qos).await;
        subscriber.cut().await;
        publisher.publish(&topic, qos, false, b"10").await;

        let mut subscriber = Client::connect(persistent(&broker, &id)).await;
        assert!(subscriber.connack.session_present);
        for number in 4..10 {
            let message = subscriber.message().await;
            assert_eq!((text(&message.payload), message.dup), (number.to_string(), true), "{qos:?}");
        }
        assert_eq!(subscriber.payload().await, "10");
        subscriber.disconnect().await;
    }
    broker.stop();
}

/// [MQTT-4.6.0-6]: thousands of messages of several publishers arrive in the order of each publisher, also
/// when far more are under way than the client's in-flight window.
#[tokio::test]
async fn order_is_kept() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 2000;
    let broker = Broker::start(&[]);
    let mut subscriber = Client::connect(clean(&broker, "subscriber")).await;
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let filter = format!("order/{qos:?}/+");
        subscriber.subscribe(&filter, qos).await;
        let mut tasks = Vec::new();
        for publisher in 0..PUBLISHERS {
            let options = clean(&broker, &format!("publisher-{publisher}"));
            tasks.push(tokio::spawn(async move {
                let mut client = Client::connect(options).await;
                let topic = format!("order/{qos:?}/{publisher}");
                for number in 0..MESSAGES {
                    client.send(&topic, qos, false, number.to_string().as_bytes()).await;
                }
                client.acknowledged(MESSAGES).await;
                client.disconnect().await;
            }));
        }
        let mut received = vec![Vec::new(); PUBLISHERS];
        for _ in 0..PUBLISHERS * MESSAGES {
            let message = subscriber.message().await;
            let publisher = message.topic.rsplit_once('/').and_then(|(_, number)| number.parse().ok());
            let publisher: usize = publisher.expect("the topic ends in the publisher's number");
            received[publisher].push(text(&message.payload));
        }
        for numbers in &received {
            assert_counts_up(numbers, 0, MESSAGES);
        }
        for task in tasks {
            within(task).await.expect("the publisher succeeds");
        }
        subscriber.unsubscribe(&filter).await;
    }
    broker.stop();
}

/// [MQTT-3.3.1-5] to [MQTT-3.3.1-12]: the last retained message reaches new subscriptions, marked, older
/// subscriptions get it unmarked, and an empty one removes it.
#[tokio::test]
async fn retained_messages() {
    let broker = Broker::start(&[]);
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    let mut old = Client::connect(clean(&broker, "old")).await;
    for topic in ["kept/a", "kept/b"] {
        publisher.publish(topic, QoS::AtLeastOnce, true, b"before").await;
    }
    old.subscribe("kept/#", QoS::AtLeastOnce).await;
    // The search for retained messages has passed both topics when they have come.
    for _ in 0..2 {
        let message = old.message().await;
        assert_eq!((text(&message.payload).as_str(), message.retain), ("before", true));
    }
    for payload in ["first", "second"] {
        publisher.publish("kept/a", QoS::AtLeastOnce, true, payload.as_bytes()).await;
    }
    publisher.publish("kept/b", QoS::ExactlyOnce, true, b"other").await;
    for expected in ["first", "second", "other"] {
        let message = old.message().await;
        assert_eq!((text(&message.payload).as_str(), message.retain), (expected, false));
    }

    let mut new = Client::connect(clean(&broker, "new")).await;
    new.subscribe("kept/+", QoS::AtLeastOnce).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let message = new.message().await;
        assert!(message.retain && message.qos == QoS::AtLeastOnce, "{message:?}");
        kept.push((message.topic, text(&message.payload)));
    }
    kept.sort();
    assert_eq!(kept, [("kept/a".into(), "second".into()), ("kept/b".into(), "other".into())]);

    publisher.publish("kept/a", QoS::AtLeastOnce, true, b"").await;
    assert_eq!(new.payload().await, "", "a subscriber sees the removal as an ordinary message");
    let mut newest = Client::connect(clean(&broker, "newest")).await;
    newest.subscribe("kept/+", QoS::AtMostOnce).await;
    publisher.publish("kept/a", QoS::AtMostOnce, false, b"end").await;
    let first = newest.message().await;
    assert_eq!((text(&first.payload).as_str(), first.retain), ("other", true));
    assert_eq!(newest.payload().await, "end");
    broker.stop();
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-10]: the will of a client that goes without a goodbye is published with its
/// QoS and retained if it says so; that of one that says goodbye is not.
#[tokio::test]
async fn wills() {
    let broker = Broker::start(&[]);
    let mut watcher = Client::connect(clean(&broker, "watcher")).await;
    watcher.subscribe("will/#", QoS::ExactlyOnce).await;
    for (id, qos, retain) in [("polite", QoS::AtLeastOnce, false), ("lost", QoS::ExactlyOnce, true)] {
        let mut options = clean(&broker, id);
        options.set_last_will(LastWill::new(format!("will/{id}"), "gone", qos, retain));
        let client = Client::connect(options).await;
        if id == "polite" { client.disconnect().await } else { client.cut().await }
    }
    let will = watcher.message().await;
    assert_eq!((will.topic.as_str(), text(&will.payload).as_str()), ("will/lost", "gone"));
    assert_eq!((will.qos, will.retain), (QoS::ExactlyOnce, false));
    watcher.subscribe("will/lost", QoS::AtMostOnce).await;
    assert!(watcher.message().await.retain);
    broker.stop();
}

/// [MQTT-3.1.4-2]: a second client with the id of a connected one takes its place, and its session if it
/// wants it; the first one's will is published.
#[tokio::test]
async fn take_over() {
    let broker = Broker::start(&[]);
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    publisher.subscribe("taken/will", QoS::AtLeastOnce).await;
    let mut options = persistent(&broker, "twin");
    options.set_last_will(LastWill::new("taken/will", "taken", QoS::AtLeastOnce, false));
    let mut twin = Client::connect(options).await;
    twin.subscribe("taken/messages", QoS::ExactlyOnce).await;
    for round in 0..50 {
        let next = Client::connect(persistent(&broker, "twin")).await;
        assert!(next.connack.session_present);
        let error = std::mem::replace(&mut twin, next).closed().await;
        if round == 0 {
            assert_eq!(publisher.payload().await, "taken", "{error}");
        }
        publisher.publish("taken/messages", QoS::AtLeastOnce, false, round.to_string().as_bytes()).await;
        assert_eq!(text(&twin.new_message().await.payload), round.to_string());
    }
    let twin = {
        let next = Client::connect(clean(&broker, "twin")).await;
        assert!(!next.connack.session_present);
        let _ = twin.closed().await;
        next
    };
    twin.disconnect().await;
    broker.stop();
}

/// Section 4.8.2 of MQTT 5.0, for 3.1.1 too: each message goes to one member of a group, all members have
/// their share, and ordinary subscribers get everything.
#[tokio::test]
async fn shared_subscriptions() {
    const MESSAGES: usize = 300;
    let broker = Broker::start(&[]);
    let mut everything = Client::connect(clean(&broker, "everything")).await;
    everything.subscribe("work/#", QoS::AtLeastOnce).await;
    let mut members = Vec::new();
    for number in 0..3 {
        let mut member = Client::connect(clean(&broker, &format!("member-{number}"))).await;
        member.subscribe("$share/group/work/+", QoS::AtLeastOnce).await;
        members.push(member);
    }
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for number in 0..MESSAGES {
        publisher.publish("work/item", QoS::AtLeastOnce, false, number.to_string().as_bytes()).await;
    }
    let mut all = Vec::new();
    for _ in 0..MESSAGES {
        all.push(everything.payload().await);
    }
    assert_counts_up(&all, 0, MESSAGES);
    let mut numbers = Vec::new();
    for member in &mut members {
        // In turn, so each has its third.
        for _ in 0..MESSAGES / 3 {
            numbers.push(member.payload().await.parse::<usize>().expect("a number"));
        }
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..MESSAGES), "each once: {numbers:?}");
    broker.stop();
}

/// Payloads of megabytes arrive whole: live with each QoS, retained, and kept for a client that is away.
#[tokio::test]
async fn large_payloads() {
    let broker = Broker::start(&[]);
    let large = |seed: u8, bytes: usize| -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8 ^ (at >> 12) as u8 ^ seed).collect()
    };
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    let mut subscriber = Client::connect(persistent(&broker, "subscriber")).await;
    subscriber.subscribe("large/#", QoS::ExactlyOnce).await;
    for (seed, qos) in (1..).zip(QOS) {
        let payload = large(seed, 1024 * 1024 + usize::from(seed));
        publisher.publish("large/live", qos, false, &payload).await;
        assert!(subscriber.message().await.payload == payload, "{qos:?}");
    }
    // Its SUBACK follows the PUBREL of the last message: rumqttc refuses one that comes on a new connection.
    subscriber.subscribe("after/the/handshake", QoS::AtMostOnce).await;
    subscriber.disconnect().await;
    let kept = large(4, 20 * 1024 * 1024);
    publisher.publish("large/kept", QoS::AtLeastOnce, true, &kept).await;
    let mut subscriber = Client::connect(persistent(&broker, "subscriber")).await;
    assert!(subscriber.message().await.payload == kept, "queued");
    subscriber.subscribe("large/kept", QoS::AtMostOnce).await;
    assert!(subscriber.message().await.payload == kept, "retained");
    broker.stop();
}

/// Overlapping subscriptions, `$` topics, unsubscribing, and characters beyond ASCII.
#[tokio::test]
async fn filters() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(clean(&broker, "client")).await;
    client.subscribe("#", QoS::AtMostOnce).await;
    client.subscribe("+/Temperatur/°C 🌡", QoS::AtLeastOnce).await;
    // [MQTT-4.7.2-1]
    client.publish("$hidden/topic", QoS::AtLeastOnce, false, b"hidden").await;
    client.publish("Küche/Temperatur/°C 🌡", QoS::AtLeastOnce, false, b"21").await;
    let mut both = [client.message().await, client.message().await];
    both.sort_by_key(|message| message.qos as u8);
    assert!(
        both.iter().all(|message| message.topic == "Küche/Temperatur/°C 🌡" && text(&message.payload) == "21")
    );
    assert_eq!(both.map(|message| message.qos), [QoS::AtMostOnce, QoS::AtLeastOnce]);
    client.unsubscribe("#").await;
    client.publish("Küche/Temperatur/°C 🌡", QoS::AtLeastOnce, false, b"22").await;
    client.publish("Bad/Temperatur/°C 🌡", QoS::AtLeastOnce, false, b"23").await;
    assert_eq!(client.payload().await, "22");
    assert_eq!(client.payload().await, "23");
    broker.stop();
}

/// Without a durable store a restart forgets sessions and retained messages, and says so at the start.
#[tokio::test]
async fn restart_forgets() {
    let mut broker = Broker::start(&[]);
    broker.wait_for_log("memory only: sessions and messages end with the process");
    let mut client = Client::connect(persistent(&broker, "client")).await;
    client.subscribe("forgotten", QoS::AtLeastOnce).await;
    client.publish("forgotten", QoS::AtLeastOnce, true, b"retained").await;
    client.disconnect().await;
    let port = broker.address().port();
    broker.stop();

    let broker = Broker::start_on(port, &[]);
    let mut client = Client::connect(persistent(&broker, "client")).await;
    assert!(!client.connack.session_present);
    client.subscribe("forgotten", QoS::AtLeastOnce).await;
    client.publish("forgotten", QoS::AtLeastOnce, false, b"new").await;
    assert_eq!(client.payload().await, "new");
    broker.stop();
}

/// A thousand clients connect at once, each hears what is sent to it alone and what is sent to all, and
/// all are closed by an orderly stop.
#[tokio::test]
async fn a_thousand_clients() {
    const CLIENTS: usize = 1000;
    support::raise_open_files();
    let broker = Broker::start(&[]);
    let connecting: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let options = clean(&broker, &format!("client-{number}"));
            tokio::spawn(async move {
                let mut client = Client::connect(options).await;
                client.subscribe(&format!("many/{number}"), QoS::AtLeastOnce).await;
                client.subscribe("many/all", QoS::AtLeastOnce).await;
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for task in connecting {
        clients.push(within(task).await.expect("the client connects"));
    }
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for number in 0..CLIENTS {
        publisher
            .send(&format!("many/{number}"), QoS::AtLeastOnce, false, number.to_string().as_bytes())
            .await;
    }
    publisher.acknowledged(CLIENTS).await;
    publisher.publish("many/all", QoS::AtLeastOnce, false, b"all").await;
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.payload().await, number.to_string());
        assert_eq!(client.payload().await, "all");
    }
    broker.stop();
    for client in clients {
        let _ = client.closed().await;
    }
}

/// Every QoS to publish with, and every one to subscribe with.
fn pairs() -> impl Iterator<Item = (QoS, QoS)> {
    QOS.into_iter().flat_map(|published| QOS.map(|subscribed| (published, subscribed)))
}

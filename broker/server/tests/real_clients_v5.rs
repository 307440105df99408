//! MQTT 5.0 as the `rumqttc` client speaks it, against the broker's process: what 3.1.1 does not have.
//! Every wait is for an event; that something does not come is shown by what comes after it.

#[path = "support/client.rs"]
mod client;
mod support;

/// The library's client for MQTT 5.0.
mod library {
    pub use rumqttc::v5::mqttbytes::QoS;
    pub use rumqttc::v5::mqttbytes::v5::{
        ConnAck, DisconnectReasonCode, Filter, LastWill, LastWillProperties, Packet, Publish,
        PublishProperties, RetainForwardRule, SubscribeProperties, SubscribeReasonCode, UnsubAckReason,
    };
    pub use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions, StateError};
}

use self::client::{Client, assert_counts_up, text, within};
use self::library::{
    ConnectionError, DisconnectReasonCode, Filter, LastWill, LastWillProperties, MqttOptions, Packet,
    Publish, PublishProperties, QoS, RetainForwardRule, StateError, SubscribeProperties, SubscribeReasonCode,
    UnsubAckReason,
};
use self::support::Broker;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn clean(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.address().ip().to_string(), broker.address().port());
    options.set_max_packet_size(Some(64 * 1024 * 1024));
    options
}

fn persistent(broker: &Broker, id: &str, expiry_seconds: u32) -> MqttOptions {
    let mut options = clean(broker, id);
    options.set_clean_start(false).set_session_expiry_interval(Some(expiry_seconds));
    options
}

fn properties() -> PublishProperties {
    PublishProperties::default()
}

/// Publishes with properties, and waits until the broker has taken it.
async fn publish_with(client: &mut Client, topic: &str, payload: &str, properties: PublishProperties) {
    let payload = payload.to_owned();
    let sent = client.requests.publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties);
    sent.await.expect("the client runs");
    client.acknowledged(1).await;
}

/// Subscribes with options and identifier. Returns the reason code.
async fn subscribe_with(client: &mut Client, filter: Filter, id: Option<usize>) -> SubscribeReasonCode {
    let properties = SubscribeProperties { id, user_properties: Vec::new() };
    client.requests.subscribe_many_with_properties([filter], properties).await.expect("the client runs");
    let Packet::SubAck(answer) = client.answer(|packet| matches!(packet, Packet::SubAck(_))).await else {
        unreachable!("it was asked for")
    };
    answer.return_codes[0]
}

fn properties_of(message: &Publish) -> PublishProperties {
    message.properties.clone().unwrap_or_default()
}

/// What the broker said when it closed.
async fn farewell(client: Client) -> DisconnectReasonCode {
    match client.closed().await {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => reason_code,
        other => panic!("closed without a DISCONNECT: {other}"),
    }
}

/// [MQTT-3.8.4-8]: for each QoS of publishing and subscribing, live and while the client is away, messages
/// arrive once, in order, with the lower of the two; QoS 0 does not wait.
#[tokio::test]
async fn every_pair_of_qos() {
    let broker = Broker::start(&[]);
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for published in QOS {
        for subscribed in QOS {
            let topic = format!("pair/{published:?}/{subscribed:?}");
            let lower = if (published as u8) < subscribed as u8 { published } else { subscribed };
            let mut subscriber = Client::connect(persistent(&broker, &topic, 600)).await;
            subscriber.subscribe(&topic, subscribed).await;
            for number in 0..10 {
                publisher.send(&topic, published, false, number.to_string().as_bytes()).await;
            }
            for number in 0..10 {
                let message = subscriber.message().await;
                assert_eq!((text(&message.payload), message.qos), (number.to_string(), lower), "{topic}");
            }
            if published != QoS::AtMostOnce {
                publisher.acknowledged(10).await;
            }
            subscriber.disconnect().await;

            for number in 0..10 {
                publisher.publish(&topic, published, false, number.to_string().as_bytes()).await;
            }
            // Its answer shows that the broker has taken all before it.
            publisher.publish(&topic, QoS::AtLeastOnce, false, b"middle").await;
            let mut subscriber = Client::connect(persistent(&broker, &topic, 600)).await;
            assert!(subscriber.connack.session_present);
            publisher.publish(&topic, published, false, b"end").await;
            let mut waited = subscriber.payloads_until("end").await;
            waited.retain(|payload| payload != "middle");
            assert_counts_up(&waited, 0, if lower == QoS::AtMostOnce { 0 } else { 10 });
            // [MQTT-3.1.2-4]: a clean start forgets the session.
            let subscriber = {
                subscriber.disconnect().await;
                Client::connect(clean(&broker, &topic)).await
            };
            assert!(!subscriber.connack.session_present);
            subscriber.disconnect().await;
        }
    }
    broker.stop();
}

/// Section 3.2.2.3: CONNACK says what the broker can do, and names a client that has no name.
#[tokio::test]
async fn connack_announces() {
    let broker = Broker::start(&["--max-packet-bytes", "4096"]);
    let client = Client::connect(clean(&broker, "")).await;
    let connack = client.connack.properties.clone().expect("CONNACK has properties");
    assert!(connack.assigned_client_identifier.is_some_and(|id| !id.is_empty()));
    assert_eq!(connack.max_packet_size, Some(4096));
    assert!(connack.receive_max.is_none_or(|maximum| maximum > 0));
    assert!(connack.topic_alias_max.is_some_and(|maximum| maximum > 0));
    assert_eq!((connack.max_qos, connack.retain_available), (None, None));
    // [MQTT-3.2.2-15]: the library believes it.
    client.send("large", QoS::AtMostOnce, false, &[0; 5000]).await;
    let error = client.closed().await.to_string();
    assert!(error.contains("maximum packet size of: '4096'"), "{error}");
    broker.stop();
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-20]: all properties of a message arrive as they were
/// sent, user properties in their order, live, retained and queued; the expiry counts down.
#[tokio::test]
async fn properties_arrive() {
    let broker = Broker::start(&[]);
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(3600),
        response_topic: Some("answers/here".into()),
        correlation_data: Some(vec![0, 1, 255].into()),
        user_properties: (0..50).map(|n| (format!("key-{}", n % 7), format!("Wert {n} ✓"))).collect(),
        content_type: Some("text/plain".into()),
        ..properties()
    };
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    let mut live = Client::connect(clean(&broker, "live")).await;
    live.subscribe("properties", QoS::AtLeastOnce).await;
    let mut away = Client::connect(persistent(&broker, "away", 600)).await;
    away.subscribe("properties", QoS::AtLeastOnce).await;
    away.disconnect().await;
    let retained = publisher.requests.publish_with_properties(
        "properties",
        QoS::ExactlyOnce,
        true,
        "payload",
        sent.clone(),
    );
    retained.await.expect("the client runs");
    publisher.acknowledged(1).await;
    let away = Client::connect(persistent(&broker, "away", 600)).await;
    let mut late = Client::connect(clean(&broker, "late")).await;
    late.subscribe("properties", QoS::AtLeastOnce).await;
    for mut client in [live, away, late] {
        let message = client.message().await;
        let mut received = properties_of(&message);
        let expiry = received.message_expiry_interval.take().expect("it still counts");
        assert!((3000..=3600).contains(&expiry), "{expiry}");
        assert_eq!(received, PublishProperties { message_expiry_interval: None, ..sent.clone() });
    }
    broker.stop();
}

/// Section 3.3.2.3.4: an alias stands for its topic towards the broker, a new topic replaces it; towards a
/// client that allows some, the broker uses as many and no more.
#[tokio::test]
async fn topic_aliases() {
    let broker = Broker::start(&[]);
    let mut options = clean(&broker, "subscriber");
    options.set_topic_alias_max(Some(2));
    let mut subscriber = Client::connect(options).await;
    subscriber.subscribe("aliased/#", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    let alias = |number| PublishProperties { topic_alias: Some(number), ..properties() };
    for (topic, expected) in
        [("aliased/a", "aliased/a"), ("", "aliased/a"), ("aliased/b", "aliased/b"), ("", "aliased/b")]
    {
        publish_with(&mut publisher, topic, expected, alias(1)).await;
    }
    for topic in ["aliased/c", "aliased/d", "aliased/a", "aliased/c"] {
        publisher.publish(topic, QoS::AtLeastOnce, false, topic.as_bytes()).await;
    }
    let mut topics = [const { String::new() }; 3];
    let mut without_topic = 0;
    for _ in 0..8 {
        let message = subscriber.message().await;
        let alias = usize::from(properties_of(&message).topic_alias.unwrap_or(0));
        let mut topic = text(&message.topic);
        if topic.is_empty() {
            without_topic += 1;
            topic.clone_from(&topics[alias]);
        }
        if alias > 0 {
            topics[alias].clone_from(&topic);
        }
        assert_eq!(topic, text(&message.payload), "{message:?}");
    }
    assert!(without_topic > 0, "the broker uses the aliases it may");
    broker.stop();
}

/// [MQTT-3.1.2-23], [MQTT-3.1.3-9]: a session ends when its expiry has passed, not before; a will whose
/// delay is longer than that is published when it ends, which is how this test sees it.
#[tokio::test]
async fn session_expiry() {
    let broker = Broker::start(&[]);
    let mut watcher = Client::connect(clean(&broker, "watcher")).await;
    watcher.subscribe("expired/#", QoS::AtLeastOnce).await;
    let mut long = Client::connect(persistent(&broker, "long", 3600)).await;
    long.subscribe("expired/unused", QoS::AtLeastOnce).await;
    long.cut().await;
    let mut options = persistent(&broker, "short", 1);
    options.set_last_will(will("expired/short", Some(3600)));
    let mut short = Client::connect(options).await;
    short.subscribe("expired/unused", QoS::AtLeastOnce).await;
    short.cut().await;
    assert_eq!(text(&watcher.message().await.topic), "expired/short");
    assert!(!Client::connect(persistent(&broker, "short", 1)).await.connack.session_present);
    assert!(Client::connect(persistent(&broker, "long", 1)).await.connack.session_present);
    broker.stop();
}

/// [MQTT-3.3.2-5]: a message whose expiry has passed while its client was away is not delivered. The
/// delayed will of another client shows that the time has passed.
#[tokio::test]
async fn message_expiry() {
    let broker = Broker::start(&[]);
    let mut away = Client::connect(persistent(&broker, "away", 600)).await;
    away.subscribe("perishable", QoS::AtLeastOnce).await;
    away.disconnect().await;
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    publisher.subscribe("clock", QoS::AtLeastOnce).await;
    let expiring = |seconds| PublishProperties { message_expiry_interval: Some(seconds), ..properties() };
    publish_with(&mut publisher, "perishable", "short", expiring(1)).await;
    publish_with(&mut publisher, "perishable", "long", expiring(600)).await;
    let mut clock = persistent(&broker, "clock", 600);
    clock.set_last_will(will("clock", Some(2)));
    Client::connect(clock).await.cut().await;
    assert_eq!(text(&publisher.message().await.topic), "clock");
    let mut away = Client::connect(persistent(&broker, "away", 600)).await;
    assert_eq!(away.payload().await, "long");
    broker.stop();
}

fn will(topic: &str, delay_seconds: Option<u32>) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: delay_seconds,
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some("text/plain".into()),
        response_topic: None,
        correlation_data: None,
        user_properties: vec![("from".into(), "beyond".into())],
    };
    LastWill::new(topic, "gone", QoS::AtLeastOnce, false, Some(properties))
}

/// [MQTT-3.1.2-8], [MQTT-3.1.3-9]: a will keeps its properties; one that is delayed is not published if
/// the client returns before.
#[tokio::test]
async fn wills() {
    let broker = Broker::start(&[]);
    let mut watcher = Client::connect(clean(&broker, "watcher")).await;
    watcher.subscribe("will/#", QoS::AtLeastOnce).await;
    let delayed = |id: &str, seconds| {
        let mut options = persistent(&broker, id, 600);
        options.set_last_will(will(&format!("will/{id}"), Some(seconds)));
        options
    };
    Client::connect(delayed("returning", 1)).await.cut().await;
    let returned = Client::connect(persistent(&broker, "returning", 600)).await;
    assert!(returned.connack.session_present);
    Client::connect(delayed("staying-away", 2)).await.cut().await;
    let message = watcher.message().await;
    assert_eq!(text(&message.topic), "will/staying-away");
    let received = properties_of(&message);
    assert_eq!(received.user_properties, [("from".to_owned(), "beyond".to_owned())]);
    assert_eq!(received.content_type.as_deref(), Some("text/plain"));
    broker.stop();
}

/// [MQTT-3.3.4-9]: never more unacknowledged messages than the client's Receive Maximum; the rest waits
/// in order, and QoS 0 passes.
#[tokio::test]
async fn receive_maximum() {
    let broker = Broker::start(&[]);
    let mut options = clean(&broker, "subscriber");
    options.set_receive_maximum(Some(2)).set_manual_acks(true);
    let mut subscriber = Client::connect(options).await;
    subscriber.subscribe("window/#", QoS::ExactlyOnce).await;
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for number in 0..20 {
        publisher.publish("window/full", QoS::AtLeastOnce, false, number.to_string().as_bytes()).await;
    }
    let mut unconfirmed = std::collections::VecDeque::new();
    for number in 0..20 {
        if number >= 2 {
            publisher.publish("window/open", QoS::AtMostOnce, false, b"passes").await;
            assert_eq!(subscriber.payload().await, "passes", "before number {number}");
            subscriber.confirm(&unconfirmed.pop_front().expect("two are unconfirmed")).await;
        }
        let message = subscriber.message().await;
        assert_eq!(text(&message.payload), number.to_string());
        unconfirmed.push_back(message);
    }
    broker.stop();
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: a message larger than a client takes is dropped for this client, and
/// only that one.
#[tokio::test]
async fn maximum_packet_size_of_a_client() {
    let broker = Broker::start(&[]);
    let mut options = clean(&broker, "small");
    options.set_max_packet_size(Some(1000));
    let mut small = Client::connect(options).await;
    small.subscribe("sizes", QoS::AtLeastOnce).await;
    let mut other = Client::connect(clean(&broker, "other")).await;
    other.subscribe("sizes", QoS::AtLeastOnce).await;
    other.publish("sizes", QoS::AtLeastOnce, false, &[b'x'; 1500]).await;
    other.publish("sizes", QoS::AtLeastOnce, false, b"fits").await;
    assert_eq!(other.message().await.payload.len(), 1500);
    assert_eq!(small.payload().await, "fits");
    broker.stop();
}

/// Sections 3.8.2.1.2 and 3.8.3.1: subscription identifiers, no local, retain as published and retain
/// handling do what they say; unsubscribing from what is not there is answered with 0x11.
#[tokio::test]
async fn subscription_options() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(clean(&broker, "client")).await;
    let mut other = Client::connect(clean(&broker, "other")).await;
    other.publish("options/kept", QoS::AtLeastOnce, true, b"kept").await;

    // [MQTT-3.8.3-3], and [MQTT-3.3.4-3] to [MQTT-3.3.4-5]
    let filter = |path: &str| Filter::new(path, QoS::AtLeastOnce);
    let no_local = Filter { nolocal: true, ..filter("options/local") };
    subscribe_with(&mut client, no_local, Some(268_435_455)).await;
    client.publish("options/local", QoS::AtLeastOnce, false, b"own").await;
    other.publish("options/local", QoS::AtLeastOnce, false, b"other").await;
    let message = client.message().await;
    assert_eq!(text(&message.payload), "other");
    assert_eq!(properties_of(&message).subscription_identifiers, [268_435_455]);

    // [MQTT-3.3.1-9] to [MQTT-3.3.1-13]
    let kept = |retain_forward_rule| Filter { retain_forward_rule, ..filter("options/kept") };
    subscribe_with(&mut client, kept(RetainForwardRule::Never), None).await;
    subscribe_with(&mut client, kept(RetainForwardRule::OnNewSubscribe), None).await;
    other.publish("options/kept", QoS::AtLeastOnce, false, b"live").await;
    assert_eq!(client.payload().await, "live", "neither rule lets the retained message through");
    subscribe_with(&mut client, kept(RetainForwardRule::OnEverySubscribe), None).await;
    assert_eq!(client.payload().await, "kept");

    let as_published = Filter { preserve_retain: true, ..filter("options/kept") };
    subscribe_with(&mut client, as_published, None).await;
    assert_eq!(client.payload().await, "kept");
    other.publish("options/kept", QoS::AtLeastOnce, true, b"again").await;
    assert!(client.message().await.retain);

    for (filter, expected) in
        [("options/kept", UnsubAckReason::Success), ("options/kept", UnsubAckReason::NoSubscriptionExisted)]
    {
        let Packet::UnsubAck(answer) = client.unsubscribe(filter).await else { unreachable!() };
        assert_eq!(answer.reasons, [expected]);
    }
    broker.stop();
}

/// [MQTT-3.8.3-4], section 4.8.2: messages of a group reach one member each; what one leaves
/// unacknowledged goes to another; no local is refused.
#[tokio::test]
async fn shared_subscriptions() {
    const MESSAGES: usize = 100;
    let broker = Broker::start(&[]);
    let mut careful = clean(&broker, "leaves");
    careful.set_manual_acks(true);
    let mut leaves = Client::connect(careful).await;
    leaves.subscribe("$share/group/work", QoS::AtLeastOnce).await;
    let mut stays = Client::connect(clean(&broker, "stays")).await;
    stays.subscribe("$share/group/work", QoS::AtLeastOnce).await;
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for number in 0..MESSAGES {
        publisher.publish("work", QoS::AtLeastOnce, false, number.to_string().as_bytes()).await;
    }
    for _ in 0..MESSAGES / 2 {
        leaves.message().await;
    }
    leaves.cut().await;
    let mut numbers = Vec::new();
    for _ in 0..MESSAGES {
        numbers.push(stays.payload().await.parse::<usize>().expect("a number"));
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..MESSAGES), "each once: {numbers:?}");

    let no_local = Filter { nolocal: true, ..Filter::new("$share/group/work", QoS::AtLeastOnce) };
    publisher.requests.subscribe_many([no_local]).await.expect("the client runs");
    assert_eq!(farewell(publisher).await, DisconnectReasonCode::ProtocolError);
    broker.stop();
}

/// Section 4.10: a request carries where to answer and by what to know the answer.
#[tokio::test]
async fn request_and_response() {
    let broker = Broker::start(&[]);
    let mut server = Client::connect(clean(&broker, "server")).await;
    server.subscribe("service", QoS::AtLeastOnce).await;
    let mut asking = Client::connect(clean(&broker, "asking")).await;
    asking.subscribe("answers/asking", QoS::AtLeastOnce).await;
    for number in 0_u8..10 {
        let request = PublishProperties {
            response_topic: Some("answers/asking".into()),
            correlation_data: Some(vec![number].into()),
            ..properties()
        };
        publish_with(&mut asking, "service", &number.to_string(), request).await;
        let request = server.message().await;
        let PublishProperties { response_topic, correlation_data, .. } = properties_of(&request);
        let answer = PublishProperties { correlation_data, ..properties() };
        publish_with(&mut server, &response_topic.expect("sent along"), "answer", answer).await;
        let answer = asking.message().await;
        assert_eq!(properties_of(&answer).correlation_data.as_deref(), Some(&[number][..]));
    }
    broker.stop();
}

/// [MQTT-3.1.4-3]: the client whose place is taken is told 0x8E before the other one is let in.
#[tokio::test]
async fn take_over() {
    let broker = Broker::start(&[]);
    let mut twin = Client::connect(persistent(&broker, "twin", 600)).await;
    twin.subscribe("taken", QoS::ExactlyOnce).await;
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for round in 0..50 {
        let next = Client::connect(persistent(&broker, "twin", 600)).await;
        assert!(next.connack.session_present);
        let first = std::mem::replace(&mut twin, next);
        assert_eq!(farewell(first).await, DisconnectReasonCode::SessionTakenOver);
        publisher.publish("taken", QoS::AtLeastOnce, false, round.to_string().as_bytes()).await;
        assert_eq!(text(&twin.new_message().await.payload), round.to_string());
    }
    broker.stop();
}

/// Payloads of megabytes arrive whole with each QoS, with properties and without.
#[tokio::test]
async fn large_payloads() {
    let broker = Broker::start(&[]);
    let mut subscriber = Client::connect(clean(&broker, "subscriber")).await;
    subscriber.subscribe("large", QoS::ExactlyOnce).await;
    let mut publisher = Client::connect(clean(&broker, "publisher")).await;
    for (seed, qos) in (1_u8..).zip(QOS) {
        let payload: Vec<u8> =
            (0..4 * 1024 * 1024).map(|at: usize| seed ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        publisher.publish("large", qos, false, &payload).await;
        assert!(subscriber.message().await.payload == payload, "{qos:?}");
    }
    broker.stop();
}

/// SIGTERM while clients are connected and messages under way: each client of 5.0 is told 0x8B, the
/// process ends in order.
#[tokio::test]
async fn sigterm_says_goodbye() {
    const CLIENTS: usize = 200;
    let mut broker = Broker::start(&[]);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Client::connect(persistent(&broker, &format!("client-{number}"), 600)).await;
        client.subscribe("load/#", QoS::AtLeastOnce).await;
        clients.push(client);
    }
    let publisher = Client::connect(clean(&broker, "publisher")).await;
    let requests = publisher.requests.clone();
    let load = tokio::spawn(async move {
        // Until the library refuses, because the broker is gone.
        while requests.publish("load/x", QoS::AtLeastOnce, false, "load").await.is_ok() {}
    });
    assert_eq!(clients[0].payload().await, "load");
    broker.signal("TERM");
    for client in clients {
        assert_eq!(farewell(client).await, DisconnectReasonCode::ServerShuttingDown);
    }
    assert_eq!(farewell(publisher).await, DisconnectReasonCode::ServerShuttingDown);
    within(load).await.expect("the load ends");
    let status = tokio::task::spawn_blocking(move || broker.wait()).await.expect("the broker ends");
    assert_eq!(status.code(), Some(0));
}

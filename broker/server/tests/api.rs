//! `/api/v1` with real clients: what is listed is what is there, what is done is seen by them, and the document tells
//! of all of it.

#[path = "support/http.rs"]
mod http;
mod library {
    pub use rumqttc::v5::mqttbytes::QoS;
    pub use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet, Publish};
    pub use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
}
#[path = "support/client.rs"]
mod client;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use client::{Client, text};
use library::{MqttOptions, QoS};
use serde_json::{Value, json};
use support::Broker;

fn start() -> (Broker, SocketAddr) {
    let mut broker = Broker::start(&["--admin", "127.0.0.1:0"]);
    let address = http::address(&mut broker);
    (broker, address)
}

fn options(broker: &Broker, id: &str) -> MqttOptions {
    MqttOptions::new(id, broker.address().ip().to_string(), broker.address().port())
}

fn lasting(broker: &Broker, id: &str) -> MqttOptions {
    let mut options = options(broker, id);
    options.set_clean_start(false);
    options.set_session_expiry_interval(Some(3600));
    options
}

/// A GET that goes well.
fn get(admin: SocketAddr, path: &str) -> Value {
    let response = http::get(admin, path);
    assert_eq!(response.status, 200, "{path}: {}", response.body);
    response.json()
}

/// What a request is refused with.
fn refused(admin: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let response = http::request(admin, method, path, &[], body);
    let json = response.json();
    assert!(json["error"]["message"].is_string(), "{json}");
    (response.status, json["error"]["code"].as_str().expect("a code").to_owned())
}

/// A request that is answered with "done".
fn act(admin: SocketAddr, method: &str, path: &str, body: &Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = http::request(admin, method, path, &[], &body);
    assert_eq!(response.status, 204, "{method} {path}: {}", response.body);
}

/// A field of all items of a list, whose pages have so many.
fn all(admin: SocketAddr, path: &str, field: &str, limit: usize) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let and = if path.contains('?') { '&' } else { '?' };
        let page = get(admin, &format!("{path}{and}limit={limit}{cursor}"));
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= limit, "{page}");
        names.extend(items.iter().map(|item| item[field].as_str().expect("a text").to_owned()));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return names,
        }
    }
}

/// Clients, sessions and subscriptions are listed over all cores, in pages of any size, each once.
#[tokio::test]
async fn clients_sessions_and_subscriptions_are_listed() {
    let (broker, admin) = start();
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = Client::connect(options(&broker, &format!("here/{number}"))).await;
        client.subscribe(&format!("f/{number}/+"), QoS::AtLeastOnce).await;
        clients.push(client);
    }
    for number in 0..5 {
        Client::connect(lasting(&broker, &format!("gone {number}"))).await.disconnect().await;
    }
    let names = |range: std::ops::Range<usize>, prefix: &str| -> BTreeSet<String> {
        range.map(|number| format!("{prefix}{number}")).collect()
    };
    for limit in [1, 7, 1000] {
        let listed = all(admin, "/api/v1/clients", "client", limit);
        assert_eq!((listed.len(), listed.into_iter().collect()), (20, names(0..20, "here/")), "{limit}");
        let listed = all(admin, "/api/v1/sessions?state=away", "client", limit);
        assert_eq!((listed.len(), listed.into_iter().collect()), (5, names(0..5, "gone ")), "{limit}");
        assert_eq!(all(admin, "/api/v1/sessions?tenant=default", "client", limit).len(), 25);
        assert_eq!(all(admin, "/api/v1/subscriptions", "filter", limit).len(), 20);
    }
    assert_eq!(all(admin, "/api/v1/clients?search=e/1", "client", 100).len(), 11);
    assert_eq!(all(admin, "/api/v1/clients?tenant=other", "client", 100).len(), 0);
    assert_eq!(all(admin, "/api/v1/subscriptions?tenant=default&client=here/7", "filter", 1), ["f/7/+"]);
    assert_eq!(all(admin, "/api/v1/subscriptions?search=f/19", "client", 1), ["here/19"]);
    let session = get(admin, "/api/v1/sessions/here%2F7");
    assert_eq!(
        (&session["state"], &session["protocol"], &session["subscriptions"]),
        (&json!("online"), &json!("5.0"), &json!(1))
    );
    assert!(session["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{session}");
    let session = get(admin, "/api/v1/sessions/gone%203?tenant=default");
    assert_eq!((&session["state"], &session["session_expiry_seconds"]), (&json!("away"), &json!(3600)));
    let away = session["expires_ms"].as_u64().unwrap() - session["away_since_ms"].as_u64().unwrap();
    assert_eq!((away, &session["queue_drop"]), (3_600_000, &json!("newest")));
    assert_eq!(refused(admin, "GET", "/api/v1/sessions/nobody", ""), (404, "no_session".to_owned()));
    broker.stop();
}

/// A client is disconnected and told where to go; all of a tenant are; and sessions whose clients are away are ended.
#[tokio::test]
async fn clients_go() {
    let (broker, admin) = start();
    let client = Client::connect(options(&broker, "a")).await;
    act(admin, "DELETE", "/api/v1/clients/a?redirect=temp_use&server_reference=there:1883", &Value::Null);
    let error = client.closed().await.to_string();
    assert!(error.contains("UseAnotherServer") || error.contains("disconnect"), "{error}");
    assert_eq!(refused(admin, "DELETE", "/api/v1/clients/a", ""), (404, "no_session".to_owned()));
    let wrong = refused(admin, "DELETE", "/api/v1/clients/a?server_reference=x", "");
    assert_eq!(wrong, (400, "bad_request".to_owned()));
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(Client::connect(lasting(&broker, &number.to_string())).await);
    }
    let gone = http::request(admin, "DELETE", "/api/v1/clients?tenant=default", &[], "");
    assert_eq!((gone.status, gone.json()), (200, json!({"count": 10})));
    for client in clients {
        client.closed().await;
    }
    let away = refused(admin, "DELETE", "/api/v1/clients/3", "");
    assert_eq!(away, (409, "client_away".to_owned()));
    let expire = |seconds| {
        http::request(
            admin,
            "DELETE",
            &format!("/api/v1/sessions?tenant=default&away_seconds={seconds}"),
            &[],
            "",
        )
    };
    assert_eq!(expire(3000).json(), json!({"count": 0}));
    assert_eq!(expire(0).json(), json!({"count": 10}));
    assert_eq!(all(admin, "/api/v1/sessions", "client", 100).len(), 0);
    assert_eq!(refused(admin, "DELETE", "/api/v1/sessions?tenant=default", "").0, 400);
    broker.stop();
}

/// Messages are published with their properties; clients are subscribed and unsubscribed for.
#[tokio::test]
async fn messages_and_subscriptions_are_made() {
    let (broker, admin) = start();
    let mut client = Client::connect(options(&broker, "a")).await;
    let subscription = json!({"client": "a", "filter": "t/+", "qos": 1});
    act(admin, "POST", "/api/v1/subscriptions", &subscription);
    let message = json!({
        "topic": "t/1", "qos": 1, "payload": "hé", "content_type": "text/plain", "expiry_seconds": 60,
        "user_properties": [["name", "value"]],
    });
    act(admin, "POST", "/api/v1/messages", &message);
    let received = client.message().await;
    let properties = received.properties.expect("it has some");
    assert_eq!((text(&received.topic), text(&received.payload)), ("t/1".to_owned(), "hé".to_owned()));
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.user_properties, [("name".to_owned(), "value".to_owned())]);
    act(admin, "POST", "/api/v1/messages", &json!({"topic": "t/2", "payload_base64": "AP8="}));
    assert_eq!(client.message().await.payload.as_ref(), [0, 255]);
    act(admin, "DELETE", "/api/v1/subscriptions?client=a&filter=t/%2B", &Value::Null);
    let again = refused(admin, "DELETE", "/api/v1/subscriptions?client=a&filter=t/%2B", "");
    assert_eq!(again, (404, "no_subscription".to_owned()));
    assert_eq!(all(admin, "/api/v1/subscriptions", "filter", 10).len(), 0);
    for (body, code) in [
        (json!({"topic": "a/#"}), (400, "bad_request")),
        (json!({"topic": "a", "qos": 3}), (400, "bad_request")),
        (json!({"topic": "a", "payload": "1", "payload_base64": "MQ=="}), (400, "bad_request")),
        (json!({"payload": "1"}), (400, "bad_request")),
        (json!({"topic": "a", "tenant": "nobody"}), (404, "no_tenant")),
    ] {
        let (status, word) = refused(admin, "POST", "/api/v1/messages", &body.to_string());
        assert_eq!((status, word.as_str()), code, "{body}");
    }
    broker.stop();
}

/// Retained messages are listed by filter, with their payloads if they are asked for, and cleared; tenants are listed
/// with what they have.
#[tokio::test]
async fn retained_messages_and_tenants() {
    let (broker, admin) = start();
    for number in 0..150 {
        let topic = format!("r/{number:03}");
        act(admin, "POST", "/api/v1/messages", &json!({"topic": topic, "payload": "kept", "retain": true}));
    }
    act(admin, "POST", "/api/v1/messages", &json!({"topic": "b", "payload_base64": "/w==", "retain": true}));
    for limit in [9, 64, 1000] {
        let listed: BTreeSet<_> =
            all(admin, "/api/v1/retained?filter=r/%2B", "topic", limit).into_iter().collect();
        assert_eq!(listed, (0..150).map(|number| format!("r/{number:03}")).collect(), "{limit}");
    }
    let shown = get(admin, "/api/v1/retained?filter=r/007&payload=true");
    assert_eq!(shown["items"], json!([{"topic": "r/007", "qos": 0, "payload_bytes": 4, "payload": "kept"}]));
    assert_eq!(get(admin, "/api/v1/retained?filter=b&payload=true")["items"][0]["payload_base64"], "/w==");
    let tenant = &get(admin, "/api/v1/tenants")["items"][0];
    assert_eq!(
        (&tenant["name"], tenant["retained_messages"].as_u64() >= Some(151)),
        (&json!("default"), true)
    );
    let cleared = http::request(admin, "DELETE", "/api/v1/retained?filter=r/%23", &[], "");
    assert_eq!((cleared.status, cleared.json()), (200, json!({"count": 150})));
    assert_eq!(all(admin, "/api/v1/retained", "topic", 10), ["b"]);
    assert_eq!(refused(admin, "GET", "/api/v1/retained?filter=a%23", ""), (400, "bad_request".to_owned()));
    broker.stop();
}

/// A parameter or a field that is misspelt is refused, and not left out: who was to be disconnected alone would not be.
#[tokio::test]
async fn misspelt_parameters_are_refused() {
    let (broker, admin) = start();
    let ann = Client::connect(options(&broker, "ann")).await;
    for (method, path, body) in [
        ("DELETE", "/api/v1/clients?tenant=default&usr=bob", ""),
        ("DELETE", "/api/v1/sessions?tenant=default&away_seconds=1&away=2", ""),
        ("GET", "/api/v1/clients?after=x", ""),
        ("GET", "/cluster?x=1", ""),
        ("POST", "/api/v1/messages", r#"{"topic": "a", "payload": "x", "retian": true}"#),
        ("POST", "/api/v1/bans", r#"{"client": "ann", "until": 1}"#),
    ] {
        assert_eq!(refused(admin, method, path, body), (400, "bad_request".to_owned()), "{method} {path}");
    }
    assert_eq!(all(admin, "/api/v1/clients", "client", 10), ["ann"]);
    act(admin, "DELETE", "/api/v1/clients/ann?tenant=default", &Value::Null);
    ann.closed().await;
    broker.stop();
}

/// The cluster has the shape that is known; the document tells of every path, and each of them is there; what is wrong
/// with a request is said in the one shape.
#[test]
fn cluster_and_document() {
    let (broker, admin) = start();
    let cluster = get(admin, "/cluster");
    let node = &cluster["nodes"][0];
    assert_eq!((&cluster["env"], &cluster["local"]), (&json!("hermod"), &node["id"]));
    assert_eq!(node["port"], broker.address().port());
    assert_eq!((&node["address"], &node["pid"]), (&json!("127.0.0.1"), &json!(broker.pid())));
    let document = get(admin, "/api/v1/openapi.json");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() >= 9, "{paths:?}");
    // Types of the same name took each other's place in the document.
    let schema = |content: &Value| {
        let name = content["content"]["application/json"]["schema"]["$ref"].as_str().expect("a reference");
        document.pointer(&name[1..]).expect("it refers to something").to_string()
    };
    for (path, has) in [("bans", "reason"), ("traces", "topic"), ("subscriptions", "filter")] {
        let wanted = schema(&paths[&format!("/api/v1/{path}")]["post"]["requestBody"]);
        assert!(wanted.contains(&format!("\"{has}\"")), "{path}: {wanted}");
    }
    let bans = schema(&paths["/api/v1/bans"]["get"]["responses"]["200"]);
    assert!(bans.contains("\"until_ms\""), "{bans}");
    for (path, methods) in paths {
        let path = path.replace("{client}", "nobody");
        for method in methods.as_object().expect("methods").keys() {
            let response = http::request(admin, &method.to_uppercase(), &path, &[], "");
            let code =
                if response.status < 300 { Value::Null } else { response.json()["error"]["code"].clone() };
            assert!(code != "no_such_path" && code != "no_such_method", "{method} {path}: {response:?}");
        }
    }
    for path in [
        "/api/v1/clients?limit=0",
        "/api/v1/clients?limit=x",
        "/api/v1/clients?cursor=x",
        "/api/v1/sessions?state=x",
    ] {
        assert_eq!(refused(admin, "GET", path, ""), (400, "bad_request".to_owned()), "{path}");
    }
    assert_eq!(refused(admin, "POST", "/api/v1/messages", "{"), (400, "bad_request".to_owned()));
    broker.stop();
}

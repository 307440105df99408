//! The commands that ask a running node: as tables for people, as JSON for programs, and with an exit code.

#[path = "support/http.rs"]
mod http;
mod library {
    pub use rumqttc::*;
}
#[path = "support/client.rs"]
mod client;
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Output};

use client::Client;
use rumqttc::{MqttOptions, QoS};
use serde_json::Value;
use support::Broker;

struct Node {
    broker: Broker,
    admin: SocketAddr,
}

impl Node {
    fn start() -> Node {
        Node::start_with(&[])
    }

    fn start_with(arguments: &[&str]) -> Node {
        let mut broker = Broker::start(&[&["--admin", "127.0.0.1:0"], arguments].concat());
        let admin = http::address(&mut broker);
        Node { broker, admin }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
        command.args(arguments).args(["--admin", &self.admin.to_string()]);
        command.output().expect("the binary starts")
    }

    /// What a command that goes well shows.
    fn shown(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.shown(&[arguments, &["--json"]].concat())).expect("JSON")
    }

    async fn connect(&self, id: &str) -> Client {
        let address = self.broker.address();
        Client::connect(MqttOptions::new(id, address.ip().to_string(), address.port())).await
    }
}

/// The words of the lines below the headings.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

/// Every list as a table and as JSON; and one session, the node and the cluster, field by field.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_looked_at() {
    let node = Node::start();
    let mut client = node.connect("a/b c").await;
    client.subscribe("t/+", QoS::AtLeastOnce).await;
    client.publish("r/1", QoS::AtLeastOnce, true, b"kept").await;
    let clients = node.shown(&["clients"]);
    assert!(clients.starts_with("TENANT   CLIENT"), "{clients}");
    assert_eq!(rows(&clients).len(), 1);
    assert_eq!(node.json(&["clients", "--search", "b c"])[0]["client"], "a/b c");
    assert_eq!(node.json(&["sessions", "--state", "away"]), serde_json::json!([]));
    assert_eq!(rows(&node.shown(&["subscriptions"]))[0][3..], ["t/+", "1", "false", "-"]);
    assert_eq!(rows(&node.shown(&["retained", "--payload"])), [["r/1", "1", "4", "kept", "-"]]);
    assert_eq!(rows(&node.shown(&["tenants"]))[0][..2], ["default", "1"]);
    let session = node.shown(&["session", "a/b c"]);
    assert!(session.lines().any(|line| line.split_whitespace().eq(["state", "online"])), "{session}");
    let status = node.shown(&["status"]);
    assert!(status.lines().any(|line| line.split_whitespace().eq(["connections", "1"])), "{status}");
    assert_eq!(node.json(&["cluster"])["nodes"][0]["pid"], node.broker.pid());
    assert!(node.shown(&["metrics"]).contains("\nhermod_connections{core=\"0\"}"));
    node.broker.stop();
}

/// What can be done is done: clients are subscribed for, published to and sent away, what is retained is cleared.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_acted_on() {
    let node = Node::start();
    let mut client = node.connect("a").await;
    assert_eq!(node.shown(&["subscribe", "a", "t/#", "--qos", "1"]), "");
    assert_eq!(node.shown(&["publish", "t/1", "hello", "--qos", "1", "--retain"]), "");
    assert_eq!(client.payload().await, "hello");
    assert_eq!(node.shown(&["unsubscribe", "a", "t/#"]), "");
    assert_eq!(node.shown(&["clear-retained", "t/+"]), "1\n");
    assert_eq!(node.shown(&["expire-sessions", "--away-seconds", "0"]), "0\n");
    assert_eq!(node.shown(&["kick", "a"]), "");
    client.closed().await;
    let other = node.connect("b").await;
    assert_eq!(node.json(&["kick", "--all"]), serde_json::json!({"count": 1}));
    other.closed().await;
    node.broker.stop();
}

/// Who is kept out goes and does not come in again, also not after the node has started anew, until they are let in.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_kept_out() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (file, bans) = (folder.path().join("hermod.toml"), folder.path().join("bans"));
    std::fs::write(&file, format!("[admin]\nbans_file = '{}'\n", bans.display()))
        .expect("it can be written to");
    let arguments = ["--config", file.to_str().expect("UTF-8")];
    let node = Node::start_with(&arguments);
    let client = node.connect("eve").await;
    let ban = ["ban", "--client", "eve", "--tenant", "default", "--seconds", "3600", "--reason", "a test"];
    assert_eq!(node.shown(&ban), "");
    client.closed().await;
    assert_eq!(rows(&node.shown(&["bans"]))[0][..3], ["client", "eve", "default"]);
    node.broker.stop();

    let node = Node::start_with(&arguments);
    let listed = node.json(&["bans"]);
    assert_eq!((&listed[0]["name"], &listed[0]["reason"]), (&"eve".into(), &"a test".into()));
    let address = node.broker.address();
    let refused = MqttOptions::new("eve", address.ip().to_string(), address.port());
    let refusal = Client::try_connect(refused).await.err().expect("refused");
    let code = rumqttc::ConnectReturnCode::NotAuthorized;
    assert!(matches!(refusal, rumqttc::ConnectionError::ConnectionRefused(it) if it == code), "{refusal}");
    assert_eq!(node.shown(&["unban", "--client", "eve", "--tenant", "default"]), "");
    assert_eq!(node.json(&["bans"]), serde_json::json!([]));
    node.connect("eve").await;
    let again = node.run(&["unban", "--client", "eve"]);
    assert_eq!(again.status.code(), Some(1));
    node.broker.stop();
}

/// Who came too often is kept out after the node has started anew, too, wherever its home is then; by a node without
/// an administration as well.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_often_is_kept_out() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let (file, bans) = (folder.path().join("hermod.toml"), folder.path().join("bans"));
    let text =
        format!("[admin]\nbans_file = '{}'\n[tenants.default]\nflapping_connects_max = 2\n", bans.display());
    std::fs::write(&file, text).expect("it can be written to");
    let arguments = ["--config", file.to_str().expect("UTF-8"), "--admin", ""];
    let broker = Broker::start(&arguments);
    let options = |broker: &Broker, id| {
        let address = broker.address();
        MqttOptions::new(id, address.ip().to_string(), address.port())
    };
    let mut let_in = 0;
    while Client::try_connect(options(&broker, "moth")).await.is_ok() {
        let_in += 1;
    }
    assert_eq!(let_in, 2);
    // It is written down by another thread.
    while !std::fs::read_to_string(&bans).is_ok_and(|text| text.contains("moth")) {
        std::thread::yield_now();
    }
    broker.kill();
    let broker = Broker::start(&[&arguments[..], &["--cores", "0"]].concat());
    assert!(Client::try_connect(options(&broker, "moth")).await.is_err());
    Client::connect(options(&broker, "other")).await;
    broker.stop();
}

/// A trace says what happens to a client's messages while it runs, a line for each step, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_traced() {
    let node = Node::start();
    let mut client = node.connect("lamp").await;
    client.subscribe("t/+", QoS::AtLeastOnce).await;
    let traced =
        ["trace", "--client", "lamp", "--seconds", "86400", "--json", "--admin", &node.admin.to_string()]
            .map(str::to_owned);
    let mut trace = Command::new(env!("CARGO_BIN_EXE_hermod"))
        .args(traced)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // It begins when the node has it.
    let get = |path: &str| http::get(node.admin, path).json();
    while get("/api/v1/traces")["items"].as_array().is_none_or(Vec::is_empty) {
        std::thread::yield_now();
    }
    client.publish("t/1", QoS::AtLeastOnce, false, b"x").await;
    assert_eq!(client.payload().await, "x");
    let lines = BufReader::new(trace.stdout.take().expect("a pipe")).lines();
    let mut events = Vec::new();
    for line in lines {
        let line: Value = serde_json::from_str(&line.expect("UTF-8")).expect("JSON");
        events.push(line["event"].as_str().expect("an event").to_owned());
        if events.last().is_some_and(|event| event == "confirmed") {
            let id = get("/api/v1/traces")["items"][0]["id"].clone();
            let path = format!("/api/v1/traces/{id}?keep=true");
            assert_eq!(http::request(node.admin, "DELETE", &path, &[], "").status, 204);
        }
    }
    for event in ["received", "matched", "queued", "sent", "acknowledged", "confirmed"] {
        assert!(events.iter().any(|it| it == event), "{event} in {events:?}");
    }
    assert!(trace.wait().expect("it ends").success());
    assert_eq!(get("/api/v1/traces")["items"], serde_json::json!([]));
    node.broker.stop();
}

/// Each log has a range of sessions and one of retained messages, and together they have all keys.
#[test]
fn ranges_are_listed() {
    let node = Node::start();
    let ranges = node.json(&["ranges"]);
    let ranges = ranges.as_array().expect("a list");
    for service in ["inbox", "retain"] {
        let mut next = 0;
        for range in ranges.iter().filter(|range| range["service"] == service) {
            assert_eq!((range["key_from"].as_u64(), &range["leader"]), (Some(next), &true.into()));
            next = range["key_until"].as_u64().expect("a number");
        }
        assert_eq!(next, 65536);
    }
    assert_eq!(rows(&node.shown(&["ranges"])).len(), ranges.len());
    node.broker.stop();
}

/// What goes wrong is said in a line, with an exit code.
#[test]
fn errors_are_said() {
    let node = Node::start();
    let failed = |output: Output, message: &str| {
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("hermod: ") && said.contains(message) && said.lines().count() == 1,
            "{said}"
        );
    };
    failed(node.run(&["kick", "nobody"]), "the client has no session");
    failed(node.run(&["session", "nobody", "--token-file", "/no/such"]), "--token-file /no/such");
    failed(node.run(&["retained", "a#"]), "filter");
    let admin = node.admin;
    node.broker.stop();
    let output =
        Command::new(env!("CARGO_BIN_EXE_hermod")).args(["status", "--admin", &admin.to_string()]).output();
    failed(output.expect("the binary starts"), &admin.to_string());
}

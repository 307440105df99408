//! The commands that ask a running node: as tables for people, as JSON for programs, and with an exit code.

#[path = "support/http.rs"]
mod http;
mod library {
    pub use rumqttc::*;
}
#[path = "support/client.rs"]
mod client;
mod support;

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
        let mut broker = Broker::start(&["--admin", "127.0.0.1:0"]);
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

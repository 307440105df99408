//! What follows from who a client is: its tenant, its permissions, and what it is told.

mod host;

use std::sync::Arc;

use broker_core::access::{Action, Identity, Permissions, Rule, Rules, Verdict};
use broker_core::config::{Authentication, Config, Settings};
use host::asking::{asking, identity};
use host::packets::will;
use host::{Asked, Node};
use mqtt::{Connect, QoS, ReasonCode, Version, Will};

fn ask(node: &Node) -> Asked {
    node.question().expect("a question")
}

/// [MQTT-3.1.2-28] Response information is for clients that ask for it.
#[test]
fn response_information() {
    for (asked_for, told) in [(true, Some("replies/7")), (false, None)] {
        let node = asking(2);
        let mut connect = Connect::new(Version::V5, "client");
        connect.properties.request_response_information = asked_for;
        let mut client = node.accept();
        client.send_connect(&connect);
        let identity = Identity { response_information: Some(Arc::from("replies/7")), ..identity() };
        node.answer(&ask(&node), Verdict::Allow { identity, data: None });
        assert_eq!(client.expect_connack().properties.response_information, told);
    }
}

/// 3.1.4 and 5.4.2: a will to a topic that the client may not publish to is refused with it.
#[test]
fn permissions_of_wills() {
    let rule = |filter: &str, allow| Rule { action: Action::Publish, filter: filter.into(), allow };
    let rules = Arc::new(Rules::new([rule("a/#", true), rule("a/secret", false)]));
    for (topic, allowed) in [("a/b", true), ("a", true), ("a/secret", false), ("b", false)] {
        let node = asking(2);
        let mut client = node.accept();
        let will = Will { retain: true, ..will(topic, "gone") };
        client.send_connect(&Connect { will: Some(will), ..Connect::new(Version::V5, "client") });
        let identity = Identity { permissions: Permissions::Own(Arc::clone(&rules)), ..identity() };
        node.answer(&ask(&node), Verdict::Allow { identity, data: None });
        let reason = client.expect_connack().reason;
        assert_eq!(reason, if allowed { ReasonCode::SUCCESS } else { ReasonCode::NOT_AUTHORIZED }, "{topic}");
        assert_eq!(client.is_closed(), !allowed);
    }
}

/// Clients of different tenants neither meet under one client id nor on one topic, wills included.
#[test]
fn tenants_are_apart() {
    let quiet = Arc::new(Settings { receive_maximum: 9, ..Settings::default() });
    let node = Node::with(Config {
        cores: 3,
        authentication: Authentication::Ask,
        tenants: [("b".to_owned(), quiet)].into(),
        ..Config::default()
    });
    let connect = |tenant: &str, will: Option<Will<'static>>| {
        let mut client = node.accept();
        client.send_connect(&Connect { will, ..Connect::new(Version::V5, "client") });
        let identity = Identity { tenant: Arc::from(tenant), ..identity() };
        node.answer(&ask(&node), Verdict::Allow { identity, data: None });
        let maximum = client.expect_connack().properties.receive_maximum;
        assert_eq!(maximum == 9, tenant == "b");
        client
    };
    let mut one = connect("a", None);
    one.subscribe("#", QoS::AtMostOnce);
    let mut other = connect("b", Some(will("t", "gone")));
    one.expect_silence();
    other.publish("t", QoS::AtMostOnce, "x");
    other.drop_socket();
    one.expect_silence();
}

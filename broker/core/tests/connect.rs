//! CONNECT and CONNACK: who is let in, how, and what it is told.

mod host;

use host::{Node, VERSIONS};

/// [MQTT-3.2.0-2] One CONNECT is answered by one CONNACK, in every version, however its bytes arrive.
#[test]
fn one_connack_for_one_connect() {
    for version in VERSIONS {
        for piece_bytes in [1, 7, 65_536] {
            let node = Node::new(1);
            node.split_input(piece_bytes);
            let mut client = node.connect(version, "client");
            client.expect_silence();
            client.ping();
            client.expect_silence();
        }
    }
}

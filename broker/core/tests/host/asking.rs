//! Nodes that ask their host about every client, and the usual answer.

use std::sync::Arc;

use broker_core::access::{Identity, Permissions};
use broker_core::config::{Authentication, Config};

use super::Node;

/// A node that asks about every CONNECT.
pub fn asking(cores: u16) -> Node {
    Node::with(Config { cores, authentication: Authentication::Ask, ..Config::default() })
}

/// A user of the default tenant who may do everything.
pub fn identity() -> Identity {
    Identity {
        tenant: Arc::from("default"),
        user: Arc::from("user"),
        response_information: None,
        expires: None,
        listed: false,
        permissions: Permissions::All,
    }
}

//! Who a client is and what it may do: the questions the core asks its host, and the answers.
//!
//! The core never judges credentials itself. With [`Authentication::Open`](crate::config::Authentication)
//! everybody is let in without a question; otherwise each CONNECT (and each AUTH after it) becomes a
//! [`Question`] that the host answers in its own time, on whatever thread it likes.
//!
//! What a client may do is judged here, by [`Rules`]: publishing where a message or will comes in, receiving
//! where one is about to be delivered, to whatever subscription, as Mosquitto does. A subscription itself is
//! refused only where rules of the client's own leave it nothing to receive: see [`Permissions`].

mod doubt;
mod grant;
mod list;
mod pattern;
mod rules;

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt::ReasonCode;

use crate::identity::ConnectionId;
use crate::time::Wall;

pub use doubt::Doubt;
pub(crate) use grant::{Access, Grant};
pub use list::{AccessList, Line, Subject};
pub use rules::{Action, Rule, Rules};

/// What the host is asked about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom the answer concerns.
    pub connection: ConnectionId,
    /// Which listener accepted it.
    pub listener: u16,
    /// The tenant of the name under which the client has asked for us, if that says one; of a client that is online,
    /// its own.
    pub tenant_by_name: Option<Arc<str>>,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// The client id as it was sent, empty if the client left it to us.
    pub client_id: String,
    /// The user name, if any.
    pub username: Option<String>,
    /// The password, if any.
    pub password: Option<Vec<u8>>,
    /// The method of an enhanced authentication [MQTT 5, section 4.12], if it is one.
    pub method: Option<String>,
    /// The data of this step of it.
    pub data: Option<Vec<u8>>,
    /// First question of a connection, a further step, or a re-authentication of a client already online.
    pub step: Step,
}

/// Where in the exchange a question stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From CONNECT.
    Connect,
    /// From an AUTH with reason 0x18, Continue authentication.
    Continue,
    /// From an AUTH with reason 0x19, Re-authenticate.
    Reauthenticate,
}

/// The host's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Whom it concerns; ignored if that connection is gone.
    pub connection: ConnectionId,
    /// What to do.
    pub verdict: Verdict,
}

/// The outcome of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let the client in (or stay in, after a re-authentication).
    Allow {
        /// Who it is.
        identity: Identity,
        /// Authentication data for CONNACK or the closing AUTH.
        data: Option<Vec<u8>>,
    },
    /// Another step of an enhanced authentication.
    Continue {
        /// Data of the AUTH packet to send.
        data: Option<Vec<u8>>,
    },
    /// Refuse the client.
    Refuse {
        /// For CONNACK, or DISCONNECT after a re-authentication.
        reason: ReasonCode,
        /// Why, for the operator.
        doubt: Option<Doubt>,
        /// Where to go instead, with 0x9C (use another server) and 0x9D (server moved).
        server_reference: Option<String>,
    },
}

/// An authenticated client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its tenant: part of every key.
    pub tenant: Arc<str>,
    /// The user, for rules; empty if anonymous.
    pub user: Arc<str>,
    /// Response information [MQTT-3.1.2-28] for clients that ask for it.
    pub response_information: Option<Arc<str>>,
    /// What it may do.
    pub permissions: Permissions,
    /// When what it has shown runs out: unless it shows something else before, its connection ends then with
    /// 0xA0, Maximum connect time (5.0, section 3.14.2.1).
    pub expires: Option<Wall>,
    /// It stands in a list that the host keeps, and may be taken out of it
    /// ([`Input::UsersGone`](crate::input::Input)).
    pub listed: bool,
}

/// What says what a client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permissions {
    /// Nothing has to: everything.
    #[default]
    All,
    /// The node's access list, under the client's user name ([`Input::AccessList`](crate::input::Input)): always
    /// the one in force, whenever the client came. Without a list everything.
    Listed,
    /// Rules of its own, which its credentials brought along.
    Own(Arc<Rules>),
}

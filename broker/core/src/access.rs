//! Who a client is and what it may do: the questions the core asks its host, and the answers.
//!
//! The core never judges credentials itself. With [`Authentication::Open`](crate::config::Authentication)
//! everybody is let in without a question; otherwise each CONNECT (and each AUTH after it) becomes a
//! [`Question`] that the host answers in its own time, on whatever thread it likes.

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt::ReasonCode;

use crate::identity::ConnectionId;

/// What the host is asked about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom the answer concerns.
    pub connection: ConnectionId,
    /// Which listener accepted it.
    pub listener: u16,
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
}

/// What a client may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permissions {
    /// Everything.
    #[default]
    All,
    /// The first rule that matches decides; none that matches denies.
    Rules(Arc<[Rule]>),
}

/// One line of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it speaks of.
    pub action: Action,
    /// Topics, as a filter. For a subscription the rule matches if it covers the whole of the asked filter.
    pub filter: Box<str>,
    /// Its answer.
    pub allow: bool,
}

/// What a [`Rule`] speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publishing, wills included.
    Publish,
    /// Subscribing.
    Subscribe,
    /// Both.
    Any,
}

impl Permissions {
    /// May the client publish to `topic`?
    #[must_use]
    pub fn may_publish(&self, topic: &str) -> bool {
        self.decide(Action::Publish, |filter| mqtt::filter_matches(filter, topic))
    }

    /// May the client subscribe to `filter` (without its share name)?
    #[must_use]
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.decide(Action::Subscribe, |rule| covers(rule, filter))
    }

    fn decide(&self, action: Action, matches: impl Fn(&str) -> bool) -> bool {
        match self {
            Permissions::All => true,
            Permissions::Rules(rules) => rules
                .iter()
                .find(|rule| (rule.action == action || rule.action == Action::Any) && matches(&rule.filter))
                .is_some_and(|rule| rule.allow),
        }
    }
}

/// Does every topic that `narrow` matches match `wide`, too?
fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow_levels = narrow.split('/');
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    for wide_level in wide.split('/') {
        match (wide_level, narrow_levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (literal, Some(level)) if literal == level => {}
            _ => return false,
        }
    }
    narrow_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule covers a filter when no topic of the filter lies outside the rule.
    #[test]
    fn rule_covers_filter() {
        for (wide, narrow, expected) in [
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/b", "$SYS/b", false),
            ("a/#", "a", true),
            ("a/#", "a/+/c/#", true),
            ("a/+", "a/#", false),
            ("a/+", "a/+", true),
            ("a/+", "a/b", true),
            ("a/b", "a/+", false),
            ("a/+/c", "a/b", false),
            ("a", "a/b", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} over {narrow}");
        }
    }
}

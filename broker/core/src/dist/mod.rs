//! dist: the routes of the ranges that this core hosts. (tenant, filter) → who wants it.
//!
//! A deterministic state machine: [`Routes::add`] and [`Routes::remove`] are its commands, and say whether
//! the answer to any topic has changed; [`Routes::matching`] is the question. It knows neither packets nor
//! sessions: a route's options are opaque to it.

mod cache;
mod group;
mod group_ids;
mod routes;
mod seen;

pub use cache::{CachedTopic, Elsewhere, FanOut, MatchCache};
pub use group::{Choice, GroupState, choose};
pub use group_ids::{GroupId, GroupIds, GroupStates};
pub use routes::{Destinations, GroupRoute, Member, Route, Routes, Target};

/// A shared subscription: all its members together get each message once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The share name.
    pub name: Box<str>,
    /// `$oshare`: one publisher's messages always go to the same member.
    pub ordered: bool,
    /// The filter without the share's prefix.
    pub filter: Box<str>,
}

impl GroupKey {
    /// As a client subscribes to it.
    pub fn subscription(&self) -> String {
        let prefix = if self.ordered { "$oshare" } else { "$share" };
        format!("{prefix}/{}/{}", self.name, self.filter)
    }
}

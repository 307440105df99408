//! What an operator asks a core, and what it answers.
//!
//! An [`Ask`] is an input like any other and is answered in the same turn, so it has to be small: what may be long
//! is answered a page at a time, and whoever asks comes back for the rest with the place where the page ended. A core
//! remembers nothing of those who ask. Pages of something that changes meanwhile miss nothing that is there all the
//! time.

mod traffic;

use crate::core::Usage;
use crate::counters::Counters;

pub use traffic::{Flow, Traffic};

/// A question, with a number by which its answer is known. The asker chooses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Comes back in the answer.
    pub number: u64,
    /// What is asked.
    pub what: What,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// What the core has counted, and how much there is of what has a maximum.
    Totals,
    /// What each tenant's messages came to, from this place in the core's table on.
    Tenants {
        /// 0 at first.
        from: u32,
    },
    /// How many sessions tenants have, and what waits in them, from this place in the core's table on.
    Census {
        /// 0 at first.
        from: u32,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the question.
    pub number: u64,
    /// What the core says.
    pub said: Said,
}

/// What a core says; each kind to the question of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// To [`What::Totals`].
    Totals(Box<Totals>),
    /// To [`What::Tenants`].
    Tenants(Page<TenantTraffic>),
    /// To [`What::Census`].
    Census(Page<TenantCensus>),
}

/// Some of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the core's table.
    pub items: Vec<T>,
    /// Where the next page begins; None: this is the last.
    pub next: Option<u32>,
}

/// One core at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Since the core's start.
    pub counters: Counters,
    /// Now.
    pub usage: Usage,
}

/// One tenant's messages on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantTraffic {
    /// Its name.
    pub tenant: Box<str>,
    /// Since the core's start.
    pub traffic: Traffic,
    /// Retained messages that the core keeps for it.
    pub retained: u64,
}

/// What a part of a core's sessions comes to, for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantCensus {
    /// Its name.
    pub tenant: Box<str>,
    /// Of its sessions.
    pub census: Census,
}

/// How many sessions there are, and what waits in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions whose client is connected.
    pub online: u64,
    /// Sessions that wait for their client.
    pub away: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Messages in their queues, those in flight included.
    pub queued_messages: u64,
    /// The same in bytes of topics, properties and payloads.
    pub queued_bytes: u64,
}

impl Census {
    /// Adds another part's.
    pub fn add(&mut self, other: Census) {
        self.online += other.online;
        self.away += other.away;
        self.subscriptions += other.subscriptions;
        self.queued_messages += other.queued_messages;
        self.queued_bytes += other.queued_bytes;
    }
}

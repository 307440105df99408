//! What an operator asks a core, and what it answers.
//!
//! An [`Ask`] is an input like any other and is answered in the same turn, so it has to be small: what may be long
//! is answered a page at a time, and whoever asks comes back for the rest with the place where the page ended. A core
//! remembers nothing of those who ask. Pages of something that changes meanwhile miss nothing that is there all the
//! time.

mod acts;
mod ranges;
mod sessions;
mod traces;
mod traffic;

use wal::LogId;

use crate::bans::{Ban, Target};
use crate::core::Usage;
use crate::counters::Counters;

pub use crate::delivery::DeliveryOptions;
pub use acts::{Disconnect, Farewell, Publish, Refusal, Subscribe, Unsubscribe};
pub use ranges::{LogState, ReplicaState};
pub use sessions::{
    Away, FindSessions, FindSubscriptions, Online, Place, RetainedMessage, Session, SessionDetails,
    Subscription, WillSummary,
};
pub use traces::{Trace, TraceLine, TraceState, Traced};
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
    /// Some of the sessions.
    Sessions(Box<FindSessions>),
    /// One session; to its client's home.
    Session {
        /// Its tenant.
        tenant: Box<str>,
        /// Its client.
        client: Box<str>,
    },
    /// Some of the subscriptions.
    Subscriptions(Box<FindSubscriptions>),
    /// Some of a tenant's retained messages.
    Retained {
        /// Whose.
        tenant: Box<str>,
        /// Which topics.
        filter: Box<str>,
        /// Behind this topic; None at first.
        after: Option<Box<str>>,
    },
    /// Disconnect one client; to its home.
    Disconnect(Box<Disconnect>),
    /// Disconnect clients of a tenant, some from this place in the core's table on.
    DisconnectAll {
        /// Whose.
        tenant: Box<str>,
        /// Only those that were let in as this user.
        user: Option<Box<str>>,
        /// What they are told.
        farewell: Farewell,
        /// 0 at first.
        from: u32,
    },
    /// Publish a message. To the core that keeps its topic's retained message, so that one publisher's follow each
    /// other.
    Publish(Box<Publish>),
    /// Subscribe on behalf of a client that is online; to its home.
    Subscribe(Box<Subscribe>),
    /// Unsubscribe on behalf of a client that is online; to its home.
    Unsubscribe(Box<Unsubscribe>),
    /// End sessions of a tenant whose clients are away, some from this place in the core's table on. Their wills are
    /// published.
    ExpireSessions {
        /// Whose.
        tenant: Box<str>,
        /// Only those that have been away for so long.
        away_seconds: u32,
        /// 0 at first.
        from: u32,
    },
    /// Keep somebody out, on each core that is asked.
    Ban(Box<Ban>),
    /// Let them in again.
    Unban(Target),
    /// Some of those who are kept out.
    Bans {
        /// Behind this one; None at first.
        after: Option<Target>,
    },
    /// The logs that the core serves, and the replicas in them.
    Ranges,
    /// Begin to follow something, on each core that is asked.
    StartTrace(Box<Trace>),
    /// Follow it no longer.
    StopTrace {
        /// Which.
        number: u64,
        /// Forget its lines, too.
        remove: bool,
    },
    /// The traces there are.
    Traces,
    /// Some of a trace's lines.
    TraceLines {
        /// Which.
        number: u64,
        /// From this one on; 0 at first.
        from: u32,
    },
    /// Clear some of a tenant's retained messages, without telling anybody.
    ClearRetained {
        /// Whose.
        tenant: Box<str>,
        /// Which topics.
        filter: Box<str>,
        /// Behind this topic; None at first.
        after: Option<Box<str>>,
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
    /// To [`What::Sessions`].
    Sessions(Page<Session>),
    /// To [`What::Session`]; None: there is none.
    Session(Option<Box<SessionDetails>>),
    /// To [`What::Subscriptions`].
    Subscriptions(Page<Subscription, Place>),
    /// To [`What::Retained`].
    Retained(Page<RetainedMessage, Box<str>>),
    /// To [`What::Disconnect`], [`What::Publish`], [`What::Subscribe`] and [`What::Unsubscribe`].
    Done(Result<(), Refusal>),
    /// To [`What::DisconnectAll`] and [`What::ExpireSessions`].
    Counted(Progress),
    /// To [`What::StartTrace`], [`What::StopTrace`], [`What::Ban`] and [`What::Unban`]: false if there are too many, or
    /// there is none.
    Agreed(bool),
    /// To [`What::Bans`].
    Bans(Page<Ban, Target>),
    /// To [`What::Ranges`].
    Ranges(Vec<LogState>),
    /// To [`What::Traces`].
    Traces(Vec<TraceState>),
    /// To [`What::TraceLines`]; None: there is no such trace.
    TraceLines(Option<Page<TraceLine>>),
    /// To [`What::ClearRetained`].
    Cleared(Progress<Box<str>>),
}

/// Some of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, P = u32> {
    /// In the order of the core's table.
    pub items: Vec<T>,
    /// Where the next page begins; None: this is the last.
    pub next: Option<P>,
}

/// How far something has come that takes many turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<P = u32> {
    /// How many it was done to, this time.
    pub count: u32,
    /// Where to go on; None: it is done.
    pub next: Option<P>,
}

/// One core at a glance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Since the core's start.
    pub counters: Counters,
    /// Now.
    pub usage: Usage,
    /// Its logs, ascending.
    pub logs: Vec<LogTotals>,
}

/// One log at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogTotals {
    /// Which.
    pub log: LogId,
    /// What it has done since the start.
    pub tally: wal::Tally,
    /// Its sizes now.
    pub usage: wal::log::Usage,
    /// Whether it takes nothing new for want of space.
    pub is_disk_full: bool,
    /// What the range of its sessions has applied since the start.
    pub inbox: range::replica::Tally,
    /// The same for the range of its retained messages.
    pub retain: range::replica::Tally,
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

//! Messages between cores. Owned data of known kinds; nothing in them that could not be encoded, so that the
//! same messages can travel between nodes.
//!
//! A protocol may assume that messages from one core to another arrive in the order they were sent, and
//! nothing else. *Data* messages (those that clients cause at will) count against the sender's credit with
//! the receiver; *control* messages always leave, so that two cores that wait for each other's room cannot
//! lock each other.

mod parcel;

use std::num::NonZeroU64;
use std::sync::Arc;

use mqtt::ReasonCode;
use smallvec::SmallVec;
use wal::LogId;

pub(crate) use self::parcel::Parcel;
use crate::connection::SlotNumber;
use crate::dist::{Destinations, GroupKey, GroupRoute, Member, Route, Target};
use crate::identity::{ConnectionId, CoreId, Incarnation};
use crate::message::Message;
use crate::quota::TOTALS;
use crate::ranges::retain::{Page, Position};

/// One message to another core of this node.
#[derive(Debug)]
pub struct PeerMessage(pub(crate) Body);

/// Who waits for an answer: a publish in a connection's completion window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) connection: ConnectionId,
    pub(crate) slot: SlotNumber,
}

/// A change of a route that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// By which the answer comes.
    pub(crate) number: NonZeroU64,
    /// The number of the same change that was not answered in time.
    pub(crate) repeats: Option<NonZeroU64>,
}

/// What a core that has forgotten old answers is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// `Invalidated`, to the range.
    Invalidated(u64),
    /// `Passed`, to the core that had the route removed.
    Passed(CoreId, u64),
    /// Nothing.
    Unsaid,
}

/// A session's request for retained messages, by its core's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetainedRequest {
    pub(crate) session: Incarnation,
    pub(crate) number: u64,
}

/// Which page of retained messages is wanted.
#[derive(Debug)]
pub(crate) struct RetainedAsk {
    pub(crate) request: RetainedRequest,
    /// Of which log's range.
    pub(crate) log: LogId,
    pub(crate) tenant: Arc<str>,
    pub(crate) filter: Box<str>,
    /// Behind what.
    pub(crate) after: Option<Position>,
    /// By core: changes that it sent behind this count reach the asker live, and the page is not to have them as long as
    /// they may be on their way.
    pub(crate) point: SmallVec<[u64; 4]>,
    /// By core: so many of the changes that it sent to the range are known to the asker, and so is the page to know
    /// them.
    pub(crate) known: SmallVec<[u64; 4]>,
}

/// A page of retained messages, and what it is made of.
#[derive(Debug)]
pub(crate) struct RetainedPage {
    pub(crate) page: Page,
    /// By core: so many of the changes that it sent to the range were made.
    pub(crate) made: SmallVec<[u64; 4]>,
}

/// With a message that changes what is retained: how many changes its core had sent to the range it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetainStamp {
    /// The range's log.
    pub(crate) log: LogId,
    pub(crate) changes: NonZeroU64,
}

const _: () = assert!(size_of::<Option<RetainStamp>>() == 16 && size_of::<Body>() <= 88);

/// A message for one member of a shared subscription.
#[derive(Debug)]
pub(crate) struct SharedDelivery {
    pub(crate) message: Arc<Message>,
    /// All members, as the publisher's core knows them.
    pub(crate) group: GroupRoute,
    pub(crate) member: Member,
    /// Members that could not take it.
    pub(crate) tried: SmallVec<[Incarnation; 2]>,
    /// No member is free: it is to wait in this one's queue.
    pub(crate) forced: bool,
    /// The member was chosen by its load, and is to tell it.
    pub(crate) counted: bool,
    /// What stood against the members tried under `forced`.
    pub(crate) refusal: Refusal,
    /// It was refused elsewhere before, and its members may be others by now.
    pub(crate) again: bool,
    pub(crate) reply: Option<Reply>,
    pub(crate) publisher: Option<ConnectionId>,
}

/// A message of a shared subscription that is sent again, on its way through the cores.
#[derive(Debug)]
pub(crate) struct SharedRepeat {
    pub(crate) message: Arc<Message>,
    pub(crate) group: GroupRoute,
    /// The publisher's core.
    pub(crate) from: CoreId,
    pub(crate) reply: Option<Reply>,
    pub(crate) publisher: Option<ConnectionId>,
}

/// Why a member cannot take a message; of several, the greatest tells what the group was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// It is no more.
    Gone,
    /// Its client may not receive what is published on this topic.
    Forbidden,
    /// Its client is away, and the message is not one that waits.
    Away,
    /// It has too much before it.
    Full,
}

/// What a member of a shared subscription has before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberLoad {
    pub(crate) member: Incarnation,
    /// Messages in its queue, those in flight included.
    pub(crate) queued: u32,
    /// Messages that it had seen of the receiving core; wraps.
    pub(crate) seen: u32,
}

#[derive(Debug)]
pub(crate) enum Body {
    // Data.
    /// Small ones for the volatile sessions of the receiving core.
    Parcel(Box<Parcel>),
    /// For the volatile sessions of the receiving core.
    Deliver {
        message: Arc<Message>,
        publisher: Option<ConnectionId>,
        stamp: Option<RetainStamp>,
    },
    /// For durable sessions at home there. Answered if a reply is asked for.
    Append {
        message: Arc<Message>,
        targets: Vec<Target>,
        reply: Option<Reply>,
        publisher: Option<ConnectionId>,
        stamp: Option<RetainStamp>,
    },
    /// For a member of a shared subscription. Answered if a reply is asked for.
    Shared(Box<SharedDelivery>),
    /// The member cannot take it: the sender of `Shared` is to choose another.
    SharedRefused(Box<SharedDelivery>),
    /// Has a member of the group this? Answered if one has, if a reply is asked for; otherwise the next core is asked.
    SharedRepeat(Box<SharedRepeat>),
    /// No core knows of a member that has it.
    SharedUnknown(Box<SharedRepeat>),
    /// A member has left with this message unfinished: for another one, chosen where the routes are.
    PassOn {
        message: Arc<Message>,
        group: Arc<GroupKey>,
    },
    /// To be retained (or cleared) there. Answered if a reply is asked for.
    Retain {
        message: Arc<Message>,
        reply: Option<Reply>,
    },
    /// Some of the retained messages asked for.
    Retained {
        request: RetainedRequest,
        /// Of which log's range they are.
        log: LogId,
        /// None: it would have to leave out changes behind the asker's point that are not remembered. It is to be asked
        /// for again, with a point of now.
        found: Option<Box<RetainedPage>>,
    },
    /// Who wants this topic? Answered by `Matched`.
    Match {
        lookup: u64,
        tenant: Arc<str>,
        topic: Box<str>,
    },
    /// Change a route. `RouteChanged` follows: for a new route when no core answers by the old state any more;
    /// for one that is removed at once, and `Passed` comes from so many cores, each after the last message
    /// that it sent by the old state.
    AddRoute {
        tenant: Arc<str>,
        filter: Arc<str>,
        route: Route,
        change: Option<Change>,
    },
    RemoveRoute {
        tenant: Arc<str>,
        filter: Arc<str>,
        route: Route,
        change: Option<Change>,
    },

    // Control.
    Matched {
        lookup: u64,
        destinations: Destinations,
    },
    /// A route cannot be added: its shared subscription has `shared_members_max`.
    RouteRefused {
        /// The change that asked for it.
        change: u64,
    },
    /// What of a tenant's totals a core has.
    Totals {
        /// The tenant.
        tenant: Arc<str>,
        /// By [`Total`](crate::quota::Total).
        totals: Box<[u64; TOTALS]>,
    },
    RouteChanged {
        change: u64,
        passes: u32,
    },
    Passed {
        change: u64,
    },
    /// Forget what is cached of topics that this filter matches, and say so.
    Invalidate {
        tenant: Arc<str>,
        filter: Box<str>,
        answer: Forgotten,
    },
    Invalidated {
        number: u64,
    },
    /// A part of a publish is done.
    Answer {
        reply: Reply,
        reason: ReasonCode,
    },
    /// Which retained messages does a filter match? Answered by `Retained`, a page at a time.
    FindRetained(Box<RetainedAsk>),
    /// How many changes has the core sent to each range? From its answer on it routes by what is known now.
    CountChanges {
        /// By which the answer comes.
        round: u64,
    },
    /// The answer, by the range's log.
    ChangesCounted {
        round: u64,
        sent: Box<[u64]>,
    },
    /// A receiver falls behind: read this publisher more slowly.
    Slow {
        connection: ConnectionId,
    },
    /// A member of a shared subscription cannot take more, or can again.
    Busy {
        member: Incarnation,
        busy: bool,
    },
    /// The routes of the sender's persistent sessions stand; said again: their last connections have ended.
    Resumed,
    /// A persistent session has ended: what it published is not repeated any more.
    ForgetPublisher {
        session: Incarnation,
    },
    /// A log of the sender takes nothing new, or (false) all of them do again.
    DiskFull {
        is_full: bool,
    },
    /// A member of a shared subscription is no more.
    MemberGone {
        member: Incarnation,
    },
    /// What members of shared subscriptions have before them.
    Loads {
        loads: Vec<MemberLoad>,
    },
    /// A trace by address follows a client of the sender.
    Follow {
        /// The trace.
        number: u64,
        tenant: Arc<str>,
        client_hash: u64,
    },
    /// So many bytes of data are processed.
    Credit {
        bytes: u64,
    },
}

impl Body {
    /// Bytes that count against the sender's credit; 0 for control messages.
    pub(crate) fn data_bytes(&self) -> u64 {
        /// What a message costs beside its content.
        const OVERHEAD: u64 = 64;
        match self {
            Body::Parcel(parcel) => parcel.data_bytes(),
            Body::Deliver { message, .. } | Body::Retain { message, .. } | Body::PassOn { message, .. } => {
                OVERHEAD + message.bytes()
            }
            Body::Append { message, targets, .. } => {
                OVERHEAD + message.bytes() + (targets.len() * size_of::<Target>()) as u64
            }
            Body::AddRoute { filter, .. } | Body::RemoveRoute { filter, .. } => {
                OVERHEAD + filter.len() as u64
            }
            Body::Match { topic, .. } => OVERHEAD + topic.len() as u64,
            Body::Shared(delivery) | Body::SharedRefused(delivery) => OVERHEAD + delivery.message.bytes(),
            Body::SharedRepeat(repeat) | Body::SharedUnknown(repeat) => OVERHEAD + repeat.message.bytes(),
            Body::Retained { found: Some(found), .. } => {
                found.page.messages.iter().map(|message| OVERHEAD + message.bytes()).sum()
            }
            _ => 0,
        }
    }
}

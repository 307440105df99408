//! One client's connection: what the protocol needs to know between two packets of it.
//!
//! Lives on its client's home core and knows neither the session behind it nor the core around it.

mod alias;
mod frames;
mod pace;
mod remote;
mod send_queue;
mod window;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use mqtt::{PacketId, ReasonCode, Version};
use smallvec::SmallVec;

pub use alias::{InboundAliases, OutboundAliases};
pub use frames::{Fields, Frames};
pub use pace::Pace;
pub use remote::Remote;
pub use send_queue::{BufferPool, COPIED_BYTES_MAX, SendQueue};
pub use window::{Completion, CompletionWindow, SlotNumber};

use crate::access::Grant;
use crate::changes::Point;
use crate::config::Settings;
use crate::delivery::DeliveryOptions;
use crate::identity::ConnectionId;
use crate::message::Publisher;
use crate::sessions::SessionSlot;
use crate::tenant::TenantIndex;
use crate::time::{Mono, ReadingTime, Wall};
use crate::wheel::TimerId;

/// How far a connection has come.
#[derive(Debug)]
pub enum Phase {
    /// No complete CONNECT yet.
    Connecting,
    /// The host was asked about a CONNECT.
    Deciding(Box<Greeting>),
    /// The client was sent an AUTH and owes one.
    Authenticating(Box<Greeting>),
    /// The client's former connection is heard out before it is let in.
    HearingOut,
    /// Its session is on its way.
    Attaching,
    /// Greeted.
    Online,
    /// Its session is detached; the last bytes are leaving.
    Closing,
}

/// Why a client cannot have an answer that it has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// It is larger than the client takes.
    TooLarge,
    /// A message of the client could not be stored, and no answer says so.
    NotStored,
}

impl Unanswerable {
    /// What a DISCONNECT says of it.
    pub fn reason(self) -> ReasonCode {
        match self {
            Unanswerable::TooLarge => ReasonCode::PACKET_TOO_LARGE,
            Unanswerable::NotStored => ReasonCode::QUOTA_EXCEEDED,
        }
    }
}

/// Whose move it is in a re-authentication of a client that is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reauthentication {
    /// None is going on.
    Idle,
    /// The host was asked.
    Deciding,
    /// The client was sent an AUTH and owes one.
    Continuing,
}

/// A CONNECT that is not answered yet: the packet as it came.
#[derive(Debug)]
pub struct Greeting {
    /// The packet, to be decoded again when the answer is there.
    pub connect: Vec<u8>,
}

/// How far receivers have fallen behind, in steps, and how much more slowly a publisher is read for it.
///
/// A slowed publisher waits for a timer, but not in the middle of what came together: each of its packets would be
/// answered by a send of its own. The fuller the queue, the fewer more are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pressure(u8);

impl Pressure {
    /// Nobody has.
    pub const NONE: Pressure = Pressure(0);
    /// Nothing more is taken.
    pub const FULL: Pressure = Pressure(16);

    /// Of a queue that holds so much of what it may: from half full on.
    pub fn of(held: u64, max: u64) -> Pressure {
        let (half, rest) = (max / 2, max - max / 2);
        let steps = held.saturating_sub(half).saturating_mul(16).div_ceil(rest.max(1));
        u8::try_from(steps).map_or(Pressure::FULL, Pressure).min(Pressure::FULL)
    }

    /// Packets of the publisher that are still taken.
    pub fn packets_left(self) -> u32 {
        u32::from(Pressure::FULL.0 - self.0)
    }
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    /// Its name.
    pub id: ConnectionId,
    /// Which listener accepted it.
    pub listener: u16,
    /// How far it has come.
    pub phase: Phase,
    /// Known from CONNECT on.
    pub version: Version,
    /// Leave reason strings and user properties out [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// It is in the turn's list of dirty connections.
    pub dirty: bool,
    /// It is in the core's list of connections with input left over.
    pub in_backlog: bool,
    /// Its publisher is slowed, until a timer ends it.
    pub slowed: Pressure,
    /// Its settings have rates: [`Extras::pace`] counts.
    pub paced: bool,
    /// Its completion window is full, or it goes on without reading what it is sent: nothing is processed
    /// until there is room.
    pub stalled: bool,
    /// Why it cannot have an answer that it has to have: it is closed for it when its turn comes.
    pub unanswerable: Option<Unanswerable>,
    /// How far a re-authentication is.
    pub reauthentication: Reauthentication,
    /// 1.5 × keep alive; 0: none.
    pub keep_alive_ms: u32,
    /// When a packet last came, or enough bytes of one.
    pub last_received: ReadingTime,
    /// When the client last took bytes or acknowledged something.
    pub last_progress: Mono,
    /// Keep alive, the time to CONNECT, or the end of lingering.
    pub timer: TimerId,
    /// Looks at its completion window, if that was not empty the last time.
    pub answers_timer: Option<TimerId>,
    /// The other end.
    remote: Remote,
    /// Known once the client is let in.
    pub tenant: TenantIndex,
    /// What it may have and do, from when it is greeted.
    settings: Option<Arc<Settings>>,
    /// Its session, while online.
    pub session: SessionSlot,
    /// Its identity as a publisher, while online.
    pub publisher: Publisher,
    /// What the client may do, once it is let in.
    pub grant: Option<Arc<Grant>>,
    /// What waits in its queue was let in under another grant, and is judged again before it is sent.
    pub recheck: bool,
    /// Bytes received and not processed: a partial packet, or what a budget left over.
    pub received: Vec<u8>,
    /// Bytes to send.
    pub send: SendQueue,
    /// Publishes from the client that are not acknowledged.
    pub window: CompletionWindow,
    /// QoS 1 and 2 messages that the client may still count as unacknowledged.
    pub inbound_inflight: u16,
    /// The client's Receive Maximum, or ours for clients that cannot say.
    pub outbound_inflight_max: u16,
    /// The client's Maximum Packet Size.
    pub outbound_packet_bytes_max: u32,
    /// What only some connections need.
    pub extras: Option<Box<Extras>>,
}

/// State that an idle 3.1.1 connection does without.
#[derive(Debug, Default)]
pub struct Extras {
    /// The user that a certificate proves the client to be, until it is greeted.
    pub certified_user: Option<Box<str>>,
    /// The tenant of the name under which the client has asked for us, until it is greeted.
    pub tenant_by_name: Option<Arc<str>>,
    /// How often in a row it was sent again what it has not acknowledged.
    pub resent: u16,
    /// Method of an enhanced authentication.
    pub authentication_method: Option<Box<str>>,
    /// How fast it may go.
    pub pace: Option<Box<Pace>>,
    /// When what the client has shown runs out, and the timer for it.
    pub expires: Option<(Wall, TimerId)>,
    /// Topics by the client's aliases.
    pub inbound_aliases: InboundAliases,
    /// Aliases that we gave to the client.
    pub outbound_aliases: OutboundAliases,
    /// SUBSCRIBE and UNSUBSCRIBE packets not acknowledged yet.
    pub requests: VecDeque<SubscribeRequest>,
    /// Their filters.
    pub requested_filters: usize,
    /// Number of the next of them.
    pub next_request: u64,
}

/// A SUBSCRIBE or UNSUBSCRIBE whose acknowledgement waits for routes.
#[derive(Debug)]
pub struct SubscribeRequest {
    /// By which the routes' answers find it.
    pub number: u64,
    /// The packet's identifier.
    pub packet_id: PacketId,
    /// UNSUBACK is owed, not SUBACK.
    pub unsubscribe: bool,
    /// An operator asked for it, and is answered in the client's place: the number of the question.
    pub asked: Option<u64>,
    /// One for each filter.
    pub reasons: SmallVec<[ReasonCode; 4]>,
    /// Routes that are not confirmed yet.
    pub waiting: u32,
    /// Filters whose retained messages are to follow the SUBACK.
    pub retained: Vec<(Box<str>, DeliveryOptions)>,
    /// Up to where they are, when it is known.
    pub point: Option<Point>,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(
        id: ConnectionId,
        listener: u16,
        peer: Option<SocketAddr>,
        (now, last_received): (Mono, ReadingTime),
        timer: TimerId,
    ) -> Connection {
        Connection {
            id,
            listener,
            phase: Phase::Connecting,
            version: Version::V311,
            problem_information: true,
            dirty: false,
            in_backlog: false,
            slowed: Pressure::NONE,
            paced: false,
            stalled: false,
            unanswerable: None,
            reauthentication: Reauthentication::Idle,
            keep_alive_ms: 0,
            last_received,
            last_progress: now,
            timer,
            answers_timer: None,
            remote: Remote::from(peer),
            tenant: TenantIndex::default(),
            settings: None,
            session: SessionSlot(u32::MAX),
            publisher: Publisher::default(),
            grant: None,
            recheck: false,
            received: Vec::new(),
            send: SendQueue::default(),
            window: CompletionWindow::default(),
            inbound_inflight: 0,
            outbound_inflight_max: 0,
            outbound_packet_bytes_max: u32::MAX,
            extras: None,
        }
    }

    /// The other end.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.remote.address()
    }

    /// A proxy has said where it is.
    pub fn set_peer(&mut self, peer: Option<SocketAddr>) {
        self.remote = Remote::from(peer);
    }

    /// The tenant that goes with the name under which the client has asked for us.
    pub fn tenant_by_name(&self) -> Option<&Arc<str>> {
        self.extras.as_ref()?.tenant_by_name.as_ref()
    }

    /// Enters what it may have and do.
    pub fn set_settings(&mut self, settings: Arc<Settings>) {
        self.settings = Some(settings);
    }

    /// What it may have and do: that which it was told when it was greeted, until it comes again.
    pub fn settings(&self) -> &Settings {
        self.settings.as_deref().expect("it is greeted")
    }

    /// Greeted, and not closing.
    pub fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online)
    }

    /// What only some connections need, made on first use.
    pub fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }
}

const _: () = assert!(size_of::<Connection>() <= 256, "the allocator rounds 257 up to 320");

/// All connections of a core, by slot.
#[derive(Debug, Default)]
pub struct Connections {
    /// Boxed, so that the table never moves them and a free slot costs eight bytes.
    slots: Vec<Option<Box<Connection>>>,
    len: usize,
}

impl Connections {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a connection; its slot is free.
    pub fn insert(&mut self, connection: Connection) {
        let index = connection.id.slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "the host reuses a slot only after ClientClosed");
        self.slots[index] = Some(Box::new(connection));
        self.len += 1;
    }

    /// The connection of this name, if it still is.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot as usize)?.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// The same, to look at.
    pub fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slots.get(id.slot as usize)?.as_deref().filter(|connection| connection.id == id)
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        self.get(id)?;
        self.len -= 1;
        self.slots[id.slot as usize].take()
    }

    /// The first connection at or after a slot: for walks over all of them that take several turns.
    pub fn at_or_after(&self, slot: u32) -> Option<ConnectionId> {
        self.slots.iter().skip(slot as usize).flatten().next().map(|connection| connection.id)
    }
}

//! The commands of an inbox range, as they stand in the log.
//!
//! One archived struct for each kind and version: none is ever edited, a change is a new version beside it.
//! A command that carries a message holds all of it but the payload, which stands behind the command in the
//! log's record. Their bytes are drawn in [`archived`](crate::ranges::archived).

use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

use crate::ranges::archived::commands;
use crate::sessions::TakenHere;

pub use crate::ranges::archived::Encode;

/// A client connects: its session is resumed or begun.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// Its tenant.
    #[rkyv(with = InlineAsBox)]
    pub tenant: &'a str,
    /// Its client id.
    #[rkyv(with = InlineAsBox)]
    pub client: &'a str,
    /// The name of the session if a new one begins.
    pub incarnation: u64,
    /// The name of the connection: commands of another are no longer heard.
    pub epoch: u64,
    /// Forget a former session.
    pub clean_start: bool,
    /// Whether a session is begun or kept at all; otherwise a former one ends, and its client is as it would
    /// be if there had been none.
    pub durable: bool,
    /// Seconds the session outlives the connection; `u32::MAX` is for ever.
    pub expiry_seconds: u32,
    /// The will of this connection; its payload is the command's.
    pub will: Option<Will<'a>>,
}

/// A message to publish when a connection ends unannounced.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Will<'a> {
    /// What to publish.
    pub message: MessageHead<'a>,
    /// Seconds to wait for the client to come back first.
    pub delay_seconds: u32,
    /// Seconds that it lives from then on; `u32::MAX` is for ever.
    pub expiry_seconds: u32,
}

/// A message without its payload.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct MessageHead<'a> {
    /// Whose topic space it is in.
    #[rkyv(with = InlineAsBox)]
    pub tenant: &'a str,
    /// Its topic.
    #[rkyv(with = InlineAsBox)]
    pub topic: &'a str,
    /// The properties that are forwarded unaltered, encoded as in MQTT 5.0.
    #[rkyv(with = InlineAsBox)]
    pub properties: &'a [u8],
    /// Hash of the publisher's client id.
    pub client_hash: u64,
    /// Milliseconds since 1970 when it expires; `u64::MAX` if it does not.
    pub expires: u64,
    /// Bytes of its payload.
    pub payload_bytes: u32,
    /// As it was published.
    pub qos: u8,
    /// As it was published.
    pub retain: bool,
}

/// A connection has ended.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Detach {
    /// The session.
    pub incarnation: u64,
    /// The connection.
    pub epoch: u64,
    /// False after a DISCONNECT that said so [MQTT-3.14.4-3].
    pub keep_will: bool,
    /// The session expiry, if the DISCONNECT changed it.
    pub expiry_seconds: Option<u32>,
    /// What it may have sent: all before this place.
    pub sent_before: u64,
}

/// New or changed subscriptions.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// The session.
    pub incarnation: u64,
    /// The connection.
    pub epoch: u64,
    /// In the order of the packet.
    #[rkyv(with = InlineAsBox)]
    pub subscriptions: &'a [Subscription<'a>],
}

/// One subscription.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Subscription<'a> {
    /// As the client spelled it, share name included.
    #[rkyv(with = InlineAsBox)]
    pub filter: &'a str,
    /// `DeliveryOptions`, packed.
    pub options: u32,
}

/// Subscriptions that end.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Unsubscribe<'a> {
    /// The session.
    pub incarnation: u64,
    /// The connection.
    pub epoch: u64,
    /// The filters; their options mean nothing.
    #[rkyv(with = InlineAsBox)]
    pub subscriptions: &'a [Subscription<'a>],
}

/// A message for sessions of this range, written once for all of them.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Append<'a> {
    /// The message; its payload is the command's.
    pub message: MessageHead<'a>,
    /// Which publish it is, where a repeat is to be told from the first.
    pub origin: Option<Origin>,
    /// The shared subscription it comes by.
    pub group: Option<Group<'a>>,
    /// The tenant's `queue_messages_max`.
    pub queue_messages_max: u32,
    /// The tenant's `queue_bytes_max`.
    pub queue_bytes_max: u64,
    /// The tenant's `queue_drop` is oldest.
    pub drop_oldest: bool,
    /// For whom.
    #[rkyv(with = InlineAsBox)]
    pub targets: &'a [Target],
}

/// Which QoS 2 publish of which session a message is.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The publishing session.
    pub incarnation: u64,
    /// Its name: [`Origin::NAMED`], how many QoS 2 publishes of the session were before it, in the lower 16 bits the packet
    /// identifier. One alone would not do: how many were taken may be forgotten by a crash, and an identifier is used
    /// again. The first release wrote how many were before it, and nothing else.
    pub generation: u64,
    /// The first of them whose packet identifier was not released when this one was routed: what lies before
    /// will not be repeated.
    pub oldest: u64,
    /// By which connection it came: sent again on another, it is for those who have not got it. [`Origin::FIRST`] is
    /// set in it if its client has not sent it before.
    pub attempt: u64,
}

impl Origin {
    /// In [`Origin::attempt`]. Whoever has a message by the same name has another, of which the publisher's log has
    /// lost track in a crash, and which its client has forgotten.
    pub const FIRST: u64 = 1 << 63;

    /// In [`Origin::generation`] and [`Origin::oldest`]: the packet identifier is in it.
    pub const NAMED: u64 = 1 << 63;

    /// How many publishes were before the one of this name, as the first release wrote it.
    pub fn count_of(name: u64) -> u64 {
        if name & Origin::NAMED == 0 { name } else { (name & !Origin::NAMED) >> 16 }
    }

    /// Its client has not sent it before.
    pub fn is_first(&self) -> bool {
        self.attempt & Origin::FIRST != 0
    }

    /// Of a message that came by the connection with this epoch.
    pub fn new(incarnation: u64, taken: &TakenHere, epoch: u64) -> Origin {
        let first = if taken.repeated { 0 } else { Origin::FIRST };
        Origin {
            incarnation,
            generation: Origin::NAMED | taken.generation << 16 | u64::from(taken.packet_id.get()),
            oldest: Origin::NAMED | taken.oldest << 16,
            attempt: epoch | first,
        }
    }
}

/// A shared subscription.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Its name.
    #[rkyv(with = InlineAsBox)]
    pub name: &'a str,
    /// Its filter.
    #[rkyv(with = InlineAsBox)]
    pub filter: &'a str,
    /// `$oshare`.
    pub ordered: bool,
}

/// One session that gets a message.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub incarnation: u64,
    /// Of the subscription: `DeliveryOptions`, packed.
    pub options: u32,
}

/// What a connection's client has acknowledged since the last one.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The session.
    pub incarnation: u64,
    /// The connection.
    pub epoch: u64,
    /// What it may have sent: all before this place.
    pub sent_before: u64,
    /// QoS 2 messages of which PUBREC has come, by their places.
    #[rkyv(with = InlineAsBox)]
    pub received: &'a [u64],
    /// Finished messages, by their places.
    #[rkyv(with = InlineAsBox)]
    pub finished: &'a [u64],
}

/// A QoS 2 message has come from the client.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Take {
    /// The session.
    pub incarnation: u64,
    /// The connection.
    pub epoch: u64,
    /// The message's packet identifier.
    pub packet_id: u16,
}

/// The client has released a QoS 2 message's packet identifier.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Release {
    /// The session.
    pub incarnation: u64,
    /// The connection.
    pub epoch: u64,
    /// The identifier.
    pub packet_id: u16,
}

/// The moment has come that a session asked for.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Due {
    /// The session.
    pub incarnation: u64,
}

/// What a client left to be done elsewhere is done.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct TaskDone<'a> {
    /// Its tenant.
    #[rkyv(with = InlineAsBox)]
    pub tenant: &'a str,
    /// Its client id.
    #[rkyv(with = InlineAsBox)]
    pub client: &'a str,
    /// Which task.
    pub number: u64,
}

/// A publishing session has ended: nothing of it will be repeated.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Forget {
    /// The session.
    pub incarnation: u64,
}

/// A connection has ended with the process that had it.
#[derive(Archive, Serialize, Clone, Copy, Debug)]
pub struct Lost {
    /// The session.
    pub incarnation: u64,
    /// The connection.
    pub epoch: u64,
    /// What it may have sent: all before this place.
    pub sent_before: u64,
    /// Milliseconds since 1970 when that process was gone, at the latest.
    pub at: u64,
}

commands! {
    1 Attach, written as Attach<'_>, read as Attach<'static>;
    2 Detach, written as Detach, read as Detach;
    3 Subscribe, written as Subscribe<'_>, read as Subscribe<'static>;
    4 Unsubscribe, written as Unsubscribe<'_>, read as Unsubscribe<'static>;
    5 Append, written as Append<'_>, read as Append<'static>;
    6 Progress, written as Progress<'_>, read as Progress<'static>;
    7 Take, written as Take, read as Take;
    8 Release, written as Release, read as Release;
    9 Due, written as Due, read as Due;
    10 TaskDone, written as TaskDone<'_>, read as TaskDone<'static>;
    11 Forget, written as Forget, read as Forget;
    12 Lost, written as Lost, read as Lost;
}

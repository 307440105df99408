//! What happened in a run, as its clients saw it: the one thing checkers are fed.
//!
//! A [`Fact`] is something a client sent or got, or something its side of the socket can tell. Five kinds
//! come from the host, because no client can see them in time: when the first byte of a CONNACK left
//! ([`Fact::Greeted`]), when the broker began to close a connection ([`Fact::Closing`]), when it had
//! forgotten it ([`Fact::Gone`]), how much it held unsent ([`Fact::Unsent`]), and when a log took nothing new
//! ([`Fact::DiskFull`]).

use broker_core::counters::Counters;
use broker_core::time::Mono;
use mqtt::{PacketKind, QoS, SubscriptionOptions, Version};

/// One network connection, numbered in the order of opening over the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub u32);

/// One simulated client: one client id, and one session's worth of client-side state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientIndex(pub u16);

/// One application message, will messages included: its number is in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId(pub u32);

/// Where in the history something stands: later is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// A fact with its place and time.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its place in the history.
    pub moment: Moment,
    /// Virtual time.
    pub at: Mono,
    /// What happened.
    pub fact: Fact,
}

/// What an application handed to a client to be published.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who published it (for a will: whose it was).
    pub publisher: ClientIndex,
    /// To which topic.
    pub topic: &'static str,
    /// With which quality of service.
    pub qos: QoS,
    /// With the retain flag?
    pub retain: bool,
    /// A will message?
    pub will: bool,
    /// Its expiry interval in seconds.
    pub expiry: Option<u32>,
    /// Whole payload; empty only when it clears a retained message, and then it has no number.
    pub payload: Vec<u8>,
    /// Its forwarded properties as [`mqtt::encode::PublishOut::forwarded`] takes them.
    pub forwarded: Vec<u8>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A client opened a connection.
    Opened {
        /// The new connection.
        link: Link,
        /// Whose.
        client: ClientIndex,
        /// The core whose listener took it.
        core: u16,
    },
    /// A client wrote a packet into its socket.
    Sent(Link, Sent),
    /// A client read a packet out of its socket.
    Got(Link, Got),
    /// A client read bytes that are no packet, or one that servers may not send.
    Undecodable(Link, String),
    /// A client read the end of the stream.
    Ended(Link),
    /// A client closed its socket, with a reset (which may overtake bytes) or in order.
    Left {
        /// Which connection.
        link: Link,
        /// Reset rather than FIN.
        reset: bool,
    },
    /// The first byte of the broker's first packet left for this connection.
    Greeted {
        /// Which connection.
        link: Link,
        /// It was a CONNACK that lets the client in.
        accepted: bool,
    },
    /// The core told its host to end the connection.
    Closing(Link),
    /// The core was told that the connection is gone.
    Gone {
        /// Which connection.
        link: Link,
        /// How many bytes of the client it was never given.
        unread: usize,
    },
    /// The bytes unsent towards a client reached a new height.
    Unsent {
        /// Which connection.
        link: Link,
        /// How many.
        bytes: usize,
    },
    /// The core broke its side of the contract with its host.
    Contract(String),
    /// Something of the core is larger than its maximum.
    Overflow(String),
    /// The whole node has ended without notice; its connections are gone. It starts again from what its disks
    /// have.
    Crashed,
    /// A core knows of a log that takes nothing new from here on, or (false) none does any more.
    DiskFull(bool),
    /// A start has found a log that it cannot serve.
    Damaged(String),
    /// Nothing moves any more: no byte, message or answer is on its way, all clients online are prompt.
    Quiet {
        /// The sum of all cores' counters.
        counters: Box<Counters>,
        /// It is the last of the run.
        last: bool,
    },
}

/// A packet of a client.
#[derive(Clone, Debug)]
pub enum Sent {
    /// CONNECT.
    Connect(Greeting),
    /// PUBLISH.
    Publish(Outgoing),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack(AckFact),
    /// SUBSCRIBE.
    Subscribe {
        /// Packet identifier.
        packet_id: u16,
        /// Subscription identifier.
        id: Option<u32>,
        /// Filters and options.
        filters: Vec<(&'static str, SubscriptionOptions)>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Packet identifier.
        packet_id: u16,
        /// Filters.
        filters: Vec<&'static str>,
    },
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect {
        /// Reason code.
        reason: u8,
        /// A new session expiry.
        expiry: Option<u32>,
    },
    /// Bytes that no server may accept.
    Garbage,
}

/// What a CONNECT said.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Protocol version.
    pub version: Version,
    /// Clean start (clean session in 3.x).
    pub clean: bool,
    /// Session expiry in seconds; for 3.x 0 with a clean session, else `u32::MAX`.
    pub expiry: u32,
    /// Keep alive in seconds.
    pub keep_alive: u16,
    /// Receive maximum, if named.
    pub receive_maximum: Option<u16>,
    /// Maximum packet size, if named.
    pub packet_bytes_max: Option<u32>,
    /// Topic alias maximum.
    pub alias_max: u16,
    /// The will.
    pub will: Option<WillFact>,
}

/// The will of a CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct WillFact {
    /// Which message.
    pub message: MessageId,
    /// Delay in seconds.
    pub delay: u32,
}

/// A PUBLISH of a client.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Which message.
    pub message: MessageId,
    /// Packet identifier with QoS 1 and 2.
    pub packet_id: Option<u16>,
    /// Sent before.
    pub dup: bool,
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckFact {
    /// Which of the four.
    pub kind: PacketKind,
    /// Packet identifier.
    pub packet_id: u16,
    /// Reason code.
    pub reason: u8,
}

/// A packet of the broker.
#[derive(Clone, Debug)]
pub enum Got {
    /// CONNACK.
    ConnAck(Welcome),
    /// PUBLISH.
    Publish(Delivery),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP.
    Ack(AckFact),
    /// SUBACK.
    SubAck {
        /// Packet identifier.
        packet_id: u16,
        /// A reason code for each filter.
        reasons: Vec<u8>,
    },
    /// UNSUBACK.
    UnsubAck {
        /// Packet identifier.
        packet_id: u16,
        /// A reason code for each filter, none in 3.x.
        reasons: Vec<u8>,
    },
    /// PINGRESP.
    Pong,
    /// DISCONNECT.
    Disconnect {
        /// Reason code.
        reason: u8,
    },
    /// AUTH.
    Auth,
}

/// What a CONNACK said.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// Reason code, 0 lets the client in.
    pub reason: u8,
    /// Session present.
    pub session_present: bool,
    /// Another session expiry than asked for.
    pub expiry: Option<u32>,
    /// Another keep alive than asked for.
    pub keep_alive: Option<u16>,
    /// What the broker takes unacknowledged.
    pub receive_maximum: u16,
    /// How many aliases it takes.
    pub alias_max: u16,
    /// The largest packet it takes.
    pub packet_bytes_max: Option<u32>,
}

/// A PUBLISH of the broker.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The number in its payload; none when the payload is empty (or not one of ours).
    pub message: Option<MessageId>,
    /// Its topic, by its alias if it came without; `None`: the alias was never set.
    pub topic: Option<String>,
    /// Its topic alias.
    pub alias: Option<u16>,
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// Packet identifier with QoS 1 and 2.
    pub packet_id: Option<u16>,
    /// Subscription identifiers.
    pub ids: Vec<u32>,
    /// Remaining expiry in seconds.
    pub expiry: Option<u32>,
    /// Payload, topic and forwarded properties are the message's own.
    pub intact: bool,
    /// Size of the packet.
    pub bytes: usize,
}

impl Fact {
    /// The connection it speaks of.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        match self {
            Fact::Opened { link, .. }
            | Fact::Sent(link, _)
            | Fact::Got(link, _)
            | Fact::Undecodable(link, _)
            | Fact::Ended(link)
            | Fact::Left { link, .. }
            | Fact::Greeted { link, .. }
            | Fact::Closing(link)
            | Fact::Gone { link, .. }
            | Fact::Unsent { link, .. } => Some(*link),
            Fact::Contract(_)
            | Fact::Overflow(_)
            | Fact::Crashed
            | Fact::DiskFull(_)
            | Fact::Damaged(_)
            | Fact::Quiet { .. } => None,
        }
    }
}

/// All facts of a run and the messages they speak of.
#[derive(Debug, Default)]
pub struct History {
    /// In order.
    pub events: Vec<Event>,
    /// By [`MessageId`].
    pub messages: Vec<Message>,
}

impl History {
    /// Appends a fact.
    pub fn push(&mut self, at: Mono, fact: Fact) {
        self.events.push(Event { moment: Moment(self.events.len() as u64), at, fact });
    }

    /// Numbers a message and writes the number into its payload, which keeps its length (at least
    /// [`NUMBER_BYTES`]) unless it is empty.
    pub fn register(&mut self, mut message: Message) -> MessageId {
        let id = MessageId(u32::try_from(self.messages.len()).expect("fewer messages than 2^32"));
        if !message.payload.is_empty() {
            message.payload[..NUMBER_BYTES].copy_from_slice(format!("{:08x}:", id.0).as_bytes());
        }
        self.messages.push(message);
        id
    }

    /// The message of an id.
    #[must_use]
    pub fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0 as usize]
    }

    /// The number in a payload.
    #[must_use]
    pub fn number(&self, payload: &[u8]) -> Option<MessageId> {
        let digits = payload.get(..NUMBER_BYTES)?.strip_suffix(b":")?;
        let number = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        ((number as usize) < self.messages.len()).then_some(MessageId(number))
    }
}

/// How much of a payload its number takes.
pub const NUMBER_BYTES: usize = 9;

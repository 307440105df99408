//! What the facts so far imply: which connections live, which sessions exist, what they subscribe to, and
//! which messages the broker has certainly taken.
//!
//! The broker's state cannot be seen from outside, so everything here is an interval: *possible* from the
//! moment a client asked for it, *certain* from the moment it was told. Checkers demand only what is
//! certain and allow all that is possible; so a finding is never a matter of timing.

mod crash;
mod fullness;
mod message;
mod session;
#[cfg(test)]
mod tests;

use broker_core::time::Mono;
use mqtt::{PacketKind, QoS, Version};

pub use fullness::Fullness;
pub use message::{MessageState, Outcome};
pub use session::{Copies, EXPIRY_TOLERANCE_MS, Session, Subscription};

use crate::history::{
    AckFact, ClientIndex, Delivery, Event, Fact, Got, Greeting, Link, Message, MessageId, Moment, Sent,
    Welcome,
};

/// What a publisher of version 5 hears of a full disk: quota exceeded.
pub const NOT_STORED: u8 = 0x97;

/// One connection.
#[derive(Clone, Debug)]
pub struct LinkState {
    /// Whose.
    pub client: ClientIndex,
    /// When it was opened.
    pub opened: Moment,
    /// Its CONNECT.
    pub greeting: Option<Greeting>,
    /// Another CONNECT of its client was on its way at the same time, so that nobody can say which of the
    /// two the broker will take for the later.
    pub raced: bool,
    /// Its CONNACK.
    pub welcome: Option<Welcome>,
    /// When the first byte to it left, and whether that began a CONNACK that lets it in.
    pub greeted: Option<(Moment, bool)>,
    /// The same in time.
    pub greeted_at: Option<Mono>,
    /// When the broker began to close it.
    pub closing: Option<Moment>,
    /// When the broker had forgotten it.
    pub gone: Option<Moment>,
    /// When its client closed it, or gave it up for a newer one.
    pub left: Option<Moment>,
    /// When its client read its end.
    pub ended: Option<Moment>,
    /// When one side gave it up first.
    pub over_at: Option<Mono>,
    /// Its client sent bytes that nobody may accept.
    pub garbage: Option<Moment>,
    /// Its client said DISCONNECT, with this reason.
    pub disconnect: Option<u8>,
    /// Its client said DISCONNECT with reason 0 and then closed in order, and nothing else ended it: the
    /// broker has read that its will is not wanted.
    pub withdrew_will: bool,
    /// When its client last wrote a packet.
    pub written: Mono,
    /// Which of the client's sessions it served.
    pub session: Option<u32>,
    /// Publishes and requests not yet answered, in order.
    pub requests: Vec<(Moment, Request)>,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A QoS 0 message: for any answer to something sent later.
    Plain(MessageId),
    /// PUBACK or PUBREC.
    Publish(u16, MessageId),
    /// PUBCOMP.
    Release(u16),
    /// SUBACK.
    Subscribe(u16),
    /// UNSUBACK.
    Unsubscribe(u16),
    /// PINGRESP.
    Ping,
}

impl LinkState {
    fn new(client: ClientIndex, opened: Moment) -> LinkState {
        LinkState {
            client,
            opened,
            greeting: None,
            raced: false,
            welcome: None,
            greeted: None,
            greeted_at: None,
            closing: None,
            gone: None,
            left: None,
            ended: None,
            over_at: None,
            garbage: None,
            disconnect: None,
            withdrew_will: false,
            written: Mono(0),
            session: None,
            requests: Vec::new(),
        }
    }

    /// Neither side has given it up.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closing.is_none() && self.gone.is_none() && self.left.is_none() && self.ended.is_none()
    }

    /// Its CONNECT is on its way: the broker may act on it at any time.
    #[must_use]
    pub fn is_loose(&self) -> bool {
        self.greeting.is_some() && self.greeted.is_none() && self.gone.is_none()
    }

    /// The version its packets are in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.greeting.as_ref().map_or(Version::V311, |greeting| greeting.version)
    }

    /// Takes the request that an answer belongs to off the list.
    fn answer(&mut self, wanted: impl Fn(&Request) -> bool) -> Option<(Moment, Request)> {
        let index = self.requests.iter().position(|(_, request)| wanted(request))?;
        Some(self.requests.remove(index))
    }
}

/// Everything the facts imply.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By [`Link`].
    pub links: Vec<LinkState>,
    /// The present session of each client, by [`ClientIndex`].
    pub sessions: Vec<Session>,
    /// By [`MessageId`].
    pub messages: Vec<MessageState>,
    /// The last time nothing moved.
    pub quiet: Moment,
    /// While checkers look at a [`Fact::Quiet`]: its own moment.
    pub quiet_next: Moment,
    /// When disks were full.
    pub fullness: Fullness,
}

impl Ledger {
    /// The connection's state.
    #[must_use]
    pub fn link(&self, link: Link) -> &LinkState {
        &self.links[link.0 as usize]
    }

    /// The present session of a client.
    #[must_use]
    pub fn session(&self, client: ClientIndex) -> &Session {
        &self.sessions[usize::from(client.0)]
    }

    /// The present session of a connection's client, if the connection serves it.
    #[must_use]
    pub fn session_of(&self, link: Link) -> Option<&Session> {
        let session = self.session(self.link(link).client);
        (self.link(link).session == Some(session.number)).then_some(session)
    }

    /// What is known of a message.
    #[must_use]
    pub fn message(&self, id: MessageId) -> &MessageState {
        &self.messages[id.0 as usize]
    }

    /// Is a CONNECT of this client on its way?
    #[must_use]
    pub fn has_loose_link(&self, client: ClientIndex) -> bool {
        self.links.iter().any(|state| state.client == client && state.is_loose())
    }

    /// Makes room for messages that have come up.
    pub fn know(&mut self, messages: &[Message]) {
        self.messages.resize_with(messages.len(), MessageState::default);
    }

    /// Takes a fact. Checkers look before this is called, when the fact is still news.
    pub fn on(&mut self, event: &Event, messages: &[Message]) {
        let (moment, at) = (event.moment, event.at);
        for session in &mut self.sessions {
            session.on_time(at);
        }
        match &event.fact {
            Fact::Opened { link, client, .. } => {
                assert_eq!(link.0 as usize, self.links.len(), "connections are numbered in order");
                self.links.push(LinkState::new(*client, moment));
                let clients = usize::from(client.0) + 1;
                if self.sessions.len() < clients {
                    self.sessions.resize_with(clients, Session::default);
                }
            }
            Fact::Sent(link, sent) => self.on_sent(*link, sent, moment, at, messages),
            Fact::Got(link, got) => self.on_got(*link, got, moment, messages),
            Fact::Left { link, reset } => {
                let state = self.link_mut(*link);
                state.withdrew_will = state.disconnect == Some(0) && !reset && state.is_open();
                state.left.get_or_insert(moment);
                self.on_over(*link, moment, at);
            }
            Fact::Ended(link) => {
                self.link_mut(*link).ended = Some(moment);
                self.on_over(*link, moment, at);
            }
            Fact::Greeted { link, accepted } => {
                let state = self.link_mut(*link);
                state.greeted = Some((moment, *accepted));
                state.greeted_at = Some(at);
            }
            Fact::Closing(link) => {
                self.link_mut(*link).closing.get_or_insert(moment);
                self.on_over(*link, moment, at);
            }
            Fact::Gone { link, .. } => {
                self.link_mut(*link).gone = Some(moment);
                self.on_over(*link, moment, at);
            }
            Fact::Quiet { .. } => self.on_quiet(moment, messages),
            Fact::Crashed => self.on_crashed(moment, at, messages),
            Fact::DiskFull(is_full) => self.fullness.on(*is_full, moment),
            Fact::Undecodable(..)
            | Fact::Unsent { .. }
            | Fact::Contract(_)
            | Fact::Overflow(_)
            | Fact::Damaged(_) => {}
        }
    }

    fn link_mut(&mut self, link: Link) -> &mut LinkState {
        &mut self.links[link.0 as usize]
    }

    fn on_sent(&mut self, link: Link, sent: &Sent, moment: Moment, at: Mono, messages: &[Message]) {
        let client = self.link(link).client;
        self.link_mut(link).written = at;
        match sent {
            Sent::Connect(greeting) => {
                let raced = self.has_loose_link(client);
                self.give_up_older(link, moment, at);
                self.sessions[usize::from(client.0)].on_connect(greeting.clean || raced, moment);
                let state = self.link_mut(link);
                state.raced = raced;
                state.greeting = Some(greeting.clone());
            }
            Sent::Publish(outgoing) => {
                let qos = messages[outgoing.message.0 as usize].qos;
                let session = self.session(client).number;
                let message = &mut self.messages[outgoing.message.0 as usize];
                message.on_sent(link, moment);
                message.session = session;
                let request = match outgoing.packet_id {
                    Some(packet_id) if qos > QoS::AtMostOnce => Request::Publish(packet_id, outgoing.message),
                    _ => Request::Plain(outgoing.message),
                };
                self.link_mut(link).requests.push((moment, request));
            }
            Sent::Ack(ack) => {
                if ack.kind == PacketKind::PubRel {
                    self.link_mut(link).requests.push((moment, Request::Release(ack.packet_id)));
                }
            }
            Sent::Subscribe { packet_id, id, filters } => {
                self.link_mut(link).requests.push((moment, Request::Subscribe(*packet_id)));
                self.sessions[usize::from(client.0)].on_subscribe(*packet_id, *id, filters, moment);
            }
            Sent::Unsubscribe { packet_id, filters } => {
                self.link_mut(link).requests.push((moment, Request::Unsubscribe(*packet_id)));
                self.sessions[usize::from(client.0)].on_unsubscribe(*packet_id, filters, moment);
            }
            Sent::Ping => self.link_mut(link).requests.push((moment, Request::Ping)),
            Sent::Disconnect { reason, expiry } => {
                self.link_mut(link).disconnect = Some(*reason);
                if let Some(expiry) = expiry {
                    // Whether the broker reads it is not known: the shorter one is certain.
                    let session = &mut self.sessions[usize::from(client.0)];
                    session.expiry = session.expiry.min(*expiry);
                }
            }
            Sent::Garbage => {
                self.link_mut(link).garbage.get_or_insert(moment);
            }
        }
    }

    /// A client that connects anew has given up its older connections.
    fn give_up_older(&mut self, link: Link, moment: Moment, at: Mono) {
        let client = self.link(link).client;
        for older in 0..link.0 {
            let state = &mut self.links[older as usize];
            if state.client == client && state.left.is_none() {
                state.left = Some(moment);
                self.on_over(Link(older), moment, at);
            }
        }
    }

    fn on_got(&mut self, link: Link, got: &Got, moment: Moment, messages: &[Message]) {
        let client = usize::from(self.link(link).client.0);
        let answered = match got {
            Got::ConnAck(welcome) => {
                self.on_welcome(link, welcome, moment);
                None
            }
            Got::Publish(delivery) => {
                self.on_delivery(link, delivery, messages);
                None
            }
            Got::Ack(ack) => self.on_ack(link, *ack, messages),
            Got::SubAck { packet_id, reasons } => {
                self.sessions[client].on_suback(*packet_id, reasons, moment);
                self.link_mut(link).answer(|request| *request == Request::Subscribe(*packet_id))
            }
            Got::UnsubAck { packet_id, .. } => {
                self.sessions[client].on_unsuback(*packet_id, moment);
                self.link_mut(link).answer(|request| *request == Request::Unsubscribe(*packet_id))
            }
            Got::Pong => self.link_mut(link).answer(|request| *request == Request::Ping),
            Got::Disconnect { .. } | Got::Auth => None,
        };
        if let Some((asked, _)) = answered {
            self.accept_plain(link, asked);
        }
    }

    fn on_welcome(&mut self, link: Link, welcome: &Welcome, moment: Moment) {
        let client = usize::from(self.link(link).client.0);
        let state = &mut self.links[link.0 as usize];
        state.welcome = Some(welcome.clone());
        if welcome.reason != 0 {
            return;
        }
        let asked = state.greeting.as_ref().map_or(0, |greeting| greeting.expiry);
        let session = &mut self.sessions[client];
        session.on_welcome(link, welcome, asked, moment);
        if state.raced {
            session.doubtful.get_or_insert(moment);
        }
        state.session = Some(session.number);
    }

    fn on_ack(&mut self, link: Link, ack: AckFact, messages: &[Message]) -> Option<(Moment, Request)> {
        let state = self.link_mut(link);
        match ack.kind {
            PacketKind::PubAck | PacketKind::PubRec => {
                let answered = state.answer(
                    |request| matches!(request, Request::Publish(packet_id, _) if *packet_id == ack.packet_id),
                )?;
                let Request::Publish(_, id) = answered.1 else { return Some(answered) };
                let qos = messages[id.0 as usize].qos;
                let message = &mut self.messages[id.0 as usize];
                if ack.reason == NOT_STORED {
                    message.outcome = Outcome::NotStored;
                } else if ack.reason >= 0x80 {
                    message.outcome = Outcome::Refused;
                } else if qos == QoS::AtLeastOnce {
                    message.outcome = Outcome::Accepted;
                } else {
                    // The broker may route a QoS 2 message as late as its PUBREL.
                    message.releasing = Some(ack.packet_id);
                }
                Some(answered)
            }
            PacketKind::PubComp => {
                let answered = state.answer(|request| *request == Request::Release(ack.packet_id))?;
                let client = state.client;
                for (index, message) in self.messages.iter_mut().enumerate() {
                    if message.releasing == Some(ack.packet_id) && messages[index].publisher == client {
                        message.releasing = None;
                        if ack.reason < 0x80 {
                            message.outcome = Outcome::Accepted;
                        }
                    }
                }
                Some(answered)
            }
            _ => None,
        }
    }

    /// The broker has read everything the client sent before `asked`.
    fn accept_plain(&mut self, link: Link, asked: Moment) {
        let state = &mut self.links[link.0 as usize];
        for (sent, request) in &state.requests {
            if let Request::Plain(id) = request
                && *sent < asked
            {
                let message = &mut self.messages[id.0 as usize];
                // An answer that is read after the node's end says nothing of what it has kept.
                if !message.crashed {
                    message.outcome = Outcome::Accepted;
                }
            }
        }
        state.requests.retain(|(sent, request)| !matches!(request, Request::Plain(_)) || *sent >= asked);
    }

    fn on_delivery(&mut self, link: Link, delivery: &Delivery, messages: &[Message]) {
        let client = self.link(link).client;
        let Some(id) = delivery.message else { return };
        let topic = messages[id.0 as usize].topic;
        let message = &mut self.messages[id.0 as usize];
        let session = &mut self.sessions[usize::from(client.0)];
        let shared = session.may_match(topic, message.begun).any(Subscription::is_shared);
        if session.on_delivery(id, delivery) && shared {
            message.shared_copies += 1;
        }
    }

    /// To be called before checkers look at a [`Fact::Quiet`]: what was sent on connections that still
    /// stand has been read by now.
    pub fn before_quiet(&mut self, moment: Moment) {
        self.quiet_next = moment;
        for link in 0..self.links.len() {
            if self.links[link].is_open() && self.links[link].welcome.is_some() {
                self.accept_plain(Link(link as u32), moment);
            }
        }
    }

    /// One side has given the connection up: its session is away, its will may be published.
    fn on_over(&mut self, link: Link, moment: Moment, at: Mono) {
        let state = &mut self.links[link.0 as usize];
        // Its client may hear of it later, and even read the CONNACK after that.
        let at = *state.over_at.get_or_insert(at);
        let state = &self.links[link.0 as usize];
        let greeted = state.greeted.is_some_and(|(_, accepted)| accepted);
        if let Some(will) = state.greeting.as_ref().and_then(|greeting| greeting.will) {
            let message = &mut self.messages[will.message.0 as usize];
            if message.begun.is_none() {
                message.on_sent(link, moment);
                let silent = state.disconnect.is_none_or(|reason| reason == 4);
                if greeted && silent && will.delay == 0 {
                    message.outcome = Outcome::Accepted;
                }
            }
        }
        let session = &mut self.sessions[usize::from(state.client.0)];
        session.on_over(link, moment, at);
        if let Some(greeting) = state.greeting.as_ref().filter(|_| state.welcome.is_none()) {
            session.on_unanswered(greeting.expiry, moment);
        }
    }

    fn on_quiet(&mut self, moment: Moment, messages: &[Message]) {
        for index in 0..self.messages.len() {
            let open = self.may_still_come(MessageId(index as u32), messages);
            let message = &mut self.messages[index];
            if message.begun.is_some() && message.settled.is_none() && !open {
                message.settled = Some(moment);
            }
        }
        self.quiet = moment;
    }

    /// Though nothing moves: may the message be routed later? A will may wait for its delay; a publisher with
    /// a session may send again what was not acknowledged.
    #[must_use]
    pub fn may_still_come(&self, id: MessageId, messages: &[Message]) -> bool {
        let (message, state) = (&messages[id.0 as usize], self.message(id));
        let publisher = self.session(message.publisher);
        let resends = message.qos > QoS::AtMostOnce && publisher.number == state.session;
        state.outcome == Outcome::Unknown && (message.will || resends)
    }
}

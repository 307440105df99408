//! A simulated client: a correct MQTT client with a session of its own that outlives its connections, and an
//! application that does whatever the seed says. Where it breaks the rules it does so because a fault was
//! drawn, and the history says so.

pub mod act;
mod connect;
mod receive;
mod send;
pub mod tamper;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use broker_core::time::Mono;
use mqtt::{QoS, Version};

use self::tamper::Tamper;
use crate::history::{AckFact, ClientIndex, Link, MessageId};
use crate::random::Random;
use crate::scenario::{Profile, Reader};
use crate::world::World;

/// One client.
#[derive(Debug)]
pub struct Client {
    index: ClientIndex,
    id: String,
    profile: Profile,
    random: Random,

    // The session, kept over connections.
    /// Publishes with QoS 1 and 2 that are not finished, in the order they were first sent.
    outbound: Vec<Outbound>,
    /// QoS 2 messages received and not released.
    inbound: Vec<u16>,
    next_packet_id: u16,
    /// Filters that may be in force.
    filters: Vec<&'static str>,
    /// The broker holds (or should hold) a session.
    session_kept: bool,
    /// The client's own state is gone: the next connection must start clean.
    must_clean: bool,
    /// Until then the broker keeps its session, at least.
    session_lasts: Mono,

    // The connection.
    line: Option<Line>,
    /// Connections given up for newer ones, and not closed yet.
    old: Vec<Link>,
    next_subscription_id: u32,
    /// A fault between the broker and this client, for tests of the checkers.
    pub tamper: Option<Tamper>,
}

/// A publish that is not finished.
#[derive(Clone, Copy, Debug)]
struct Outbound {
    packet_id: u16,
    message: MessageId,
    /// It has its PUBREC.
    received: bool,
}

/// One connection, as its client sees it.
#[derive(Debug)]
struct Line {
    link: Link,
    version: Version,
    stage: Stage,
    /// The session outlives it.
    persistent: bool,
    /// By so many seconds.
    expiry: u32,
    /// The session that it asked for may have been over.
    late: bool,
    clean: bool,
    /// An older CONNECT of this client may still take this connection's place.
    raced: bool,
    keep_alive: u16,
    last_sent: Mono,
    /// Sends nothing any more: neither acknowledgements nor pings.
    silent: bool,
    /// Reads nothing for so many chances.
    paused: u32,
    /// Bytes read and not decoded.
    buffer: Vec<u8>,
    /// Acknowledgements to be sent, in order.
    acks: VecDeque<AckFact>,
    /// Identifiers of SUBSCRIBE and UNSUBSCRIBE without an answer.
    asking: Vec<u16>,
    /// PINGREQs without an answer.
    pings: u32,
    /// Topics that the broker gave aliases.
    aliases_in: BTreeMap<u16, String>,
    /// Topics that this client gave aliases, from 1.
    aliases_out: Vec<&'static str>,
    /// What the broker takes.
    receive_maximum: u16,
    alias_max: u16,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// CONNECT is sent.
    Greeting,
    /// CONNACK is read.
    Online,
    /// DISCONNECT or garbage is sent: the broker is to close it.
    Leaving,
}

impl Client {
    /// A client that has never connected.
    #[must_use]
    pub fn new(index: ClientIndex, profile: Profile, random: Random) -> Client {
        Client {
            index,
            id: format!("client-{}", index.0),
            profile,
            random,
            outbound: Vec::new(),
            inbound: Vec::new(),
            next_packet_id: 0,
            filters: Vec::new(),
            session_kept: false,
            must_clean: false,
            session_lasts: Mono(0),
            line: None,
            old: Vec::new(),
            next_subscription_id: 0,
            tamper: None,
        }
    }

    /// One chance to do something: read, acknowledge, ping, act.
    pub fn step(&mut self, world: &mut World) {
        self.look_after_old(world);
        let Some(line) = &mut self.line else {
            if self.random.percent(30) {
                self.connect_anew(world);
            }
            return;
        };
        let bytes_max = match self.profile.reader {
            _ if line.paused > 0 => {
                line.paused -= 1;
                0
            }
            Reader::Prompt => usize::MAX,
            Reader::Slow => self.random.below(60) as usize,
            Reader::Stuck => {
                if self.random.one_in(10) {
                    line.paused = self.random.below(300) as u32;
                }
                self.random.below(2_000) as usize
            }
        };
        self.read(world, bytes_max);
        if self.random.percent(self.profile.ack_percent) {
            let count = self.random.between(1, 8) as usize;
            self.send_acks(world, count);
        }
        self.ping_if_due(world);
        self.act(world);
    }

    /// Brings everything to its end and begins nothing. True if anything moved.
    pub fn settle(&mut self, world: &mut World) -> bool {
        self.look_after_old(world);
        let Some(line) = &mut self.line else { return false };
        line.paused = 0;
        line.silent = false;
        let read = self.read(world, usize::MAX);
        let sent = self.send_acks(world, usize::MAX);
        let pinged = self.ping_if_due(world);
        read || sent || pinged
    }

    /// Only what must be done as time passes; a silent client does not even that.
    pub fn idle(&mut self, world: &mut World) -> bool {
        self.look_after_old(world);
        let read = self.read(world, usize::MAX);
        let sent = self.send_acks(world, usize::MAX);
        let pinged = self.ping_if_due(world);
        read || sent || pinged
    }

    /// Falls silent, if its keep alive will end that.
    pub fn fall_silent(&mut self) {
        if let Some(line) =
            self.line.as_mut().filter(|line| line.keep_alive > 0 && line.stage == Stage::Online)
        {
            line.silent = true;
        }
    }

    /// When it must have sent something, if it must.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let line = self.line.as_ref().filter(|line| line.stage == Stage::Online && !line.silent)?;
        let wait = Duration::from_millis(u64::from(line.keep_alive) * 800);
        (line.keep_alive > 0).then(|| line.last_sent.after(wait))
    }

    /// Connected, or on the way to it?
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.line.is_some()
    }

    /// Does it wait for an answer to anything, or for the end of its connection?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.line.as_ref().is_some_and(|line| {
            line.stage != Stage::Online
                || !line.asking.is_empty()
                || line.pings > 0
                || !self.outbound.is_empty()
        })
    }

    /// Asks for a last answer, which comes after everything else has been read.
    pub fn knock(&mut self, world: &mut World) {
        if self.line.as_ref().is_some_and(|line| line.stage == Stage::Online) {
            self.send_ping(world);
        }
    }

    /// Has it a session that waits for it?
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.line.is_none() && self.session_kept && !self.must_clean
    }

    /// True if it was.
    fn ping_if_due(&mut self, world: &mut World) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= world.at);
        if due {
            self.send_ping(world);
        }
        due
    }

    /// Given-up connections are read and thrown away, and closed when the broker has closed them.
    fn look_after_old(&mut self, world: &mut World) {
        let mut waste = Vec::new();
        self.old.retain(|link| {
            world.node.read(*link, usize::MAX, &mut waste);
            if world.node.has_ended(*link) {
                world.node.leave(*link, false);
                return false;
            }
            true
        });
        world.node_facts();
    }

    /// Closes given-up connections that the broker has had no reason to close.
    pub fn leave_old(&mut self, world: &mut World) {
        for link in std::mem::take(&mut self.old) {
            world.node.leave(link, false);
        }
        world.node_facts();
    }

    /// The session's state is discarded.
    fn forget_session(&mut self) {
        self.outbound.clear();
        self.inbound.clear();
        self.filters.clear();
        self.session_kept = false;
    }

    /// An identifier that is not in use.
    fn packet_id(&mut self) -> u16 {
        loop {
            self.next_packet_id = self.next_packet_id % 300 + 1; // Small, so that they are used again soon.
            let id = self.next_packet_id;
            let asking = self.line.as_ref().is_some_and(|line| line.asking.contains(&id));
            if !asking && self.outbound.iter().all(|outbound| outbound.packet_id != id) {
                return id;
            }
        }
    }

    fn qos(&mut self) -> QoS {
        self.random.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }
}

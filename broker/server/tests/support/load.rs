//! Publishers and subscribers that live on while their broker is killed, and a ledger of what was acknowledged
//! and what arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender};

use super::DEADLINE;
use super::packets::{Connect, Heard, PUBACK, PUBCOMP, PUBREC, PUBREL, Publish, Wire};

/// Publishes of one publisher that may be under way.
const WINDOW: usize = 20;

/// What a message is named by: its publisher, and its number there.
pub type Name = (u32, u32);

/// What happens to clients.
#[derive(Debug)]
pub enum Event {
    /// PUBACK or PUBREC has come.
    Acknowledged(Name),
    /// To a subscriber; a repetition that QoS 2 allows a client to recognise is not told.
    Delivered { reader: usize, name: Name },
    /// A publisher has nothing more to do.
    Done,
}

/// A message's QoS follows from its number.
pub fn qos_of(number: u32) -> u8 {
    if number.is_multiple_of(2) { 1 } else { 2 }
}

struct Outgoing {
    number: u32,
    packet_id: u16,
    /// PUBREC has come.
    received: bool,
}

/// Publishes numbers, QoS 1 and 2 by turns.
pub struct Publisher {
    index: u32,
    id: String,
    v5: bool,
    /// It has a session and resends what was not acknowledged; otherwise that is given up.
    persistent: bool,
    known: bool,
    /// The next number.
    pub next: u32,
    unfinished: VecDeque<Outgoing>,
}

impl Publisher {
    pub fn new(index: u32, v5: bool, persistent: bool) -> Publisher {
        let id = format!("publisher-{index}");
        Publisher { index, id, v5, persistent, known: false, next: 0, unfinished: VecDeque::new() }
    }

    /// Publishes until the connection breaks, or all up to `end` are acknowledged.
    pub fn run(mut self, address: SocketAddr, end: u32, events: &Sender<Event>) -> Publisher {
        if self.publish(address, end, events).is_some() {
            let _ = events.send(Event::Done);
        }
        self
    }

    fn publish(&mut self, address: SocketAddr, end: u32, events: &Sender<Event>) -> Option<()> {
        let connect = if self.persistent { Connect::persistent } else { Connect::clean };
        let (mut wire, present) = Wire::connect(address, &connect(&self.id, self.v5)).ok()?;
        assert!(if self.persistent { present || !self.known } else { !present }, "{}: {present}", self.id);
        self.known = true;
        if !self.persistent {
            self.unfinished.clear();
        }
        for outgoing in &self.unfinished {
            match outgoing.received {
                true => wire.answer(PUBREL, outgoing.packet_id),
                false => wire.send(&self.packet(outgoing, true)),
            }
        }
        loop {
            while self.unfinished.len() < WINDOW && self.next < end {
                let packet_id = u16::try_from(self.next % 60_000 + 1).expect("in range");
                let outgoing = Outgoing { number: self.next, packet_id, received: false };
                wire.send(&self.packet(&outgoing, false));
                self.unfinished.push_back(outgoing);
                self.next += 1;
            }
            if self.unfinished.is_empty() {
                return Some(());
            }
            let (kind, packet_id, reason) = match wire.hear().ok()? {
                Heard::Answer(kind, packet_id, reason) => (kind, packet_id, reason),
                Heard::Disconnect(_) => return None,
                heard => panic!("{}: {heard:?}", self.id),
            };
            assert!(reason < 0x80 || kind == PUBCOMP, "{}: {kind:#x} with {reason:#x}", self.id);
            self.on_answer(&mut wire, kind, packet_id, events);
        }
    }

    fn on_answer(&mut self, wire: &mut Wire, kind: u8, packet_id: u16, events: &Sender<Event>) {
        let is_it = |outgoing: &Outgoing| outgoing.packet_id == packet_id;
        let place = self.unfinished.iter().position(is_it).expect("an answer to a publish");
        let outgoing = &mut self.unfinished[place];
        let (number, qos) = (outgoing.number, qos_of(outgoing.number));
        match kind {
            PUBACK if qos == 1 => drop(self.unfinished.remove(place)),
            PUBREC if qos == 2 => {
                outgoing.received = true;
                wire.answer(PUBREL, packet_id);
            }
            PUBCOMP if outgoing.received => {
                self.unfinished.remove(place);
                return;
            }
            _ => panic!("{}: {kind:#x} for {number}", self.id),
        }
        let _ = events.send(Event::Acknowledged((self.index, number)));
    }

    fn packet(&self, outgoing: &Outgoing, dup: bool) -> Publish {
        Publish {
            dup,
            qos: qos_of(outgoing.number),
            packet_id: outgoing.packet_id,
            topic: format!("load/{}", self.index),
            payload: format!("{} {}", self.index, outgoing.number),
            ..Publish::default()
        }
    }
}

/// A subscriber with a session.
pub struct Subscriber {
    pub reader: usize,
    id: String,
    v5: bool,
    receive_maximum: u16,
    /// QoS 2 messages that are not released.
    held: BTreeMap<u16, Name>,
}

impl Subscriber {
    /// Connects for the first time, subscribes and goes.
    pub fn new(
        address: SocketAddr,
        id: &str,
        v5: bool,
        receive_maximum: u16,
        (reader, filter, qos): (usize, &str, u8),
    ) -> Subscriber {
        let subscriber = Subscriber { reader, id: id.to_owned(), v5, receive_maximum, held: BTreeMap::new() };
        let (mut wire, present) = Wire::connect(address, &subscriber.connect()).expect("it listens");
        assert!(!present, "{id} is new");
        wire.subscribe(filter, qos).expect("it answers");
        wire.disconnect().expect("it closes");
        subscriber
    }

    fn connect(&self) -> Connect<'_> {
        Connect { receive_maximum: self.receive_maximum, ..Connect::persistent(&self.id, self.v5) }
    }

    /// Receives until the connection breaks.
    pub fn run(mut self, address: SocketAddr, events: &Sender<Event>) -> Subscriber {
        if let Ok((mut wire, present)) = Wire::connect(address, &self.connect()) {
            assert!(present, "{}: the session is lost", self.id);
            while let Ok(heard) = wire.hear() {
                self.on(&mut wire, heard, events);
            }
        }
        self
    }

    fn on(&mut self, wire: &mut Wire, heard: Heard, events: &Sender<Event>) {
        match heard {
            Heard::Publish(publish) => {
                let (publisher, number) = publish.payload.split_once(' ').expect("what publishers send");
                let name = (publisher.parse().expect("a number"), number.parse().expect("a number"));
                if publish.qos == 2 {
                    wire.answer(PUBREC, publish.packet_id);
                    if let Some(held) = self.held.insert(publish.packet_id, name) {
                        assert!(publish.dup && held == name, "{}: {held:?}, then {publish:?}", self.id);
                        return;
                    }
                } else {
                    wire.answer(PUBACK, publish.packet_id);
                }
                let _ = events.send(Event::Delivered { reader: self.reader, name });
            }
            Heard::Answer(PUBREL, packet_id, 0) => {
                self.held.remove(&packet_id);
                wire.answer(PUBCOMP, packet_id);
            }
            Heard::Disconnect(_) => {}
            heard => panic!("{}: {heard:?}", self.id),
        }
    }
}

/// One subscriber, or the members of a shared subscription together.
pub struct Reader {
    /// Order is each member's own, and a QoS 2 message that its publisher repeats after a crash may come to a member
    /// of another log as well.
    pub shared: bool,
    /// What its subscription was granted.
    pub qos: u8,
    delivered: BTreeSet<Name>,
    /// The latest first delivery, by publisher and QoS.
    latest: BTreeMap<(u32, u8), u32>,
}

impl Reader {
    pub fn new(shared: bool, qos: u8) -> Reader {
        Reader { shared, qos, delivered: BTreeSet::new(), latest: BTreeMap::new() }
    }

    fn on_delivered(&mut self, index: usize, name @ (publisher, number): Name) {
        let qos = qos_of(number);
        if !self.delivered.insert(name) {
            let may_repeat = qos == 1 || self.qos < 2 || self.shared;
            return assert!(may_repeat, "reader {index}: {name:?} comes twice with QoS 2");
        }
        let former = self.latest.insert((publisher, qos), number);
        assert!(
            self.shared || former.is_none_or(|former| former < number),
            "reader {index}: {name:?} after {former:?}"
        );
    }
}

/// What was acknowledged, and what arrived.
pub struct Ledger {
    pub readers: Vec<Reader>,
    pub acknowledged: BTreeSet<Name>,
    events: Receiver<Event>,
}

impl Ledger {
    pub fn new(readers: Vec<Reader>, events: Receiver<Event>) -> Ledger {
        Ledger { readers, acknowledged: BTreeSet::new(), events }
    }

    /// Takes events until the answer to one is true.
    pub fn until(&mut self, mut is_done: impl FnMut(&Ledger, &Event) -> bool) {
        loop {
            let Ok(event) = self.events.recv_timeout(DEADLINE) else {
                panic!("missing: {:?}", self.missing())
            };
            self.on(&event);
            if is_done(self, &event) {
                return;
            }
        }
    }

    /// Takes what has happened.
    pub fn catch_up(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.on(&event);
        }
    }

    fn on(&mut self, event: &Event) {
        match event {
            Event::Acknowledged(name) => drop(self.acknowledged.insert(*name)),
            Event::Delivered { reader, name } => self.readers[*reader].on_delivered(*reader, *name),
            Event::Done => {}
        }
    }

    /// Whether every reader has all that was acknowledged.
    pub fn is_complete(&self) -> bool {
        self.readers.iter().all(|reader| reader.delivered.is_superset(&self.acknowledged))
    }

    /// What was acknowledged and has not arrived: how many for each reader, and the first of them.
    fn missing(&self) -> Vec<(usize, Vec<Name>)> {
        let missing = |reader: &Reader| {
            let missing: Vec<_> = self.acknowledged.difference(&reader.delivered).copied().collect();
            (missing.len(), missing.into_iter().take(8).collect())
        };
        self.readers.iter().map(missing).collect()
    }

    /// Nothing arrived that was not sent.
    pub fn assert_sent(&self, is_sent: impl Fn(Name) -> bool) {
        for reader in &self.readers {
            let unsent: Vec<_> = reader.delivered.iter().filter(|name| !is_sent(**name)).collect();
            assert!(unsent.is_empty(), "nobody sent {unsent:?}");
        }
    }
}

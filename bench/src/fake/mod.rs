//! Hot path. `hermod-bench fake`: the least a broker can do, and so the ceiling of harness and machine.
//!
//! One thread on epoll. It reads many packets at a time, forwards a PUBLISH by copying its bytes, and
//! sends once per connection and turn. It remembers where a connection's last topic goes, so that a
//! publisher with one topic costs no look-up. It answers QoS 1 and 2 at once and resends nothing;
//! wildcards are prefixes ([`routes`]). It can drop, duplicate, swap and hold
//! deliveries on purpose.

mod epoll;
mod faults;
mod retained;
mod routes;
mod session;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use clap::Args;
use mqtt::encode::{self, PublishOut, SubAckOut};
use mqtt::{
    Ack, ConnAck, Limits, Packet, PacketId, PacketKind, Publish, QoS, ReasonCode, Subscribe, Unsubscribe,
    UserProperties, Version, decode, decode_connect,
};
use socket2::{Domain, Protocol, Socket, Type};

use self::epoll::{Epoll, Ready};
use self::faults::{Fate, Faults};
use self::retained::RetainedStore;
use self::routes::{Routes, Target};
use self::session::Session;
use crate::transport::{Service, Transport};
use crate::{output, system};

/// Bytes one read can take.
const SCRATCH_BYTES: usize = 512 << 10;
/// Bytes waiting in all queues above which nobody's publishes are read.
const QUEUED_BYTES_MAX: usize = 256 << 20;
/// Time after which a delivery held for swapping goes out alone.
const HOLD_MS: i32 = 100;
const BACKLOG: i32 = 4096;
const LISTENER: u64 = u64::MAX;
const LIMITS: Limits =
    Limits { packet_bytes_max: 300 << 10, properties_max: 64, filters_max: 1024, client_id_bytes_max: 1024 };

/// Options of the fake broker.
#[derive(Debug, Args)]
pub(crate) struct FakeOptions {
    /// Port on 127.0.0.1; 0 takes a free one and says which.
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// What it speaks; with TLS under a certificate of its own making.
    #[arg(long, value_enum, default_value_t)]
    transport: Transport,
    /// Drop every N-th delivery.
    #[arg(long, value_name = "N", default_value_t = 0)]
    drop_every: u64,
    /// Send every N-th delivery twice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    dup_every: u64,
    /// Send every N-th delivery after the next one to the same subscriber.
    #[arg(long, value_name = "N", default_value_t = 0)]
    swap_every: u64,
    /// After N deliveries, send each subscriber what comes for it when it pings: a broker that was held up.
    #[arg(long, value_name = "N", default_value_t = 0)]
    hold_after: u64,
}

/// The fake's state.
#[derive(Debug)]
struct Fake {
    epoll: Epoll,
    listener: TcpListener,
    service: Service,
    sessions: Vec<Option<Box<Session>>>,
    free: Vec<usize>,
    routes: Routes,
    /// Counts changes of `routes`.
    generation: u64,
    retained: RetainedStore,
    faults: Faults,
    /// Sessions to be flushed this turn.
    dirty: Vec<usize>,
    /// Sessions that may hold a delivery back.
    holding: Vec<usize>,
    queued: usize,
}

/// A PUBLISH to be delivered.
#[derive(Clone, Copy)]
struct Message<'a> {
    publish: Publish<'a>,
    version: Version,
    /// Its bytes as they came.
    bytes: &'a [u8],
    packet_id_at: usize,
}

/// Serves until the process is ended.
pub(crate) fn serve(options: &FakeOptions) -> io::Result<()> {
    system::raise_open_files(1 << 20)?;
    let listener = listen(options.port)?;
    output::line(format_args!("listening on {}", listener.local_addr()?));
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER)?;
    let mut fake = Fake {
        epoll,
        listener,
        service: Service::new(options.transport),
        sessions: Vec::new(),
        free: Vec::new(),
        routes: Routes::default(),
        generation: 1,
        retained: RetainedStore::default(),
        faults: faults(options),
        dirty: Vec::new(),
        holding: Vec::new(),
        queued: 0,
    };
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut ready = Vec::new();
    loop {
        fake.epoll.wait(&mut ready, if fake.holding.is_empty() { -1 } else { HOLD_MS })?;
        fake.turn(&ready, &mut scratch);
    }
}

fn faults(options: &FakeOptions) -> Faults {
    let &FakeOptions { drop_every, dup_every, swap_every, hold_after, .. } = options;
    Faults::new(drop_every, dup_every, swap_every, hold_after)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Fake {
    fn turn(&mut self, ready: &[Ready], scratch: &mut [u8]) {
        let full = self.queued > QUEUED_BYTES_MAX;
        for event in ready {
            if event.token == LISTENER {
                self.accept();
                continue;
            }
            let slot = event.token as usize;
            let waits = full && self.sessions[slot].as_ref().is_some_and(|session| session.publishes);
            if event.readable && !waits {
                self.on_readable(slot, scratch);
            }
            if event.writable {
                self.mark_dirty(slot);
            }
        }
        if ready.is_empty() {
            self.release_held();
        }
        self.flush_dirty();
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let slot = self.free.pop().unwrap_or(self.sessions.len());
            if slot == self.sessions.len() {
                self.sessions.push(None);
            }
            if prepare(&stream).and_then(|()| self.epoll.add(&stream, slot as u64)).is_ok() {
                self.sessions[slot] = Some(Box::new(Session::new(stream, self.service.begin())));
            } else {
                self.free.push(slot);
            }
        }
    }

    fn on_readable(&mut self, slot: usize, scratch: &mut [u8]) {
        let Some(session) = &mut self.sessions[slot] else { return };
        let length = match session.receive(scratch) {
            Ok(Some(length)) => length,
            // The transport may have to answer.
            Ok(None) => return self.mark_dirty(slot),
            Err(_) => return self.close(slot),
        };
        let mut rest = &scratch[..length];
        loop {
            match self.on_packet(slot, rest) {
                Some(0) => break,
                Some(used) => rest = &rest[used..],
                None => return self.close(slot),
            }
        }
        if let Some(session) = self.sessions[slot].as_mut().filter(|_| !rest.is_empty()) {
            session.partial.extend_from_slice(rest);
        }
    }

    /// Takes one packet and says how long it was, 0 when it is not complete; `None`: the connection ends.
    fn on_packet(&mut self, slot: usize, bytes: &[u8]) -> Option<usize> {
        let session = self.sessions[slot].as_mut()?;
        let Some(version) = session.version else {
            let Some((connect, used)) = decode_connect(bytes, &LIMITS).ok()? else { return Some(0) };
            session.version = Some(connect.version);
            encode::connack(&mut session.queue, connect.version, &ConnAck::default());
            self.mark_dirty(slot);
            return Some(used);
        };
        let Some((packet, used)) = decode(version, bytes, &LIMITS).ok()? else { return Some(0) };
        match packet {
            Packet::Publish(publish) => self.on_publish(slot, version, publish, &bytes[..used]),
            Packet::PubRec(ack) => self.answer(slot, version, PacketKind::PubRel, ack.packet_id),
            Packet::PubRel(ack) => self.answer(slot, version, PacketKind::PubComp, ack.packet_id),
            Packet::PubAck(_) | Packet::PubComp(_) => {}
            Packet::Subscribe(subscribe) => self.on_subscribe(slot, version, &subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(slot, version, &unsubscribe),
            Packet::PingReq => {
                let held = std::mem::take(&mut session.held);
                session.queue.extend_from_slice(&held);
                encode::pingresp(&mut session.queue);
                self.mark_dirty(slot);
            }
            _ => return None,
        }
        Some(used)
    }

    fn answer(&mut self, slot: usize, version: Version, kind: PacketKind, id: PacketId) {
        if let Some(session) = &mut self.sessions[slot] {
            encode::ack(&mut session.queue, version, kind, &Ack::new(id, ReasonCode::SUCCESS));
            self.mark_dirty(slot);
        }
    }

    fn on_publish(&mut self, slot: usize, version: Version, publish: Publish<'_>, bytes: &[u8]) {
        if let Some(id) = publish.packet_id {
            let kind = if publish.qos == QoS::ExactlyOnce { PacketKind::PubRec } else { PacketKind::PubAck };
            self.answer(slot, version, kind, id);
        }
        if publish.retain {
            self.retained.set(publish.topic, publish.payload);
        }
        let Some(session) = &mut self.sessions[slot] else { return };
        session.publishes = true;
        let mut found = std::mem::take(&mut session.last_routes);
        if session.last_topic != publish.topic || session.last_generation != self.generation {
            publish.topic.clone_into(&mut session.last_topic);
            session.last_generation = self.generation;
            self.routes.resolve(publish.topic, &mut found);
        }
        let length_bytes = bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let packet_id_at = 1 + length_bytes + 2 + publish.topic.len();
        let message = Message { publish, version, bytes, packet_id_at };
        for id in &found {
            let route = self.routes.route_mut(*id);
            let targets = std::mem::take(&mut route.targets);
            let chosen: Option<Target> = match route.groups.as_mut_slice() {
                [] => None,
                [group] => group.next(),
                groups => groups[0].next(),
            };
            for target in targets.iter().chain(&chosen) {
                self.deliver(*target, &message);
            }
            self.routes.route_mut(*id).targets = targets;
        }
        if let Some(session) = &mut self.sessions[slot] {
            session.last_routes = found;
        }
    }

    fn deliver(&mut self, target: Target, message: &Message<'_>) {
        let fate = if self.faults.is_none() { Fate::Deliver } else { self.faults.next() };
        let Some(session) = &mut self.sessions[target.slot] else { return };
        let before = session.queue.len();
        match fate {
            Fate::Deliver => message.write(session, target.qos),
            Fate::Drop => return,
            Fate::Duplicate => {
                message.write(session, target.qos);
                message.write(session, target.qos);
            }
            Fate::Swap | Fate::Hold => {
                message.write(session, target.qos);
                let held = session.queue.split_off(before);
                session.held.extend_from_slice(&held);
                if fate == Fate::Swap {
                    self.holding.push(target.slot);
                }
                return;
            }
        }
        if !session.held.is_empty() {
            let held = std::mem::take(&mut session.held);
            session.queue.extend_from_slice(&held);
        }
        self.queued += session.queue.len() - before;
        self.mark_dirty(target.slot);
    }

    fn release_held(&mut self) {
        for slot in std::mem::take(&mut self.holding) {
            if let Some(session) = &mut self.sessions[slot] {
                let held = std::mem::take(&mut session.held);
                session.queue.extend_from_slice(&held);
                self.mark_dirty(slot);
            }
        }
    }

    fn on_subscribe(&mut self, slot: usize, version: Version, subscribe: &Subscribe<'_>) {
        self.generation += 1;
        let mut reasons = Vec::new();
        for wanted in subscribe.filters {
            let qos = wanted.options.qos.bits();
            let route = self.routes.subscribe(wanted.filter, Target { slot, qos });
            if let Some(session) = &mut self.sessions[slot] {
                session.routes.push(route);
            }
            reasons.extend(ReasonCode::from_value(qos));
        }
        let Some(session) = &mut self.sessions[slot] else { return };
        encode::suback(&mut session.queue, version, &suback(subscribe.packet_id, &reasons));
        for wanted in subscribe.filters {
            let prefix = routes::wildcard_prefix(wanted.filter);
            for message in self.retained.matching(wanted.filter, prefix.as_deref()) {
                let publish = PublishOut {
                    retain: true,
                    topic: &message.topic,
                    payload: &message.payload,
                    ..PublishOut::default()
                };
                encode::publish(&mut session.queue, version, &publish);
            }
        }
        self.mark_dirty(slot);
    }

    fn on_unsubscribe(&mut self, slot: usize, version: Version, unsubscribe: &Unsubscribe<'_>) {
        self.generation += 1;
        let mut reasons = Vec::new();
        for filter in unsubscribe.filters {
            if let Some(id) = self.routes.find(filter) {
                self.routes.leave(id, slot);
                if let Some(session) = &mut self.sessions[slot] {
                    session.routes.retain(|other| *other != id);
                }
            }
            reasons.push(ReasonCode::SUCCESS);
        }
        let Some(session) = &mut self.sessions[slot] else { return };
        encode::unsuback(&mut session.queue, version, &suback(unsubscribe.packet_id, &reasons));
        self.mark_dirty(slot);
    }

    fn mark_dirty(&mut self, slot: usize) {
        if let Some(session) = self.sessions[slot].as_mut().filter(|session| !session.dirty) {
            session.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn flush_dirty(&mut self) {
        self.queued = 0;
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(session) = &mut self.sessions[slot] else { continue };
            session.dirty = false;
            let Ok(done) = session.flush() else {
                self.close(slot);
                continue;
            };
            self.queued += session.queued();
            if done == session.waits_for_room {
                session.waits_for_room = !done;
                let _ = self.epoll.watch_room(&session.stream, slot as u64, !done);
            }
        }
        self.dirty = dirty;
    }

    fn close(&mut self, slot: usize) {
        self.generation += 1;
        if let Some(session) = self.sessions[slot].take() {
            for id in &session.routes {
                self.routes.leave(*id, slot);
            }
            self.free.push(slot);
        }
    }
}

impl Message<'_> {
    /// Appends the message for a subscriber: its own bytes where they will do.
    fn write(&self, session: &mut Session, qos: u8) {
        const DUP_AND_RETAIN: u8 = 0b1001;
        let qos = QoS::from_bits(self.publish.qos.bits().min(qos)).unwrap_or_default();
        let packet_id = (qos != QoS::AtMostOnce).then(|| session.next_id());
        let version = session.version.unwrap_or(Version::V311);
        if version == self.version && qos == self.publish.qos {
            let start = session.queue.len();
            session.queue.extend_from_slice(self.bytes);
            let copy = &mut session.queue[start..];
            copy[0] &= !DUP_AND_RETAIN;
            if let Some(id) = packet_id {
                encode::patch_packet_id(copy, self.packet_id_at, id);
            }
            return;
        }
        let publish = PublishOut {
            qos,
            packet_id,
            topic: self.publish.topic,
            payload: self.publish.payload,
            ..PublishOut::default()
        };
        encode::publish(&mut session.queue, version, &publish);
    }
}

fn suback(packet_id: PacketId, reasons: &[ReasonCode]) -> SubAckOut<'_> {
    SubAckOut { packet_id, reason_string: None, user_properties: UserProperties::default(), reasons }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)
}

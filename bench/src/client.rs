//! Hot path. One MQTT client: greets, then lets its role answer packets and produce new ones.
//!
//! A client is one task. It sends what its role produced, receives what has come, and waits; it is
//! woken by its socket, by the arrival of deliveries its role waits for, or by a new phase.

use std::io;
use std::task::{Context, Poll};

use mqtt::encode;
use mqtt::{
    Connect, ConnectProperties, DecodeError, Disconnect, Limits, Packet, PacketKind, ReasonCode, decode,
};

use crate::clock;
use crate::connection::Connection;
use crate::getter::Getter;
use crate::persistent::Sessions;
use crate::probe::Pings;
use crate::publisher::Publisher;
use crate::shared::{Phase, bump};
use crate::subscriber::Subscriber;
use crate::worker::Worker;

/// Keep-alive asked for, in seconds: the benchmark suite's.
const KEEP_ALIVE: u16 = 300;
/// Seconds a session of a persistent scenario outlives its connection, should nobody clear it.
const SESSION_EXPIRY: u32 = 3600;
/// Reads before other tasks get their turn.
const READS_MAX: u32 = 8;
/// What a broker may send: payloads end at 256 KiB.
const LIMITS: Limits =
    Limits { packet_bytes_max: 300 << 10, properties_max: 64, filters_max: 1024, client_id_bytes_max: 1024 };

/// What a client is for.
#[derive(Debug)]
pub(crate) enum Role {
    /// Stays connected.
    Idle,
    /// Sends.
    Publisher(Box<Publisher>),
    /// Receives.
    Subscriber(Box<Subscriber>),
    /// Fetches retained messages.
    Getter(Box<Getter>),
}

/// Why a client ended before its time.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The socket failed.
    Io(io::Error),
    /// The broker closed the connection.
    Closed,
    /// CONNACK said no.
    Refused(ReasonCode),
    /// The broker said DISCONNECT.
    Disconnected(ReasonCode),
    /// The broker sent what is no packet.
    Malformed(DecodeError),
    /// The broker sent a packet that has no place here.
    Unexpected(PacketKind),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Io(error) => write!(formatter, "{error}"),
            ClientError::Closed => write!(formatter, "the broker closed the connection"),
            ClientError::Refused(reason) => write!(formatter, "CONNACK {reason:?}"),
            ClientError::Disconnected(reason) => write!(formatter, "DISCONNECT {reason:?}"),
            ClientError::Malformed(error) => write!(formatter, "malformed packet: {error:?}"),
            ClientError::Unexpected(kind) => write!(formatter, "unexpected {kind:?}"),
        }
    }
}

/// One client's state, owned by its task.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Connection,
    role: Role,
    /// Place in the thread's table of wakers.
    slot: usize,
    dialled: u64,
    connected: bool,
    leaving: bool,
    last_sent: u64,
    pings: Pings,
}

impl Client {
    /// A client that has dialled; CONNECT waits in its queue.
    pub(crate) fn new(
        worker: &Worker,
        connection: Connection,
        role: Role,
        slot: usize,
        number: u32,
    ) -> Client {
        let now = clock::now();
        let mut client = Client {
            connection,
            role,
            slot,
            dialled: now,
            connected: false,
            leaving: false,
            last_sent: now,
            pings: Pings::default(),
        };
        let client_id = format!("hb-{:03x}-{number}", worker.shared.tag);
        let outlives =
            matches!(client.role, Role::Subscriber(_)) && worker.shared.plan.sessions != Sessions::Clean;
        let connect = Connect {
            keep_alive: KEEP_ALIVE,
            clean_start: !outlives,
            properties: ConnectProperties {
                session_expiry: if outlives { SESSION_EXPIRY } else { 0 },
                ..ConnectProperties::default()
            },
            username: worker.shared.plan.login.as_ref().map(|(user, _)| user.as_str()),
            password: worker.shared.plan.login.as_ref().map(|(_, password)| password.as_bytes()),
            ..Connect::new(worker.shared.plan.version, &client_id)
        };
        encode::connect(client.connection.queue(&mut worker.pool()), &connect);
        client
    }

    /// The role, once the client has ended.
    pub(crate) fn into_role(self) -> Role {
        self.role
    }

    /// Whether an answer to the pings of `round` is still owed.
    pub(crate) fn owes_answer(&self, round: u64) -> bool {
        self.connected && self.pings.owes(round)
    }

    /// Whether CONNACK has come.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Runs until there is nothing to do. `Ready`: the client has ended.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        worker: &Worker,
    ) -> Poll<Result<(), ClientError>> {
        worker.keep_waker(self.slot, context.waker());
        for _ in 0..READS_MAX {
            self.poll_send(context, worker).map_err(ClientError::Io)?;
            if self.leaving && (self.connection.queued() == 0 || !self.connected) {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = worker.scratch();
            let received = self.connection.poll_receive(context, &mut scratch, &mut worker.pool());
            match received {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(ClientError::Io(error))),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ClientError::Closed)),
                Poll::Ready(Ok(length)) => self.on_bytes(worker, &scratch[..length])?,
            }
        }
        self.poll_send(context, worker).map_err(ClientError::Io)?;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Produces and sends until the role has no more or the socket takes no more.
    fn poll_send(&mut self, context: &mut Context<'_>, worker: &Worker) -> io::Result<()> {
        let now = clock::now();
        loop {
            self.produce(worker, now);
            if self.connection.queued() == 0 {
                return Ok(());
            }
            self.last_sent = now;
            match self.connection.poll_flush(context, &mut worker.pool()) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn produce(&mut self, worker: &Worker, now: u64) {
        if worker.shared.phase() == Phase::Close {
            if !self.leaving && self.connected {
                let goodbye = Disconnect::new(ReasonCode::SUCCESS);
                let queue = self.connection.queue(&mut worker.pool());
                encode::disconnect(queue, worker.shared.plan.version, &goodbye);
            }
            self.leaving = true;
            return;
        }
        if !self.connected {
            return;
        }
        match &mut self.role {
            Role::Publisher(publisher) => {
                let queue = self.connection.queue(&mut worker.pool());
                publisher.produce(worker, self.slot, queue, now);
            }
            Role::Getter(getter) => getter.produce(worker, self.connection.queue(&mut worker.pool()), now),
            Role::Idle | Role::Subscriber(_) => {}
        }
        let is_idle = now.saturating_sub(self.last_sent) > u64::from(KEEP_ALIVE) * 500_000_000;
        if self.pings.is_asked(worker.counters().answers.round()) || is_idle {
            self.pings.on_request();
            encode::pingreq(self.connection.queue(&mut worker.pool()));
        }
    }

    fn on_bytes(&mut self, worker: &Worker, bytes: &[u8]) -> Result<(), ClientError> {
        let now = clock::now();
        let version = worker.shared.plan.version;
        let mut rest = bytes;
        while let Some((packet, length)) = decode(version, rest, &LIMITS).map_err(ClientError::Malformed)? {
            self.on_packet(worker, &packet, now)?;
            rest = &rest[length..];
        }
        self.connection.keep(rest, &mut worker.pool());
        if let Role::Subscriber(subscriber) = &mut self.role {
            subscriber.end_read(worker);
        }
        // After what came before it is counted.
        if self.pings.take_answered() {
            worker.counters().answers.answer();
        }
        Ok(())
    }

    fn on_packet(&mut self, worker: &Worker, packet: &Packet<'_>, now: u64) -> Result<(), ClientError> {
        let queue = self.connection.queue(&mut worker.pool());
        let taken = match (&mut self.role, packet) {
            (_, Packet::ConnAck(connack)) if !self.connected => {
                if connack.reason.is_error() {
                    return Err(ClientError::Refused(connack.reason));
                }
                self.connected = true;
                self.pings.join(worker.counters().answers.round());
                worker.on_connected(self.dialled, now);
                match &mut self.role {
                    Role::Subscriber(subscriber) => subscriber.subscribe(worker, queue),
                    Role::Publisher(publisher) => {
                        publisher.limit_window(connack.properties.receive_maximum);
                        bump(&worker.counters().ready, 1);
                    }
                    Role::Idle | Role::Getter(_) => bump(&worker.counters().ready, 1),
                }
                true
            }
            (_, Packet::PingResp) => self.pings.on_response(),
            (_, Packet::Disconnect(disconnect)) => return Err(ClientError::Disconnected(disconnect.reason)),
            (Role::Subscriber(subscriber), packet) => subscriber.on_packet(worker, packet, queue, now),
            (Role::Publisher(publisher), packet) => publisher.on_packet(worker, packet, queue, now),
            (Role::Getter(getter), packet) => getter.on_packet(worker, packet, queue, now),
            (Role::Idle, _) => false,
        };
        if taken { Ok(()) } else { Err(ClientError::Unexpected(packet.kind())) }
    }
}

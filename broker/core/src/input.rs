//! What goes into a [`Core`](crate::Core) and what comes out of it: the whole border between the state
//! machine and its host (the shell in `broker/server`, or the simulator).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::access::{AccessList, Decided, Doubt, Identity, Question};
use crate::bans::{Ban, Target};
use crate::config::Config;
use crate::identity::{ConnectionId, CoreId};
use crate::notice::Notice;
use crate::peer::PeerMessage;
use crate::sight::{Answer, Ask, Publish};
use crate::storage::{StorageAnswer, StorageRequest};

/// One thing that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// This core's listener accepted a socket. `connection.slot` is free, its generation never used before.
    ClientAccepted {
        /// The new connection's name.
        connection: ConnectionId,
        /// Which of the configured listeners, by index.
        listener: u16,
        /// The other end, if the transport has one.
        peer: Option<SocketAddr>,
    },
    /// A proxy in front of us has said where the client is. Before its first bytes.
    ClientRelayed {
        /// Whose.
        connection: ConnectionId,
        /// The client's end; None: it has no address.
        peer: Option<SocketAddr>,
    },
    /// The client has asked for us under this name, in lower case. Before its first bytes.
    ClientNamed {
        /// Whose.
        connection: ConnectionId,
        /// As in a certificate.
        name: &'a str,
    },
    /// The transport has proved, by a certificate, which user the client is. Before its first bytes; what it says
    /// itself in CONNECT, and any password, counts for nothing then.
    ClientCertified {
        /// Whose.
        connection: ConnectionId,
        /// The user.
        user: String,
    },
    /// Another core of this node read a CONNECT whose client is at home here, and gave its socket up.
    ClientHandedOver {
        /// The connection's name on this core.
        connection: ConnectionId,
        /// What the other core knew.
        handover: Box<Handover>,
    },
    /// Bytes arrived. All are taken: what a turn's budget leaves undone is kept by the core, which then
    /// answers false to [`Core::wants_bytes`](crate::Core::wants_bytes) until it has caught up.
    ClientBytes {
        /// Whose.
        connection: ConnectionId,
        /// At most [`RECEIVE_BYTES_MAX`] at a time.
        bytes: &'a [u8],
    },
    /// The first `bytes` of the connection's unsent bytes have been given to the kernel.
    ClientSent {
        /// Whose.
        connection: ConnectionId,
        /// At most what [`Core::unsent`](crate::Core::unsent) showed.
        bytes: usize,
    },
    /// What carries the client's bytes is broken, or shows that it is not to be let in: TLS, a WebSocket, a proxy's
    /// header. [`Input::ClientClosed`] follows.
    ClientBroken {
        /// Whose.
        connection: ConnectionId,
        /// Why.
        doubt: Doubt,
    },
    /// The socket is gone. Exactly once for each connection accepted or handed over to this core, and
    /// the last that is heard of it, whoever began the closing. Not sent for one that was handed away.
    ClientClosed {
        /// Whose.
        connection: ConnectionId,
    },
    /// One turn's messages from another core of this node, in the order they were sent.
    PeerMessages {
        /// The sender.
        from: CoreId,
        /// Never empty.
        messages: Vec<PeerMessage>,
    },
    /// The former connection of this one's client has been heard: the answer to a [`HearOut`].
    ClientHeardOut {
        /// The newcomer.
        connection: ConnectionId,
    },
    /// The answer to a [`Question`].
    Decided(Decided),
    /// Keep somebody out from now on, in place of a former ban of the same. Clients that are online are disconnected.
    /// To be told to all cores of a node; [`Core::bans`](crate::Core::bans) lists what one has.
    Ban(Ban),
    /// Let them in again.
    Unban(Target),
    /// These names let nobody in any more who was let in by one of them ([`Identity::listed`]): such clients are
    /// disconnected.
    UsersGone(Arc<BTreeSet<Arc<str>>>),
    /// Something that a log asked for is done.
    Storage(StorageAnswer),
    /// The configuration has changed. Of the limits, those of packets and CONNECT are the same as before, and the
    /// number of cores and listeners is. Clients that are online keep the settings they were greeted under;
    /// [`Settings::OF_TENANT`](crate::config::Settings::OF_TENANT) names what takes effect at once.
    Configure(Arc<Config>),
    /// The access list from now on, for clients that are online and sessions that are away as well; None: there
    /// is none, and everything is allowed. The same on all cores of a node. Before the first of these there is
    /// none.
    AccessList(Option<Arc<AccessList>>),
    /// An operator wants to know something, or has something done.
    Ask(Box<Ask>),
    /// Publish something that the host has to say. It is not answered.
    Announce(Box<Publish>),
    /// Begin the orderly stop: no connection is accepted any more, clients are told at a bounded rate,
    /// and when [`Core::is_stopped`](crate::Core::is_stopped) the process may end.
    Stop,
}

/// The most bytes of one [`Input::ClientBytes`].
pub const RECEIVE_BYTES_MAX: usize = 64 * 1024;

/// A connection on its way to its client's home core: plain data, the socket travels beside it.
#[derive(Debug)]
pub struct Handover {
    /// Which listener accepted it.
    pub listener: u16,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// Every byte received so far, from the first of the CONNECT packet on.
    pub received: Vec<u8>,
    /// Who the client is: authentication is done once, where the socket was accepted.
    pub identity: Identity,
    /// Authentication data for CONNACK, when it was an enhanced authentication.
    pub authentication_data: Option<Vec<u8>>,
}

/// How to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Send what is unsent, then shut the sending side down, then read and discard until the other end
    /// closes: an early reset would destroy the last packet on its way. The core ends the waiting with
    /// `Abort`, so the host needs no timer.
    Flush,
    /// Close now.
    Abort,
}

/// A client has connected anew. What its former connection's socket holds by now is to be given to the core, as
/// [`Input::ClientBytes`] while it wants them or [`Input::ClientClosed`], and then the newcomer's turn comes. How much
/// that is at most is the host's affair; a former connection that is gone has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HearOut {
    /// Whose bytes.
    pub former: ConnectionId,
    /// Who waits for it.
    pub newcomer: ConnectionId,
}

/// What the host has to do, gathered over a turn. Lists are in the order in which the core decided, and
/// are to be worked off in the order of the fields: closings before sendings, so that the loser of a
/// take-over is closed before the winner's CONNACK leaves.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Connections to end; after `Flush` there may still come an `Abort`.
    pub close: Vec<(ConnectionId, Close)>,
    /// Sockets to give to another core, with what it needs to know. The slot is free at once.
    pub handover: Vec<(ConnectionId, CoreId, Box<Handover>)>,
    /// Connections with unsent bytes, each at most once a turn.
    pub dirty: Vec<ConnectionId>,
    /// Connections whose clients have been let in.
    pub greeted: Vec<ConnectionId>,
    /// Connections for which `wants_bytes` has become true again.
    pub resumed: Vec<ConnectionId>,
    /// Messages to the other cores of this node, by core: each list is one batch.
    pub messages: Vec<Vec<PeerMessage>>,
    /// What the logs ask of their writers. In order for each log; a log's bytes are
    /// [`StoredLog::bytes_to_write`](crate::storage::StoredLog::bytes_to_write) of [`Core::stored_log`](crate::Core::stored_log).
    pub storage: Vec<StorageRequest>,
    /// Questions for the host; each is to be answered by one [`Input::Decided`].
    pub questions: Vec<Question>,
    /// Connections to be heard to their end, each answered by one [`Input::ClientHeardOut`], in the same order. What
    /// that causes is worked off anew, closings first.
    pub hear_out: Vec<HearOut>,
    /// What may be worth a line in a log, in the order in which it happened.
    pub notices: Vec<Notice>,
    /// Answers to [`Input::Ask`].
    pub answers: Vec<Answer>,
    /// Clients that are kept out from now on because they came too often: by this core, and by others only if the host
    /// tells them so.
    pub banned: Vec<Ban>,
}

impl Outputs {
    /// Empty outputs for a node of so many cores.
    #[must_use]
    pub fn new(cores: u16) -> Outputs {
        Outputs { messages: (0..cores).map(|_| Vec::new()).collect(), ..Outputs::default() }
    }

    /// Nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.close.is_empty()
            && self.handover.is_empty()
            && self.hear_out.is_empty()
            && self.dirty.is_empty()
            && self.greeted.is_empty()
            && self.resumed.is_empty()
            && self.storage.is_empty()
            && self.questions.is_empty()
            && self.answers.is_empty()
            && self.messages.iter().all(Vec::is_empty)
    }
}

//! A TCP connection between a client and the node, as both kernels see it: two streams of bytes with bounded
//! room, an end in each direction, and resets that overtake bytes.

use std::collections::VecDeque;

use broker_core::identity::ConnectionId;
use mqtt::Version;

/// Where the node's end of a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a listener's queue.
    Listening(u16),
    /// In a slot of a core.
    Open(u16, ConnectionId),
    /// On its way to another core.
    Travelling,
    /// Closed, and the core told so.
    Gone,
}

/// How far the node's end is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Bytes go both ways.
    Open,
    /// What is unsent still leaves; what comes is discarded.
    Flushing,
    /// The sending side is shut down; what comes is discarded.
    Lingering,
    /// Closed; the core may not have been told yet.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) version: Version,
    pub(crate) place: Place,
    pub(crate) stage: Stage,
    /// On the way to the node.
    pub(crate) to_node: VecDeque<u8>,
    /// The client has closed in order: after `to_node` comes the end.
    pub(crate) fin: bool,
    /// The client has reset.
    pub(crate) reset: bool,
    /// On the way to the client.
    pub(crate) to_client: VecDeque<u8>,
    /// How much of that the kernels hold.
    pub(crate) to_client_max: usize,
    /// The node's sending side is shut down: after `to_client` comes the end.
    pub(crate) end: bool,
    /// Readable, but the core wants nothing of it now.
    pub(crate) held: bool,
    /// Given to the kernel, and the core not told yet.
    pub(crate) sent_unreported: usize,
    /// Closed, and the core not told yet.
    pub(crate) closed_unreported: bool,
    /// The first byte has left.
    pub(crate) greeted: bool,
    /// The most bytes the core has had unsent, as far as reported.
    pub(crate) unsent_max: usize,
}

impl Socket {
    pub(crate) fn new(version: Version, core: u16, to_client_max: usize) -> Socket {
        Socket {
            version,
            place: Place::Listening(core),
            stage: Stage::Open,
            to_node: VecDeque::new(),
            fin: false,
            reset: false,
            to_client: VecDeque::new(),
            to_client_max,
            end: false,
            held: false,
            sent_unreported: 0,
            closed_unreported: false,
            greeted: false,
            unsent_max: 0,
        }
    }

    /// How much more the node may send now.
    pub(crate) fn room(&self) -> usize {
        if self.fin || self.reset {
            return usize::MAX; // Nobody reads it: it goes nowhere.
        }
        self.to_client_max.saturating_sub(self.to_client.len())
    }

    /// Is there anything for the node to receive: bytes, or an end?
    pub(crate) fn is_readable(&self) -> bool {
        !self.to_node.is_empty() || self.fin || self.reset
    }
}

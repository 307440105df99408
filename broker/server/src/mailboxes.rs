//! A core's mailboxes: what it sends to each other core of the node and receives from it. Batches that a
//! full mailbox does not take wait here, in order; nothing is lost and nothing blocks.
//!
//! Hot path.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use broker_core::identity::CoreId;
use broker_core::input::Handover;
use broker_core::peer::PeerMessage;
use mailbox::{Full, Receiver, Sender, WakeFlag, channel};

use crate::sys::EventFd;
use crate::transport::Transport;

/// Batches in one direction between two cores: a core sends at most one per turn, besides sockets. How
/// many bytes may wait is the state machine's affair (`mailbox_bytes_max`).
const CAPACITY: usize = 1024;

/// What one core sends another.
#[derive(Debug)]
pub(crate) enum Item {
    /// One turn's messages.
    Messages(Vec<PeerMessage>),
    /// A connection, with its socket. Nothing waits on the socket any more.
    Socket(Box<Handover>, OwnedFd, Option<Box<Transport>>),
}

/// How a core is woken: by other cores if its flag says that it sleeps, by other threads in any case.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    flag: Arc<WakeFlag>,
    pub(crate) event: Arc<EventFd>,
}

/// The mailboxes of one core. Lives on it.
#[derive(Debug)]
pub(crate) struct Mailboxes {
    own: CoreId,
    wake: Wake,
    /// By core; `None` for this one.
    peers: Vec<Option<Peer>>,
}

#[derive(Debug)]
struct Peer {
    sender: Sender<Item>,
    receiver: Receiver<Item>,
    event: Arc<EventFd>,
    /// What the full mailbox has not taken yet, oldest first.
    backlog: VecDeque<Item>,
    /// Something was sent since the last [`Mailboxes::wake_peers`].
    touched: bool,
}

/// The mailboxes of all cores of a node, by core.
pub(crate) fn mesh(cores: u16) -> io::Result<Vec<Mailboxes>> {
    let wakes = (0..cores)
        .map(|_| Ok(Wake { flag: Arc::new(WakeFlag::new()), event: Arc::new(EventFd::new()?) }))
        .collect::<io::Result<Vec<Wake>>>()?;
    let mut peers: Vec<Vec<Option<Peer>>> = wakes.iter().map(|_| Vec::new()).collect();
    for a in 0..wakes.len() {
        for b in 0..a {
            let (to_a, from_b) = channel(CAPACITY, Arc::clone(&wakes[a].flag));
            let (to_b, from_a) = channel(CAPACITY, Arc::clone(&wakes[b].flag));
            peers[a].push(Some(Peer::new(to_b, from_b, &wakes[b])));
            peers[b].push(Some(Peer::new(to_a, from_a, &wakes[a])));
        }
        // Row a now has its columns below a; itself comes next, and later rows append themselves.
        peers[a].push(None);
    }
    let mailboxes = (0..cores).zip(wakes).zip(peers);
    Ok(mailboxes.map(|((own, wake), peers)| Mailboxes { own: CoreId(own), wake, peers }).collect())
}

impl Peer {
    fn new(sender: Sender<Item>, receiver: Receiver<Item>, wake: &Wake) -> Peer {
        let event = Arc::clone(&wake.event);
        Peer { sender, receiver, event, backlog: VecDeque::new(), touched: false }
    }

    fn work_off(&mut self) {
        while let Some(item) = self.backlog.pop_front() {
            match self.sender.push(item) {
                Ok(()) => self.touched = true,
                Err(Full(item)) => {
                    self.backlog.push_front(item);
                    break;
                }
            }
        }
    }
}

impl Mailboxes {
    /// Whose they are.
    pub(crate) fn own(&self) -> CoreId {
        self.own
    }

    /// How this core is woken.
    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Sends to another core, behind what waits for it.
    ///
    /// # Panics
    /// If `to` is this core, or no core of the node.
    pub(crate) fn send(&mut self, to: CoreId, item: Item) {
        let own = self.own;
        let Some(peer) = &mut self.peers[to.index()] else {
            panic!("core {} sends to itself", own.0);
        };
        if !peer.backlog.is_empty() {
            peer.backlog.push_back(item);
            return;
        }
        match peer.sender.push(item) {
            Ok(()) => peer.touched = true,
            Err(Full(item)) => peer.backlog.push_back(item),
        }
    }

    /// Ends a turn's sending: retries what waits, and wakes the cores that sleep.
    pub(crate) fn wake_peers(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            peer.work_off();
            if std::mem::take(&mut peer.touched) && peer.sender.must_wake() {
                peer.event.signal();
            }
        }
    }

    /// How many items wait: for this core, and of this core for others that have no room.
    pub(crate) fn waiting(&self) -> usize {
        self.peers.iter().flatten().map(|peer| peer.receiver.len() + peer.backlog.len()).sum()
    }

    /// Whether anything waits for a full mailbox.
    pub(crate) fn has_backlog(&self) -> bool {
        self.peers.iter().flatten().any(|peer| !peer.backlog.is_empty())
    }

    /// The oldest item from a core.
    pub(crate) fn receive(&mut self, from: CoreId) -> Option<Item> {
        self.peers[from.index()].as_mut()?.receiver.pop()
    }

    /// The node's cores.
    pub(crate) fn cores(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..u16::try_from(self.peers.len()).unwrap_or(u16::MAX)).map(CoreId)
    }

    /// Whether nothing waits to be received.
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.iter().flatten().all(|peer| peer.receiver.is_empty())
    }

    /// Announces that this core is about to sleep: it sleeps only if [`Mailboxes::is_empty`] says true
    /// after this.
    pub(crate) fn park(&self) {
        self.wake.flag.park();
    }

    /// This core is awake.
    pub(crate) fn unpark(&self) {
        self.wake.flag.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch that can be told from others.
    fn batch(mark: usize) -> Item {
        Item::Messages(Vec::with_capacity(mark))
    }

    fn mark(item: Option<Item>) -> Option<usize> {
        match item {
            Some(Item::Messages(messages)) => Some(messages.capacity()),
            Some(Item::Socket(..)) | None => None,
        }
    }

    /// What goes into one end of the mesh comes out at the other and nowhere else.
    #[test]
    fn mesh_connects_each_pair() {
        let mut mesh = mesh(3).unwrap();
        for from in 0..3 {
            assert_eq!(mesh[usize::from(from)].own(), CoreId(from));
            for to in (0..3).filter(|&to| to != from) {
                mesh[usize::from(from)].send(CoreId(to), batch(1));
                for core in 0..3 {
                    for peer in 0..3 {
                        let received = mesh[usize::from(core)].receive(CoreId(peer));
                        assert_eq!(received.is_some(), core == to && peer == from);
                    }
                }
            }
        }
    }

    /// A full mailbox delays, and neither loses nor reorders.
    #[test]
    fn full_mailbox_keeps_order() {
        let mut mesh = mesh(2).unwrap();
        for number in 0..CAPACITY {
            mesh[0].send(CoreId(1), batch(number));
        }
        assert!(!mesh[0].has_backlog());
        for number in CAPACITY..CAPACITY + 2 {
            mesh[0].send(CoreId(1), batch(number));
        }
        assert!(mesh[0].has_backlog());
        assert_eq!((mesh[0].waiting(), mesh[1].waiting()), (2, CAPACITY));
        for number in 0..CAPACITY {
            assert_eq!(mark(mesh[1].receive(CoreId(0))), Some(number));
        }
        assert!(mesh[1].is_empty());
        mesh[0].wake_peers();
        assert!(!mesh[0].has_backlog());
        for number in CAPACITY..CAPACITY + 2 {
            assert_eq!(mark(mesh[1].receive(CoreId(0))), Some(number));
        }
        assert!(mesh[1].receive(CoreId(0)).is_none());
    }
}

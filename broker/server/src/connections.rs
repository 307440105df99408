//! The connections of one core, by slot. Plain data: what may happen to a connection is decided by the
//! driver, what is said on it by the core's state machine.
//!
//! Hot path.

use std::os::fd::OwnedFd;

use broker_core::identity::ConnectionId;

use crate::transport::Transport;

/// What the shell keeps of a connection. Lives on the core that serves it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) stage: Stage,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    /// Nothing comes after what there is to receive, and no report will say so again.
    pub(crate) hung_up: bool,
}

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Bytes go both ways; the client has not been let in yet.
    Greeting,
    /// Bytes go both ways.
    Open,
    /// What is unsent still leaves; what comes is discarded.
    Flushing,
    /// All is sent and the sending side shut down; what comes is discarded.
    Lingering,
}

impl Stage {
    /// What comes is looked at.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Stage::Greeting | Stage::Open)
    }
}

/// What a connection's next bytes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// The kernel to have some.
    Watched,
    /// Their turn: it is in the list of those to receive from.
    Listed,
    /// The state machine to want them.
    Held,
}

/// What a connection's unsent bytes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Nothing: the turn that makes them sends them.
    Prompt,
    /// The next round or turn: it is in the list of those to send to.
    Postponed,
    /// The kernel to take them; a report will say so.
    Blocked,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

// All that an idle connection costs the shell.
const _: () = assert!(size_of::<Slot>() <= 12);

/// All connections of one core.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// What lies between socket and state machine, by slot, as far as there ever was a connection that is not plain.
    transports: Vec<Option<Box<Transport>>>,
}

impl Connections {
    /// Whether a connection's client has not been let in yet.
    pub(crate) fn is_greeting(&mut self, id: ConnectionId) -> bool {
        self.get_mut(id).is_some_and(|connection| connection.stage == Stage::Greeting)
    }

    /// The name that the next connection will have.
    pub(crate) fn next_id(&mut self) -> ConnectionId {
        let slot = match self.free.last() {
            Some(&slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len())
                    .unwrap_or_else(|_| unreachable!("descriptors are 31-bit numbers"));
                self.slots.push(Slot { generation: 0, connection: None });
                self.free.push(slot);
                slot
            }
        };
        ConnectionId { slot, generation: self.slots[slot as usize].generation }
    }

    /// Puts a connection where [`Connections::next_id`] said.
    pub(crate) fn insert(&mut self, socket: OwnedFd, transport: Option<Box<Transport>>) {
        let ConnectionId { slot, .. } = self.next_id();
        self.free.pop();
        if transport.is_some() {
            let slots = self.transports.len().max(slot as usize + 1);
            self.transports.resize_with(slots, || None);
            self.transports[slot as usize] = transport;
        }
        self.slots[slot as usize].connection = Some(Connection {
            socket,
            stage: Stage::Greeting,
            receiving: Receiving::Watched,
            sending: Sending::Prompt,
            hung_up: false,
        });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The connection of this name, if it still is.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)?
            .connection
            .as_mut()
    }

    /// Whether something lies between a connection's socket and the state machine.
    pub(crate) fn has_transport(&self, id: ConnectionId) -> bool {
        self.transports.get(id.slot as usize).is_some_and(Option::is_some)
    }

    /// What lies between the socket and the state machine, of a connection that still is and is not plain.
    pub(crate) fn transport_mut(&mut self, id: ConnectionId) -> Option<(&mut Connection, &mut Transport)> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let transport = self.transports.get_mut(id.slot as usize)?.as_deref_mut()?;
        Some((slot.connection.as_mut()?, transport))
    }

    /// Nothing lies between socket and state machine any more.
    pub(crate) fn drop_transport(&mut self, id: ConnectionId) {
        if self.get_mut(id).is_some() {
            self.transports[id.slot as usize] = None;
        }
    }

    /// Removes a connection, and leaves its slot to another one, under a new generation. A slot that has no
    /// generation left is not used again.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<(OwnedFd, Option<Box<Transport>>)> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let connection = slot.connection.take()?;
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id.slot);
        }
        Some((connection.socket, self.transports.get_mut(id.slot as usize).and_then(Option::take)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    /// The next connection in a slot has another name, and nothing finds it under the old one.
    #[test]
    fn slots_are_reused_under_new_names() {
        let mut connections = Connections::default();
        let first = connections.next_id();
        connections.insert(descriptor(), None);
        let other = connections.next_id();
        connections.insert(descriptor(), None);
        assert_ne!(first.slot, other.slot);
        assert!(connections.remove(first).is_some());
        assert!(connections.remove(first).is_none());
        let second = connections.next_id();
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
        connections.insert(descriptor(), None);
        assert!(connections.get_mut(first).is_none() && connections.remove(first).is_none());
        assert!(connections.get_mut(second).is_some());
        assert_eq!(connections.len(), 2);
    }

    /// A slot whose generations are used up is left empty: its next connection would have an old name.
    #[test]
    fn worn_out_slot_stays_empty() {
        let mut connections = Connections::default();
        connections.next_id();
        connections.slots[0].generation = u32::MAX;
        let last = connections.next_id();
        connections.insert(descriptor(), None);
        assert!(connections.remove(last).is_some());
        assert_eq!(connections.next_id().slot, 1);
    }
}

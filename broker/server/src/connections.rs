//! The connections of one core, by slot. Plain data: what may happen to a connection is decided by the
//! driver, what is said on it by the core's state machine.
//!
//! Hot path.

use std::rc::Rc;

use broker_core::identity::ConnectionId;

use crate::runtime::Descriptor;
use crate::watch::WatchKey;

/// What the shell keeps of a connection. Lives on the core that serves it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) descriptor: Rc<Descriptor>,
    pub(crate) watch: WatchKey,
    pub(crate) stage: Stage,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
}

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Bytes go both ways.
    Open,
    /// What is unsent still leaves; what comes is discarded.
    Flushing,
    /// All is sent and the sending side shut down; what comes is discarded.
    Lingering,
    /// Gone, as far as the state machine is concerned; the slot waits for the watch to end.
    Closed,
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
    /// The kernel to take them; a task waits for that.
    Blocked,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

// With the descriptor, its watch and the task that waits on it: what an idle connection costs the shell.
const _: () = assert!(size_of::<Slot>() <= 24);

/// All connections of one core.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Connections {
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
    pub(crate) fn insert(&mut self, descriptor: Rc<Descriptor>, watch: WatchKey) {
        let ConnectionId { slot, .. } = self.next_id();
        self.free.pop();
        self.slots[slot as usize].connection = Some(Connection {
            descriptor,
            watch,
            stage: Stage::Open,
            receiving: Receiving::Watched,
            sending: Sending::Prompt,
        });
    }

    /// How many slots are in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The connection of this name, unless it is closed.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.connection.as_mut().filter(|connection| connection.stage != Stage::Closed)
    }

    /// The connection in this slot, unless it is closed.
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<(ConnectionId, &mut Connection)> {
        let Slot { generation, connection } = self.slots.get_mut(slot as usize)?;
        let connection = connection.as_mut().filter(|connection| connection.stage != Stage::Closed)?;
        Some((ConnectionId { slot, generation: *generation }, connection))
    }

    /// Frees the slot of a closed connection for another one, under a new generation. A slot that has no
    /// generation left is not used again.
    pub(crate) fn free(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let connection = slot.connection.take();
        assert!(connection.is_some_and(|connection| connection.stage == Stage::Closed));
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(index);
        }
    }
}

//! Names for places and things in the cluster, each its own type so that none is taken for another.

use std::fmt;

/// A node: 64 random bits made once per data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A core of one node: 0 to cores − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl CoreId {
    /// As an index into per-core tables.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Any place in the cluster that can receive a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Which node.
    pub node: NodeId,
    /// Which of its cores.
    pub core: CoreId,
}

/// A client's connection on one core. The shell chooses the slot (dense, reused) and raises the generation
/// with each use, so that an answer for the former user of a slot is told from one for the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Index into the core's connection table.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// One life of a session: unique among all sessions that ever were, so that a route or a message meant for
/// a former session of the same client reaches nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

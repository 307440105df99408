//! What is stored: the state machines under the ranges of this node.
//!
//! Each is commands in, effects out. A command is proposed with its wall time, written to the log of the
//! range and applied once it is committed, on every replica with the same result; effects are for the
//! leader's host alone. What a command needs is in its bytes: no clock, no setting, no chance.

pub mod archived;
pub mod inbox;
pub mod retain;

mod seen;

use range::{Apply, Command, LogIndex, RangeId};

use crate::time::Wall;

/// A message that the log holds: the entry it came with and its place there. Packed, because every queued
/// message has one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// `index (48) | ordinal (16)`, in halves, so that it needs no alignment of its own.
    place: [u32; 2],
    /// Which range's log: a range that was split or merged knows others by a number of its own; 0 is itself.
    origin: u16,
}

impl MessageId {
    /// The message that came with the command at `ordinal` of the entry at `index` (below 2^48).
    #[must_use]
    pub fn new(origin: u16, index: u64, ordinal: u16) -> MessageId {
        assert!(index < 1 << 48, "a log has fewer entries in a thousand years");
        let place = index << 16 | u64::from(ordinal);
        MessageId { place: [(place >> 32) as u32, place as u32], origin }
    }

    /// Index of the entry in its range's log.
    #[must_use]
    pub fn index(self) -> u64 {
        u64::from(self.place[0]) << 16 | u64::from(self.place[1] >> 16)
    }

    /// Which command of the entry.
    #[must_use]
    pub fn ordinal(self) -> u16 {
        self.place[1] as u16
    }

    /// Which range's log, by the number this range has for it.
    #[must_use]
    pub fn origin(self) -> u16 {
        self.origin
    }

    /// The message by the name that everybody knows it by, if this is what `range` calls it.
    pub(crate) fn global(self, range: RangeId) -> range::MessageId {
        assert_eq!(self.origin, 0, "ranges are neither split nor merged yet");
        range::MessageId { origin: range, index: LogIndex(self.index()), ordinal: u32::from(self.ordinal()) }
    }

    /// The message as the range itself calls it that took it.
    pub(crate) fn local(global: range::MessageId) -> MessageId {
        let ordinal = u16::try_from(global.ordinal).expect("fewer commands than an entry has bytes");
        MessageId::new(0, global.index.0, ordinal)
    }
}

impl std::fmt::Debug for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}@{}", self.index(), self.ordinal(), self.origin)
    }
}

/// Where a command stands in its range's log, and when it was proposed there.
#[derive(Clone, Copy)]
pub struct Committed<'a> {
    /// Index of its entry.
    pub index: u64,
    /// Its place in the entry.
    pub ordinal: u16,
    /// The proposer's wall time, which never goes back within a range.
    pub at: Wall,
    /// While the log is replayed over a checkpoint: whether the checkpoint's state of a key contains the entry
    /// already. Such a key is neither read nor changed.
    pub contained: Option<Contained<'a>>,
}

/// Tells of a key whether its state contains the entry at hand.
pub type Contained<'a> = &'a dyn Fn(&[u8]) -> bool;

impl<'a> Committed<'a> {
    /// What a replica says of a command that it applies; `contained` is only asked during a replay.
    fn new(apply: &Apply<'_>, command: &Command<'_>, contained: Contained<'a>) -> Committed<'a> {
        Committed {
            index: apply.index.0,
            ordinal: MessageId::local(command.id).ordinal(),
            at: Wall(apply.wall.0),
            contained: apply.is_replay().then_some(contained),
        }
    }

    /// The message that came with the command.
    #[must_use]
    pub fn message(&self) -> MessageId {
        MessageId::new(0, self.index, self.ordinal)
    }
}

//! Mailbox: one bounded direction between two cores of a node, and the flag that says whether the
//! receiving core sleeps.
//!
//! The ring is `rtrb`'s; what is ours is the wake protocol of [`WakeFlag`]. This crate never blocks,
//! writes no file descriptor, reads no clock and spawns nothing: the shell sleeps on its ring and
//! writes the peer's eventfd when [`Sender::must_wake`] says so. Called by the shell of each core, once
//! per turn and peer.
//!
//! Hot path.

mod wake_flag;

use std::sync::Arc;

pub use wake_flag::WakeFlag;

/// Makes one direction between two cores: a ring of `capacity` items, and the flag of the core that
/// receives. Every sender to that core is made with the same flag.
///
/// The ring's memory, `capacity` × `size_of::<T>()`, is allocated here and nowhere else.
///
/// # Panics
///
/// When `capacity` is zero: such a mailbox can deliver nothing.
pub fn channel<T: Send>(capacity: usize, wake: Arc<WakeFlag>) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox holds at least one item");
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    (Sender { producer, wake }, Receiver { consumer })
}

/// The mailbox took nothing because all its slots are in use; the item is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// The sending end. Lives on the core that sends; a view of that core.
#[derive(Debug)]
pub struct Sender<T> {
    producer: rtrb::Producer<T>,
    /// The receiving core's flag, shared by all senders to it.
    wake: Arc<WakeFlag>,
}

impl<T: Send> Sender<T> {
    /// Puts one item behind those already pushed, or gives it back when the ring is full.
    ///
    /// The receiver sees the item at its next poll; a sleeping one only after the caller has asked
    /// [`Sender::must_wake`] and obeyed.
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        self.producer.push(item).map_err(|rtrb::PushError::Full(item)| Full(item))
    }

    /// How many items can be pushed at least before the ring is full: the receiver may free more
    /// meanwhile, and nobody else takes them.
    pub fn free(&self) -> usize {
        self.producer.slots()
    }

    /// How many items the ring holds at most.
    pub fn capacity(&self) -> usize {
        self.producer.buffer().capacity()
    }

    /// To be asked once after a turn's pushes: true when the peer is parked and the caller must write
    /// the peer's eventfd. Of all senders to that peer exactly one is told so for each time it parks.
    #[must_use = "a parked peer sleeps on until its eventfd is written"]
    pub fn must_wake(&self) -> bool {
        self.wake.take_parked()
    }

    /// Whether the receiver was dropped: nothing pushed from now on is ever seen.
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }
}

/// The receiving end. Lives on the core that receives; a view of that core.
#[derive(Debug)]
pub struct Receiver<T> {
    consumer: rtrb::Consumer<T>,
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest item, if there is one.
    pub fn pop(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }

    /// Whether nothing waits. Looks at what the sender has published by now, not at an earlier view of
    /// it, so it serves as the poll between [`WakeFlag::park`] and sleep.
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// How many items wait at least: the sender may add more meanwhile, and nobody else takes them.
    pub fn len(&self) -> usize {
        self.consumer.slots()
    }

    /// How many items the ring holds at most.
    pub fn capacity(&self) -> usize {
        self.consumer.buffer().capacity()
    }

    /// Whether the sender was dropped: what still waits can be popped, and nothing will follow.
    pub fn is_abandoned(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

// Loom's atomics work inside a model only; `wake_flag/model.rs` is what runs there.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn mailbox(capacity: usize) -> (Sender<u32>, Receiver<u32>) {
        channel(capacity, Arc::new(WakeFlag::new()))
    }

    /// Goal: full is a value and takes nothing. Method: fill a ring, overfill it, make room, go on.
    #[test]
    fn full_gives_the_item_back() {
        let (mut sender, mut receiver) = mailbox(2);
        assert_eq!((sender.capacity(), receiver.capacity()), (2, 2));
        assert_eq!(sender.push(1), Ok(()));
        assert_eq!(sender.push(2), Ok(()));
        assert_eq!(sender.push(3), Err(Full(3)));
        assert_eq!((sender.free(), receiver.len()), (0, 2));
        assert_eq!(receiver.pop(), Some(1));
        assert_eq!((sender.free(), receiver.len()), (1, 1));
        assert_eq!(sender.push(3), Ok(()));
        assert_eq!((receiver.pop(), receiver.pop(), receiver.pop()), (Some(2), Some(3), None));
        assert!(receiver.is_empty());
    }

    /// Goal: one wake per park, whichever sender asks. Method: two senders to one core, through each state
    /// of the flag.
    #[test]
    fn one_sender_wakes_a_parked_core() {
        let wake = Arc::new(WakeFlag::new());
        let (mut a, mut from_a) = channel(1, wake.clone());
        let (mut b, from_b) = channel(1, wake.clone());
        a.push('a').unwrap();
        assert!(!a.must_wake(), "an awake core polls by itself");

        wake.park();
        assert!(!from_a.is_empty() && from_b.is_empty(), "the poll after park sees what was pushed before");
        b.push('b').unwrap();
        assert!(b.must_wake());
        assert!(!a.must_wake() && !b.must_wake(), "the wake is on its way");

        wake.unpark();
        assert_eq!(from_a.pop(), Some('a'));
        wake.park();
        wake.unpark();
        assert!(!a.must_wake(), "a core that woke by itself needs no wake");
    }

    /// Goal: either end tells when the other is gone, and nothing pushed before is lost. Method: drop one.
    #[test]
    fn a_dropped_end_is_seen() {
        let (mut sender, mut receiver) = mailbox(4);
        sender.push(7).unwrap();
        assert!(!receiver.is_abandoned());
        drop(sender);
        assert!(receiver.is_abandoned());
        assert_eq!((receiver.pop(), receiver.pop()), (Some(7), None));

        let (sender, receiver) = mailbox(4);
        assert!(!sender.is_abandoned());
        drop(receiver);
        assert!(sender.is_abandoned());
    }

    /// Goal: items still in a ring are dropped with it. Method: count owners of an item that nobody pops.
    #[test]
    fn unpopped_items_are_dropped() {
        let item = Arc::new(());
        let (mut sender, receiver) = channel(4, Arc::new(WakeFlag::new()));
        sender.push(item.clone()).unwrap();
        drop((sender, receiver));
        assert_eq!(Arc::strong_count(&item), 1);
    }
}

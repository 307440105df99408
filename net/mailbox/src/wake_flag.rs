//! Whether a core sleeps: the flag that spares its peers an eventfd write while it does not.
//!
//! It knows neither queues nor file descriptors; it orders "my items are published" against "I am about
//! to sleep", so that of a push and a park that race at least one sees the other. Called by the shell:
//! [`WakeFlag::park`] and [`WakeFlag::unpark`] by the core that owns the flag, [`WakeFlag::take_parked`]
//! by every core that sends to it.
//!
//! ```text
//! sender                              owner
//! 1 push the turn's items             1 parked = true
//! 2 fence(SeqCst)                     2 fence(SeqCst)
//! 3 parked? take it, write eventfd    3 poll every receiver: empty? sleep on the eventfd
//! ```
//!
//! This is Dekker's pattern: both sides write, fence, then read what the other wrote. The two fences
//! stand in one total order, so either the sender's step 3 sees the owner's step 1, or the owner's step 3
//! sees the sender's step 1. Release and acquire alone do not give that, on x86 neither: the store of
//! step 1 may wait in the store buffer while step 3 reads. `model.rs` checks it over every interleaving,
//! and checks that it fails without the fences.
//!
//! Hot path.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_utils::CachePadded;

/// One per core, shared by all senders to it: parked or not. Belongs to the core that receives; its
/// cache line is written twice per sleep and otherwise only read.
#[derive(Debug)]
pub struct WakeFlag {
    /// True from the owner's announcement until a sender has taken it or the owner is awake again.
    parked: CachePadded<AtomicBool>,
}

impl WakeFlag {
    /// The flag of a core that is awake.
    pub fn new() -> Self {
        Self { parked: CachePadded::new(AtomicBool::new(false)) }
    }

    /// The owner announces that it is about to sleep. It must poll all its receivers once more after
    /// this, and sleep only when all are empty.
    pub fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake again, for whatever reason. It polls its receivers before it parks anew.
    pub fn unpark(&self) {
        // A swap, so that all writes of "not parked" are read-modify-writes in one order. A store would
        // do by the language's rules, but loom leaves a store and a concurrent swap unordered and
        // would report a wake lost that cannot be; once per sleep the difference costs nothing.
        self.parked.swap(false, Ordering::Relaxed);
    }

    /// Asked by a sender after it has pushed: true exactly when the owner is parked and nobody has woken
    /// it since it parked. The caller that is told so must write the owner's eventfd.
    ///
    /// An owner that woke by itself meanwhile finds its eventfd readable once for nothing.
    #[must_use = "a parked owner sleeps on until its eventfd is written"]
    pub fn take_parked(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load spares an awake owner's cache line the exclusive access of the exchange.
        self.parked.load(Ordering::Relaxed)
            && self.parked.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Default for WakeFlag {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, loom))]
mod model;

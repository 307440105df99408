//! Whole brokers in one thread: the production cores, simulated clients, virtual time, everything from a
//! seed, and checkers that hold what the clients saw against the promises of the design.

pub mod checkers;
pub mod history;
pub mod ledger;
pub mod random;
pub mod topics;

//! Whole brokers in one thread: the production cores, simulated clients, virtual time, everything from a
//! seed, and checkers that hold what the clients saw against the promises of the design.
//!
//! Read on in `simulation.rs` for a run, in `node/mod.rs` for how cores are hosted, in `client/mod.rs` for
//! what clients do, in `node/disks.rs` and `node/restart.rs` for nodes that end and start again, in `changes.rs` for paces and changes of settings, and in `checkers/mod.rs` for what is held against them.
//!
//! Invariant: nothing here reads a clock, starts a thread or draws from anything but the seed.

pub mod changes;
pub mod checkers;
pub mod client;
pub mod history;
pub mod ledger;
pub mod node;
pub mod random;
pub mod scenario;
pub mod simulation;
pub mod topics;
pub mod trace;
pub mod world;

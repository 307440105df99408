//! One core of the broker as a state machine.
//!
//! A [`Core`] takes inputs and the time, changes its state and says what is to be done; it never reads a
//! clock, opens a socket or file, starts a thread or waits. Its host is the shell (`broker/server`) in
//! production and `broker/simulator` in tests: the same code runs in both, and the same seed with the same
//! inputs gives the same outputs, byte for byte.
//!
//! Read on in [`input`] for the border to the host, then in `core/mod.rs` for the turn.

pub mod access;
pub mod bans;
pub mod config;
pub mod counters;
pub mod identity;
pub mod input;
pub mod limit;
pub mod network;
pub mod notice;
pub mod peer;
pub mod ranges;
pub mod sight;
pub mod storage;
pub mod time;
pub mod trie;
pub mod unreleased;
pub mod wheel;

mod changes;
mod connection;
mod core;
mod delivery;
mod dist;
mod expiring;
mod message;
mod payload;
mod placement;
mod quota;
mod random;
mod sessions;
mod tenant;

pub use crate::core::{Core, Usage};

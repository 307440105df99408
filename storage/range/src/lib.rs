//! A replica of a range: one Raft group's member, its state machine, and their place in the write-ahead log.
//!
//! A [`Replica`] is a state machine without I/O, like the [`wal::Log`] it writes to: [`Replica::propose`]
//! collects commands, [`Replica::turn`] makes them one Raft entry and one record of the log, hears how far
//! the log is durable, applies what is committed, and says in [`Outputs`] what is to be sent and written
//! aside. It reads no clock and draws no random number; time and seed are arguments. What blocks is in
//! [`files`] and [`directory`], for start-up and for a thread off the cores.
//!
//! Read on in [`machine`] for what a service implements, in [`replica`] for the life of a command, in
//! [`recovery`] for a start, in [`format`](mod@format) and [`checkpoint`] for what is on disk and between
//! nodes, in [`catalog`] for who owns which keys.

pub mod catalog;
pub mod checkpoint;
pub mod directory;
pub mod files;
pub mod format;
pub mod identity;
pub mod machine;
pub mod recovery;
pub mod replica;

mod batch;
mod entries;
mod raft_log;

pub use identity::{LogIndex, MessageId, ReplicaId, Term, Ticket, Wall};
pub use machine::{Apply, Command, Effects, StateMachine};
pub use recovery::{OpenError, Recovered, ReplicaRecords};
pub use replica::{Config, Decision, Outputs, Priority, Refused, Replica, Request, ToReplica};
pub use wal::RangeId;

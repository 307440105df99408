//! The write-ahead log of one core.
//!
//! A [`Log`] is a state machine without I/O: [`Log::append`] copies a record into memory the log owns and
//! names its LSN, [`Log::flush`] turns everything appended since the last time into one commit for the host
//! to write, [`Log::on_flushed`] hears how that went and answers how far the log is durable. The host is the
//! core's ring in production and a simulated disk in tests. What blocks (creating, listing, mapping files) is
//! in [`files`], for a thread off the cores. Recovery is a pure function over the bytes of the segments.
//!
//! Read on in [`format`](mod@format) for what is on disk, in [`log`] for the life of a record, in [`recovery`] for what
//! a crash leaves behind.

pub mod config;
pub mod files;
pub mod format;
pub mod identity;
pub mod inspect;
pub mod log;
pub mod mapping;
pub mod recovery;
pub mod request;
#[cfg(feature = "simulated-disk")]
pub mod simulated_disk;
pub mod snapshot;

mod image;

pub use config::Config;
pub use identity::{
    ClusterId, CommitNumber, LogId, LogIdentity, Lsn, Mono, NodeId, Position, RangeId, SegmentId,
};
pub use log::Log;
pub use log::append::{AppendError, Appended, Class, NewRecord};
pub use log::at_hand::Window;
pub use log::read::{Read, ReadError, SealedRecord, Slice};
pub use log::tally::Tally;
pub use mapping::SegmentBytes;
pub use recovery::{Recovery, RecoveryError, RecoveryOptions, SegmentInput, recover};
pub use request::{Commit, Completion, FlushError, Pages, Request, SegmentError, Write};

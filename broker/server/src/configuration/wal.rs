//! `[wal]`: what bounds the logs of a data directory, and how they are written.

use std::fmt;
use std::str::FromStr;

use broker_core::config::{Field, Key, Kind, Value};
use broker_core::keys;
use broker_core::storage::LogConfig;

use super::sections::Unfit;

/// `[wal]`. What is a size in bytes here is of each log; a node has one for each core that it was first
/// started with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wal {
    /// How commits are written.
    pub(crate) append: Append,
    /// Of a segment file.
    pub(crate) segment_bytes: u32,
    /// Spare segments that only what gives space back may use up.
    pub(crate) segments_reserved: u32,
    /// Spare segments for everybody.
    pub(crate) segments_ahead: u32,
    /// Appended and not durable.
    pub(crate) unflushed_bytes_max: u64,
    /// From here on a commit does not wait for company.
    pub(crate) commit_bytes_full: u64,
    /// The longest wait for company.
    pub(crate) linger_us_max: u32,
    /// Reclaiming works until so much of the sealed segments lives.
    pub(crate) live_percent_target: u32,
    /// Growth of the log after which a checkpoint is written.
    pub(crate) checkpoint_log_bytes: u64,
    /// What is left free on the file system.
    pub(crate) space_free_bytes: u64,
    /// Whether a start goes on without ranges that are damaged.
    pub(crate) quarantine: bool,
}

impl Wal {
    pub(crate) const KEYS: &'static [Key<Wal>] = keys!(Wal {
        append,
        segment_bytes in 65_536..=1_073_741_824,
        segments_reserved in 4..=1024,
        segments_ahead in 1..=1024,
        unflushed_bytes_max in 65_536..=17_179_869_184,
        commit_bytes_full in 4096..=1_073_741_824,
        linger_us_max in 0..=1_000_000,
        live_percent_target in 1..=75,
        checkpoint_log_bytes in 65_536..=1_099_511_627_776,
        space_free_bytes,
        quarantine,
    } beside {});

    /// Sets what is configured in the limits of a log.
    pub(crate) fn limit(&self, config: &mut LogConfig) {
        let wal = &mut config.wal;
        wal.segment_bytes = self.segment_bytes.next_multiple_of(BLOCK_BYTES);
        wal.segments_reserved = self.segments_reserved;
        wal.segments_ahead = self.segments_ahead;
        wal.unflushed_bytes_max = self.unflushed_bytes_max;
        wal.commit_bytes_full = self.commit_bytes_full;
        wal.linger_ns_max = u64::from(self.linger_us_max) * 1000;
        wal.live_percent_target = self.live_percent_target;
        config.range.checkpoint_log_bytes = self.checkpoint_log_bytes;
    }
}

/// Segments are so many bytes, or some times that.
const BLOCK_BYTES: u32 = 4096;

impl Default for Wal {
    fn default() -> Wal {
        Wal {
            append: Append::Ring,
            segment_bytes: 64 << 20,
            segments_reserved: 4,
            segments_ahead: 2,
            unflushed_bytes_max: 64 << 20,
            commit_bytes_full: 256 << 10,
            linger_us_max: 500,
            live_percent_target: 50,
            checkpoint_log_bytes: 64 << 20,
            space_free_bytes: 1 << 30,
            quarantine: false,
        }
    }
}

/// How commits are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Append {
    /// By the core's ring, or by a thread where there is none.
    Ring,
    /// By stores into the mapped segment, on a thread.
    Mapped,
}

impl FromStr for Append {
    type Err = Unfit;

    fn from_str(text: &str) -> Result<Append, Unfit> {
        match text {
            "ring" => Ok(Append::Ring),
            "mapped" => Ok(Append::Mapped),
            _ => Err(Unfit),
        }
    }
}

impl fmt::Display for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Append::Ring => "ring",
            Append::Mapped => "mapped",
        })
    }
}

super::sections::text_field!(Append: Kind::Word(&["ring", "mapped"]));

#[cfg(test)]
mod tests {
    use wal::{ClusterId, NodeId};

    use super::*;

    /// What is shipped here is what the logs ship, and a size that is no whole number of blocks becomes one.
    #[test]
    fn defaults_are_the_logs_own() {
        let shipped = LogConfig::new(ClusterId(1), NodeId(2), 3);
        let mut config = shipped;
        Wal::default().limit(&mut config);
        assert_eq!(format!("{config:?}"), format!("{shipped:?}"));
        Wal { segment_bytes: 70_000, ..Wal::default() }.limit(&mut config);
        assert_eq!(config.wal.segment_bytes, 73_728);
    }
}

//! What is told of logs and of the replicas in them.

/// One log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Which of the node's.
    pub log: u16,
    /// The first 16 bits of keys of its ranges: from this one on.
    pub key_from: u32,
    /// And up to, but without, this one.
    pub key_until: u32,
    /// All records up to here are on the disk.
    pub durable_lsn: u64,
    /// The next record's number.
    pub next_lsn: u64,
    /// It cannot be written any more.
    pub poisoned: bool,
    /// It takes only what frees space.
    pub disk_full: bool,
    /// Full segments with something live.
    pub sealed_segments: u64,
    /// Their bytes.
    pub sealed_bytes: u64,
    /// Bytes of what is live in them.
    pub live_bytes: u64,
    /// Bytes of the segment that is being written, of spare ones, and of those that are about to be.
    pub other_bytes: u64,
    /// Appended, and not on the disk yet.
    pub unflushed_bytes: u64,
    /// The replicas.
    pub replicas: Vec<ReplicaState>,
}

/// One replica of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// `inbox` or `retain`.
    pub service: &'static str,
    /// The range.
    pub range: u128,
    /// Which member of its group.
    pub replica: u64,
    /// Whether it takes proposals.
    pub leader: bool,
    /// The present term.
    pub term: u64,
    /// The last entry of its Raft log.
    pub last_index: u64,
    /// The last entry that its state contains.
    pub applied_index: u64,
    /// Entries that a start would replay at most.
    pub log_entries: u64,
    /// The checkpoint that a start would begin with; 0: none.
    pub checkpoint: u64,
    /// Checkpoints that could not be written.
    pub checkpoint_failures: u64,
    /// Records that only their payloads keep.
    pub payloads_kept: u64,
    /// Sessions, or retained messages.
    pub items: u64,
}

//! Messages between cores.

/// One message to another core.
#[derive(Debug)]
pub struct PeerMessage {}

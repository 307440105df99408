//! From packets to bytes, appended to a send queue: all 15 types, in both directions.
//!
//! Nothing is allocated but what the queue itself needs: every packet's length is known before its
//! first byte is written.
//!
//! # Panics
//! Every function here panics on what only a caller's bug can ask for: a string above 65 535 bytes, a
//! packet above the protocol's 256 MiB, AUTH in 3.x.

mod answer;
mod connect;
mod publish;
mod request;
mod writer;

pub use answer::{SubAckOut, ack, auth, disconnect, pingresp, suback, unsuback};
pub use connect::{connack, connect};
pub use publish::{Encoded, PublishOut, patch_packet_id, publish, publish_header, publish_size};
pub use request::{SubscribeOut, UnsubscribeOut, pingreq, subscribe, unsubscribe};
pub use writer::PropertyWriter;

//! MQTT 3.1, 3.1.1 and 5.0 packets: borrowed packets in, bytes out.
//!
//! Pure: no socket, clock, thread or state between packets. The caller owns the receive buffer and
//! the send queue; [`decode()`] answers with a view of the one, [`encode`] appends to the other.
//!
//! Every normative rule that one packet alone can break is judged here, each with its statement id
//! of the OASIS specifications ([`DecodeError::statement`]). What needs a second packet, a session
//! or a setting is the caller's: which packet types a peer may send and when, whether a packet
//! identifier is known, whether a topic filter is granted.
//!
//! Tolerances, all of them for 3.x: a remaining length need not be in its shortest form; in 3.1 the
//! flags that CONNECT and the fixed header do not use may be set, user name and password may be
//! missing though flagged, and client identifiers are not held to 23 bytes.
//!
//! Invariant: a decoded packet borrows from the buffer it was decoded from and copies nothing.
//! Invariant: no function here panics on bytes of a peer.

mod ack;
mod auth;
mod connack;
mod connect;
mod decode;
mod disconnect;
pub mod encode;
mod error;
mod filter;
mod limits;
mod packet;
mod property;
mod publish;
mod publish_properties;
mod reader;
mod reason;
mod suback;
mod subscribe;
mod unsubscribe;
mod user_properties;
mod version;

pub use ack::Ack;
pub use auth::Auth;
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will};
pub use decode::{connect_version, decode, decode_connect, packet_length};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use filter::{Filter, FilterError, Share, TopicError, filter_matches, validate_filter, validate_topic};
pub use limits::{Limits, REMAINING_LENGTH_MAX};
pub use packet::{Packet, PacketId, PacketKind, QoS};
pub use publish::Publish;
pub use publish_properties::{PublishProperties, SubscriptionIds};
pub use reason::{ReasonCode, connect_return_code};
pub use suback::{ReasonCodes, SubAck, UnsubAck};
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilter, SubscribeFilters, SubscriptionOptions};
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters};
pub use user_properties::UserProperties;
pub use version::Version;

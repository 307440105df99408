//! What a peer's bytes can be refused for: one table of reason code and statement.

use crate::ReasonCode;

/// Why a packet was refused. After any of them the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first packet is not a CONNECT.
    ConnectExpected,
}

impl DecodeError {
    /// The reason code to answer with, in a CONNACK or DISCONNECT of 5.0, or by way of
    /// [`connect_return_code`](crate::connect_return_code) in a CONNACK of 3.x.
    pub const fn reason(&self) -> ReasonCode {
        unimplemented!()
    }

    /// The statement that was broken: an id of 5.0 where it has one, else an id of 3.1.1 marked as
    /// such, else a section of 5.0.
    pub const fn statement(&self) -> &'static str {
        unimplemented!()
    }
}

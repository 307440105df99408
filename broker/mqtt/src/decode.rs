//! Hot path. From bytes to one packet: the fixed header, then the packet's own decoder.

use crate::{Connect, DecodeError, Limits, Packet, Version};

/// Decodes the packet at the start of `bytes`, and says how many bytes it took.
///
/// `Ok(None)`: the packet is not complete yet. All 15 types decode in both directions; which of
/// them a peer may send is for the caller to judge by [`Packet::kind`]. Type, flags, remaining
/// length and packet size are judged before the body has arrived.
pub fn decode<'a>(
    version: Version,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
    let _ = (version, bytes, limits);
    unimplemented!("decode")
}

/// Decodes the first packet of a connection, which must be a CONNECT; it brings the version.
///
/// `Ok(None)`: the packet is not complete yet.
pub fn decode_connect<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Connect<'a>, usize)>, DecodeError> {
    let _ = (bytes, limits);
    unimplemented!("decode_connect")
}

/// Whole length in bytes of the packet that begins here, once its fixed header is complete, so
/// that a caller can reserve room. Fails as [`decode`] would.
pub fn packet_length(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, DecodeError> {
    let _ = (bytes, limits);
    unimplemented!("packet_length")
}

/// The version a CONNECT names, read without judging the rest of it: the form in which a refusal
/// has to be written when [`decode_connect`] failed. `None`: not a CONNECT, cut short, or of a
/// version that is not known here.
pub fn connect_version(bytes: &[u8]) -> Option<Version> {
    let _ = bytes;
    unimplemented!("connect_version")
}

//! Hot path. A cursor over the body of one packet: every read is checked against its end.

use crate::{DecodeError, PacketId};

/// What is left of a packet's body, or of one block within it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes left.
    pub(crate) fn len(self) -> usize {
        self.bytes.len()
    }

    /// Everything left, without taking it.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take_array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take_array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take_array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// A variable byte integer in the fewest bytes. [MQTT-1.5.5-1]
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        match Varint::decode(self.bytes)? {
            None => Err(DecodeError::Truncated),
            Some(Varint { minimal: false, .. }) => Err(DecodeError::VarintNotMinimal),
            Some(Varint { value, bytes, .. }) => {
                self.bytes = &self.bytes[bytes..];
                Ok(value)
            }
        }
    }

    /// Binary data: two bytes of length, then that many bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 string. U+FEFF and the other characters a sender should avoid pass as they are.
    /// [MQTT-1.5.4-1, -2, -3]
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, DecodeError> {
        check_string(self.binary()?)
    }

    /// A topic name: a string without wildcards, which may be empty. [MQTT-4.7.0-1]
    #[inline]
    pub(crate) fn topic(&mut self) -> Result<&'a str, DecodeError> {
        check_topic(self.binary()?)
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

fn check_string(bytes: &[u8]) -> Result<&str, DecodeError> {
    if contains(bytes, |byte| byte == 0) {
        return Err(DecodeError::Utf8Nul);
    }
    core::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)
}

fn check_topic(bytes: &[u8]) -> Result<&str, DecodeError> {
    if contains(bytes, |byte| byte == 0 || byte == b'+' || byte == b'#') {
        let nul = contains(bytes, |byte| byte == 0);
        return Err(if nul { DecodeError::Utf8Nul } else { DecodeError::TopicWildcard });
    }
    core::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)
}

/// Whether any byte is wanted. It looks at all of them, so that the compiler looks at 16 at a time.
#[inline]
fn contains(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, &byte| found | wanted(byte))
}

/// A variable byte integer: seven bits a byte, the lowest first, the top bit says that more follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Varint {
    pub(crate) value: u32,
    /// Bytes it took, 1 to 4.
    pub(crate) bytes: usize,
    /// Whether fewer bytes would not have done.
    pub(crate) minimal: bool,
}

impl Varint {
    /// The integer at the start of `bytes`; `None` when they end before it does.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Varint>, DecodeError> {
        let mut value = 0;
        for (index, &byte) in bytes.iter().take(4).enumerate() {
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                return Ok(Some(Varint { value, bytes: index + 1, minimal: byte != 0 || index == 0 }));
            }
        }
        if bytes.len() >= 4 { Err(DecodeError::VarintTooLong) } else { Ok(None) }
    }
}

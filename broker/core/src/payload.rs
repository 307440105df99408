//! Hot path. A kept message's payload: a small one stands in the message itself.
//!
//! A message that waits for its acknowledgement is written once, read once and freed, each time with nothing of it left
//! in the CPU's caches: each further piece of memory would be two more misses.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// Longest payload that needs no memory of its own: with it a [`Message`](crate::message::Message) and its counts fill
/// three cache lines, a size that the allocator has.
const SHORT_BYTES_MAX: usize = 78;

/// The application's bytes. Cheap to clone.
#[derive(Clone)]
pub struct Payload(Kept);

#[derive(Clone)]
enum Kept {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Bytes),
}

const _: () = assert!(size_of::<Payload>() == 80);

impl Payload {
    /// A copy of these bytes.
    #[must_use]
    pub fn copy_of(content: &[u8]) -> Payload {
        if content.len() > SHORT_BYTES_MAX {
            return Payload(Kept::Long(Bytes::copy_from_slice(content)));
        }
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes[..content.len()].copy_from_slice(content);
        Payload(Kept::Short { len: content.len() as u8, bytes })
    }

    /// The same bytes, counted; a short payload is copied.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Kept::Short { .. } => Bytes::copy_from_slice(self),
            Kept::Long(bytes) => bytes.clone(),
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Short { len, bytes } => &bytes[..usize::from(*len)],
            Kept::Long(bytes) => bytes,
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Payload {
        if bytes.len() > SHORT_BYTES_MAX { Payload(Kept::Long(bytes)) } else { Payload::copy_of(&bytes) }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload::from(Bytes::from(bytes))
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Payload) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is put in comes out, wherever it is kept, and counts as the same however it came in.
    #[test]
    fn bytes_stay_the_same() {
        for len in [0, 1, SHORT_BYTES_MAX - 1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 5000] {
            let content: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let copy = Payload::copy_of(&content);
            let given = Payload::from(Bytes::from(content.clone()));
            assert_eq!((&*copy, &*copy.to_bytes(), &copy), (&*content, &*content, &given));
            assert_eq!(matches!(copy.0, Kept::Short { .. }), len <= SHORT_BYTES_MAX);
            assert_eq!(matches!(given.0, Kept::Short { .. }), len <= SHORT_BYTES_MAX);
        }
    }
}

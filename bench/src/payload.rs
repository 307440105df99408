//! Hot path. The stamp at the head of every payload: who sent it, as which of its messages, and when.
//!
//! ```text
//! 0          4          8                  16            payload length
//! | source   | sequence | sent, ns         | filler 'x' … |     little-endian
//!   ^ bits 0-19 publisher, bits 20-31 tag of the run
//! ```
//!
//! `sent` is the moment the message was due (open loop) or written (closed loop), on the harness's
//! own clock: both ends are in one process.

/// Bytes a stamp takes, and so the smallest payload.
pub(crate) const STAMP_BYTES: usize = 16;
/// Publishers a run can have: what 20 bits tell apart.
pub(crate) const PUBLISHERS_MAX: u32 = 1 << 20;

/// Identity and time of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Tells this run's messages from those an earlier one left in the broker; 12 bits.
    pub(crate) tag: u16,
    /// Publisher, counted over the whole run.
    pub(crate) publisher: u32,
    /// The publisher's messages, from 0.
    pub(crate) sequence: u32,
    /// Nanoseconds of [`clock::now`](crate::clock::now).
    pub(crate) sent: u64,
}

impl Stamp {
    /// Writes the stamp over the first 16 bytes of `payload`.
    pub(crate) fn write(self, payload: &mut [u8]) {
        let source = self.publisher | u32::from(self.tag) << 20;
        payload[0..4].copy_from_slice(&source.to_le_bytes());
        payload[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        payload[8..16].copy_from_slice(&self.sent.to_le_bytes());
    }

    /// Reads the stamp of `payload`; `None` when it is too short to carry one.
    pub(crate) fn read(payload: &[u8]) -> Option<Stamp> {
        let (source, rest) = payload.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<4>()?;
        let (sent, _) = rest.split_first_chunk::<8>()?;
        let source = u32::from_le_bytes(*source);
        Some(Stamp {
            tag: (source >> 20) as u16,
            publisher: source & (PUBLISHERS_MAX - 1),
            sequence: u32::from_le_bytes(*sequence),
            sent: u64::from_le_bytes(*sent),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stamp comes back from 16 bytes as it went in, at the edges of its fields.
    #[test]
    fn stamp_survives_sixteen_bytes() {
        for stamp in [
            Stamp { tag: 0, publisher: 0, sequence: 0, sent: 0 },
            Stamp { tag: 0xFFF, publisher: PUBLISHERS_MAX - 1, sequence: u32::MAX, sent: u64::MAX },
            Stamp { tag: 0x123, publisher: 70_000, sequence: 9, sent: 1 << 40 },
        ] {
            let mut payload = [b'x'; STAMP_BYTES];
            stamp.write(&mut payload);
            assert_eq!(Stamp::read(&payload), Some(stamp));
        }
        assert_eq!(Stamp::read(&[0; STAMP_BYTES - 1]), None);
    }
}

//! Hot path. Short texts inside nodes: a level, or the levels of a path that no other path shares.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::slots::Slots;

/// Longest text, in bytes, that a node holds itself: serial numbers, EUI-64, IMEI and MAC addresses, most names.
const INLINE_BYTES_MAX: usize = 19;

/// The length byte of a text that is elsewhere.
const LONG: u8 = u8::MAX;

/// Up to 19 bytes of text, or the number of a longer one in [`Texts`].
///
/// ```text
/// 0                    19    20
/// | text, zero padded  | len |
/// | slot u32 | 0 … 0   | 255 |
/// ```
///
/// Two short labels are equal if their 20 bytes are, which takes three comparisons and no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label([u8; INLINE_BYTES_MAX + 1]);

const _: () = assert!(size_of::<Label>() == 20);

impl Label {
    pub(super) const EMPTY: Self = Self([0; INLINE_BYTES_MAX + 1]);

    /// A label of a text to be compared with; a long one has no slot.
    pub(super) fn to_find(text: &[u8]) -> Self {
        let (low, middle, high) = match text.len() {
            0..8 => (pack(text), 0, 0),
            8..16 => (pack(&text[..8]), pack(&text[8..]), 0),
            16..=INLINE_BYTES_MAX => (pack(&text[..8]), pack(&text[8..16]), pack(&text[16..]) as u32),
            _ => (0, 0, 0),
        };
        let len = if text.len() > INLINE_BYTES_MAX { LONG } else { text.len() as u8 };
        let mut bytes = [0; INLINE_BYTES_MAX + 1];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..16].copy_from_slice(&middle.to_le_bytes());
        bytes[16..].copy_from_slice(&(high | u32::from(len) << 24).to_le_bytes());
        Self(bytes)
    }

    fn in_slot(slot: u32) -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX + 1];
        bytes[..4].copy_from_slice(&slot.to_le_bytes());
        bytes[INLINE_BYTES_MAX] = LONG;
        Self(bytes)
    }

    fn slot(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    pub(super) fn is_long(&self) -> bool {
        self.0[INLINE_BYTES_MAX] == LONG
    }

    /// Whether it is this one character.
    pub(super) fn is(&self, character: u8) -> bool {
        self.0[0] == character && self.0[INLINE_BYTES_MAX] == 1
    }

    fn words(&self) -> (u64, u64, u32) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t] = self.0;
        let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let middle = u64::from_le_bytes([i, j, k, l, m, n, o, p]);
        (low, middle, u32::from_le_bytes([q, r, s, t]))
    }
}

/// Up to eight bytes as a little-endian integer, without a loop: the two halves may overlap, and then agree.
fn pack(bytes: &[u8]) -> u64 {
    if let Some(&all) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(all);
    }
    if let (Some(&first), Some(&last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let shift = (bytes.len() - 4) * 8;
        return u64::from(u32::from_le_bytes(first)) | u64::from(u32::from_le_bytes(last)) << shift;
    }
    match *bytes {
        [] => 0,
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c, ..] => u64::from(u32::from_le_bytes([a, b, c, 0])),
    }
}

/// The texts of one trie that are too long for a label.
#[derive(Debug)]
pub(super) struct Texts {
    texts: Slots<Box<[u8]>>,
    text_bytes: usize,
}

impl Texts {
    pub(super) fn new() -> Self {
        Self { texts: Slots::new(), text_bytes: 0 }
    }

    pub(super) fn store(&mut self, text: &[u8]) -> Label {
        let label = Label::to_find(text);
        if !label.is_long() {
            return label;
        }
        self.text_bytes += text.len();
        Label::in_slot(self.texts.insert(text.into()))
    }

    pub(super) fn release(&mut self, label: Label) {
        if label.is_long() {
            let text = self.take(label);
            self.text_bytes -= text.len();
        }
    }

    fn take(&mut self, label: Label) -> Box<[u8]> {
        let text = std::mem::take(&mut self.texts[label.slot()]);
        self.texts.remove(label.slot());
        text
    }

    /// Whether far fewer are in use than there are slots.
    pub(super) fn is_sparse(&self) -> bool {
        self.texts.is_sparse()
    }

    /// Gives back some of what lies behind the last text.
    pub(super) fn shorten(&mut self) {
        self.texts.shorten();
    }

    /// Moves a label's text to a lower chunk, if it has one and one has room.
    pub(super) fn sink(&mut self, label: &mut Label) {
        if label.is_long() && self.texts.could_sink(label.slot()) {
            let text = self.take(*label);
            *label = Label::in_slot(self.texts.insert(text));
        }
    }

    pub(super) fn text<'a>(&'a self, label: &'a Label) -> &'a [u8] {
        if label.is_long() {
            &self.texts[label.slot()]
        } else {
            &label.0[..usize::from(label.0[INLINE_BYTES_MAX])]
        }
    }

    pub(super) fn hash(&self, hasher: &FixedState, label: &Label) -> u64 {
        hash_of(hasher, label, self.text(label))
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.texts.count()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.texts.allocated_bytes() + self.text_bytes
    }
}

/// Hash of a text and its label, the same whether it is stored or sought.
pub(super) fn hash_of(hasher: &FixedState, label: &Label, text: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    if label.is_long() {
        state.write(text);
    } else {
        let (low, middle, high) = label.words();
        state.write_u64(low);
        state.write_u64(middle);
        state.write_u32(high);
    }
    state.finish()
}

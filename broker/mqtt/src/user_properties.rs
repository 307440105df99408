//! User properties: pairs of strings that this crate checks and carries, but never interprets.

use crate::{DecodeError, Limits};

/// The user properties of a packet, in the order they came; a name may come twice.
///
/// A view of the packet's property block: iterating walks the block again, so that a packet whose
/// user properties nobody reads pays nothing for them.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    raw: &'a [u8],
    left: u16,
}

impl<'a> UserProperties<'a> {
    /// Reads user properties as [`PropertyWriter::user_property`](crate::encode::PropertyWriter::user_property)
    /// writes them, and refuses any other property among them.
    pub fn parse(raw: &'a [u8], limits: &Limits) -> Result<UserProperties<'a>, DecodeError> {
        let _ = (raw, limits);
        unimplemented!("parse")
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        usize::from(self.left)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let _ = self.raw;
        unimplemented!("next")
    }
}

impl core::fmt::Debug for UserProperties<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (*self).eq(*other)
    }
}

impl Eq for UserProperties<'_> {}

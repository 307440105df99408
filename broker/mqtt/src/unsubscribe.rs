//! UNSUBSCRIBE: topic filters to forget.

use crate::{PacketId, UserProperties};

/// An UNSUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The identifier the UNSUBACK answers with.
    pub packet_id: PacketId,
    /// 5.0 only.
    pub user_properties: UserProperties<'a>,
    /// At least one. [MQTT-3.10.3-2]
    pub filters: UnsubscribeFilters<'a>,
}

/// The topic filters of an UNSUBSCRIBE in their order, none of them empty: an iterator that can be
/// copied and run again.
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a> {
    raw: &'a [u8],
    left: u16,
}

impl UnsubscribeFilters<'_> {
    /// How many filters there are.
    pub fn len(&self) -> usize {
        usize::from(self.left)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let _ = self.raw;
        unimplemented!("next")
    }
}

impl core::fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        (*self).eq(*other)
    }
}

impl Eq for UnsubscribeFilters<'_> {}

//! UNSUBSCRIBE: topic filters to forget.

use core::fmt;

use crate::property::{Properties, Property};
use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketId, UserProperties, Version};

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
    body: Reader<'a>,
    left: u16,
}

impl<'a> Unsubscribe<'a> {
    /// The body of an UNSUBSCRIBE.
    pub(crate) fn decode(
        version: Version,
        mut body: Reader<'a>,
        limits: &Limits,
    ) -> Result<Unsubscribe<'a>, DecodeError> {
        let packet_id = body.packet_id()?;
        let mut user_properties = UserProperties::default();
        if version == Version::V5 {
            let mut properties = Properties::take(&mut body, limits)?;
            while let Some(property) = properties.next()? {
                let Property::User(..) = property else { return Err(DecodeError::PropertyNotAllowed) };
            }
            user_properties = properties.user_properties();
        }
        let filters = UnsubscribeFilters::decode(body, limits)?;
        Ok(Unsubscribe { packet_id, user_properties, filters })
    }
}

impl<'a> UnsubscribeFilters<'a> {
    /// Everything that is left of a body: at least one filter, none of them empty.
    fn decode(body: Reader<'a>, limits: &Limits) -> Result<UnsubscribeFilters<'a>, DecodeError> {
        let mut left = 0;
        let mut unread = body;
        while !unread.is_empty() {
            if left == limits.filters_max {
                return Err(DecodeError::FiltersTooMany);
            }
            // [MQTT-3.10.3-1]
            if unread.string()?.is_empty() {
                return Err(DecodeError::FilterEmpty); // [MQTT-4.7.3-1]
            }
            left += 1;
        }
        if left == 0 {
            return Err(DecodeError::UnsubscribeEmpty); // [MQTT-3.10.3-2]
        }
        Ok(UnsubscribeFilters { body, left })
    }
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
        self.left = self.left.checked_sub(1)?;
        Some(self.body.string().expect("the packet's decoder read it"))
    }
}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        (*self).eq(*other)
    }
}

impl Eq for UnsubscribeFilters<'_> {}

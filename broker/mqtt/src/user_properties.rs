//! User properties: pairs of strings that this crate checks and carries, but never interprets.

use core::fmt;

use crate::property::{CheckedProperties, Properties, Property};
use crate::{DecodeError, Limits};

/// The user properties of a packet, in the order they came; a name may come twice.
///
/// A view of the packet's property block: iterating walks the block again, so that a packet whose
/// user properties nobody reads pays nothing for them.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    /// Other properties may lie between them.
    block: &'a [u8],
    left: u16,
}

impl<'a> UserProperties<'a> {
    /// Reads user properties as [`PropertyWriter::user_property`](crate::encode::PropertyWriter::user_property)
    /// writes them, and refuses any other property among them.
    pub fn parse(block: &'a [u8], limits: &Limits) -> Result<UserProperties<'a>, DecodeError> {
        let mut properties = Properties::new(block, limits);
        while let Some(property) = properties.next()? {
            let Property::User(..) = property else { return Err(DecodeError::PropertyNotAllowed) };
        }
        Ok(properties.user_properties())
    }

    /// The `count` user properties of a block that was read to its end.
    pub(crate) fn of_block(block: &'a [u8], count: u16) -> UserProperties<'a> {
        UserProperties { block: if count == 0 { &[] } else { block }, left: count }
    }

    /// How many pairs are left.
    pub fn len(&self) -> usize {
        usize::from(self.left)
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        self.left = self.left.checked_sub(1)?;
        let mut properties = CheckedProperties::new(self.block);
        let pair = properties.find_map(|(property, _)| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        });
        self.block = properties.rest();
        pair
    }
}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(*self).finish()
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (*self).eq(*other)
    }
}

impl Eq for UserProperties<'_> {}

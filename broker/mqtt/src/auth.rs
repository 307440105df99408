//! AUTH, the steps of enhanced authentication. 5.0 only.

use crate::{ReasonCode, UserProperties};

/// An AUTH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// Absent only in the two-byte form, which stands for success and nothing else.
    pub method: Option<&'a str>,
    /// What the method exchanges.
    pub data: Option<&'a [u8]>,
    /// Text for a human.
    pub reason_string: Option<&'a str>,
    /// In the order they came.
    pub user_properties: UserProperties<'a>,
}

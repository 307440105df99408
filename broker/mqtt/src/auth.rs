//! AUTH, the steps of enhanced authentication. 5.0 only.

use crate::property::{Properties, Property};
use crate::reader::Reader;
use crate::{DecodeError, Limits, PacketKind, ReasonCode, UserProperties};

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

impl<'a> Auth<'a> {
    /// The body of an AUTH: nothing, or a reason and properties with a method among them.
    pub(crate) fn decode(mut body: Reader<'a>, limits: &Limits) -> Result<Auth<'a>, DecodeError> {
        let mut auth = Auth::default();
        if body.is_empty() {
            return Ok(auth);
        }
        // [MQTT-3.15.2-1]
        auth.reason = ReasonCode::decode(body.u8()?, PacketKind::Auth)?;
        let mut properties = Properties::take(&mut body, limits)?;
        while let Some(property) = properties.next()? {
            match property {
                Property::AuthenticationMethod(method) => auth.method = Some(method),
                Property::AuthenticationData(data) => auth.data = Some(data),
                Property::ReasonString(text) => auth.reason_string = Some(text),
                Property::User(..) => {}
                _ => return Err(DecodeError::PropertyNotAllowed),
            }
        }
        // "It is a Protocol Error to omit the Authentication Method." 3.15.2.2.2
        if auth.method.is_none() {
            return Err(DecodeError::AuthenticationMethodMissing);
        }
        auth.user_properties = properties.user_properties();
        body.finish()?;
        Ok(auth)
    }
}

//! Answers the core's questions about who a client is. With open authentication none is ever asked; until
//! there are users to know, everybody who is asked for is refused.

use broker_core::access::{Question, Verdict};
use mqtt::ReasonCode;

/// The verdict on one question.
pub(crate) fn decide(question: &Question) -> Verdict {
    let reason = match question.method {
        Some(_) => ReasonCode::BAD_AUTHENTICATION_METHOD, // [MQTT-4.12.0-1]
        None => ReasonCode::NOT_AUTHORIZED,
    };
    Verdict::Refuse { reason, server_reference: None }
}

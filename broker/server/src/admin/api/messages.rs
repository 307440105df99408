//! Publishing, from nobody to whoever subscribes.

use std::sync::Arc;

use axum::extract::State as From;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_core::sight::{Publish, What};
use mqtt::encode::PropertyWriter;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::State;
use super::super::gate::{self, Problem};
use super::subscriptions::qos;
use super::{Sent, bad_request, default_tenant, done};

/// A message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// `default` if it is not said.
    #[serde(default = "default_tenant")]
    tenant: String,
    topic: String,
    /// 0 to 2.
    #[serde(default)]
    qos: u8,
    /// Whether it is kept; without payload what was kept is removed.
    #[serde(default)]
    retain: bool,
    /// As text.
    payload: Option<String>,
    /// Or as any bytes, in base64.
    payload_base64: Option<String>,
    /// Its lifetime.
    expiry_seconds: Option<u32>,
    content_type: Option<String>,
    response_topic: Option<String>,
    /// Names and values.
    #[serde(default)]
    user_properties: Vec<(String, String)>,
}

impl Message {
    fn payload(&self) -> Result<Vec<u8>, Problem> {
        match (&self.payload, &self.payload_base64) {
            (Some(_), Some(_)) => Err(bad_request("payload: is there twice")),
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| bad_request("payload_base64: is none")),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// As they are forwarded.
    fn properties(&self) -> Result<Vec<u8>, Problem> {
        let texts = self.content_type.iter().chain(&self.response_topic);
        let pairs = self.user_properties.iter().flat_map(|(name, value)| [name, value]);
        if texts.chain(pairs).any(|text| text.len() > usize::from(u16::MAX) || text.contains('\0')) {
            return Err(bad_request("a property is longer than 65535 bytes, or has a null in it"));
        }
        let mut bytes = Vec::new();
        let mut writer = PropertyWriter::new(&mut bytes);
        if let Some(content_type) = &self.content_type {
            writer.content_type(content_type);
        }
        if let Some(topic) = &self.response_topic {
            mqtt::validate_topic(topic).map_err(|_| bad_request("response_topic: is none"))?;
            writer.response_topic(topic);
        }
        for (name, value) in &self.user_properties {
            writer.user_property(name, value);
        }
        Ok(bytes)
    }
}

/// Publishes a message. The answer does not wait for those who get it.
#[utoipa::path(post, path = "/api/v1/messages", tag = "messages", request_body = Message,
    responses((status = NO_CONTENT, description = "It is on its way."), (status = "default", body = gate::Body)))]
pub(super) async fn publish(
    From(state): From<Arc<State>>,
    Sent(message): Sent<Message>,
) -> Result<StatusCode, Problem> {
    let (payload, properties, qos) = (message.payload()?, message.properties()?, qos(message.qos)?);
    let Message { tenant, topic, retain, expiry_seconds, .. } = message;
    mqtt::validate_topic(&topic).map_err(|_| bad_request("topic: is none"))?;
    let core = state.config.keeper(&tenant, &topic);
    let (tenant, topic) = (tenant.into(), topic.into());
    let publish = Publish { tenant, topic, qos, retain, payload, properties, expiry_seconds };
    done(&state.cores.ask(core, What::Publish(Box::new(publish))).await?.said)
}

//! Retained messages: listed and cleared, by filter.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as From;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_core::sight::{Progress, RetainedMessage, Said, What};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::State;
use super::super::gate::{self, Problem};
use super::page::{ASKS_MAX, Cursor, List, limit};
use super::sessions::Count;
use super::{Asked, bad_request, default_tenant};

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Find {
    /// Whose; `default` if it is not said.
    #[serde(default = "default_tenant")]
    #[param(required = false)]
    tenant: String,
    /// On topics that this filter matches; `#` if it is not said, which matches none that begin with `$`.
    #[serde(default = "all")]
    #[param(required = false)]
    filter: String,
    /// Whether to show the payloads.
    #[serde(default)]
    #[param(required = false)]
    payload: bool,
    /// So many at most, 1 to 1000; 100 if it is not said.
    limit: Option<u16>,
    /// What came with the page before.
    cursor: Option<String>,
}

fn all() -> String {
    "#".to_owned()
}

/// A retained message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Retained {
    topic: String,
    qos: u8,
    payload_bytes: usize,
    /// If it was asked for and is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// If it was asked for and is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    /// When it goes, if it does, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
}

impl Retained {
    fn new(message: RetainedMessage, with_payload: bool) -> Retained {
        let text = std::str::from_utf8(&message.payload).ok().filter(|_| with_payload);
        let bytes = (with_payload && text.is_none()).then(|| STANDARD.encode(&message.payload));
        Retained {
            payload_bytes: message.payload.len(),
            payload: text.map(ToOwned::to_owned),
            payload_base64: bytes,
            qos: message.qos.bits(),
            expires_ms: message.expires.map(|expires| expires.0),
            topic: message.topic.into(),
        }
    }
}

/// Lists retained messages.
#[utoipa::path(get, path = "/api/v1/retained", tag = "retained", params(Find),
    responses((status = OK, body = List<Retained>), (status = "default", body = gate::Body)))]
pub(super) async fn list(
    From(state): From<Arc<State>>,
    Asked(find): Asked<Find>,
) -> Result<Json<List<Retained>>, Problem> {
    check(&find.filter)?;
    let limit = usize::from(limit(find.limit)?);
    let mut at = Some(Cursor::read(find.cursor.as_deref())?);
    let (mut items, mut asks) = (Vec::new(), 0);
    while let Some(cursor) = at.clone().filter(|_| items.len() < limit && asks < ASKS_MAX) {
        asks += 1;
        let (tenant, filter) = (find.tenant.as_str().into(), find.filter.as_str().into());
        let what = What::Retained { tenant, filter, after: cursor.after.clone() };
        let Said::Retained(page) = state.cores.ask(state.known(cursor.core)?, what).await?.said else {
            unreachable!("the answer to the question")
        };
        let room = limit - items.len();
        let cut = page.items.len() > room;
        items.extend(page.items.into_iter().take(room).map(|message| Retained::new(message, find.payload)));
        let last = items.last().filter(|_| cut).map(|message| message.topic.as_str().into());
        at = match last.or(page.next) {
            Some(after) => Some(Cursor { after: Some(after), ..cursor }),
            None => cursor.next_core(state.cores.len()),
        };
    }
    Ok(Json(List { items, cursor: at.map(|cursor| cursor.write()) }))
}

/// Which messages are to go.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Clear {
    /// Whose; `default` if it is not said.
    #[serde(default = "default_tenant")]
    #[param(required = false)]
    tenant: String,
    /// On topics that this filter matches.
    filter: String,
}

/// Clears retained messages, and tells nobody.
#[utoipa::path(delete, path = "/api/v1/retained", tag = "retained", params(Clear),
    responses((status = OK, body = Count), (status = "default", body = gate::Body)))]
pub(super) async fn clear(
    From(state): From<Arc<State>>,
    Asked(Clear { tenant, filter }): Asked<Clear>,
) -> Result<Json<Count>, Problem> {
    check(&filter)?;
    let mut sum = Count::default();
    for core in state.cores.ids() {
        let (mut after, mut more) = (None, true);
        while more {
            let what =
                What::ClearRetained { tenant: tenant.as_str().into(), filter: filter.as_str().into(), after };
            let Said::Cleared(Progress { count, next }) = state.cores.ask(core, what).await?.said else {
                unreachable!("the answer to the question")
            };
            sum.count += u64::from(count);
            (more, after) = (next.is_some(), next);
        }
    }
    Ok(Json(sum))
}

fn check(filter: &str) -> Result<(), Problem> {
    match mqtt::validate_filter(filter) {
        Ok(parsed) if parsed.share.is_none() => Ok(()),
        _ => Err(bad_request("filter: is none, or of a shared subscription")),
    }
}

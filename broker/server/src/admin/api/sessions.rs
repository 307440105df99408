//! Sessions: whose client is online and whose is away, one by one or in a list.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as From};
use axum::http::StatusCode;
use broker_core::sight::{self, FindSessions, Progress, Said, SessionDetails, What};
use broker_core::time::Wall;
use mqtt::Version;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::State;
use super::super::gate::{self, Problem};
use super::page::{ASKS_MAX, Cursor, List, limit};
use super::{Asked, default_tenant};

/// Which sessions.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Find {
    /// Only of this tenant.
    pub(super) tenant: Option<String>,
    /// Only those with this in their client id.
    pub(super) search: Option<String>,
    /// Only those whose client was let in as this user.
    pub(super) user: Option<String>,
    /// Only `online` or only `away`.
    pub(super) state: Option<Presence>,
    /// So many at most, 1 to 1000; 100 if it is not said.
    pub(super) limit: Option<u16>,
    /// What came with the page before.
    pub(super) cursor: Option<String>,
}

/// Whether a session's client is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Presence {
    Online,
    Away,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    tenant: String,
    client: String,
    /// As what the client was let in; empty: anonymous.
    user: String,
    state: Presence,
    /// The core at which it is at home.
    core: u16,
    /// The client's address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// By which the client came, as in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<u16>,
    /// 3.1, 3.1.1 or 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    /// After so much silence the client is closed; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    silence_ms_max: Option<u32>,
    /// Bytes that the client has not taken yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsent_bytes: Option<u64>,
    /// Since when the client is away, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    away_since_ms: Option<u64>,
    /// When the session ends, if it does, milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    /// How long the session outlives its connection; 4294967295 is for ever.
    session_expiry_seconds: u32,
    subscriptions: u64,
    /// In its queue, those in flight included.
    queued_messages: u32,
    queued_bytes: u64,
}

impl Session {
    fn new(core: u16, session: sight::Session) -> Session {
        let (online, away) = (session.online, session.away);
        Session {
            tenant: session.tenant.into(),
            client: session.client.into(),
            user: session.user.into(),
            state: if online.is_some() { Presence::Online } else { Presence::Away },
            core,
            peer: online.and_then(|online| online.peer).map(|peer| peer.to_string()),
            listener: online.map(|online| online.listener),
            protocol: online.map(|online| match online.version {
                Version::V31 => "3.1",
                Version::V311 => "3.1.1",
                Version::V5 => "5.0",
            }),
            silence_ms_max: online.map(|online| online.keep_alive_ms),
            unsent_bytes: online.map(|online| online.unsent_bytes),
            away_since_ms: away.map(|away| away.since.0),
            expires_ms: away.and_then(|away| away.expires).map(|Wall(ms)| ms),
            session_expiry_seconds: session.expiry_seconds,
            subscriptions: session.subscriptions,
            queued_messages: session.queued_messages,
            queued_bytes: session.queued_bytes,
        }
    }
}

/// Finds sessions, on one core after the other.
pub(super) async fn find(state: &State, find: Find) -> Result<Json<List<Session>>, Problem> {
    let limit = limit(find.limit)?;
    let online = find.state.map(|presence| presence == Presence::Online);
    let mut at = Some(Cursor::read(find.cursor.as_deref())?);
    let (mut items, mut asks) = (Vec::new(), 0);
    while let Some(cursor) = at.clone().filter(|_| items.len() < usize::from(limit) && asks < ASKS_MAX) {
        asks += 1;
        let what = What::Sessions(Box::new(FindSessions {
            tenant: find.tenant.as_deref().map(Into::into),
            client_contains: find.search.as_deref().map(Into::into),
            user: find.user.as_deref().map(Into::into),
            online,
            from: cursor.slot,
            max: limit - u16::try_from(items.len()).unwrap_or(limit),
        }));
        let Said::Sessions(page) = state.cores.ask(state.known(cursor.core)?, what).await?.said else {
            unreachable!("the answer to the question")
        };
        items.extend(page.items.into_iter().map(|session| Session::new(cursor.core.0, session)));
        at = match page.next {
            Some(slot) => Some(Cursor { slot, ..cursor }),
            None => cursor.next_core(state.cores.len()),
        };
    }
    Ok(Json(List { items, cursor: at.map(|cursor| cursor.write()) }))
}

/// Lists sessions, whether their clients are online or away.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(Find),
    responses((status = OK, body = List<Session>), (status = "default", body = gate::Body)))]
pub(super) async fn list(
    From(state): From<Arc<State>>,
    Asked(wanted): Asked<Find>,
) -> Result<Json<List<Session>>, Problem> {
    find(&state, wanted).await
}

/// Whose.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfTenant {
    /// Its tenant; `default` if it is not said.
    #[serde(default = "default_tenant")]
    #[param(required = false)]
    pub(super) tenant: String,
}

/// All of a session that is not a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Details {
    #[serde(flatten)]
    session: Session,
    #[serde(skip_serializing_if = "Option::is_none")]
    will: Option<Will>,
    /// QoS 2 messages from the client that it has not released.
    unreleased_messages: u32,
    /// Retained messages are on their way to it.
    retained_owed: bool,
    /// Of its queue: `tenant.queue_messages_max`.
    queue_messages_max: u32,
    /// Of its queue: `tenant.queue_bytes_max`.
    queue_bytes_max: u64,
    /// What a full queue gives up, `oldest` or `newest`.
    queue_drop: &'static str,
}

/// What is published when the client goes without a word.
#[derive(Debug, Serialize, ToSchema)]
struct Will {
    topic: String,
    qos: u8,
    retain: bool,
    delay_seconds: u32,
    payload_bytes: u64,
}

/// Shows one session with its will and its queue.
#[utoipa::path(get, path = "/api/v1/sessions/{client}", tag = "sessions",
    params(("client" = String, Path, description = "The client's id."), OfTenant),
    responses((status = OK, body = Details), (status = "default", body = gate::Body)))]
pub(super) async fn get(
    From(state): From<Arc<State>>,
    Path(client): Path<String>,
    Asked(OfTenant { tenant }): Asked<OfTenant>,
) -> Result<Json<Details>, Problem> {
    let core = state.config.home(&tenant, &client);
    let what = What::Session { tenant: tenant.into(), client: client.into() };
    let Said::Session(details) = state.cores.ask(core, what).await?.said else {
        unreachable!("the answer to the question")
    };
    let details = details.ok_or_else(|| super::refused(sight::Refusal::NoSession))?;
    let SessionDetails {
        session, will, unreleased, retained_owed, queue_messages_max, queue_bytes_max, ..
    } = *details;
    Ok(Json(Details {
        session: Session::new(core.0, session),
        will: will.map(|will| Will {
            topic: will.topic.into(),
            qos: will.qos.bits(),
            retain: will.retain,
            delay_seconds: will.delay_seconds,
            payload_bytes: will.payload_bytes,
        }),
        unreleased_messages: unreleased,
        retained_owed,
        queue_messages_max,
        queue_bytes_max,
        queue_drop: if details.drops_oldest { "oldest" } else { "newest" },
    }))
}

/// Which sessions are to end.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Expire {
    /// Of this tenant.
    tenant: String,
    /// Those whose clients have been away for so long.
    away_seconds: u32,
}

/// To how many something was done.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Count {
    pub(super) count: u64,
}

/// Ends sessions of a tenant whose clients have been away for long; their wills are published.
#[utoipa::path(delete, path = "/api/v1/sessions", tag = "sessions", params(Expire),
    responses((status = OK, body = Count), (status = "default", body = gate::Body)))]
pub(super) async fn expire(
    From(state): From<Arc<State>>,
    Asked(Expire { tenant, away_seconds }): Asked<Expire>,
) -> Result<(StatusCode, Json<Count>), Problem> {
    let what = |from| What::ExpireSessions { tenant: tenant.as_str().into(), away_seconds, from };
    Ok((StatusCode::OK, Json(on_all_cores(&state, what).await?)))
}

/// Has something done on all cores, part by part.
pub(super) async fn on_all_cores(state: &State, what: impl Fn(u32) -> What) -> Result<Count, Problem> {
    let mut sum = Count::default();
    for core in state.cores.ids() {
        let mut from = Some(0);
        while let Some(place) = from {
            let Said::Counted(Progress { count, next }) = state.cores.ask(core, what(place)).await?.said
            else {
                unreachable!("the answer to the question")
            };
            sum.count += u64::from(count);
            from = next;
        }
    }
    Ok(sum)
}

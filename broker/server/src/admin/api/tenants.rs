//! Tenants: what they have and do, on all cores together.

use std::ops::Bound;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as From;
use broker_core::sight::Flow;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::State;
use super::super::gate::{self, Problem};
use super::super::gather::{self, TenantNumbers};
use super::Asked;
use super::page::{Cursor, List, limit};

/// Which tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Find {
    /// Only those with this in their name.
    search: Option<String>,
    /// So many at most, 1 to 1000; 100 if it is not said.
    limit: Option<u16>,
    /// What came with the page before.
    cursor: Option<String>,
}

/// A tenant that has been seen since the node started.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tenant {
    name: String,
    /// Its clients that are online.
    clients: u64,
    /// Its sessions that wait for their client.
    sessions_away: u64,
    subscriptions: u64,
    retained_messages: u64,
    /// In its sessions' queues, those in flight included.
    queued_messages: u64,
    queued_bytes: u64,
    /// PUBLISH packets from its clients, by QoS.
    messages_received: [u64; 3],
    /// To its clients.
    messages_sent: [u64; 3],
    payload_bytes_received: [u64; 3],
    payload_bytes_sent: [u64; 3],
    /// Not delivered to somebody who should have had them, over all reasons.
    messages_dropped: u64,
}

impl Tenant {
    fn new(name: &str, numbers: &TenantNumbers) -> Tenant {
        let TenantNumbers { traffic, retained, census } = numbers;
        let (Flow { messages, payload_bytes }, sent) = (traffic.received, traffic.sent);
        Tenant {
            name: name.to_owned(),
            clients: census.online,
            sessions_away: census.away,
            subscriptions: census.subscriptions,
            retained_messages: *retained,
            queued_messages: census.queued_messages,
            queued_bytes: census.queued_bytes,
            messages_received: messages,
            messages_sent: sent.messages,
            payload_bytes_received: payload_bytes,
            payload_bytes_sent: sent.payload_bytes,
            messages_dropped: traffic.dropped.iter().sum(),
        }
    }
}

/// Lists tenants by name, with what they have and do.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", params(Find),
    responses((status = OK, body = List<Tenant>), (status = "default", body = gate::Body)))]
pub(super) async fn list(
    From(state): From<Arc<State>>,
    Asked(find): Asked<Find>,
) -> Result<Json<List<Tenant>>, Problem> {
    let limit = usize::from(limit(find.limit)?);
    let after = Cursor::read(find.cursor.as_deref())?.after;
    let numbers = gather::numbers(&state).await?;
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let wanted = |name: &str| find.search.as_ref().is_none_or(|part| name.contains(part));
    let mut found =
        numbers.tenants.range::<str, _>((from, Bound::Unbounded)).filter(|(name, _)| wanted(name));
    let items: Vec<_> =
        found.by_ref().take(limit).map(|(name, numbers)| Tenant::new(name, numbers)).collect();
    let more = found.next().is_some();
    let last = items.last().filter(|_| more).map(|tenant| tenant.name.as_str().into());
    let cursor = last.map(|after| Cursor { after: Some(after), ..Cursor::default() }.write());
    Ok(Json(List { items, cursor }))
}

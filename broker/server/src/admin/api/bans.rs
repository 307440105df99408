//! Who is kept out: by the file of the configuration, by themselves (flapping), and by what is asked for here.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as From;
use axum::http::StatusCode;
use broker_core::bans::{Ban, Target};
use broker_core::sight::{Said, What};
use broker_core::time::Wall;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::super::State;
use super::super::gate::{self, Problem};
use super::super::kept_bans::Described;
use super::page::{Cursor, List, limit};
use super::{Asked, Sent, bad_request};
use crate::clock::Clock;

/// The most bytes of a reason.
const REASON_BYTES_MAX: usize = 256;

/// Whom: one of `client`, `user` and `address`.
#[derive(Debug, Default, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Whom {
    /// Only of this tenant; of all if it is not said. Addresses are of none.
    tenant: Option<String>,
    /// A client's id.
    client: Option<String>,
    /// A user's name.
    user: Option<String>,
    /// An address or a network.
    address: Option<String>,
}

impl Whom {
    fn target(self) -> Result<Target, Problem> {
        let tenant = self.tenant.map(Arc::from);
        match (self.client, self.user, self.address) {
            (Some(client), None, None) => Ok(Target::Client { tenant, client: client.into() }),
            (None, Some(user), None) if !user.is_empty() => Ok(Target::User { tenant, user: user.into() }),
            (None, None, Some(_)) if tenant.is_some() => Err(bad_request("address: is of no tenant")),
            (None, None, Some(address)) => {
                let network = address.parse().map_err(|error| bad_request(format!("address: {error}")))?;
                Ok(Target::Address(network))
            }
            _ => Err(bad_request("one of client, user and address is to be named")),
        }
    }
}

/// Somebody to be kept out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = BanWanted)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(flatten)]
    whom: Whom,
    /// How long; for good if it is not said.
    seconds: Option<u32>,
    /// Why, for those who read the list.
    reason: Option<String>,
}

/// Which of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Find {
    /// Only those with this in the id, name or network.
    search: Option<String>,
    /// So many at most, 1 to 1000; 100 if it is not said.
    limit: Option<u16>,
    /// What came with the page before.
    cursor: Option<String>,
}

/// Lists who is kept out.
#[utoipa::path(get, path = "/api/v1/bans", tag = "bans", params(Find),
    responses((status = OK, body = List<Described>), (status = "default", body = gate::Body)))]
pub(super) async fn list(
    From(state): From<Arc<State>>,
    Asked(find): Asked<Find>,
) -> Result<Json<List<Described>>, Problem> {
    let (limit, from) = (usize::from(limit(find.limit)?), Cursor::read(find.cursor.as_deref())?.slot);
    // Most are the same on all cores; who came too often is kept out at home alone.
    let mut all: BTreeMap<Target, Ban> = BTreeMap::new();
    for core in state.cores.ids() {
        let mut after = None;
        loop {
            let Said::Bans(page) = state.cores.ask(core, What::Bans { after }).await?.said else {
                unreachable!("the answer to the question")
            };
            all.extend(page.items.into_iter().map(|ban| (ban.target.clone(), ban)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let wanted =
        |shown: &Described| find.search.as_ref().is_none_or(|part| shown.name.contains(part.as_str()));
    let mut found = all.values().map(Described::from).filter(wanted).skip(from as usize);
    let items: Vec<_> = found.by_ref().take(limit).collect();
    let next = Cursor { slot: from + items.len() as u32, ..Cursor::default() };
    let cursor = found.next().map(|_| next.write());
    Ok(Json(List { items, cursor }))
}

/// Keeps somebody out; who is online is disconnected.
#[utoipa::path(post, path = "/api/v1/bans", tag = "bans", request_body = Wanted,
    responses((status = NO_CONTENT, description = "Done."), (status = "default", body = gate::Body)))]
pub(super) async fn add(
    From(state): From<Arc<State>>,
    Sent(wanted): Sent<Wanted>,
) -> Result<StatusCode, Problem> {
    let reason = wanted.reason.unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        return Err(bad_request(format!("reason: must be at most {REASON_BYTES_MAX} bytes")));
    }
    let until = wanted.seconds.map(|seconds| Wall(Clock::wall().0 + u64::from(seconds) * 1000));
    let ban = Ban { target: wanted.whom.target()?, until, reason: reason.into() };
    for core in state.cores.ids() {
        let said = state.cores.ask(core, What::Ban(Box::new(ban.clone()))).await?.said;
        if said != Said::Agreed(true) {
            let message = "as many are kept out as there can be: limits.bans_max";
            return Err(Problem::new(StatusCode::FORBIDDEN, "limited", message));
        }
    }
    keep(&state, |bans| {
        bans.insert(ban.target.clone(), ban);
    })
    .await
}

/// Lets somebody in again.
#[utoipa::path(delete, path = "/api/v1/bans", tag = "bans", params(Whom),
    responses((status = NO_CONTENT, description = "Done."), (status = "default", body = gate::Body)))]
pub(super) async fn remove(
    From(state): From<Arc<State>>,
    Asked(whom): Asked<Whom>,
) -> Result<StatusCode, Problem> {
    let target = whom.target()?;
    let mut found = false;
    for core in state.cores.ids() {
        found |= state.cores.ask(core, What::Unban(target.clone())).await?.said == Said::Agreed(true);
    }
    if !found {
        let message = "nobody is kept out so: what is in a list is named as there";
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_ban", message));
    }
    keep(&state, |bans| {
        bans.remove(&target);
    })
    .await
}

/// Changes what outlives the process.
async fn keep(
    state: &Arc<State>,
    change: impl FnOnce(&mut BTreeMap<Target, Ban>),
) -> Result<StatusCode, Problem> {
    let mut kept = state.kept_bans.lock().await;
    kept.change(change).map_err(|error| {
        let message = format!("it holds, but not longer than the process: admin.bans_file: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "not_kept", message)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

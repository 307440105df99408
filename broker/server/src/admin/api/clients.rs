//! Clients that are online: found, and disconnected.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as From};
use axum::http::StatusCode;
use broker_core::sight::{Disconnect, Farewell, What};
use mqtt::ReasonCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::super::State;
use super::super::gate::{self, Problem};
use super::page::List;
use super::sessions::{self, Count, Find, OfTenant, Presence, Session};
use super::{Asked, bad_request, done};

/// Lists clients that are online.
#[utoipa::path(get, path = "/api/v1/clients", tag = "clients", params(Find),
    responses((status = OK, body = List<Session>), (status = "default", body = gate::Body)))]
pub(super) async fn list(
    From(state): From<Arc<State>>,
    Asked(find): Asked<Find>,
) -> Result<Json<List<Session>>, Problem> {
    sessions::find(&state, Find { state: Some(Presence::Online), ..find }).await
}

/// What clients are told that are disconnected.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Told {
    /// Whether to go elsewhere; `no` if it is not said.
    #[serde(default)]
    #[param(inline, required = false)]
    redirect: Redirect,
    /// Where, as CONNACK and DISCONNECT of MQTT 5.0 name servers; several are separated by spaces.
    server_reference: Option<String>,
}

/// Whether clients are to go elsewhere.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Redirect {
    /// Reason 0x98, Administrative action.
    #[default]
    No,
    /// Reason 0x9D, Server moved: for good.
    Move,
    /// Reason 0x9C, Use another server: for now.
    TempUse,
}

impl Told {
    fn farewell(self) -> Result<Farewell, Problem> {
        let reason = match self.redirect {
            Redirect::No if self.server_reference.is_some() => {
                return Err(bad_request("server_reference: needs redirect=move or redirect=temp_use"));
            }
            Redirect::No => ReasonCode::ADMINISTRATIVE_ACTION,
            Redirect::Move => ReasonCode::SERVER_MOVED,
            Redirect::TempUse => ReasonCode::USE_ANOTHER_SERVER,
        };
        if self
            .server_reference
            .as_ref()
            .is_some_and(|it| it.len() > usize::from(u16::MAX) || it.contains('\0'))
        {
            return Err(bad_request("server_reference: must be a text of at most 65535 bytes"));
        }
        Ok(Farewell { reason, server_reference: self.server_reference.map(Into::into) })
    }
}

/// Disconnects a client. Its session stays if it was to stay, and its will is published.
#[utoipa::path(delete, path = "/api/v1/clients/{client}", tag = "clients",
    params(("client" = String, Path, description = "The client's id."), OfTenant, Told),
    responses((status = NO_CONTENT, description = "Done."), (status = "default", body = gate::Body)))]
pub(super) async fn disconnect(
    From(state): From<Arc<State>>,
    Path(client): Path<String>,
    Asked(OfTenant { tenant }): Asked<OfTenant>,
    Asked(told): Asked<Told>,
) -> Result<StatusCode, Problem> {
    let core = state.config.home(&tenant, &client);
    let farewell = told.farewell()?;
    let disconnect = Disconnect { tenant: tenant.into(), client: client.into(), farewell };
    done(&state.cores.ask(core, What::Disconnect(Box::new(disconnect))).await?.said)
}

/// Which clients.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// Of this tenant.
    tenant: String,
    /// Only those that were let in as this user.
    user: Option<String>,
}

/// Disconnects all clients of a tenant, or of a user of it.
#[utoipa::path(delete, path = "/api/v1/clients", tag = "clients", params(Whose, Told),
    responses((status = OK, body = Count), (status = "default", body = gate::Body)))]
pub(super) async fn disconnect_all(
    From(state): From<Arc<State>>,
    Asked(Whose { tenant, user }): Asked<Whose>,
    Asked(told): Asked<Told>,
) -> Result<Json<Count>, Problem> {
    let farewell = told.farewell()?;
    let what = |from| What::DisconnectAll {
        tenant: tenant.as_str().into(),
        user: user.as_deref().map(Into::into),
        farewell: farewell.clone(),
        from,
    };
    Ok(Json(sessions::on_all_cores(&state, what).await?))
}

//! Subscriptions: found, and made and ended in a client's place.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as From;
use axum::http::StatusCode;
use broker_core::sight::{self, FindSubscriptions, Place, Said, Subscribe, Unsubscribe, What};
use mqtt::{QoS, RetainHandling, SubscriptionOptions};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::State;
use super::super::gate::{self, Problem};
use super::page::{ASKS_MAX, Cursor, List, limit};
use super::{Asked, Sent, bad_request, default_tenant, done};

/// Which subscriptions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Find {
    /// Only of sessions of this tenant.
    tenant: Option<String>,
    /// Only of this client.
    client: Option<String>,
    /// Only those with this in their filter.
    search: Option<String>,
    /// So many at most, 1 to 1000; 100 if it is not said.
    limit: Option<u16>,
    /// What came with the page before.
    cursor: Option<String>,
}

/// A subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Subscription {
    tenant: String,
    client: String,
    /// With the name of the group, if it is shared.
    filter: String,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription_id: Option<u32>,
}

impl Subscription {
    fn new(subscription: sight::Subscription) -> Subscription {
        let options = subscription.options;
        Subscription {
            tenant: subscription.tenant.into(),
            client: subscription.client.into(),
            filter: subscription.filter.into(),
            qos: options.qos().bits(),
            no_local: options.no_local(),
            retain_as_published: options.retain_as_published(),
            subscription_id: Some(options.subscription_id()).filter(|id| *id > 0),
        }
    }
}

/// Lists subscriptions.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "subscriptions", params(Find),
    responses((status = OK, body = List<Subscription>), (status = "default", body = gate::Body)))]
pub(super) async fn list(
    From(state): From<Arc<State>>,
    Asked(find): Asked<Find>,
) -> Result<Json<List<Subscription>>, Problem> {
    let limit = limit(find.limit)?;
    let mut at = Some(Cursor::read(find.cursor.as_deref())?);
    // A client that is named is on one core.
    let home = match (&find.tenant, &find.client) {
        (Some(tenant), Some(client)) => Some(state.config.home(tenant, client)),
        _ => None,
    };
    if let (Some(home), None, Some(cursor)) = (home, &find.cursor, &mut at) {
        cursor.core = home;
    }
    let (mut items, mut asks) = (Vec::new(), 0);
    while let Some(cursor) = at.clone().filter(|_| items.len() < usize::from(limit) && asks < ASKS_MAX) {
        asks += 1;
        let what = What::Subscriptions(Box::new(FindSubscriptions {
            tenant: find.tenant.as_deref().map(Into::into),
            client: find.client.as_deref().map(Into::into),
            filter_contains: find.search.as_deref().map(Into::into),
            from: Place { slot: cursor.slot, after: cursor.after.clone() },
            max: limit - u16::try_from(items.len()).unwrap_or(limit),
        }));
        let Said::Subscriptions(page) = state.cores.ask(state.known(cursor.core)?, what).await?.said else {
            unreachable!("the answer to the question")
        };
        items.extend(page.items.into_iter().map(Subscription::new));
        at = match page.next {
            Some(Place { slot, after }) => Some(Cursor { core: cursor.core, slot, after }),
            None if home.is_some() => None,
            None => cursor.next_core(state.cores.len()),
        };
    }
    Ok(Json(List { items, cursor: at.map(|cursor| cursor.write()) }))
}

/// A subscription to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SubscriptionWanted)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The client's tenant; `default` if it is not said.
    #[serde(default = "default_tenant")]
    tenant: String,
    client: String,
    filter: String,
    /// 0 to 2.
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    no_local: bool,
    #[serde(default)]
    retain_as_published: bool,
    /// Whether retained messages are sent: 0, 1 (if the subscription is new) or 2 (not).
    #[serde(default)]
    retain_handling: u8,
    /// 1 to 268435455.
    subscription_id: Option<u32>,
}

impl Wanted {
    fn options(&self) -> Result<SubscriptionOptions, Problem> {
        let retain_handling = match self.retain_handling {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(bad_request("retain_handling: must be 0 to 2")),
        };
        Ok(SubscriptionOptions {
            qos: qos(self.qos)?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling,
        })
    }
}

pub(super) fn qos(bits: u8) -> Result<QoS, Problem> {
    QoS::from_bits(bits).ok_or_else(|| bad_request("qos: must be 0 to 2"))
}

/// Subscribes in the place of a client that is online. What is published after the answer reaches it.
#[utoipa::path(post, path = "/api/v1/subscriptions", tag = "subscriptions", request_body = Wanted,
    responses((status = NO_CONTENT, description = "Done."), (status = "default", body = gate::Body)))]
pub(super) async fn subscribe(
    From(state): From<Arc<State>>,
    Sent(wanted): Sent<Wanted>,
) -> Result<StatusCode, Problem> {
    let options = wanted.options()?;
    let Wanted { tenant, client, filter, subscription_id, .. } = wanted;
    if subscription_id.is_some_and(|id| !(1..1 << 28).contains(&id)) {
        return Err(bad_request("subscription_id: must be 1 to 268435455"));
    }
    let parsed = mqtt::validate_filter(&filter).map_err(|_| bad_request("filter: is none"))?;
    if parsed.share.is_some() && options.no_local {
        return Err(bad_request("no_local: a shared subscription cannot have it"));
    }
    let core = state.config.home(&tenant, &client);
    let (tenant, client, filter) = (tenant.into(), client.into(), filter.into());
    let subscribe = Subscribe { tenant, client, filter, options, subscription_id };
    done(&state.cores.ask(core, What::Subscribe(Box::new(subscribe))).await?.said)
}

/// A subscription to be ended.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Unwanted {
    /// The client's tenant; `default` if it is not said.
    #[serde(default = "default_tenant")]
    #[param(required = false)]
    tenant: String,
    /// The client.
    client: String,
    /// As it was subscribed to.
    filter: String,
}

/// Unsubscribes in the place of a client that is online.
#[utoipa::path(delete, path = "/api/v1/subscriptions", tag = "subscriptions", params(Unwanted),
    responses((status = NO_CONTENT, description = "Done."), (status = "default", body = gate::Body)))]
pub(super) async fn unsubscribe(
    From(state): From<Arc<State>>,
    Asked(Unwanted { tenant, client, filter }): Asked<Unwanted>,
) -> Result<StatusCode, Problem> {
    mqtt::validate_filter(&filter).map_err(|_| bad_request("filter: is none"))?;
    let core = state.config.home(&tenant, &client);
    let unsubscribe = Unsubscribe { tenant: tenant.into(), client: client.into(), filter: filter.into() };
    done(&state.cores.ask(core, What::Unsubscribe(Box::new(unsubscribe))).await?.said)
}

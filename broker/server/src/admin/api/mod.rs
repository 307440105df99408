//! `/api/v1`: clients, sessions, subscriptions, retained messages, tenants, bans, ranges and traces, listed and acted on. Routes and
//! their OpenAPI document are made of the same attributes; every error has the shape of [`Problem`].

#![expect(unused_qualifications, reason = "what utoipa generates names traits in full")]

mod bans;
mod clients;
mod cluster;
mod messages;
mod page;
mod parameters;
mod ranges;
mod retained;
mod sessions;
mod snapshot;
mod subscriptions;
mod tenants;
mod traces;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Json, Router};
use broker_core::sight::{Refusal, Said};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::parameters::Parameters;
use super::State;
use super::gate::{self, Problem};

#[derive(OpenApi)]
#[openapi(
    info(title = "Hermod administration", description = "Looks at a node and acts on its clients."),
    components(schemas(gate::Body))
)]
struct Document;

/// The routes below `/api/v1`, and `/cluster`, with the document that tells of them.
pub(super) fn router() -> Router<Arc<State>> {
    let (router, document) = parts();
    let parameters = Arc::new(Parameters::of(&document));
    let router = router.route_layer(axum::middleware::from_fn_with_state(parameters, parameters::check));
    router.route("/api/v1/openapi.json", axum::routing::get(async move || Json(document)))
}

fn parts() -> (Router<Arc<State>>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(clients::list, clients::disconnect_all))
        .routes(routes!(clients::disconnect))
        .routes(routes!(sessions::list, sessions::expire))
        .routes(routes!(sessions::get))
        .routes(routes!(subscriptions::list, subscriptions::subscribe, subscriptions::unsubscribe))
        .routes(routes!(retained::list, retained::clear))
        .routes(routes!(tenants::list))
        .routes(routes!(messages::publish))
        .routes(routes!(bans::list, bans::add, bans::remove))
        .routes(routes!(ranges::list))
        .routes(routes!(traces::list, traces::start))
        .routes(routes!(traces::stop))
        .routes(routes!(traces::lines))
        .routes(routes!(cluster::get))
        .routes(routes!(snapshot::take, snapshot::end))
        .split_for_parts()
}

/// A query string; what is wrong with it is a [`Problem`].
struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Problem> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(query)| Asked(query)).map_err(|error| bad_request(error.body_text()))
    }
}

/// A body in JSON; what is wrong with it is a [`Problem`].
struct Sent<T>(T);

impl<T: DeserializeOwned> FromRequest<Arc<State>> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Sent<T>, Problem> {
        let patience = Duration::from_millis(u64::from(state.settings.request_timeout_ms));
        let Ok(read) = timeout(patience, Json::<T>::from_request(request, state)).await else {
            state.door.count_slow();
            let message = "the body took longer than admin.request_timeout_ms";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message));
        };
        read.map(|Json(body)| Sent(body)).map_err(|error| bad_request(error.body_text()))
    }
}

fn bad_request(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// A core's yes or no.
fn done(said: &Said) -> Result<StatusCode, Problem> {
    match *said {
        Said::Done(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Said::Done(Err(refusal)) => Err(refused(refusal)),
        _ => unreachable!("the answer to the question"),
    }
}

fn refused(refusal: Refusal) -> Problem {
    let problem = |status, code, message: &str| Problem::new(status, code, message);
    match refusal {
        Refusal::NoSession => problem(StatusCode::NOT_FOUND, "no_session", "the client has no session"),
        Refusal::Away => problem(StatusCode::CONFLICT, "client_away", "the client is not online"),
        Refusal::Gone => problem(StatusCode::CONFLICT, "client_gone", "the client went before it was done"),
        Refusal::NoTenant => {
            problem(StatusCode::NOT_FOUND, "no_tenant", "no tenant of this name is configured")
        }
        Refusal::Limit(limit) => {
            let message = format!("the tenant's settings do not allow it: {}", limit.name());
            problem(StatusCode::FORBIDDEN, "limited", &message)
        }
        Refusal::Reason(mqtt::ReasonCode::NO_SUBSCRIPTION_EXISTED) => {
            problem(StatusCode::NOT_FOUND, "no_subscription", "the session does not subscribe to that")
        }
        Refusal::Reason(reason) => {
            let message = format!("the client would be refused with reason 0x{:02x}", reason.value());
            problem(StatusCode::FORBIDDEN, "refused", &message)
        }
    }
}

fn default_tenant() -> String {
    "default".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document names every path, each with a summary, an answer when it goes well and the one shape of errors.
    #[test]
    fn document_tells_of_everything() {
        let (_, document) = parts();
        let document = serde_json::to_value(&document).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut operations = 0;
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().unwrap() {
                operations += 1;
                let place = format!("{method} {path}: {operation}");
                assert!(operation["summary"].as_str().is_some_and(|it| it.ends_with('.')), "{place}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|status| status.starts_with('2')), "{place}");
                let error = &responses["default"]["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(error, "#/components/schemas/Error", "{place}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert!(parameter["description"].is_string(), "{place}: {parameter}");
                }
            }
        }
        assert_eq!(operations, 24);
    }
}

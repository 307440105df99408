//! Parameters of a query that nobody takes are refused: a filter that is misspelt would be none, and what was to go for
//! one user would go for all of the tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Query, Request, State as From};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi;

use super::bad_request;

/// The parameters that each request takes, by path and method, as the document has them.
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<(String, String), Vec<String>>);

impl Parameters {
    pub(super) fn of(document: &OpenApi) -> Parameters {
        let document = serde_json::to_value(document).expect("it is served as JSON");
        let mut known = BTreeMap::new();
        for (path, methods) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let of_query = parameters.filter(|parameter| parameter["in"] == "query");
                let names = of_query.filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned()));
                known.insert((path.clone(), method.clone()), names.collect());
            }
        }
        Parameters(known)
    }

    /// The first that is not taken, and those that are.
    fn unknown<'a>(&'a self, path: &str, request: &Request) -> Option<(String, &'a [String])> {
        let method = request.method().as_str().to_ascii_lowercase();
        let known = self.0.get(&(path.to_owned(), method))?;
        // What is no query at all is told to be none where it is read.
        let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).ok()?;
        let unknown = given.into_iter().find(|(name, _)| !known.contains(name))?;
        Some((unknown.0, known))
    }
}

/// Lets a request through whose parameters are known.
pub(super) async fn check(
    From(parameters): From<Arc<Parameters>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    match parameters.unknown(path.as_str(), &request) {
        None => next.run(request).await,
        Some((name, [])) => bad_request(format!("{name}: nothing is asked for here")).into_response(),
        Some((name, known)) => {
            let known = known.join(", ");
            bad_request(format!("{name}: there is no such parameter; there are {known}")).into_response()
        }
    }
}

//! Who is let in, and the one shape that errors have.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::AdminError;
use super::asking::Unanswered;

/// What users of the administration show, as `Authorization: Bearer …`.
pub(crate) struct Token(Vec<u8>);

impl Token {
    /// The shortest, bytes: 128 bits in hexadecimal digits would be 32, a passphrase is shorter.
    pub(crate) const BYTES_MIN: usize = 16;
    /// The longest.
    pub(crate) const BYTES_MAX: usize = 4096;

    /// Reads one from a file that holds nothing else.
    pub(crate) fn read(path: &Path) -> Result<Token, AdminError> {
        let token: io::Result<String> = fs::read_to_string(path);
        let token = token.map_err(|error| AdminError::Token(path.to_owned(), error))?;
        let token = token.trim_end_matches(['\r', '\n']);
        let long = (Token::BYTES_MIN..=Token::BYTES_MAX).contains(&token.len());
        match long && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Token(token.as_bytes().to_vec())),
            false => Err(AdminError::Weak(path.to_owned())),
        }
    }

    fn is_shown_by(&self, request: &Request) -> bool {
        let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let shown = header.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        shown.is_some_and(|(_, shown)| shown.ct_eq(&self.0).into())
    }
}

/// The token, as the file has it that was read last; None: none is needed.
pub(crate) type Current = watch::Receiver<Arc<Option<Token>>>;

/// Whether a request comes from a program of this machine, as far as it says. A page of somebody's in a browser here
/// could ask as well, under a name of its own that leads here, or from its own origin.
fn is_of_this_machine(request: &Request) -> bool {
    let headers = request.headers();
    let Some(host) = headers.get(HOST) else { return !headers.contains_key(ORIGIN) };
    let Some(host) = host.to_str().ok() else { return false };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let here = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    let same = |origin: &HeaderValue| {
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) == Some(host)
    };
    here && headers.get(ORIGIN).is_none_or(same)
}

/// Lets a request pass that shows the token; if there is none, one from this machine.
pub(super) async fn admit(State(token): State<Current>, request: Request, next: Next) -> Response {
    let token = Arc::clone(&token.borrow());
    match &*token {
        Some(token) if !token.is_shown_by(&request) => {
            let problem = Problem::new(
                StatusCode::UNAUTHORIZED,
                "token_required",
                "admin.token_file says what to show",
            );
            let mut response = problem.into_response();
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
        None if !is_of_this_machine(&request) => {
            let message = "without admin.token_file only this machine may ask, by an address or as localhost";
            Problem::new(StatusCode::FORBIDDEN, "not_from_here", message).into_response()
        }
        _ => next.run(request).await,
    }
}

/// An error: its status, a word for programs and a sentence for people.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct Body {
    error: Told,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
struct Told {
    /// For programs: one of a few words.
    code: &'static str,
    /// For people.
    message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body { error: Told { code: self.code, message: self.message } };
        (self.status, Json(body)).into_response()
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "core_does_not_answer", unanswered.to_string())
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_path", "there is nothing under this path")
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", "the path has other methods")
}

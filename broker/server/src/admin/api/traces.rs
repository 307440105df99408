//! Traces: what happens to the messages of a client, of topics or of an address, for a while. Every core keeps its own
//! lines; here they become one list, in the order of time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, State as From};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker_core::identity::CoreId;
use broker_core::sight::{Page, Said, Trace, TraceLine, TraceState, Traced, What};
use broker_core::time::Mono;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::State;
use super::super::gate::{self, Problem};
use super::{Asked, Sent, bad_request, default_tenant};
use crate::events::Described;

/// The longest trace, and the most lines of one on a core.
const SECONDS_MAX: u32 = 86_400;
const LINES_MAX: u32 = 10_000;

/// What is to be followed: one of `client`, `topic` and `address`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = TraceWanted)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Of the client or topic; `default` if it is not said.
    #[serde(default = "default_tenant")]
    tenant: String,
    /// A client's id: what happens to it, to messages for it, and to messages from it wherever they go.
    client: Option<String>,
    /// A topic, or a filter for topics: what happens to messages on them.
    topic: Option<String>,
    /// An address or a network: what happens on connections from there, and to messages from there wherever they go.
    address: Option<String>,
    /// How long, 1 to 86400; 60 if it is not said.
    seconds: Option<u32>,
    /// The most lines that each core keeps, 1 to 10000; 1000 if it is not said.
    lines_max: Option<u32>,
}

impl Wanted {
    fn traced(&self) -> Result<Traced, Problem> {
        let tenant = self.tenant.as_str().into();
        match (&self.client, &self.topic, &self.address) {
            (Some(client), None, None) => Ok(Traced::Client { tenant, client: client.as_str().into() }),
            (None, Some(topic), None) => {
                let plain = mqtt::validate_filter(topic).is_ok_and(|filter| filter.share.is_none());
                plain.then_some(()).ok_or_else(|| bad_request("topic: must be a topic or a filter"))?;
                Ok(Traced::Topic { tenant, filter: topic.as_str().into() })
            }
            (None, None, Some(address)) => {
                address.parse().map(Traced::Address).map_err(|error| bad_request(format!("address: {error}")))
            }
            _ => Err(bad_request("one of client, topic and address is to be named")),
        }
    }

    fn trace(&self, number: u64) -> Result<Trace, Problem> {
        let within = |name, value: u32, max| match value {
            value if (1..=max).contains(&value) => Ok(value),
            _ => Err(bad_request(format!("{name}: must be 1 to {max}"))),
        };
        Ok(Trace {
            number,
            of: self.traced()?,
            seconds: within("seconds", self.seconds.unwrap_or(60), SECONDS_MAX)?,
            lines_max: within("lines_max", self.lines_max.unwrap_or(1000), LINES_MAX)?,
        })
    }
}

/// A trace.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Trace)]
pub(super) struct Shown {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    seconds: u32,
    lines_max: u32,
    /// Its time is not over, and nobody has stopped it.
    running: bool,
    /// Lines there are, of all cores.
    lines: u64,
    /// Lines for which there was no room.
    missed: u64,
}

impl Shown {
    fn new(trace: &Trace) -> Shown {
        let (mut tenant, mut client, mut topic, mut address) = (None, None, None, None);
        match &trace.of {
            Traced::Client { tenant: of, client: id } => {
                (tenant, client) = (Some(of.to_string()), Some(id.to_string()));
            }
            Traced::Topic { tenant: of, filter } => {
                (tenant, topic) = (Some(of.to_string()), Some(filter.to_string()));
            }
            Traced::Address(network) => address = Some(network.to_string()),
        }
        let Trace { number: id, seconds, lines_max, .. } = *trace;
        Shown { id, tenant, client, topic, address, seconds, lines_max, running: false, lines: 0, missed: 0 }
    }

    fn add(&mut self, state: &TraceState) {
        self.running |= state.running;
        self.lines += u64::from(state.lines);
        self.missed += state.missed;
    }
}

/// All traces, those that have ended and were not removed included.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Traces {
    items: Vec<Shown>,
}

/// All traces with what all cores have of them, and when each began.
async fn all(state: &State) -> Result<Vec<(Shown, Mono)>, Problem> {
    let mut all: Vec<(Shown, Mono)> = Vec::new();
    for core in state.cores.ids() {
        let Said::Traces(traces) = state.cores.ask(core, What::Traces).await?.said else {
            unreachable!("the answer to the question")
        };
        for trace in traces {
            let known = all.iter_mut().find(|(shown, _)| shown.id == trace.trace.number);
            let (shown, begun) = match known {
                Some(known) => known,
                None => {
                    all.push((Shown::new(&trace.trace), trace.begun));
                    all.last_mut().expect("just pushed")
                }
            };
            *begun = trace.begun.min(*begun);
            shown.add(&trace);
        }
    }
    Ok(all)
}

/// Lists traces.
#[utoipa::path(get, path = "/api/v1/traces", tag = "traces",
    responses((status = OK, body = Traces), (status = "default", body = gate::Body)))]
pub(super) async fn list(From(state): From<Arc<State>>) -> Result<Json<Traces>, Problem> {
    let items = all(&state).await?.into_iter().map(|(shown, _)| shown).collect();
    Ok(Json(Traces { items }))
}

/// Starts a trace.
#[utoipa::path(post, path = "/api/v1/traces", tag = "traces", request_body = Wanted,
    responses((status = CREATED, body = Shown), (status = "default", body = gate::Body)))]
pub(super) async fn start(
    From(state): From<Arc<State>>,
    Sent(wanted): Sent<Wanted>,
) -> Result<(StatusCode, Json<Shown>), Problem> {
    let trace = wanted.trace(state.next_trace.fetch_add(1, Ordering::Relaxed))?;
    for core in state.cores.ids() {
        let said = state.cores.ask(core, What::StartTrace(Box::new(trace.clone()))).await?.said;
        if said != Said::Agreed(true) {
            let message = "there are as many traces as there can be: remove one";
            return Err(Problem::new(StatusCode::CONFLICT, "traces_full", message));
        }
    }
    Ok((StatusCode::CREATED, Json(Shown { running: true, ..Shown::new(&trace) })))
}

/// Whether anything of a trace is to stay.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Keep {
    /// Only end it, and keep its lines; `false` if it is not said.
    #[serde(default)]
    keep: bool,
}

/// Ends a trace, and removes it with its lines.
#[utoipa::path(delete, path = "/api/v1/traces/{id}", tag = "traces",
    params(("id" = u64, Path, description = "The trace's id."), Keep),
    responses((status = NO_CONTENT, description = "Done."), (status = "default", body = gate::Body)))]
pub(super) async fn stop(
    From(state): From<Arc<State>>,
    Path(id): Path<String>,
    Asked(Keep { keep }): Asked<Keep>,
) -> Result<StatusCode, Problem> {
    let number = number(&id)?;
    let mut found = false;
    for core in state.cores.ids() {
        let what = What::StopTrace { number, remove: !keep };
        found |= state.cores.ask(core, what).await?.said == Said::Agreed(true);
    }
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(no_trace()) }
}

fn number(id: &str) -> Result<u64, Problem> {
    id.parse().map_err(|_| bad_request("id: must be a trace's"))
}

fn no_trace() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_trace", "there is no trace of this id")
}

/// How far the lines were read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Place {
    /// What came with the lines before.
    cursor: Option<String>,
}

/// Some lines of a trace.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Lines {
    items: Vec<Line>,
    /// For the lines behind these, those too that are still to come.
    cursor: String,
    /// There are more already.
    more: bool,
    /// More may come.
    running: bool,
    /// Lines for which there was no room.
    missed: u64,
}

/// A step of a message, or what happened to a client.
#[derive(Debug, Serialize, ToSchema)]
struct Line {
    /// Microseconds since the trace began.
    after_us: u64,
    #[serde(flatten)]
    what: Described,
}

/// Lists what has happened.
#[utoipa::path(get, path = "/api/v1/traces/{id}/lines", tag = "traces",
    params(("id" = u64, Path, description = "The trace's id."), Place),
    responses((status = OK, body = Lines), (status = "default", body = gate::Body)))]
pub(super) async fn lines(
    From(state): From<Arc<State>>,
    Path(id): Path<String>,
    Asked(Place { cursor }): Asked<Place>,
) -> Result<Json<Lines>, Problem> {
    let number = number(&id)?;
    let mut read = read_cursor(cursor.as_deref(), state.cores.len())?;
    // Before the lines: what ends meanwhile may have some more.
    let known = all(&state).await?.into_iter().find(|(shown, _)| shown.id == number);
    let (shown, begun) = known.ok_or_else(no_trace)?;
    let mut pages = Vec::new();
    for (core, from) in state.cores.ids().zip(&read) {
        let what = What::TraceLines { number, from: *from };
        let Said::TraceLines(Some(page)) = state.cores.ask(core, what).await?.said else {
            return Err(no_trace());
        };
        pages.push(page);
    }
    let more = pages.iter().any(|page| page.next.is_some());
    let items = merge(pages, &mut read).into_iter().map(|(core, line)| {
        let after_us = u64::try_from(line.at.monotonic.since(begun).as_micros()).unwrap_or(u64::MAX);
        Line { after_us, what: Described::new(line.at.wall, core, &line.notice) }
    });
    let items = items.collect();
    let cursor = write_cursor(&read);
    Ok(Json(Lines { items, cursor, more, running: shown.running, missed: shown.missed }))
}

/// Joins the cores' lines in the order of time, as far as all are known: `read` says how far that is, for each core.
fn merge(pages: Vec<Page<TraceLine>>, read: &mut [u32]) -> Vec<(CoreId, TraceLine)> {
    // Behind the last line of a page that is not the last, there may be earlier ones than others have.
    let last = |page: &Page<TraceLine>| page.next.and(page.items.last()).map(|line| line.at.monotonic);
    let known = pages.iter().filter_map(last).min();
    let mut merged = Vec::new();
    for ((page, read), core) in pages.into_iter().zip(read).zip((0..).map(CoreId)) {
        let items = page.items.into_iter().take_while(|line| known.is_none_or(|it| line.at.monotonic <= it));
        for line in items {
            *read += 1;
            merged.push((core, line));
        }
    }
    merged.sort_by_key(|(_, line)| line.at.monotonic); // stable: those of one core stay as they are
    merged
}

fn write_cursor(read: &[u32]) -> String {
    let numbers: Vec<_> = read.iter().map(u32::to_string).collect();
    URL_SAFE_NO_PAD.encode(numbers.join(" "))
}

fn read_cursor(text: Option<&str>, cores: usize) -> Result<Vec<u32>, Problem> {
    let Some(text) = text else { return Ok(vec![0; cores]) };
    let decode = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let read: Vec<u32> = text.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        (read.len() == cores).then_some(read)
    };
    decode().ok_or_else(|| bad_request("cursor: must be one that came with lines"))
}

#[cfg(test)]
mod tests {
    use broker_core::notice::{Event, Notice};
    use broker_core::time::{Now, Wall};

    use super::*;

    fn page(times: &[u64], more: bool) -> Page<TraceLine> {
        let line = |time: &u64| TraceLine {
            at: Now { monotonic: Mono(*time), wall: Wall(0) },
            notice: Notice {
                connection: None,
                peer: None,
                tenant: None,
                client: None,
                event: Event::Lost,
                message: None,
            },
        };
        Page { items: times.iter().map(line).collect(), next: more.then_some(0) }
    }

    /// Lines of cores are joined in the order of time, and none is given before all that may be earlier are known.
    #[test]
    fn lines_are_joined_in_order() {
        let mut read = [10, 20, 30];
        let pages = vec![page(&[1, 5, 9], false), page(&[2, 4], true), page(&[3], false)];
        let merged = merge(pages, &mut read);
        let times: Vec<_> = merged.iter().map(|(core, line)| (core.0, line.at.monotonic.0)).collect();
        assert_eq!(times, [(0, 1), (1, 2), (2, 3), (1, 4)]);
        assert_eq!(read, [11, 22, 31]);
        assert_eq!(read_cursor(Some(&write_cursor(&read)), 3).unwrap(), read);
        assert!(read_cursor(Some(&write_cursor(&read)), 2).is_err());
    }

    /// What is to be followed is named once, and is what it says it is.
    #[test]
    fn one_thing_is_followed() {
        let of = |client: Option<&str>, topic: Option<&str>, address: Option<&str>| {
            let [client, topic, address] = [client, topic, address].map(|text| text.map(str::to_owned));
            Wanted { client, topic, address, ..Wanted::default() }.trace(1)
        };
        assert!(of(Some("a"), None, None).is_ok() && of(None, Some("a/+"), None).is_ok());
        assert!(
            of(None, None, Some("192.0.2.0/24")).is_ok() && of(None, None, Some("192.0.2.1/24")).is_err()
        );
        assert!(of(None, None, None).is_err() && of(Some("a"), Some("b"), None).is_err());
        assert!(of(None, Some("a/#/b"), None).is_err() && of(None, Some("$share/g/a"), None).is_err());
        assert!(
            Wanted { seconds: Some(0), client: Some("a".to_owned()), ..Wanted::default() }.trace(1).is_err()
        );
    }
}

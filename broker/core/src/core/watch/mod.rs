//! What is told of single messages: to tenants that want to know (`tenant.events = "debug"`) and to traces. With
//! neither, every step of a message asks one flag and goes on.
//!
//! A trace is the same on every core: each keeps its own lines, up to a maximum, and gives them to whoever asks. It
//! ends by itself, at the first step after its time.

use std::collections::BTreeMap;
use std::sync::Arc;

use mqtt::QoS;

mod follow;
mod steps;

use follow::{Follow, Followed};

use super::Core;
use crate::config::Config;
use crate::identity::ConnectionId;
use crate::input::Outputs;
use crate::message::hash_client;
use crate::notice::{About, Event, Level, Notice};
use crate::sight::{Page, Trace, TraceLine, TraceState, Traced};
use crate::time::{Mono, Now};

/// Traces that one core has at a time. Those that have ended and were not removed are among them, until another needs
/// the place.
const TRACES_MAX: usize = 16;

/// Lines of a page, and bytes of names in them: a topic may have 64 KiB.
const PAGE_LINES_MAX: usize = 256;
const PAGE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of names in all lines of a trace on one core.
const LINES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages of which it is remembered what will be acknowledged by its identifier alone.
const UNACKNOWLEDGED_MAX: usize = 16_384;

/// Below it stands what the broker says itself, its events too: what happens to that makes no events.
const OURS: &str = "$SYS/";

/// Which way a message goes that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum Way {
    FromClient,
    ToClient,
}

/// What one core tells of single messages.
#[derive(Default)]
pub(in crate::core) struct Watch {
    /// Somebody wants to know.
    on: bool,
    /// Some tenant has events of single messages.
    debug: bool,
    /// Now, as the input at hand has it.
    now: Now,
    traces: Vec<Running>,
    /// What is not among the outputs yet.
    noticed: Vec<Notice>,
    unacknowledged: BTreeMap<(ConnectionId, Way, u16), About>,
    /// What other cores have to know of traces by address.
    untold: Vec<Follow>,
}

/// Steps of messages to one client, gathered while its queue is worked off. Costs nothing while nobody wants them.
pub(in crate::core) struct Steps {
    on: bool,
    steps: Vec<(About, Event)>,
}

impl Steps {
    #[inline]
    pub(in crate::core) fn add(&mut self, step: impl FnOnce() -> (About, Event)) {
        if self.on {
            self.steps.push(step());
        }
    }
}

struct Running {
    trace: Trace,
    /// Of its client, if it is for one.
    client_hash: Option<u64>,
    /// Clients from its addresses, if it is for some.
    followed: Followed,
    begun: Mono,
    until: Mono,
    ended: bool,
    lines: Vec<TraceLine>,
    /// Of names in them.
    bytes: usize,
    missed: u64,
}

/// Bytes of names in a line.
fn bytes_of(notice: &Notice) -> usize {
    let topic = notice.message.as_deref().map_or(0, |about| about.topic.len());
    topic + notice.client.as_deref().map_or(0, str::len)
}

impl Watch {
    /// Whether anybody wants to know of single messages.
    #[inline]
    pub(in crate::core) fn is_on(&self) -> bool {
        self.on
    }

    /// To gather steps in.
    #[inline]
    pub(in crate::core) fn steps(&self) -> Steps {
        Steps { on: self.on, steps: Vec::new() }
    }

    /// An input has come.
    #[inline]
    pub(in crate::core) fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// Tenants have other settings.
    pub(in crate::core) fn configure(&mut self, config: &Config) {
        let mut settings = std::iter::once(&config.settings).chain(config.tenants.values());
        self.debug = config.notices && settings.any(|settings| settings.events == Level::Debug);
        self.switch();
    }

    fn switch(&mut self) {
        self.on = self.debug || self.traces.iter().any(|trace| !trace.ended);
        if !self.on {
            self.unacknowledged.clear();
        }
    }

    /// Takes a step of a message.
    fn take(&mut self, config: &Config, notice: Notice) {
        self.trace(&notice);
        let about = notice.message.as_deref();
        let wanted = |tenant: &Arc<str>| config.settings(tenant).events == Level::Debug;
        if self.debug
            && notice.kind().is_some()
            && notice.tenant.as_ref().is_some_and(wanted)
            && !about.is_some_and(is_ours)
        {
            self.noticed.push(notice);
        }
    }

    /// Gives the traces what they are for.
    fn trace(&mut self, notice: &Notice) {
        let now = self.now;
        let mut ended = false;
        for running in self.traces.iter_mut().filter(|running| !running.ended) {
            if now.monotonic >= running.until {
                (running.ended, ended) = (true, true);
                continue;
            }
            if let Traced::Address(network) = &running.trace.of
                && let Some((tenant, client_hash)) =
                    running.followed.on_notice(now.monotonic, network, notice)
            {
                self.untold.push(Follow { number: running.trace.number, tenant, client_hash });
            }
            if running.wants(notice) {
                running.take(now, notice);
            }
        }
        if ended {
            self.switch();
        }
    }

    /// Which message is acknowledged; a last acknowledgement forgets it.
    fn acknowledged(&mut self, key: (ConnectionId, Way, u16), last: bool) -> About {
        let known =
            if last { self.unacknowledged.remove(&key) } else { self.unacknowledged.get(&key).cloned() };
        let packet_id = Some(key.2);
        // It came before anybody wanted to know.
        let unknown =
            || About { topic: "".into(), qos: QoS::AtLeastOnce, bytes: 0, packet_id, publisher: None };
        known.unwrap_or_else(unknown)
    }
}

/// Whether a message is the broker's own: one that no client has published.
fn is_ours(about: &About) -> bool {
    about.topic.starts_with(OURS) && about.publisher.is_none_or(|hash| hash == 0)
}

impl Running {
    fn wants(&self, notice: &Notice) -> bool {
        let of = |tenant: &str| notice.tenant.as_ref().is_some_and(|it| **it == *tenant);
        let about = notice.message.as_deref();
        match &self.trace.of {
            Traced::Client { tenant, client } => {
                let published = about.is_some_and(|about| about.publisher == self.client_hash);
                of(tenant) && (published || notice.client.as_deref() == Some(&**client))
            }
            Traced::Topic { tenant, filter } => {
                of(tenant) && about.is_some_and(|about| mqtt::filter_matches(filter, &about.topic))
            }
            Traced::Address(network) => {
                notice.peer.is_some_and(|peer| network.contains(peer.ip()))
                    || self.followed.has_published(notice)
            }
        }
    }

    fn take(&mut self, now: Now, notice: &Notice) {
        let bytes = self.bytes + bytes_of(notice);
        if self.lines.len() < self.trace.lines_max as usize && bytes <= LINES_BYTES_MAX {
            self.bytes = bytes;
            self.lines.push(TraceLine { at: now, notice: notice.clone() });
        } else {
            self.missed += 1;
        }
    }

    fn state(&self, now: Mono) -> TraceState {
        TraceState {
            trace: self.trace.clone(),
            begun: self.begun,
            running: !self.ended && now < self.until,
            lines: self.lines.len() as u32,
            missed: self.missed,
        }
    }
}

impl Core {
    /// Something has happened to a connection or session that traces may be for.
    pub(in crate::core) fn trace(&mut self, notice: &Notice) {
        if self.watch.on {
            self.watch.trace(notice);
            self.tell_followed();
        }
    }

    /// Whether notices of connections are wanted at all.
    pub(in crate::core) fn wants_notices(&self) -> bool {
        self.config.notices || self.watch.on
    }

    /// Tells the host of single messages; before what it is told of connections, so that the order holds.
    pub(in crate::core) fn tell_noticed(&mut self, out: &mut Outputs) {
        out.notices.append(&mut self.watch.noticed);
    }

    /// Begins a trace, in place of one with the same number. False: there are too many.
    pub(in crate::core) fn start_trace(&mut self, trace: Trace) -> bool {
        let traces = &mut self.watch.traces;
        traces.retain(|running| running.trace.number != trace.number);
        if traces.len() >= TRACES_MAX {
            // Whoever began it does not come for it any more, or had time to.
            let now = self.watch.now.monotonic;
            let over = |running: &Running| running.ended || now >= running.until;
            let Some(oldest) = traces.iter().position(over) else { return false };
            traces.remove(oldest);
        }
        let client_hash = match &trace.of {
            Traced::Client { client, .. } => Some(hash_client(client)),
            Traced::Topic { .. } | Traced::Address(_) => None,
        };
        let begun = self.watch.now.monotonic;
        let until = begun.after(std::time::Duration::from_secs(u64::from(trace.seconds)));
        let (followed, lines, bytes, missed, ended) = (Followed::default(), Vec::new(), 0, 0, false);
        traces.push(Running { trace, client_hash, followed, begun, until, ended, lines, bytes, missed });
        self.watch.switch();
        true
    }

    /// Ends a trace, and forgets it if it is to be removed. False: there is none.
    pub(in crate::core) fn stop_trace(&mut self, number: u64, remove: bool) -> bool {
        let traces = &mut self.watch.traces;
        let Some(at) = traces.iter().position(|running| running.trace.number == number) else { return false };
        traces[at].ended = true;
        if remove {
            traces.remove(at);
        }
        self.watch.switch();
        true
    }

    pub(in crate::core) fn traces(&self) -> Vec<TraceState> {
        let now = self.watch.now.monotonic;
        self.watch.traces.iter().map(|running| running.state(now)).collect()
    }

    /// Some of a trace's lines, from one on; None: there is no such trace.
    pub(in crate::core) fn trace_lines(&self, number: u64, from: u32) -> Option<Page<TraceLine>> {
        let running = self.watch.traces.iter().find(|running| running.trace.number == number)?;
        let mut bytes = 0;
        let lines = running.lines.iter().skip(from as usize).take(PAGE_LINES_MAX).take_while(|line| {
            let is_first = bytes == 0;
            bytes += bytes_of(&line.notice).max(1);
            is_first || bytes <= PAGE_BYTES_MAX
        });
        let items: Vec<_> = lines.cloned().collect();
        let next = from + items.len() as u32;
        let next = ((next as usize) < running.lines.len()).then_some(next);
        Some(Page { items, next })
    }
}

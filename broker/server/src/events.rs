//! What happens to clients and sessions, as lines of JSON in a file: for whoever wants to know later, or to feed
//! something else. Cores hand over records and never wait; a thread writes. What does not fit into the queue is counted,
//! and the count is a record of its own.
//!
//! Types are called as in BifroMQ, as far as they are here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use broker_core::config::{Field, Key, Kind, Value};
use broker_core::counters::{Counters, DropReason};
use broker_core::identity::CoreId;
use broker_core::keys;
use broker_core::notice::{Event, Notice};
use broker_core::time::Wall;
use crossbeam_channel::{Receiver, Sender, bounded};
use mqtt::ReasonCode;
use serde_json::{Map, json};

use crate::auth::FileName;

/// `[events]`: what is written down of what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The file.
    pub(crate) file: FileName,
    /// Its most bytes, then it gives way to a new one.
    pub(crate) file_bytes_max: u64,
    /// Records that may wait to be written.
    pub(crate) queue_max: u32,
    /// Tenants whose events are wanted.
    pub(crate) tenants: Tenants,
    /// Those of single requests, too.
    pub(crate) debug: bool,
}

impl Settings {
    pub(crate) const KEYS: &'static [Key<Settings>] = keys!(Settings {
        file,
        file_bytes_max in 4096..=9_223_372_036_854_775_807,
        queue_max in 1..=1_000_000,
        tenants,
        debug,
    } beside {});
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            file: FileName::default(),
            file_bytes_max: 256 * 1024 * 1024,
            queue_max: 16_384,
            tenants: Tenants(Vec::new()),
            debug: false,
        }
    }
}

/// Names of tenants; none: all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenants(Vec<Box<str>>);

impl Field for Tenants {
    const KIND: Kind = Kind::Text("tenants as in \"acme, factory\", or \"\" for all");

    fn read(value: &Value) -> Option<Tenants> {
        let Value::Text(text) = value else { return None };
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Some(Tenants(names.map(Box::from).collect()))
    }

    fn write(&self) -> Value {
        Value::Text(self.0.join(", "))
    }
}

/// The way to the file, for one core. What does not fit is counted.
#[derive(Clone)]
pub(crate) struct Events {
    records: Sender<Record>,
    lost: Arc<AtomicU64>,
    tenants: Arc<[Box<str>]>,
    debug: bool,
}

/// One line to be.
struct Record {
    at: Wall,
    core: CoreId,
    what: What,
}

enum What {
    Notice(Notice),
    /// Messages were not delivered, since the last of these.
    Dropped(DropReason, u64),
}

impl Events {
    /// Begins to write where the settings say; None: nowhere.
    ///
    /// # Errors
    /// The file cannot be written to, or there can be no thread.
    pub(crate) fn start(settings: &Settings) -> io::Result<Option<Events>> {
        let Some(path) = settings.file.path() else { return Ok(None) };
        let mut writer = Writer::open(path, settings.file_bytes_max)?;
        let (records, incoming) = bounded(settings.queue_max as usize);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || writer.write_all(&incoming, &counted))?;
        let tenants = settings.tenants.0.as_slice().into();
        Ok(Some(Events { records, lost, tenants, debug: settings.debug }))
    }

    /// A core has noticed something.
    pub(crate) fn notice(&self, at: Wall, core: CoreId, notice: Notice) {
        let wanted = notice.tenant.as_ref().is_none_or(|tenant| self.wants(tenant));
        if wanted && (self.debug || !is_debug(&notice.event)) {
            self.send(Record { at, core, what: What::Notice(notice) });
        }
    }

    /// What a core has counted meanwhile of messages that were not delivered.
    pub(crate) fn dropped(&self, at: Wall, core: CoreId, before: &Counters, now: &Counters) {
        for reason in DropReason::ALL {
            let count = now.dropped(reason) - before.dropped(reason);
            if count > 0 {
                self.send(Record { at, core, what: What::Dropped(reason, count) });
            }
        }
    }

    fn wants(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|wanted| **wanted == *tenant)
    }

    fn send(&self, record: Record) {
        if self.records.try_send(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Events of which there is one for each request.
fn is_debug(event: &Event) -> bool {
    matches!(event, Event::Subscribed | Event::Unsubscribed)
}

/// What BifroMQ calls it.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Greeted { .. } => "CLIENT_CONNECTED",
        Event::SessionStarted => "MQTT_SESSION_START",
        Event::SessionEnded => "MQTT_SESSION_STOP",
        Event::ConnectTimeout => "CONNECT_TIMEOUT",
        Event::ConnectionsMax => "CHANNEL_ERROR",
        Event::NotMqtt => "PROTOCOL_ERROR",
        Event::Limit(_) => "OUT_OF_TENANT_RESOURCE",
        Event::Left(_) => "BY_CLIENT",
        Event::Lost => "CLIENT_CHANNEL_ERROR",
        Event::Subscribed => "SUB_ACKED",
        Event::Unsubscribed => "UNSUB_ACKED",
        Event::SubscribeDenied(_) => "SUB_ACTION_DISALLOW",
        Event::WillPublished => "WILL_DISTED",
        Event::Refused(reason) => refusal(*reason),
        Event::Closed(reason) => closing(*reason),
    }
}

/// Why a client was not let in.
fn refusal(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => "UNACCEPTED_PROTOCOL_VER",
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => "IDENTIFIER_REJECTED",
        ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::BAD_AUTHENTICATION_METHOD => {
            "UNAUTHENTICATED_CLIENT"
        }
        ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => "NOT_AUTHORIZED_CLIENT",
        ReasonCode::SERVER_BUSY | ReasonCode::SERVER_UNAVAILABLE => "SERVER_BUSY",
        ReasonCode::QUOTA_EXCEEDED | ReasonCode::CONNECTION_RATE_EXCEEDED => "RESOURCE_THROTTLED",
        ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED => "SERVER_REDIRECTED",
        ReasonCode::TOPIC_NAME_INVALID => "MALFORMED_WILL_TOPIC",
        ReasonCode::UNSPECIFIED_ERROR => "AUTH_ERROR",
        _ => "PROTOCOL_ERROR",
    }
}

/// Why we have closed a client.
fn closing(reason: ReasonCode) -> &'static str {
    match reason {
        ReasonCode::MALFORMED_PACKET | ReasonCode::PACKET_TOO_LARGE => "BAD_PACKET",
        ReasonCode::SERVER_SHUTTING_DOWN => "BY_SERVER",
        ReasonCode::SERVER_BUSY => "SERVER_BUSY",
        ReasonCode::KEEP_ALIVE_TIMEOUT => "IDLE",
        ReasonCode::TOPIC_NAME_INVALID => "INVALID_TOPIC",
        ReasonCode::TOPIC_FILTER_INVALID => "INVALID_TOPIC_FILTER",
        ReasonCode::SESSION_TAKEN_OVER | ReasonCode::ADMINISTRATIVE_ACTION => "KICKED",
        ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED => "SERVER_REDIRECTED",
        ReasonCode::NOT_AUTHORIZED | ReasonCode::MAXIMUM_CONNECT_TIME => "RE_AUTH_FAILED",
        ReasonCode::RECEIVE_MAXIMUM_EXCEEDED => "EXCEED_RECEIVING_LIMIT",
        ReasonCode::QUOTA_EXCEEDED => "RESOURCE_THROTTLED",
        _ => "PROTOCOL_VIOLATION",
    }
}

/// The line of a record.
fn line(record: &Record) -> String {
    let mut fields = Map::new();
    let mut put = |name: &str, value| {
        fields.insert(name.to_owned(), value);
    };
    put("at_ms", json!(record.at.0));
    put("core", json!(record.core.0));
    match &record.what {
        What::Dropped(reason, count) => {
            let overflowed = *reason == DropReason::QueueFull;
            put("type", json!(if overflowed { "OVERFLOWED" } else { "DISCARD" }));
            put("reason", json!(reason.name()));
            put("messages", json!(count));
        }
        What::Notice(notice) => {
            put("type", json!(kind(&notice.event)));
            put("event", json!(notice.event.name()));
            if let Some(tenant) = &notice.tenant {
                put("tenant", json!(&**tenant));
            }
            if let Some(client) = &notice.client {
                put("client_id", json!(&**client));
            }
            if let Some(peer) = notice.peer {
                put("peer", json!(peer.to_string()));
            }
            if let Event::Refused(reason)
            | Event::Closed(reason)
            | Event::Left(reason)
            | Event::SubscribeDenied(reason) = notice.event
            {
                put("reason_code", json!(reason.value()));
            }
        }
    }
    serde_json::Value::Object(fields).to_string()
}

/// The file. Lives on its own thread.
struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    bytes_max: u64,
}

impl Writer {
    fn open(path: &Path, bytes_max: u64) -> io::Result<Writer> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Writer { path: path.to_owned(), file: BufWriter::new(file), bytes, bytes_max })
    }

    /// Writes until there is nobody left to send anything.
    fn write_all(&mut self, records: &Receiver<Record>, lost: &AtomicU64) {
        let (mut told, mut warned) = (0, false);
        for record in records {
            let mut written = self.write(&line(&record));
            let now_lost = lost.load(Ordering::Relaxed);
            if now_lost > told {
                let gap = json!({"at_ms": record.at.0, "type": "EVENTS_LOST", "events": now_lost - told});
                told = now_lost;
                written = written.and(self.write(&gap.to_string()));
            }
            if records.is_empty() {
                written = written.and(self.file.flush());
            }
            if let Err(error) = written
                && !std::mem::replace(&mut warned, true)
            {
                tracing::error!("events.file {}: {error}; events are lost", self.path.display());
            }
        }
    }

    /// Appends a line; a file that is full becomes the one before, in place of a former one.
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes >= self.bytes_max {
            self.file.flush()?;
            let mut before = self.path.clone().into_os_string();
            before.push(".1");
            fs::rename(&self.path, before)?;
            *self = Writer::open(&self.path, self.bytes_max)?;
        }
        self.bytes += line.len() as u64 + 1;
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use broker_core::identity::ConnectionId;

    use super::*;

    fn notice(event: Event, tenant: Option<&str>) -> Notice {
        let connection = Some(ConnectionId { slot: 1, generation: 1 });
        let (peer, client) = (Some("192.0.2.7:1".parse().unwrap()), Some("a \"client\"".into()));
        Notice { connection, peer, tenant: tenant.map(Arc::from), client, event }
    }

    fn settings(folder: &tempfile::TempDir) -> Settings {
        Settings { file: FileName(Some(folder.path().join("events"))), ..Settings::default() }
    }

    /// The lines of a file, once the thread has written them.
    fn lines(events: Events, folder: &tempfile::TempDir) -> Vec<serde_json::Value> {
        let Events { records, lost, .. } = events;
        drop(records);
        while Arc::strong_count(&lost) > 1 {
            thread::yield_now();
        }
        let text = fs::read_to_string(folder.path().join("events")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Each event is a line of JSON with its type and all that is known; those of other tenants and of single requests
    /// are left out, and what is wanted of them is not.
    #[test]
    fn events_are_lines() {
        let folder = tempfile::TempDir::new().unwrap();
        let tenants = Tenants::read(&Value::Text("acme, other".to_owned())).unwrap();
        let events = Events::start(&Settings { tenants, ..settings(&folder) }).unwrap().unwrap();
        let refused = Event::Refused(ReasonCode::BANNED);
        events.notice(Wall(5), CoreId(2), notice(refused, Some("acme")));
        events.notice(Wall(5), CoreId(2), notice(refused, Some("unknown")));
        events.notice(Wall(5), CoreId(2), notice(Event::Subscribed, Some("acme")));
        events.notice(Wall(6), CoreId(2), notice(Event::ConnectTimeout, None));
        let mut counters = Counters::default();
        counters.drop_messages(DropReason::QueueFull, 7);
        events.dropped(Wall(7), CoreId(1), &Counters::default(), &counters);
        let lines = lines(events, &folder);
        let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["NOT_AUTHORIZED_CLIENT", "CONNECT_TIMEOUT", "OVERFLOWED"]);
        let expected = json!({
            "at_ms": 5, "core": 2, "type": "NOT_AUTHORIZED_CLIENT", "event": "refused", "tenant": "acme",
            "client_id": "a \"client\"", "peer": "192.0.2.7:1", "reason_code": 0x8a,
        });
        assert_eq!(lines[0], expected);
        assert_eq!(lines[2]["messages"], 7);
    }

    /// A full file gives way to a new one, and only one old one is kept; together they have all that came last.
    #[test]
    fn files_are_bounded() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("events");
        let mut writer = Writer::open(&path, 100).unwrap();
        for number in 0..100 {
            writer.write(&format!("line number {number:04}")).unwrap();
        }
        writer.file.flush().unwrap();
        let former = fs::read_to_string(folder.path().join("events.1")).unwrap();
        let now = fs::read_to_string(&path).unwrap();
        assert!(former.len() < 200 && now.len() < 200 && now.ends_with("line number 0099\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    /// A queue that is full loses what comes, says how much, and holds nobody up.
    #[test]
    fn queue_is_bounded() {
        let (records, incoming) = bounded(2);
        let lost = Arc::new(AtomicU64::new(0));
        let events = Events { records, lost: Arc::clone(&lost), tenants: Arc::default(), debug: true };
        for _ in 0..5 {
            events.notice(Wall(1), CoreId(0), notice(Event::Lost, None));
        }
        drop(events);
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("events");
        Writer::open(&path, 10_000).unwrap().write_all(&incoming, &lost);
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("\"EVENTS_LOST\"") && text.contains("\"events\":3"));
    }
}

//! What happens to clients, sessions and messages, for whoever wants to know: as lines of JSON in a file, to a service
//! by HTTP, and to the tenants' own subscribers below `$SYS/events/`. Each tenant has its choice (`tenant.events`,
//! `tenant.events_sinks`, `tenant.events_types`). Cores hand over records and never wait; what does not fit into a
//! queue is counted. What is of no tenant, because its client was not let in, goes by the default tenant's choice, and
//! never to topics.

mod file;
mod record;
mod settings;
mod webhook;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use broker_core::config::{Config, Sinks};
use broker_core::counters::{Counters, DropReason};
use broker_core::identity::CoreId;
use broker_core::notice::{Kind, Level, Notice};
use broker_core::sight::Publish;
use broker_core::time::Wall;
use crossbeam_channel::{Receiver, Sender, bounded};
use mqtt::QoS;

use self::file::Writer;
use self::record::What;
pub(crate) use self::record::{Described, Record};
pub(crate) use self::settings::Settings;
use self::webhook::Webhook;
use crate::auth::{self, LoadError};
use crate::clock::Clock;
use crate::http::Url;

/// Below it the events of a tenant are published, by type.
const TOPICS: &str = "$SYS/events/";

/// Why events cannot go where they are to.
#[derive(Debug)]
pub(crate) enum EventsError {
    /// The file cannot be written to.
    File(io::Error),
    /// It is not known whom to believe that the service is who it says.
    Authorities(LoadError),
    /// There can be no thread.
    Thread(io::Error),
}

impl std::error::Error for EventsError {}

impl fmt::Display for EventsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventsError::File(error) => write!(f, "events.file: {error}"),
            EventsError::Authorities(error) => error.fmt(f),
            EventsError::Thread(error) => write!(f, "no thread for events: {error}"),
        }
    }
}

/// What has come of the events for one sink, on all cores.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    taken: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// Handed over, or published.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// There was no room for them, or nobody took them.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Requests that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self, events: u64) {
        self.lost.fetch_add(events, Ordering::Relaxed);
    }

    fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counts of all sinks.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllCounts {
    pub(crate) file: Arc<Counts>,
    pub(crate) webhook: Arc<Counts>,
    pub(crate) topics: Arc<Counts>,
}

/// The way to a thread.
#[derive(Clone)]
struct Sink {
    records: Sender<Arc<Record>>,
    counts: Arc<Counts>,
}

impl Sink {
    fn send(&self, record: &Arc<Record>) {
        match self.records.try_send(Arc::clone(record)) {
            Ok(()) => self.counts.take(),
            Err(_) => self.counts.lose(1),
        }
    }
}

/// The way to the sinks, for one core.
#[derive(Clone)]
pub(crate) struct Events {
    config: Arc<Config>,
    file: Option<Sink>,
    webhook: Option<Sink>,
    topics: Arc<Counts>,
}

/// The threads behind the sinks. They end when the cores have.
#[derive(Default)]
pub(crate) struct Threads {
    threads: Vec<JoinHandle<()>>,
    pub(crate) counts: AllCounts,
}

impl Threads {
    /// Waits until all is written that came, but not for long.
    pub(crate) fn finish(&self, clock: Clock, within: Duration) {
        let until = clock.monotonic().after(within);
        while self.threads.iter().any(|thread| !thread.is_finished()) && clock.monotonic() < until {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

impl Events {
    /// Begins to tell those whom the settings name.
    ///
    /// # Errors
    /// The file cannot be written to, or there can be no thread.
    pub(crate) fn start(
        settings: &Settings,
        config: &Arc<Config>,
        clock: Clock,
    ) -> Result<(Events, Threads), EventsError> {
        let mut threads = Threads::default();
        let queue_max = settings.queue_max as usize;
        let file = settings.file.path().map(|path| {
            let mut writer = Writer::open(path, settings.file_bytes_max).map_err(EventsError::File)?;
            let counts = Arc::clone(&threads.counts.file);
            start_sink(&mut threads, ("events", queue_max), counts, move |records, counts| {
                writer.write_all(records, counts);
            })
        });
        let file = file.transpose()?;
        let webhook = webhook(settings, clock)?.map(|webhook| {
            let counts = Arc::clone(&threads.counts.webhook);
            start_sink(&mut threads, ("webhook", queue_max), counts, move |records, counts| {
                webhook.tell_all(records, counts);
            })
        });
        let webhook = webhook.transpose()?;
        let topics = Arc::clone(&threads.counts.topics);
        Ok((Events { config: Arc::clone(config), file, webhook, topics }, threads))
    }

    /// Tenants have made other choices.
    pub(crate) fn configure(&mut self, config: &Arc<Config>) {
        self.config = Arc::clone(config);
    }

    /// A core has noticed something. What is to be published of it.
    pub(crate) fn notice(&self, at: Wall, core: CoreId, notice: Notice) -> Option<Publish> {
        let kind = notice.kind()?;
        let tenant = notice.tenant.clone();
        let sinks = self.sinks(tenant.as_deref(), kind)?;
        let record = Arc::new(Record { at, core, what: What::Notice(notice) });
        self.send(sinks, &record);
        let tenant = tenant.filter(|_| sinks.topics)?;
        Some(Publish {
            tenant: (*tenant).into(),
            topic: format!("{TOPICS}{}", kind.name).into(),
            // Each subscriber says itself whether they wait for it.
            qos: QoS::AtLeastOnce,
            retain: false,
            payload: record.describe().to_json().into_bytes(),
            properties: Vec::new(),
            expiry_seconds: None,
        })
    }

    /// What a core has counted meanwhile of messages that were not delivered.
    pub(crate) fn dropped(&self, at: Wall, core: CoreId, before: &Counters, now: &Counters) {
        for reason in DropReason::ALL {
            let count = now.dropped(reason) - before.dropped(reason);
            if count > 0
                && let Some(sinks) = self.sinks(None, Kind::of_losses(reason))
            {
                self.send(sinks, &Arc::new(Record { at, core, what: What::Lost(reason, count) }));
            }
        }
    }

    /// An event is published.
    pub(crate) fn take_publication(&self) {
        self.topics.take();
    }

    /// There is no room for an event that was to be published.
    pub(crate) fn lose_publication(&self) {
        self.topics.lose(1);
    }

    /// Where a tenant wants an event to go; None: it does not want it.
    fn sinks(&self, tenant: Option<&str>, kind: Kind) -> Option<Sinks> {
        let settings = self.config.settings(tenant.unwrap_or(&self.config.default_tenant));
        let wanted = settings.events >= kind.level
            && settings.events != Level::None
            && settings.events_types.have(kind);
        wanted.then_some(settings.events_sinks)
    }

    fn send(&self, sinks: Sinks, record: &Arc<Record>) {
        if let Some(file) = self.file.as_ref().filter(|_| sinks.file) {
            file.send(record);
        }
        if let Some(webhook) = self.webhook.as_ref().filter(|_| sinks.webhook) {
            webhook.send(record);
        }
    }
}

fn start_sink(
    threads: &mut Threads,
    (name, queue_max): (&str, usize),
    counts: Arc<Counts>,
    run: impl FnOnce(&Receiver<Arc<Record>>, &Counts) + Send + 'static,
) -> Result<Sink, EventsError> {
    let (records, incoming) = bounded(queue_max);
    let theirs = Arc::clone(&counts);
    let builder = thread::Builder::new().name(name.to_owned());
    let thread = builder.spawn(move || run(&incoming, &theirs)).map_err(EventsError::Thread)?;
    threads.threads.push(thread);
    Ok(Sink { records, counts })
}

/// Whether what the settings name can be used, without a look at the file or a word to the service.
pub(crate) fn check(settings: &Settings) -> Result<(), EventsError> {
    webhook(settings, Clock::start()).map(drop)
}

/// The service that the settings name, if they name one.
fn webhook(settings: &Settings, clock: Clock) -> Result<Option<Webhook>, EventsError> {
    let Some(url) = settings.webhook_url.0.clone() else { return Ok(None) };
    let trusted = || auth::authorities("events.webhook_ca", &settings.webhook_ca);
    let tls = Url::is_secure(&url).then(trusted).transpose().map_err(EventsError::Authorities)?;
    Ok(Some(Webhook {
        url,
        tls,
        clock,
        timeout: Duration::from_millis(u64::from(settings.webhook_timeout_ms)),
        retries_max: settings.webhook_retries_max,
        batch_max: settings.webhook_batch_max as usize,
        linger: Duration::from_millis(u64::from(settings.webhook_linger_ms)),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use broker_core::config::{Settings as OfTenant, Types};
    use broker_core::identity::ConnectionId;
    use broker_core::notice::Event;
    use mqtt::ReasonCode;
    use serde_json::json;

    use super::*;
    use crate::auth::FileName;

    fn notice(event: Event, tenant: Option<&str>) -> Notice {
        let connection = Some(ConnectionId { slot: 1, generation: 1 });
        let (peer, client) = (Some("192.0.2.7:1".parse().unwrap()), Some("a \"client\"".into()));
        Notice { connection, peer, tenant: tenant.map(Arc::from), client, event, message: None }
    }

    fn config(tenants: &[(&str, OfTenant)]) -> Arc<Config> {
        let own = |(name, settings): &(&str, OfTenant)| ((*name).to_owned(), Arc::new(settings.clone()));
        Arc::new(Config { tenants: tenants.iter().map(own).collect(), ..Config::default() })
    }

    /// Events with a file, what is done with them, and the lines that are in the file then.
    fn lines(config: &Arc<Config>, say: impl FnOnce(&Events)) -> Vec<serde_json::Value> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("events");
        let settings = Settings { file: FileName(Some(path.clone())), ..Settings::default() };
        let (events, threads) = Events::start(&settings, config, Clock::start()).unwrap();
        say(&events);
        drop(events);
        threads.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Each event is a line of JSON with its type and all that is known; those that a tenant has not chosen are left
    /// out.
    #[test]
    fn events_are_lines() {
        let quiet = OfTenant { events: Level::None, ..OfTenant::default() };
        let types = <Types as broker_core::config::Field>::read(&broker_core::config::Value::Text(
            "SUB_ACKED, KICKED".to_owned(),
        ));
        let choosy = OfTenant { events: Level::Debug, events_types: types.unwrap(), ..OfTenant::default() };
        let config = config(&[("quiet", quiet), ("choosy", choosy)]);
        let refused = Event::Refused(ReasonCode::BANNED, None);
        let lines = lines(&config, |events| {
            for (event, tenant) in [
                (refused, Some("acme")),
                (refused, Some("quiet")),
                (Event::Subscribed, Some("acme")),
                (Event::Subscribed, Some("choosy")),
                (Event::Lost, Some("choosy")),
                (Event::ConnectTimeout, None),
            ] {
                assert_eq!(events.notice(Wall(5), CoreId(2), notice(event, tenant)), None);
            }
            let mut counters = Counters::default();
            counters.drop_messages(DropReason::QueueFull, 7);
            events.dropped(Wall(7), CoreId(1), &Counters::default(), &counters);
        });
        let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["NOT_AUTHORIZED_CLIENT", "SUB_ACKED", "CONNECT_TIMEOUT", "OVERFLOWED"]);
        let expected = json!({
            "at_ms": 5, "core": 2, "type": "NOT_AUTHORIZED_CLIENT", "event": "refused", "tenant": "acme",
            "client_id": "a \"client\"", "peer": "192.0.2.7:1", "reason_code": 0x8a,
        });
        assert_eq!(lines[0], expected);
        assert_eq!(lines[3]["messages"], 7);
    }

    /// A tenant that wants its events as messages has each on the topic of its type, and nobody has those that are of
    /// no tenant.
    #[test]
    fn events_are_published() {
        let topics = Sinks { file: false, webhook: false, topics: true };
        let acme = OfTenant { events_sinks: topics, ..OfTenant::default() };
        let mut config = Config::clone(&config(&[("acme", acme.clone())]));
        config.settings = Arc::new(acme);
        let lines = lines(&Arc::new(config), |events| {
            let published = events.notice(Wall(5), CoreId(0), notice(Event::Lost, Some("acme"))).unwrap();
            assert_eq!((&*published.tenant, &*published.topic), ("acme", "$SYS/events/CLIENT_CHANNEL_ERROR"));
            let payload: serde_json::Value = serde_json::from_slice(&published.payload).unwrap();
            assert_eq!(payload["client_id"], "a \"client\"");
            assert_eq!(events.notice(Wall(5), CoreId(0), notice(Event::ConnectTimeout, None)), None);
        });
        assert_eq!(lines.len(), 0);
    }

    /// A queue that is full loses what comes, says how much, and holds nobody up.
    #[test]
    fn queue_is_bounded() {
        let (records, incoming) = bounded(2);
        let counts = Arc::new(Counts::default());
        let file = Some(Sink { records, counts: Arc::clone(&counts) });
        let events = Events { config: config(&[]), file, webhook: None, topics: Arc::default() };
        for _ in 0..5 {
            events.notice(Wall(1), CoreId(0), notice(Event::Lost, None));
        }
        drop(events);
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("events");
        Writer::open(&path, 10_000).unwrap().write_all(&incoming, &counts);
        let text = fs::read_to_string(path).unwrap();
        assert_eq!((text.lines().count(), counts.taken(), counts.lost()), (3, 2, 3));
        assert!(text.contains("\"EVENTS_LOST\"") && text.contains("\"events\":3"));
    }
}

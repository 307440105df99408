//! The node: one process. It starts a thread per core, waits for what they and the signals say, and stops
//! them in order. It never touches a connection; once the cores run it only waits.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_core::Core;
use broker_core::config::{Config, ConfigError};
use broker_core::counters::Counters;
use broker_core::identity::CoreId;
use broker_core::sight::Ask;
use broker_core::storage::StoredLog;
use broker_core::time::Mono;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::admin::{self, Admin, AdminError, Answers, Facts, ToCore};
use crate::admission::{Bite, Gate};
use crate::auth::{self, Authenticator, LoadError, Loaded, OpenDoor, Workers};
use crate::cli::Io;
use crate::clock::Clock;
use crate::configuration::{Configuration, Data};
use crate::cores::{self, CoresError, CpuList};
use crate::driver::{Driver, FLUSH_DEADLINE, Parts};
use crate::events::Events;
use crate::listener::{self, BindError, Bound, Place as Door};
use crate::mailboxes::{self, Mailboxes};
use crate::poller::{Poller, Waiting};
use crate::reloading::Reloading;
use crate::service::{Manager, State};
use crate::signals::{self, Signal};
use crate::storage::damage::StorageError;
use crate::storage::start::{self, Started};
use crate::storage::{Storage, Stored};
use crate::sys::{self, EventFd};
use crate::transport::{self, Protocol, TlsError};
use crate::watchdog::TurnHistogram;

/// How long an orderly stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// How long the other cores may take to stop when one has panicked.
const PANIC_DEADLINE: Duration = Duration::from_secs(2);

/// Exit code after a panic on a core: EX_SOFTWARE of sysexits(3).
const EXIT_PANIC: u8 = 70;

/// Exit code after a log could not be written: EX_IOERR of sysexits(3).
const EXIT_POISONED: u8 = 74;

/// What a core may be told and not have heard yet.
const CONTROLS_MAX: usize = 64;

/// What the node tells a core.
#[derive(Clone)]
pub(crate) enum Control {
    /// Go by these files from now on.
    Learn(Loaded),
    /// New connections begin like this from now on.
    Speak(Arc<[Protocol]>),
    /// Go on with another configuration.
    Configure(Arc<Config>),
    /// Answer the administration.
    Ask(Box<Ask>),
    /// Begin the orderly stop.
    Stop,
    /// Leave the thread.
    Exit,
}

/// What the node hears.
#[derive(Debug)]
pub(crate) enum Event {
    /// A core runs.
    Started(CoreId, Waiting),
    /// A core cannot run.
    Failed(CoreId, io::Error),
    /// A core has nothing left to stop.
    Stopped(CoreId),
    /// A core panicked; its thread has ended.
    Panicked(CoreId),
    /// A log of a core cannot be written: why. It acknowledges nothing any more.
    Poisoned(CoreId, String),
    /// A signal came.
    Signal(Signal),
}

/// Why a node does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// No CPUs to run on.
    Cores(CoresError),
    /// More cores than a node can number.
    TooManyCores(usize),
    /// A setting is out of range.
    Config(ConfigError),
    /// A file that says who is let in cannot be used.
    Auth(LoadError),
    /// A listener has no certificates.
    Tls(TlsError),
    /// Everybody would be let in.
    Open(OpenDoor),
    /// The data directory cannot be served.
    Storage(StorageError),
    /// An address cannot be listened on.
    Bind(BindError),
    /// There can be no administration where it is configured.
    Admin(AdminError),
    /// A core cannot run.
    Core(CoreId, io::Error),
    /// What happens cannot be written down.
    Events(io::Error),
    /// The kernel refuses something without which no node runs.
    System(io::Error),
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Cores(error) => error.fmt(f),
            StartError::TooManyCores(cores) => write!(f, "{cores} cores are more than a node can have"),
            StartError::Config(error) => error.fmt(f),
            StartError::Auth(error) => error.fmt(f),
            StartError::Tls(error) => error.fmt(f),
            StartError::Open(door) => door.fmt(f),
            StartError::Storage(error) => error.fmt(f),
            StartError::Bind(error) => error.fmt(f),
            StartError::Admin(error) => error.fmt(f),
            StartError::Core(core, error) => write!(
                f,
                "core {} cannot run: {error} (a ring needs LimitMEMLOCK= of 1 MiB per core, \
                 and a sandbox that allows io_uring; --io epoll needs neither)",
                core.0
            ),
            StartError::Events(error) => write!(f, "events.file: {error}"),
            StartError::System(error) => error.fmt(f),
        }
    }
}

/// Serves clients until told to stop.
pub(crate) fn serve(
    mut configuration: Configuration,
    reloading: &Reloading<'_>,
    clock: Clock,
    manager: &mut Manager,
) -> Result<ExitCode, StartError> {
    let cpus = cores::choose(configuration.node.cores.0.as_ref()).map_err(StartError::Cores)?;
    let count = u16::try_from(cpus.0.len()).map_err(|_| StartError::TooManyCores(cpus.0.len()))?;
    let mut config = configuration.core(count, Reloading::notices());
    config.check().map_err(StartError::Config)?;
    let loaded = auth::load(&configuration.auth).map_err(StartError::Auth)?;
    let protocols = transport::load(&configuration.listeners).map_err(StartError::Tls)?;
    let open_files = sys::raise_open_files().map_err(StartError::System)?;
    tracing::info!("hermod {}", env!("CARGO_PKG_VERSION"));
    tracing::info!("cores: {count}, on CPUs {cpus}");
    tracing::info!("limits: {open_files} open files, {} connections per core", config.connections_max);

    let mut bound = Vec::new();
    for (index, listen) in (0..).zip(&configuration.listeners) {
        bound.extend(
            listener::bind(index, &listen.bind, listen.socket_mode.0, count).map_err(StartError::Bind)?,
        );
    }
    let places: Vec<_> = bound.iter().map(|bound| (bound.listener, bound.place.clone())).collect();
    auth::check_doors(&configuration, &places).map_err(StartError::Open)?;
    let administration = admin::bind(&configuration.admin).map_err(StartError::Admin)?;
    let (answers, incoming) = admin::channel();
    let mut started = match &configuration.node.data {
        Data::None => {
            start::say_nothing_is_kept();
            None
        }
        Data::Directory(data) => {
            Some(start::start(data, &configuration.wal, count, clock).map_err(StartError::Storage)?)
        }
    };
    // Which log has which key is the directory's affair, and outlives every configuration.
    configuration.limits.logs = started.as_ref().map_or(0, |started| started.logs);
    config.logs = configuration.limits.logs;
    let beginning = Beginning {
        clock,
        config,
        bound,
        configuration: &configuration,
        loaded: &loaded,
        protocols: &protocols,
        answers: &answers,
        started: started.as_mut(),
    };
    let mut node = Node::start(&cpus, beginning)?;
    node.wait_started()?;
    let parts = node.administrable(incoming, &configuration, cpus.0.clone());
    node.admin = Admin::start(administration, parts).map_err(StartError::System)?;
    for (listener, place) in &node.places {
        let scheme = configuration.listeners[usize::from(*listener)].bind.scheme.name();
        tracing::info!("listening on {scheme}://{place}");
    }
    Ok(node.run(configuration, reloading, manager))
}

/// The running node. Lives on the main thread.
struct Node {
    /// Where clients are accepted, each with the index of its listener.
    places: Vec<(u16, Door)>,
    /// The doors of the listeners, by index.
    gates: Arc<[Gate]>,
    /// What the cores were last told of the files.
    loaded: Loaded,
    workers: Workers,
    clock: Clock,
    cores: Vec<CoreHandle>,
    events: Receiver<Event>,
    admin: Admin,
}

/// All that a node begins with.
struct Beginning<'a> {
    clock: Clock,
    config: Config,
    bound: Vec<Bound>,
    configuration: &'a Configuration,
    /// What the files say that it names.
    loaded: &'a Loaded,
    protocols: &'a Arc<[Protocol]>,
    /// To those who administer.
    answers: &'a Answers,
    /// The data directory, if there is one.
    started: Option<&'a mut Started>,
}

struct CoreHandle {
    /// Returns what the core has counted, unless it has failed.
    thread: JoinHandle<Option<Counters>>,
    control: Sender<Control>,
    wake: Arc<EventFd>,
    histogram: Arc<TurnHistogram>,
    /// Stopped, panicked or told to exit.
    done: bool,
}

impl Node {
    fn start(cpus: &CpuList, beginning: Beginning<'_>) -> Result<Node, StartError> {
        let Beginning { clock, config, bound, configuration, loaded, protocols, answers, started } =
            beginning;
        let places = bound.iter().map(|bound| (bound.listener, bound.place.clone())).collect();
        let gates: Arc<[Gate]> = configuration.listeners.iter().map(|_| Gate::default()).collect();
        let config = Arc::new(config);
        let incarnation = started.as_ref().map_or(Clock::wall().0, |it| it.directory.identity.incarnation);
        let mut stored = started.map(|started| std::mem::take(&mut started.cores).into_iter());
        let (events, incoming) = unbounded();
        signals::start(events.clone()).map_err(StartError::System)?;
        let journal = Events::start(&configuration.events).map_err(StartError::Events)?;
        let mailboxes = mailboxes::mesh(config.cores).map_err(StartError::System)?;
        let wakes: Vec<_> = mailboxes.iter().map(|it| Arc::clone(&it.wake().event)).collect();
        let (workers, desks) =
            Workers::start(&configuration.auth, &config, clock, &wakes).map_err(StartError::System)?;
        let mut bound: Vec<_> = bound.into_iter().map(|b| (b.listener, b.sockets.into_iter())).collect();
        let mut cores = Vec::new();
        for ((mailboxes, desk), &cpu) in mailboxes.into_iter().zip(desks).zip(&cpus.0) {
            let id = mailboxes.own();
            let wake = Arc::clone(&mailboxes.wake().event);
            let (control, controls) = bounded(CONTROLS_MAX);
            let knowledge = Arc::clone(&loaded.knowledge);
            let authenticator = Authenticator::new(knowledge, Arc::clone(&config), desk);
            // The first it hears.
            let _ = control.try_send(Control::Learn(loaded.clone()));
            let histogram = Arc::new(TurnHistogram::default());
            let place = Place {
                cpu,
                io: configuration.node.io,
                authenticator,
                config: Arc::clone(&config),
                incarnation,
                stored: stored.as_mut().and_then(Iterator::next),
                seed: sys::random().map_err(StartError::System)?,
                clock,
                mailboxes,
                listeners: bound
                    .iter_mut()
                    .filter_map(|(listener, sockets)| Some((*listener, sockets.next()?)))
                    .collect(),
                protocols: Arc::clone(protocols),
                gates: Arc::clone(&gates),
                control: controls,
                events: events.clone(),
                journal: journal.clone(),
                histogram: Arc::clone(&histogram),
                answers: answers.clone(),
            };
            let thread = thread::Builder::new()
                .name(format!("core-{}", id.0))
                .spawn(move || run_core(place))
                .map_err(|error| StartError::Core(id, error))?;
            cores.push(CoreHandle { thread, control, wake, histogram, done: false });
        }
        let (loaded, admin) = (loaded.clone(), Admin::default());
        Ok(Node { places, gates, loaded, workers, clock, cores, events: incoming, admin })
    }

    /// What the administration has to know.
    fn administrable(
        &self,
        incoming: admin::Incoming,
        configuration: &Configuration,
        cpus: Vec<usize>,
    ) -> admin::Parts {
        let to_core =
            |core: &CoreHandle| ToCore { control: core.control.clone(), wake: Arc::clone(&core.wake) };
        let listener = |(listener, door): &(u16, Door)| {
            let scheme = configuration.listeners[usize::from(*listener)].bind.scheme.name();
            format!("{scheme}://{door}")
        };
        admin::Parts {
            cores: self.cores.iter().map(to_core).collect(),
            incoming,
            histograms: self.cores.iter().map(|core| Arc::clone(&core.histogram)).collect(),
            gates: Arc::clone(&self.gates),
            config: Arc::new(
                configuration.core(u16::try_from(self.cores.len()).expect("checked at start"), false),
            ),
            clock: self.clock,
            facts: Facts {
                cpus,
                listeners: self.places.iter().map(listener).collect(),
                started_ms: Clock::wall().0,
                env: configuration.cluster.env.to_string(),
                node_id: STANDARD.encode(sys::random().unwrap_or_default().to_be_bytes()),
                address: match &self.places[0].1 {
                    Door::Address(address) => (address.ip().to_string(), address.port()),
                    Door::Path(path) => (path.display().to_string(), 0),
                },
                roles: configuration.roles.names(),
            },
            settings: configuration.admin.clone(),
        }
    }

    /// Waits until every core runs. Clients that connect before wait in the kernel.
    fn wait_started(&mut self) -> Result<(), StartError> {
        let mut started = 0;
        while started < self.cores.len() {
            match self.events.recv() {
                Ok(Event::Started(core, waiting)) => {
                    log_waiting(core, &waiting);
                    started += 1;
                }
                Ok(Event::Failed(core, error)) => return Err(StartError::Core(core, error)),
                Ok(Event::Panicked(core)) => {
                    return Err(StartError::Core(core, io::Error::other("it panicked")));
                }
                Ok(Event::Poisoned(core, why)) => return Err(StartError::Core(core, io::Error::other(why))),
                // Whoever stops a broker that has not started yet wants it gone.
                Ok(Event::Signal(Signal::Stop(_))) => {
                    return Err(StartError::System(io::ErrorKind::Interrupted.into()));
                }
                Ok(Event::Signal(Signal::Reload) | Event::Stopped(_)) => {}
                Err(_) => unreachable!("the signal thread holds a sender"),
            }
        }
        Ok(())
    }

    /// Waits for the end, and sees to it.
    fn run(
        mut self,
        mut configuration: Configuration,
        reloading: &Reloading<'_>,
        manager: &mut Manager,
    ) -> ExitCode {
        let mut deadline: Option<Mono> = None;
        let mut code = ExitCode::SUCCESS;
        manager.tell(State::Ready, format_args!("{}", self.places()));
        while self.cores.iter().any(|core| !core.done) {
            let Some(event) = self.next_event(deadline, manager) else {
                tracing::warn!("not all clients could be told in time");
                break;
            };
            match event {
                Event::Signal(Signal::Reload) => {
                    manager.tell(State::Reloading, format_args!("reading the configuration"));
                    let said = self.reload(&mut configuration, reloading);
                    manager.tell(State::Ready, format_args!("{}; {said}", self.places()));
                }
                Event::Signal(Signal::Stop(number)) if deadline.is_some() => {
                    tracing::warn!("second signal: ending at once");
                    return ExitCode::from(128_u8.saturating_add(u8::try_from(number).unwrap_or(0)));
                }
                Event::Signal(Signal::Stop(number)) => {
                    tracing::info!("stopping: signal {number}");
                    manager.tell(State::Stopping, format_args!("stopping: clients are told"));
                    deadline = Some(self.stop(STOP_DEADLINE));
                }
                Event::Stopped(core) => self.cores[core.index()].done = true,
                Event::Panicked(core) => {
                    tracing::error!("core {} has panicked: the node ends", core.0);
                    manager.tell(State::Stopping, format_args!("core {} has panicked", core.0));
                    self.cores[core.index()].done = true;
                    code = ExitCode::from(EXIT_PANIC);
                    deadline = Some(self.stop(PANIC_DEADLINE));
                }
                Event::Poisoned(core, why) => {
                    tracing::error!(
                        "core {}: {why}: nothing is acknowledged any more, and the node ends",
                        core.0
                    );
                    manager.tell(State::Stopping, format_args!("core {}: {why}", core.0));
                    code = ExitCode::from(EXIT_POISONED);
                    deadline = deadline.or_else(|| Some(self.stop(STOP_DEADLINE)));
                }
                Event::Started(..) | Event::Failed(..) => {}
            }
        }
        self.exit(code)
    }

    /// What happens next; None if that is nothing before the deadline of the stop. Without one the service manager
    /// hears meanwhile that the cores turn.
    fn next_event(&self, deadline: Option<Mono>, manager: &mut Manager) -> Option<Event> {
        if let Some(deadline) = deadline {
            return self.events.recv_deadline(self.clock.instant(deadline)).ok();
        }
        loop {
            let turns = self.cores.iter().map(|core| core.histogram.turns());
            if manager.on_time(self.clock.monotonic(), turns) {
                // Even those that have nothing to do, until the next time.
                self.cores.iter().for_each(|core| core.wake.signal());
            }
            let event = match manager.next_timeout() {
                None => self.events.recv().ok(),
                Some(next) => self.events.recv_deadline(self.clock.instant(next)).ok(),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// Where clients are accepted, in words.
    fn places(&self) -> String {
        let places: Vec<_> = self.places.iter().map(|(_, place)| place.to_string()).collect();
        format!("serving {}, cores: {}", places.join(", "), self.cores.len())
    }

    /// Reads the configuration again, and tells the cores. What came of it, in words.
    fn reload(&mut self, configuration: &mut Configuration, reloading: &Reloading<'_>) -> &'static str {
        let cores = u16::try_from(self.cores.len()).expect("checked at start");
        let Some(reloaded) = reloading.reload(configuration, cores, &self.places) else {
            return "the configuration is wrong and stays as it was";
        };
        self.loaded = reloaded.loaded.after(&self.loaded);
        self.tell_all(&Control::Learn(self.loaded.clone()));
        self.tell_all(&Control::Speak(reloaded.protocols));
        if let Some(config) = reloaded.config {
            self.tell_all(&Control::Configure(config));
        }
        let changes = reloaded.changes;
        tracing::info!("SIGHUP: the configuration is loaded again, with {changes} changes");
        "the configuration was loaded again"
    }

    /// Gives all cores something else to go by.
    fn tell_all(&self, control: &Control) {
        for (id, core) in self.cores.iter().enumerate() {
            if !core.tell(control.clone()) {
                tracing::error!("core {id} does not take the configuration: it is stuck");
            }
        }
    }

    /// Tells all cores to stop. Returns when they are to be done.
    fn stop(&self, within: Duration) -> Mono {
        self.admin.stop();
        for core in &self.cores {
            let _ = core.tell(Control::Stop);
        }
        self.clock.monotonic().after(within)
    }

    /// Ends the threads.
    fn exit(self, mut code: ExitCode) -> ExitCode {
        for core in &self.cores {
            let _ = core.tell(Control::Exit);
        }
        let deadline = self.clock.monotonic().after(FLUSH_DEADLINE + PANIC_DEADLINE);
        let mut counted = Vec::new();
        for (id, core) in self.cores.into_iter().enumerate() {
            // A thread that is stuck in a turn ends with the process.
            while !core.thread.is_finished() && self.clock.monotonic() < deadline {
                thread::park_timeout(Duration::from_millis(1));
            }
            let turns = &core.histogram;
            tracing::info!(
                "core {id}: {} turns, half within {} µs, 99 % within {} µs, the longest {} µs",
                turns.turns(),
                turns.quantile_us(0.5),
                turns.quantile_us(0.99),
                turns.longest_us()
            );
            if core.thread.is_finished() {
                counted.extend(core.thread.join().ok().flatten());
            }
        }
        for event in self.events.try_iter() {
            if let Event::Poisoned(core, why) = event {
                tracing::error!("core {}: {why}: what it had not acknowledged is lost", core.0);
                code = ExitCode::from(EXIT_POISONED);
            }
        }
        log_counters(&counted);
        log_gates(&self.gates);
        for (_, door) in &self.places {
            door.clear();
        }
        self.workers.log();
        tracing::info!("stopped");
        code
    }
}

impl CoreHandle {
    /// False if the core does not take it: full only if it is stuck, gone only if it has panicked.
    fn tell(&self, control: Control) -> bool {
        let taken = self.control.try_send(control).is_ok();
        self.wake.signal();
        taken
    }
}

/// One line with what all cores together have counted, without what never happened.
fn log_counters(cores: &[Counters]) {
    let mut sums = Counters::default().named();
    for core in cores {
        for ((_, sum), (_, count)) in sums.iter_mut().zip(core.named()) {
            *sum += count;
        }
    }
    let line: Vec<_> =
        sums.iter().filter(|(_, sum)| *sum > 0).map(|(name, sum)| format!("{name}={sum}")).collect();
    tracing::info!("counters: {}", line.join(" "));
}

/// A line for each limit of a listener that kept somebody waiting or out.
fn log_gates(gates: &[Gate]) {
    for (listener, gate) in gates.iter().enumerate() {
        for bite in Bite::ALL.into_iter().filter(|bite| gate.counted(*bite) > 0) {
            tracing::info!("listeners.{listener}.{}: {} times", bite.name(), gate.counted(bite));
        }
    }
}

fn log_waiting(core: CoreId, waiting: &Waiting) {
    match waiting {
        Waiting::Ring => tracing::info!("core {}: io_uring", core.0),
        Waiting::Epoll { why: None } => tracing::info!("core {}: epoll, as asked for", core.0),
        Waiting::Epoll { why: Some(error) } => {
            tracing::warn!("core {}: epoll, because io_uring is not to be had: {error}", core.0);
        }
    }
}

/// All that a core's thread begins with.
struct Place {
    cpu: usize,
    io: Io,
    authenticator: Authenticator,
    config: Arc<Config>,
    incarnation: u64,
    stored: Option<Stored>,
    seed: u64,
    clock: Clock,
    mailboxes: Mailboxes,
    listeners: Vec<(u16, OwnedFd)>,
    protocols: Arc<[Protocol]>,
    gates: Arc<[Gate]>,
    control: Receiver<Control>,
    events: Sender<Event>,
    journal: Option<Events>,
    histogram: Arc<TurnHistogram>,
    answers: Answers,
}

/// A core's thread.
fn run_core(place: Place) -> Option<Counters> {
    let (id, events) = (place.mailboxes.own(), place.events.clone());
    let event = match catch_unwind(AssertUnwindSafe(|| start_core(place))) {
        Ok(Ok(counters)) => return Some(counters),
        Ok(Err(error)) => Event::Failed(id, error),
        // The panic hook has logged it.
        Err(panic) => {
            forget(panic);
            Event::Panicked(id)
        }
    };
    let _ = events.send(event);
    None
}

fn start_core(place: Place) -> io::Result<Counters> {
    let cpus = sys::affinity()?;
    sys::pin(place.cpu)?;
    let (poller, waiting) = Poller::new(place.io)?;
    let (id, events) = (place.mailboxes.own(), place.events.clone());
    let (config, incarnation, seed, now) = (place.config, place.incarnation, place.seed, place.clock.now());
    let (core, storage) = match place.stored {
        None => (Core::new(config, id, incarnation, seed, now), None),
        Some(Stored { logs, place: disk }) => {
            let ids = logs.iter().map(StoredLog::id).collect();
            let wake = &place.mailboxes.wake().event;
            let storage = Storage::start(&disk, ids, &poller, (wake, &cpus))?;
            (Core::open(config, id, incarnation, seed, logs, now), Some(storage))
        }
    };
    let parts = Parts {
        core,
        storage,
        authenticator: place.authenticator,
        clock: place.clock,
        mailboxes: place.mailboxes,
        listeners: place.listeners,
        protocols: place.protocols,
        gates: place.gates,
        control: place.control,
        events: place.events,
        journal: place.journal,
        histogram: place.histogram,
        answers: place.answers,
    };
    let driver = Driver::new(parts, poller)?;
    let _ = events.send(Event::Started(id, waiting));
    Ok(driver.run())
}

/// A panic's payload may panic when it is dropped.
fn forget(panic: Box<dyn Any + Send>) {
    let _ = std::mem::ManuallyDrop::new(panic);
}

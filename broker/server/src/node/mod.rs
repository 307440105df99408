//! The node: one process. It starts a thread per core, waits for what they and the signals say, and stops
//! them in order. It never touches a connection; once the cores run it only waits.

mod core_thread;
mod error;
mod exit;
mod start;
mod test_config;

use std::io;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_core::config::Config;
use broker_core::identity::CoreId;
use broker_core::sight::Ask;
use broker_core::time::Mono;
use crossbeam_channel::Receiver;

use self::core_thread::CoreHandle;
pub(crate) use self::error::StartError;
use self::start::Beginning;
pub(crate) use self::test_config::test_config;
use crate::admin::{self, Admin, Kept, KeptBans};
use crate::admission::Gate;
use crate::auth::{self, Loaded, Workers};
use crate::clock::Clock;
use crate::configuration::{Configuration, Data};
use crate::cores;
use crate::descriptors;
use crate::events;
use crate::listener::{self, BindError, Bound, Place as Door};
use crate::poller::Waiting;
use crate::reloading::Reloading;
use crate::service::{Manager, State};
use crate::signals::Signal;
use crate::storage::damage::StorageError;
use crate::storage::snapshot::Wish;
use crate::storage::start::{self as storage, Started};
use crate::sys;
use crate::transport;

/// How long an orderly stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// How long the other cores may take to stop when one has panicked.
const PANIC_DEADLINE: Duration = Duration::from_secs(2);

/// Exit code after a panic on a core: EX_SOFTWARE of sysexits(3).
const EXIT_PANIC: u8 = 70;

/// Exit code after a log could not be written: EX_IOERR of sysexits(3).
const EXIT_POISONED: u8 = 74;

/// What the node tells a core.
#[derive(Clone)]
pub(crate) enum Control {
    /// Go by these files from now on.
    Learn(Loaded),
    /// New connections begin like this from now on.
    Speak(Arc<[transport::Protocol]>),
    /// Go on with another configuration.
    Configure(Arc<Config>),
    /// Answer the administration.
    Ask(Box<Ask>),
    /// Have second names made for the logs' files.
    Link(Wish),
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
    /// A core has accepted a socket of this number: the table of descriptors fills.
    Filling(RawFd),
    /// A signal came.
    Signal(Signal),
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
    let kept_bans = KeptBans::open(configuration.admin.bans_file.path()).map_err(StartError::Admin)?;
    let loaded = auth::load(&configuration.auth).map_err(StartError::Auth)?.and_bans(kept_bans.iter());
    let protocols = transport::load(&configuration.listeners).map_err(StartError::Tls)?;
    let open_files = sys::raise_open_files().map_err(StartError::System)?;
    descriptors::reserve_first(open_files).map_err(StartError::System)?;
    tracing::info!("hermod {}", env!("CARGO_PKG_VERSION"));
    tracing::info!("cores: {count}, on CPUs {cpus}");
    tracing::info!("limits: {open_files} open files, {} connections per core", config.connections_max);

    let bound = bind_all(&configuration, count).map_err(StartError::Bind)?;
    let places: Vec<_> = bound.iter().map(|bound| (bound.listener, bound.place.clone())).collect();
    auth::check_doors(&configuration, &places).map_err(StartError::Open)?;
    let administration = admin::bind(&configuration.admin).map_err(StartError::Admin)?;
    let (answers, incoming) = admin::channel();
    let mut started = open_storage(&configuration, count, clock).map_err(StartError::Storage)?;
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
    let mut parts = node.administrable(incoming, &configuration, kept_bans, cpus.0.clone());
    if let Some(started) = &started {
        // A restored directory is the same node as the one that it is a copy of.
        parts.facts.node_id = STANDARD.encode(started.directory.identity.node.0.to_be_bytes());
    }
    parts.kept = started.as_ref().map(|started| Kept {
        data: started.directory.path.clone(),
        logs: started.logs,
        space_free_bytes: configuration.wal.space_free_bytes,
    });
    node.admin = Admin::start(administration, parts).map_err(StartError::System)?;
    for (listener, place) in &node.places {
        let scheme = configuration.listeners[usize::from(*listener)].bind.scheme.name();
        tracing::info!("listening on {scheme}://{place}");
    }
    Ok(node.run(configuration, reloading, manager))
}

/// The sockets of all listeners, one for each core.
fn bind_all(configuration: &Configuration, cores: u16) -> Result<Vec<Bound>, BindError> {
    let mut bound = Vec::new();
    for (index, listen) in (0..).zip(&configuration.listeners) {
        bound.extend(listener::bind(index, &listen.bind, listen.socket_mode.0, cores)?);
    }
    Ok(bound)
}

/// What the data directory has; None: nothing is kept.
fn open_storage(
    configuration: &Configuration,
    cores: u16,
    clock: Clock,
) -> Result<Option<Started>, StorageError> {
    match &configuration.node.data {
        Data::None => {
            storage::say_nothing_is_kept();
            Ok(None)
        }
        Data::Directory(data) => storage::start(data, &configuration.wal, cores, clock).map(Some),
    }
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
    journals: events::Threads,
}

impl Node {
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
                Event::Filling(descriptor) => {
                    // Without it some turns are longer.
                    let _ = sys::raise_open_files()
                        .and_then(|open_files| descriptors::reserve_more(descriptor, open_files));
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
        self.admin.expect(reloaded.token);
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
}

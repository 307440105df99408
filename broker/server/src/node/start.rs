//! The start of a node: its threads, and what they have of one another.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_core::config::Config;
use broker_core::identity::CoreId;
use crossbeam_channel::{bounded, unbounded};

use super::core_thread::{CoreHandle, Place};
use super::{Control, Event, Node, StartError};
use crate::admin::{self, Admin, Answers, Facts, KeptBans, ToCore};
use crate::admission::Gate;
use crate::auth::{Authenticator, Loaded, Workers};
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::cores::CpuList;
use crate::events::Events;
use crate::listener::{Bound, Place as Door};
use crate::mailboxes;
use crate::poller::Waiting;
use crate::signals::{self, Signal};
use crate::storage::start::Started;
use crate::sys;
use crate::transport::Protocol;
use crate::watchdog::TurnHistogram;

/// What a core may be told and not have heard yet.
const CONTROLS_MAX: usize = 64;

/// All that a node begins with.
pub(super) struct Beginning<'a> {
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) bound: Vec<Bound>,
    pub(super) configuration: &'a Configuration,
    /// What the files say that it names.
    pub(super) loaded: &'a Loaded,
    pub(super) protocols: &'a Arc<[Protocol]>,
    /// To those who administer.
    pub(super) answers: &'a Answers,
    /// The data directory, if there is one.
    pub(super) started: Option<&'a mut Started>,
}

impl Node {
    pub(super) fn start(cpus: &CpuList, beginning: Beginning<'_>) -> Result<Node, StartError> {
        let Beginning { clock, config, bound, configuration, loaded, protocols, answers, started } =
            beginning;
        let places = bound.iter().map(|bound| (bound.listener, bound.place.clone())).collect();
        let gates: Arc<[Gate]> = configuration.listeners.iter().map(|_| Gate::default()).collect();
        let config = Arc::new(config);
        let incarnation = started.as_ref().map_or(Clock::wall().0, |it| it.directory.identity.incarnation);
        let mut stored = started.map(|started| std::mem::take(&mut started.cores).into_iter());
        let (events, incoming) = unbounded();
        signals::start(events.clone()).map_err(StartError::System)?;
        let (journal, journals) =
            Events::start(&configuration.events, &config, clock).map_err(StartError::Events)?;
        let mailboxes = mailboxes::mesh(config.cores).map_err(StartError::System)?;
        let wakes: Vec<_> = mailboxes.iter().map(|it| Arc::clone(&it.wake().event)).collect();
        let (workers, desks) =
            Workers::start(&configuration.auth, &config, clock, &wakes).map_err(StartError::System)?;
        let mut bound: Vec<_> = bound.into_iter().map(|b| (b.listener, b.sockets.into_iter())).collect();
        let mut cores = Vec::new();
        for ((mailboxes, desk), &cpu) in mailboxes.into_iter().zip(desks).zip(&cpus.0) {
            let id = mailboxes.own();
            let (control, controls) = bounded(CONTROLS_MAX);
            let knowledge = Arc::clone(&loaded.knowledge);
            let authenticator = Authenticator::new(knowledge, Arc::clone(&config), desk);
            // The first it hears.
            let _ = control.try_send(Control::Learn(loaded.clone()));
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
                announced_max: configuration.events.queue_max as usize,
                histogram: Arc::new(TurnHistogram::default()),
                answers: answers.clone(),
            };
            let core = CoreHandle::start(place, control);
            cores.push(core.map_err(|error| StartError::Core(id, error))?);
        }
        let (loaded, admin) = (loaded.clone(), Admin::default());
        Ok(Node { places, gates, loaded, workers, clock, cores, events: incoming, admin, journals })
    }

    /// What the administration has to know.
    pub(super) fn administrable(
        &self,
        incoming: admin::Incoming,
        configuration: &Configuration,
        kept_bans: KeptBans,
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
            logins: Arc::clone(&self.workers.counters),
            events: self.journals.counts.clone(),
            kept_bans,
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
            kept: None,
        }
    }

    /// Waits until every core runs. Clients that connect before wait in the kernel.
    pub(super) fn wait_started(&mut self) -> Result<(), StartError> {
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
                Ok(Event::Signal(Signal::Reload) | Event::Stopped(_) | Event::Filling(_)) => {}
                Err(_) => unreachable!("the signal thread holds a sender"),
            }
        }
        Ok(())
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

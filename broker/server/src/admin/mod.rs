//! The administration over HTTP: one thread with a runtime of its own, beside the cores and with less right to the CPU
//! than they have. It touches nothing of a core; it asks (`asking.rs`), and a core answers a small page at a time.

mod api;
mod asking;
mod door;
mod exposition;
mod gate;
mod gather;
mod health;
mod kept_bans;
mod log_metrics;
mod metrics;
mod page;
mod process;
mod settings;
mod snapshots;
mod sys_topics;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use broker_core::config::Config;
use broker_core::identity::CoreId;
use tokio::sync::{Mutex, watch};

pub(crate) use self::asking::{Answers, FromCore, Incoming, ToCore, channel};
pub(crate) use self::kept_bans::KeptBans;
pub(crate) use self::settings::{Bind, Settings};
pub(crate) use self::snapshots::Kept;
use crate::admin::asking::{Banned, Cores};
use crate::admin::door::{Door, Turn};
use crate::admin::gate::Problem;
pub(crate) use crate::admin::gate::Token;
use crate::admin::gather::Gatherer;
use crate::admin::snapshots::Snapshots;
use crate::admission::Gate;
use crate::auth::Logins;
use crate::clock::Clock;
use crate::events::AllCounts;
use crate::sys;
use crate::watchdog::TurnHistogram;

/// How much the thread steps back: at 5 a core that wants the same CPU gets three quarters of it.
const NICE: i32 = 5;

/// How soon bans of who came too often are written down again.
const BANS_INTERVAL: Duration = Duration::from_secs(1);

/// Why there can be no administration where it is configured.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// Others can reach it, and it would let in everybody.
    Open(SocketAddr),
    /// The address cannot be listened on.
    Bind(SocketAddr, io::Error),
    /// The token cannot be read.
    Token(PathBuf, io::Error),
    /// The bans that were kept cannot be read.
    Bans(PathBuf, io::Error),
    /// The token is no token.
    Weak(PathBuf),
}

impl std::error::Error for AdminError {}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::Open(address) => write!(
                f,
                "everybody who can reach {address} could administer the broker: set admin.token_file \
                 (--admin-token-file FILE), or a loopback address as admin.bind"
            ),
            AdminError::Bind(address, error) => write!(f, "admin.bind: cannot listen on {address}: {error}"),
            AdminError::Token(path, error) => write!(f, "admin.token_file {}: {error}", path.display()),
            AdminError::Bans(path, error) => write!(f, "admin.bans_file {}: {error}", path.display()),
            AdminError::Weak(path) => write!(
                f,
                "admin.token_file {}: must hold one word of {} to {} printable characters",
                path.display(),
                Token::BYTES_MIN,
                Token::BYTES_MAX
            ),
        }
    }
}

/// A place for the administration, before anybody is answered there.
pub(crate) struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

/// Binds the place that is configured. None: there is to be no administration, or the place that it has by default is
/// taken, perhaps by another broker on this machine; who names a place gets it or an error.
pub(crate) fn bind(settings: &Settings) -> Result<Option<Bound>, AdminError> {
    let token = token(settings)?;
    let Some(address) = settings.bind.0 else { return Ok(None) };
    if token.is_none() && !address.ip().is_loopback() {
        return Err(AdminError::Open(address));
    }
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    match listener {
        Ok((listener, address)) => Ok(Some(Bound { listener, address, token })),
        Err(error) if settings.bind == Bind::default() => {
            tracing::warn!("no administration: {}", AdminError::Bind(address, error));
            Ok(None)
        }
        Err(error) => Err(AdminError::Bind(address, error)),
    }
}

/// Whether there can be an administration, as far as that can be said without listening.
pub(crate) fn check(settings: &Settings) -> Result<(), AdminError> {
    let token = token(settings)?;
    match settings.bind.0.filter(|address| token.is_none() && !address.ip().is_loopback()) {
        Some(address) => Err(AdminError::Open(address)),
        None => Ok(()),
    }
}

/// What the settings say that users show; None: nothing.
pub(crate) fn token(settings: &Settings) -> Result<Option<Token>, AdminError> {
    settings.token_file.path().map(Token::read).transpose()
}

/// What the administration knows of the node.
pub(crate) struct Parts {
    pub(crate) cores: Vec<ToCore>,
    pub(crate) incoming: Incoming,
    /// By core.
    pub(crate) histograms: Vec<Arc<TurnHistogram>>,
    /// By listener.
    pub(crate) gates: Arc<[Gate]>,
    /// What became of logins.
    pub(crate) logins: Arc<Logins>,
    /// What became of events.
    pub(crate) events: AllCounts,
    /// Bans that outlive the process.
    pub(crate) kept_bans: KeptBans,
    /// What clients are placed by.
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) facts: Facts,
    pub(crate) settings: Settings,
    /// The data directory, if there is one.
    pub(crate) kept: Option<Kept>,
}

/// What does not change while the node runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The CPU of each core.
    pub(crate) cpus: Vec<usize>,
    /// Where clients are accepted, as in `tcp://127.0.0.1:1883`.
    pub(crate) listeners: Vec<String>,
    /// When the node started, milliseconds since 1970.
    pub(crate) started_ms: u64,
    /// The cluster's name.
    pub(crate) env: String,
    /// The node's id, in base64.
    pub(crate) node_id: String,
    /// Of its first listener, with 0 for a port if it has none.
    pub(crate) address: (String, u16),
    /// The services that the node takes part in.
    pub(crate) roles: Vec<&'static str>,
}

/// What requests are answered from.
pub(crate) struct State {
    cores: Cores,
    gatherer: Gatherer,
    histograms: Vec<Arc<TurnHistogram>>,
    gates: Arc<[Gate]>,
    logins: Arc<Logins>,
    events: AllCounts,
    door: Arc<door::Counts>,
    kept_bans: Mutex<KeptBans>,
    /// Of the next trace.
    next_trace: AtomicU64,
    config: Arc<Config>,
    clock: Clock,
    facts: Facts,
    settings: Settings,
    snapshots: Arc<Snapshots>,
    stopping: Arc<AtomicBool>,
}

impl State {
    /// A core that somebody else named, if it is one.
    fn known(&self, core: CoreId) -> Result<CoreId, Problem> {
        let missing = || Problem::new(StatusCode::BAD_REQUEST, "bad_request", "there is no such core");
        (core.index() < self.cores.len()).then_some(core).ok_or_else(missing)
    }
}

/// The running administration. It ends with the process.
#[derive(Default)]
pub(crate) struct Admin {
    stopping: Arc<AtomicBool>,
    token: watch::Sender<Arc<Option<Token>>>,
}

impl Admin {
    /// Answers from now on, where there is a place for it, and publishes `$SYS`, if that is wanted.
    pub(crate) fn start(bound: Option<Bound>, parts: Parts) -> io::Result<Admin> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut bound = bound;
        let token = bound.as_mut().and_then(|bound| bound.token.take());
        let (token, current) = watch::channel(Arc::new(token));
        let admin = Admin { stopping: Arc::clone(&stopping), token };
        let sys_interval = parts.settings.sys_interval_seconds;
        if bound.is_none() && sys_interval == 0 && !parts.kept_bans.are_kept() {
            return Ok(admin);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if let Some(Bound { address, .. }) = &bound {
            tracing::info!("administration on http://{address}");
        }
        let serve = async move {
            let snapshots = Arc::new(Snapshots::new(parts.kept, parts.cores.clone()));
            let (cores, banned) = Cores::start(parts.cores, parts.incoming);
            let state = Arc::new(State {
                cores,
                gatherer: Gatherer::default(),
                histograms: parts.histograms,
                gates: parts.gates,
                logins: parts.logins,
                events: parts.events,
                door: Arc::default(),
                kept_bans: Mutex::new(parts.kept_bans),
                next_trace: AtomicU64::new(1),
                config: parts.config,
                clock: parts.clock,
                facts: parts.facts,
                settings: parts.settings,
                snapshots,
                stopping,
            });
            tokio::spawn(keep_bans(Arc::clone(&state), banned));
            if sys_interval > 0 {
                tokio::spawn(sys_topics::publish(Arc::clone(&state), sys_interval));
            }
            if let Some(Bound { listener, .. }) = bound {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let patience = Duration::from_millis(u64::from(state.settings.request_timeout_ms));
                let counts = Arc::clone(&state.door);
                let door = Door::new(listener, state.settings.connections_max, patience, counts);
                let router = router(state, current).into_make_service_with_connect_info::<Turn>();
                axum::serve(door, router).await
            } else {
                std::future::pending().await
            }
        };
        thread::Builder::new().name("admin".to_owned()).spawn(move || {
            if let Err(error) = sys::step_back(NICE) {
                tracing::warn!("the administration has the cores' own right to the CPU: {error}");
            }
            if let Err(error) = runtime.block_on(serve) {
                tracing::error!("the administration has ended: {error}");
            }
        })?;
        Ok(admin)
    }

    /// Users show another token from now on.
    pub(crate) fn expect(&self, token: Option<Token>) {
        self.token.send_replace(Arc::new(token));
    }

    /// The node stops: it is not ready any more.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Has bans of who came too often outlive the process; written at once, but no more often than it is worth.
async fn keep_bans(state: Arc<State>, banned: Banned) {
    loop {
        let bans = banned.next().await.into_iter().map(|ban| (ban.target.clone(), ban));
        if let Err(error) = state.kept_bans.lock().await.change(|kept| kept.extend(bans)) {
            tracing::warn!("clients that came too often are kept out no longer than the process: {error}");
        }
        tokio::time::sleep(BANS_INTERVAL).await;
    }
}

fn router(state: Arc<State>, token: gate::Current) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics::answer))
        .route("/status", get(health::status))
        .merge(api::router())
        .layer(axum::middleware::from_fn_with_state(token, gate::admit));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(page::router())
        .merge(guarded)
        .fallback(gate::not_found)
        .method_not_allowed_fallback(gate::method_not_allowed)
        .layer(axum::middleware::from_fn(door::work))
        .with_state(state)
}

//! Who a client is: the answers to the core's questions. What can be said at once is said on the core; a
//! password is checked by threads beside the cores (`workers.rs`), against files that are read whole
//! (`password_file.rs`, `acl_file.rs`) and never change: on SIGHUP the cores get others.
//!
//! The core's state machine asks and is told; what a client may do once it is in is its affair.

mod acl_file;
mod ban_file;
mod hash;
pub(crate) mod passwd;
mod password_file;
mod scram;
mod settings;
mod tokens;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::access::{AccessList, Decided, Identity, Permissions, Question, Step, Verdict};
use broker_core::bans::Target;
use broker_core::config::Config;
use broker_core::identity::ConnectionId;
use broker_core::time::Mono;
use crossbeam_channel::{Receiver, Sender, unbounded};
use mqtt::ReasonCode;

use self::password_file::{Known, PasswordFile};
use self::scram::Exchange;
use self::settings::Method;
pub(crate) use self::settings::{Anonymous, FileName, Settings};
use self::tokens::{KeyError, Said, Tokens};
pub(crate) use self::workers::Workers;
use self::workers::{Busy, Job};
use crate::configuration::Configuration;
use crate::listener::Place;
use crate::sys::{self, EventFd};

/// A place that others can reach, where nobody would have to say who they are, and nobody has said that they
/// need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenDoor(Place);

impl std::error::Error for OpenDoor {}

impl fmt::Display for OpenDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "everybody who can reach {} would be let in without a password: set auth.password_file \
             (--password-file FILE), or auth.allow_anonymous (--allow-anonymous) if that is meant",
            self.0
        )
    }
}

/// Finds the first such address among those where clients are accepted, each with the index of its listener.
pub(crate) fn check_doors(configuration: &Configuration, places: &[(u16, Place)]) -> Result<(), OpenDoor> {
    let is_open = |(index, place): &&(u16, Place)| {
        let listener = &configuration.listeners[usize::from(*index)];
        // A proxy brings those whom it can be reached by.
        (place.is_public() || !listener.proxy_from.0.is_empty()) && !listener.asks_for_certificates()
    };
    let open = places.iter().find(is_open).filter(|_| configuration.auth.is_open_by_default());
    open.map_or(Ok(()), |(_, place)| Err(OpenDoor(place.clone())))
}

/// What the files say, and who is let in without them. Immutable, shared by all cores and threads.
pub(crate) struct Knowledge {
    methods: Vec<Method>,
    passwords: Option<PasswordFile>,
    tokens: Option<Tokens>,
    allow_anonymous: Anonymous,
}

/// A file that cannot be used.
#[derive(Debug)]
pub(crate) struct LoadError {
    /// The setting that names it.
    setting: &'static str,
    path: PathBuf,
    problem: LoadProblem,
}

#[derive(Debug)]
enum LoadProblem {
    Read(io::Error),
    Passwords(password_file::LineError),
    Keys(KeyError),
    Access(acl_file::LineError),
    Bans(ban_file::LineError),
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "auth.{} {}: ", self.setting, self.path.display())?;
        match &self.problem {
            LoadProblem::Read(error) => error.fmt(f),
            LoadProblem::Passwords(error) => error.fmt(f),
            LoadProblem::Keys(error) => error.fmt(f),
            LoadProblem::Access(error) => error.fmt(f),
            LoadProblem::Bans(error) => error.fmt(f),
        }
    }
}

/// Everything that the settings name, read.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) knowledge: Arc<Knowledge>,
    pub(crate) access_list: Option<Arc<AccessList>>,
    /// Who is kept out.
    pub(crate) bans: Arc<ban_file::Bans>,
    /// Who was kept out by what was loaded before, and is no more.
    pub(crate) unbanned: Arc<[Target]>,
    /// Names of the password file that was loaded before and is not of this one.
    pub(crate) users_gone: Arc<BTreeSet<Arc<str>>>,
}

impl Loaded {
    /// Says what has gone since `former` was loaded.
    pub(crate) fn after(self, former: &Loaded) -> Loaded {
        let stays = |user: &&str| self.knowledge.passwords.as_ref().is_some_and(|file| file.knows(user));
        let users = former.knowledge.passwords.iter().flat_map(PasswordFile::users);
        let users_gone = users.filter(|user| !stays(user)).map(Arc::from).collect();
        let unbanned = former.bans.keys().filter(|target| !self.bans.contains_key(target)).cloned();
        Loaded { unbanned: unbanned.collect(), users_gone: Arc::new(users_gone), ..self }
    }
}

/// Reads the files that the settings name.
pub(crate) fn load(settings: &Settings) -> Result<Loaded, LoadError> {
    let passwords = read(settings.password_file.path(), "password_file", |text| {
        PasswordFile::parse(text).map_err(LoadProblem::Passwords)
    })?;
    let tokens = read(settings.jwt_key_file.path(), "jwt_key_file", |text| {
        Tokens::new(text.as_bytes(), settings).map_err(LoadProblem::Keys)
    })?;
    let access_list = read(settings.acl_file.path(), "acl_file", |text| {
        acl_file::parse(text).map_err(LoadProblem::Access)
    })?;
    if let Some(passwords) = &passwords {
        tracing::info!("auth.password_file: {} users", passwords.len());
    }
    if let Some(tokens) = &tokens {
        tracing::info!("auth.jwt_key_file: {} keys", tokens.len());
    }
    if let Some(list) = &access_list {
        tracing::info!("auth.acl_file: rules for {} users", list.users());
        if passwords.is_none() && tokens.is_none() && list.users() > 0 {
            tracing::warn!("auth.acl_file has rules for users, but nothing proves who they are");
        }
    }
    let bans =
        read(settings.ban_file.path(), "ban_file", |text| ban_file::parse(text).map_err(LoadProblem::Bans))?;
    if let Some(bans) = &bans {
        tracing::info!("auth.ban_file: {} bans", bans.len());
    }
    let knowledge = Knowledge {
        methods: settings.methods.0.clone(),
        passwords,
        tokens,
        allow_anonymous: settings.allow_anonymous,
    };
    Ok(Loaded {
        knowledge: Arc::new(knowledge),
        access_list: access_list.map(Arc::new),
        bans: Arc::new(bans.unwrap_or_default()),
        unbanned: Arc::default(),
        users_gone: Arc::default(),
    })
}

fn read<T>(
    path: Option<&Path>,
    setting: &'static str,
    parse: impl Fn(&str) -> Result<T, LoadProblem>,
) -> Result<Option<T>, LoadError> {
    let Some(path) = path else { return Ok(None) };
    let parsed = fs::read_to_string(path).map_err(LoadProblem::Read).and_then(|text| parse(&text));
    parsed.map(Some).map_err(|problem| LoadError { setting, path: path.to_owned(), problem })
}

impl Knowledge {
    /// The verdict on a question that takes no work; None if it does.
    fn decide_at_once(&self, config: &Config, question: &Question) -> Option<Verdict> {
        match question.method.as_deref() {
            None => {}
            Some(scram::METHOD) if self.passwords.as_ref().is_some_and(PasswordFile::has_scram) => {
                return None;
            }
            Some(_) => return Some(refuse(ReasonCode::BAD_AUTHENTICATION_METHOD)), // [MQTT-4.12.0-1]
        }
        match (&question.username, &question.password) {
            (None, None) if self.allow_anonymous == Anonymous::Yes => Some(allow(config, question, false)),
            (None, None) => Some(refuse(ReasonCode::NOT_AUTHORIZED)),
            (Some(_), Some(_)) if self.passwords.is_some() => None,
            // A token says itself who the client is.
            (_, Some(_)) if self.tokens.is_some() => None,
            _ => Some(refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD)),
        }
    }

    /// The verdict on any other: that of the first method that knows the user, or what it has shown. Takes tens
    /// of milliseconds.
    fn decide(&self, config: &Config, question: &Question) -> Verdict {
        let verdict = self.methods.iter().find_map(|method| match method {
            Method::Jwt => self.by_token(config, question),
            Method::Password => self.by_password(config, question),
            Method::Deny => Some(refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD)),
        });
        verdict.unwrap_or_else(|| refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD))
    }

    /// The next step of an exchange, and what it needs for the one behind it.
    fn exchange(
        &self,
        config: &Config,
        question: &Question,
        exchange: Option<Exchange>,
    ) -> (Verdict, Option<Exchange>) {
        // 0x87: a CONNACK and a DISCONNECT can hold it.
        let refused = || (refuse(ReasonCode::NOT_AUTHORIZED), None);
        let (Some(file), Some(data)) = (&self.passwords, &question.data) else { return refused() };
        match (question.step, exchange) {
            (Step::Continue, Some(exchange)) => {
                let Ok((user, data)) = exchange.finish(data) else { return refused() };
                match allow(config, &Question { username: Some(user), ..question.clone() }, true) {
                    Verdict::Allow { identity, .. } => {
                        (Verdict::Allow { identity, data: Some(data.into_bytes()) }, None)
                    }
                    other => (other, None),
                }
            }
            (Step::Connect | Step::Reauthenticate, _) => {
                let Ok(random) = sys::random().and_then(|a| Ok((a, sys::random()?))) else {
                    return refused();
                };
                let ours = format!("{:016x}{:016x}", random.0, random.1);
                match scram::begin(data, &ours, |user| file.scram(user)) {
                    Ok((exchange, data)) => {
                        (Verdict::Continue { data: Some(data.into_bytes()) }, Some(exchange))
                    }
                    Err(scram::Failed) => refused(),
                }
            }
            (Step::Continue, None) => refused(),
        }
    }

    fn by_token(&self, config: &Config, question: &Question) -> Option<Verdict> {
        let place = (question.listener, question.tenant_by_name.as_ref());
        match self.tokens.as_ref()?.judge(config, place, question.password.as_ref()?) {
            Said::NoToken => None,
            Said::Refused => Some(refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD)),
            Said::Allowed(identity) => Some(Verdict::Allow { identity, data: None }),
        }
    }

    fn by_password(&self, config: &Config, question: &Question) -> Option<Verdict> {
        let (user, password) = (question.username.as_ref()?, question.password.as_ref()?);
        match self.passwords.as_ref()?.check(user, password) {
            Known::Right => Some(allow(config, question, true)),
            Known::Wrong => Some(refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD)),
            Known::Unknown => None,
        }
    }
}

fn refuse(reason: ReasonCode) -> Verdict {
    Verdict::Refuse { reason, server_reference: None }
}

/// The client is who it says, or says nothing and need not. Whether it stands in the password file.
fn allow(config: &Config, question: &Question, listed: bool) -> Verdict {
    match config.identify(question.listener, question.tenant_by_name.as_ref(), question.username.as_deref()) {
        Ok((tenant, user)) => {
            let permissions = Permissions::Listed;
            let identity = Identity {
                tenant,
                user: user.into(),
                response_information: None,
                expires: None,
                listed,
                permissions,
            };
            Verdict::Allow { identity, data: None }
        }
        Err(_) => refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD),
    }
}

/// Answers one core's questions. Lives on the core.
pub(crate) struct Authenticator {
    knowledge: Arc<Knowledge>,
    config: Arc<Config>,
    workers: Workers,
    wake: Arc<EventFd>,
    answers: Sender<Answer>,
    decided: Receiver<Answer>,
    /// Exchanges whose client has the next word.
    exchanges: BTreeMap<ConnectionId, Exchange>,
}

/// What a thread has found: an answer, and an exchange that goes on.
type Answer = (Decided, Option<Exchange>);

impl Authenticator {
    /// For the core that `wake` wakes.
    pub(crate) fn new(
        knowledge: Arc<Knowledge>,
        config: Arc<Config>,
        workers: Workers,
        wake: Arc<EventFd>,
    ) -> Authenticator {
        // As many as the workers' queue and hands hold of this core's questions.
        let (answers, decided) = unbounded();
        let exchanges = BTreeMap::new();
        Authenticator { knowledge, config, workers, wake, answers, decided, exchanges }
    }

    /// The configuration has changed.
    pub(crate) fn configure(&mut self, config: &Arc<Config>) {
        self.config = Arc::clone(config);
    }

    /// Files were read anew.
    pub(crate) fn learn(&mut self, knowledge: Arc<Knowledge>) {
        self.knowledge = knowledge;
    }

    /// The answer to a question, if it can be had at once; otherwise it comes by [`Authenticator::next`].
    pub(crate) fn ask(&mut self, now: Mono, question: Question) -> Option<Decided> {
        let connection = question.connection;
        let exchange = self.exchanges.remove(&connection);
        if let Some(verdict) = self.knowledge.decide_at_once(&self.config, &question) {
            return Some(Decided { connection, verdict });
        }
        let job = Job {
            asked: now,
            question,
            exchange,
            knowledge: Arc::clone(&self.knowledge),
            config: Arc::clone(&self.config),
            answers: self.answers.clone(),
            wake: Arc::clone(&self.wake),
        };
        match self.workers.take(job) {
            Ok(()) => None,
            Err(Busy) => Some(Decided { connection, verdict: refuse(ReasonCode::SERVER_BUSY) }),
        }
    }

    /// The next answer that a thread has found. Of a connection that is gone nothing is kept.
    pub(crate) fn next(&mut self, is_there: impl FnOnce(ConnectionId) -> bool) -> Option<Decided> {
        let (decided, exchange) = self.decided.try_recv().ok()?;
        if let Some(exchange) = exchange
            && is_there(decided.connection)
        {
            self.exchanges.insert(decided.connection, exchange);
        }
        Some(decided)
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.exchanges.remove(&connection);
    }
}

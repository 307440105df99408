//! Who a client is: the answers to the core's questions. What can be said at once is said on the core; a
//! password is checked by threads beside the cores (`workers.rs`), against files that are read whole
//! (`password_file.rs`, `acl_file.rs`) and never change: on SIGHUP the cores get others.
//!
//! The core's state machine asks and is told; what a client may do once it is in is its affair.

mod acl_file;
mod authenticator;
mod ban_file;
mod hash;
mod load;
pub(crate) mod passwd;
mod password_file;
mod scram;
mod settings;
mod token_keys;
mod tokens;
mod webhook;
mod workers;

use std::fmt;

use broker_core::access::{Doubt, Identity, Permissions, Question, Step, Verdict};
use broker_core::config::Config;
use mqtt::ReasonCode;

pub(crate) use self::authenticator::Authenticator;
pub(crate) use self::load::{LoadError, Loaded, authorities, load};
use self::password_file::{Known, PasswordFile};
use self::scram::Exchange;
use self::settings::Method;
pub(crate) use self::settings::{Anonymous, FileName, Settings};
use self::tokens::{Said, Tokens};
use self::webhook::{Caller, Webhook};
pub(crate) use self::workers::{Logins, Workers};
use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::listener::Place;
use crate::sys;

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
    webhook: Option<Webhook>,
    allow_anonymous: Anonymous,
}

impl Knowledge {
    /// The verdict on a question that takes no work; None if it does.
    fn decide_at_once(&self, config: &Config, question: &Question) -> Option<Verdict> {
        match question.method.as_deref() {
            None => {}
            Some(scram::METHOD) if self.passwords.as_ref().is_some_and(PasswordFile::has_scram) => {
                return None;
            }
            // [MQTT-4.12.0-1]
            Some(_) => return Some(refuse(ReasonCode::BAD_AUTHENTICATION_METHOD, Some(Doubt::Method))),
        }
        match (&question.username, &question.password) {
            (None, None) if self.allow_anonymous == Anonymous::Yes && !self.asks_for_permissions() => {
                Some(allow(config, question, false))
            }
            _ if self.webhook.is_some() => None,
            (None, None) => Some(refuse(ReasonCode::NOT_AUTHORIZED, Some(Doubt::Anonymous))),
            (Some(_), Some(_)) if self.passwords.is_some() => None,
            // A token says itself who the client is.
            (_, Some(_)) if self.tokens.is_some() => None,
            _ => Some(unknown(question)),
        }
    }

    /// Whether what a client may do is asked of a service.
    fn asks_for_permissions(&self) -> bool {
        self.webhook.as_ref().is_some_and(|webhook| webhook.access.is_some())
    }

    /// The verdict on any other: that of the first method that knows the user, or what it has shown. Takes tens
    /// of milliseconds, or as long as a service may.
    fn decide(&self, config: &Config, question: &Question, caller: &mut Caller) -> Verdict {
        let anonymous = question.username.is_none() && question.password.is_none();
        let verdict = if anonymous && self.allow_anonymous == Anonymous::Yes {
            Some(allow(config, question, false))
        } else {
            self.methods.iter().find_map(|method| match method {
                Method::Jwt => self.by_token(config, question),
                Method::Password => self.by_password(config, question),
                Method::Webhook => self.by_webhook(config, question, caller),
                Method::Deny => Some(unknown(question)),
            })
        };
        let verdict = verdict.unwrap_or_else(|| unknown(question));
        self.authorise(question, verdict, caller)
    }

    /// What a service says to a client that is let in.
    fn authorise(&self, question: &Question, verdict: Verdict, caller: &mut Caller) -> Verdict {
        let (Some(webhook), Verdict::Allow { identity, data }) = (&self.webhook, verdict.clone()) else {
            return verdict;
        };
        match webhook.authorise(question, identity, caller) {
            // It would be let in and disconnected.
            Ok(identity) if identity.expires.is_some_and(|end| end <= Clock::wall()) => {
                refuse(ReasonCode::NOT_AUTHORIZED, Some(Doubt::ServiceExpired))
            }
            Ok(identity) => Verdict::Allow { identity, data },
            Err(webhook::Said::Failed) => refuse(ReasonCode::SERVER_UNAVAILABLE, Some(Doubt::ServiceFailed)),
            Err(_) => refuse(ReasonCode::NOT_AUTHORIZED, Some(Doubt::Service)),
        }
    }

    /// The next step of an exchange, and what it needs for the one behind it.
    fn exchange(
        &self,
        config: &Config,
        question: &Question,
        exchange: Option<Exchange>,
        caller: &mut Caller,
    ) -> (Verdict, Option<Exchange>) {
        // 0x87: a CONNACK and a DISCONNECT can hold it.
        let refused = || (refuse(ReasonCode::NOT_AUTHORIZED, Some(Doubt::Proof)), None);
        let (Some(file), Some(data)) = (&self.passwords, &question.data) else { return refused() };
        match (question.step, exchange) {
            (Step::Continue, Some(exchange)) => {
                let Ok((user, data)) = exchange.finish(data) else { return refused() };
                match allow(config, &Question { username: Some(user), ..question.clone() }, true) {
                    Verdict::Allow { identity, .. } => {
                        let verdict = Verdict::Allow { identity, data: Some(data.into_bytes()) };
                        (self.authorise(question, verdict, caller), None)
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
            Said::Refused(doubt) => Some(refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD, Some(doubt))),
            Said::Allowed(identity) => Some(Verdict::Allow { identity, data: None }),
        }
    }

    fn by_webhook(&self, config: &Config, question: &Question, caller: &mut Caller) -> Option<Verdict> {
        let webhook = self.webhook.as_ref().filter(|webhook| webhook.login.is_some())?;
        match webhook.identify(config, question, caller) {
            webhook::Said::Ignore => None,
            webhook::Said::Deny => Some(refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD, Some(Doubt::Service))),
            webhook::Said::Failed => Some(refuse(ReasonCode::SERVER_UNAVAILABLE, Some(Doubt::ServiceFailed))),
            webhook::Said::Allow(identity) => Some(Verdict::Allow { identity, data: None }),
        }
    }

    fn by_password(&self, config: &Config, question: &Question) -> Option<Verdict> {
        let (user, password) = (question.username.as_ref()?, question.password.as_ref()?);
        match self.passwords.as_ref()?.check(user, password) {
            Known::Right => Some(allow(config, question, true)),
            Known::Wrong => Some(refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD, Some(Doubt::WrongPassword))),
            Known::Unknown => None,
        }
    }
}

fn refuse(reason: ReasonCode, doubt: Option<Doubt>) -> Verdict {
    Verdict::Refuse { reason, doubt, server_reference: None }
}

/// Nobody knows who the client is.
fn unknown(question: &Question) -> Verdict {
    let doubt = match (&question.username, &question.password) {
        (None, None) => Doubt::Anonymous,
        _ => Doubt::UnknownUser,
    };
    refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD, Some(doubt))
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
        Err(_) => refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD, Some(Doubt::UnknownTenant)),
    }
}

//! A service of the operator's that says who a client is and what it may do: it is asked by HTTP, by a thread beside
//! the cores, and a client is let in only on its word. What it does not say in time, or not in a form that is
//! understood, is no.
//!
//! ```text
//! POST webhook_url      {"client_id", "username", "password", "peer", "listener", "tenant"}
//!      {"result": "allow" | "deny" | "ignore", "user", "tenant", "acl", "expires_at"}
//! POST webhook_acl_url  {"client_id", "user", "tenant", "peer", "listener"}
//!      {"result": "allow" | "deny", "acl", "expires_at"}
//! ```
//!
//! A password that is not UTF-8 is sent as `password_base64`; `acl` is what it is in a token (`tokens.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_core::access::{Identity, Permissions, Question, Rules};
use broker_core::config::Config;
use broker_core::time::{Mono, Wall};
use rustls::ClientConfig;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tokens::read_acl;
use crate::clock::Clock;
use crate::http::{Connection, Patience, Url};

/// How the service is asked. Immutable, shared by all threads.
pub(super) struct Webhook {
    /// Who a client is.
    pub(super) login: Option<Url>,
    /// What it may do.
    pub(super) access: Option<Url>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) timeout: Duration,
    /// How long an answer holds.
    pub(super) cache: Duration,
    /// How many answers a thread keeps.
    pub(super) cache_max: usize,
}

/// What the service says to a login.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Allow(Identity),
    Deny,
    /// Somebody else is to be asked.
    Ignore,
    /// Nothing that holds.
    Failed,
}

/// What a thread keeps between two questions. It belongs to one set of settings: with others the thread makes another.
pub(super) struct Caller {
    login: Connection,
    access: Connection,
    clock: Clock,
    /// Answers by a digest of what was asked, and until when they hold.
    cache: BTreeMap<[u8; 32], (Mono, Value)>,
    pub(super) counts: Counts,
}

/// What a thread has asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) asked: u64,
    pub(super) cached: u64,
    pub(super) failed: u64,
    /// Why the last of these.
    pub(super) why: Option<String>,
}

impl Caller {
    pub(super) fn new(clock: Clock) -> Caller {
        let counts = Counts::default();
        Caller {
            login: Connection::default(),
            access: Connection::default(),
            clock,
            cache: BTreeMap::new(),
            counts,
        }
    }

    /// What the counts have come to since it was last asked.
    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn cached(&mut self, key: &[u8; 32]) -> Option<Value> {
        let (until, answer) = self.cache.get(key)?;
        (self.clock.monotonic() < *until).then(|| answer.clone())
    }

    /// Keeps an answer, no longer than what it says; the table is emptied when it is full: that costs questions, and
    /// no list of who came when.
    fn keep(&mut self, webhook: &Webhook, key: [u8; 32], answer: &Value) {
        let end = end_of(answer).unwrap_or_default();
        let left = end.map_or(webhook.cache, |end| webhook.cache.min(until(end, Clock::wall())));
        if left.is_zero() {
            return;
        }
        let now = self.clock.monotonic();
        if self.cache.len() >= webhook.cache_max {
            self.cache.retain(|_, (until, _)| now < *until);
            if self.cache.len() >= webhook.cache_max {
                self.cache.clear();
            }
        }
        self.cache.insert(key, (now.after(left), answer.clone()));
    }

    /// The answer to a question; None if there is none that is one.
    fn ask(&mut self, webhook: &Webhook, login: bool, question: &Value) -> Option<Value> {
        let text = question.to_string();
        // A password is not kept, not even here.
        let key = Sha256::new().chain_update([u8::from(login)]).chain_update(&text).finalize().into();
        if let Some(answer) = self.cached(&key) {
            self.counts.cached += 1;
            return Some(answer);
        }
        self.counts.asked += 1;
        let (connection, url) = match login {
            true => (&mut self.login, webhook.login.as_ref()?),
            false => (&mut self.access, webhook.access.as_ref()?),
        };
        let patience = Patience { clock: self.clock, until: self.clock.monotonic().after(webhook.timeout) };
        let answered = connection.post(url, webhook.tls.as_ref(), text.as_bytes(), patience);
        let answer = match answered {
            Ok((200, body)) => serde_json::from_slice(&body).map_err(|error| format!("no JSON: {error}")),
            Ok((status, _)) => Err(format!("status {status}, not 200")),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(answer) => {
                self.keep(webhook, key, &answer);
                Some(answer)
            }
            Err(why) => {
                self.fail(format!("{url}: {why}"));
                None
            }
        }
    }

    fn fail(&mut self, why: String) {
        self.counts.failed += 1;
        self.counts.why = Some(why);
    }
}

impl Webhook {
    /// Who a client is, if the service knows it.
    pub(super) fn identify(&self, config: &Config, question: &Question, caller: &mut Caller) -> Said {
        let mut asked = json!({
            "client_id": question.client_id,
            "peer": question.peer.map(|peer| peer.ip().to_string()),
            "listener": question.listener,
            "username": question.username,
        });
        if let Some(tenant) = &question.tenant_by_name {
            asked["tenant"] = json!(&**tenant);
        }
        match question.password.as_deref().map(|password| (password, str::from_utf8(password))) {
            None => {}
            Some((_, Ok(text))) => asked["password"] = json!(text),
            Some((bytes, Err(_))) => asked["password_base64"] = json!(STANDARD.encode(bytes)),
        }
        let Some(answer) = caller.ask(self, true, &asked) else { return Said::Failed };
        match answer.get("result").and_then(Value::as_str) {
            Some("deny") => Said::Deny,
            Some("ignore") => Said::Ignore,
            Some("allow") => match identity(config, question, &answer) {
                Some(identity) => Said::Allow(identity),
                None => {
                    caller.fail(
                        "a tenant that is not configured, or a user, acl or expires_at of no known form"
                            .to_owned(),
                    );
                    Said::Failed
                }
            },
            _ => {
                caller.fail("a result that is none of allow, deny and ignore".to_owned());
                Said::Failed
            }
        }
    }

    /// What a client may do that is let in as `identity`; None if it may not come in.
    pub(super) fn authorise(
        &self,
        question: &Question,
        identity: Identity,
        caller: &mut Caller,
    ) -> Result<Identity, Said> {
        if self.access.is_none() || !matches!(identity.permissions, Permissions::Listed) {
            return Ok(identity);
        }
        let asked = json!({
            "client_id": question.client_id,
            "user": &*identity.user,
            "tenant": &*identity.tenant,
            "peer": question.peer.map(|peer| peer.ip().to_string()),
            "listener": question.listener,
        });
        let answer = caller.ask(self, false, &asked).ok_or(Said::Failed)?;
        let allowed = answer.get("result").and_then(Value::as_str) == Some("allow");
        match permissions_and_end(&answer).filter(|_| allowed) {
            Some((permissions, expires)) => {
                // Of two ends the first.
                let expires = [identity.expires, expires].into_iter().flatten().min();
                Ok(Identity { permissions, expires, ..identity })
            }
            None => Err(Said::Deny),
        }
    }
}

/// Who the service says that a client is. None if that is not possible.
fn identity(config: &Config, question: &Question, answer: &Value) -> Option<Identity> {
    let said = |name: &str| match answer.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_str().map(Some),
    };
    let (permissions, expires) = permissions_and_end(answer)?;
    let by_name = question.tenant_by_name.as_ref();
    let username = question.username.as_deref();
    let (tenant, user) = match (said("tenant")?, said("user")?) {
        (Some(tenant), user) => {
            let known = tenant == &*config.default_tenant || config.tenants.contains_key(tenant);
            (known.then(|| Arc::from(tenant))?, user.or(username).unwrap_or_default())
        }
        (None, user) => config.identify(question.listener, by_name, user.or(username)).ok()?,
    };
    let user = user.into();
    Some(Identity { tenant, user, response_information: None, permissions, expires, listed: false })
}

fn permissions_and_end(answer: &Value) -> Option<(Permissions, Option<Wall>)> {
    answer.as_object()?;
    let permissions = match answer.get("acl") {
        None | Some(Value::Null) => Permissions::Listed,
        Some(acl) => Permissions::Own(Arc::new(Rules::new(read_acl(acl)?))),
    };
    Some((permissions, end_of(answer)?))
}

/// When what the service says ends, if it says so, in seconds since 1970, perhaps with a fraction; EMQX calls it
/// `expire_at`. None outside: it says something else.
fn end_of(answer: &Value) -> Option<Option<Wall>> {
    let said =
        ["expires_at", "expire_at"].iter().find_map(|name| answer.get(name).filter(|it| !it.is_null()));
    let Some(seconds) = said else { return Some(None) };
    let seconds = seconds.as_f64().filter(|seconds| *seconds >= 0.0)?;
    // As far as there are milliseconds.
    Some(Some(Wall((seconds * 1000.0) as u64)))
}

/// How long it is until then.
fn until(end: Wall, now: Wall) -> Duration {
    Duration::from_millis(end.0.saturating_sub(now.0))
}

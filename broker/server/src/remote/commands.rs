//! What a running node can be asked on the command line.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::backup::Backup;
use super::http::escape;
use super::operations::{BanWanted, Bans, TraceWanted, Unban};
use super::{Node, Query, RemoteError, Target, show};

/// Commands to a running node.
#[derive(Debug, Subcommand)]
pub(crate) enum Remote {
    /// Show a running node at a glance: its cores, listeners, connections and turns.
    Status(#[command(flatten)] Target),

    /// Show a running node's metrics, in Prometheus' text format.
    Metrics(#[command(flatten)] Target),

    /// Show the cluster as a running node sees it.
    Cluster(#[command(flatten)] Target),

    /// List tenants, with what they have and do.
    Tenants(Tenants),

    /// List clients that are online.
    Clients(Find),

    /// List sessions, of clients that are online and of those that are away.
    Sessions(Sessions),

    /// Show one session, with its will and its queue.
    Session(OneClient),

    /// Disconnect a client; or all clients of a tenant, or of a user of it.
    Kick(Kick),

    /// End sessions whose clients have been away for long; their wills are published.
    ExpireSessions(ExpireSessions),

    /// List subscriptions.
    Subscriptions(Subscriptions),

    /// Subscribe in the place of a client that is online.
    Subscribe(Subscribe),

    /// Unsubscribe in the place of a client that is online.
    Unsubscribe(Unsubscribe),

    /// Publish a message.
    Publish(Publish),

    /// List retained messages.
    Retained(Retained),

    /// Clear retained messages, and tell nobody.
    ClearRetained(ClearRetained),

    /// Copy the data directory of a running node on this machine, or of a stopped one.
    ///
    /// All that was acknowledged before is in the copy, and each log in it is as it was at one moment. A running node goes
    /// on meanwhile: it keeps what is copied, which takes the space of what is reclaimed in that time. The copy is checked,
    /// written to DIR.partial, synced, and only then named DIR. `hermod restore` makes a data directory of it.
    Backup(Backup),

    /// List who is kept out.
    Bans(Bans),

    /// Keep a client, a user or an address out; who is online is disconnected.
    Ban(BanWanted),

    /// Let somebody in again.
    Unban(Unban),

    /// List the ranges of a running node, with their replicas and logs.
    Ranges(#[command(flatten)] Target),

    /// Follow a client, topics or an address, and show what happens to their messages until the time is over.
    Trace(TraceWanted),
}

/// Which tenants.
#[derive(Debug, Args)]
pub(crate) struct Tenants {
    /// Only those with this in their name.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    target: Target,
}

/// How many.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Limit {
    /// The most lines.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(super) limit: usize,
}

/// Which sessions.
#[derive(Debug, Args)]
pub(crate) struct Find {
    /// Only of this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only those with this in their client id.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only those that were let in as this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    target: Target,
}

/// Which sessions, and whether their clients are there.
#[derive(Debug, Args)]
pub(crate) struct Sessions {
    /// Only those whose client is online, or away.
    #[arg(long)]
    state: Option<Presence>,
    #[command(flatten)]
    find: Find,
}

/// Whether a session's client is there.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Presence {
    /// It is connected.
    Online,
    /// Its session waits for it.
    Away,
}

/// One client.
#[derive(Debug, Args)]
pub(crate) struct OneClient {
    /// Its id.
    client: String,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// Whose.
#[derive(Debug, Args)]
pub(crate) struct Tenant {
    /// Its tenant.
    #[arg(long, value_name = "TENANT", default_value = "default")]
    tenant: String,
}

/// Who is to go.
#[derive(Debug, Args)]
pub(crate) struct Kick {
    /// The client's id.
    #[arg(required_unless_present = "all")]
    client: Option<String>,
    /// All clients of the tenant.
    #[arg(long, conflicts_with = "client")]
    all: bool,
    /// With --all, only those that were let in as this user.
    #[arg(long, value_name = "USER", requires = "all")]
    user: Option<String>,
    /// Tell them to go elsewhere.
    #[arg(long)]
    redirect: Option<Redirect>,
    /// Where to.
    #[arg(long, value_name = "SERVER", requires = "redirect")]
    server_reference: Option<String>,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// Whether for good.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Redirect {
    /// For good (0x9D).
    Move,
    /// For now (0x9C).
    TempUse,
}

/// Which sessions are to end.
#[derive(Debug, Args)]
pub(crate) struct ExpireSessions {
    /// Those whose clients have been away for so long.
    #[arg(long, value_name = "SECONDS")]
    away_seconds: u32,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// Which subscriptions.
#[derive(Debug, Args)]
pub(crate) struct Subscriptions {
    /// Only of sessions of this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only of this client.
    #[arg(long, value_name = "CLIENT")]
    client: Option<String>,
    /// Only those with this in their filter.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    target: Target,
}

/// A subscription to make.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The client's id.
    client: String,
    /// What it subscribes to.
    filter: String,
    /// The highest QoS.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// A subscription to end.
#[derive(Debug, Args)]
pub(crate) struct Unsubscribe {
    /// The client's id.
    client: String,
    /// As it was subscribed to.
    filter: String,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// A message.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// Its topic.
    topic: String,
    /// What it says.
    #[arg(default_value = "")]
    payload: String,
    /// Its QoS.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Keep it for who subscribes later; without payload, remove what was kept.
    #[arg(long)]
    retain: bool,
    /// Its lifetime.
    #[arg(long, value_name = "SECONDS")]
    expiry_seconds: Option<u32>,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// Which retained messages.
#[derive(Debug, Args)]
pub(crate) struct Retained {
    /// On topics that this matches.
    #[arg(default_value = "#")]
    filter: String,
    /// Show the payloads.
    #[arg(long)]
    payload: bool,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

/// Which retained messages are to go.
#[derive(Debug, Args)]
pub(crate) struct ClearRetained {
    /// On topics that this matches.
    filter: String,
    #[command(flatten)]
    tenant: Tenant,
    #[command(flatten)]
    target: Target,
}

impl Remote {
    /// Asks, and shows what comes back.
    ///
    /// # Errors
    /// The node cannot be asked, or says no.
    pub(crate) fn run(&self) -> Result<(), RemoteError> {
        match self {
            Remote::Status(target) => {
                let node = Node::new(target)?;
                node.one(&node.value("GET", "/status", None)?)
            }
            Remote::Metrics(target) => show(&Node::new(target)?.text("GET", "/metrics", None)?),
            Remote::Cluster(target) => {
                let node = Node::new(target)?;
                node.one(&node.value("GET", "/cluster", None)?)
            }
            Remote::Tenants(wanted) => wanted.list(),
            Remote::Clients(wanted) => wanted.list("/api/v1/clients", None),
            Remote::Sessions(wanted) => {
                let state = wanted.state.map(|state| match state {
                    Presence::Online => "online",
                    Presence::Away => "away",
                });
                wanted.find.list("/api/v1/sessions", state)
            }
            Remote::Session(OneClient { client, tenant, target }) => {
                let node = Node::new(target)?;
                let query = Query::default().and("tenant", Some(&tenant.tenant));
                node.one(&node.value(
                    "GET",
                    &format!("/api/v1/sessions/{}{}", escape(client), query.0),
                    None,
                )?)
            }
            Remote::Kick(kick) => kick.run(),
            Remote::Backup(wanted) => wanted.run(),
            Remote::ExpireSessions(ExpireSessions { away_seconds, tenant, target }) => {
                let query = Query::default().and("tenant", Some(&tenant.tenant));
                let query = query.and("away_seconds", Some(away_seconds));
                Node::new(target)?.act("DELETE", &format!("/api/v1/sessions{}", query.0), None)
            }
            Remote::Subscriptions(wanted) => wanted.list(),
            Remote::Subscribe(Subscribe { client, filter, qos, tenant, target }) => {
                let body = json!({"tenant": tenant.tenant, "client": client, "filter": filter, "qos": qos});
                Node::new(target)?.act("POST", "/api/v1/subscriptions", Some(&body))
            }
            Remote::Unsubscribe(Unsubscribe { client, filter, tenant, target }) => {
                let query = Query::default().and("tenant", Some(&tenant.tenant));
                let query = query.and("client", Some(client)).and("filter", Some(filter));
                Node::new(target)?.act("DELETE", &format!("/api/v1/subscriptions{}", query.0), None)
            }
            Remote::Publish(publish) => publish.run(),
            Remote::Retained(wanted) => wanted.list(),
            Remote::Bans(wanted) => wanted.list(),
            Remote::Ban(wanted) => wanted.run(),
            Remote::Unban(wanted) => wanted.run(),
            Remote::Ranges(target) => super::operations::ranges(target),
            Remote::Trace(wanted) => wanted.run(),
            Remote::ClearRetained(ClearRetained { filter, tenant, target }) => {
                let query = Query::default().and("tenant", Some(&tenant.tenant)).and("filter", Some(filter));
                Node::new(target)?.act("DELETE", &format!("/api/v1/retained{}", query.0), None)
            }
        }
    }
}

impl Find {
    fn list(&self, path: &str, state: Option<&str>) -> Result<(), RemoteError> {
        let query = Query::default().and("tenant", self.tenant.as_ref()).and("search", self.search.as_ref());
        let query = query.and("user", self.user.as_ref()).and("state", state);
        let columns = [
            ("TENANT", "tenant"),
            ("CLIENT", "client"),
            ("USER", "user"),
            ("STATE", "state"),
            ("PROTOCOL", "protocol"),
            ("PEER", "peer"),
            ("CORE", "core"),
            ("SUBSCRIPTIONS", "subscriptions"),
            ("QUEUED", "queued_messages"),
            ("QUEUED BYTES", "queued_bytes"),
        ];
        Node::new(&self.target)?.list(path, &query, self.limit.limit, &columns)
    }
}

impl Tenants {
    fn list(&self) -> Result<(), RemoteError> {
        let query = Query::default().and("search", self.search.as_ref());
        let columns = [
            ("TENANT", "name"),
            ("CLIENTS", "clients"),
            ("AWAY", "sessions_away"),
            ("SUBSCRIPTIONS", "subscriptions"),
            ("RETAINED", "retained_messages"),
            ("QUEUED", "queued_messages"),
            ("QUEUED BYTES", "queued_bytes"),
            ("IN BY QOS", "messages_received"),
            ("OUT BY QOS", "messages_sent"),
            ("DROPPED", "messages_dropped"),
        ];
        Node::new(&self.target)?.list("/api/v1/tenants", &query, self.limit.limit, &columns)
    }
}

impl Subscriptions {
    fn list(&self) -> Result<(), RemoteError> {
        let query = Query::default().and("tenant", self.tenant.as_ref()).and("client", self.client.as_ref());
        let query = query.and("search", self.search.as_ref());
        let columns = [
            ("TENANT", "tenant"),
            ("CLIENT", "client"),
            ("FILTER", "filter"),
            ("QOS", "qos"),
            ("NO LOCAL", "no_local"),
            ("ID", "subscription_id"),
        ];
        Node::new(&self.target)?.list("/api/v1/subscriptions", &query, self.limit.limit, &columns)
    }
}

impl Retained {
    fn list(&self) -> Result<(), RemoteError> {
        let query =
            Query::default().and("tenant", Some(&self.tenant.tenant)).and("filter", Some(&self.filter));
        let query = query.and("payload", self.payload.then_some(true));
        let plain = [("TOPIC", "topic"), ("QOS", "qos"), ("BYTES", "payload_bytes")];
        let full = [plain.as_slice(), &[("PAYLOAD", "payload"), ("IN BASE64", "payload_base64")]].concat();
        let columns: &[_] = if self.payload { &full } else { &plain };
        Node::new(&self.target)?.list("/api/v1/retained", &query, self.limit.limit, columns)
    }
}

impl Kick {
    fn run(&self) -> Result<(), RemoteError> {
        let redirect = self.redirect.map(|redirect| match redirect {
            Redirect::Move => "move",
            Redirect::TempUse => "temp_use",
        });
        let query = Query::default().and("tenant", Some(&self.tenant.tenant)).and("user", self.user.as_ref());
        let query = query.and("redirect", redirect).and("server_reference", self.server_reference.as_ref());
        let path = match &self.client {
            Some(client) => format!("/api/v1/clients/{}{}", escape(client), query.0),
            None => format!("/api/v1/clients{}", query.0),
        };
        Node::new(&self.target)?.act("DELETE", &path, None)
    }
}

impl Publish {
    fn run(&self) -> Result<(), RemoteError> {
        let body = json!({
            "tenant": self.tenant.tenant,
            "topic": self.topic,
            "payload": self.payload,
            "qos": self.qos,
            "retain": self.retain,
            "expiry_seconds": self.expiry_seconds,
        });
        Node::new(&self.target)?.act("POST", "/api/v1/messages", Some(&body))
    }
}

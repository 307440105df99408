//! The configuration of a node: defaults, over them a file, over it the environment, over that the command
//! line. It reads what is to be read, says all that is wrong with it, and opens nothing else.
//!
//! What a key is called, takes and means by default stands beside the field it sets: in `sections.rs`, and in
//! the core for limits and tenants. `conf/hermod.toml` shows all of them, and the tests below hold it to that.

mod apply;
mod changes;
mod sections;
mod tree;
mod wal;
mod wrong;

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod shipped;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use broker_core::config::{Config, Settings};

pub(crate) use changes::Effect;
pub(crate) use sections::{
    ClientCertificates, Cluster, Cores, Data, Filter, Listener, Log, Name, Node, Roles,
};
pub(crate) use wal::{Append, Wal};
use wrong::{Reason, Wrong};

use crate::admin;
use crate::auth;
use crate::cli::Serve;
use crate::events;

/// All that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Configuration {
    pub(crate) node: Node,
    pub(crate) log: Log,
    pub(crate) auth: auth::Settings,
    pub(crate) admin: admin::Settings,
    pub(crate) events: events::Settings,
    pub(crate) cluster: Cluster,
    pub(crate) roles: Roles,
    pub(crate) wal: Wal,
    pub(crate) listeners: Vec<Listener>,
    /// `[limits]`, in the fields that are keys.
    pub(crate) limits: Config,
    /// `[tenants.default]`: what holds for tenants that say nothing else.
    pub(crate) default_tenant: Settings,
    /// `[tenants.NAME]`.
    pub(crate) tenants: BTreeMap<String, Settings>,
}

/// What is wrong with a configuration: all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(Vec<Wrong>);

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wrong) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{wrong}")?;
        }
        Ok(())
    }
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            node: Node::default(),
            log: Log::default(),
            auth: auth::Settings::default(),
            admin: admin::Settings::default(),
            events: events::Settings::default(),
            cluster: Cluster::default(),
            roles: Roles::default(),
            wal: Wal::default(),
            listeners: vec![Listener::default()],
            limits: Config::default(),
            default_tenant: Settings::default(),
            tenants: BTreeMap::new(),
        }
    }
}

impl Configuration {
    /// What the command line asks for, the file that it names and this process's environment included.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn load(serve: &Serve) -> Result<Configuration, Refused> {
        let mut configuration = Configuration::read(
            serve.config.as_deref(),
            std::env::vars_os().filter_map(
                // What is not UTF-8 is not ours.
                |(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)),
            ),
        )?;
        serve.apply(&mut configuration);
        Ok(configuration)
    }

    fn read(
        path: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Configuration, Refused> {
        let other = |key: &str, origin, reason| {
            Refused(vec![Wrong { origin, key: key.to_owned(), reason: Reason::Other(reason) }])
        };
        let mut table = match path {
            None => tree::Table::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| other(&path.display().to_string(), None, error.to_string()))?;
                tree::parse(path, &text).map_err(|(origin, reason)| other("", Some(origin), reason))?
            }
        };
        tree::overlay(&mut table, variables).map_err(|(origin, reason)| other("", Some(origin), reason))?;
        apply::apply(&table)
    }

    /// Whether there is anybody whom events can be told.
    fn tells_events(&self) -> bool {
        let mut tenants = std::iter::once(&self.default_tenant).chain(self.tenants.values());
        self.events.file.path().is_some()
            || self.events.webhook_url.0.is_some()
            || tenants.any(|tenant| tenant.events_sinks.topics)
    }

    /// The part that the cores take, which has been checked: what the sections say is in the ranges of the keys.
    pub(crate) fn core(&self, cores: u16, notices: bool) -> Config {
        let named =
            |(name, tenant): (&String, &Name)| (name.to_ascii_lowercase(), Arc::from(tenant.0.as_str()));
        let listener = |listener: &Listener| broker_core::config::Listener {
            tenant: Some(Arc::from(listener.tenant.0.as_str())),
            tenant_from_username: listener.tenant_from_username,
            tenants_by_name: listener.tenants.iter().map(named).collect(),
            connect_timeout_ms: Some(listener.connect_timeout_ms).filter(|timeout| *timeout > 0),
            settings: listener.settings.clone(),
        };
        let tenant = |(name, settings): (&String, &Settings)| (name.clone(), Arc::new(settings.clone()));
        Config {
            cores,
            notices: notices || self.tells_events(),
            authentication: self.auth.authentication(),
            listeners: self.listeners.iter().map(listener).collect(),
            settings: Arc::new(self.default_tenant.clone()),
            tenants: self.tenants.iter().map(tenant).collect(),
            ..self.limits.clone()
        }
    }
}

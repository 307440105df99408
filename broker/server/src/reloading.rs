//! SIGHUP: the configuration is read again, and what can change while the process runs does. What is wrong
//! with it changes nothing.

use std::error::Error;
use std::sync::Arc;

use broker_core::config::Config;

use crate::admin::{self, Token};
use crate::auth::{self, Loaded};
use crate::cli::Serve;
use crate::configuration::{Configuration, Effect};
use crate::listener::Place;
use crate::log::Log;
use crate::transport::{self, Protocol};

/// What is needed to read the configuration again.
pub(crate) struct Reloading<'a> {
    /// The command line, which is over everything.
    pub(crate) serve: &'a Serve,
    pub(crate) log: Log,
}

/// What the cores are to go by now.
pub(crate) struct Reloaded {
    /// The configuration, if it is another.
    pub(crate) config: Option<Arc<Config>>,
    /// What the files say that it names.
    pub(crate) loaded: Loaded,
    /// What their listeners speak.
    pub(crate) protocols: Arc<[Protocol]>,
    /// What users of the administration show.
    pub(crate) token: Option<Token>,
    /// How many keys have changed.
    pub(crate) changes: usize,
}

/// A configuration, and what the files say that it names.
type Files = (Configuration, Loaded, Arc<[Protocol]>, Option<Token>);

impl Reloading<'_> {
    /// Whether connections' comings and goings are logged.
    pub(crate) fn notices() -> bool {
        tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Reads the configuration again, and the files that it names. What the cores are to have now, unless
    /// anything is wrong with it. `places` are where clients are accepted,
    /// each with the index of its listener.
    pub(crate) fn reload(
        &self,
        configuration: &mut Configuration,
        cores: u16,
        places: &[(u16, Place)],
    ) -> Option<Reloaded> {
        let (new, loaded, protocols, token) = match self.load(configuration, places) {
            Ok(read) => read,
            Err(refused) => {
                for line in refused.to_string().lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("SIGHUP: the configuration stays as it was");
                return None;
            }
        };
        let before = configuration.core(cores, Reloading::notices());
        let changes = configuration.reload(&new);
        if changes.iter().any(|change| change.key == "log.filter") {
            self.log.set(&configuration.log.filter);
        }
        for change in &changes {
            match change.effect {
                Effect::Now | Effect::NextConnect => tracing::info!("{change}"),
                Effect::Restart => tracing::warn!("{change}"),
            }
        }
        let after = configuration.core(cores, Reloading::notices());
        let config = (before != after).then(|| Arc::new(after));
        Some(Reloaded { config, loaded, protocols, token, changes: changes.len() })
    }

    fn load(&self, old: &Configuration, places: &[(u16, Place)]) -> Result<Files, Box<dyn Error>> {
        let new = Configuration::load(self.serve)?;
        let mut next = old.clone();
        next.reload(&new);
        auth::check_doors(&next, places)?;
        let loaded = auth::load(&new.auth)?;
        let protocols = transport::load(&next.listeners)?;
        // The file is named for the whole of the process; what is in it is not.
        let token = admin::token(&old.admin)?;
        Ok((new, loaded, protocols, token))
    }
}

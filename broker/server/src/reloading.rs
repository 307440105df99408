//! SIGHUP: the configuration is read again, and what can change while the process runs does. What is wrong
//! with it changes nothing.

use std::sync::Arc;

use broker_core::config::Config;

use crate::cli::Serve;
use crate::configuration::{Configuration, Effect};
use crate::log::Log;

/// What is needed to read the configuration again.
pub(crate) struct Reloading<'a> {
    /// The command line, which is over everything.
    pub(crate) serve: &'a Serve,
    pub(crate) log: Log,
}

impl Reloading<'_> {
    /// Whether connections' comings and goings are logged.
    pub(crate) fn notices() -> bool {
        tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Reads the configuration again. What the cores are to have now, if they are to have something else.
    pub(crate) fn reload(&self, configuration: &mut Configuration, cores: u16) -> Option<Arc<Config>> {
        let new = match Configuration::load(self.serve) {
            Ok(new) => new,
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
        tracing::info!("SIGHUP: the configuration is loaded again, with {} changes", changes.len());
        let after = configuration.core(cores, Reloading::notices());
        (before != after).then(|| Arc::new(after))
    }
}

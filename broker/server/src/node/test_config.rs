//! `--test-config`: whether a configuration can be served on this machine, as far as that can be said without listening
//! anywhere and without a look at the data.

use super::StartError;
use crate::admin::KeptBans;
use crate::configuration::Configuration;
use crate::reloading::Reloading;
use crate::{admin, auth, cores, events, listener, transport};

/// Says the first thing for which a node would not start.
pub(crate) fn test_config(configuration: &Configuration) -> Result<(), StartError> {
    let cpus = cores::choose(configuration.node.cores.0.as_ref()).map_err(StartError::Cores)?;
    let count = u16::try_from(cpus.0.len()).map_err(|_| StartError::TooManyCores(cpus.0.len()))?;
    configuration.core(count, Reloading::notices()).check().map_err(StartError::Config)?;
    // What it names has to be what it should be, too.
    auth::load(&configuration.auth).map_err(StartError::Auth)?;
    transport::load(&configuration.listeners).map_err(StartError::Tls)?;
    let listeners = configuration.listeners.iter().map(|listener| &listener.bind);
    let places = listener::resolve(listeners).map_err(StartError::Bind)?;
    auth::check_doors(configuration, &places).map_err(StartError::Open)?;
    KeptBans::open(configuration.admin.bans_file.path()).map_err(StartError::Admin)?;
    admin::check(&configuration.admin).map_err(StartError::Admin)?;
    events::check(&configuration.events).map_err(StartError::Events)
}

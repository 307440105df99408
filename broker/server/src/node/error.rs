//! Why a node does not start, in words.

use std::fmt;
use std::io;

use broker_core::config::ConfigError;
use broker_core::identity::CoreId;

use crate::admin::AdminError;
use crate::auth::{LoadError, OpenDoor};
use crate::cores::CoresError;
use crate::events::EventsError;
use crate::listener::BindError;
use crate::storage::damage::StorageError;
use crate::transport::TlsError;

/// Why a node does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// No CPUs to run on.
    Cores(CoresError),
    /// More cores than a node can number.
    TooManyCores(usize),
    /// A setting is out of range.
    Config(ConfigError),
    /// A file that says who is let in cannot be used.
    Auth(LoadError),
    /// A listener has no certificates.
    Tls(TlsError),
    /// Everybody would be let in.
    Open(OpenDoor),
    /// The data directory cannot be served.
    Storage(StorageError),
    /// An address cannot be listened on.
    Bind(BindError),
    /// There can be no administration where it is configured.
    Admin(AdminError),
    /// A core cannot run.
    Core(CoreId, io::Error),
    /// What happens cannot be written down.
    Events(EventsError),
    /// The kernel refuses something without which no node runs.
    System(io::Error),
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Cores(error) => error.fmt(f),
            StartError::TooManyCores(cores) => write!(f, "{cores} cores are more than a node can have"),
            StartError::Config(error) => error.fmt(f),
            StartError::Auth(error) => error.fmt(f),
            StartError::Tls(error) => error.fmt(f),
            StartError::Open(door) => door.fmt(f),
            StartError::Storage(error) => error.fmt(f),
            StartError::Bind(error) => error.fmt(f),
            StartError::Admin(error) => error.fmt(f),
            StartError::Core(core, error) => write!(
                f,
                "core {} cannot run: {error} (a ring needs LimitMEMLOCK= of 1 MiB per core, \
                 and a sandbox that allows io_uring; --io epoll needs neither)",
                core.0
            ),
            StartError::Events(error) => error.fmt(f),
            StartError::System(error) => error.fmt(f),
        }
    }
}

//! Promises that a node does not keep: what tests use to see that the checkers bite on whole runs, where a fault between
//! the broker and its clients would not show.

use std::sync::Arc;

use broker_core::config::{Config, Settings};

/// What the node does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It closes the loser of a take-over after the winner's CONNACK has left.
    ClosesLate,
    /// It does not hold to the limits of queues and of what is unsent.
    LimitsIgnored,
    /// It takes no connection's bytes up again, as if the core had not said so.
    ResumesNobody,
}

impl Breach {
    /// What the node goes by in place of its configuration.
    #[must_use]
    pub fn of_limits(self, config: &Arc<Config>) -> Arc<Config> {
        if self != Breach::LimitsIgnored {
            return Arc::clone(config);
        }
        let Settings { queue_messages_max, queue_bytes_max, send_bytes_max, .. } = Settings::default();
        let settings = Settings::clone(&config.settings);
        let settings = Settings { queue_messages_max, queue_bytes_max, send_bytes_max, ..settings };
        Arc::new(Config { settings: Arc::new(settings), ..Config::clone(config) })
    }
}

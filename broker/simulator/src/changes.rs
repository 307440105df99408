//! What a seed decides of paces, and of settings that change while a run goes on. Drawn by itself, so that the seeds
//! without are what they always were.

use std::collections::VecDeque;
use std::sync::Arc;

use broker_core::config::{Config, QueueDrop, Settings, SharedStrategy};

use crate::random::Random;

/// The configurations of a run.
#[derive(Clone, Debug)]
pub struct Changes {
    /// What the node starts with.
    pub first: Arc<Config>,
    /// What it is given later, in this order, at times that the seed says.
    pub later: VecDeque<Arc<Config>>,
}

impl Changes {
    /// Those of a seed: the drawn configuration, perhaps with paces, and perhaps others after it.
    #[must_use]
    pub fn draw(random: &mut Random, config: &Arc<Config>) -> Changes {
        let first = if random.percent(30) {
            with(config, paced(random, &config.settings))
        } else {
            Arc::clone(config)
        };
        let mut changes = Changes { later: VecDeque::new(), first };
        if random.percent(30) {
            for _ in 0..random.between(1, 4) {
                let settings = changed(random, &changes.first.settings);
                changes.later.push_back(with(&changes.first, settings));
            }
        }
        changes
    }

    /// Whether the node has paces at any time.
    #[must_use]
    pub fn are_paced(&self) -> bool {
        let paced = |config: &Arc<Config>| {
            let settings = &config.settings;
            settings.publishes_per_second_max > 0
                || settings.inbound_bytes_per_second_max > 0
                || settings.outbound_bytes_per_second_max > 0
                || settings.total_inbound_bytes_per_second_max > 0
        };
        paced(&self.first) || self.later.iter().any(paced)
    }

    /// What the checkers hold sizes against: the largest that any of the configurations allows.
    #[must_use]
    pub fn bounds(&self) -> Config {
        let mut bounds = Settings::clone(&self.first.settings);
        for Config { settings, .. } in self.later.iter().map(|config| &**config) {
            bounds.inflight_max = bounds.inflight_max.max(settings.inflight_max);
            bounds.queue_messages_max = bounds.queue_messages_max.max(settings.queue_messages_max);
            bounds.queue_bytes_max = bounds.queue_bytes_max.max(settings.queue_bytes_max);
            bounds.send_bytes_max = bounds.send_bytes_max.max(settings.send_bytes_max);
        }
        Config { settings: Arc::new(bounds), ..Config::clone(&self.first) }
    }
}

fn with(config: &Config, settings: Settings) -> Arc<Config> {
    let config = Config { settings: Arc::new(settings), ..Config::clone(config) };
    config.check().expect("a drawn configuration is valid");
    Arc::new(config)
}

/// Rates low enough to bite, and high enough for a run to come to its end: what they hold back is held back for seconds.
fn paced(random: &mut Random, settings: &Settings) -> Settings {
    Settings {
        publishes_per_second_max: random.pick(&[0, 100, 2_000]),
        inbound_bytes_per_second_max: random.pick(&[0, 10_000, 100_000]),
        outbound_bytes_per_second_max: random.pick(&[0, 20_000, 200_000]),
        total_inbound_bytes_per_second_max: random.pick(&[0, 0, 100_000]),
        ..settings.clone()
    }
}

fn changed(random: &mut Random, settings: &Settings) -> Settings {
    let settings = if random.percent(50) { paced(random, settings) } else { settings.clone() };
    Settings {
        inflight_max: random.pick(&[1, 5, 1024]),
        topic_alias_outbound_max: random.pick(&[0, 1, 64]),
        shared_strategy: random.pick(&[
            SharedStrategy::RoundRobin,
            SharedStrategy::Sticky,
            SharedStrategy::HashTopic,
            SharedStrategy::LeastInflight,
        ]),
        shared_queue_max: random.pick(&[1, 1000]),
        queue_messages_max: random.pick(&[1, 10, 100_000]),
        queue_bytes_max: random.pick(&[500, 64 * 1024 * 1024]),
        queue_drop: random.pick(&[QueueDrop::Newest, QueueDrop::Oldest]),
        ..settings
    }
}

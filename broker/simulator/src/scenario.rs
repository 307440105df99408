//! What a seed decides before a run begins: the node's settings, its host's habits and its clients' kinds.

use std::sync::Arc;

use broker_core::config::{Authentication, Config, QueueDrop, Settings, SharedStrategy};
use mqtt::Version;
use wal::simulated_disk::Lie;

use crate::random::Random;

/// The host's habits: how it uses the freedom the contract leaves it.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Of what could fall into a turn, how much does.
    pub input_percent: u64,
    /// How often what a send or close came to is told in the same turn.
    pub report_percent: u64,
    /// Weights of a stream's parts: all of it, some, one byte.
    pub split: [u32; 3],
    /// The longest a message between cores usually takes.
    pub mail_us_max: u64,
    /// How often it may take longer.
    pub mail_slow_percent: u64,
    /// And then how long.
    pub mail_slow_us: u64,
    /// The longest an authentication takes.
    pub answer_us_max: u64,
    /// Bytes that the kernels hold on the way to a client, least and most.
    pub socket_bytes: (u64, u64),
}

/// The disks' habits, and when the node on them ends.
#[derive(Clone, Debug)]
pub struct DiskHabits {
    /// How fast they are: the weight of a step of theirs beside a client's chance, which has 6.
    pub speed: u32,
    /// How often the node ends in a run.
    pub crashes: u64,
    /// How often with the machine, and not alone.
    pub power_percent: u64,
    /// The longest it stays away, milliseconds.
    pub down_ms_max: u64,
    /// It may start with another number of cores.
    pub cores_change: bool,
    /// Bytes of a log's segment.
    pub segment_bytes: u32,
    /// The longest a commit waits for company, nanoseconds.
    pub linger_ns_max: u64,
    /// How much of a log makes a checkpoint due, bytes.
    pub checkpoint_log_bytes: u64,
    /// What goes wrong with them.
    pub faults: DiskFaults,
    /// They betray the node: for tests of the checkers.
    pub lie: Option<Lie>,
}

/// What goes wrong with disks that do not lie.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    /// A write or sync of a commit fails once in so many: the process ends, and is started again. 0: never.
    pub flush_fails_once_in: u64,
    /// A new segment cannot be made once in so many, which is taken for a full disk. 0: never.
    pub segment_fails_once_in: u64,
    /// How often in a run the file system fills.
    pub fills: u64,
    /// Of so many of the run's chances about one frees space again; the other times it stays full.
    pub full_steps: u64,
    /// How many of a hundred times it is full before the watermark was seen: no file can be made or grow.
    pub hard_percent: u64,
}

/// What a client does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Reads everything at once.
    Prompt,
    /// Reads a little now and then.
    Slow,
    /// Stops reading for long times.
    Stuck,
}

/// One client's kind.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Protocol version.
    pub version: Version,
    /// How it reads.
    pub reader: Reader,
    /// How often, of a hundred chances, it sends acknowledgements that wait.
    pub ack_percent: u64,
    /// How often a connection asks for a session that outlives it.
    pub persistent_percent: u64,
    /// Session expiry in seconds of such a session (version 5).
    pub expiry: u32,
    /// Subscribes to shared filters, and to no others.
    pub shared: bool,
    /// Receive maximum, if it names one (version 5).
    pub receive_maximum: Option<u16>,
    /// Maximum packet size, if it names one (version 5).
    pub packet_bytes_max: Option<u32>,
    /// Topic alias maximum (version 5).
    pub alias_max: u16,
    /// Keep alive in seconds.
    pub keep_alive: u16,
    /// Weights of what it does next, by `client::act::Action`.
    pub weights: [u32; 12],
    /// Largest payload.
    pub payload_bytes_max: u64,
    /// How many topics it publishes to.
    pub topics: usize,
    /// How many of a hundred messages it has retained.
    pub retain_percent: u64,
}

/// Everything a seed decides before the run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The node's configuration.
    pub config: Arc<Config>,
    /// The host's habits.
    pub habits: Habits,
    /// Those of its disks; none: everything is kept in memory, and the node does not end.
    pub disk: Option<DiskHabits>,
    /// The clients.
    pub clients: Vec<Profile>,
    /// How often nothing is to move in a run.
    pub rounds: u64,
    /// The longest step of time, microseconds.
    pub step_us_max: u64,
    /// Of a hundred quiet times, how many are followed by seconds in which nothing happens.
    pub pause_percent: u64,
}

impl Scenario {
    /// The scenario of a seed; `cores` overrides the drawn number.
    #[must_use]
    pub fn draw(random: &mut Random, cores: Option<u16>) -> Scenario {
        let drawn = random.between(1, 4) as u16;
        let cores = cores.unwrap_or(drawn);
        let tight = random.percent(40);
        let config = Config {
            cores,
            authentication: if random.percent(20) { Authentication::Ask } else { Authentication::Open },
            settings: Arc::new(draw_settings(random, tight)),
            connect_bytes_max: 4096,
            close_linger_ms: random.between(50, 2_000) as u32,
            match_cache_topics_max: random.pick(&[0, 1, 2, 4, 200_000, 200_000]),
            mailbox_bytes_max: if tight { random.pick(&[512, 2_048, 16_384]) } else { 16 * 1024 * 1024 },
            turn_deliveries_max: random.pick(&[1, 2, 7, 64, 16_384, 16_384]),
            ..Config::default()
        };
        config.check().expect("a drawn configuration is valid");
        let topics = random.between(1, crate::topics::TOPICS.len() as u64) as usize;
        let clients = random.between(2, 9);
        let faulty = random.percent(50);
        let clients = (0..clients).map(|_| draw_profile(random, topics, faulty, tight)).collect();
        Scenario {
            config: Arc::new(config),
            habits: draw_habits(random),
            disk: None,
            clients,
            rounds: random.between(2, 6),
            step_us_max: random.pick(&[10, 200, 1_000]),
            pause_percent: random.pick(&[0, 20, 60]),
        }
    }
}

fn draw_settings(random: &mut Random, tight: bool) -> Settings {
    let settings = Settings {
        receive_maximum: random.pick(&[1, 2, 8, 1024]),
        inflight_max: random.pick(&[1, 2, 5, 1024]),
        topic_alias_max: random.pick(&[0, 2, 64]),
        topic_alias_outbound_max: random.pick(&[0, 1, 64]),
        shared_strategy: random.pick(&[
            SharedStrategy::RoundRobin,
            SharedStrategy::Random,
            SharedStrategy::Sticky,
            SharedStrategy::HashClient,
            SharedStrategy::HashTopic,
            SharedStrategy::LeastInflight,
        ]),
        queue_qos0: random.percent(30),
        queue_drop: random.pick(&[QueueDrop::Newest, QueueDrop::Oldest]),
        ..Settings::default()
    };
    if !tight {
        return settings;
    }
    Settings {
        shared_queue_max: random.pick(&[1, 3, 1000]),
        queue_messages_max: random.pick(&[1, 3, 10, 100_000]),
        queue_bytes_max: random.pick(&[500, 5_000, 64 * 1024 * 1024]),
        send_bytes_max: random.pick(&[4096, 8192, 4 * 1024 * 1024]),
        ..settings
    }
}

fn draw_habits(random: &mut Random) -> Habits {
    Habits {
        input_percent: random.pick(&[20, 50, 80, 100]),
        report_percent: random.pick(&[0, 50, 100]),
        split: random.pick(&[[1, 0, 0], [8, 2, 1], [2, 4, 1], [1, 2, 8]]),
        mail_us_max: random.pick(&[0, 100, 5_000]),
        mail_slow_percent: random.pick(&[0, 5, 30]),
        mail_slow_us: random.pick(&[1_000, 20_000]),
        answer_us_max: random.pick(&[0, 5_000]),
        socket_bytes: random.pick(&[(64, 256), (512, 4_096), (4_096, 65_536)]),
    }
}

/// The disks of a seed, if it has any. Drawn by themselves, so that the seeds without are what they always were.
#[must_use]
pub fn draw_disk(random: &mut Random, percent: u64) -> Option<DiskHabits> {
    random.percent(percent).then(|| DiskHabits {
        speed: random.pick(&[1, 4, 12]),
        crashes: random.between(1, 4),
        power_percent: random.pick(&[0, 50, 100]),
        down_ms_max: random.pick(&[1, 2_000, 20_000]),
        cores_change: random.percent(40),
        segment_bytes: random.pick(&[32 << 10, 64 << 10, 256 << 10]),
        linger_ns_max: random.pick(&[0, 0, 200_000]),
        checkpoint_log_bytes: random.pick(&[8 << 10, 64 << 10, 1 << 20]),
        faults: DiskFaults::default(),
        lie: None,
    })
}

/// Some disks fail, and some are full at times. Drawn by themselves, so that the other seeds are what they always were.
pub fn draw_disk_faults(random: &mut Random, (failing, full): (u64, u64), disk: &mut DiskHabits) {
    if random.percent(failing) {
        disk.faults.flush_fails_once_in = random.pick(&[20, 100, 400]);
    }
    if random.percent(full) {
        disk.faults = DiskFaults {
            segment_fails_once_in: random.pick(&[0, 0, 3, 20]),
            fills: random.between(1, 6),
            full_steps: random.pick(&[30, 300, 1_500]),
            hard_percent: random.pick(&[0, 30, 100]),
            ..disk.faults
        };
    }
}

fn draw_profile(random: &mut Random, topics: usize, faulty: bool, tight: bool) -> Profile {
    let version =
        random.pick(&[Version::V31, Version::V311, Version::V311, Version::V5, Version::V5, Version::V5]);
    let v5 = version == Version::V5;
    let reader = match random.below(6) {
        0 if tight => Reader::Stuck,
        1 => Reader::Slow,
        _ => Reader::Prompt,
    };
    // Publish, subscribe, unsubscribe, disconnect, abort, give up for a newer connection, ping, garbage,
    // fall silent, pause reading, burst, nothing.
    let publisher = random.percent(70);
    let weights = if publisher {
        [60, 6, 2, 2, 2, 2, 2, u32::from(faulty), u32::from(faulty), 1, 4, 10]
    } else {
        [8, 16, 4, 3, 3, 3, 2, u32::from(faulty), u32::from(faulty), 2, 0, 30]
    };
    Profile {
        version,
        reader,
        ack_percent: random.pick(&[100, 100, 50, 10, 3]),
        persistent_percent: random.pick(&[0, 50, 100, 100]),
        expiry: random.pick(&[5, 60, u32::MAX]),
        shared: random.percent(25),
        receive_maximum: (v5 && random.percent(50)).then(|| random.pick(&[1, 2, 3, 10])),
        packet_bytes_max: (v5 && random.percent(20)).then(|| random.between(100, 400) as u32),
        alias_max: if v5 { random.pick(&[0, 1, 3, 100]) } else { 0 },
        keep_alive: random.pick(&[0, 2, 5, 60]),
        weights,
        payload_bytes_max: random.pick(&[9, 40, 300, if tight { 6_000 } else { 1_000 }]),
        topics,
        retain_percent: 15,
    }
}

/// In some seeds what is retained changes all the time, on few topics, while subscriptions come and go. Drawn by itself,
/// so that the other seeds are what they always were.
pub fn draw_retaining(random: &mut Random, clients: &mut [Profile]) {
    if !random.percent(20) {
        return;
    }
    for (index, profile) in clients.iter_mut().enumerate() {
        profile.retain_percent = 90;
        if index == 0 {
            (profile.topics, profile.weights) =
                (random.between(1, 2) as usize, [60, 0, 0, 1, 0, 0, 2, 0, 0, 0, 1, 20]);
        } else {
            profile.shared = false;
            profile.weights = [u32::from(random.one_in(4)), 6, 1, 3, 1, 1, 2, 0, 0, 1, 0, 40];
            profile.persistent_percent = 20;
        }
    }
}

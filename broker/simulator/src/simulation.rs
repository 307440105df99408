//! One run: a seed becomes a node and clients, and these take turns as the seed says. Times of chaos, when
//! anything may happen, alternate with times when everything comes to its end and nothing moves any more;
//! then the checkers can say what is missing.

use std::sync::Arc;
use std::time::Duration;

use broker_core::counters::Counters;
use broker_core::time::Mono;

use crate::changes::Changes;
use crate::checkers::{Checkers, Finding};
use crate::client::Client;
use crate::client::tamper::{Fault, Tamper};
use crate::history::{ClientIndex, Fact, History};
use crate::node::{Breach, Node};
use crate::random::Random;
use crate::scenario::{self, Scenario};
use crate::trace::Trace;
use crate::world::World;
use wal::simulated_disk::{Crash, Lie};

/// What a run may be told besides its seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Cores, in place of the drawn number.
    pub cores: Option<u16>,
    /// How many chances are given out.
    pub steps: u64,
    /// Print the trace.
    pub trace: bool,
    /// A fault between the broker and every client, striking each so manieth packet.
    pub fault: Option<(Fault, u32)>,
    /// How many of a hundred seeds have disks, and nodes that end and start again.
    pub disk_percent: u64,
    /// How many of a hundred of those have disks that fail.
    pub failing_disk_percent: u64,
    /// How many of a hundred of them have disks that are full at times.
    pub full_disk_percent: u64,
    /// A fault of the disks.
    pub lie: Option<Lie>,
    /// A promise that the node does not keep.
    pub breach: Option<Breach>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cores: None,
            steps: 6_000,
            trace: false,
            fault: None,
            disk_percent: 40,
            failing_disk_percent: 30,
            full_disk_percent: 30,
            lie: None,
            breach: None,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What the checkers found; the run ends with the first.
    pub findings: Vec<Finding>,
    /// The trace's hash.
    pub hash: u64,
    /// Entries of the trace.
    pub lines: u64,
    /// Everything that happened.
    pub history: History,
    /// What the cores have counted.
    pub counters: Counters,
    /// Virtual time it took.
    pub duration: Duration,
    /// It had paces.
    pub paced: bool,
    /// How many other configurations it was given.
    pub changes: u64,
}

/// A core that has something to do gets a turn after so long at the latest.
const NEGLECT_MAX: Duration = Duration::from_millis(20);
/// So many rounds must bring everything to rest; a line may take a byte in each.
const REST_ROUNDS_MAX: u64 = 200_000;
/// The drawn paces hold nothing back any more when nothing has passed for so long.
const CALM_PACED: Duration = Duration::from_secs(10);
/// Whatever a client waits for after so long is not coming.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who was thrown out while everything comes to rest comes back after so long.
const RETURN_AFTER: Duration = Duration::from_millis(10);
/// So often disks fail while everything comes to rest: then it has to.
const REST_FAILURES_MAX: u32 = 3;
/// Steps of the disks in a round of coming to rest.
const DISK_STEPS: u32 = 8;
/// The longest pause, milliseconds.
const PAUSE_MS_MAX: u64 = 20_000;

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut random = Random::new(seed);
    let mut scenario = Scenario::draw(&mut random.split(), options.cores);
    scenario::draw_retaining(&mut Random::new(!seed.rotate_left(32)), &mut scenario.clients);
    let mut disk_random = Random::new(!seed);
    scenario.disk = scenario::draw_disk(&mut disk_random, options.disk_percent);
    if let Some(disk) = &mut scenario.disk {
        let mut fault_random = Random::new(!seed.rotate_left(16));
        let percents = (options.failing_disk_percent, options.full_disk_percent);
        scenario::draw_disk_faults(&mut fault_random, percents, disk);
        disk.lie = options.lie;
    }
    let changes = Changes::draw(&mut Random::new(seed ^ CHANGES), &scenario.config);
    scenario.config = Arc::clone(&changes.first);
    let (paced, drawn) = (changes.are_paced(), changes.later.len());
    let mut simulation = Simulation::new(&mut random, disk_random, (scenario, changes), options);
    simulation.go(options.steps);
    let changes = (drawn - simulation.changes.later.len()) as u64;
    let World { node, at, history, checkers, .. } = simulation.world;
    Outcome {
        findings: checkers.findings().to_vec(),
        hash: node.trace.hash(),
        lines: node.trace.lines(),
        counters: node.counters(),
        history,
        duration: at.since(START),
        paced,
        changes,
    }
}

/// Makes of a run's seed that of its changes.
const CHANGES: u64 = 0x6368_616e_6765_7321;

/// Not 0: nothing may take that for "never".
const START: Mono = Mono(1_000_000_000);

struct Simulation {
    world: World,
    clients: Vec<Client>,
    scenario: Scenario,
    random: Random,
    /// For disks, and the ends of the node.
    disk_random: Random,
    /// For the times when disks are full.
    space_random: Random,
    changes: Changes,
    /// For the times of changes.
    change_random: Random,
    /// How long it waits when nothing moves: what a pace holds back moves again by itself.
    calm: Duration,
}

impl Simulation {
    fn new(
        random: &mut Random,
        disk_random: Random,
        (scenario, changes): (Scenario, Changes),
        options: Options,
    ) -> Simulation {
        let seed_of_space = disk_random.clone().bits();
        let mut trace = Trace::new(options.trace);
        trace.note(START, format_args!("{scenario:?}"));
        let bounds = changes.bounds();
        let config = &options
            .breach
            .map_or_else(|| Arc::clone(&changes.first), |breach| breach.of_limits(&changes.first));
        let mut node = Node::new(
            config,
            (scenario.habits.clone(), scenario.disk.as_ref()),
            random.split(),
            START,
            trace,
        );
        node.breach = options.breach;
        let clients = scenario.clients.iter().zip(0..).map(|(profile, index)| {
            let mut client = Client::new(ClientIndex(index), profile.clone(), random.split());
            client.tamper = options.fault.map(|(fault, every)| Tamper::new(fault, every));
            client
        });
        Simulation {
            clients: clients.collect(),
            world: World {
                node,
                at: START,
                history: History::default(),
                checkers: Checkers::new(&bounds),
                exchanged: 0,
            },
            random: random.split(),
            disk_random,
            change_random: Random::new(random.bits()),
            space_random: Random::new(seed_of_space),
            calm: if changes.are_paced() { CALM_PACED } else { Duration::ZERO },
            changes,
            scenario,
        }
    }

    fn go(&mut self, steps: u64) {
        for round in 1..=self.scenario.rounds {
            for _ in 0..steps / self.scenario.rounds {
                self.step();
                self.crash_perhaps(steps);
                self.crash_if_poisoned();
                self.change_space_perhaps(steps);
                self.reconfigure_perhaps(steps);
                if self.has_failed() {
                    return;
                }
            }
            self.come_to_rest(round == self.scenario.rounds);
            if self.has_failed() {
                return;
            }
            if self.random.percent(self.scenario.pause_percent) {
                self.pause();
            }
        }
    }

    /// The node may end here, and start again after a while.
    fn crash_perhaps(&mut self, steps: u64) {
        let Some(disk) = &self.scenario.disk else { return };
        if self.disk_random.below(steps) < disk.crashes {
            self.crash();
        }
    }

    /// The node ends when a log of it cannot be written, and is started again.
    fn crash_if_poisoned(&mut self) -> bool {
        let poisoned = self.world.node.is_poisoned();
        if poisoned {
            self.crash();
        }
        poisoned
    }

    /// The file system may fill here, or have room again.
    fn change_space_perhaps(&mut self, steps: u64) {
        let Some(disk) = &self.scenario.disk else { return };
        let (fills, full_steps) = (disk.faults.fills, disk.faults.full_steps);
        if fills == 0 {
            return;
        }
        if self.world.node.disks_are_full() {
            if self.space_random.below(full_steps) == 0 {
                self.world.node.free_disks(self.world.at);
            }
        } else if self.space_random.below(steps) < fills {
            let exhausted = self.space_random.percent(disk.faults.hard_percent);
            self.world.node.fill_disks(self.world.at, exhausted);
        }
    }

    /// A full disk may stay so while everything comes to its end, for what is refused is answered, too; but there must
    /// be room for what gives space back.
    fn free_disks_for_rest(&mut self, last: bool) {
        if self.world.node.disks_are_full()
            && (last || self.world.node.disks_are_exhausted() || self.space_random.one_in(2))
        {
            self.world.node.free_disks(self.world.at);
        }
        // Clients of 3.x that are refused come back, and write so much that with failures there would be no end.
        if last {
            self.world.node.end_segment_failures();
        }
    }

    /// While everything comes to its end the disks fail a few times more, and then no more before the next round.
    fn recover_at_rest(&mut self, failures: &mut u32) -> bool {
        if !self.crash_if_poisoned() {
            return false;
        }
        *failures += 1;
        if *failures == REST_FAILURES_MAX {
            self.world.node.set_disk_failures(0);
        }
        true
    }

    fn crash(&mut self) {
        let Some(disk) = &self.scenario.disk else { return };
        let power = self.disk_random.percent(disk.power_percent);
        let down = Duration::from_millis(self.disk_random.below(disk.down_ms_max));
        let present = self.world.node.cores() as u16;
        let drawn = self.disk_random.between(1, 4) as u16;
        let cores = if disk.cores_change { drawn } else { present };
        self.world.node.crash(self.world.at, if power { Crash::Power } else { Crash::Kill });
        self.world.node_facts();
        self.world.at = self.world.at.after(down);
        self.world.node.start(self.world.at, cores);
        self.world.node_facts();
    }

    /// The node may be given its next configuration here.
    fn reconfigure_perhaps(&mut self, steps: u64) {
        let changes = self.changes.later.len() as u64;
        if changes > 0
            && self.change_random.below(steps) < changes
            && let Some(config) = self.changes.later.pop_front()
        {
            self.world.node.configure(self.world.at, &config);
        }
    }

    fn has_failed(&self) -> bool {
        !self.world.checkers.findings().is_empty()
    }

    /// One chance: for a client, for a core, or for time.
    fn step(&mut self) {
        let at = self.world.at;
        let neglected = self.world.node.most_neglected(at).filter(|(_, waited)| *waited > NEGLECT_MAX);
        if let Some((core, _)) = neglected {
            self.turn(core, false);
        }
        if let Some(disk) = &self.scenario.disk
            && self.disk_random.weighted(&[13, disk.speed]) == 1
        {
            self.world.node.step_disks(at);
            return;
        }
        match self.random.weighted(&[6, 5, 2]) {
            0 => {
                let client = self.random.index(self.clients.len());
                self.clients[client].step(&mut self.world);
            }
            1 => {
                let core = self.random.index(self.world.node.cores());
                self.turn(core, false);
            }
            _ => {
                let step = Duration::from_micros(self.random.between(1, self.scenario.step_us_max));
                let target = at.after(step);
                // Time does not pass what is due: timers are called in time.
                let due = self.world.node.next_timeout().map_or(target, |due| due.max(at));
                self.world.at = target.min(due);
                if due <= at {
                    self.serve();
                    self.world.at = target;
                }
            }
        }
    }

    /// The disks do some of what they have to do. True if they had anything.
    fn work_disks(&mut self) -> bool {
        (0..DISK_STEPS).fold(false, |moved, _| self.world.node.step_disks(self.world.at) || moved)
    }

    fn turn(&mut self, core: usize, thorough: bool) {
        self.world.node.turn(core, self.world.at, thorough);
        self.world.node_facts();
    }

    /// A turn for each core, in random order. True if one had anything to do.
    fn serve(&mut self) -> bool {
        let mut cores: Vec<usize> = (0..self.world.node.cores()).collect();
        self.random.shuffle(&mut cores);
        let mut worked = false;
        for core in cores {
            if self.world.node.has_work(core, self.world.at) {
                let thorough = self.random.one_in(2);
                self.turn(core, thorough);
                worked = true;
            }
        }
        worked
    }

    /// Brings everything to its end. Clients whose session waits come back, in the last round all of them.
    fn come_to_rest(&mut self, last: bool) {
        for index in 0..self.clients.len() {
            let returns = last || self.random.one_in(2);
            if returns && self.clients[index].is_away() {
                self.clients[index].come_back(&mut self.world);
            }
        }
        let (mut left_old, mut knocked, mut failures) = (false, false, 0);
        let mut patience = self.world.at.after(PATIENCE + self.calm);
        self.free_disks_for_rest(last);
        let (mut calm_at, mut exchanged) = (None, self.world.exchanged);
        for _ in 0..REST_ROUNDS_MAX {
            if std::mem::replace(&mut exchanged, self.world.exchanged) != self.world.exchanged {
                // A pace may let go of the rest as slowly.
                (patience, calm_at) = (self.world.at.after(PATIENCE + self.calm), None);
            }
            let mut moved = false;
            for client in &mut self.clients {
                moved |= client.settle(&mut self.world);
            }
            moved |= self.serve();
            moved |= self.work_disks();
            if self.recover_at_rest(&mut failures) {
                moved = true;
                patience = self.world.at.after(PATIENCE + self.calm);
            }
            if self.has_failed() {
                return;
            }
            // Who was thrown out on the way comes back, too.
            for client in self.clients.iter_mut().filter(|client| last && client.is_away()) {
                client.come_back(&mut self.world);
                moved = true;
                // Not at once: who is thrown out for a full disk would be so for ever.
                self.world.at = self.world.at.after(RETURN_AFTER);
            }
            if moved {
                continue;
            }
            let at_rest = self.is_at_rest();
            let calm = at_rest && self.world.at >= *calm_at.get_or_insert(self.world.at.after(self.calm));
            if let Some(arrival) = self.world.node.next_arrival() {
                self.world.at = self.world.at.max(arrival);
            } else if !left_old {
                left_old = true;
                for client in &mut self.clients {
                    client.leave_old(&mut self.world);
                }
            } else if calm || self.world.at > patience {
                if std::mem::replace(&mut knocked, true) {
                    break;
                }
                for client in &mut self.clients {
                    client.knock(&mut self.world);
                }
            } else {
                // What only time can end: a receiver that lingers, a client that waits for its answer.
                self.world.at = self.world.at.after(Duration::from_millis(10));
            }
        }
        if let Some(disk) = &self.scenario.disk {
            self.world.node.set_disk_failures(disk.faults.flush_fails_once_in);
        }
        if let Some(matter) = self.world.node.unrest(self.world.at) {
            self.world.fact(Fact::Contract(format!("the node does not come to rest: {matter}")));
            return;
        }
        let counters = Box::new(self.world.node.counters());
        self.world.fact(Fact::Quiet { counters, last });
    }

    fn is_at_rest(&self) -> bool {
        self.world.node.unrest(self.world.at).is_none() && !self.clients.iter().any(Client::is_waiting)
    }

    /// Seconds in which clients do nothing but keep alive, and some not even that.
    fn pause(&mut self) {
        for client in &mut self.clients {
            if self.random.percent(30) {
                client.fall_silent();
            }
        }
        let until = self.world.at.after(Duration::from_millis(self.random.between(1, PAUSE_MS_MAX)));
        while self.world.at < until && !self.has_failed() {
            let mut moved = self.serve();
            moved |= self.work_disks();
            moved |= self.crash_if_poisoned();
            for client in &mut self.clients {
                moved |= client.idle(&mut self.world);
            }
            if moved {
                // Work takes time, so that what never ends is found.
                self.world.at = self.world.at.after(Duration::from_micros(1));
                continue;
            }
            let node = self.world.node.next_timeout().into_iter().chain(self.world.node.next_arrival());
            let deadlines = self.clients.iter().filter_map(Client::deadline);
            let next = node.chain(deadlines).min().unwrap_or(until).min(until);
            self.world.at = next.max(self.world.at.after(Duration::from_micros(1)));
        }
    }
}

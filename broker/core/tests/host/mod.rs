//! A host for cores in tests: it does by the contract of `broker_core::input` what the shell does with
//! sockets, threads and clocks, and nothing of its own. Time stands still until a test moves it.
//!
//! A [`Node`] hosts the cores, a [`Client`] is one end of one socket and speaks MQTT in raw packets. After
//! each step of a client the node runs until nothing is left to do, so that a test reads like a
//! conversation. Orders of events on different sockets are kept as numbers ([`Client::first_byte_at`],
//! [`Client::closed_at`]).

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod asking;
mod client;
pub mod disks;
pub mod exchange;
pub mod packets;
pub mod random;
mod turns;
mod world;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{AccessList, Question, Verdict};
use broker_core::config::{Config, Settings};
use broker_core::counters::DropReason;
use broker_core::identity::CoreId;
use broker_core::input::Input;
use broker_core::notice::Notice;
use broker_core::sight::{Ask, Said, What};
use broker_core::time::Wall;
use mqtt::{Connect, QoS, Version};

pub use client::Client;
use world::World;

/// All versions, for tests that hold for each.
pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A node of several cores, and its clients' ends of their sockets.
#[derive(Clone)]
pub struct Node {
    world: Rc<RefCell<World>>,
    next_question: Rc<Cell<u64>>,
}

/// A question of a core to its host.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asked.
    pub core: CoreId,
    /// What.
    pub question: Question,
}

impl Node {
    /// A node of the default configuration.
    pub fn new(cores: u16) -> Node {
        Node::with(Config { cores, ..Config::default() })
    }

    /// A node of one core whose default tenant has these settings.
    pub fn of_settings(settings: Settings) -> Node {
        Node::with(Config { settings: Arc::new(settings), ..Config::default() })
    }

    /// The same with several cores.
    pub fn of_settings_and_cores(settings: Settings, cores: u16) -> Node {
        Node::with(Config { cores, settings: Arc::new(settings), ..Config::default() })
    }

    /// A node of any configuration that can be served.
    pub fn with(config: Config) -> Node {
        Node::seeded(config, 1)
    }

    /// The same, with a seed of its own.
    pub fn seeded(config: Config, seed: u64) -> Node {
        config.check().expect("a configuration that can be served");
        Node::of_world(World::new(config, seed))
    }

    fn of_world(world: World) -> Node {
        Node { world: Rc::new(RefCell::new(world)), next_question: Rc::default() }
    }

    /// Lets time pass, timer by timer.
    pub fn advance(&self, duration: Duration) {
        self.world.borrow_mut().advance(duration);
    }

    /// Lets time pass in which nobody runs, then lets all run.
    pub fn stop_for(&self, duration: Duration) {
        let mut world = self.world.borrow_mut();
        let target = world.now().monotonic.after(duration);
        world.move_to(target);
        world.run();
    }

    /// Sets the wall clock back or forth without any time passing: clocks are corrected now and then.
    pub fn shift_wall_clock(&self, milliseconds: i64) {
        self.world.borrow_mut().shift_wall_clock(milliseconds);
    }

    /// From now on bytes arrive in pieces of at most so many, each in a turn of its own.
    pub fn split_input(&self, bytes: usize) {
        self.world.borrow_mut().piece_bytes = bytes;
    }

    /// A socket that a given core accepts, with nothing sent.
    pub fn accept_on(&self, core: u16) -> Client {
        let index = self.world.borrow_mut().accept(CoreId(core), 0);
        Client::new(self.clone(), index)
    }

    /// A socket that a listener of the configuration accepts, on the cores in turn, with nothing sent.
    pub fn accept_from(&self, listener: u16) -> Client {
        let core = self.world.borrow_mut().next_acceptor();
        let index = self.world.borrow_mut().accept(CoreId(core), listener);
        Client::new(self.clone(), index)
    }

    /// A socket that the cores accept in turn, with nothing sent.
    pub fn accept(&self) -> Client {
        let core = self.world.borrow_mut().next_acceptor();
        self.accept_on(core)
    }

    /// A client that is let in, with a clean start and nothing optional.
    pub fn connect(&self, version: Version, client_id: &str) -> Client {
        self.connect_with(&Connect::new(version, client_id))
    }

    /// A client that is let in with any CONNECT.
    pub fn connect_with(&self, connect: &Connect<'_>) -> Client {
        let mut client = self.accept();
        client.greet(connect);
        client
    }

    /// A subscriber that is let in, for watching what is published.
    pub fn subscriber(&self, filter: &str, qos: QoS) -> Client {
        let id = format!("watch-{filter}").replace(['/', '#', '+'], "-");
        let mut client = self.connect(Version::V5, &id);
        client.subscribe(filter, qos);
        client
    }

    /// All cores get another configuration.
    pub fn configure(&self, config: Config) {
        config.check().expect("a configuration that can be served");
        self.world.borrow_mut().configure(config);
    }

    /// Begins the orderly stop on all cores.
    pub fn stop(&self) {
        self.world.borrow_mut().stop();
    }

    /// Has the orderly stop come to its end on all cores?
    pub fn is_stopped(&self) -> bool {
        self.world.borrow().cores.iter().all(broker_core::Core::is_stopped)
    }

    /// The oldest question that was not answered.
    pub fn question(&self) -> Option<Asked> {
        let mut world = self.world.borrow_mut();
        if world.questions.is_empty() { None } else { Some(world.questions.remove(0)) }
    }

    /// The wall clock's time.
    pub fn wall(&self) -> Wall {
        self.world.borrow().wall()
    }

    /// Puts an access list into force, on one core after the other.
    pub fn access_list(&self, list: Option<AccessList>) {
        self.world.borrow_mut().access_list(list);
    }

    /// All cores get the same input.
    pub fn tell_all(&self, input: impl Fn() -> Input<'static>) {
        self.world.borrow_mut().tell_all(input);
    }

    /// Answers a question, in a later turn than it was asked in.
    pub fn answer(&self, asked: &Asked, verdict: Verdict) {
        self.world.borrow_mut().answer(asked, verdict);
    }

    /// What a core answers to its operator.
    pub fn ask(&self, core: u16, what: What) -> Said {
        self.begin_to_ask(core, what).expect("an answer")
    }

    /// The same, where the answer may have to wait: what it says, or the number by which it will be known.
    pub fn begin_to_ask(&self, core: u16, what: What) -> Result<Said, u64> {
        let number = self.next_question.get();
        self.next_question.set(number + 1);
        let answer = self.world.borrow_mut().ask(CoreId(core), Ask { number, what });
        answer.map(|answer| answer.said).ok_or(number)
    }

    /// An answer that had to wait, if it has come.
    pub fn answer_to(&self, number: u64) -> Option<Said> {
        self.world.borrow_mut().answer_to(number).map(|answer| answer.said)
    }

    /// A sum over all cores.
    pub fn count(&self, of: impl Fn(&broker_core::Core) -> u64) -> u64 {
        self.world.borrow().cores.iter().map(of).sum()
    }

    /// What has been told since this was last asked.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.world.borrow_mut().notices)
    }

    /// Messages not delivered for a reason, on all cores.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.count(|core| core.counters().dropped(reason))
    }

    /// Sessions on all cores.
    pub fn sessions(&self) -> usize {
        self.world.borrow().cores.iter().map(|core| core.usage().sessions).sum()
    }

    /// Connections on all cores.
    pub fn connections(&self) -> usize {
        self.world.borrow().cores.iter().map(|core| core.usage().connections).sum()
    }

    /// Members of shared subscriptions whose loads are followed from other cores.
    pub fn watched_members(&self) -> usize {
        self.world.borrow().cores.iter().map(|core| core.usage().watched_members).sum()
    }

    /// Timers armed on all cores.
    pub fn timers(&self) -> usize {
        self.world.borrow().cores.iter().map(|core| core.usage().timers).sum()
    }

    /// Nanoseconds since the node was started.
    pub fn elapsed(&self) -> Duration {
        self.world.borrow().elapsed()
    }
}

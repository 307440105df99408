//! One voter, random commands, and a crash after any step: what was reported applied is there after the
//! restart, in order and once; the state equals a model's; every payload that is referred to can be read.

mod support;

use std::collections::BTreeMap;

use range::{Decision, MessageId, Priority, Refused, Ticket};
use support::machine::Op;
use support::node::{Node, config, faults};
use support::{is_usual_run, say, seeds};
use wal::simulated_disk::{Lie, Random};

/// What was proposed, in the model's terms: messages are numbered.
#[derive(Clone, Debug)]
enum Step {
    Enqueue(u64, Vec<u16>),
    Ack(u16, u64),
    Create(u8, u64),
    DeleteIf(u8, u64),
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Model {
    queues: BTreeMap<u16, Vec<u64>>,
    registers: BTreeMap<u8, u64>,
}

impl Model {
    fn of(history: &[Step]) -> Model {
        let mut model = Model::default();
        for step in history {
            match step {
                Step::Enqueue(number, queues) => {
                    queues.iter().for_each(|queue| model.queues.entry(*queue).or_default().push(*number));
                }
                Step::Ack(queue, number) => {
                    model.queues.entry(*queue).or_default().retain(|other| other > number);
                }
                Step::Create(register, value) => {
                    model.registers.entry(*register).or_insert(*value);
                }
                Step::DeleteIf(register, value) => {
                    if model.registers.get(register) == Some(value) {
                        model.registers.remove(register);
                    }
                }
            }
        }
        model.queues.retain(|_, queue| !queue.is_empty());
        model
    }
}

struct Run {
    node: Node,
    random: Random,
    history: Vec<Step>,
    decided: usize,
    messages: u64,
    /// Of messages whose proposal was decided, or that were seen after a restart.
    ids: BTreeMap<u64, MessageId>,
    last_effect: MessageId,
    refused: u64,
    full: u64,
    poisoned: u64,
    max_queue: usize,
    checkpoints: u64,
}

const QUEUES: u16 = 5;

/// A payload says its number, and its length and bytes follow from it.
fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let length = if number.is_multiple_of(37) { 5000 } else { number * 13 % 400 };
    bytes.extend((0..length).map(|at| u8::try_from((number + at) % 251).unwrap()));
    bytes
}

impl Run {
    fn new(seed: u64, lie: Option<Lie>) -> Run {
        let mut random = Random::new(seed);
        let mut faults = faults(16 + random.below(60));
        faults.lie = lie;
        if random.once_in(3) {
            faults.flush_fails_once_in = 400;
            faults.segment_fails_once_in = 20;
        }
        let mut node = Node::new(1, &[1], config(seed), faults);
        assert!(node.replica.is_leader(), "a lone voter leads from the start");
        assert!(!node.replica.needs_tick(), "and needs no tick");
        node.turn();
        Run {
            node,
            random,
            history: Vec::new(),
            decided: 0,
            messages: 0,
            ids: BTreeMap::new(),
            last_effect: MessageId::default(),
            refused: 0,
            full: 0,
            poisoned: 0,
            max_queue: 12,
            checkpoints: 0,
        }
    }

    fn step(&mut self) {
        match self.random.index(100) {
            0..40 => {
                for _ in 0..1 + self.random.index(6) {
                    self.propose();
                }
                self.node.turn();
            }
            40..60 => self.node.turn(),
            60..85 => {
                for _ in 0..self.random.index(12) {
                    self.node.disk_step();
                }
                self.node.turn();
            }
            85..94 => {
                let torn = self.random.once_in(12);
                self.node.write_pieces(torn);
                self.node.turn();
            }
            94..96 => {
                self.node.replica.start_checkpoint();
                self.checkpoints += 1;
            }
            96..98 => self.node.settle(),
            _ => self.crash(),
        }
        if self.node.log.poison().is_some() {
            self.poisoned += 1;
            self.crash();
        }
        self.hear();
        self.read_one();
    }

    fn propose(&mut self) {
        let queue = u16::try_from(self.random.index(usize::from(QUEUES))).unwrap();
        let full = self.node.replica.machine().queue(queue).len() > self.max_queue;
        let (step, op, bytes) = match self.random.index(10) {
            0..6 if !full => {
                let number = self.messages + 1;
                let queues: Vec<u16> = (0..QUEUES).filter(|_| self.random.once_in(3)).collect();
                (Step::Enqueue(number, queues.clone()), Op::Enqueue(queues), payload(number))
            }
            0..8 => {
                // Ack to some message this node knows the id of.
                let known = self.ids.len();
                if known == 0 {
                    return;
                }
                let back = 1 + self.random.index(known.min(if full { 3 } else { 30 }));
                let (number, id) = self.ids.iter().nth(known - back).unwrap();
                (Step::Ack(queue, *number), Op::Ack(queue, id.index, id.ordinal), Vec::new())
            }
            kind => {
                let register = u8::try_from(self.random.index(3)).unwrap();
                let value = self.random.index(2) as u64;
                if kind == 8 {
                    (Step::Create(register, value), Op::Create(register, value), Vec::new())
                } else {
                    (Step::DeleteIf(register, value), Op::DeleteIf(register, value), Vec::new())
                }
            }
        };
        let priority = if bytes.is_empty() { Priority::Control } else { Priority::Ordinary };
        let ticket = Ticket(self.history.len() as u64);
        match self.node.replica.propose(priority, ticket, &op.encode(), &bytes) {
            Ok(()) => {
                self.messages += u64::from(matches!(step, Step::Enqueue(..)));
                self.history.push(step);
            }
            Err(Refused::LogBehind | Refused::Behind { .. }) => self.refused += 1,
            Err(Refused::DiskFull) => {
                assert_eq!(priority, Priority::Ordinary, "what gives space back is not refused");
                self.full += 1;
            }
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// Decisions come once per ticket, in order; effects as well, and they are those of the decisions.
    fn hear(&mut self) {
        for (ticket, decision) in std::mem::take(&mut self.node.out.decided) {
            assert_eq!(ticket.0, self.decided as u64, "each proposal is decided once, in order");
            let Decision::Applied { id, outcome } = decision else { panic!("nobody else leads") };
            self.decided += 1;
            assert_eq!(outcome, self.decided as u64, "commands are applied once, in order");
            if let Step::Enqueue(number, _) = &self.history[self.decided - 1] {
                self.ids.insert(*number, id);
            }
        }
        for id in std::mem::take(&mut self.node.out.effects) {
            assert!(id > self.last_effect, "effects come once, in order");
            self.last_effect = id;
        }
        assert!(self.node.out.messages.is_empty(), "a lone voter has nobody to talk to");
    }

    fn read(&self, id: MessageId) -> u64 {
        let read = self.node.replica.read(&self.node.log, id).expect("what is referred to can be read");
        let number = u64::from_le_bytes(read[..8].try_into().unwrap());
        assert_eq!(&read[..], payload(number), "as it was written");
        number
    }

    fn read_one(&mut self) {
        let queue = self.node.replica.machine().queue(u16::try_from(self.random.index(5)).unwrap());
        if !queue.is_empty() {
            let at = self.random.index(queue.len());
            self.read(queue[at]);
        }
    }

    fn crash(&mut self) {
        self.node.crash(&mut self.random);
        let survived = usize::try_from(self.node.replica.machine().count).unwrap();
        assert!(survived >= self.decided, "everything that was acknowledged is there");
        assert!(survived <= self.history.len(), "nothing else is");
        self.history.truncate(survived);
        self.decided = survived;
        self.check();
        self.node.turn();
    }

    fn check(&mut self) {
        let registers = self.node.replica.machine().registers.clone();
        let mut found = Model { registers, ..Model::default() };
        for queue in 0..QUEUES {
            let mut numbers = Vec::new();
            for id in self.node.replica.machine().queue(queue) {
                let number = self.read(id);
                self.ids.insert(number, id);
                numbers.push(number);
            }
            if !numbers.is_empty() {
                found.queues.insert(queue, numbers);
            }
        }
        assert_eq!(found, Model::of(&self.history), "the state is what the commands make of it");
        self.messages = self
            .history
            .iter()
            .filter_map(|step| if let Step::Enqueue(number, _) = step { Some(*number) } else { None })
            .next_back()
            .unwrap_or(0);
    }

    fn finish(&mut self) {
        self.node.settle();
        self.hear();
        assert_eq!(self.decided, self.history.len(), "every proposal is decided");
        self.check();
        self.node.drain_disk();
        let accounts = |node: &Node| (node.log.usage().live_bytes, node.replica.payloads_kept());
        let before = accounts(&self.node);
        self.node.crash(&mut self.random);
        assert_eq!(accounts(&self.node), before, "what lives is what a start finds alive");
        self.check();
    }
}

fn run(seed: u64, steps: usize) -> Run {
    let mut run = Run::new(seed, None);
    for _ in 0..steps {
        run.step();
    }
    run.finish();
    run
}

/// Goal: promises hold over crashes at any step. Method: 150 seeds of 600 steps each; a failing seed is named
/// by the last line printed.
#[test]
fn what_was_applied_survives_any_crash() {
    let mut covered = BTreeMap::new();
    for seed in seeds("what_was_applied_survives_any_crash", 150) {
        let run = run(seed, 600);
        for (what, count) in [
            ("restarts", run.node.restarts),
            ("records moved", run.node.moved),
            ("checkpoints", run.node.checkpoints.len() as u64),
            ("payloads kept", run.node.replica.payloads_kept() as u64),
            ("refused by a slow log", run.refused),
            ("refused by a full disk", run.full),
            ("failed commits", run.poisoned),
        ] {
            *covered.entry(what).or_insert(0) += count;
        }
    }
    say(format_args!("{covered:?}"));
    assert!(!is_usual_run() || covered.values().all(|count| *count >= 20), "the runs cover what they should");
}

/// Goal: the check above bites. Method: the same seeds on a disk that syncs, and on one that only says so.
#[test]
fn a_lying_disk_is_found_out() {
    let survives = |seed, lie| {
        let run = || {
            let mut run = Run::new(seed, lie);
            for _ in 0..200 {
                run.step();
            }
            run.finish();
        };
        std::panic::catch_unwind(run).is_ok()
    };
    assert!((1..=20).all(|seed| survives(seed, None)));
    let found_out = (1..=20).filter(|seed| !survives(*seed, Some(Lie::SyncIsSkipped))).count();
    assert!(found_out >= 10, "found out {found_out} times of 20");
}

//! Single calls: what a replica takes, what it refuses and why, and what it comes to rest after.

mod support;

use bytes::Bytes;
use range::format::message::decode;
use range::replica::StepError;
use range::{Config, Decision, MessageId, Priority, Refused, ReplicaId, Ticket};
use support::machine::Op;
use support::node::{Node, RANGE, config, faults};

fn enqueue(node: &mut Node, ticket: u64, payload: &[u8]) -> Result<(), Refused> {
    let body = Op::Enqueue(vec![1]).encode();
    node.replica.propose(Priority::Ordinary, Ticket(ticket), &body, payload)
}

fn alone(config: Config) -> Node {
    let mut node = Node::new(1, &[1], config, faults(100));
    node.drain_disk();
    node.turn();
    node
}

/// A turn after the commit a replica waits for nothing: it took two, once.
#[test]
fn a_replica_rests_when_its_records_are_durable() {
    let mut node = alone(config(1));
    assert!(node.replica.waits_for().is_some());
    node.drain_disk();
    node.turn();
    assert_eq!(node.replica.waits_for(), None);
    assert!(!node.replica.is_dirty() && !node.replica.needs_tick());
}

/// A turn's commands are one entry: their ids share the index and count on. Nothing is decided or done before
/// the commit is on disk.
#[test]
fn a_turns_commands_are_one_entry() {
    let mut node = alone(config(1));
    node.settle();
    let before = node.replica.applied();
    for ticket in 0..5 {
        enqueue(&mut node, ticket, b"payload").unwrap();
    }
    node.turn();
    node.turn();
    assert!(node.out.decided.is_empty() && node.out.effects.is_empty(), "nothing before the sync");
    node.drain_disk();
    node.turn();
    let id = |ordinal| MessageId { origin: RANGE, index: before.next(), ordinal };
    let expected: Vec<_> =
        (0..5).map(|at| (Ticket(at), Decision::Applied { id: id(at as u32), outcome: at + 1 })).collect();
    assert_eq!(node.out.decided, expected);
    assert_eq!(node.out.effects, (0..5).map(id).collect::<Vec<_>>());
    assert_eq!(&node.replica.read(&node.log, id(3)).unwrap()[..], b"payload");
    assert!(node.replica.read(&node.log, id(5)).is_err(), "it had five");
}

/// What is too much for one entry goes into several, in order: by bytes, and by the number of commands.
#[test]
fn a_large_turn_is_several_entries() {
    let mut node = alone(Config { entry_bytes: 1 << 20, record_bytes_max: 1 << 20, ..config(1) });
    node.settle();
    node.out.decided.clear();
    let before = node.replica.applied();
    let body = Op::DeleteIf(1, 1).encode();
    for ticket in 0..40_000 {
        node.replica.propose(Priority::Ordinary, Ticket(ticket), &body, b"").unwrap();
    }
    node.settle();
    assert_eq!(node.replica.applied().0, before.0 + 3);
    let tickets: Vec<u64> = node.out.decided.iter().map(|(ticket, _)| ticket.0).collect();
    assert_eq!(tickets, (0..40_000).collect::<Vec<_>>());
}

/// Each refusal names its limit, and what was refused is not applied.
#[test]
fn refusals_name_their_limit() {
    let mut node = alone(Config { proposed_bytes_max: 1000, ..config(1) });
    node.settle();
    let large = vec![0; 9000];
    assert_eq!(enqueue(&mut node, 0, &large), Err(Refused::TooLarge { bytes: 9003, bytes_max: 8 << 10 }));
    enqueue(&mut node, 1, &[0; 800]).unwrap();
    assert_eq!(enqueue(&mut node, 2, &[0; 300]), Err(Refused::Behind { bytes: 803, bytes_max: 1000 }));
    let ack = Op::DeleteIf(1, 1).encode();
    node.replica.propose(Priority::Control, Ticket(3), &ack, &[0; 300]).expect("what frees goes further");
    node.settle();
    assert_eq!(node.out.decided.len(), 2);
    enqueue(&mut node, 4, &[0; 900]).expect("it is decided, so there is room");
    assert_eq!(node.replica.machine().count, 2);

    let mut follower = Node::new(1, &[1, 2, 3], config(1), faults(100));
    assert_eq!(enqueue(&mut follower, 0, b""), Err(Refused::NotLeader(None)));
    assert!(follower.replica.needs_tick());
}

/// A full disk refuses new data by name, keeps taking what frees space, and takes data again when there is
/// some.
#[test]
fn a_full_disk_takes_what_frees_it() {
    let mut node = Node::new(1, &[1], config(1), faults(9));
    let mut ticket = 0;
    let mut last = None;
    let refused = loop {
        ticket += 1;
        let result = enqueue(&mut node, ticket, &[7; 2000]);
        node.turn();
        node.drain_disk();
        node.turn();
        for (_, decision) in std::mem::take(&mut node.out.decided) {
            let Decision::Applied { id, .. } = decision else { panic!("it leads") };
            last = Some(id);
        }
        match result {
            Ok(()) | Err(Refused::LogBehind) => assert!(ticket < 1000, "nine segments are full at some time"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::DiskFull);
    let queued = node.replica.machine().queue(1).len();
    assert!(queued > 10);
    let last = last.expect("some were applied");
    let ack = Op::Ack(1, last.index, last.ordinal).encode();
    node.replica.propose(Priority::Control, Ticket(0), &ack, b"").expect("what frees is taken");
    for _ in 0..100 {
        node.turn();
        node.drain_disk();
        node.replica.start_checkpoint();
        node.write_pieces(false);
        // The log asks again after a second.
        node.now += 100_000_000;
    }
    assert_eq!(node.replica.machine().queue(1), [], "it was applied");
    enqueue(&mut node, 0, &[7; 2000]).expect("there is room again");
}

/// Two replicas that have elected a leader, and every frame they sent for it.
fn pair() -> (Vec<Node>, Vec<(ReplicaId, Bytes)>) {
    let mut nodes: Vec<Node> = (1..=2).map(|id| Node::new(id, &[1, 2], config(1), faults(100))).collect();
    let mut frames: Vec<(ReplicaId, Bytes)> = Vec::new();
    for _ in 0..400 {
        for node in &mut nodes {
            node.replica.tick(&mut node.out);
            node.turn();
            node.drain_disk();
            node.turn();
        }
        for at in 0..2 {
            for message in std::mem::take(&mut nodes[at].out.messages) {
                let to = usize::try_from(message.to.0).unwrap() - 1;
                nodes[to].replica.step(decode(&message.frame).unwrap()).unwrap();
                frames.push((message.to, message.frame));
            }
        }
    }
    (nodes, frames)
}

/// Frames that are not for this replica, from strangers, or that speak of what cannot be are refused and
/// change nothing.
#[test]
fn wrong_frames_are_refused() {
    let (mut nodes, frames) = pair();
    let leader = nodes.iter().position(|node| node.replica.is_leader()).expect("one leads");
    let follower = &mut nodes[1 - leader];
    let heartbeat = frames.iter().rev().find(|(to, frame)| *to == follower.id && frame[2] == 5);
    let heartbeat = heartbeat.expect("heartbeats were sent").1.clone();
    let applied = follower.replica.applied();
    let mut step = |at: usize, value: u8| {
        let mut frame = heartbeat.to_vec();
        frame[at] = value;
        follower.replica.step(decode(&frame.into()).unwrap())
    };
    assert_eq!(step(4, 0xFF), Err(StepError::NotMine), "another range");
    assert_eq!(step(28, 9), Err(StepError::NotMine), "another replica");
    assert_eq!(step(20, 9), Err(StepError::Stranger(ReplicaId(9))));
    assert_eq!(step(60 + 4, 1), Err(StepError::Impossible), "a commit far beyond the log");
    assert_eq!(step(2, 5), Ok(()), "the heartbeat itself");
    assert_eq!(follower.replica.applied(), applied);
}

/// A follower that does not know of everything that it is committed does not go to sleep.
#[test]
fn a_follower_with_something_open_stays_awake() {
    let (mut nodes, frames) = pair();
    let leader = nodes.iter().position(|node| node.replica.is_leader()).expect("one leads");
    enqueue(&mut nodes[leader], 1, b"payload").unwrap();
    nodes[leader].turn();
    // Awake again it sends a heartbeat first.
    let messages = std::mem::take(&mut nodes[leader].out.messages);
    let append = messages.iter().find(|message| message.frame[2] == 1).expect("the entry is sent");
    let follower = &mut nodes[1 - leader];
    let heartbeat = frames.iter().rev().find(|(to, frame)| *to == follower.id && frame[2] == 5);
    let mut sleep = heartbeat.expect("heartbeats were sent").1.to_vec();
    sleep[2] = 10;
    let index = follower.replica.applied().next().0;
    sleep[52..60].copy_from_slice(&index.to_le_bytes());
    follower.replica.step(decode(&append.frame).unwrap()).unwrap();
    follower.turn();
    follower.drain_disk();
    follower.turn();
    assert_eq!(follower.replica.applied().next().0, index, "it knows of no commit");
    assert_eq!(follower.replica.log_entries(), index, "and has the entry");
    follower.replica.step(decode(&sleep.into()).unwrap()).unwrap();
    assert!(follower.replica.needs_tick());
}

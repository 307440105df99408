mod restored;

use std::collections::BTreeMap;

use super::command::{
    Append, Attach, Detach, Due, Encode, Group, Lost, MessageHead, Origin, Progress, Release, Subscribe,
    Subscription, Take, Target, TaskDone, Unsubscribe, Will as NewWill,
};
use super::*;
use crate::random::Random;
use crate::ranges::Contained;
use crate::time::Wall;

const RANGE: RangeId = RangeId(5);

/// A range, its log, and an account of who holds which message.
struct Host {
    range: InboxRange,
    log: Vec<(u64, Vec<u8>)>,
    at: u64,
    held: BTreeMap<MessageId, i64>,
    effects: Vec<Effect>,
}

impl Host {
    fn new() -> Host {
        let held = BTreeMap::new();
        Host { range: InboxRange::new(RANGE, 7), log: Vec::new(), at: 1_000_000, held, effects: Vec::new() }
    }

    fn apply(&mut self, command: &impl Encode) -> Outcome {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.log.push((self.at, bytes));
        let index = self.log.len() as u64;
        self.effects.clear();
        let entry = &self.log[index as usize - 1];
        let outcome = replay(&mut self.range, index, entry, None, &mut self.effects);
        for effect in &self.effects {
            match effect {
                Effect::Held(message, count) => *self.held.entry(*message).or_default() += i64::from(*count),
                Effect::Released(message) => {
                    let count = self.held.get_mut(message).expect("held before it is released");
                    *count -= 1;
                    if *count == 0 {
                        self.held.remove(message);
                    }
                }
                _ => {}
            }
        }
        outcome
    }

    fn attach(&mut self, client: &str, epoch: u64) -> Attached {
        self.attach_with(&Attach { clean_start: false, ..connect(client, epoch) })
    }

    fn attach_with(&mut self, attach: &Attach<'_>) -> Attached {
        match self.apply(attach) {
            Outcome::Attached(attached) => attached,
            other => panic!("{other:?}"),
        }
    }

    fn detach(&mut self, incarnation: Incarnation, epoch: u64, sent_before: u64) -> Outcome {
        let (keep_will, expiry_seconds) = (true, None);
        let incarnation = incarnation.0;
        self.apply(&Detach { incarnation, epoch, keep_will, expiry_seconds, sent_before })
    }

    fn append(&mut self, targets: &[(Incarnation, u32)]) -> Outcome {
        let targets: Vec<Target> = targets
            .iter()
            .map(|(session, options)| Target { incarnation: session.0, options: *options })
            .collect();
        self.apply(&Append { targets: &targets, ..message(2) })
    }

    fn finish(&mut self, session: Incarnation, epoch: u64, places: &[u64]) -> Outcome {
        let (received, sent_before) = (&[][..], places.iter().max().map_or(0, |place| place + 1));
        self.apply(&Progress { incarnation: session.0, epoch, sent_before, received, finished: places })
    }

    fn places(&self, session: Incarnation) -> Vec<u64> {
        let session = self.range.session(session).expect("the session is there");
        session.queue.from(Sequence(0)).map(|(place, _)| place.0).collect()
    }

    fn dropped(&self, reason: DropReason) -> u32 {
        let count = |effect: &Effect| match effect {
            Effect::Dropped(_, why, count) if *why == reason => *count,
            _ => 0,
        };
        self.effects.iter().map(count).sum()
    }

    fn tasks(&self, client: &str) -> Vec<String> {
        let tasks = self.range.client("t", client).into_iter().flat_map(|client| client.tasks.iter());
        tasks.map(|task| format!("{:?}", task.work)).collect()
    }

    /// What the range holds is what its effects said.
    fn check(&self) {
        let mut held: BTreeMap<MessageId, i64> = BTreeMap::new();
        let mut groups = 0;
        for (_, client) in &self.range.clients {
            client.messages().for_each(|message| *held.entry(message).or_default() += 1);
            groups += client
                .session
                .iter()
                .flat_map(|session| session.queue.from(Sequence(0)))
                .filter(|(_, entry)| entry.group.is_some())
                .count();
            groups += client.tasks.iter().filter(|task| matches!(task.work, Work::PassOn(..))).count();
            if let Some(session) = &client.session {
                assert_eq!(session.queue.len() as usize, session.queue.from(Sequence(0)).count());
            }
        }
        assert_eq!(held, self.held);
        assert_eq!(self.range.groups.is_empty(), groups == 0);
        let sessions = self.range.clients.iter().filter(|(_, client)| client.session.is_some()).count();
        assert_eq!(self.range.by_incarnation.len(), sessions);
        assert_eq!(self.range.names.len(), self.range.clients.len());
    }
}

fn replay(
    range: &mut InboxRange,
    index: u64,
    (at, bytes): &(u64, Vec<u8>),
    contained: Option<Contained<'_>>,
    effects: &mut Vec<Effect>,
) -> Outcome {
    let committed = Committed { index, ordinal: 0, at: Wall(*at), contained };
    range.execute(committed, bytes, effects).expect("encoded by us")
}

fn connect(client: &str, epoch: u64) -> Attach<'_> {
    Attach {
        tenant: "t",
        client,
        incarnation: epoch,
        epoch,
        clean_start: true,
        durable: true,
        expiry_seconds: 100,
        will: None,
    }
}

fn head(qos: u8) -> MessageHead<'static> {
    MessageHead {
        tenant: "t",
        topic: "a/b",
        properties: &[],
        client_hash: 1,
        expires: u64::MAX,
        payload_bytes: 7,
        qos,
        retain: false,
    }
}

fn message(qos: u8) -> Append<'static> {
    Append {
        message: head(qos),
        origin: None,
        group: None,
        queue_messages_max: 3,
        queue_bytes_max: 1000,
        drop_oldest: false,
        targets: &[],
    }
}

/// A session begins, waits, is resumed with what came meanwhile, and ends when its time has passed.
#[test]
fn session_waits_for_its_client() {
    let mut host = Host::new();
    let first = host.attach("c", 1);
    assert!(!first.session_present);
    host.detach(first.incarnation, 1, 0);
    assert!(host.effects.contains(&Effect::Due(first.incarnation, Wall(1_100_000))));
    assert_eq!(host.append(&[(first.incarnation, 1)]), Outcome::Appended(1));
    let second = host.attach("c", 2);
    assert!(second.session_present && second.incarnation == first.incarnation);
    assert_eq!((second.first, second.sent_before), (Sequence(0), Sequence(0)));
    assert!(host.effects.contains(&Effect::NotDue(first.incarnation)));
    host.detach(first.incarnation, 2, 1);
    host.at += 100_000;
    host.apply(&Due { incarnation: first.incarnation.0 });
    let (incarnation, tenant, client) = (first.incarnation, Arc::from("t"), Box::from("c"));
    let ended = Effect::Ended { incarnation, tenant, client, shared: 0, plain: 0 };
    assert!(host.effects.contains(&ended), "{:?}", host.effects);
    assert_eq!(host.dropped(DropReason::SessionEnded), 1);
    assert!(host.range.is_empty());
    host.check();
}

/// Whoever has lost a session changes nothing in it.
#[test]
fn former_connection_is_not_heard() {
    let mut host = Host::new();
    let session = host.attach("c", 1).incarnation;
    host.append(&[(session, 1)]);
    let attached = host.attach("c", 2);
    assert_eq!(attached.former_epoch, Some(1));
    // The former one may have sent all there was.
    assert_eq!(attached.sent_before, Sequence(1));
    assert_eq!(host.finish(session, 1, &[0]), Outcome::Stale);
    assert_eq!(host.detach(session, 1, 0), Outcome::Stale);
    let (incarnation, epoch, packet_id) = (session.0, 1, 5);
    assert_eq!(host.apply(&Take { incarnation, epoch, packet_id }), Outcome::Stale);
    assert_eq!(host.places(session), [0]);
    host.check();
}

/// A clean start ends the former session: another name, nothing of its messages.
#[test]
fn clean_start_forgets() {
    let mut host = Host::new();
    let session = host.attach("c", 1).incarnation;
    host.append(&[(session, 1)]);
    let attached = host.attach_with(&connect("c", 2));
    assert!(!attached.session_present && attached.incarnation != session);
    assert_eq!(host.append(&[(session, 1)]), Outcome::Appended(0));
    assert!(host.effects.contains(&Effect::Unknown(session)));
    // And one that is not to outlive its connection leaves nothing at all.
    host.attach_with(&Attach { durable: false, ..connect("c", 3) });
    assert!(host.range.is_empty());
    host.check();
}

/// QoS 2: PUBREC lets the message go and keeps its place, PUBCOMP frees that.
#[test]
fn received_message_keeps_its_place() {
    let mut host = Host::new();
    let session = host.attach("c", 1).incarnation;
    host.append(&[(session, 2)]);
    let progress = Progress { incarnation: 1, epoch: 1, sent_before: 1, received: &[0], finished: &[] };
    host.apply(&progress);
    assert_eq!(host.held.len(), 0);
    assert_eq!(host.places(session), [0]);
    let entry = host.range.session(session).unwrap().queue.from(Sequence(0)).next().unwrap().1;
    assert_eq!(entry.state, State::Received);
    host.apply(&progress); // a second PUBREC changes nothing
    host.finish(session, 1, &[0]);
    assert_eq!(host.places(session), [0u64; 0]);
    host.check();
}

/// A full queue refuses the newest, or gives up the oldest that was never sent; what has expired goes first.
#[test]
fn full_queue_follows_the_setting() {
    let mut host = Host::new();
    let session = host.attach("c", 1).incarnation;
    for _ in 0..3 {
        host.append(&[(session, 1)]);
    }
    assert_eq!(host.append(&[(session, 1)]), Outcome::Appended(0));
    assert_eq!(host.dropped(DropReason::QueueFull), 1);
    host.detach(session, 1, 1);
    let targets = [Target { incarnation: session.0, options: 1 }];
    let dropping = Append { drop_oldest: true, targets: &targets, ..message(1) };
    assert_eq!(host.apply(&dropping), Outcome::Appended(1));
    assert_eq!(host.places(session), [0, 2, 3]); // 0 may have been sent
    let expiring = MessageHead { expires: 1_000_000, ..head(1) };
    host.apply(&Append { message: expiring, ..dropping });
    assert_eq!(host.places(session), [0, 3, 4]);
    host.apply(&Append { drop_oldest: false, ..dropping });
    assert_eq!((host.dropped(DropReason::Expired), host.places(session)), (1, vec![0, 3, 5]));
    host.check();
}

/// A message for many sessions is held once for each, by one name.
#[test]
fn one_message_for_many() {
    let mut host = Host::new();
    let sessions: Vec<_> = (1..=100).map(|n| host.attach(&format!("c{n}"), n).incarnation).collect();
    let targets: Vec<_> = sessions.iter().map(|session| (*session, 1)).collect();
    assert_eq!(host.append(&targets), Outcome::Appended(100));
    assert_eq!(host.held.len(), 1);
    for (session, epoch) in sessions.iter().zip(1..) {
        host.finish(*session, epoch, &[0]);
    }
    assert!(host.held.is_empty());
    host.check();
}

/// A publisher that sends a QoS 2 message again, on another connection, is not served twice, until it has released
/// it. On one connection it may come in parts.
#[test]
fn repeated_publish_is_applied_once() {
    let mut host = Host::new();
    let session = host.attach("c", 1).incarnation;
    let targets = [Target { incarnation: session.0, options: 2 }];
    let publish = |generation, oldest, attempt| Append {
        origin: Some(Origin { incarnation: 99, generation, oldest, attempt }),
        queue_messages_max: 9,
        targets: &targets,
        ..message(2)
    };
    assert_eq!(host.apply(&publish(0, 0, 1)), Outcome::Appended(1));
    assert_eq!(host.apply(&publish(0, 0, 2)), Outcome::Repeated);
    assert_eq!(host.apply(&publish(0, 0, 1)), Outcome::Appended(1));
    assert_eq!(host.apply(&publish(1, 0, 2)), Outcome::Appended(1));
    assert_eq!(host.apply(&publish(0, 0, 3)), Outcome::Repeated);
    assert_eq!(host.apply(&publish(2, 2, 3)), Outcome::Appended(1));
    assert_eq!(host.range.seen.len(), 1);
    host.apply(&command::Forget { incarnation: 99 });
    assert_eq!(host.range.seen.len(), 0);
    host.check();
}

/// An identifier is taken once, by number; a number is never given again.
#[test]
fn identifiers_are_taken_and_released() {
    let mut host = Host::new();
    host.attach("c", 1);
    let take = |packet_id| Take { incarnation: 1, epoch: 1, packet_id };
    let taken = |generation, oldest, known| Outcome::Taken { generation, oldest, known };
    assert_eq!(host.apply(&take(9)), taken(0, 0, false));
    assert_eq!(host.apply(&take(4)), taken(1, 0, false));
    assert_eq!(host.apply(&take(9)), taken(0, 0, true));
    let release = Release { incarnation: 1, epoch: 1, packet_id: 9 };
    assert_eq!(host.apply(&release), Outcome::Released(true));
    assert_eq!(host.apply(&release), Outcome::Released(false));
    assert_eq!(host.apply(&take(9)), taken(2, 1, false));
}

/// A will is published when its delay is over, not if the client is back before; by the end of its session at
/// the latest. Its publication is a task until it is done.
#[test]
fn will_waits_for_its_delay() {
    let will = NewWill { message: head(1), delay_seconds: 10, expiry_seconds: u32::MAX };
    let mut host = Host::new();
    let with_will = |epoch| Attach { clean_start: false, will: Some(will), ..connect("c", epoch) };
    let session = host.attach_with(&with_will(1)).incarnation;
    host.detach(session, 1, 0);
    assert!(host.effects.contains(&Effect::Due(session, Wall(1_010_000))));
    host.attach_with(&with_will(2));
    assert!(host.tasks("c").is_empty());
    host.detach(session, 2, 0);
    host.at += 10_000;
    host.apply(&Due { incarnation: session.0 });
    assert!(host.effects.contains(&Effect::Due(session, Wall(1_100_000))));
    assert_eq!(host.tasks("c").len(), 1);
    host.check();
    let number = host.range.client("t", "c").unwrap().tasks.iter().next().unwrap().number;
    host.apply(&TaskDone { tenant: "t", client: "c", number });
    assert!(host.tasks("c").is_empty());
    assert!(host.held.is_empty());
    // A clean start publishes it at once.
    host.attach_with(&with_will(3));
    host.attach_with(&connect("c", 4));
    assert_eq!(host.tasks("c").len(), 1);
    host.check();
}

/// The time that passes between the end of a process and the next start counts: for wills, and for sessions.
#[test]
fn connections_lost_with_their_process() {
    let will = NewWill { message: head(1), delay_seconds: 10, expiry_seconds: u32::MAX };
    let attach = Attach { clean_start: false, will: Some(will), ..connect("c", 1) };
    let mut host = Host::new();
    let session = host.attach_with(&attach).incarnation;
    let now = host.at;
    let lost = |epoch, at| Lost { incarnation: session.0, epoch, sent_before: 0, at };
    host.at += 5_000;
    assert_eq!(host.apply(&lost(9, now)), Outcome::Stale, "of another connection");
    assert_eq!(host.apply(&lost(1, now)), Outcome::Done);
    assert!(host.effects.contains(&Effect::Due(session, Wall(now + 10_000))), "half of the delay has passed");
    assert!(host.tasks("c").is_empty());
    host.attach_with(&Attach { epoch: 2, ..attach });
    assert_eq!(host.apply(&lost(2, u64::MAX)), Outcome::Done);
    let at = host.at;
    assert!(host.effects.contains(&Effect::Due(session, Wall(at + 10_000))), "not later than now");
    host.attach_with(&Attach { epoch: 3, ..attach });
    host.at += 100_000;
    assert_eq!(host.apply(&lost(3, at)), Outcome::Done);
    assert!(host.range.session(session).is_none(), "it was over in between");
    assert_eq!(host.tasks("c").len(), 1, "its will is published with its end");
    host.check();
}

/// A subscription leaves its route to be made, the end of it or of its session leaves it to be removed.
#[test]
fn subscriptions_leave_routes_to_be_changed() {
    let mut host = Host::new();
    host.attach("c", 1);
    let subscriptions =
        [Subscription { filter: "a/#", options: 1 }, Subscription { filter: "b", options: 2 }];
    let subscriptions = &subscriptions[..];
    host.apply(&Subscribe { incarnation: 1, epoch: 1, subscriptions });
    host.apply(&Unsubscribe { incarnation: 1, epoch: 1, subscriptions: &subscriptions[..1] });
    host.attach_with(&connect("c", 2));
    let tasks = host.tasks("c");
    let kinds: Vec<_> = tasks.iter().map(|task| task.split('(').next().unwrap()).collect();
    assert_eq!(kinds, ["Route", "Route", "Unroute", "Unroute"]);
    assert!(tasks[2].contains("a/#") && tasks[3].contains("\"b\""));
}

/// What a member of a shared subscription leaves goes to another: QoS 1, and QoS 2 that was never sent.
#[test]
fn leftovers_of_a_group_are_passed_on() {
    let mut host = Host::new();
    let session = host.attach("c", 1).incarnation;
    let targets = [Target { incarnation: session.0, options: 2 }];
    let group = Group { name: "g", filter: "a/#", ordered: false };
    for qos in [1, 2, 2] {
        host.apply(&Append { group: Some(group), targets: &targets, ..message(qos) });
    }
    host.detach(session, 1, 2);
    host.check();
    host.attach_with(&connect("c", 2));
    assert_eq!(host.tasks("c").len(), 2); // the second was sent
    assert_eq!(host.dropped(DropReason::SessionEnded), 1);
    host.check();
    for _ in 0..2 {
        let number = host.range.client("t", "c").unwrap().tasks.iter().next().unwrap().number;
        host.apply(&TaskDone { tenant: "t", client: "c", number });
    }
    assert!(host.held.is_empty() && host.range.groups.is_empty());
    host.check();
}

/// What is in the log is read by every later release: these bytes stand in data that exists.
#[test]
fn golden_commands() {
    let mut bytes = Vec::new();
    Detach { incarnation: 1, epoch: 2, keep_will: true, expiry_seconds: Some(3), sent_before: 4 }
        .encode(&mut bytes);
    assert_eq!(hex(&bytes), GOLDEN_DETACH);
    bytes.clear();
    Lost { incarnation: 1, epoch: 2, sent_before: 3, at: 4 }.encode(&mut bytes);
    assert_eq!(hex(&bytes), GOLDEN_LOST);
    bytes.clear();
    let targets = [Target { incarnation: 5, options: 6 }];
    Append { targets: &targets, ..message(1) }.encode(&mut bytes);
    assert_eq!(hex(&bytes), GOLDEN_APPEND);
}

const GOLDEN_DETACH: &str = "0201010000000000000002000000000000000101030000000400000000000000";
const GOLDEN_LOST: &str = "0c010100000000000000020000000000000003000000000000000400000000000000";
const GOLDEN_APPEND: &str = concat!(
    "050174612f62050000000000000006000000f0ffffff01000000e9ffffff03000000e4ffffff000000000100000000000000",
    "ffffffffffffffff070000000100000000000000000000000000000000000000000000000000000000000000000000000000",
    "00000000000000000000000000000003000000e8030000000000000086ffffff01000000",
);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that are no command are an error, not a command.
#[test]
fn unknown_commands_are_refused() {
    for bytes in [&[][..], &[1], &[0, 1], &[200, 1, 0], &[2, 9, 0, 0], &[2, 1, 0]] {
        assert!(Command::decode(bytes).is_err(), "{bytes:?}");
    }
}

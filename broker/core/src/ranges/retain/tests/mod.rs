mod restored;

use std::collections::BTreeMap;

use super::command::{Clear, Encode, Expire, Forget, Set};
use super::*;
use crate::random::Random;
use crate::ranges::Contained;
use crate::ranges::inbox::command::{MessageHead, Origin};

const RANGE: RangeId = RangeId(5);

/// A range, its log, and an account of who holds which message.
struct Host {
    range: RetainRange,
    log: Vec<(u64, Vec<u8>)>,
    at: u64,
    held: BTreeMap<MessageId, u32>,
}

impl Host {
    fn new() -> Host {
        let range = RetainRange::new(RANGE, 7);
        Host { range, log: Vec::new(), at: 1_000_000, held: BTreeMap::new() }
    }

    fn apply(&mut self, command: &impl Encode) -> Outcome {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.log.push((self.at, bytes));
        let index = self.log.len() as u64;
        let change = replay(&mut self.range, index, &self.log[index as usize - 1], None);
        if change.holds {
            self.held.insert(MessageId::new(0, index, 0), 1);
        }
        if let Some(former) = change.released {
            self.held.remove(&former).expect("held before it is released");
        }
        change.outcome
    }

    fn set(&mut self, topic: &str) -> Outcome {
        self.apply(&Set { message: head("t", topic), origin: None })
    }

    fn clear(&mut self, topic: &str) -> Outcome {
        self.apply(&Clear { tenant: "t", topic, origin: None })
    }

    fn expire(&mut self, topic: &str) {
        self.apply(&Expire { tenant: "t", topic });
    }

    /// What a filter matches, by the entries that brought it, in pages of so many; and how many pages.
    fn matches(&self, filter: &str, most: usize) -> (Vec<u64>, usize) {
        let (mut all, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let mut left = most;
            after = self.range.page(("t", filter), after.as_ref(), Wall(self.at), |topic| {
                all.push(topic.message().index());
                left -= 1;
                left > 0
            });
            pages += 1;
            if after.is_none() {
                return (all, pages);
            }
        }
    }

    /// What the range holds is what its changes said, and all its tables agree.
    fn check(&self) {
        let held: Vec<MessageId> = self.range.messages().collect();
        assert_eq!(held.len(), self.held.len());
        assert!(held.iter().all(|message| self.held.contains_key(message)));
        let of_tenants: usize = self.range.tenants.iter().map(|(_, tenant)| tenant.topics.len()).sum();
        assert_eq!(of_tenants, self.range.len());
        assert_eq!(self.range.tenants.len(), self.range.tenants_by_name.len());
        assert!(self.range.tenants.iter().all(|(_, tenant)| tenant.topics.len() > 0));
        let expiring = self.range.topics.iter().filter(|(_, topic)| topic.expires != u64::MAX).count();
        assert_eq!(expiring, self.range.expiring.len());
    }
}

fn replay(
    range: &mut RetainRange,
    index: u64,
    (at, bytes): &(u64, Vec<u8>),
    contained: Option<Contained<'_>>,
) -> Change {
    let committed = Committed { index, ordinal: 0, at: Wall(*at), contained };
    range.execute(committed, bytes).expect("encoded by us")
}

fn head<'a>(tenant: &'a str, topic: &'a str) -> MessageHead<'a> {
    MessageHead {
        tenant,
        topic,
        properties: &[],
        client_hash: 1,
        expires: u64::MAX,
        payload_bytes: 7,
        qos: 1,
        retain: true,
    }
}

fn origin(generation: u64, attempt: u64) -> Option<Origin> {
    Some(Origin { incarnation: 9, generation, oldest: 0, attempt })
}

/// [MQTT-3.3.1-5, MQTT-3.3.1-6, MQTT-3.3.1-7, MQTT-3.3.1-8]: the last message of a topic is kept, and an empty one clears, for its tenant alone.
#[test]
fn last_message_is_kept() {
    let mut host = Host::new();
    host.set("a");
    host.set("a");
    host.set("b");
    host.apply(&Set { message: head("other", "a"), origin: None });
    assert_eq!(host.matches("#", 9), (vec![2, 3], 1));
    assert_eq!((host.range.len_of("t"), host.range.len_of("other"), host.range.len_of("x")), (2, 1, 0));
    host.clear("a");
    assert_eq!(host.matches("+", 9).0, [3]);
    assert_eq!((host.matches("a", 9).0, host.matches("b", 9).0), (vec![], vec![3]));
    assert!(!host.range.contains("t", "a") && host.range.contains("other", "a"));
    host.clear("nothing");
    host.check();
}

/// However many match, all are handed out, once, in their order, in pages.
#[test]
fn nothing_is_capped() {
    let mut host = Host::new();
    for number in 0..1000 {
        host.set(&format!("a/{number:03}"));
    }
    let (found, pages) = host.matches("a/+", 64);
    assert_eq!(found, (1..=1000).collect::<Vec<u64>>());
    assert!(pages >= 1000 / 64, "{pages}");
}

/// Once all that a wildcard matches was collected in one turn. Now a page is small whatever is retained, and what is
/// there all the time is handed out once while everything around its reader comes, changes and goes.
#[test]
fn a_wildcard_was_collected_in_one_turn() {
    const COUNT: usize = 5_000;
    let mut host = Host::new();
    for number in 0..COUNT {
        host.set(&number.to_string());
    }
    let topics: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let (mut stayed, mut pages, mut after) = (vec![0; COUNT], 0, None);
    loop {
        let (mut left, mut last) = (64, None);
        after = host.range.page(("t", "#"), after.as_ref(), Wall(0), |topic| {
            let name: Vec<u8> = topics::spell(&topic.place).collect();
            let number: usize = std::str::from_utf8(&name).expect("text").parse().expect("a number");
            stayed[number] += 1;
            last = Some(number);
            left -= 1;
            left > 0
        });
        for other in last.map_or(0..0, |last| last.saturating_sub(100)..(last + 100).min(COUNT)) {
            let comes = (other + pages).is_multiple_of(4);
            if other % 2 == 0 || comes {
                host.set(&topics[other])
            } else {
                host.clear(&topics[other])
            };
        }
        pages += 1;
        if after.is_none() {
            break;
        }
    }
    assert!(stayed.iter().step_by(2).all(|times| *times == 1));
    assert!(pages > COUNT / 2 / 64, "{pages}");
    host.check();
}

/// An expired message is not handed out, and its time does not remove its successor.
#[test]
fn expiry_removes_only_what_expired() {
    let mut host = Host::new();
    let expires = host.at + 1000;
    host.apply(&Set { message: MessageHead { expires, ..head("t", "a/b") }, origin: None });
    assert_eq!(host.range.next_expiry(), Some(Wall(expires)));
    host.expire("a/b");
    assert_eq!(host.matches("a/b", 9).0, [1]);
    host.at = expires;
    assert_eq!((host.matches("a/b", 9).0, host.matches("#", 9).0), (vec![], vec![]));
    assert_eq!(host.range.expired(Wall(expires)).collect::<Vec<_>>(), [("t", "a/b".to_owned())]);
    host.set("a/b");
    host.expire("a/b");
    assert_eq!((host.matches("a/b", 9).0, host.range.next_expiry()), (vec![3], None));
    host.apply(&Set { message: MessageHead { expires, ..head("t", "a/b") }, origin: None });
    host.expire("a/b");
    assert!(host.range.is_empty());
    host.check();
}

/// A publish that is repeated after a crash does not bring an old value back, nor clear a newer one.
#[test]
fn a_repeat_changes_nothing() {
    let mut host = Host::new();
    let set = |attempt| Set { message: head("t", "a"), origin: origin(1, attempt) };
    assert_eq!(host.apply(&set(1)), Outcome::Done);
    let clear = |attempt| Clear { tenant: "t", topic: "a", origin: origin(2, attempt) };
    assert_eq!(host.apply(&clear(1)), Outcome::Done);
    assert_eq!(host.apply(&set(2)), Outcome::Repeated);
    assert!(host.range.is_empty());
    host.set("a");
    assert_eq!(host.apply(&clear(2)), Outcome::Repeated);
    assert_eq!(host.matches("a", 9).0, [4]);
    host.apply(&Forget { incarnation: 9 });
    assert_eq!(host.apply(&set(2)), Outcome::Done);
    host.check();
}

/// The bytes of version 1, which stand in data that exists: none of these ever changes.
#[test]
fn golden_commands() {
    let bytes = |command: &dyn Encode| {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        hex(&bytes)
    };
    assert_eq!(bytes(&Set { message: head("t", "a/b"), origin: origin(3, 4) }), GOLDEN_SET);
    assert_eq!(bytes(&Clear { tenant: "t", topic: "a/b", origin: None }), GOLDEN_CLEAR);
    assert_eq!(bytes(&Expire { tenant: "t", topic: "a/b" }), GOLDEN_EXPIRE);
    assert_eq!(bytes(&Forget { incarnation: 258 }), "04010201000000000000");
}

/// The key and value of a topic, as a checkpoint has them.
#[test]
fn golden_checkpoint() {
    let mut host = Host::new();
    host.apply(&Set { message: MessageHead { expires: 2, ..head("t", "a/b") }, origin: origin(3, 4) });
    let mut items = Vec::new();
    host.range.write_keys(None, |key, value| {
        items.push((hex(key), hex(value)));
        false
    });
    let items: Vec<(&str, &str)> = items.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(items, GOLDEN_CHECKPOINT);
}

const GOLDEN_SET: &str = concat!(
    "010174612f62fcffffff01000000f5ffffff03000000f0ffffff000000000100000000000000ffffffffffffffff07000000010101",
    "0900000000000000030000000000000000000000000000000400000000000000",
);
const GOLDEN_CLEAR: &str = "020174612f62fcffffff01000000f5ffffff03000000000000000000000000000000000000000000000000000000000000000000000000";
const GOLDEN_EXPIRE: &str = "030174612f62fcffffff01000000f5ffffff03000000";
const GOLDEN_CHECKPOINT: [(&str, &str); 2] = [
    ("00", "0900000000000000030000000000000000000000000000000400000000000000e0ffffff01000000"),
    ("4a4c7400612f62", "00000000010000000000000002000000000000000a000000"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that are no command are an error, not a command.
#[test]
fn unknown_commands_are_refused() {
    for bytes in [&[][..], &[1], &[0, 1], &[200, 1, 0], &[3, 9, 0, 0], &[3, 1, 0]] {
        assert!(Command::decode(bytes).is_err(), "{bytes:?}");
    }
}

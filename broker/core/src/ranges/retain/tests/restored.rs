//! A range that a checkpoint and the log bring back is the range that was.

use super::*;

/// A checkpoint that is being written: its chunks speak for all keys up to their last, as of an entry.
#[derive(Default)]
struct Checkpoint {
    items: Vec<(Vec<u8>, Vec<u8>)>,
    chunks: Vec<(Option<Vec<u8>>, u64)>,
}

impl Checkpoint {
    /// Writes up to `most` keys; `applied` is the last entry.
    fn write(&mut self, range: &RetainRange, most: usize, applied: u64) {
        if self.chunks.last().is_some_and(|(end, _)| end.is_none()) {
            return;
        }
        let after = self.items.last().map(|(key, _)| key.clone());
        let enough = self.items.len() + most;
        let last = range.write_keys(after.as_deref(), |key, value| {
            assert!(self.items.last().is_none_or(|(before, _)| &before[..] < key), "keys ascend");
            self.items.push((key.to_vec(), value.to_vec()));
            self.items.len() >= enough
        });
        let end = self.items.last().map(|(key, _)| key.clone());
        self.chunks.push((end.filter(|_| !last), applied));
    }

    /// The state that it and the log after its beginning make.
    fn restore(&self, log: &[(u64, Vec<u8>)]) -> RetainRange {
        let mut range = RetainRange::new(RANGE, 77);
        for (key, value) in &self.items {
            range.restore_key(key, value).expect("written by us");
        }
        for index in self.chunks[0].1 + 1..=log.len() as u64 {
            let contained = |key: &[u8]| {
                let speaks = |(end, _): &&(Option<Vec<u8>>, u64)| end.as_deref().is_none_or(|end| key <= end);
                self.chunks.iter().find(speaks).is_some_and(|(_, stands)| index <= *stands)
            };
            replay(&mut range, index, &log[index as usize - 1], Some(&contained));
        }
        range
    }
}

/// Any commands in any order: what is held is what was said; and a range that is restored from a checkpoint
/// written while it went on, with the log replayed from its beginning, is the same range.
#[test]
fn random_commands_and_a_fuzzy_checkpoint() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut host = Host::new();
        let mut checkpoint = Checkpoint::default();
        let begins = random.below(300);
        for step in 0..400 {
            random_command(&mut host, &mut random);
            host.check();
            if step >= begins && random.below(3) == 0 {
                checkpoint.write(&host.range, random.below(2) + 1, host.log.len() as u64);
            }
        }
        checkpoint.write(&host.range, usize::MAX / 2, host.log.len() as u64);
        let restored = checkpoint.restore(&host.log);
        assert_eq!(describe(&restored), describe(&host.range), "seed {seed}");
    }
}

/// A checkpoint may stand still behind a topic that is gone when it goes on.
#[test]
fn checkpoint_goes_on_behind_a_topic_that_is_gone() {
    let mut host = Host::new();
    let topics: Vec<String> = (0..50).map(|n| format!("a/{n}")).collect();
    for topic in &topics {
        host.set(topic);
    }
    let mut checkpoint = Checkpoint::default();
    checkpoint.write(&host.range, 20, 50);
    for topic in &topics {
        host.clear(topic);
    }
    host.set("late");
    checkpoint.write(&host.range, 100, 101);
    let restored = checkpoint.restore(&host.log);
    assert_eq!(describe(&restored), describe(&host.range));
    assert_eq!(restored.len(), 1);
}

/// Topics whose keys begin with the same hash come in the order of their keys, in chunks as small as can be.
#[test]
fn topics_of_one_hash_come_in_order() {
    let mut host = Host::new();
    let mut key = Vec::new();
    let mut of_one_hash = (0..).map(|n| format!("a/{n}/b")).filter(|topic| {
        write_key("t", topic.as_bytes(), &mut key);
        key[..2] == [7, 7]
    });
    let topics: Vec<String> = of_one_hash.by_ref().take(4).collect();
    for topic in topics.iter().rev() {
        host.set(topic);
    }
    let mut checkpoint = Checkpoint::default();
    for _ in 0..6 {
        checkpoint.write(&host.range, 1, 4);
    }
    assert_eq!(checkpoint.items.len(), 5);
    assert_eq!(describe(&checkpoint.restore(&host.log)), describe(&host.range));
}

fn random_command(host: &mut Host, random: &mut Random) {
    const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "b", "$c", "/"];
    host.at += random.below(5_000) as u64;
    let tenant = ["t", "t", "tt"][random.below(3)];
    let topic = TOPICS[random.below(TOPICS.len())];
    let generation = random.below(3) as u64;
    let origin = (random.below(4) == 0).then_some(Origin {
        incarnation: 99,
        generation,
        oldest: 0,
        attempt: random.below(2) as u64,
    });
    match random.below(10) {
        0..6 => {
            let expires = [u64::MAX, host.at + 9_000][random.below(2)];
            host.apply(&Set { message: MessageHead { expires, ..head(tenant, topic) }, origin });
        }
        6 | 7 => {
            host.apply(&Clear { tenant, topic, origin });
        }
        8 => {
            host.apply(&Expire { tenant, topic });
        }
        _ if random.below(5) == 0 => {
            host.apply(&Forget { incarnation: 99 });
        }
        _ => {
            let expired: Vec<(String, String)> =
                host.range.expired(Wall(host.at)).map(|(tenant, topic)| (tenant.to_owned(), topic)).collect();
            for (tenant, topic) in expired {
                host.apply(&Expire { tenant: &tenant, topic: &topic });
            }
            assert!(host.range.next_expiry().is_none_or(|next| next.0 > host.at));
        }
    }
}

/// All that can be seen of a range, in an order of its own.
fn describe(range: &RetainRange) -> Vec<String> {
    let topics = range.topics.iter().map(|(_, topic)| {
        let tenant = &range.tenants[topic.tenant as usize].name;
        let spelled: Vec<u8> = topics::spell(&topic.place).collect();
        format!("{tenant} {spelled:?} {:?} {} {}", topic.message, topic.expires, topic.bytes)
    });
    let mut all: Vec<String> = topics.collect();
    all.sort_unstable();
    for tenant in ["t", "tt"] {
        range.page((tenant, "#"), None, Wall(0), |topic| {
            all.push(format!("{tenant} {:?}", topic.message));
            true
        });
    }
    all.push(format!("{:?}", range.next_expiry()));
    all.push(format!("{:?}", range.seen.to_list()));
    all
}

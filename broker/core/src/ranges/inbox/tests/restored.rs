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
    fn write(&mut self, range: &InboxRange, most: usize, applied: u64) {
        if self.chunks.last().is_some_and(|(end, _)| end.is_none()) {
            return;
        }
        let after = self.items.last().map(|(key, _)| key.clone());
        let enough = self.items.len() + most;
        let last = range.write_keys(after.as_deref(), |key, value| {
            self.items.push((key.to_vec(), value.to_vec()));
            self.items.len() >= enough
        });
        let end = self.items.last().map(|(key, _)| key.clone());
        self.chunks.push((end.filter(|_| !last), applied));
    }

    /// The state that it and the log after its beginning make.
    fn restore(&self, log: &[(u64, Vec<u8>)]) -> InboxRange {
        let mut range = InboxRange::new(RANGE, 77);
        for (key, value) in &self.items {
            range.restore_key(key, value).expect("written by us");
        }
        for index in self.chunks[0].1 + 1..=log.len() as u64 {
            let contained = |key: &[u8]| {
                let speaks = |(end, _): &&(Option<Vec<u8>>, u64)| end.as_deref().is_none_or(|end| key <= end);
                self.chunks.iter().find(speaks).is_some_and(|(_, stands)| index <= *stands)
            };
            replay(&mut range, index, &log[index as usize - 1], Some(&contained), &mut Vec::new());
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

/// A checkpoint may stand still behind a client that is gone when it goes on.
#[test]
fn checkpoint_goes_on_behind_a_client_that_is_gone() {
    let mut host = Host::new();
    let names: Vec<String> = (0..50).map(|n| format!("c{n}")).collect();
    for (name, epoch) in names.iter().zip(1..) {
        host.attach(name, epoch);
    }
    let mut checkpoint = Checkpoint::default();
    checkpoint.write(&host.range, 20, 50);
    for (name, epoch) in names.iter().zip(51..) {
        host.attach_with(&Attach { durable: false, ..connect(name, epoch) });
    }
    host.attach("late", 101);
    checkpoint.write(&host.range, 100, 101);
    let restored = checkpoint.restore(&host.log);
    assert_eq!(describe(&restored), describe(&host.range));
    assert_eq!(restored.len(), 1);
}

fn random_command(host: &mut Host, random: &mut Random) {
    const NAMES: [&str; 4] = ["c0", "c1", "c2", "c3"];
    host.at += random.below(5_000) as u64;
    let client = NAMES[random.below(NAMES.len())];
    let epoch = host.log.len() as u64 + 1;
    let found = host.range.client("t", client);
    let tasks: Vec<u64> =
        found.iter().flat_map(|client| client.tasks.iter()).map(|task| task.number).collect();
    let session = found.and_then(|client| client.session.as_ref());
    let (incarnation, owner) =
        session.map_or((9, 9), |session| (session.incarnation.0, session.epoch.unwrap_or(9)));
    let (first, end) = session.map_or((0, 0), |session| (session.queue.first().0, session.queue.end().0));
    let place = first + random.below((end - first) as usize + 1) as u64;
    let packet_id = random.below(4) as u16;
    let will = NewWill { message: head(1), delay_seconds: random.below(9) as u32, expiry_seconds: 5 };
    let subscription = [Subscription { filter: ["a", "b/#", "$share/g/a"][random.below(3)], options: 1 }];
    let sent_before = place;
    match random.below(16) {
        0 | 1 => {
            let clean_start = random.below(4) == 0;
            let durable = random.below(6) > 0;
            let will = (random.below(2) == 0).then_some(will);
            let expiry_seconds = [3, 10, u32::MAX][random.below(3)];
            host.apply(&Attach { clean_start, durable, will, expiry_seconds, ..connect(client, epoch) });
        }
        2 => {
            let keep_will = random.below(2) == 0;
            let expiry_seconds = [None, Some(0), Some(5)][random.below(3)];
            host.apply(&Detach { incarnation, epoch: owner, keep_will, expiry_seconds, sent_before });
        }
        3 => drop(host.apply(&Due { incarnation })),
        4 => {
            let subscriptions = &subscription[..];
            host.apply(&Subscribe { incarnation, epoch: owner, subscriptions });
        }
        5 => {
            let subscriptions = &subscription[..];
            host.apply(&Unsubscribe { incarnation, epoch: owner, subscriptions });
        }
        6 => drop(host.apply(&Take { incarnation, epoch: owner, packet_id })),
        7 => drop(host.apply(&Release { incarnation, epoch: owner, packet_id })),
        8 | 9 if !tasks.is_empty() => {
            let number = tasks[random.below(tasks.len())];
            host.apply(&TaskDone { tenant: "t", client, number });
        }
        10 | 11 => {
            let (received, finished) = ([place], [first + random.below((end - first) as usize + 1) as u64]);
            let (received, finished) = (&received[..], &finished[..]);
            host.apply(&Progress { incarnation, epoch: owner, sent_before, received, finished });
        }
        _ => {
            let all = NAMES.iter().filter_map(|name| host.range.client("t", name)?.session.as_ref());
            let targets: Vec<Target> = all
                .filter(|_| random.below(2) == 0)
                .map(|session| Target { incarnation: session.incarnation.0, options: 2 })
                .collect();
            let group = Group { name: "g", filter: "a", ordered: false };
            let generation = random.below(3) as u64;
            host.apply(&Append {
                message: MessageHead { expires: [u64::MAX, host.at + 9_000][random.below(2)], ..head(2) },
                origin: (random.below(3) == 0).then_some(Origin {
                    incarnation: 99,
                    generation,
                    oldest: 0,
                    attempt: random.below(2) as u64,
                }),
                group: (random.below(3) == 0).then_some(group),
                drop_oldest: random.below(2) == 0,
                targets: &targets,
                ..message(2)
            });
        }
    }
}

/// All that can be seen of a range, in an order of its own.
fn describe(range: &InboxRange) -> Vec<String> {
    let mut clients: Vec<String> = range
        .clients
        .iter()
        .map(|(_, client)| {
            let session = client.session.as_ref().map(|session| {
                let queue: Vec<_> = session
                    .queue
                    .from(Sequence(0))
                    .map(|(place, entry)| {
                        let group = entry.group.map(|group| range.group(group));
                        format!("{place:?} {:?} {:?} {group:?}", entry.message, entry.state)
                    })
                    .collect();
                let Session { incarnation, epoch, will, subscriptions, taken, next_generation, .. } = session;
                let sent = (session.queue.sent_before().max(session.queue.first()), session.queue.end());
                format!(
                    "{incarnation:?} {epoch:?} {will:?} {:?} {subscriptions:?} {taken:?} {next_generation} {sent:?} {queue:?}",
                    session.moments()
                )
            });
            let tasks: Vec<_> = client
                .tasks
                .iter()
                .map(|task| match &task.work {
                    Work::PassOn(group, message) => format!("{} {:?} {message:?}", task.number, range.group(*group)),
                    work => format!("{} {work:?}", task.number),
                })
                .collect();
            format!("{} {} {session:?} {tasks:?}", client.tenant, client.name)
        })
        .collect();
    clients.sort_unstable();
    clients.push(format!("{:?}", range.seen.to_list()));
    clients
}

//! The trie against a naive reading of MQTT 5 section 4.7, and what it promises on order, memory and depth.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::Trie;

/// SplitMix64, enough for tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Few enough that paths meet; empty, '$', unicode, at and around the sizes where levels change their form.
const LEVELS: [&str; 14] = [
    "",
    "a",
    "b",
    "$SYS",
    "$",
    "+a",
    "a#",
    "hej",
    "København",
    "12345678",
    "fifteen-bytes-x",
    "twenty-bytes-exactly",
    "twenty-one-bytes-long",
    "東京の温度計をここに置いた",
];

fn topic(random: &mut Random) -> String {
    let levels = 1 + random.below(5);
    let levels: Vec<_> = (0..levels).map(|_| LEVELS[random.below(LEVELS.len())]).collect();
    levels.join("/")
}

fn filter(random: &mut Random) -> String {
    let count = 1 + random.below(5);
    let mut levels: Vec<_> = (0..count)
        .map(|_| if random.below(3) == 0 { "+" } else { LEVELS[random.below(LEVELS.len())] })
        .collect();
    if random.below(4) == 0 {
        levels[count - 1] = "#";
    }
    levels.join("/")
}

/// Section 4.7, read literally.
fn filter_matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('+') && (filter.len() == 1 || filter.starts_with("+/")))
        || topic.starts_with('$') && filter == "#"
    {
        return false;
    }
    let filter: Vec<_> = filter.split('/').collect();
    let topic: Vec<_> = topic.split('/').collect();
    for (at, level) in filter.iter().enumerate() {
        if *level == "#" {
            return topic.len() >= at;
        }
        if at >= topic.len() || *level != "+" && *level != topic[at] {
            return false;
        }
    }
    filter.len() == topic.len()
}

fn filters_for(trie: &Trie<u64>, topic: &str) -> Vec<u64> {
    let mut found = Vec::new();
    trie.matching_filters(topic, |value| found.push(*value));
    found
}

fn topics_for(trie: &Trie<u64>, filter: &str) -> Vec<u64> {
    let mut found = Vec::new();
    trie.matching_topics(filter, |value| {
        found.push(*value);
        ControlFlow::Continue(())
    });
    found
}

fn sorted(mut values: Vec<u64>) -> Vec<u64> {
    values.sort_unstable();
    values
}

fn all(trie: &Trie<u64>) -> Vec<u64> {
    let mut found = Vec::new();
    trie.for_each(|value| found.push(*value));
    found
}

/// Nothing is left but the root.
fn assert_is_empty(trie: &Trie<u64>) {
    assert!(trie.is_empty());
    assert_eq!((trie.arena.used(), trie.texts.used(), trie.edges.len()), (1, 0, 0));
}

/// Changes a trie and a map alike, at random, and calls `check` now and then. The trie must end where it began.
fn against_a_map(
    seed: u64,
    path: fn(&mut Random) -> String,
    check: impl Fn(&Trie<u64>, &BTreeMap<String, u64>),
) {
    let mut random = Random(seed);
    let mut trie = Trie::new(seed);
    let mut map = BTreeMap::new();
    for step in 0..3_000 {
        let path = path(&mut random);
        match random.below(6) {
            0 | 1 => assert_eq!(trie.insert(&path, step), map.insert(path, step), "seed {seed} step {step}"),
            2 => {
                let value = *trie.get_or_insert_with(&path, || step);
                assert_eq!(value, *map.entry(path).or_insert(step), "seed {seed} step {step}");
            }
            3 | 4 => assert_eq!(trie.remove(&path), map.remove(&path), "seed {seed} step {step}"),
            _ => {
                assert_eq!(trie.get(&path), map.get(&path), "seed {seed} step {step}");
                assert_eq!(trie.get_mut(&path), map.get_mut(&path), "seed {seed} step {step}");
            }
        }
        assert_eq!(trie.len(), map.len());
        if step % 100 == 0 {
            check(&trie, &map);
            assert_eq!(
                sorted(all(&trie)),
                sorted(map.values().copied().collect()),
                "seed {seed} step {step}"
            );
        }
    }
    for (path, value) in map {
        assert_eq!(trie.remove(&path), Some(value), "seed {seed}");
    }
    assert_is_empty(&trie);
}

/// Goal: routing finds exactly the filters that match. Method: random filters and topics, compared with the reference.
#[test]
fn matching_filters_agrees_with_the_reference() {
    for seed in 0..12 {
        against_a_map(seed, filter, |trie, filters| {
            let mut random = Random(filters.len() as u64);
            for _ in 0..50 {
                let topic = topic(&mut random);
                let expected = filters
                    .iter()
                    .filter(|(filter, _)| filter_matches(filter, &topic))
                    .map(|(_, value)| *value);
                assert_eq!(
                    sorted(filters_for(trie, &topic)),
                    sorted(expected.collect()),
                    "seed {seed} topic {topic:?}"
                );
            }
        });
    }
}

/// Goal: a subscription finds exactly the retained topics it matches. Method: as above, the other way round.
#[test]
fn matching_topics_agrees_with_the_reference() {
    for seed in 0..12 {
        against_a_map(seed, topic, |trie, topics| {
            let mut random = Random(topics.len() as u64);
            for _ in 0..50 {
                let filter = filter(&mut random);
                let expected = topics
                    .iter()
                    .filter(|(topic, _)| filter_matches(&filter, topic))
                    .map(|(_, value)| *value);
                assert_eq!(
                    sorted(topics_for(trie, &filter)),
                    sorted(expected.collect()),
                    "seed {seed} filter {filter:?}"
                );
            }
        });
    }
}

/// Goal: the examples of section 4.7 hold, whoever wrote the reference. Method: the examples.
#[test]
fn the_examples_of_the_specification_hold() {
    let matches = |filter: &str, topic: &str| {
        let mut filters = Trie::new(7);
        filters.insert(filter, 1);
        let mut topics = Trie::new(7);
        topics.insert(topic, 1);
        let found = !filters_for(&filters, topic).is_empty();
        assert_eq!(found, !topics_for(&topics, filter).is_empty(), "{filter} {topic}");
        assert_eq!(found, filter_matches(filter, topic), "{filter} {topic}");
        found
    };
    for topic in
        ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"]
    {
        assert!(matches("sport/tennis/player1/#", topic));
    }
    assert!(matches("sport/#", "sport"));
    assert!(matches("#", "sport/tennis"));
    assert!(matches("sport/tennis/+", "sport/tennis/player2"));
    assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert!(!matches("sport/+", "sport"));
    assert!(matches("sport/+", "sport/"));
    assert!(matches("+/+", "/finance"));
    assert!(matches("/+", "/finance"));
    assert!(!matches("+", "/finance"));
    // [MQTT-4.7.2-1]
    assert!(!matches("#", "$SYS/monitor/Clients"));
    assert!(!matches("+/monitor/Clients", "$SYS/monitor/Clients"));
    assert!(matches("$SYS/#", "$SYS/monitor/Clients"));
    assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    assert!(matches("+/$SYS", "a/$SYS"));
    assert!(matches("a/#", "a/$SYS"));
    // [MQTT-4.7.3-4] no normalisation.
    assert!(!matches("ACCOUNTS", "Accounts"));
}

/// Goal: depth costs no stack and comes back. Method: the deepest paths a packet can carry, every operation on them.
#[test]
fn paths_of_any_depth_work() {
    for levels in [10_000, 65_536] {
        let deep = "/".repeat(levels - 1);
        let mut trie = Trie::new(1);
        trie.insert(&deep, 1);
        trie.insert(&format!("{deep}x"), 2);
        assert_eq!(trie.arena.used(), levels + 2);
        assert_eq!(filters_for(&trie, &deep), [1]);
        assert_eq!(all(&trie), [1, 2]);
        assert_eq!(topics_for(&trie, "#"), [1, 2]);
        assert_eq!(topics_for(&trie, &vec!["+"; levels].join("/")), [1, 2]);
        assert_eq!(topics_for(&trie, &deep), [1]);
        let wild = format!("{}#", "+/".repeat(levels - 1));
        trie.insert(&wild, 3);
        assert_eq!(sorted(filters_for(&trie, &deep)), [1, 3]);
        assert_eq!((trie.remove(&deep), trie.remove(&wild)), (Some(1), Some(3)));
        assert_eq!(trie.remove(&format!("{deep}x")), Some(2));
        assert_is_empty(&trie);
    }
}

/// Goal: no filter set makes matching cost more than the nodes it holds. Method: every mix of '+' and a literal at ten
/// levels, all of which match one topic.
#[test]
fn every_mix_of_plus_and_literal_is_found_once() {
    let mut trie = Trie::new(3);
    for mix in 0..1u64 << 10 {
        let levels: Vec<_> = (0..10).map(|bit| if mix >> bit & 1 == 1 { "+" } else { "a" }).collect();
        trie.insert(&levels.join("/"), mix);
    }
    let found = filters_for(&trie, &["a"; 10].join("/"));
    assert_eq!(sorted(found), (0..1 << 10).collect::<Vec<_>>());
}

/// Goal: orders repeat, and the order of filters does not depend on history. Method: the same operations with two
/// seeds; the same filters in opposite order.
#[test]
fn orders_are_deterministic() {
    let build = |seed: u64, paths: &[String]| {
        let mut trie = Trie::new(seed);
        for (value, path) in (0..).zip(paths) {
            trie.insert(path, value);
        }
        for path in paths.iter().step_by(3) {
            trie.remove(path);
        }
        trie
    };
    let mut random = Random(11);
    let mut filters: Vec<_> = (0..500).map(|_| filter(&mut random)).collect();
    let topics: Vec<_> = (0..500).map(|_| topic(&mut random)).collect();
    let (one, two) = (build(1, &filters), build(2, &filters));
    assert_eq!(all(&one), all(&two));
    for topic in &topics {
        assert_eq!(filters_for(&one, topic), filters_for(&two, topic));
    }
    let (one, two) = (build(1, &topics), build(2, &topics));
    for filter in &filters {
        assert_eq!(topics_for(&one, filter), topics_for(&two, filter));
    }

    filters.sort_unstable();
    filters.dedup();
    let (mut forwards, mut backwards) = (Trie::new(1), Trie::new(1));
    let numbered: Vec<(u64, String)> = (0..).zip(filters).collect();
    for (value, path) in &numbered {
        forwards.insert(path, *value);
    }
    // Others come and go meanwhile, so that paths are split which nobody shares any more.
    for path in &topics {
        backwards.insert(path, u64::MAX);
    }
    for (value, path) in numbered.iter().rev() {
        backwards.insert(path, *value);
    }
    for path in topics.iter().filter(|path| !numbered.iter().any(|(_, kept)| kept == *path)) {
        backwards.remove(path);
    }
    for topic in &topics {
        assert_eq!(filters_for(&forwards, topic), filters_for(&backwards, topic));
    }
}

/// Goal: the levels after the last shared one cost no nodes, and sharing begins when another path does. Method: count.
#[test]
fn a_path_alone_is_one_node() {
    let mut trie = Trie::new(5);
    for value in 0..100 {
        trie.insert(&format!("dev/{value}/+/state"), value);
    }
    assert_eq!(trie.arena.used(), 1 + 1 + 100);
    trie.insert("dev/7/+/command/#", 100);
    assert_eq!(trie.arena.used(), 1 + 1 + 100 + 3);
    assert_eq!(filters_for(&trie, "dev/7/lamp/state"), [7]);
    assert_eq!(filters_for(&trie, "dev/7/lamp/command/on"), [100]);
    assert_eq!(filters_for(&trie, "dev/7/lamp/command"), [100]);
    assert_eq!(filters_for(&trie, "dev/8/lamp/command"), [0u64; 0]);
    // The root, "dev", 99 alone, and "7" with "+" and "state".
    trie.remove("dev/7/+/command/#");
    assert_eq!(trie.arena.used(), 1 + 1 + 99 + 3);
}

/// Goal: memory goes back with the last value. Method: more nodes than an empty trie keeps.
#[test]
fn an_empty_trie_gives_its_memory_back() {
    let mut trie = Trie::new(5);
    let path = |value: u64| format!("{value}/a level that is longer than a node holds");
    let before = trie.memory_bytes();
    for value in 0..10_000 {
        trie.insert(&path(value), value);
    }
    assert!(trie.memory_bytes() > 10_000 * 100);
    for value in 0..10_000 {
        trie.remove(&path(value));
    }
    assert_eq!(trie.memory_bytes(), before);
    assert_is_empty(&trie);
}

/// Goal: siblings come oldest first, parents before children. Method: a small tree, by hand.
#[test]
fn topics_come_parents_first_and_oldest_sibling_first() {
    let mut trie = Trie::new(5);
    for (value, path) in (0..).zip(["b/2", "b/1", "b", "$c", "a/+/x", "a/#", "a"]) {
        trie.insert(path, value);
    }
    assert_eq!(all(&trie), [2, 0, 1, 3, 6, 4, 5]);
    trie.remove("a/+/x");
    trie.remove("a/#");
    assert_eq!(topics_for(&trie, "#"), [2, 0, 1, 6]);
    assert_eq!(topics_for(&trie, "+"), [2, 6]);
    assert_eq!(topics_for(&trie, "+/#"), [2, 0, 1, 6]);
    assert_eq!(topics_for(&trie, "+/+"), [0, 1]);
    trie.remove("b/2");
    trie.insert("b/2", 0);
    assert_eq!(topics_for(&trie, "b/#"), [2, 1, 0]);
}

/// Goal: a caller that has enough stops the walk. Method: stop after the third of a hundred, in both kinds of walk.
#[test]
fn break_stops_the_walk() {
    let mut trie = Trie::new(5);
    for value in 0..100 {
        trie.insert(&format!("a/{value}/b"), value);
    }
    for filter in ["#", "a/+/b", "+/+/#"] {
        let mut found = 0;
        trie.matching_topics(filter, |_| {
            found += 1;
            if found == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(found, 3, "{filter}");
    }
}

/// Goal: churn does not grow the trie. Method: insert and remove the same number of ever new paths; memory stays.
#[test]
fn churn_keeps_memory_bounded() {
    let mut trie = Trie::new(9);
    let path = |n: u64| format!("devices/a-serial-number-of-many-digits-{n}/+/state");
    for n in 0..1_000 {
        trie.insert(&path(n), n);
    }
    let before = trie.memory_bytes();
    for n in 1_000..50_000 {
        trie.insert(&path(n), n);
        assert_eq!(trie.remove(&path(n - 1_000)), Some(n - 1_000));
    }
    assert!(trie.memory_bytes() <= 2 * before, "{} bytes, then {}", before, trie.memory_bytes());
    assert_eq!(trie.len(), 1_000);
}

/// Memory stayed with a trie that had been large for as long as one value was left. Method: a million paths of both
/// kinds of texts, of which few are left, in several orders; all that is left is found as before, in the same order.
#[test]
fn a_trie_that_was_large_gives_its_memory_back() {
    let path = |value: u64| match value % 3 {
        0 => format!("dev/{value}/+/state"),
        1 => format!("{}/{value}/a level that is longer than a node holds/#", value % 1000),
        _ => format!("a level that is longer than a node holds {value}/{value}"),
    };
    const ALL: u64 = 60_000;
    for (order, step) in [(1, 600), (ALL - 1, 600), (7, 600), (7, 60_000)] {
        let mut trie = Trie::new(5);
        for value in 0..ALL {
            trie.insert(&path(value), value);
        }
        let before = trie.memory_bytes();
        // Each number once, forwards, backwards or to and fro: `order` and `ALL` have no factor in common.
        for value in (0..ALL).map(|number| number * order % ALL).filter(|value| value % step != 0) {
            assert_eq!(trie.remove(&path(value)), Some(value));
        }
        let left = usize::try_from(ALL / step).expect("few");
        assert_eq!(trie.len(), left);
        let bytes = trie.memory_bytes();
        assert!(bytes < before / 20, "{bytes} of {before} bytes for {left} values, order {order}");
        let mut fresh = Trie::new(5);
        for value in (0..ALL).step_by(usize::try_from(step).expect("small")) {
            assert_eq!(trie.get(&path(value)), Some(&value));
            fresh.insert(&path(value), value);
        }
        assert_eq!(all(&trie), all(&fresh));
        for value in (0..ALL).step_by(usize::try_from(step).expect("small")) {
            assert_eq!(trie.remove(&path(value)), Some(value));
        }
        assert_is_empty(&trie);
    }
}

/// What a match costs is told, so that it can be charged: a topic of many levels costs each of them, though it leads to
/// one place at a time.
#[test]
fn levels_are_counted() {
    let deep = |level: &str, levels: usize| vec![level; levels].join("/");
    let mut trie = Trie::new(1);
    trie.insert("b", 0);
    trie.insert(&deep("a", 1_000), 1);
    assert_eq!(trie.matching_filters("b", |_| ()), 1);
    let one_suffix = trie.matching_filters(&deep("a", 1_000), |value| assert_eq!(*value, 1));
    assert!((20..1_000).contains(&one_suffix), "{one_suffix}");
    for levels in 1..1_000 {
        trie.insert(&deep("a", levels), levels);
    }
    let visited = trie.matching_filters(&deep("a", 1_000), |value| assert_eq!(*value, 1));
    assert!((900..1_100).contains(&visited), "{visited}");
}

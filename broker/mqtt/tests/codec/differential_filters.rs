//! Topic filters as mqtt-proto judges them and as rumqttc matches them.

use mqtt::{FilterError, filter_matches, validate_filter, validate_topic};
use mqtt_proto::{TopicFilter, TopicName};

use crate::random::Random;

/// What makes filters interesting. Shares of `$oshare` are ours alone.
const PIECES: [&str; 12] = ["a", "b", "/", "/", "/", "+", "+", "#", "$share/", "$share/g/", "$SYS", "ü"];

fn random_text(random: &mut Random) -> String {
    (0..random.below(7)).map(|_| PIECES[random.below(PIECES.len())]).collect()
}

/// Goal: the same filters and topics are valid, and shares are taken apart alike. Method: random texts
/// of separators, wildcards and prefixes.
#[test]
fn mqtt_proto_judges_alike() {
    let mut random = Random::new(41);
    let (mut valid_count, mut shared_count) = (0, 0);
    for _ in 0..50_000 {
        let text = random_text(&mut random);
        let ours = validate_filter(&text);
        match (ours, TopicFilter::try_from(text.as_str())) {
            (Ok(ours), Ok(theirs)) => {
                let share = ours.share.map(|share| (share.group, ours.filter));
                assert_eq!(share, theirs.shared_info(), "{text}");
                valid_count += 1;
                shared_count += usize::from(share.is_some());
            }
            (Err(_), Err(_)) => {}
            // It does not look at what follows a `+` in the last level.
            (Err(FilterError::SingleLevelWildcard), Ok(_)) if last_level(&text).starts_with('+') => {}
            (ours, theirs) => panic!("{text}: {ours:?} {theirs:?}"),
        }
        // It takes a topic of no characters for one.
        let theirs = TopicName::try_from(text.as_str()).is_ok() && !text.is_empty();
        assert_eq!(validate_topic(&text).is_ok(), theirs, "{text}");
    }
    assert!(valid_count > 5_000 && shared_count > 500, "{valid_count} {shared_count}");
}

fn last_level(text: &str) -> &str {
    text.rsplit('/').next().expect("split answers at least once")
}

/// Goal: the same topics match. Method: random filters and topics of few levels; those that begin
/// with `$` are left out, as rumqttc lets no filter match them, and those that do not begin with an
/// ASCII character, at which it panics.
#[test]
fn rumqttc_matches_alike() {
    let mut random = Random::new(42);
    let mut matched_count = 0;
    for _ in 0..200_000 {
        let (filter, topic) = (random_text(&mut random), random_text(&mut random));
        let valid = validate_filter(&filter).is_ok_and(|filter| filter.share.is_none());
        let avoided = topic.starts_with(|first: char| first == '$' || !first.is_ascii());
        if !valid || validate_topic(&topic).is_err() || avoided {
            continue;
        }
        let matched = filter_matches(&filter, &topic);
        assert_eq!(matched, rumqttc::mqttbytes::matches(&topic, &filter), "{filter} {topic}");
        matched_count += usize::from(matched);
    }
    assert!(matched_count > 1_000, "{matched_count}");
}

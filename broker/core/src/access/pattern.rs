//! Hot path. Rules in which a client's own names stand for `%u` (its user name) and `%c` (its client id).
//!
//! A name is put in as text and never as a filter: it is compared with a level of the topic byte for byte, so
//! that no `+`, `#` or `/` in it could mean anything. On top of that a client whose names contain one gets
//! nothing from patterns at all: see [`Names::may_be_put_in`].

use super::rules::{Action, Answers};

/// A rule with places for names, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    levels: Box<[Level]>,
    answers: Answers,
    /// It begins with a dollar of its own.
    dollar: bool,
    user: bool,
    client: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Level {
    /// `+`
    One,
    /// `#`
    Rest,
    /// Neither wildcard nor name.
    Text(Box<str>),
    /// Text and names, one after the other.
    Made(Box<[Piece]>),
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    User,
    Client,
}

/// The names of one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// Empty if it is anonymous.
    pub(super) user: &'a str,
    pub(super) client: &'a str,
}

impl Names<'_> {
    /// Whether patterns speak of this client at all. As in Mosquitto a name with a wildcard shuts out of all
    /// of them; beyond Mosquitto, so does a `/`, or a `$` at the beginning, in a name that some pattern puts
    /// in: `home/%u/#` shall not give the user `a/b` a part of what belongs to the user `a`.
    pub(super) fn may_be_put_in(self, user: bool, client: bool) -> bool {
        let is_safe = |name: &str, put_in: bool| {
            !name.contains(['+', '#']) && !(put_in && (name.contains('/') || name.starts_with('$')))
        };
        is_safe(self.user, user) && is_safe(self.client, client)
    }
}

impl Pattern {
    /// Takes a pattern apart. Its filter is valid.
    pub(super) fn new(filter: &str, action: Action, allow: bool) -> Pattern {
        let levels: Box<[Level]> = filter.split('/').map(level).collect();
        let has = |wanted: &Piece| {
            levels.iter().any(|level| matches!(level, Level::Made(pieces) if pieces.contains(wanted)))
        };
        let (user, client) = (has(&Piece::User), has(&Piece::Client));
        Pattern { levels, answers: Answers::of(action, allow), dollar: filter.starts_with('$'), user, client }
    }

    /// Whether it puts the user's name in.
    pub(super) fn uses_user(&self) -> bool {
        self.user
    }

    /// Whether it puts the client's id in.
    pub(super) fn uses_client(&self) -> bool {
        self.client
    }

    /// What it says of a topic to a client.
    pub(super) fn answers(&self, names: Names<'_>, topic: &str) -> Answers {
        // As in Mosquitto: an anonymous client has no name to put in.
        let concerned = !(self.user && names.user.is_empty());
        if concerned && self.matches(names, topic) { self.answers } else { Answers::default() }
    }

    fn matches(&self, names: Names<'_>, topic: &str) -> bool {
        // [MQTT-4.7.2-1], and no name makes a pattern begin with a dollar.
        if topic.starts_with('$') && !self.dollar {
            return false;
        }
        let mut topic_levels = topic.split('/');
        for level in &self.levels {
            if matches!(level, Level::Rest) {
                return true;
            }
            let Some(topic_level) = topic_levels.next() else { return false };
            let same = match level {
                Level::One | Level::Rest => true,
                Level::Text(text) => **text == *topic_level,
                Level::Made(pieces) => is_made_of(topic_level, pieces, names),
            };
            if !same {
                return false;
            }
        }
        topic_levels.next().is_none()
    }
}

fn level(text: &str) -> Level {
    match text {
        "+" => Level::One,
        "#" => Level::Rest,
        _ if !text.contains("%u") && !text.contains("%c") => Level::Text(text.into()),
        _ => Level::Made(pieces(text)),
    }
}

fn pieces(text: &str) -> Box<[Piece]> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find("%u").into_iter().chain(rest.find("%c")).min().unwrap_or(rest.len());
        let (before, behind) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before.into()));
        }
        rest = match behind.get(..2) {
            Some("%u") => {
                pieces.push(Piece::User);
                &behind[2..]
            }
            Some(_) => {
                pieces.push(Piece::Client);
                &behind[2..]
            }
            None => "",
        };
    }
    pieces.into()
}

fn is_made_of(level: &str, pieces: &[Piece], names: Names<'_>) -> bool {
    let mut rest = level;
    for piece in pieces {
        let text = match piece {
            Piece::Text(text) => text,
            Piece::User => names.user,
            Piece::Client => names.client,
        };
        let Some(behind) = rest.strip_prefix(text) else { return false };
        rest = behind;
    }
    rest.is_empty()
}

/// Whether some topic matches both filters.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    if (one.starts_with('$') && other.starts_with(['+', '#']))
        || (other.starts_with('$') && one.starts_with(['+', '#']))
    {
        return false; // [MQTT-4.7.2-1]
    }
    let (mut one_levels, mut other_levels) = (one.split('/'), other.split('/'));
    loop {
        match (one_levels.next(), other_levels.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn pattern(filter: &str) -> Pattern {
        Pattern::new(filter, Action::Any, true)
    }

    fn allows(filter: &str, user: &str, client: &str, topic: &str) -> bool {
        pattern(filter).answers(Names { user, client }, topic).decide(Action::Publish) == Some(true)
    }

    /// Names stand for themselves, anywhere in a level.
    #[test]
    fn names_are_put_in() {
        for (filter, user, client, topic, expected) in [
            ("home/%u/#", "ann", "c", "home/ann/lamp", true),
            ("home/%u/#", "ann", "c", "home/ann", true),
            ("home/%u/#", "ann", "c", "home/bob/lamp", false),
            ("dev/%c", "ann", "c7", "dev/c7", true),
            ("dev/%c", "ann", "c7", "dev/c7/x", false),
            ("dev/x%u-%c.y/+", "ann", "c7", "dev/xann-c7.y/z", true),
            ("dev/x%u-%c.y/+", "ann", "c7", "dev/xann-c8.y/z", false),
            ("%u%u", "ab", "c", "abab", true),
            ("%%u", "ab", "c", "%ab", true),
            ("100%/%x", "ab", "c", "100%/%x", true),
            ("home/%u", "", "c", "home/", false),
            ("%c/#", "ann", "$SYS", "$SYS/x", false),
            ("$own/%c", "ann", "c7", "$own/c7", true),
        ] {
            assert_eq!(allows(filter, user, client, topic), expected, "{filter} {user} {client} {topic}");
        }
    }

    /// Filters overlap when some topic matches both; all short filters and topics are tried.
    #[test]
    fn overlap_is_a_common_topic() {
        let mut filters = vec!["#".to_owned()];
        let mut topics = Vec::new();
        for a in ["a", "b", "+", "$s"] {
            filters.extend([a.to_owned(), format!("{a}/#")]);
            filters.extend(["a", "b", "+"].map(|b| format!("{a}/{b}")));
        }
        for a in ["a", "b", "x", "$s", "$y"] {
            topics.push(a.to_owned());
            topics.extend(["a", "b", "x", "x/y"].map(|b| format!("{a}/{b}")));
        }
        for one in &filters {
            for other in &filters {
                let common = topics
                    .iter()
                    .any(|topic| mqtt::filter_matches(one, topic) && mqtt::filter_matches(other, topic));
                assert_eq!(overlap(one, other), common, "{one} and {other}");
            }
        }
    }

    /// A random text of characters that matter to filters.
    fn text(random: &mut Random, max: u64) -> String {
        let pieces = ["a", "b", "+", "#", "/", "$", "%", "u", "c", "%u", "%c", "é"];
        (0..random.next() % (max + 1)).map(|_| pieces[(random.next() % 12) as usize]).collect()
    }

    /// Property: with names that may be put in, a pattern matches what the filter matches that has the names
    /// written in their places; and a name that may not be put in gives nothing beyond its own level.
    #[test]
    fn patterns_are_filters_with_names() {
        let (mut matched, mut unsafe_names) = (0, 0);
        for seed in 0..60_000 {
            let mut random = Random::new(seed);
            let filter = text(&mut random, 6);
            if mqtt::validate_filter(&filter).is_err() {
                continue;
            }
            let (user, client) = (text(&mut random, 2), text(&mut random, 2));
            let names = Names { user: &user, client: &client };
            let pattern = pattern(&filter);
            // Names are put in at one go: what a name contains is not looked at again.
            let written = filter.replace("%u", "\u{1}").replace("%c", &client).replace('\u{1}', &user);
            let topic = match random.next() % 3 {
                0 => text(&mut random, 5),
                _ => written.replace(['+', '#'], "a"),
            };
            if user.is_empty() || client.is_empty() || topic.is_empty() || topic.contains(['+', '#']) {
                continue;
            }
            let matches = pattern.matches(names, &topic);
            if names.may_be_put_in(pattern.uses_user(), pattern.uses_client()) {
                assert_eq!(matches, mqtt::filter_matches(&written, &topic), "{filter} as {written}: {topic}");
                matched += u32::from(matches);
            } else {
                // Levels of the topic stand against levels of the pattern, whatever the names contain.
                let fits = filter.ends_with('#') || topic.split('/').count() == filter.split('/').count();
                assert!(!matches || fits, "{filter} as {written}: {topic}");
                unsafe_names += 1;
            }
        }
        assert!(matched > 500 && unsafe_names > 500, "{matched} matched, {unsafe_names} unsafe names");
    }
}

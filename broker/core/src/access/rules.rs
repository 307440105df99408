//! Hot path. Rules of one user, compiled: what a topic may be used for is one walk through a trie.

use std::fmt;

use super::pattern::overlap;
use crate::trie::Trie;

/// One line of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it speaks of.
    pub action: Action,
    /// Topics, as a valid filter.
    pub filter: Box<str>,
    /// Its answer.
    pub allow: bool,
}

/// What a [`Rule`] speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publishing, wills included.
    Publish,
    /// Receiving what is published, also what was retained.
    Subscribe,
    /// Both.
    Any,
}

/// Answers for one topic, gathered from all rules that match it: two bits for each action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers(u8);

impl Answers {
    const PUBLISH: u8 = 1 << 0;
    const SUBSCRIBE: u8 = 1 << 1;
    /// Bits of rules that deny stand so much higher.
    const DENY_SHIFT: u32 = 2;

    /// What a rule says.
    pub(super) fn of(action: Action, allow: bool) -> Answers {
        let bits = Answers::bits(action);
        Answers(if allow { bits } else { bits << Self::DENY_SHIFT })
    }

    fn bits(action: Action) -> u8 {
        match action {
            Action::Publish => Self::PUBLISH,
            Action::Subscribe => Self::SUBSCRIBE,
            Action::Any => Self::PUBLISH | Self::SUBSCRIBE,
        }
    }

    pub(super) fn add(&mut self, other: Answers) {
        self.0 |= other.0;
    }

    /// What is answered: a rule that denies wins over any that allow. None if no rule speaks of the action.
    pub(super) fn decide(self, action: Action) -> Option<bool> {
        let bits = Answers::bits(action);
        if self.0 & (bits << Self::DENY_SHIFT) != 0 {
            Some(false)
        } else {
            (self.0 & bits == bits).then_some(true)
        }
    }
}

/// Any number of [`Rule`]s, compiled. The order in which they were given means nothing: for a topic that
/// several match, one that denies wins. What none allows is denied. Immutable, and shared by all whom it
/// concerns, on all cores.
pub struct Rules {
    by_filter: Trie<Answers>,
    /// As they were given: for questions about whole filters, which are rare.
    rules: Box<[Rule]>,
}

/// Rules come from the node's operator, who needs no protection from them.
const SEED: u64 = 0;

impl Rules {
    /// Compiles rules.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Rules {
        let rules: Box<[Rule]> = rules.into_iter().collect();
        let mut by_filter: Trie<Answers> = Trie::new(SEED);
        for rule in &rules {
            let answers = by_filter.get_or_insert_with(&rule.filter, Answers::default);
            answers.add(Answers::of(rule.action, rule.allow));
        }
        Rules { by_filter, rules }
    }

    /// Whether there are none, so that everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What they say of a topic; None if none speaks of it.
    #[must_use]
    pub fn decide(&self, action: Action, topic: &str) -> Option<bool> {
        let mut answers = Answers::default();
        self.by_filter.matching_filters(topic, |other| answers.add(*other));
        answers.decide(action)
    }

    /// Whether they may let through some topic that a subscription to `filter` (without its share name) would
    /// receive. True does not say that there is one: a rule that denies may take it away again.
    #[must_use]
    pub fn reach(&self, filter: &str) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.allow && rule.action != Action::Publish && overlap(&rule.filter, filter))
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Rules) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Rules {}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action, filter: &str, allow: bool) -> Rule {
        Rule { action, filter: filter.into(), allow }
    }

    /// What a rule says, whatever the order: a denial wins, an action nobody speaks of has no answer.
    #[test]
    fn denials_win() {
        let mut lines = vec![
            rule(Action::Any, "a/#", true),
            rule(Action::Publish, "a/b", false),
            rule(Action::Subscribe, "log/+", true),
            rule(Action::Any, "a/secret/#", false),
        ];
        for _ in 0..2 {
            let rules = Rules::new(lines.clone());
            for (action, topic, expected) in [
                (Action::Publish, "a", Some(true)),
                (Action::Publish, "a/b", Some(false)),
                (Action::Subscribe, "a/b", Some(true)),
                (Action::Subscribe, "a/secret", Some(false)),
                (Action::Publish, "a/secret/x", Some(false)),
                (Action::Publish, "log/x", None),
                (Action::Subscribe, "log/x", Some(true)),
                (Action::Subscribe, "b", None),
            ] {
                assert_eq!(rules.decide(action, topic), expected, "{action:?} {topic}");
            }
            lines.reverse();
        }
    }

    /// [MQTT-4.7.2-1] A rule that begins with a wildcard says nothing of topics that begin with a dollar.
    #[test]
    fn dollar_topics_are_named() {
        let rules = Rules::new([rule(Action::Any, "#", true), rule(Action::Any, "+/x", true)]);
        assert_eq!(rules.decide(Action::Subscribe, "$SYS/x"), None);
        let rules = Rules::new([rule(Action::Subscribe, "$SYS/#", true)]);
        assert_eq!(rules.decide(Action::Subscribe, "$SYS/x"), Some(true));
    }

    /// A subscription is within reach if some rule that allows receiving has a topic in common with it.
    #[test]
    fn reach_of_filters() {
        let rules = Rules::new([
            rule(Action::Subscribe, "a/+/c", true),
            rule(Action::Publish, "p/#", true),
            rule(Action::Any, "d/#", false),
        ]);
        for (filter, expected) in
            [("a/b/c", true), ("#", true), ("+/+/c", true), ("a/b", false), ("p/x", false), ("d/x", false)]
        {
            assert_eq!(rules.reach(filter), expected, "{filter}");
        }
    }
}

//! A node's access list: what each user may do, what anonymous clients may do, and patterns for everybody.
//!
//! The rules are Mosquitto's. A client's own section is asked first, and if it says nothing of a topic, the
//! patterns; within each a rule that denies wins. What neither allows is denied.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::pattern::{Names, Pattern};
use super::rules::{Action, Answers, Rule, Rules};

/// Whom a line of an access list speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Clients without a user name.
    Anonymous,
    /// Clients of this user.
    User(&'a str),
    /// Everybody: the rule's filter has `%u` and `%c` in place of the client's names.
    Everybody,
}

/// One line of an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Of whom it speaks.
    pub subject: Subject<'a>,
    /// What it says.
    pub rule: Rule,
}

/// An access list, compiled. Immutable: all cores of a node share it, and get another when it changes.
#[derive(Debug, PartialEq, Eq)]
pub struct AccessList {
    /// By user name; under the empty one, those who have none.
    users: BTreeMap<Box<str>, Arc<Rules>>,
    patterns: Option<Arc<Patterns>>,
}

impl AccessList {
    /// Compiles a list. Every filter in it is valid.
    #[must_use]
    pub fn new<'a>(lines: impl IntoIterator<Item = Line<'a>>) -> AccessList {
        let mut users: BTreeMap<Box<str>, Vec<Rule>> = BTreeMap::new();
        let mut everybody = Vec::new();
        for Line { subject, rule } in lines {
            match subject {
                Subject::Anonymous => users.entry("".into()).or_default().push(rule),
                Subject::User(user) => users.entry(user.into()).or_default().push(rule),
                Subject::Everybody => everybody.push(rule),
            }
        }
        AccessList {
            users: users.into_iter().map(|(user, rules)| (user, Arc::new(Rules::new(rules)))).collect(),
            patterns: (!everybody.is_empty()).then(|| Arc::new(Patterns::new(everybody))),
        }
    }

    /// How many users have a section.
    #[must_use]
    pub fn users(&self) -> usize {
        self.users.keys().filter(|user| !user.is_empty()).count()
    }

    /// The section of a user, or of anonymous clients if it is empty.
    pub(super) fn section(&self, user: &str) -> Option<&Arc<Rules>> {
        self.users.get(user)
    }

    /// The patterns, for a client with these names: None if they say nothing to it.
    pub(super) fn patterns_for(&self, names: Names<'_>) -> Option<&Arc<Patterns>> {
        self.patterns
            .as_ref()
            .filter(|patterns| names.may_be_put_in(patterns.uses_user, patterns.uses_client))
    }

    /// Whether what a client may do depends on its client id.
    pub(super) fn has_patterns(&self) -> bool {
        self.patterns.is_some()
    }
}

/// The rules for everybody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patterns {
    /// Those without a name in them.
    plain: Rules,
    /// The others: few, so they are tried one by one.
    made: Box<[Pattern]>,
    uses_user: bool,
    uses_client: bool,
}

impl Patterns {
    fn new(rules: Vec<Rule>) -> Patterns {
        let is_made = |rule: &Rule| rule.filter.contains("%u") || rule.filter.contains("%c");
        let (made, plain): (Vec<Rule>, Vec<Rule>) = rules.into_iter().partition(is_made);
        let made: Box<[Pattern]> =
            made.iter().map(|rule| Pattern::new(&rule.filter, rule.action, rule.allow)).collect();
        Patterns {
            plain: Rules::new(plain),
            uses_user: made.iter().any(Pattern::uses_user),
            uses_client: made.iter().any(Pattern::uses_client),
            made,
        }
    }

    /// What they say of a topic to a client.
    pub(super) fn decide(&self, names: Names<'_>, action: Action, topic: &str) -> Option<bool> {
        let mut answers = Answers::default();
        for pattern in &self.made {
            answers.add(pattern.answers(names, topic));
        }
        let plain = if self.plain.is_empty() { None } else { self.plain.decide(action, topic) };
        match (answers.decide(action), plain) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (None, None) => None,
            _ => Some(true),
        }
    }
}

//! An access list in Mosquitto's format.
//!
//! ```text
//! topic read news/#            # clients without a user name, until the first `user`
//! user ann
//! topic readwrite home/ann/#   # read, write, readwrite or deny; readwrite if nothing is said
//! pattern write dev/%c/#       # everybody; %u is the user's name, %c the client id
//! ```

use std::fmt;

use broker_core::access::{AccessList, Action, Line, Rule, Subject};

/// A line that is none of an access list, by its number, which counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    pub(crate) line: usize,
    pub(crate) problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Neither `user` nor `topic` nor `pattern`.
    Keyword,
    /// No name behind `user`.
    NoUser,
    /// No topic behind `topic` or `pattern`.
    NoTopic,
    /// Neither `read` nor `write` nor `readwrite` nor `deny`.
    Access,
    /// No valid topic filter.
    Filter,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self.problem {
            Problem::Keyword => "begins with none of user, topic and pattern",
            Problem::NoUser => "no name behind user",
            Problem::NoTopic => "no topic",
            Problem::Access => "access must be read, write, readwrite or deny",
            Problem::Filter => "not a valid topic filter",
        };
        write!(f, "line {}: {problem}", self.line)
    }
}

/// Reads the text of a file.
pub(crate) fn parse(text: &str) -> Result<AccessList, LineError> {
    let mut lines = Vec::new();
    let mut subject = Subject::Anonymous;
    for (number, line) in (1..).zip(text.lines()) {
        let fail = |problem| LineError { line: number, problem };
        let line = line.trim_end();
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let (keyword, rest) = next_word(line);
        match keyword {
            "user" if rest.is_empty() => return Err(fail(Problem::NoUser)),
            "user" => subject = Subject::User(rest),
            "topic" => lines.push(Line { subject, rule: rule(rest).map_err(fail)? }),
            "pattern" => lines.push(Line { subject: Subject::Everybody, rule: rule(rest).map_err(fail)? }),
            _ => return Err(fail(Problem::Keyword)),
        }
    }
    Ok(AccessList::new(lines))
}

/// The first word, and what is behind it, without the spaces between.
fn next_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim())
}

/// `[ACCESS] FILTER`; what stands alone is the filter, and what is behind an access may contain spaces.
fn rule(text: &str) -> Result<Rule, Problem> {
    let (access, filter) = match next_word(text) {
        ("", _) => return Err(Problem::NoTopic),
        (filter, "") => ("readwrite", filter),
        both => both,
    };
    let (action, allow) = match access {
        "read" => (Action::Subscribe, true),
        "write" => (Action::Publish, true),
        "readwrite" => (Action::Any, true),
        "deny" => (Action::Any, false),
        _ => return Err(Problem::Access),
    };
    // In an access list `$share` has no meaning of its own.
    if filter.starts_with("$share/") || mqtt::validate_filter(filter).is_err() {
        return Err(Problem::Filter);
    }
    Ok(Rule { action, filter: filter.into(), allow })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(subject: Subject<'a>, action: Action, filter: &str, allow: bool) -> Line<'a> {
        Line { subject, rule: Rule { action, filter: filter.into(), allow } }
    }

    /// The example file that Debian ships with Mosquitto, and every form of its manual page mosquitto.conf(5).
    #[test]
    fn file_of_mosquitto() {
        let text = "# This affects access control for clients with no username.\n\
                    topic read $SYS/#\n\
                    \n\
                    # This only affects clients with username \"roger\".\n\
                    user roger\n\
                    topic foo/bar\n\
                    topic   write  with spaces/in it \r\n\
                    topic deny foo/secret\n\
                    user  two words\n\
                    topic readwrite #\n\
                    # This affects all clients.\n\
                    pattern write $SYS/broker/connection/%c/state\n\
                    pattern %u/#\n";
        let (roger, two) = (Subject::User("roger"), Subject::User("two words"));
        let expected = AccessList::new([
            line(Subject::Anonymous, Action::Subscribe, "$SYS/#", true),
            line(roger, Action::Any, "foo/bar", true),
            line(roger, Action::Publish, "with spaces/in it", true),
            line(roger, Action::Any, "foo/secret", false),
            line(two, Action::Any, "#", true),
            line(Subject::Everybody, Action::Publish, "$SYS/broker/connection/%c/state", true),
            line(Subject::Everybody, Action::Any, "%u/#", true),
        ]);
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(AccessList::new([])));
    }

    /// A broken line is named by its number.
    #[test]
    fn broken_lines_are_named() {
        for (text, line, problem) in [
            ("topics a", 1, Problem::Keyword),
            ("# x\nuser ", 2, Problem::NoUser),
            ("user a\ntopic", 2, Problem::NoTopic),
            ("topic reads a", 1, Problem::Access),
            ("topic read a/#/b", 1, Problem::Filter),
            ("pattern a+%c", 1, Problem::Filter),
            ("topic read $share/g/a", 1, Problem::Filter),
        ] {
            assert_eq!(parse(text), Err(LineError { line, problem }), "{text}");
        }
    }
}

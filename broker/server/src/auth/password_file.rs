//! A password file: lines `user:stored password`, as `mosquitto_passwd` and `hermod passwd` write them. It is
//! read whole, and checked against off the cores.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use super::hash::{Hash, HashError};
use super::scram::Credential;

/// The users of a password file. Immutable: what is read anew is another one.
pub(crate) struct PasswordFile {
    users: BTreeMap<Box<str>, Hash>,
    /// Chooses for a user who is unknown which known one it costs as much as: always the same.
    hasher: RandomState,
    /// Some user can prove by SCRAM who it is.
    has_scram: bool,
}

/// A line that is none of a password file, by its number, which counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    pub(crate) line: usize,
    pub(crate) problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// No `user:` in front.
    NoUser,
    /// The user has had a line before.
    Twice,
    /// What follows is no stored password.
    Hash(HashError),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match self.problem {
            Problem::NoUser => f.write_str("no user name with a colon behind it"),
            Problem::Twice => f.write_str("a user who has had a line before"),
            Problem::Hash(error) => error.fmt(f),
        }
    }
}

/// What a password file says to a name and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is the user's.
    Right,
    /// It is not.
    Wrong,
    /// There is no such user.
    Unknown,
}

impl PasswordFile {
    /// Reads the text of a file. Empty lines and those that begin with `#` say nothing.
    pub(crate) fn parse(text: &str) -> Result<PasswordFile, LineError> {
        let mut users = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let fail = |problem| LineError { line: number, problem };
            if is_silent(line) {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or(fail(Problem::NoUser))?;
            let user = user.trim();
            if user.is_empty() {
                return Err(fail(Problem::NoUser));
            }
            let hash = Hash::parse(hash.trim()).map_err(|error| fail(Problem::Hash(error)))?;
            if users.insert(user.into(), hash).is_some() {
                return Err(fail(Problem::Twice));
            }
        }
        let has_scram = users.values().any(|hash: &Hash| hash.scram().is_some());
        Ok(PasswordFile { users, hasher: RandomState::new(), has_scram })
    }

    /// Whether some user can prove by SCRAM who it is.
    pub(crate) fn has_scram(&self) -> bool {
        self.has_scram
    }

    /// What SCRAM needs of a user, and what it shows of any, which tells nobody who is known: always the same of one
    /// that is not.
    pub(super) fn scram(&self, user: &str) -> (Option<Credential>, Credential) {
        let known = self.users.get(user).and_then(Hash::scram);
        let shown = known.clone().unwrap_or_else(|| {
            let iterations = self.users.values().find_map(Hash::scram).map_or(4096, |other| other.iterations);
            let half = |number: u8| self.hasher.hash_one((user, number)).to_le_bytes();
            let salt = [half(0), half(1)].concat().into();
            Credential { iterations, salt, stored_key: [0; 32], server_key: [0; 32] }
        });
        (known, shown)
    }

    /// Their names.
    pub(crate) fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(|user| &**user)
    }

    /// Whether there is such a user.
    pub(crate) fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// How many users there are.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Checks a password. An unknown user takes as long as some known one, so that time tells nobody who is known.
    pub(crate) fn check(&self, user: &str, password: &[u8]) -> Known {
        match self.users.get(user) {
            Some(hash) if hash.verify(password) => Known::Right,
            Some(_) => Known::Wrong,
            None => {
                if let Some(hash) = self.stand_in(user) {
                    let _ = hash.verify(password);
                }
                Known::Unknown
            }
        }
    }

    /// The entry that an unknown user costs as much as.
    fn stand_in(&self, user: &str) -> Option<&Hash> {
        let users = u64::try_from(self.users.len()).ok().filter(|users| *users > 0)?;
        let index = usize::try_from(self.hasher.hash_one(user) % users).ok()?;
        self.users.values().nth(index)
    }
}

fn is_silent(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

/// The text of a file in which `user` has this stored password, or none: its line is replaced where it stands,
/// or added behind the last; every other stays as it is. None if there was nothing to take away.
pub(crate) fn edit(text: &str, user: &str, hash: Option<&Hash>) -> Option<String> {
    let is_theirs =
        |line: &str| !is_silent(line) && line.split_once(':').is_some_and(|(name, _)| name.trim() == user);
    let mut entry = hash.map(|hash| format!("{user}:{hash}\n"));
    let (mut edited, mut found) = (String::with_capacity(text.len() + 200), false);
    for line in text.lines() {
        if is_theirs(line) {
            found = true;
            edited.push_str(&entry.take().unwrap_or_default());
        } else {
            edited.push_str(line);
            edited.push('\n');
        }
    }
    if hash.is_none() && !found {
        return None;
    }
    edited.push_str(&entry.unwrap_or_default());
    Some(edited)
}

#[cfg(test)]
mod tests {
    use super::super::hash::tests::MOSQUITTO;
    use super::*;

    fn mosquitto() -> String {
        MOSQUITTO.map(|(user, _, stored)| format!("{user}:{stored}\n")).concat()
    }

    /// A file that `mosquitto_passwd` has written knows its users, and nobody else.
    #[test]
    fn file_of_mosquitto() {
        let file = PasswordFile::parse(&format!("# a comment\n\n{}", mosquitto())).unwrap();
        assert_eq!(file.len(), MOSQUITTO.len());
        for (user, password, _) in MOSQUITTO {
            assert_eq!(file.check(user, password.as_bytes()), Known::Right);
            assert_eq!(file.check(user, b"wrong"), Known::Wrong);
        }
        assert_eq!(file.check("eve", b"correct horse"), Known::Unknown);
        assert_eq!(PasswordFile::parse("").unwrap().check("eve", b""), Known::Unknown);
    }

    /// An unknown user costs as much as one that is known, always the same one, and different ones different.
    #[test]
    fn unknown_users_cost_the_same() {
        let file = PasswordFile::parse(&mosquitto()).unwrap();
        let mut chosen = Vec::new();
        for number in 0..100 {
            let name = format!("unknown-{number}");
            let stand_in = file.stand_in(&name).unwrap();
            assert!(file.stand_in(&name) == Some(stand_in));
            chosen.push(stand_in.to_string());
        }
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), MOSQUITTO.len(), "each of five is chosen in a hundred");
    }

    /// A broken line is named by its number.
    #[test]
    fn broken_lines_are_named() {
        let (_, _, stored) = MOSQUITTO[0];
        for (text, line, problem) in [
            ("ann".to_owned(), 1, Problem::NoUser),
            (format!("# x\n:{stored}"), 2, Problem::NoUser),
            (format!("ann:{stored}\n\nann:{stored}"), 3, Problem::Twice),
            (format!("ann:{stored}\nbob:secret"), 2, Problem::Hash(HashError::Unknown)),
        ] {
            assert_eq!(PasswordFile::parse(&text).err(), Some(LineError { line, problem }), "{text}");
        }
    }

    /// Users are added, replaced and taken away, and nothing else in the file changes.
    #[test]
    fn edits_leave_the_rest() {
        let hash = Hash::parse(MOSQUITTO[4].2).unwrap();
        let text = "# who\nann:$6$a\nbob:$6$b";
        assert_eq!(
            edit(text, "eve", Some(&hash)).unwrap(),
            format!("# who\nann:$6$a\nbob:$6$b\neve:{hash}\n")
        );
        assert_eq!(edit(text, "ann", Some(&hash)).unwrap(), format!("# who\nann:{hash}\nbob:$6$b\n"));
        assert_eq!(edit(text, "ann", None).unwrap(), "# who\nbob:$6$b\n");
        assert_eq!(edit(text, "eve", None), None);
        assert_eq!(edit("", "eve", Some(&hash)).unwrap(), format!("eve:{hash}\n"));
    }
}

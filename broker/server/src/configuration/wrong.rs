//! What can be wrong with a configuration, said so that it can be mended: where it stands, what it is called,
//! what it should be.

use std::fmt;

use broker_core::config::{Kind, Value};

use super::tree::Origin;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Where, if it was written anywhere.
    pub(crate) origin: Option<Origin>,
    /// The key with its sections, as in `limits.connections_max`.
    pub(crate) key: String,
    pub(crate) reason: Reason,
}

/// Why it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing has this name.
    Unknown {
        /// A name that is much like it.
        nearest: Option<&'static str>,
    },
    /// Not what the key takes.
    Unfit {
        /// What it takes.
        expected: Kind,
        /// What is there.
        found: String,
    },
    /// A key where a section should be, or the other way round.
    NoSection,
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        match &self.reason {
            Reason::Unknown { nearest: Some(nearest) } => {
                write!(f, "there is no such key; did you mean {nearest}?")
            }
            Reason::Unknown { nearest: None } => f.write_str("there is no such key"),
            Reason::Unfit { expected, found } => write!(f, "must be {expected}, not {found}"),
            Reason::NoSection => f.write_str("must be a section with keys"),
            Reason::Other(reason) => f.write_str(reason),
        }
    }
}

impl Reason {
    pub(crate) fn unfit(expected: Kind, found: &Value) -> Reason {
        Reason::Unfit { expected, found: found.to_string() }
    }

    /// For a name that is none of `known`.
    pub(crate) fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> Reason {
        let nearest = known.map(|known| (distance(name, known), known)).min();
        // A third of the letters may differ: more is another word.
        Reason::Unknown {
            nearest: nearest.filter(|(far, _)| far * 3 <= name.len() + 2).map(|(_, known)| known),
        }
    }
}

/// Letters to insert, remove, replace or swap with their neighbour to get from one word to the other: the
/// optimal string alignment distance.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slips of the finger are understood, other words are not.
    #[test]
    fn nearest_name() {
        let known = ["connections_max", "connect_bytes_max", "qos_max"];
        for (name, expected) in [
            ("conections_max", Some("connections_max")),
            ("connections_mxa", Some("connections_max")),
            ("max_connections", None),
            ("connection_bytes_max", Some("connect_bytes_max")),
            ("qos_maximum", Some("qos_max")),
            ("maximum_qos", None),
            ("qso_max", Some("qos_max")),
            ("x", None),
        ] {
            let reason = Reason::unknown(name, known.into_iter());
            assert_eq!(reason, Reason::Unknown { nearest: expected }, "{name}");
        }
        assert_eq!(distance("abc", "acb"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}

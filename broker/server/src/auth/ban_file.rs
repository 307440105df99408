//! A list of those who are kept out, a line each:
//!
//! ```text
//! [tenant NAME] [until SECONDS] client ID
//! [tenant NAME] [until SECONDS] user NAME
//! [until SECONDS] address ADDRESS-OR-NETWORK
//! ```
//!
//! Seconds are those since 1970, ids and names go to the end of the line. Empty lines and those that begin with `#`
//! say nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use broker_core::bans::{Ban, Target};
use broker_core::time::Wall;

/// Why a line is none, by its number, which counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    line: usize,
    expected: &'static str,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)
    }
}

/// Bans by whom they are for.
pub(crate) type Bans = BTreeMap<Target, Ban>;

/// Reads the text of a file. Of two lines for the same the later counts.
pub(crate) fn parse(text: &str) -> Result<Bans, LineError> {
    let mut bans = Bans::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let ban = parse_line(line).map_err(|expected| LineError { line: number, expected })?;
        bans.insert(ban.target.clone(), ban);
    }
    Ok(bans)
}

fn parse_line(line: &str) -> Result<Ban, &'static str> {
    const WORDS: &str = "tenant, until, client, user or address";
    let (mut tenant, mut until, mut rest) = (None, None, line.trim());
    let target = loop {
        let (word, further) = rest.split_once(char::is_whitespace).ok_or(WORDS)?;
        let further = further.trim_start();
        match word {
            "tenant" | "until" => {
                let (value, behind) = further.split_once(char::is_whitespace).ok_or(WORDS)?;
                if word == "tenant" {
                    tenant = Some(Arc::from(value));
                } else {
                    let seconds: u64 = value.parse().map_err(|_| "whole seconds since 1970 behind until")?;
                    until = Some(Wall(seconds.saturating_mul(1000)));
                }
                rest = behind.trim_start();
            }
            "client" => break Target::Client { tenant, client: further.into() },
            "user" => break Target::User { tenant, user: further.into() },
            "address" if tenant.is_some() => return Err("no tenant before address: it is for all of them"),
            "address" => {
                let network = further.parse().map_err(|_| "an address, or a network such as 192.0.2.0/24")?;
                break Target::Address(network);
            }
            _ => return Err(WORDS),
        }
    };
    Ok(Ban { target, until, reason: "ban_file".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of line is read, with and without its conditions.
    #[test]
    fn lines_are_read() {
        let text = "# who\n\nclient lamp 7\ntenant acme until 1000 user eve\nuntil 5 address 192.0.2.0/24\n\
                    client lamp 7\n";
        let read: Vec<_> = parse(text).unwrap().into_values().collect();
        let shown: Vec<_> = read.iter().map(|ban| (ban.target.to_string(), ban.until)).collect();
        let expected = [
            ("client lamp 7", None),
            ("user eve of acme", Some(Wall(1_000_000))),
            ("address 192.0.2.0/24", Some(Wall(5000))),
        ];
        assert_eq!(shown, expected.map(|(target, until)| (target.to_owned(), until)));
    }

    /// What is no line is named with its number.
    #[test]
    fn broken_lines_are_named() {
        for line in [
            "lamp",
            "client",
            "tenant acme",
            "tenant acme address ::1",
            "until soon client a",
            "until 5",
            "address 192.0.2.7/24",
            "somebody x",
        ] {
            let error = parse(&format!("client a\n{line}")).unwrap_err();
            assert!(error.to_string().starts_with("line 2: expected "), "{line}");
        }
    }
}

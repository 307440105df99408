//! Findings as text for a terminal.

use std::fmt::Write;

use crate::{Finding, Level};

/// Columns of explanations; commands are never broken, so that they can be copied.
const COLUMNS: usize = 96;
/// Columns before the text of a finding: the longest level and two blanks.
const INDENT: &str = "         ";

/// Renders a report: the most serious findings first, each with its reason and its command, then what is
/// in order, a line each, and a line that counts. `colour` adds ANSI colours.
pub fn render(findings: &[Finding], colour: bool) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let mut out = String::new();
    let mut last_why = "";
    for finding in sorted {
        let Finding { check, level, found, why, remedy } = finding;
        let label = format!("{:<7}", label(*level));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}  {check}: {found}", painted(&label, *level, colour));
        if *level > Level::Ok {
            // Neighbours like the keys of TCP's keep-alive share a reason; once is enough.
            if *why != last_why {
                wrap(&mut out, why);
                last_why = why;
            }
            if let Some(command) = remedy {
                let _ = writeln!(out, "{INDENT}run: {command}");
            }
            out.push('\n');
        }
    }
    summary(&mut out, findings);
    out
}

fn label(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Advice => "advice",
        Level::Warning => "warning",
        Level::Failure => "failure",
    }
}

fn painted(label: &str, level: Level, colour: bool) -> String {
    let code = match level {
        _ if !colour => return label.to_owned(),
        Level::Ok => "32",
        Level::Advice => "36",
        Level::Warning => "33",
        Level::Failure => "1;31",
    };
    format!("\x1b[{code}m{label}\x1b[0m")
}

fn wrap(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.chars().count() <= COLUMNS {
            out.push(' ');
            column += 1;
        } else {
            if column > 0 {
                out.push('\n');
            }
            out.push_str(INDENT);
            column = INDENT.len();
        }
        out.push_str(word);
        column += word.chars().count();
    }
    out.push('\n');
}

fn summary(out: &mut String, findings: &[Finding]) {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let _ = writeln!(
        out,
        "\n{} failing, {} with a warning, {} with advice, {} in order.",
        count(Level::Failure),
        count(Level::Warning),
        count(Level::Advice),
        count(Level::Ok)
    );
    let is_mendable = findings.iter().any(|finding| finding.remedy.is_some());
    if is_mendable {
        out.push_str("Commands are for root. Those of sysctl last until the next boot: to keep them, copy\n");
        out.push_str("conf/90-hermod-sysctl.conf to /etc/sysctl.d and run sysctl --system.\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("clock source", "tsc", "Read often."),
            Finding::new("vm.swappiness", Level::Warning, "60", "Swapped state is read back from disk.")
                .remedy("sysctl -w 'vm.swappiness=1'"),
            Finding::new("file system", Level::Failure, "tmpfs", "It is memory."),
        ]
    }

    /// Goal: the report reads as intended. Method: compare it whole.
    #[test]
    fn the_worst_comes_first() {
        assert_eq!(
            render(&findings(), false),
            "failure  file system: tmpfs\n         \
             It is memory.\n\
             \n\
             warning  vm.swappiness: 60\n         \
             Swapped state is read back from disk.\n         \
             run: sysctl -w 'vm.swappiness=1'\n\
             \n\
             ok       clock source: tsc\n\
             \n\
             1 failing, 1 with a warning, 0 with advice, 1 in order.\n\
             Commands are for root. Those of sysctl last until the next boot: to keep them, copy\n\
             conf/90-hermod-sysctl.conf to /etc/sysctl.d and run sysctl --system.\n"
        );
    }

    /// Goal: colour adds colour and nothing else. Method: take it away again.
    #[test]
    fn colour_is_only_colour() {
        let mut text = render(&findings(), true);
        assert!(text.starts_with("\x1b[1;31mfailure\x1b[0m  file system"));
        for code in ["\x1b[32m", "\x1b[33m", "\x1b[1;31m", "\x1b[0m"] {
            text = text.replace(code, "");
        }
        assert_eq!(text, render(&findings(), false));
    }

    /// Goal: no line of an explanation is longer than a terminal is wide. Method: a long one.
    #[test]
    fn explanations_are_wrapped() {
        const LONG: &str = "word and word and word and word and word and word and word and word and word and \
                            word and word and word and word and word and word and word and word";
        let text = render(&[Finding::new("check", Level::Advice, "", LONG)], false);
        assert!(text.lines().all(|line| line.len() <= COLUMNS));
        let words = text.lines().skip(1).take(2).flat_map(str::split_whitespace);
        assert!(words.eq(LONG.split_whitespace()));
    }

    /// Goal: scripts can tell the three outcomes apart. Method: lists of each.
    #[test]
    fn exit_codes() {
        let findings = findings();
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(&findings[..1]), 0);
        assert_eq!(exit_code(&findings[..2]), 1);
        assert_eq!(exit_code(&findings), 2);
    }
}

//! The specification's statements can be looked up in the tests by id: each that binds a server stands in one.
//!
//! MQTT 5.0 goes by the conformance statements of its appendix B. MQTT 3.1.1 says most of the same under other numbers;
//! what it says alone stands in the tests as `[MQTT-… of 3.1.1]`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The sections of MQTT 5.0, and the last statement of each. All begin with 1 but 2.2.1, whose first is not used.
const SECTIONS: &[(&str, u32)] = &[
    ("1.5.4", 3),
    ("1.5.5", 1),
    ("1.5.7", 1),
    ("2.1.3", 1),
    ("2.2.1", 6),
    ("2.2.2", 1),
    ("3.1.0", 2),
    ("3.1.2", 30),
    ("3.1.3", 12),
    ("3.1.4", 6),
    ("3.2.0", 2),
    ("3.2.2", 22),
    ("3.3.1", 13),
    ("3.3.2", 20),
    ("3.3.4", 10),
    ("3.4.2", 3),
    ("3.5.2", 3),
    ("3.6.1", 1),
    ("3.6.2", 3),
    ("3.7.2", 3),
    ("3.8.1", 1),
    ("3.8.3", 5),
    ("3.8.4", 8),
    ("3.9.2", 2),
    ("3.9.3", 2),
    ("3.10.1", 1),
    ("3.10.3", 2),
    ("3.10.4", 6),
    ("3.11.2", 2),
    ("3.11.3", 2),
    ("3.12.4", 1),
    ("3.14.0", 1),
    ("3.14.1", 1),
    ("3.14.2", 4),
    ("3.14.4", 3),
    ("3.15.1", 1),
    ("3.15.2", 3),
    ("4.1.0", 2),
    ("4.2", 1),
    ("4.3.1", 1),
    ("4.3.2", 5),
    ("4.3.3", 13),
    ("4.4.0", 2),
    ("4.5.0", 2),
    ("4.6.0", 6),
    ("4.7.0", 1),
    ("4.7.1", 2),
    ("4.7.2", 1),
    ("4.7.3", 4),
    ("4.8.2", 6),
    ("4.9.0", 3),
    ("4.12.0", 7),
    ("4.12.1", 2),
    ("4.13.1", 1),
    ("4.13.2", 1),
    ("6.0.0", 4),
];

/// Those that bind a client alone, and leave a server nothing to do when one does otherwise.
const OF_CLIENTS: &[&str] = &[
    "3.1.2-21", // takes the server's keep alive
    "3.2.2-4",  // closes when the server has a session and it has none
    "3.2.2-5",  // forgets its session when the server has none
    "3.2.2-17", // keeps to the server's topic alias maximum: what if not is 3.3.2-9
    "3.2.2-18", "3.3.2-10", // takes all aliases that it allowed
    "3.3.4-8",  // sends acknowledgements with a full window
    "4.5.0-2",  // acknowledges what it did not ask for
];

/// What 3.1.1 says and 5.0 does not, or says otherwise.
const OF_3_1_1: &[&str] = &[
    "1.5.3-1",  // text is UTF-8
    "1.5.3-2",  // without U+0000
    "2.2.2-2",  // reserved flags close the connection
    "3.1.2-5",  // a session keeps what comes while its client is away
    "3.1.2-16", // the will's retain flag
    "3.1.2-17", "3.1.2-22", // no password without a user name
    "3.1.3-7",  // no client id only with clean session
    "3.1.3-8",  // else return code 2
    "3.2.2-4",  // a refusal says that no session is present
    "3.2.2-5",  // a refusal closes
    "3.2.2-6",  // no return code fits: close without CONNACK
    "3.3.5-2",  // no permission to publish: acknowledged, or closed
    "3.8.4-3",  // an equal filter replaces the subscription, and sends retained messages again
    "4.7.1-3",  // + takes a whole level
    "4.8.0-1",  // a protocol violation closes
    "4.8.0-2",  // a transient error closes, and nobody else's connection
];

/// The sources of tests below a folder: all of `tests`, and the modules of tests in `src`.
fn tests_below(folder: &Path, in_tests: bool, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path: PathBuf = entry.expect("an entry of it").path();
        if path.is_dir() {
            tests_below(&path, in_tests || path.ends_with("tests"), text);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("statements.rs")
        {
            let source = std::fs::read_to_string(&path).expect("a source is text");
            let whole = in_tests || path.ends_with("tests.rs");
            let from = if whole { Some(0) } else { source.find("#[cfg(test)]\nmod tests {") };
            text.push_str(&source[from.unwrap_or(source.len())..]);
        }
    }
}

/// What follows each `MQTT-`, up to the end of the id, with ` of 3.1.1` if that follows.
fn ids(text: &str) -> BTreeSet<String> {
    let found = text.split("MQTT-").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(rest.len());
        let id = rest[..end].trim_end_matches(['.', '-']).to_owned();
        if rest[end..].starts_with(" of 3.1.1") { id + " of 3.1.1" } else { id }
    });
    found.collect()
}

/// Goal: no statement without a test. Method: the ids that tests name, against the two lists.
#[test]
fn each_statement_stands_in_a_test() {
    let broker = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    for part in ["mqtt", "core", "server", "simulator"] {
        tests_below(&broker.join(part), false, &mut text);
    }
    let named = ids(&text);
    assert!(named.len() > 200, "the tests are not found: {}", named.len());
    let of_section = |(section, last): &(&str, u32)| {
        let first = if *section == "2.2.1" { 2 } else { 1 };
        (first..=*last).map(|number| format!("{section}-{number}")).collect::<Vec<_>>()
    };
    let all: BTreeSet<String> = SECTIONS.iter().flat_map(of_section).collect();
    assert!(OF_CLIENTS.iter().all(|id| all.contains(*id)));
    let of_server = all.iter().filter(|id| !OF_CLIENTS.contains(&id.as_str())).cloned();
    let of_old = OF_3_1_1.iter().map(|id| format!("{id} of 3.1.1"));
    let missing: Vec<String> = of_server.chain(of_old).filter(|id| !named.contains(id)).collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
    let unknown = |id: &&String| !id.contains(" of 3.1.1") && !all.contains(*id);
    let unknown: Vec<_> = named.iter().filter(unknown).collect();
    assert!(unknown.is_empty(), "5.0 has no statement {unknown:?}");
}

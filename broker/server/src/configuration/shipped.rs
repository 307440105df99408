//! The shipped files and the code say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use broker_core::config::Kind;

use super::apply::flatten;
use super::tree::{Content, Table, parse};
use super::{Configuration, Refused};

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf")
}

fn load(path: &Path) -> Result<Configuration, Refused> {
    Configuration::read(Some(path), std::iter::empty())
}

/// The full names of all keys that a file names.
fn names(table: &Table, path: &str, all: &mut BTreeSet<String>) {
    let mut add = |name: &str, content: &Content| {
        let name = format!("{path}{name}");
        match content {
            Content::Table(table) => names(table, &format!("{name}."), all),
            _ => {
                all.insert(name);
            }
        }
    };
    for (name, entry) in table {
        match &entry.content {
            Content::List(list) => {
                for (index, entry) in list.iter().enumerate() {
                    add(&format!("{name}.{index}"), &entry.content);
                }
            }
            content => add(name, content),
        }
    }
}

/// The comment above each key, in order of the file.
fn comments(text: &str) -> BTreeMap<String, String> {
    let (mut comments, mut section, mut comment) = (BTreeMap::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some(more) = line.strip_prefix('#') {
            comment.push_str(more);
        } else if let Some((name, _)) = line.split_once(" = ") {
            comments.insert(format!("{section}.{name}"), std::mem::take(&mut comment));
        } else if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).replace("listeners", "listeners.0");
            comment.clear();
        } else {
            comment.clear();
        }
    }
    comments
}

/// `conf/hermod.toml` names every key that there is, and gives each the value that it has without a file.
#[test]
fn reference_shows_every_key_with_its_default() {
    let path = conf().join("hermod.toml");
    let text = std::fs::read_to_string(&path).expect("conf/hermod.toml");
    let mut named = BTreeSet::new();
    names(&parse(&path, &text).expect("it is TOML"), "", &mut named);
    let keys: BTreeSet<_> = flatten(&Configuration::default()).into_keys().collect();
    assert_eq!(named, keys);
    assert_eq!(load(&path), Ok(Configuration::default()));
}

/// Above each key stands what it takes, as the code has it.
#[test]
fn reference_says_what_keys_take() {
    let text = std::fs::read_to_string(conf().join("hermod.toml")).expect("conf/hermod.toml");
    let comments = comments(&text);
    for (key, (_, kind)) in flatten(&Configuration::default()) {
        let comment = &comments[&key];
        assert!(!comment.is_empty(), "{key} has no comment");
        let said = match kind {
            Kind::Number { min, max } => comment.contains(&format!("{min} to {max}")),
            Kind::Word(words) => words.iter().all(|word| comment.contains(&format!("\"{word}\""))),
            Kind::Text(form) => comment.to_lowercase().contains(&form.to_lowercase()),
            Kind::Switch => key.starts_with("roles.") || comment.contains("true or false"),
        };
        assert!(said, "the comment above {key} does not say that it takes {kind}");
    }
}

/// When a change takes effect stands above each key as the code has it.
#[test]
fn reference_says_when_changes_take_effect() {
    let text = std::fs::read_to_string(conf().join("hermod.toml")).expect("conf/hermod.toml");
    for (key, comment) in comments(&text) {
        let section = key.split('.').next().expect("a section");
        let mark = match super::changes::effect(&key, true) {
            super::Effect::Now => "[now]",
            super::Effect::NextConnect => "[connect]",
            super::Effect::Restart => "[restart]",
        };
        // Of sections in which it is the same for all keys, the section says it; and a listener's place is one
        // of those that are bound once.
        if ["node", "admin", "events", "wal", "cluster", "roles"].contains(&section) {
            assert_eq!(mark, "[restart]", "{key}");
        } else if key == "listeners.0.bind" {
            assert!(comment.ends_with("[restart]"), "{key}");
        } else {
            assert!(comment.ends_with(mark), "{key} should say {mark}");
        }
    }
}

/// Every shipped file is a configuration that can be served, alone and with the range checks of the core.
#[test]
fn shipped_files_can_be_served() {
    let mut loaded = 0;
    for folder in [conf(), conf().join("examples"), conf().join("debian")] {
        for file in
            std::fs::read_dir(folder).expect("it is shipped").map(|file| file.expect("readable").path())
        {
            if file.extension().is_some_and(|extension| extension == "toml") {
                let configuration = load(&file).unwrap_or_else(|refused| panic!("{refused}"));
                assert_eq!(configuration.core(1, false).check(), Ok(()), "{}", file.display());
                loaded += 1;
            }
        }
    }
    assert!(loaded >= 6, "{loaded} files");
}

/// The service's own file keeps what the service's directory is for, and lets in nobody but this machine.
#[test]
fn the_service_keeps_its_data_where_the_package_says() {
    let configuration = load(&conf().join("debian/hermod.toml")).expect("it can be served");
    assert_eq!(configuration.node.data.to_string(), "/var/lib/hermod");
    let mut expected = Configuration::default();
    expected.node.data = configuration.node.data.clone();
    assert_eq!(configuration, expected);
}

/// `conf/README.md` names every type of events that there is, and all of BifroMQ's, those that are not here with a reason.
#[test]
fn readme_names_every_type_of_events() {
    let theirs = include_str!("their_events.txt");
    let page = std::fs::read_to_string(conf().join("README.md")).expect("conf/README.md");
    let (_, events) = page.split_once("## Events, beside").expect("a chapter");
    let (told, rest) = events.split_once("| not here").expect("a list and a table");
    let (missing, _) = rest.split_once("## ").expect("another chapter");
    let words = |text: &str| -> BTreeSet<String> {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| theirs.lines().any(|kind| kind == *word)).map(str::to_owned).collect()
    };
    let ours: BTreeSet<_> = broker_core::notice::Kind::ALL.iter().map(|kind| kind.name.to_owned()).collect();
    assert_eq!(words(told), ours);
    let absent: BTreeSet<_> = theirs.lines().map(str::to_owned).filter(|kind| !ours.contains(kind)).collect();
    assert!(absent.is_subset(&words(missing)), "{absent:?}");
    assert_eq!((theirs.lines().count(), ours.len()), (84, 61));
}

/// The table of `conf/README.md` names settings that there are, and all of them.
#[test]
fn readme_names_every_setting_of_a_tenant() {
    let page = std::fs::read_to_string(conf().join("README.md")).expect("conf/README.md");
    for key in broker_core::config::Settings::KEYS {
        assert!(page.contains(&format!("`{}`", key.name)), "conf/README.md does not name {}", key.name);
    }
}

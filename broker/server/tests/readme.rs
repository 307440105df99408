//! The README is the map: what it names has to be there.

use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The targets of `[text](path)` in a page.
fn links(page: &str) -> Vec<&str> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

/// Every file and folder that the README links to exists.
#[test]
fn readme_names_what_is_there() {
    let page = std::fs::read_to_string(top().join("README.md")).expect("README.md");
    let links = links(&page);
    assert!(links.len() > 30, "the map has shrunk to {}", links.len());
    let gone: Vec<_> = links.into_iter().filter(|link| !top().join(link).exists()).collect();
    assert!(gone.is_empty(), "README.md names what is gone: {gone:?}");
}

/// Every top-level folder has a page of its own, of a page at most.
#[test]
fn folders_have_readmes() {
    for folder in ["bench", "broker", "net", "tuning"] {
        let page = std::fs::read_to_string(top().join(folder).join("README.md"));
        let lines = page.unwrap_or_else(|_| panic!("{folder}/README.md")).lines().count();
        assert!(lines <= 60, "{folder}/README.md has {lines} lines");
    }
}

/// The two commands of the README are the ones that CI runs.
#[test]
fn readme_commands_are_those_of_ci() {
    let page = std::fs::read_to_string(top().join("README.md")).expect("README.md");
    let ci = std::fs::read_to_string(top().join(".ci/run")).expect(".ci/run");
    let command = "cargo test --workspace";
    assert!(page.lines().any(|line| line.trim().starts_with(command)));
    assert!(ci.lines().any(|line| line.trim().ends_with(command)), ".ci/run does not run `{command}`");
}

//! Reads small kernel files below a root that tests replace. A file that is missing, unreadable or not
//! text reads as `None`: on a host, all three mean that there is no such fact.

use std::fs;
use std::path::{Path, PathBuf};

/// `/proc` or `/sys`, or a copy of them.
#[derive(Clone, Debug)]
pub(super) struct Tree(pub(super) PathBuf);

impl Tree {
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    pub(super) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.at(path)).ok()?;
        Some(text.trim_end().to_owned())
    }

    pub(super) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    /// The names in a directory, sorted, so that findings come in the same order every time.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The choice in brackets of a file like `always [madvise] never`; the only word where there is one.
    pub(super) fn choice(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = self.text(path)?;
        let chosen = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        chosen.or((!text.contains(char::is_whitespace)).then_some(&text)).map(str::to_owned)
    }
}

/// Processors of a list like `0-3,8`. What cannot be read as one is skipped.
pub(super) fn processor_list(text: &str) -> Vec<u16> {
    text.trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the kernel's list format in all its forms. Method: compare lists.
    #[test]
    fn processor_lists() {
        assert_eq!(processor_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(processor_list("5"), [5]);
        assert_eq!(processor_list("\n"), []);
    }
}

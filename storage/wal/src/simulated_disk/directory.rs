//! The names of files. A change of names counts for everybody at once, and after a power loss only if the
//! directory was synced; without a sync it may or may not.

use std::collections::BTreeMap;

use super::random::Random;
use crate::identity::SegmentId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) u64);

/// Of every file the names it has had since the last sync, the present one last; none while it has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    names: BTreeMap<FileId, Vec<Option<SegmentId>>>,
}

impl Directory {
    pub(super) fn find(&self, segment: SegmentId) -> Option<FileId> {
        self.files().find(|(name, _)| *name == segment).map(|(_, file)| file)
    }

    /// Files with a name.
    pub(super) fn files(&self) -> impl Iterator<Item = (SegmentId, FileId)> + '_ {
        self.names.iter().filter_map(|(file, names)| Some(((*names.last()?)?, *file)))
    }

    /// Has it a name, or had one that may come back?
    pub(super) fn knows(&self, file: FileId) -> bool {
        self.names.contains_key(&file)
    }

    /// Renames, creates (a file without a name so far) or removes (`None`).
    pub(super) fn rename(&mut self, file: FileId, name: Option<SegmentId>) {
        if let Some(name) = name {
            assert!(self.find(name).is_none(), "segment {name} exists");
        }
        self.names.entry(file).or_insert_with(|| vec![None]).push(name);
    }

    pub(super) fn sync(&mut self) {
        for names in self.names.values_mut() {
            names.drain(..names.len() - 1);
        }
    }

    pub(super) fn lose_power(&mut self, random: &mut Random) {
        for names in self.names.values_mut() {
            let name = names[random.index(names.len())];
            *names = vec![name];
        }
    }

    /// Removes files without a name for good, and answers which those are.
    pub(super) fn take_nameless(&mut self) -> Vec<FileId> {
        let nameless = |names: &Vec<Option<SegmentId>>| names.as_slice() == [None];
        let gone: Vec<FileId> =
            self.names.iter().filter(|(_, names)| nameless(names)).map(|(file, _)| *file).collect();
        for file in &gone {
            self.names.remove(file);
        }
        gone
    }
}

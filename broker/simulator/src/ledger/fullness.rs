//! When a log of the node took nothing new.

use crate::history::Moment;

/// Since when disks are full, or until when they were.
#[derive(Debug, Default)]
pub struct Fullness {
    is_full: bool,
    /// The last time that was over.
    until: Option<Moment>,
}

impl Fullness {
    pub(super) fn on(&mut self, is_full: bool, moment: Moment) {
        self.is_full = is_full;
        if !is_full {
            self.until = Some(moment);
        }
    }

    /// Was a log's disk full at any time since then?
    #[must_use]
    pub fn since(&self, moment: Moment) -> bool {
        self.is_full || self.until.is_some_and(|until| until > moment)
    }
}

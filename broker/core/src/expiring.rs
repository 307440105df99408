//! Hot path. How far a queue was searched for messages that have expired: so that a full queue, in which nothing has,
//! is not gone through for each message that finds no room.

use crate::time::Wall;

/// What a search of a queue has found. The queue is told by places, which a message keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Searched {
    /// All before this place were looked at.
    to: u64,
    /// When the first of those expires that had not.
    first: Wall,
}

impl Default for Searched {
    fn default() -> Searched {
        Searched { to: 0, first: Wall::MAX }
    }
}

impl Searched {
    /// Where a search begins that is to find everything from the place `least` on that has expired: behind what was
    /// looked at, as long as nothing of that can have.
    pub(crate) fn begin(&mut self, least: u64, now: Wall) -> u64 {
        if self.first <= now {
            *self = Searched::default();
        }
        self.to.max(least)
    }

    /// A message that has not expired was seen.
    pub(crate) fn see(&mut self, expires: Wall) {
        self.first = self.first.min(expires);
    }

    /// All before this place were.
    pub(crate) fn end(&mut self, to: u64) {
        self.to = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was looked at is looked at again when the first of it expires, and not before.
    #[test]
    fn nothing_is_looked_at_in_vain() {
        let mut searched = Searched::default();
        assert_eq!(searched.begin(3, Wall(10)), 3);
        searched.see(Wall(50));
        searched.see(Wall(20));
        searched.end(100);
        assert_eq!(searched.begin(3, Wall(19)), 100);
        assert_eq!(searched.begin(200, Wall(19)), 200, "what was sent since is left out");
        assert_eq!(searched.begin(3, Wall(20)), 3);
        searched.end(100);
        assert_eq!(searched.begin(3, Wall(Wall::MAX.0 - 1)), 100, "nothing of that expires");
    }
}

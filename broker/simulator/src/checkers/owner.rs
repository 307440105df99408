//! Promise 5: at no moment do two connections of one client id both have their CONNACK and are not being
//! closed; the loser of a take-over is closed before the winner's CONNACK leaves.

use super::{Findings, Promise};
use crate::history::{Event, Fact, Link};
use crate::ledger::Ledger;

/// Looks at CONNACKs as they leave.
#[derive(Debug)]
pub(super) struct Owner;

impl Owner {
    /// The moment a CONNACK leaves, every other connection of its client must be on its way out.
    pub(super) fn on(&self, event: &Event, ledger: &Ledger, findings: &mut Findings) {
        let Fact::Greeted { link, accepted: true } = event.fact else { return };
        let client = ledger.link(link).client;
        for (other, state) in ledger.links.iter().enumerate() {
            let alive = state.greeted.is_some_and(|(_, accepted)| accepted)
                && state.closing.is_none()
                && state.gone.is_none();
            if Link(other as u32) != link && state.client == client && alive {
                findings.add(
                    Promise::Owner,
                    event.moment,
                    format!(
                        "the CONNACK of connection {} left while connection {other} of the same client {} was \
                         still open",
                        link.0, client.0
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Promise;
    use super::super::story::Story;

    /// A second connection of a client id is greeted while the first still stands; after its closing has
    /// begun it is in order.
    #[test]
    fn two_owners() {
        let mut story = Story::new();
        let first = story.online(0, false);
        story.resume(0);
        assert!(story.found(Promise::Owner), "{:?}", story.findings());

        let mut story = Story::new();
        let _ = first;
        let first = story.online(0, false);
        story.closing(first);
        story.resume(0);
        assert!(!story.found(Promise::Owner), "{:?}", story.findings());
    }
}

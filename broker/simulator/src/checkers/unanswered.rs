//! Everything that is asked is answered: when nothing moves any more, no request of a client is open, no
//! CONNECT is without its CONNACK, and nobody who sent bytes that no server may accept is still connected.

use super::{Findings, Promise};
use crate::history::{Event, Fact, Moment};
use crate::ledger::{Ledger, LinkState, Request};

/// Looks at what is open.
#[derive(Debug)]
pub(super) struct Unanswered;

impl Unanswered {
    /// When nothing moves any more, all must be answered.
    pub(super) fn on(&self, event: &Event, ledger: &Ledger, findings: &mut Findings) {
        if !matches!(event.fact, Fact::Quiet { .. }) {
            return;
        }
        for (link, state) in ledger.links.iter().enumerate().filter(|(_, state)| state.is_open()) {
            if let Some(problem) = open_matter(state) {
                let text = format!("connection {link} of client {}: {problem}", state.client.0);
                findings.add(Promise::Unanswered, event.moment, text);
            }
        }
    }
}

fn open_matter(state: &LinkState) -> Option<String> {
    if let Some(Moment(moment)) = state.garbage {
        return Some(format!("still open, though it sent garbage (event {moment})"));
    }
    if state.greeting.is_some() && state.welcome.is_none() {
        return Some("CONNECT was never answered".to_owned());
    }
    let (Moment(moment), request) =
        state.requests.iter().find(|(_, request)| !matches!(request, Request::Plain(_)))?;
    Some(format!("{request:?} (event {moment}) was never answered"))
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;
    use crate::history::{AckFact, Sent};

    /// Each kind of request, left open.
    #[test]
    fn requests_left_open() {
        let release = Sent::Ack(AckFact { kind: PacketKind::PubRel, packet_id: 3, reason: 0 });
        for request in
            [Sent::Ping, Sent::Unsubscribe { packet_id: 1, filters: vec!["a"] }, release, Sent::Garbage]
        {
            let mut story = Story::new();
            let link = story.online(0, true);
            story.quiet();
            assert!(!story.found(Promise::Unanswered));
            story.sent(link, request);
            story.quiet_without_pong();
            assert!(story.found(Promise::Unanswered), "{:?}", story.findings());
        }
        let mut story = Story::new();
        let link = story.online(0, true);
        story.publish(link, 1, "a", QoS::AtLeastOnce);
        story.quiet_without_pong();
        assert!(story.found(Promise::Unanswered));
    }
}

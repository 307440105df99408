//! Promise 2, the part that an acknowledgement alone shows: "no matching subscribers" (0x10) may not be
//! said when somebody is certainly subscribed. What was not delivered is found in `expected.rs` and
//! reported by `silent.rs`.

use mqtt::PacketKind;

use super::{Findings, Promise};
use crate::history::{ClientIndex, Event, Fact, Got, Message};
use crate::ledger::{Ledger, Request};

/// Looks at acknowledgements.
pub(super) fn on(event: &Event, messages: &[Message], ledger: &Ledger, findings: &mut Findings) {
    let Fact::Got(link, Got::Ack(ack)) = &event.fact else { return };
    if ack.reason != 0x10 || !matches!(ack.kind, PacketKind::PubAck | PacketKind::PubRec) {
        return;
    }
    let asked = |request: &Request| match request {
        Request::Publish(packet_id, message) if *packet_id == ack.packet_id => Some(*message),
        _ => None,
    };
    let Some(id) = ledger.link(*link).requests.iter().find_map(|(_, request)| asked(request)) else { return };
    let message = &messages[id.0 as usize];
    let Some(begun) = ledger.message(id).begun else { return };
    for (index, session) in ledger.sessions.iter().enumerate() {
        let client = ClientIndex(index as u16);
        let live = session.is_certain() && (session.online.is_some() || session.is_persistent());
        let must = session.subscriptions.iter().find(|each| {
            let own = message.publisher == client && session.may_hide_own(each.filter, message.topic, begun);
            each.must_match(message.topic, begun) && !own
        });
        if let (true, Some(subscription)) = (live, must) {
            findings.add(
                Promise::Routed,
                event.moment,
                format!(
                    "message {:08x} on {} was acknowledged with 0x10 (no matching subscribers), but client \
                     {index} has been subscribed to {} since before it was sent",
                    id.0, message.topic, subscription.filter
                ),
            );
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;
    use crate::history::Sent;

    /// A subscriber is certain, a publish begins after its SUBACK, and nothing arrives: found, whether the
    /// acknowledgement says so or not.
    #[test]
    fn publish_after_suback_that_reaches_nobody() {
        for reason in [0x00, 0x10] {
            let mut story = Story::new();
            let subscriber = story.online(0, true);
            let publisher = story.online(1, true);
            story.subscribe(subscriber, 1, "a/#", QoS::AtLeastOnce);
            let message = story.publish(publisher, 1, "a/b", QoS::AtLeastOnce);
            story.broker_acks(publisher, PacketKind::PubAck, 1, reason);
            story.quiet();
            assert!(story.found(Promise::Routed), "{:?}", story.findings());
            let _ = message;
        }
    }

    /// The same publish begun before the SUBACK may be missed.
    #[test]
    fn publish_before_suback_may_be_missed() {
        let mut story = Story::new();
        let subscriber = story.online(0, true);
        let publisher = story.online(1, true);
        story.sends_subscribe(subscriber, 1, "a/#", QoS::AtLeastOnce);
        story.publish(publisher, 1, "a/b", QoS::AtLeastOnce);
        story.gets_suback(subscriber, 1, &[1]);
        story.broker_acks(publisher, PacketKind::PubAck, 1, 0x10);
        story.sent(publisher, Sent::Ping);
        story.quiet_without_pong();
        assert!(!story.found(Promise::Routed), "{:?}", story.findings());
    }
}

//! Promise 6, the part on the wire: packet identifiers in flight are not used again, what is sent again
//! says DUP and keeps its identifier, owed PUBLISHes and PUBRELs are sent again on the next connection and
//! never on the same one, and the client's Receive Maximum is respected.

use std::collections::BTreeMap;

use broker_core::config::Config;
use mqtt::{PacketKind, QoS, Version};

use super::{Findings, Promise};
use crate::history::{AckFact, ClientIndex, Delivery, Event, Fact, Got, Link, MessageId, Sent};
use crate::ledger::Ledger;

/// Follows every packet identifier that the broker has in use, as far as its client can tell.
#[derive(Debug)]
pub(super) struct Received {
    /// For clients of 3.x, which cannot name a Receive Maximum; in 5.0 not to name it means 65 535.
    inflight_max: u16,
    exchanges: BTreeMap<(ClientIndex, u16), Exchange>,
}

/// One packet identifier.
#[derive(Debug)]
struct Exchange {
    session: u32,
    message: Option<MessageId>,
    qos: QoS,
    /// The connection on which the broker last spoke of it.
    link: Link,
    /// The PUBLISH itself came on that connection: it counts against the Receive Maximum.
    published: bool,
    step: Step,
}

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// PUBLISH read, nothing answered.
    Given,
    /// PUBREC written.
    Received,
    /// PUBREL read.
    Released,
    /// PUBACK, PUBCOMP or a refusing PUBREC written: the broker may know, or not.
    Finished,
}

impl Received {
    /// With the broker's own limit.
    pub(super) fn new(config: &Config) -> Received {
        Received { inflight_max: config.settings.inflight_max, exchanges: BTreeMap::new() }
    }

    /// Looks at deliveries, PUBRELs and the client's answers.
    pub(super) fn on(&mut self, event: &Event, ledger: &Ledger, findings: &mut Findings) {
        let problem = match &event.fact {
            Fact::Got(link, Got::Publish(delivery)) => self.on_publish(*link, delivery, ledger),
            Fact::Got(link, Got::Ack(ack)) if ack.kind == PacketKind::PubRel => {
                self.on_release(*link, ack.packet_id, ledger)
            }
            Fact::Sent(link, Sent::Ack(ack)) => {
                self.on_answer(*link, *ack, ledger);
                None
            }
            Fact::Quiet { .. } => self.on_quiet(ledger),
            _ => None,
        };
        if let Some(problem) = problem {
            findings.add(Promise::ExactlyOnce, event.moment, problem);
        }
    }

    fn on_publish(&mut self, link: Link, delivery: &Delivery, ledger: &Ledger) -> Option<String> {
        let (Some(packet_id), Some(session)) = (delivery.packet_id, ledger.session_of(link)) else {
            return None;
        };
        let client = ledger.link(link).client;
        // One that may have ended unseen, and another begun, has identifiers anew.
        let same =
            |old: &&Exchange| old.session == session.number && (session.is_certain() || old.link == link);
        let before = self.exchanges.get(&(client, packet_id)).filter(same);
        let whom = format!("client {}, packet {packet_id}", client.0);
        let mut problem = judge(before, link, delivery).map(|problem| format!("{whom}: {problem}"));
        if delivery.dup && session.first_link == Some(link) {
            problem = Some(format!("{whom}: DUP on the session's first connection"));
        }
        let exchange = Exchange {
            session: session.number,
            message: delivery.message,
            qos: delivery.qos,
            link,
            published: true,
            step: Step::Given,
        };
        self.exchanges.insert((client, packet_id), exchange);
        problem.or_else(|| self.too_many(link, client, ledger))
    }

    /// [MQTT-3.3.4-9]
    fn too_many(&self, link: Link, client: ClientIndex, ledger: &Ledger) -> Option<String> {
        let greeting = ledger.link(link).greeting.as_ref()?;
        let otherwise = if greeting.version == Version::V5 { u16::MAX } else { self.inflight_max };
        let limit = usize::from(greeting.receive_maximum.unwrap_or(otherwise));
        let open = self
            .exchanges
            .range((client, 0)..=(client, u16::MAX))
            .filter(|(_, each)| each.link == link && each.published && each.step != Step::Finished)
            .count();
        (open > limit).then(|| {
            format!("client {}: {open} unacknowledged messages where {limit} are the maximum", client.0)
        })
    }

    fn on_release(&mut self, link: Link, packet_id: u16, ledger: &Ledger) -> Option<String> {
        let session = ledger.session_of(link)?;
        let client = ledger.link(link).client;
        let whom = format!("client {}, packet {packet_id}", client.0);
        let exchange =
            self.exchanges.get_mut(&(client, packet_id)).filter(|old| old.session == session.number);
        let Some(exchange) = exchange else { return Some(format!("{whom}: PUBREL for no message")) };
        let again = exchange.link == link;
        let problem = match exchange.step {
            Step::Given => Some("PUBREL before its PUBREC"),
            Step::Released | Step::Finished if again => Some("PUBREL again on the same connection"),
            _ if exchange.qos != QoS::ExactlyOnce => Some("PUBREL for a QoS 1 message"),
            _ => None,
        };
        if !again {
            exchange.published = false;
        }
        exchange.link = link;
        exchange.step = Step::Released;
        problem.map(|problem| format!("{whom}: {problem}"))
    }

    fn on_answer(&mut self, link: Link, ack: AckFact, ledger: &Ledger) {
        let client = ledger.link(link).client;
        let Some(exchange) = self.exchanges.get_mut(&(client, ack.packet_id)) else { return };
        match ack.kind {
            PacketKind::PubRec if ack.reason < 0x80 => exchange.step = Step::Received,
            PacketKind::PubAck | PacketKind::PubComp | PacketKind::PubRec => exchange.step = Step::Finished,
            _ => {}
        }
    }

    /// Clients that are online have answered everything: what is still open, the broker owes.
    fn on_quiet(&mut self, ledger: &Ledger) -> Option<String> {
        self.exchanges.retain(|(client, _), each| ledger.session(*client).number == each.session);
        self.exchanges.iter().find_map(|((client, packet_id), each)| {
            let session = ledger.session(*client);
            let owed = match each.step {
                Step::Given => "PUBLISH was not sent again",
                Step::Received => "PUBREL is owed",
                Step::Released | Step::Finished => return None,
            };
            (session.online.is_some() && session.is_certain())
                .then(|| format!("client {}, packet {packet_id}: {owed}", client.0))
        })
    }
}

/// May this PUBLISH use this identifier?
fn judge(before: Option<&Exchange>, link: Link, delivery: &Delivery) -> Option<&'static str> {
    let before = before?;
    let same = before.message == delivery.message && before.qos == delivery.qos;
    match before.step {
        // Its client has answered on this connection, or not at all as far as the broker knows.
        Step::Finished if before.link == link => {
            (delivery.dup).then_some("DUP on the connection on which it was finished") // [MQTT-3.3.1-1]
        }
        Step::Finished => None,
        _ if before.link == link => Some("identifier in flight used again, or sent again on one connection"),
        Step::Given | Step::Received if !same => Some("identifier in flight used for another message"),
        Step::Given | Step::Received if !delivery.dup => Some("sent again without DUP"),
        Step::Released => Some("PUBLISH again after its PUBREL"),
        Step::Given | Step::Received => None,
    }
}

#[cfg(test)]
mod tests {
    use mqtt::{PacketKind, QoS};

    use super::super::Promise;
    use super::super::story::Story;
    use crate::history::Link;

    fn begin(qos: QoS) -> (Story, Link, Link) {
        let mut story = Story::new();
        let subscriber = story.online(0, false);
        let publisher = story.online(1, true);
        story.subscribe(subscriber, 1, "a", qos);
        (story, subscriber, publisher)
    }

    /// An identifier whose message is not acknowledged carries another.
    #[test]
    fn identifier_in_flight() {
        let (mut story, subscriber, publisher) = begin(QoS::AtLeastOnce);
        let first = story.publish(publisher, 1, "a", QoS::AtLeastOnce);
        let second = story.publish(publisher, 2, "a", QoS::AtLeastOnce);
        story.deliver(subscriber, first, QoS::AtLeastOnce, 7);
        story.deliver(subscriber, second, QoS::AtLeastOnce, 7);
        assert!(story.found(Promise::ExactlyOnce), "{:?}", story.findings());
    }

    /// After a reconnect the same message comes again without DUP.
    #[test]
    fn again_without_dup() {
        let (mut story, subscriber, publisher) = begin(QoS::AtLeastOnce);
        let message = story.publish(publisher, 1, "a", QoS::AtLeastOnce);
        story.deliver(subscriber, message, QoS::AtLeastOnce, 7);
        story.leave(subscriber);
        let subscriber = story.resume(0);
        story.deliver_again(subscriber, message, QoS::AtLeastOnce, 7);
        assert!(!story.found(Promise::ExactlyOnce), "{:?}", story.findings());
        story.leave(subscriber);
        let subscriber = story.resume(0);
        story.deliver(subscriber, message, QoS::AtLeastOnce, 7);
        assert!(story.found(Promise::ExactlyOnce));
    }

    /// What was not acknowledged, and what was only half, does not come again.
    #[test]
    fn owed_and_forgotten() {
        for received in [false, true] {
            let (mut story, subscriber, publisher) = begin(QoS::ExactlyOnce);
            let message = story.publish(publisher, 1, "a", QoS::ExactlyOnce);
            story.deliver(subscriber, message, QoS::ExactlyOnce, 7);
            if received {
                story.client_acks(subscriber, PacketKind::PubRec, 7, 0);
            }
            story.leave(subscriber);
            story.resume(0);
            story.quiet();
            assert!(story.found(Promise::ExactlyOnce), "{:?}", story.findings());
        }
    }

    /// One more than the Receive Maximum; the story's clients name 4.
    #[test]
    fn receive_maximum() {
        let (mut story, subscriber, publisher) = begin(QoS::AtLeastOnce);
        for packet_id in 1..=5 {
            assert!(!story.found(Promise::ExactlyOnce));
            let message = story.publish(publisher, packet_id, "a", QoS::AtLeastOnce);
            story.deliver(subscriber, message, QoS::AtLeastOnce, packet_id);
        }
        assert!(story.found(Promise::ExactlyOnce));
    }
}

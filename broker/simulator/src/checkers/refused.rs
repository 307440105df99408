//! Promises 1 and 4 where the disk is full: new data is refused, by the right word and for no other cause, and what
//! was refused is counted.
//!
//! A publisher of version 5 reads 0x97 and is done; one of 3.x, whose protocol has no such word, is closed without an
//! acknowledgement and may send it again, and so is who repeats a QoS 2 message that may be stored since before a crash; a SUBSCRIBE of a session that lasts reads 0x97, or 0x80 in 3.x, and the
//! subscription it would have replaced stays. Only what a log would have had to take may be refused, and only while
//! it was full. What is acknowledged was stored: `expected.rs` holds the broker to that, full or not. What is refused
//! may reach some of its receivers ([`Outcome::NotStored`](crate::ledger::Outcome)), and nobody twice.

use std::collections::BTreeSet;

use broker_core::counters::{Counters, DropReason};
use mqtt::{PacketKind, QoS, Version};

use super::closing;
use super::{Findings, Promise};
use crate::history::{AckFact, ClientIndex, Event, Fact, Got, Link, Message, MessageId, Sent};
use crate::ledger::{Ledger, LinkState, NOT_STORED, Request};
use crate::topics;

/// What a client of 3.x reads of a SUBSCRIBE that was refused.
const REFUSED: u8 = 0x80;

/// Remembers who may have had a log, and counts what was refused.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Clients that ever asked for a session that lasts.
    lasting: BTreeSet<ClientIndex>,
    /// Filters that were ever asked for, by client.
    asked: BTreeSet<(ClientIndex, &'static str)>,
    /// Publishes that were refused.
    count: u64,
    reported: bool,
}

impl Refused {
    /// Looks at acknowledgements, closings, and what was counted.
    pub(super) fn on(
        &mut self,
        event: &Event,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let problem = match &event.fact {
            Fact::Sent(link, sent) => {
                self.on_sent(ledger.link(*link).client, sent);
                return;
            }
            Fact::Got(link, Got::Ack(ack)) => self.on_ack(*link, *ack, messages, ledger),
            Fact::Got(link, Got::SubAck { packet_id, reasons }) => {
                self.on_suback(*link, *packet_id, reasons, ledger)
            }
            Fact::Closing(link) => {
                let otherwise = closing::has_plain_cause(*link, event.at, ledger);
                let unanswerable = is_unanswerable(ledger.link(*link), messages, ledger);
                self.count += u64::from(!otherwise && unanswerable);
                return;
            }
            Fact::Quiet { counters, .. } => self.on_quiet(counters),
            _ => return,
        };
        if let Some((promise, problem)) = problem {
            findings.add(promise, event.moment, problem);
        }
    }

    fn on_sent(&mut self, client: ClientIndex, sent: &Sent) {
        match sent {
            Sent::Connect(greeting) if greeting.expiry > 0 => {
                self.lasting.insert(client);
            }
            Sent::Subscribe { filters, .. } => {
                self.asked.extend(filters.iter().map(|(filter, _)| (client, *filter)));
            }
            _ => {}
        }
    }

    fn on_ack(
        &mut self,
        link: Link,
        ack: AckFact,
        messages: &[Message],
        ledger: &Ledger,
    ) -> Option<(Promise, String)> {
        if ack.reason < 0x80 || !matches!(ack.kind, PacketKind::PubAck | PacketKind::PubRec) {
            return None;
        }
        let state = ledger.link(link);
        let id = state.requests.iter().find_map(|(_, request)| match request {
            Request::Publish(packet_id, id) if *packet_id == ack.packet_id => Some(*id),
            _ => None,
        })?;
        self.count += 1;
        let message = &messages[id.0 as usize];
        let problem = if ack.reason != NOT_STORED {
            "for a reason that there is not"
        } else if !was_full(id, ledger) {
            "though no disk was full"
        } else if !self.needs_a_log(message) {
            "though no log was to have it"
        } else {
            return None;
        };
        let whom = format!("client {}, message {:08x} on {}", state.client.0, id.0, message.topic);
        Some((Promise::Conformance, format!("{whom}: refused with {:#04x} {problem}", ack.reason)))
    }

    /// May a session that lasts have been subscribed, or is it to be retained? To clear a topic needs no space.
    fn needs_a_log(&self, message: &Message) -> bool {
        let retains = message.retain && !message.payload.is_empty();
        retains
            || self.asked.iter().any(|(client, filter)| {
                self.lasting.contains(client) && topics::matches(filter, message.topic)
            })
    }

    fn on_suback(
        &self,
        link: Link,
        packet_id: u16,
        reasons: &[u8],
        ledger: &Ledger,
    ) -> Option<(Promise, String)> {
        let refusal = *reasons.iter().find(|reason| **reason >= 0x80)?;
        let state = ledger.link(link);
        let (sent, _) =
            state.requests.iter().find(|(_, request)| *request == Request::Subscribe(packet_id))?;
        let word = if state.version() == Version::V5 { NOT_STORED } else { REFUSED };
        let problem = if refusal != word {
            "for a reason that there is not"
        } else if !ledger.fullness.since(*sent) {
            "though no disk was full"
        } else if !self.lasting.contains(&state.client) {
            "though its session is in no log"
        } else {
            return None;
        };
        let whom = format!("client {}, SUBACK {packet_id}", state.client.0);
        Some((Promise::Conformance, format!("{whom}: refused with {refusal:#04x} {problem}")))
    }

    fn on_quiet(&mut self, counters: &Counters) -> Option<(Promise, String)> {
        let counted = counters.dropped(DropReason::DiskFull);
        if self.count <= counted || std::mem::replace(&mut self.reported, true) {
            return None;
        }
        let name = DropReason::DiskFull.name();
        Some((
            Promise::Silent,
            format!("{} messages were refused and {counted} were counted under {name}", self.count),
        ))
    }
}

/// Does a client wait for the acknowledgement of something that came while a disk was full, and there is none? It is
/// closed: 3.x has none that says so, and version 5 none for a QoS 2 message of a session that lasts, if it is sent
/// again, because some log may have it since before a crash.
pub(super) fn is_unanswerable(state: &LinkState, messages: &[Message], ledger: &Ledger) -> bool {
    // One that was there before is in a log, though it is to end with this connection.
    let lasts = state.greeting.as_ref().is_some_and(|greeting| greeting.expiry > 0)
        || state.welcome.as_ref().is_some_and(|welcome| welcome.session_present);
    let unsaid = |id: MessageId| {
        let again = messages[id.0 as usize].qos == QoS::ExactlyOnce && ledger.message(id).sends > 1;
        state.version() != Version::V5 || lasts && again
    };
    state.requests.iter().any(|(_, request)| match request {
        Request::Publish(_, id) => was_full(*id, ledger) && unsaid(*id),
        _ => false,
    })
}

/// Was a disk full since the client came? Then a log may have had no room even for it.
pub(super) fn may_be_turned_away(state: &LinkState, ledger: &Ledger) -> bool {
    ledger.fullness.since(state.opened)
}

/// Was a disk full since the message was first sent? A repeat may wait for what became of that.
fn was_full(id: MessageId, ledger: &Ledger) -> bool {
    ledger.message(id).begun.is_some_and(|begun| ledger.fullness.since(begun))
}

#[cfg(test)]
#[path = "refused_tests.rs"]
mod tests;

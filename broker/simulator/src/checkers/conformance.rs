//! What MQTT says of every packet a server sends: it decodes, its kind may be sent now, it answers something
//! that was asked, and a PUBLISH is explained by a subscription in each of its fields.

use std::collections::BTreeMap;

use mqtt::{PacketKind, QoS, RetainHandling, Version};

use super::{Findings, Promise, refused};
use crate::history::{
    AckFact, ClientIndex, Delivery, Event, Fact, Got, Link, Message, MessageId, Moment, Sent, Welcome,
};
use crate::ledger::{Ledger, LinkState, Outcome, Request, Session, Subscription};
use crate::topics;

/// What a client reads that the broker cannot let in now.
const UNAVAILABLE: u8 = 0x88;

/// Remembers what answers are compared with.
#[derive(Debug, Default)]
pub(super) struct Conformance {
    /// The QoS asked for by each filter of the latest SUBSCRIBE with a packet identifier.
    asked: BTreeMap<(Link, u16), Vec<QoS>>,
    /// How many filters an UNSUBSCRIBE had.
    unasked: BTreeMap<(Link, u16), usize>,
    /// Connections on which the broker said DISCONNECT.
    over: BTreeMap<Link, ()>,
}

impl Conformance {
    /// Looks at every packet of the broker.
    pub(super) fn on(
        &mut self,
        event: &Event,
        messages: &[Message],
        ledger: &Ledger,
        findings: &mut Findings,
    ) {
        let (link, problem) = match &event.fact {
            Fact::Undecodable(link, error) => (*link, Some(format!("bytes that do not decode: {error}"))),
            Fact::Sent(link, Sent::Subscribe { packet_id, filters, .. }) => {
                let asked = filters.iter().map(|(_, options)| options.qos).collect();
                self.asked.insert((*link, *packet_id), asked);
                return;
            }
            Fact::Sent(link, Sent::Unsubscribe { packet_id, filters }) => {
                self.unasked.insert((*link, *packet_id), filters.len());
                return;
            }
            Fact::Got(link, got) => (*link, self.on_got(*link, got, messages, ledger)),
            _ => return,
        };
        if let Some(problem) = problem {
            let text = format!("connection {} of client {}: {problem}", link.0, ledger.link(link).client.0);
            findings.add(Promise::Conformance, event.moment, text);
        }
    }

    fn on_got(&mut self, link: Link, got: &Got, messages: &[Message], ledger: &Ledger) -> Option<String> {
        let state = ledger.link(link);
        if self.over.contains_key(&link) {
            return Some("a packet after DISCONNECT".to_owned()); // [MQTT-3.14.4-1]
        }
        if state.welcome.is_none() && !matches!(got, Got::ConnAck(_) | Got::Auth) {
            return Some("a packet before CONNACK".to_owned()); // [MQTT-3.2.0-1]
        }
        match got {
            Got::ConnAck(_) if state.welcome.is_some() => Some("a second CONNACK".to_owned()), // [MQTT-3.2.0-2]
            Got::ConnAck(welcome) => on_welcome(link, welcome, ledger),
            Got::Publish(delivery) => on_publish(link, delivery, messages, ledger),
            Got::Ack(ack) => on_ack(*ack, state, messages),
            Got::SubAck { packet_id, reasons } => self.on_suback(link, *packet_id, reasons, state),
            Got::UnsubAck { packet_id, reasons } => self.on_unsuback(link, *packet_id, reasons, state),
            Got::Pong => (!is_asked(state, Request::Ping)).then(|| "PINGRESP to no PINGREQ".to_owned()),
            Got::Disconnect { .. } => {
                self.over.insert(link, ());
                None // Whether it may come at all is for `closing.rs`.
            }
            Got::Auth => Some("AUTH to a client that did not ask for it".to_owned()),
        }
    }

    fn on_suback(&self, link: Link, packet_id: u16, reasons: &[u8], state: &LinkState) -> Option<String> {
        if !is_asked(state, Request::Subscribe(packet_id)) {
            return Some(format!("SUBACK {packet_id} to no SUBSCRIBE"));
        }
        let asked = &self.asked[&(link, packet_id)];
        if asked.len() != reasons.len() {
            return Some(format!("SUBACK {packet_id} with {} answers to {}", reasons.len(), asked.len()));
        }
        let known = |reason: u8| reason < 0x80 || state.version() == Version::V5 || reason == 0x80;
        let above = asked
            .iter()
            .zip(reasons)
            .find(|(qos, reason)| (**reason < 0x80 && **reason > qos.bits()) || !known(**reason));
        above.map(|(qos, reason)| format!("SUBACK {packet_id} with {reason:#04x} to QoS {}", qos.bits()))
    }

    fn on_unsuback(&self, link: Link, packet_id: u16, reasons: &[u8], state: &LinkState) -> Option<String> {
        if !is_asked(state, Request::Unsubscribe(packet_id)) {
            return Some(format!("UNSUBACK {packet_id} to no UNSUBSCRIBE"));
        }
        let expected = if state.version() == Version::V5 { self.unasked[&(link, packet_id)] } else { 0 };
        (reasons.len() != expected)
            .then(|| format!("UNSUBACK {packet_id} with {} answers to {expected}", reasons.len()))
    }
}

fn is_asked(state: &LinkState, wanted: Request) -> bool {
    state.requests.iter().any(|(_, request)| *request == wanted)
}

fn on_ack(ack: AckFact, state: &LinkState, messages: &[Message]) -> Option<String> {
    let publish = |wanted: QoS| {
        state.requests.iter().any(|(_, request)| match request {
            Request::Publish(packet_id, message) => {
                *packet_id == ack.packet_id && messages[message.0 as usize].qos == wanted
            }
            _ => false,
        })
    };
    let asked = match ack.kind {
        PacketKind::PubAck => publish(QoS::AtLeastOnce),
        PacketKind::PubRec => publish(QoS::ExactlyOnce),
        PacketKind::PubComp => is_asked(state, Request::Release(ack.packet_id)),
        _ => true, // PUBREL: `received.rs`.
    };
    (!asked).then(|| format!("{:?} {} answers nothing", ack.kind, ack.packet_id))
}

/// Session present [MQTT-3.2.2-2, -3].
fn on_welcome(link: Link, welcome: &Welcome, ledger: &Ledger) -> Option<String> {
    let state = ledger.link(link);
    let session = ledger.session(state.client);
    let greeting = state.greeting.as_ref()?;
    if welcome.reason != 0 {
        if welcome.reason == UNAVAILABLE && refused::may_be_turned_away(state, ledger) {
            return None;
        }
        return Some(format!("refused with {:#04x}", welcome.reason));
    }
    let first = ledger.links[..link.0 as usize]
        .iter()
        .all(|older| older.client != state.client || older.greeting.is_none());
    match welcome.session_present {
        true if greeting.clean => Some("session present after a clean start".to_owned()),
        true if first => Some("session present for a client that was never here".to_owned()),
        false if !greeting.clean && session.is_certain() && session.is_persistent() => {
            Some(format!("its session is gone before it expired ({} s)", session.expiry))
        }
        _ => None,
    }
}

fn on_publish(link: Link, delivery: &Delivery, messages: &[Message], ledger: &Ledger) -> Option<String> {
    let state = ledger.link(link);
    let greeting = state.greeting.as_ref()?;
    let Some(topic) = &delivery.topic else { return Some("PUBLISH with an alias never set".to_owned()) };
    if delivery.alias.is_some_and(|alias| alias == 0 || alias > greeting.alias_max) {
        return Some(format!("alias {:?} where {} is the maximum", delivery.alias, greeting.alias_max));
    }
    if greeting.packet_bytes_max.is_some_and(|limit| delivery.bytes > limit as usize) {
        return Some(format!(
            "a packet of {} bytes, maximum {:?}",
            delivery.bytes, greeting.packet_bytes_max
        ));
    }
    if delivery.ids.len() > 1 {
        return Some(format!("one copy for several subscriptions: {:?}", delivery.ids));
    }
    let Some(id) = delivery.message else {
        let session = ledger.session_of(link)?;
        let explained = session.may_match(topic, None).next().is_some();
        return (!explained).then(|| format!("an empty message on {topic} that matches no subscription"));
    };
    let message = &messages[id.0 as usize];
    let problem = if !delivery.intact {
        Some("its topic, payload or properties have changed")
    } else if ledger.message(id).begun.is_none() {
        Some("a will whose connection has not ended")
    } else if ledger.message(id).outcome == Outcome::Refused {
        Some("it was refused to its publisher")
    } else if message.will && will_was_withdrawn(id, messages, ledger) {
        Some("a will though its client said DISCONNECT") // [MQTT-3.14.4-3]
    } else if delivery.expiry > message.expiry || (delivery.expiry.is_none() && expires(message, state)) {
        Some("its expiry interval has grown or gone")
    } else {
        None
    };
    let what = format!("message {:08x} on {}", id.0, message.topic);
    match (problem, ledger.session_of(link)) {
        (Some(problem), _) => Some(format!("{what}: {problem}")),
        (None, Some(session)) => unexplained(state.client, session, id, delivery, message, ledger)
            .map(|problem| format!("{what}: {problem}")),
        (None, None) => Some(format!("{what} for a connection without a session")),
    }
}

/// Must the receiver be told an expiry interval?
fn expires(message: &Message, state: &LinkState) -> bool {
    state.version() == Version::V5 && message.expiry.is_some()
}

/// Its client said DISCONNECT before anything else ended the connection, closed it in order, and did not
/// connect anew (and take its session over) before the broker had read that.
fn will_was_withdrawn(id: MessageId, messages: &[Message], ledger: &Ledger) -> bool {
    let message = &messages[id.0 as usize];
    ledger.links.iter().enumerate().any(|(index, state)| {
        let carries =
            state.greeting.as_ref().and_then(|greeting| greeting.will).is_some_and(|will| will.message == id);
        let over = [state.closing, state.gone].into_iter().flatten().min();
        let mut later = ledger.links[index + 1..].iter().filter(|later| later.client == state.client);
        carries
            && state.client == message.publisher
            && state.withdrew_will
            && !state.raced
            && !refused::is_unanswerable(state, messages, ledger) // closed before anybody read that
            && over.is_some_and(|over| later.all(|later| later.opened > over))
    })
}

/// The reason why no subscription of the session can have caused this delivery.
fn unexplained(
    client: ClientIndex,
    session: &Session,
    id: MessageId,
    delivery: &Delivery,
    message: &Message,
    ledger: &Ledger,
) -> Option<String> {
    let begun = ledger.message(id).begun;
    let explains = |each: &&Subscription| {
        let fits = each.id.as_slice() == delivery.ids && each.qos.min(message.qos) == delivery.qos;
        fits && (explains_live(each, client, delivery, message, begun)
            || explains_retained(each, delivery, message))
    };
    if session.subscriptions.iter().any(|each| explains(&each)) {
        return None;
    }
    let matching: Vec<String> = session
        .subscriptions
        .iter()
        .filter(|each| topics::matches(each.filter, message.topic))
        .map(|each| {
            format!(
                "{} (QoS {}, id {:?}{}{}{})",
                each.filter,
                each.qos.bits(),
                each.id,
                if each.options.no_local { ", no local" } else { "" },
                if each.options.retain_as_published { ", as published" } else { "" },
                if each.ended.is_some() { ", ended" } else { "" },
            )
        })
        .collect();
    Some(format!(
        "QoS {}, retain {}, ids {:?} is explained by none of {matching:?} (published by client {} with QoS {}, \
         retain {})",
        delivery.qos.bits(),
        delivery.retain,
        delivery.ids,
        message.publisher.0,
        message.qos.bits(),
        message.retain
    ))
}

fn explains_live(
    each: &Subscription,
    client: ClientIndex,
    delivery: &Delivery,
    message: &Message,
    begun: Option<Moment>,
) -> bool {
    each.may_match(message.topic, begun)
        && !(each.options.no_local && message.publisher == client) // [MQTT-3.8.3-3]
        && delivery.retain == (each.options.retain_as_published && message.retain) // [MQTT-3.3.1-12, -13]
}

/// [MQTT-3.3.1-8 to -11]
fn explains_retained(each: &Subscription, delivery: &Delivery, message: &Message) -> bool {
    delivery.retain
        && message.retain
        && topics::matches(each.filter, message.topic)
        && !each.is_shared()
        && match each.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !each.renews,
            RetainHandling::DoNotSend => false,
        }
}

#[cfg(test)]
#[path = "conformance_tests.rs"]
mod tests;

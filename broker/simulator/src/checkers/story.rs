//! For tests: writes histories by hand, in the words of a protocol trace, and asks the checkers.

use std::sync::Arc;

use broker_core::config::{Config, Settings};
use broker_core::counters::Counters;
use broker_core::time::Mono;
use mqtt::{PacketKind, QoS, SubscriptionOptions, Version};

use super::{Checkers, Finding, Promise};
use crate::history::{
    AckFact, ClientIndex, Delivery, Fact, Got, Greeting, History, Link, Message, MessageId, Outgoing, Sent,
    Welcome, WillFact,
};
use crate::ledger::Ledger;

/// A history in the making. All clients speak version 5 with a keep alive of 10 s, take 4 unacknowledged
/// messages, 4 aliases and packets of 1000 bytes; what is not clean stays for ever.
pub(crate) struct Story {
    history: History,
    checkers: Checkers,
    at: Mono,
    links: u32,
}

/// Messages in a session's queue.
pub(crate) const QUEUE_MESSAGES_MAX: u32 = 3;

/// A delivery with nothing wrong in it.
pub(crate) fn delivery(message: MessageId, topic: &str, qos: QoS, packet_id: u16) -> Delivery {
    Delivery {
        message: Some(message),
        topic: Some(topic.to_owned()),
        alias: None,
        qos,
        retain: false,
        dup: false,
        packet_id: (qos > QoS::AtMostOnce).then_some(packet_id),
        ids: Vec::new(),
        expiry: None,
        intact: true,
        bytes: 40,
    }
}

impl Story {
    pub(crate) fn new() -> Story {
        let settings =
            Settings { queue_messages_max: QUEUE_MESSAGES_MAX, send_bytes_max: 4096, ..Settings::default() };
        let config = Config { settings: Arc::new(settings), ..Config::default() };
        Story { history: History::default(), checkers: Checkers::new(&config), at: Mono(0), links: 0 }
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.history.push(self.at, fact);
        let event = self.history.events.last().expect("just pushed");
        self.checkers.on(event, &self.history.messages);
    }

    pub(crate) fn sent(&mut self, link: Link, sent: Sent) {
        self.fact(Fact::Sent(link, sent));
    }

    pub(crate) fn got(&mut self, link: Link, got: Got) {
        self.fact(Fact::Got(link, got));
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.at = Mono(self.at.0 + ms * 1_000_000);
    }

    pub(crate) fn found(&self, promise: Promise) -> bool {
        self.findings().iter().any(|finding| finding.promise == promise)
    }

    pub(crate) fn findings(&self) -> &[Finding] {
        self.checkers.findings()
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        self.checkers.ledger()
    }

    // Connections.

    pub(crate) fn connect(&mut self, client: u16, clean: bool, session_present: bool) -> Link {
        let link = self.sends_connect(client, clean, None);
        self.is_let_in(link, session_present);
        link
    }

    pub(crate) fn sends_connect(&mut self, client: u16, clean: bool, will: Option<MessageId>) -> Link {
        self.sends_connect_with(client, clean, if clean { 0 } else { u32::MAX }, will)
    }

    /// The same of a client of 3.1.1.
    pub(crate) fn online_311(&mut self, client: u16, clean: bool) -> Link {
        let expiry = if clean { 0 } else { u32::MAX };
        let link = self.sends_greeting(client, (Version::V311, clean, expiry), None);
        self.is_let_in(link, false);
        link
    }

    pub(crate) fn sends_connect_with(
        &mut self,
        client: u16,
        clean: bool,
        expiry: u32,
        will: Option<MessageId>,
    ) -> Link {
        self.sends_greeting(client, (Version::V5, clean, expiry), will)
    }

    fn sends_greeting(
        &mut self,
        client: u16,
        (version, clean, expiry): (Version, bool, u32),
        will: Option<MessageId>,
    ) -> Link {
        let link = Link(self.links);
        self.links += 1;
        self.fact(Fact::Opened { link, client: ClientIndex(client), core: 0 });
        let greeting = Greeting {
            version,
            clean,
            expiry,
            keep_alive: 10,
            receive_maximum: Some(4),
            packet_bytes_max: Some(1000),
            alias_max: 4,
            will: will.map(|message| WillFact { message, delay: 0 }),
        };
        self.sent(link, Sent::Connect(greeting));
        link
    }

    pub(crate) fn is_let_in(&mut self, link: Link, session_present: bool) {
        self.is_greeted(link, 0, session_present);
    }

    pub(crate) fn is_turned_away(&mut self, link: Link, reason: u8) {
        self.is_greeted(link, reason, false);
    }

    fn is_greeted(&mut self, link: Link, reason: u8, session_present: bool) {
        self.fact(Fact::Greeted { link, accepted: reason == 0 });
        let welcome = Welcome {
            reason,
            session_present,
            expiry: None,
            keep_alive: None,
            receive_maximum: u16::MAX,
            alias_max: 0,
            packet_bytes_max: None,
        };
        self.got(link, Got::ConnAck(welcome));
    }

    pub(crate) fn online(&mut self, client: u16, clean: bool) -> Link {
        self.connect(client, clean, false)
    }

    pub(crate) fn resume(&mut self, client: u16) -> Link {
        self.connect(client, false, true)
    }

    pub(crate) fn leave(&mut self, link: Link) {
        self.fact(Fact::Left { link, reset: false });
        self.fact(Fact::Gone { link, unread: 0 });
    }

    /// The node ends, and its clients notice.
    pub(crate) fn crash(&mut self, links: &[Link]) {
        self.fact(Fact::Crashed);
        for link in links {
            self.fact(Fact::Ended(*link));
            self.fact(Fact::Left { link: *link, reset: false });
        }
    }

    pub(crate) fn disk_full(&mut self, is_full: bool) {
        self.fact(Fact::DiskFull(is_full));
    }

    pub(crate) fn closing(&mut self, link: Link) {
        self.fact(Fact::Closing(link));
    }

    // Subscriptions.

    pub(crate) fn subscribe(&mut self, link: Link, packet_id: u16, filter: &'static str, qos: QoS) {
        self.sends_subscribe(link, packet_id, filter, qos);
        self.gets_suback(link, packet_id, &[qos.bits()]);
    }

    pub(crate) fn sends_subscribe(&mut self, link: Link, packet_id: u16, filter: &'static str, qos: QoS) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        self.sent(link, Sent::Subscribe { packet_id, id: None, filters: vec![(filter, options)] });
    }

    pub(crate) fn subscribe_with_id(
        &mut self,
        link: Link,
        packet_id: u16,
        filter: &'static str,
        qos: QoS,
        id: u32,
    ) {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        self.sent(link, Sent::Subscribe { packet_id, id: Some(id), filters: vec![(filter, options)] });
        self.gets_suback(link, packet_id, &[qos.bits()]);
    }

    pub(crate) fn subscribe_no_local(&mut self, link: Link, packet_id: u16, filter: &'static str, qos: QoS) {
        let options = SubscriptionOptions { qos, no_local: true, ..SubscriptionOptions::default() };
        self.sent(link, Sent::Subscribe { packet_id, id: None, filters: vec![(filter, options)] });
        self.gets_suback(link, packet_id, &[qos.bits()]);
    }

    pub(crate) fn gets_suback(&mut self, link: Link, packet_id: u16, reasons: &[u8]) {
        self.got(link, Got::SubAck { packet_id, reasons: reasons.to_vec() });
    }

    // Messages.

    fn message(
        &mut self,
        publisher: u16,
        topic: &'static str,
        qos: QoS,
        retain: bool,
        will: bool,
    ) -> MessageId {
        self.history.register(Message {
            publisher: ClientIndex(publisher),
            topic,
            qos,
            retain,
            will,
            expiry: None,
            payload: vec![b'x'; 20],
            forwarded: Vec::new(),
        })
    }

    pub(crate) fn register_will(&mut self, client: u16, topic: &'static str) -> MessageId {
        self.message(client, topic, QoS::AtMostOnce, false, true)
    }

    pub(crate) fn register_lasting_will(&mut self, client: u16, topic: &'static str) -> MessageId {
        self.message(client, topic, QoS::AtLeastOnce, false, true)
    }

    pub(crate) fn publish(&mut self, link: Link, packet_id: u16, topic: &'static str, qos: QoS) -> MessageId {
        let client = self.checkers.ledger().link(link).client.0;
        let message = self.message(client, topic, qos, false, false);
        self.sends_publish(link, packet_id, message, false);
        message
    }

    pub(crate) fn publish_retained(
        &mut self,
        link: Link,
        packet_id: u16,
        topic: &'static str,
        qos: QoS,
    ) -> MessageId {
        let client = self.checkers.ledger().link(link).client.0;
        let message = self.message(client, topic, qos, true, false);
        self.sends_publish(link, packet_id, message, false);
        message
    }

    pub(crate) fn publish_again(&mut self, link: Link, packet_id: u16, message: MessageId) {
        self.sends_publish(link, packet_id, message, true);
    }

    fn sends_publish(&mut self, link: Link, packet_id: u16, message: MessageId, dup: bool) {
        let packet_id = (self.history.message(message).qos > QoS::AtMostOnce).then_some(packet_id);
        self.sent(link, Sent::Publish(Outgoing { message, packet_id, dup }));
    }

    pub(crate) fn deliver(&mut self, link: Link, message: MessageId, qos: QoS, packet_id: u16) {
        let topic = self.history.message(message).topic;
        self.got(link, Got::Publish(delivery(message, topic, qos, packet_id)));
    }

    pub(crate) fn deliver_again(&mut self, link: Link, message: MessageId, qos: QoS, packet_id: u16) {
        let topic = self.history.message(message).topic;
        let again = Delivery { dup: true, ..delivery(message, topic, qos, packet_id) };
        self.got(link, Got::Publish(again));
    }

    pub(crate) fn deliver_retained(&mut self, link: Link, message: MessageId, qos: QoS, packet_id: u16) {
        let topic = self.history.message(message).topic;
        let retained = Delivery { retain: true, ..delivery(message, topic, qos, packet_id) };
        self.got(link, Got::Publish(retained));
    }

    pub(crate) fn broker_acks(&mut self, link: Link, kind: PacketKind, packet_id: u16, reason: u8) {
        self.got(link, Got::Ack(AckFact { kind, packet_id, reason }));
    }

    pub(crate) fn client_acks(&mut self, link: Link, kind: PacketKind, packet_id: u16, reason: u8) {
        self.sent(link, Sent::Ack(AckFact { kind, packet_id, reason }));
    }

    // Nothing moves any more.

    pub(crate) fn quiet(&mut self) {
        self.quiet_with(Counters::default());
    }

    pub(crate) fn quiet_without_pong(&mut self) {
        self.quiet();
    }

    pub(crate) fn quiet_with(&mut self, counters: Counters) {
        self.fact(Fact::Quiet { counters: Box::new(counters), last: false });
    }
}

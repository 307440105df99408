//! What a client's application does, drawn by weight.

use mqtt::{ReasonCode, RetainHandling, SubscriptionOptions, Version};

use super::{Client, Stage};
use crate::topics::{FILTERS, SHARED_FILTERS};
use crate::world::World;

/// What may be done next; [`Profile::weights`](crate::scenario::Profile) stand in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// PUBLISH.
    Publish,
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// DISCONNECT.
    Disconnect,
    /// Close the socket without a word.
    Abort,
    /// Connect anew and leave the old socket behind: a take-over.
    GiveUp,
    /// PINGREQ.
    Ping,
    /// Bytes that no server may accept.
    Garbage,
    /// Send nothing any more.
    Silence,
    /// Read nothing for a while.
    Pause,
    /// Many PUBLISHes, or a flood of PINGREQs.
    Burst,
    /// Nothing.
    Nothing,
}

const ACTIONS: [Action; 12] = [
    Action::Publish,
    Action::Subscribe,
    Action::Unsubscribe,
    Action::Disconnect,
    Action::Abort,
    Action::GiveUp,
    Action::Ping,
    Action::Garbage,
    Action::Silence,
    Action::Pause,
    Action::Burst,
    Action::Nothing,
];

/// Bytes that break a rule in the first packet they begin. The last two are no fault in 3.1.
const GARBAGE: [&[u8]; 7] = [
    &[0x00, 0x00],                                     // type 0
    &[0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],             // remaining length of five bytes
    &[0x36, 0x05, 0x00, 0x01, 0x61, 0x00, 0x01],       // PUBLISH with QoS 3
    &[0x30, 0x04, 0x00, 0x01, 0x2B, 0x00],             // PUBLISH to a wildcard
    &[0x20, 0x02, 0x00, 0x00],                         // CONNACK
    &[0x82, 0x02, 0x00, 0x01],                         // SUBSCRIBE without a filter
    &[0x80, 0x06, 0x00, 0x01, 0x00, 0x01, 0x61, 0x00], // SUBSCRIBE with flags 0
];

impl Client {
    /// One action, if the connection allows any.
    pub(super) fn act(&mut self, world: &mut World) {
        let Some(line) = &self.line else { return };
        if line.stage != Stage::Online || line.silent || !world.node.takes(line.link) {
            self.act_offline(world);
            return;
        }
        match ACTIONS[self.random.weighted(&self.profile.weights)] {
            Action::Publish => self.publish(world),
            Action::Subscribe => self.subscribe(world),
            Action::Unsubscribe => self.unsubscribe(world),
            Action::Disconnect => self.disconnect(world),
            Action::Abort => {
                let reset = self.random.one_in(2);
                self.leave(world, reset);
            }
            Action::GiveUp => self.connect_anew(world),
            Action::Ping => self.send_ping(world),
            Action::Garbage => {
                let kinds = GARBAGE.len() - if self.profile.version == Version::V31 { 2 } else { 0 };
                let garbage = GARBAGE[self.random.index(kinds)];
                self.send_garbage(world, garbage);
            }
            Action::Silence => self.fall_silent(),
            Action::Pause => {
                if let Some(line) = &mut self.line {
                    line.paused = self.random.below(200) as u32;
                }
            }
            Action::Burst => self.burst(world),
            Action::Nothing => {}
        }
    }

    /// Who waits for the broker may lose patience.
    fn act_offline(&mut self, world: &mut World) {
        match self.random.below(400) {
            0 => self.leave(world, true),
            1 => self.leave(world, false),
            2 => self.connect_anew(world),
            _ => {}
        }
    }

    fn subscribe(&mut self, world: &mut World) {
        let v5 = self.profile.version == Version::V5;
        let count = if self.profile.shared { 1 } else { self.random.between(1, 3) };
        let mut filters: Vec<(&'static str, SubscriptionOptions)> = Vec::new();
        for _ in 0..count {
            let filter =
                self.random.pick(if self.profile.shared { &SHARED_FILTERS[..] } else { &FILTERS[..] });
            if filters.iter().any(|(other, _)| *other == filter) {
                continue;
            }
            let mut options = SubscriptionOptions { qos: self.qos(), ..SubscriptionOptions::default() };
            if v5 {
                options.no_local = !self.profile.shared && self.random.percent(15);
                options.retain_as_published = self.random.percent(20);
                options.retain_handling = self.random.pick(&[
                    RetainHandling::Send,
                    RetainHandling::Send,
                    RetainHandling::SendIfNew,
                    RetainHandling::DoNotSend,
                ]);
            }
            filters.push((filter, options));
        }
        let id = (v5 && self.random.one_in(2)).then(|| {
            self.next_subscription_id += 1;
            self.next_subscription_id
        });
        self.send_subscribe(world, id, filters);
    }

    fn unsubscribe(&mut self, world: &mut World) {
        let mut filters = Vec::new();
        if !self.filters.is_empty() {
            filters.push(self.random.pick(&self.filters));
        }
        if filters.is_empty() || self.random.one_in(8) {
            let other = self.random.pick(&FILTERS[..]);
            if !filters.contains(&other) {
                filters.push(other); // Perhaps one that was never asked for: UNSUBACK 0x11.
            }
        }
        self.send_unsubscribe(world, filters);
    }

    fn disconnect(&mut self, world: &mut World) {
        let Some(line) = &self.line else { return };
        let v5 = line.version == Version::V5;
        let with_will = v5 && self.random.percent(20);
        let reason = if with_will { ReasonCode::DISCONNECT_WITH_WILL } else { ReasonCode::SUCCESS };
        let expiry =
            (v5 && line.persistent && self.random.percent(20)).then(|| self.random.pick(&[0, 10, 100]));
        self.send_disconnect(world, reason, expiry);
        if self.random.one_in(2) {
            self.leave(world, false);
        }
    }

    fn burst(&mut self, world: &mut World) {
        let pings = self.random.one_in(4);
        for _ in 0..self.random.between(5, if pings { 2_000 } else { 60 }) {
            match &self.line {
                Some(line) if world.node.takes(line.link) => {}
                _ => return,
            }
            if pings {
                self.send_ping(world);
            } else {
                self.publish(world);
            }
        }
    }
}

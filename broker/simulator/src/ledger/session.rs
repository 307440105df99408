//! What is known of one session: its subscriptions as intervals, and what it was given.

use std::collections::BTreeMap;

use broker_core::time::Mono;
use mqtt::{QoS, SubscriptionOptions};

use crate::history::{Delivery, Link, MessageId, Moment, Welcome};
use crate::topics;

/// How far the broker's idea of when a session went away may lie from its client's, milliseconds.
pub const EXPIRY_TOLERANCE_MS: u128 = 1_500;

/// One life of a client's session, as far as its client can tell.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Counts the client's sessions.
    pub number: u32,
    /// When its first CONNACK was read.
    pub began: Moment,
    /// Since when the broker may have ended it.
    pub doubtful: Option<Moment>,
    /// It has been away for so long that it may have expired.
    pub may_have_expired: bool,
    /// CONNECTs since then: with several, the one that was answered may have found what another had begun.
    connects: u32,
    /// Session expiry in force, seconds.
    pub expiry: u32,
    /// The connection that serves it.
    pub online: Option<Link>,
    /// Since when none does.
    pub away_since: Mono,
    /// Its first connection.
    pub first_link: Option<Link>,
    /// Every SUBSCRIBE of every filter, in order.
    pub subscriptions: Vec<Subscription>,
    /// Shared subscriptions of the client's former sessions.
    pub former: Vec<Subscription>,
    /// What it was given.
    pub copies: BTreeMap<MessageId, Copies>,
    /// The last message given under a packet identifier.
    pub packet_ids: BTreeMap<u16, MessageId>,
}

/// One SUBSCRIBE of one filter.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The filter, with its share.
    pub filter: &'static str,
    /// What was asked for.
    pub options: SubscriptionOptions,
    /// The subscription identifier.
    pub id: Option<u32>,
    /// The SUBSCRIBE's packet identifier, until it is answered.
    pub asking: Option<u16>,
    /// When the SUBSCRIBE was written.
    pub asked: Moment,
    /// When its SUBACK was read, if it granted.
    pub granted: Option<Moment>,
    /// The QoS it granted.
    pub qos: QoS,
    /// It certainly took the place of an older one.
    pub renews: bool,
    /// It may have taken the place of an older one.
    pub may_renew: bool,
    /// Since when the filter has been certain without a break, by this or an older subscription.
    pub certain: Option<Moment>,
    /// The UNSUBSCRIBE's packet identifier, until it is answered.
    pub ending: Option<u16>,
    /// Since when it may have ended.
    pub doubtful: Option<Moment>,
    /// Since when it has certainly ended.
    pub ended: Option<Moment>,
}

/// How often a session was given a message; resends of the same delivery are not counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copies {
    /// Without the retain flag.
    pub live: u32,
    /// With it.
    pub flagged: u32,
}

impl Copies {
    /// Both.
    #[must_use]
    pub fn all(self) -> u32 {
        self.live + self.flagged
    }
}

impl Subscription {
    /// Is it shared?
    #[must_use]
    pub fn is_shared(&self) -> bool {
        topics::split_share(self.filter).0.is_some()
    }

    /// Could a message begun at `begun` have been routed by it?
    #[must_use]
    pub fn may_match(&self, topic: &str, begun: Option<Moment>) -> bool {
        topics::matches(self.filter, topic)
            && self.ended.is_none_or(|ended| begun.is_none_or(|begun| begun < ended))
    }

    /// Must a message begun at `begun` have been routed by it, if nothing has happened to it since?
    #[must_use]
    pub fn must_match(&self, topic: &str, begun: Moment) -> bool {
        topics::matches(self.filter, topic)
            && self.doubtful.is_none()
            && self.ended.is_none()
            && self.certain.is_some_and(|certain| certain < begun)
    }
}

impl Session {
    /// Subscriptions that may have routed a message.
    pub fn may_match<'a>(
        &'a self,
        topic: &'a str,
        begun: Option<Moment>,
    ) -> impl Iterator<Item = &'a Subscription> + 'a {
        self.subscriptions.iter().filter(move |subscription| subscription.may_match(topic, begun))
    }

    /// May its client's own message have been kept from it by this filter, under an older or newer option?
    #[must_use]
    pub fn may_hide_own(&self, filter: &str, topic: &str, begun: Moment) -> bool {
        let mut versions = self.may_match(topic, Some(begun)).filter(|each| each.filter == filter);
        versions.any(|each| each.options.no_local)
    }

    /// Does it outlive its connection?
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.expiry > 0
    }

    /// Is it certainly still the broker's?
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.number > 0 && self.doubtful.is_none() && !self.may_have_expired
    }

    /// Is this only a resend of what the session was given before?
    #[must_use]
    pub fn is_resend(&self, delivery: &Delivery) -> bool {
        let before = delivery.packet_id.and_then(|packet_id| self.packet_ids.get(&packet_id));
        delivery.dup && before.is_some() && before == delivery.message.as_ref()
    }

    /// How long it has been away, if it is.
    pub(super) fn on_time(&mut self, at: Mono) {
        if self.number > 0 && self.online.is_none() && self.expiry < u32::MAX {
            let away = at.since(self.away_since).as_millis() + EXPIRY_TOLERANCE_MS;
            self.may_have_expired |= away >= u128::from(self.expiry) * 1000;
        }
    }

    pub(super) fn on_connect(&mut self, clean: bool, moment: Moment) {
        self.connects += u32::from(self.may_have_expired);
        if clean {
            self.doubtful.get_or_insert(moment);
        }
    }

    /// A connection ended whose CONNECT may have been read: the session may have got its expiry, and ended with it.
    pub(super) fn on_unanswered(&mut self, expiry: u32, moment: Moment) {
        if self.online.is_none() {
            self.expiry = self.expiry.min(expiry);
            if expiry == 0 {
                self.doubtful.get_or_insert(moment);
            }
        }
    }

    pub(super) fn on_welcome(&mut self, link: Link, welcome: &Welcome, asked: u32, moment: Moment) {
        if !welcome.session_present {
            let mut former = std::mem::take(&mut self.former);
            former.extend(self.subscriptions.drain(..).filter(Subscription::is_shared).map(|mut each| {
                each.ended.get_or_insert(moment);
                each
            }));
            *self = Session {
                number: self.number + 1,
                began: moment,
                first_link: Some(link),
                former,
                ..Session::default()
            };
        }
        if std::mem::take(&mut self.may_have_expired) && std::mem::take(&mut self.connects) > 1 {
            self.doubtful.get_or_insert(moment);
        }
        self.expiry = welcome.expiry.unwrap_or(asked);
        self.online = Some(link);
    }

    pub(super) fn on_over(&mut self, link: Link, moment: Moment, at: Mono) {
        if self.online != Some(link) {
            return;
        }
        self.online = None;
        self.away_since = at;
        if !self.is_persistent() {
            self.doubtful.get_or_insert(moment);
        }
        // What was asked and not answered stays possible for ever.
        for subscription in &mut self.subscriptions {
            if subscription.asking.take().is_some() {
                subscription.certain = None;
                subscription.doubtful.get_or_insert(moment);
            }
            subscription.ending = None;
        }
    }

    pub(super) fn on_subscribe(
        &mut self,
        packet_id: u16,
        id: Option<u32>,
        filters: &[(&'static str, SubscriptionOptions)],
        moment: Moment,
    ) {
        for (filter, options) in filters {
            let older = self.subscriptions.iter_mut().filter(|older| older.filter == *filter);
            let (mut certain, mut renews, mut may_renew) = (None, false, false);
            for older in older {
                if older.ended.is_none() {
                    certain = older.certain.filter(|_| older.doubtful.is_none());
                    renews |= certain.is_some();
                    may_renew = true;
                    older.doubtful.get_or_insert(moment);
                }
            }
            self.subscriptions.push(Subscription {
                filter,
                options: *options,
                id,
                asking: Some(packet_id),
                asked: moment,
                granted: None,
                qos: options.qos,
                renews,
                may_renew,
                certain,
                ending: None,
                doubtful: None,
                ended: None,
            });
        }
    }

    pub(super) fn on_suback(&mut self, packet_id: u16, reasons: &[u8], moment: Moment) {
        let (mut granted, mut refused) = (Vec::new(), Vec::new());
        let asked = self.subscriptions.iter_mut().filter(|each| each.asking == Some(packet_id));
        for (subscription, reason) in asked.zip(reasons) {
            subscription.asking = None;
            match QoS::from_bits(*reason) {
                Some(qos) if *reason < 0x80 => {
                    subscription.granted = Some(moment);
                    subscription.qos = qos;
                    subscription.certain.get_or_insert(moment);
                    granted.push((subscription.filter, subscription.asked));
                }
                _ => {
                    subscription.certain = None;
                    subscription.ended = Some(moment);
                    refused.push((subscription.filter, subscription.asked));
                }
            }
        }
        for (filter, asked) in refused {
            self.on_refused(filter, asked);
        }
        for (filter, asked) in granted {
            for older in &mut self.subscriptions {
                if older.filter == filter && older.asked < asked && older.ended.is_none() {
                    older.ended = Some(moment);
                }
            }
        }
    }

    /// What a refused SUBSCRIBE would have taken the place of stays, if nothing else was asked of the filter.
    fn on_refused(&mut self, filter: &str, asked: Moment) {
        let others = |each: &&mut Subscription| each.filter == filter && each.asked != asked;
        let alone = self
            .subscriptions
            .iter_mut()
            .filter(others)
            .all(|each| each.asked < asked && each.ending.is_none() && each.asking.is_none());
        let doubted = self.subscriptions.iter_mut().filter(others).filter(|each| each.ended.is_none());
        for older in doubted.filter(|each| alone && each.doubtful == Some(asked)) {
            older.doubtful = None;
        }
    }

    pub(super) fn on_unsubscribe(&mut self, packet_id: u16, filters: &[&'static str], moment: Moment) {
        for subscription in &mut self.subscriptions {
            if filters.contains(&subscription.filter) && subscription.ended.is_none() {
                subscription.ending = Some(packet_id);
                subscription.doubtful.get_or_insert(moment);
            }
        }
    }

    pub(super) fn on_unsuback(&mut self, packet_id: u16, moment: Moment) {
        for subscription in &mut self.subscriptions {
            if subscription.ending == Some(packet_id) {
                subscription.ending = None;
                subscription.ended = Some(moment);
            }
        }
    }

    /// Counts a delivery; false if it is only a resend of one counted before.
    pub(super) fn on_delivery(&mut self, id: MessageId, delivery: &Delivery) -> bool {
        let resend = self.is_resend(delivery);
        if let Some(packet_id) = delivery.packet_id {
            self.packet_ids.insert(packet_id, id);
        }
        if resend {
            return false;
        }
        let copies = self.copies.entry(id).or_default();
        if delivery.retain {
            copies.flagged += 1;
        } else {
            copies.live += 1;
        }
        true
    }
}

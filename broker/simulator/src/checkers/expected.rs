//! Which deliveries are due when nothing moves any more, and which of them were not made. Shared by the
//! checkers of promises 2 and 4.
//!
//! A delivery is due when the broker has certainly taken the message, the subscription was certain before
//! the message was begun and has been since, and the session either outlives its connection (QoS 1 and 2)
//! or has had the same connection all the time.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::counters::DropReason;
use mqtt::QoS;

use super::Promise;
use crate::history::{ClientIndex, Message, MessageId, Moment};
use crate::ledger::{Ledger, Outcome, Session, Subscription};

/// A set of [`DropReason`]s, by bit.
pub(super) type Reasons = u32;

/// A delivery that was due and not made.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// What.
    pub(super) message: MessageId,
    /// For whom; `None` for a shared subscription, of which any member would have done.
    pub(super) client: Option<ClientIndex>,
    /// By which filters it was due.
    pub(super) filters: Vec<&'static str>,
    /// How many copies are missing.
    pub(super) copies: u32,
    /// The only reasons under which they may have been counted.
    pub(super) reasons: Reasons,
    /// Promise 2 if one of the subscriptions was granted since the time before when nothing moved.
    pub(super) promise: Promise,
}

/// A delivery that is due as soon as the session is online.
#[derive(Clone, Debug)]
struct Due {
    missing: Missing,
    session: u32,
    /// Copies with the retain flag count, too.
    flagged: bool,
}

/// Remembers what sessions that are away are owed.
#[derive(Debug, Default)]
pub(super) struct Expected {
    away: Vec<Due>,
    groups: Vec<Missing>,
}

/// The set of one.
pub(super) const fn reason(reason: DropReason) -> Reasons {
    1 << reason as u32
}

impl Expected {
    /// Everything that is due now and was not delivered.
    pub(super) fn on_quiet(&mut self, messages: &[Message], ledger: &Ledger) -> Vec<Missing> {
        let mut due = std::mem::take(&mut self.away);
        let mut groups = std::mem::take(&mut self.groups);
        for (index, state) in ledger.messages.iter().enumerate() {
            let Some(begun) = state.begun.filter(|_| state.settled.is_none()) else { continue };
            if state.outcome != Outcome::Accepted || messages[index].payload.is_empty() {
                continue;
            }
            let id = MessageId(index as u32);
            for client in 0..ledger.sessions.len() {
                due.extend(due_to_client(id, &messages[index], begun, ClientIndex(client as u16), ledger));
            }
            // What a member had whose session ended with the node is gone.
            if !state.crashed {
                groups.extend(due_to_groups(id, &messages[index], begun, ledger));
            }
        }
        let mut missing = Vec::new();
        for each in due {
            let client = each.missing.client.expect("only groups have no client");
            let session = ledger.session(client);
            if session.number != each.session || !session.is_certain() || has_ended(session, &each) {
                continue;
            }
            if session.online.is_none() {
                self.away.push(each);
                continue;
            }
            let copies = session.copies.get(&each.missing.message).copied().unwrap_or_default();
            let given = if each.flagged { copies.all() } else { copies.live };
            if given < each.missing.copies {
                missing.push(Missing { copies: each.missing.copies - given, ..each.missing });
            }
        }
        count_refused_wills_once(&mut missing, messages);
        for each in groups.into_iter().filter(|each| !ledger.message(each.message).crashed) {
            if some_member_is_away(&each, ledger) {
                self.groups.push(each);
                continue;
            }
            let given = ledger.message(each.message).shared_copies;
            if given < each.copies {
                missing.push(Missing { copies: each.copies - given, ..each });
            }
        }
        missing
    }
}

/// A will that a full disk refuses is refused as a whole, and counted once, whomever it was for.
fn count_refused_wills_once(missing: &mut Vec<Missing>, messages: &[Message]) {
    let mut refused = BTreeSet::new();
    missing.retain_mut(|each| {
        let may_be_refused = each.reasons & reason(DropReason::DiskFull) != 0;
        if !messages[each.message.0 as usize].will || !may_be_refused {
            return true;
        }
        each.copies = 1;
        refused.insert(each.message)
    });
}

/// A filter it was due by may have been given up since, and its queue with it.
fn has_ended(session: &Session, due: &Due) -> bool {
    due.missing.filters.iter().any(|filter| {
        !session.subscriptions.iter().any(|each| each.filter == *filter && each.doubtful.is_none())
    })
}

/// Has it been online all the time since the message was begun?
fn is_steady(session: &Session, begun: Moment, ledger: &Ledger) -> bool {
    session.online.is_some_and(|link| {
        let state = ledger.link(link);
        state.is_open() && state.greeted.is_some_and(|(greeted, _)| greeted < begun)
    })
}

/// The least QoS with which this filter may have carried the message.
fn least_qos(session: &Session, subscription: &Subscription, message: &Message, begun: Moment) -> QoS {
    session
        .may_match(message.topic, Some(begun))
        .filter(|each| each.filter == subscription.filter)
        .map(|each| each.qos.min(message.qos))
        .min()
        .unwrap_or(QoS::AtMostOnce)
}

fn due_to_client(
    id: MessageId,
    message: &Message,
    begun: Moment,
    client: ClientIndex,
    ledger: &Ledger,
) -> Option<Due> {
    let session = ledger.session(client);
    if !session.is_certain() {
        return None;
    }
    let steady = is_steady(session, begun, ledger);
    let mut missing = Missing {
        message: id,
        client: Some(client),
        filters: Vec::new(),
        copies: 0,
        reasons: 0,
        promise: Promise::Silent,
    };
    for subscription in &session.subscriptions {
        let own =
            message.publisher == client && session.may_hide_own(subscription.filter, message.topic, begun);
        if subscription.is_shared() || own || !subscription.must_match(message.topic, begun) {
            continue;
        }
        let qos = least_qos(session, subscription, message, begun);
        if !steady && (qos == QoS::AtMostOnce || !session.is_persistent()) {
            continue;
        }
        missing.filters.push(subscription.filter);
        missing.copies += 1;
        missing.reasons |= reasons_for((message, Some(begun)), qos, session, ledger);
        if subscription.certain.is_some_and(|certain| certain > ledger.quiet) {
            missing.promise = Promise::Routed;
        }
    }
    let flagged = message.retain
        && session.may_match(message.topic, Some(begun)).any(|each| each.options.retain_as_published);
    (missing.copies > 0).then_some(Due { missing, session: session.number, flagged })
}

/// Why a message may be dropped on its way to a session, by what its client asked for.
pub(super) fn reasons_for(
    (message, begun): (&Message, Option<Moment>),
    qos: QoS,
    session: &Session,
    ledger: &Ledger,
) -> Reasons {
    let mut reasons = reason(DropReason::QueueFull);
    if qos == QoS::AtMostOnce {
        reasons |= reason(DropReason::SlowReader);
    }
    if message.expiry.is_some() {
        reasons |= reason(DropReason::Expired);
    }
    // Nobody waits for an answer to these; to whatever else a full disk refuses, its publisher reads so.
    let unasked = message.qos == QoS::AtMostOnce || message.will;
    if unasked && begun.is_some_and(|begun| ledger.fullness.since(begun)) {
        reasons |= reason(DropReason::DiskFull);
    }
    let limited = ledger.links.iter().any(|link| {
        link.session == Some(session.number)
            && link.greeting.as_ref().is_some_and(|greeting| greeting.packet_bytes_max.is_some())
    });
    if limited {
        reasons |= reason(DropReason::TooLarge);
    }
    reasons
}

/// How many groups are owed the message, as one entry: deliveries to members do not say for which group.
fn due_to_groups(id: MessageId, message: &Message, begun: Moment, ledger: &Ledger) -> Option<Missing> {
    // By filter: is one member certain, are all steady, is QoS 0 possible?
    let mut groups: BTreeMap<&'static str, (bool, bool, bool, bool)> = BTreeMap::new();
    let mut reasons = reason(DropReason::NoMember)
        | reason(DropReason::SessionEnded)
        | reason(DropReason::UnknownSession)
        | reason(DropReason::Refused);
    for session in &ledger.sessions {
        let steady = is_steady(session, begun, ledger);
        for each in session.may_match(message.topic, Some(begun)).filter(|each| each.is_shared()) {
            let must = session.is_certain() && each.must_match(message.topic, begun);
            let qos = each.qos.min(message.qos);
            let group = groups.entry(each.filter).or_insert((false, true, false, false));
            group.0 |= must && (steady || session.is_persistent());
            group.1 &= must && steady;
            group.2 |= qos == QoS::AtMostOnce;
            group.3 |= each.certain.is_some_and(|certain| certain > ledger.quiet);
            reasons |= reasons_for((message, Some(begun)), qos, session, ledger);
            if qos == QoS::AtMostOnce {
                reasons |= reason(DropReason::Away);
            }
        }
        // A member that has gone since may have taken it along, if it was to get it with QoS 0.
        for each in session.former.iter().filter(|each| each.may_match(message.topic, Some(begun))) {
            let group = groups.entry(each.filter).or_insert((false, false, false, false));
            group.1 = false;
            group.2 |= each.qos.min(message.qos) == QoS::AtMostOnce;
        }
    }
    let owed = groups.iter().filter(|(_, (must, steady, plain, _))| *must && (*steady || !plain));
    let filters: Vec<&'static str> = owed.clone().map(|(filter, _)| *filter).collect();
    let fresh = owed.clone().any(|(_, (_, _, _, fresh))| *fresh);
    let copies = filters.len() as u32;
    let promise = if fresh { Promise::Routed } else { Promise::Silent };
    (copies > 0).then_some(Missing { message: id, client: None, filters, copies, reasons, promise })
}

/// May a member that is away still hold it?
fn some_member_is_away(missing: &Missing, ledger: &Ledger) -> bool {
    ledger.sessions.iter().any(|session| {
        session.number > 0
            && session.online.is_none()
            && session.is_certain()
            && session.subscriptions.iter().any(|each| missing.filters.contains(&each.filter))
    })
}

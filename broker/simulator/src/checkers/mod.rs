//! The promises of the design, each held against the history by a checker of its own.
//!
//! A checker sees every fact once, before the [`Ledger`] has taken it, and says what it finds. It demands
//! only what is certain from the outside. To read a checker begin at its `on`.

mod between;
mod bounded;
mod closing;
mod conformance;
mod coverage;
#[cfg(test)]
mod crash_tests;
mod exactly_once;
mod expected;
mod order;
mod owner;
mod received;
mod refused;
mod retained;
mod routed;
mod silent;
#[cfg(test)]
pub(crate) mod story;
mod unanswered;

use std::fmt;

use broker_core::config::Config;

use crate::history::{Event, Fact, Message, Moment};
use crate::ledger::Ledger;

/// Which promise of the design a finding breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// 1: acknowledged means durable.
    Durable,
    /// 2: SUBACK means routed.
    Routed,
    /// 3: order.
    Order,
    /// 4: nothing silent.
    Silent,
    /// 5: one live owner.
    Owner,
    /// 6: exactly once, where MQTT promises it.
    ExactlyOnce,
    /// 7: bounded.
    Bounded,
    /// What MQTT says of every packet a server sends.
    Conformance,
    /// Retained messages.
    Retained,
    /// Everything that is asked is answered.
    Unanswered,
    /// The border between the core and its host.
    Contract,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::Durable => "promise 1 (acknowledged means durable)",
            Promise::Routed => "promise 2 (SUBACK means routed)",
            Promise::Order => "promise 3 (order)",
            Promise::Silent => "promise 4 (nothing silent)",
            Promise::Owner => "promise 5 (one live owner)",
            Promise::ExactlyOnce => "promise 6 (exactly once)",
            Promise::Bounded => "promise 7 (bounded)",
            Promise::Conformance => "protocol conformance",
            Promise::Retained => "retained messages",
            Promise::Unanswered => "everything is answered",
            Promise::Contract => "the core's contract with its host",
        })
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which.
    pub promise: Promise,
    /// The event that showed it.
    pub moment: Moment,
    /// What was seen and what was to be expected.
    pub text: String,
}

/// What a checker writes to.
#[derive(Debug, Default)]
pub struct Findings {
    /// In order.
    pub list: Vec<Finding>,
}

/// More findings than this say nothing new.
const FINDINGS_MAX: usize = 20;

impl Findings {
    fn add(&mut self, promise: Promise, moment: Moment, text: String) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push(Finding { promise, moment, text });
        }
    }
}

/// All checkers, with the ledger they share.
#[derive(Debug)]
pub struct Checkers {
    ledger: Ledger,
    findings: Findings,
    bounded: bounded::Bounded,
    closing: closing::Closing,
    conformance: conformance::Conformance,
    exactly_once: exactly_once::ExactlyOnce,
    expected: expected::Expected,
    order: order::Order,
    owner: owner::Owner,
    received: received::Received,
    refused: refused::Refused,
    retained: retained::Retained,
    silent: silent::Silent,
    unanswered: unanswered::Unanswered,
}

impl Checkers {
    /// Checkers of a run with this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Checkers {
        Checkers {
            ledger: Ledger::default(),
            findings: Findings::default(),
            bounded: bounded::Bounded::new(config),
            closing: closing::Closing,
            conformance: conformance::Conformance::default(),
            exactly_once: exactly_once::ExactlyOnce::default(),
            expected: expected::Expected::default(),
            order: order::Order::default(),
            owner: owner::Owner,
            received: received::Received::new(config),
            refused: refused::Refused::default(),
            retained: retained::Retained::default(),
            silent: silent::Silent::default(),
            unanswered: unanswered::Unanswered,
        }
    }

    /// Takes the next event of the history.
    pub fn on(&mut self, event: &Event, messages: &[Message]) {
        let Checkers { ledger, findings, .. } = self;
        ledger.know(messages);
        match &event.fact {
            Fact::Quiet { .. } => ledger.before_quiet(event.moment),
            Fact::Damaged(text) => findings.add(Promise::Durable, event.moment, text.clone()),
            Fact::Contract(text) => findings.add(Promise::Contract, event.moment, text.clone()),
            _ => {}
        }
        self.bounded.on(event, messages, ledger, findings);
        self.closing.on(event, messages, ledger, findings);
        self.conformance.on(event, messages, ledger, findings);
        self.exactly_once.on(event, messages, ledger, findings);
        self.order.on(event, messages, ledger, findings);
        self.owner.on(event, ledger, findings);
        self.received.on(event, ledger, findings);
        self.refused.on(event, messages, ledger, findings);
        self.retained.on(event, messages, ledger, findings);
        self.unanswered.on(event, ledger, findings);
        routed::on(event, messages, ledger, findings);
        if let Fact::Quiet { counters, .. } = &event.fact {
            self.retained.on_quiet(event.moment, counters, messages, ledger, findings);
            let mut missing = self.expected.on_quiet(messages, ledger);
            missing.extend(self.retained.missing(messages, ledger));
            self.silent.on_quiet(event.moment, missing, counters, messages, findings);
        }
        ledger.on(event, messages);
    }

    /// What was found.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings.list
    }

    /// What is known.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

//! The broker closes a connection only for a cause: its client left or said DISCONNECT, connected anew, sent
//! what nobody may accept, or was silent for longer than its keep alive allows, and then in time
//! [MQTT-3.1.2-22]; or what it published could not be stored, and its protocol has no word for that. What a DISCONNECT of the broker says fits the cause.

use broker_core::time::Mono;
use mqtt::Version;

use super::{Findings, Promise, refused};
use crate::history::{Event, Fact, Got, Link, Message};
use crate::ledger::{Ledger, LinkState};

/// Looks at closings.
#[derive(Debug)]
pub(super) struct Closing;

/// How long a packet may lie between its client and the core, and a timer be called late: the simulator's
/// own delays, milliseconds.
const HOST_DELAY_MS: u64 = 100;
/// How long the broker tries to let a client in, milliseconds: `connect_timeout_ms`.
const TURNED_AWAY_MS: u64 = 20_000;
/// How late a silent client may be closed, milliseconds.
const LATE_MS_MAX: u64 = 500;

impl Closing {
    /// Looks at closings, the broker's DISCONNECTs, and at silence.
    pub(super) fn on(&self, event: &Event, messages: &[Message], ledger: &Ledger, findings: &mut Findings) {
        let mut add = |link: Link, problem: &str| {
            let text = format!("connection {} of client {}: {problem}", link.0, ledger.link(link).client.0);
            findings.add(Promise::Conformance, event.moment, text);
        };
        match &event.fact {
            Fact::Closing(link) if !has_cause(*link, event.at, messages, ledger) => {
                add(*link, "closed by the broker without a cause");
            }
            Fact::Got(link, Got::Disconnect { reason }) => {
                if let Some(problem) = misfit(*reason, *link, event.at, ledger) {
                    add(*link, problem);
                }
            }
            Fact::Sent(link, _) if is_overdue(ledger.link(*link), event.at) => add(*link, OVERDUE),
            Fact::Quiet { .. } => {
                for (index, state) in ledger.links.iter().enumerate() {
                    if is_overdue(state, event.at) {
                        add(Link(index as u32), OVERDUE);
                    }
                }
            }
            _ => {}
        }
    }
}

const OVERDUE: &str = "silent for longer than its keep alive and not closed";

fn is_overdue(state: &LinkState, at: Mono) -> bool {
    let limit = silence_ms_max(state).map(|limit| limit + LATE_MS_MAX + HOST_DELAY_MS);
    // Who waits for the CONNACK has nothing to say.
    let greeted = state.greeted_at.map_or(0, |greeted| at.since(greeted).as_millis() as u64);
    state.is_open() && limit.is_some_and(|limit| silence_ms(state, at).min(greeted) > limit)
}

fn silence_ms(state: &LinkState, at: Mono) -> u64 {
    at.since(state.written).as_millis() as u64
}

/// One and a half times the keep alive.
fn silence_ms_max(state: &LinkState) -> Option<u64> {
    let asked = state.greeting.as_ref()?.keep_alive;
    let told = state.welcome.as_ref()?.keep_alive;
    let seconds = u64::from(told.unwrap_or(asked));
    (seconds > 0).then_some(seconds * 1500)
}

/// Another connection of its client that the broker may have taken for the later one: perhaps opened
/// earlier, but its CONNECT was longer on its way.
fn has_rival(link: Link, ledger: &Ledger) -> bool {
    let own = ledger.link(link);
    ledger.links.iter().enumerate().any(|(other, state)| {
        let later = match (own.greeted, state.greeted) {
            (_, None) => true,
            (None, Some(_)) => Link(other as u32) > link,
            (Some((own, _)), Some((other, _))) => other > own,
        };
        Link(other as u32) != link && state.client == own.client && state.greeting.is_some() && later
    })
}

fn has_cause(link: Link, at: Mono, messages: &[Message], ledger: &Ledger) -> bool {
    let state = ledger.link(link);
    has_plain_cause(link, at, ledger)
        || refused::is_unanswerable(state, messages, ledger)
        || was_turned_away(state, at) && refused::may_be_turned_away(state, ledger)
}

/// The broker has not let it in, though it had the time for that.
fn was_turned_away(state: &LinkState, at: Mono) -> bool {
    state.greeted.is_none_or(|(_, accepted)| !accepted) && silence_ms(state, at) >= TURNED_AWAY_MS
}

/// A cause that has nothing to do with what the broker can store.
pub(super) fn has_plain_cause(link: Link, at: Mono, ledger: &Ledger) -> bool {
    let state = ledger.link(link);
    state.left.is_some()
        || state.ended.is_some()
        || state.disconnect.is_some()
        || state.garbage.is_some()
        || state.greeting.is_none()
        || has_rival(link, ledger)
        || silence_ms_max(state).is_some_and(|limit| silence_ms(state, at) >= limit)
        || state.closing.is_some() // An Abort after a Flush needs no cause of its own.
}

/// What is wrong with the broker's reason.
fn misfit(reason: u8, link: Link, at: Mono, ledger: &Ledger) -> Option<&'static str> {
    let state = ledger.link(link);
    if state.version() != Version::V5 {
        return Some("DISCONNECT from the broker to a 3.x client");
    }
    match reason {
        0x8E if !has_rival(link, ledger) => Some("DISCONNECT 0x8E (taken over) by nobody"),
        0x8D if silence_ms_max(state).is_none_or(|limit| silence_ms(state, at) < limit) => {
            Some("DISCONNECT 0x8D (keep alive) without silence")
        }
        0x81 | 0x82 if state.garbage.is_none() => {
            Some("DISCONNECT 0x81 or 0x82 to a client that kept the rules")
        }
        0x00 => Some("DISCONNECT from the broker with reason 0"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Promise;
    use super::super::story::Story;
    use crate::history::{Got, Sent};

    /// A client that did nothing wrong is closed; one that sent garbage may be.
    #[test]
    fn closed_without_cause() {
        for (garbage, expected) in [(false, true), (true, false)] {
            let mut story = Story::new();
            let link = story.online(0, true);
            if garbage {
                story.sent(link, Sent::Garbage);
            }
            story.closing(link);
            assert_eq!(story.found(Promise::Conformance), expected);
        }
    }

    /// The story's clients have a keep alive of 10 s: closing at 14.9 s is too early, at 15.1 s in order,
    /// not having closed by 16 s too late.
    #[test]
    fn keep_alive() {
        for (wait_ms, closes, expected) in
            [(14_900, true, true), (15_100, true, false), (16_000, false, true)]
        {
            let mut story = Story::new();
            let link = story.online(0, true);
            story.wait_ms(wait_ms);
            if closes {
                story.closing(link);
            } else {
                story.quiet();
            }
            assert_eq!(story.found(Promise::Conformance), expected, "{wait_ms} {:?}", story.findings());
        }
    }

    /// A client whose CONNECT was answered late has not been silent, but for what it kept silent after that.
    #[test]
    fn keep_alive_begins_with_the_answer() {
        for (silence_ms, expected) in [(1_000, false), (16_000, true)] {
            let mut story = Story::new();
            let link = story.sends_connect(0, false, None);
            story.wait_ms(30_000);
            story.is_let_in(link, false);
            story.wait_ms(silence_ms);
            story.sent(link, Sent::Ping);
            assert_eq!(story.found(Promise::Conformance), expected, "{silence_ms} {:?}", story.findings());
        }
    }

    /// "Taken over" is said to a client that has no other connection.
    #[test]
    fn reason_that_does_not_fit() {
        let mut story = Story::new();
        let link = story.online(0, true);
        story.got(link, Got::Disconnect { reason: 0x8E });
        assert!(story.found(Promise::Conformance));
    }
}

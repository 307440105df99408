//! What may and what must be, at each step of a subscription's and a session's life.

use mqtt::QoS;

use crate::checkers::story::Story;
use crate::history::{ClientIndex, Fact, Sent};

/// A subscription is possible from SUBSCRIBE, certain from SUBACK to UNSUBSCRIBE, impossible from UNSUBACK.
#[test]
fn subscription_intervals() {
    let mut story = Story::new();
    let subscriber = story.online(0, true);
    let publisher = story.online(1, true);
    let state = |story: &mut Story| {
        let message = story.publish(publisher, 0, "a", QoS::AtMostOnce);
        let ledger = story.ledger();
        let begun = ledger.message(message).begun.expect("it was sent");
        let session = ledger.session(ClientIndex(0));
        let may = session.may_match("a", Some(begun)).count();
        let must = session.subscriptions.iter().filter(|each| each.must_match("a", begun)).count();
        (may, must)
    };
    assert_eq!(state(&mut story), (0, 0));
    story.sends_subscribe(subscriber, 1, "a", QoS::AtMostOnce);
    assert_eq!(state(&mut story), (1, 0));
    story.gets_suback(subscriber, 1, &[0]);
    assert_eq!(state(&mut story), (1, 1));
    // A renewal leaves the filter certain all the time.
    story.sends_subscribe(subscriber, 2, "a", QoS::AtMostOnce);
    assert_eq!(state(&mut story), (2, 1));
    story.gets_suback(subscriber, 2, &[0]);
    assert_eq!(state(&mut story), (1, 1));
    story.sent(subscriber, Sent::Unsubscribe { packet_id: 3, filters: vec!["a"] });
    assert_eq!(state(&mut story), (1, 0));
    story.got(subscriber, crate::history::Got::UnsubAck { packet_id: 3, reasons: vec![0] });
    assert_eq!(state(&mut story), (0, 0));
}

/// A session is certain until it may have ended: by its connection's end without expiry, by a clean start
/// asked for, by time.
#[test]
fn session_certainty() {
    let certain = |story: &Story| story.ledger().session(ClientIndex(0)).is_certain();
    let mut story = Story::new();
    let link = story.online(0, true);
    assert!(certain(&story));
    story.leave(link);
    assert!(!certain(&story));

    let mut story = Story::new();
    let link = story.online(0, false);
    story.sent(link, Sent::Disconnect { reason: 0, expiry: Some(10) });
    story.leave(link);
    assert!(certain(&story));
    story.wait_ms(9_900);
    story.online(1, true);
    assert!(!certain(&story), "it may have expired");
    story.resume(0);
    assert!(certain(&story), "it had not");
}

/// A CONNECT that its client gave up before the answer may have been read, and its session expiry with it.
#[test]
fn connect_given_up() {
    for (expiry, certain) in [(0, false), (60, true)] {
        let mut story = Story::new();
        let link = story.online(0, false);
        story.leave(link);
        let link = story.sends_connect_with(0, false, expiry, None);
        assert!(story.ledger().session(ClientIndex(0)).is_certain());
        story.leave(link);
        assert_eq!(story.ledger().session(ClientIndex(0)).is_certain(), certain);
        story.wait_ms(70_000);
        story.online(1, true);
        assert!(!story.ledger().session(ClientIndex(0)).is_certain());
    }
}

/// A CONNACK that is read long after the node's end makes the session's absence no shorter.
#[test]
fn greeting_read_after_the_end() {
    let mut story = Story::new();
    let link = story.sends_connect_with(0, false, 5, None);
    story.fact(Fact::Crashed);
    story.wait_ms(9_000);
    story.is_let_in(link, false);
    story.fact(Fact::Ended(link));
    story.online(1, true);
    assert!(!story.ledger().session(ClientIndex(0)).is_certain(), "it may have expired");
}

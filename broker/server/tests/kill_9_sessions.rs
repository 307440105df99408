//! `kill -9` in the middle of a load on persistent sessions: what was acknowledged arrives, with QoS 2 once, in
//! order; by the ways of writing and with other numbers of cores, round after round in one directory.

#![expect(clippy::disallowed_methods, reason = "tests of a process need threads")]

mod support;

use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use support::Broker;
use support::data::{Data, WAYS};
use support::load::{Event, Ledger, Publisher, Reader, Subscriber};

const CORES: [&str; 3] = ["0,1", "0", "1"];
const NEVER: u32 = u32::MAX;
/// The publisher of the last messages.
const LAST: u32 = 9;

/// All clients of a test, those that are away included.
struct Clients {
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    events: Sender<Event>,
}

impl Clients {
    /// Publishers with and without a session, subscribers of every kind, and what they are to receive.
    fn new(broker: &Broker) -> (Clients, Ledger) {
        let (events, inbox) = channel();
        let publisher = |index: u32| Publisher::new(index, index.is_multiple_of(2), index < 3);
        let all = "load/#";
        let members = "$share/members/load/#";
        let kinds = [
            ("follower", true, 0, (0, all, 2)),
            ("slow", true, 3, (1, all, 2)),
            ("often-away", false, 0, (2, all, 2)),
            ("away", false, 0, (3, all, 2)),
            ("downgraded", true, 0, (4, all, 1)),
            ("member-1", true, 0, (5, members, 2)),
            ("member-2", false, 0, (5, members, 2)),
            ("member-3", true, 5, (5, members, 2)),
        ];
        let subscriber = |(id, v5, receive, what)| Subscriber::new(broker.address(), id, v5, receive, what);
        let readers = [(false, 2), (false, 2), (false, 2), (false, 2), (false, 1), (true, 2)];
        let clients = Clients {
            publishers: (0..4).map(publisher).collect(),
            subscribers: kinds.map(subscriber).into(),
            events,
        };
        (clients, Ledger::new(readers.map(|(shared, qos)| Reader::new(shared, qos)).into(), inbox))
    }

    /// Lets publishers publish up to `end`, and those of the subscribers live that `is_there` names.
    fn live(&mut self, broker: &Broker, end: u32, is_there: impl Fn(usize) -> bool) -> Living {
        let address = broker.address();
        let publish = |publisher: Publisher| {
            let events = self.events.clone();
            thread::spawn(move || publisher.run(address, end, &events))
        };
        let publishers = self.publishers.drain(..).map(publish).collect();
        let receive = |(place, subscriber): (usize, Subscriber)| {
            let (events, is_there) = (self.events.clone(), is_there(place));
            thread::spawn(move || if is_there { subscriber.run(address, &events) } else { subscriber })
        };
        let subscribers = self.subscribers.drain(..).enumerate().map(receive).collect();
        Living { publishers, subscribers }
    }

    /// Takes clients back whose broker has ended.
    fn end(&mut self, living: Living) {
        let join =
            |thread: JoinHandle<Publisher>| thread.join().expect("a publisher that fails has said why");
        self.publishers.extend(living.publishers.into_iter().map(join));
        let join =
            |thread: JoinHandle<Subscriber>| thread.join().expect("a subscriber that fails has said why");
        self.subscribers.extend(living.subscribers.into_iter().map(join));
    }
}

struct Living {
    publishers: Vec<JoinHandle<Publisher>>,
    subscribers: Vec<JoinHandle<Subscriber>>,
}

/// Whether a subscriber is there in a round: the first two always are, the fourth never.
fn is_there(place: usize, round: usize) -> bool {
    place < 2 || place != 3 && !(place + round).is_multiple_of(3)
}

/// The load until `acknowledged` more messages are, and then its broker ends.
fn round(
    clients: &mut Clients,
    ledger: &mut Ledger,
    broker: Broker,
    (round, acknowledged): (usize, usize),
    end: impl FnOnce(Broker),
) {
    let living = clients.live(&broker, NEVER, |place| is_there(place, round));
    let enough = ledger.acknowledged.len() + acknowledged;
    ledger.until(|ledger, _| ledger.acknowledged.len() >= enough);
    end(broker);
    clients.end(living);
    ledger.catch_up();
}

/// What is under way is finished, and everybody has everything; a publish after one more start arrives as well.
fn settle(data: &Data, mut clients: Clients, mut ledger: Ledger) {
    let broker = data.start(&["--cores", "0,1"]);
    let end = clients.publishers.iter().map(|publisher| publisher.next).max().expect("some");
    let mut publishing = clients.publishers.len();
    let living = clients.live(&broker, end, |_| true);
    ledger.until(|ledger, event| {
        publishing -= usize::from(matches!(event, Event::Done));
        publishing == 0 && ledger.is_complete()
    });
    broker.stop();
    clients.end(living);
    let broker = data.start(&["--cores", "0"]);
    clients.publishers = vec![Publisher::new(LAST, true, false)];
    let living = clients.live(&broker, 2, |_| true);
    let mut publishing = true;
    ledger.until(|ledger, event| {
        publishing &= !matches!(event, Event::Done);
        !publishing && ledger.is_complete()
    });
    broker.stop();
    clients.end(living);
    ledger.catch_up();
    ledger.assert_sent(|(publisher, number)| number < if publisher == LAST { 2 } else { end });
}

/// The rounds of a test, or as many as the environment asks for.
fn rounds(usual: usize) -> usize {
    std::env::var("HERMOD_KILL_ROUNDS").map_or(usual, |rounds| rounds.parse().expect("a number"))
}

/// QoS 1 and 2 from publishers with and without a session, to subscribers that are there, slow, away, of a lower QoS,
/// and sharing.
#[test]
fn acknowledged_messages_for_sessions_outlive_kill_9() {
    let data = Data::new();
    let broker = data.start(&["--cores", CORES[0]]);
    let (mut clients, mut ledger) = Clients::new(&broker);
    broker.kill();
    for number in 0..rounds(8) {
        let broker = data.start_by(WAYS[number % WAYS.len()], &["--cores", CORES[number % CORES.len()]]);
        let acknowledged = [400, 1, 900, 150][number % 4];
        round(&mut clients, &mut ledger, broker, (number, acknowledged), Broker::kill);
    }
    settle(&data, clients, ledger);
}

/// The same with a SIGTERM.
#[test]
fn acknowledged_messages_for_sessions_outlive_an_orderly_stop() {
    let data = Data::new();
    let broker = data.start(&["--cores", CORES[0]]);
    let (mut clients, mut ledger) = Clients::new(&broker);
    broker.stop();
    for number in 0..rounds(4) {
        let broker = data.start_by(WAYS[number % WAYS.len()], &["--cores", CORES[number % CORES.len()]]);
        round(&mut clients, &mut ledger, broker, (number, 500), Broker::stop);
    }
    settle(&data, clients, ledger);
}

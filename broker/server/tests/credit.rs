//! Cores that are always short of credit: with no byte allowed on its way (`mailbox_bytes_max`) a core stops reading
//! its clients after each message for another one, and their bytes lie in sockets of which no further report comes;
//! with few deliveries in a turn, what is left over keeps it so. Every QoS 1 publish is acknowledged and delivered
//! all the same, once and in order, on both of the kernel's ways to wait.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use mqtt::encode::{self, PublishOut, SubscribeOut};
use mqtt::{
    Ack, Connect, ConnectProperties, Limits, Packet, PacketId, PacketKind, QoS, ReasonCode, SubscribeFilter,
    SubscriptionOptions, UserProperties, Version, decode,
};

use support::{Broker, DEADLINE};

/// Publishers, each with a subscriber, on as many cores as there are.
const PAIRS: usize = 12;
/// Messages of a publisher.
const MESSAGES: usize = 1200;
/// Those of them that go to every subscriber are one in so many.
const SHARED_EVERY: usize = 10;
/// Messages of a publisher that wait for their PUBACK.
const WINDOW: usize = 32;

const LIMITS: Limits =
    Limits { packet_bytes_max: 64 << 10, properties_max: 64, filters_max: 64, client_id_bytes_max: 64 };

/// A client's socket, and what of a packet has come.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr, client_id: &str, clean: bool) -> Client {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let mut client = Client { stream, received: Vec::new() };
        let connect = Connect {
            clean_start: clean,
            keep_alive: 0,
            properties: ConnectProperties::default(),
            ..Connect::new(Version::V311, client_id)
        };
        client.send(|out| encode::connect(out, &connect));
        client.next(|packet| assert!(matches!(packet, Packet::ConnAck(_)), "{packet:?}"));
        client
    }

    fn subscribe(&mut self, filters: &[&str]) {
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        let filters: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
        let user_properties = UserProperties::default();
        let packet_id = PacketId::new(1).expect("not 0");
        let subscribe = SubscribeOut { packet_id, subscription_id: None, user_properties, filters: &filters };
        self.send(|out| encode::subscribe(out, Version::V311, &subscribe));
        self.next(|packet| assert!(matches!(packet, Packet::SubAck(_)), "{packet:?}"));
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        self.stream.write_all(&bytes).expect("the broker reads");
    }

    /// Waits for the next packet.
    fn next<T>(&mut self, take: impl FnOnce(Packet<'_>) -> T) -> T {
        loop {
            if let Some((packet, used)) = decode(Version::V311, &self.received, &LIMITS).expect("MQTT") {
                let taken = take(packet);
                self.received.drain(..used);
                return taken;
            }
            let mut bytes = [0; 16 << 10];
            let count = self.stream.read(&mut bytes).expect("something comes before the deadline");
            assert!(count > 0, "closed");
            self.received.extend_from_slice(&bytes[..count]);
        }
    }
}

fn is_shared(number: usize) -> bool {
    number.is_multiple_of(SHARED_EVERY)
}

/// Publishes all there is, and waits for each PUBACK, in order.
fn publish(mut client: Client, pair: usize) {
    let own = format!("pair/{pair}");
    let id = |number: usize| PacketId::new(u16::try_from(number % WINDOW + 1).unwrap()).unwrap();
    for number in 0..MESSAGES + WINDOW {
        if number >= WINDOW {
            client.next(|packet| match packet {
                Packet::PubAck(ack) => assert_eq!(ack.packet_id, id(number), "in order"),
                other => panic!("{other:?}"),
            });
        }
        if number >= MESSAGES {
            continue;
        }
        // Of many sizes, so that reads end anywhere.
        let payload = format!("{pair} {number} {}", "-".repeat(number * 37 % 2000));
        let topic = if is_shared(number) { "all" } else { &own };
        let (qos, packet_id) = (QoS::AtLeastOnce, Some(id(number)));
        let publish =
            PublishOut { topic, qos, packet_id, payload: payload.as_bytes(), ..PublishOut::default() };
        client.send(|out| {
            encode::publish(out, Version::V311, &publish);
        });
    }
}

/// Takes all that is for the subscriber of a pair: each publisher's messages, once and in order.
fn receive(mut client: Client, pair: usize) {
    let mut expected: Vec<Vec<usize>> = (0..PAIRS)
        .map(|from| (0..MESSAGES).rev().filter(|&number| from == pair || is_shared(number)).collect())
        .collect();
    // Order is promised within a topic.
    let mut own: Vec<usize> = expected[pair].extract_if(.., |number| !is_shared(*number)).collect();
    for _ in 0..own.len() + PAIRS * expected[pair].len() {
        let (topic, payload, packet_id) = client.next(|packet| match packet {
            Packet::Publish(publish) => {
                (publish.topic.to_owned(), publish.payload.to_owned(), publish.packet_id.expect("QoS 1"))
            }
            other => panic!("{other:?}"),
        });
        let text = String::from_utf8(payload).expect("text");
        let mut words = text.split(' ').map(str::parse::<usize>);
        let (from, number) = (words.next().unwrap().unwrap(), words.next().unwrap().unwrap());
        let list = if topic == "all" { &mut expected[from] } else { &mut own };
        assert_eq!(list.pop(), Some(number), "{topic} from {from} for {pair}");
        let ack = Ack::new(packet_id, ReasonCode::SUCCESS);
        client.send(|out| encode::ack(out, Version::V311, PacketKind::PubAck, &ack));
    }
}

/// Goal: what a core leaves unread for want of credit is read when it has some again. Method: pairs of clients on all
/// cores that talk as fast as they can, and wait for every answer and every message.
#[test]
fn publishes_survive_constant_want_of_credit() {
    for (io, deliveries) in [("uring", 16_384), ("uring", 5), ("epoll", 16_384), ("epoll", 5)] {
        let limits = format!(
            "export HERMOD__LIMITS__MAILBOX_BYTES_MAX=0 HERMOD__LIMITS__TURN_DELIVERIES_MAX={deliveries}"
        );
        let broker = Broker::start_after(&limits, &["--io", io]);
        let address = broker.address();
        // Half of the sessions outlive their connections: their publishers wait for the other core's answer.
        let subscribers: Vec<_> = (0..PAIRS)
            .map(|pair| {
                let mut client = Client::connect(address, &format!("subscriber-{pair}"), pair % 2 == 0);
                client.subscribe(&[&format!("pair/{pair}"), "all"]);
                client
            })
            .collect();
        thread::scope(|scope| {
            for (pair, subscriber) in subscribers.into_iter().enumerate() {
                scope.spawn(move || receive(subscriber, pair));
                let publisher = Client::connect(address, &format!("publisher-{pair}"), true);
                scope.spawn(move || publish(publisher, pair));
            }
        });
        broker.stop();
    }
}

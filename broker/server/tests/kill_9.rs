//! `kill -9` in the middle of a load: what was acknowledged is there after the next start. The packets are MQTT
//! 3.1.1, in bytes.

mod support;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;

use support::DEADLINE;
use support::data::{Data, WAYS};

const TOPICS: u32 = 100;
/// Publishes that may wait for their acknowledgement.
const WINDOW: u32 = 50;
/// Acknowledgements after which the broker is killed.
const ACKNOWLEDGED: u32 = 2000;

/// A client with a clean session.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut client = Client(stream);
        client.0.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'k'])?;
        assert_eq!(client.packet()?, (0x20, vec![0, 0]), "CONNACK");
        Ok(client)
    }

    /// The next packet: its first byte, and what is behind its length.
    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        assert!(head[1] < 128, "packets here are short");
        let mut body = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    /// Publishes a number as retained message of its topic, with QoS 1.
    fn publish(&mut self, number: u32) -> io::Result<()> {
        let topic = format!("r/{:02}", number % TOPICS);
        let payload = number.to_string();
        let mut packet = vec![0x33, u8::try_from(2 + topic.len() + 2 + payload.len()).expect("short")];
        packet.extend([0, u8::try_from(topic.len()).expect("short")]);
        packet.extend(topic.as_bytes());
        packet.extend(packet_id(number).to_be_bytes());
        packet.extend(payload.as_bytes());
        self.0.write_all(&packet)
    }

    /// The retained numbers by topic, when there is one for each.
    fn retained(&mut self) -> io::Result<BTreeMap<u32, u32>> {
        self.0.write_all(&[0x82, 8, 0, 1, 0, 3, b'r', b'/', b'+', 0])?;
        let mut retained = BTreeMap::new();
        while retained.len() < TOPICS as usize {
            let (first, body) = self.packet()?;
            if first == 0x31 {
                let text = std::str::from_utf8(&body[2..]).expect("text");
                let number = |text: &str| text.parse::<u32>().expect("a number");
                let (topic, payload) = text.split_at(4);
                retained.insert(number(&topic[2..]), number(payload));
            }
        }
        Ok(retained)
    }
}

fn packet_id(number: u32) -> u16 {
    u16::try_from(number % 60_000 + 1).expect("in range")
}

/// Publishes numbers from `first` on until the connection breaks, and says which were acknowledged. Returns how
/// far it came.
fn publish(address: SocketAddr, first: u32, acknowledged: &dyn Fn(u32)) -> u32 {
    let mut client = Client::connect(address).expect("it listens");
    let (mut sent, mut next) = (first, first);
    loop {
        while sent < next + WINDOW {
            if client.publish(sent).is_err() {
                return sent;
            }
            sent += 1;
        }
        let Ok((kind, id)) = client.packet() else { return sent };
        assert_eq!(
            (kind, id),
            (0x40, packet_id(next).to_be_bytes().to_vec()),
            "acknowledgements are in order"
        );
        acknowledged(next);
        next += 1;
    }
}

/// A broker that is killed in the middle of retained publishes has, after the next start, for each topic the last
/// one that was acknowledged or a later one; on each way of writing, round after round in one directory.
#[test]
fn acknowledged_retained_messages_outlive_kill_9() {
    let data = Data::new();
    let (mut first, mut least) = (0, BTreeMap::new());
    for way in WAYS {
        for _ in 0..2 {
            let broker = data.start_by(way, &[]);
            let (address, (acknowledged, numbers)) = (broker.address(), channel());
            let publisher = std::thread::Builder::new().spawn(move || {
                publish(address, first, &|number| acknowledged.send(number).expect("the test waits"))
            });
            let publisher = publisher.expect("a thread");
            for number in numbers.iter().take(ACKNOWLEDGED as usize) {
                least.insert(number % TOPICS, number);
            }
            broker.kill();
            least.extend(numbers.iter().map(|number| (number % TOPICS, number)));
            first = publisher.join().expect("it ends with its connection");
            let broker = data.start_by(way, &["--cores", "0"]);
            let retained =
                Client::connect(broker.address()).expect("it listens").retained().expect("all topics");
            for (topic, number) in &retained {
                let range = least[topic]..first;
                assert!(
                    range.contains(number) && number % TOPICS == *topic,
                    "{topic}: {number} of {range:?}"
                );
            }
            broker.kill();
        }
    }
}

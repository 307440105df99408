//! MQTT 3.1.1 and 5.0 in bytes, as a client says and hears it; written without the broker's codec.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

/// What a CONNECT says.
#[derive(Clone, Debug)]
pub struct Connect<'a> {
    pub id: &'a str,
    pub v5: bool,
    /// Clean session, or clean start.
    pub clean: bool,
    /// 5.0 only.
    pub session_expiry_seconds: u32,
    /// 5.0 only; 0: none is said.
    pub receive_maximum: u16,
    /// Topic and payload of a QoS 1 will, and its delay in seconds (5.0 only).
    pub will: Option<(&'a str, &'a str, u32)>,
}

impl<'a> Connect<'a> {
    /// A session that stays.
    pub fn persistent(id: &'a str, v5: bool) -> Connect<'a> {
        Connect { id, v5, clean: false, session_expiry_seconds: 3600, receive_maximum: 0, will: None }
    }

    /// A session that ends with its connection.
    pub fn clean(id: &'a str, v5: bool) -> Connect<'a> {
        Connect { clean: true, session_expiry_seconds: 0, ..Connect::persistent(id, v5) }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', if self.v5 { 5 } else { 4 }];
        body.push(u8::from(self.clean) << 1 | if self.will.is_some() { 0b0000_1100 } else { 0 });
        body.extend([0, 0]);
        if self.v5 {
            let mut properties = vec![0x11];
            properties.extend(self.session_expiry_seconds.to_be_bytes());
            if self.receive_maximum > 0 {
                properties.push(0x21);
                properties.extend(self.receive_maximum.to_be_bytes());
            }
            body.push(u8::try_from(properties.len()).expect("short"));
            body.extend(properties);
        }
        text(&mut body, self.id);
        if let Some((topic, payload, delay)) = self.will {
            if self.v5 {
                body.extend([5, 0x18]);
                body.extend(delay.to_be_bytes());
            }
            text(&mut body, topic);
            text(&mut body, payload);
        }
        packet(0x10, &body)
    }
}

/// A PUBLISH, either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// 0 with QoS 0.
    pub packet_id: u16,
    pub topic: String,
    pub payload: String,
    /// 5.0 only.
    pub expiry_seconds: Option<u32>,
}

/// What a broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: which, for whom, reason.
    Answer(u8, u16, u8),
    /// Reason codes.
    Suback(Vec<u8>),
    Disconnect(u8),
    Pingresp,
}

/// A connection.
pub struct Wire {
    input: BufReader<TcpStream>,
    out: Vec<u8>,
    v5: bool,
}

impl Wire {
    /// Connects: the connection, and whether there was a session. A refusal is an error.
    pub fn connect(address: SocketAddr, connect: &Connect<'_>) -> io::Result<(Wire, bool)> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut wire = Wire { input: BufReader::new(stream), out: connect.bytes(), v5: connect.v5 };
        wire.flush()?;
        let (first, body) = wire.packet()?;
        assert_eq!(first, 0x20, "CONNACK");
        if body[1] != 0 {
            return Err(io::Error::other(format!("refused: {:#x}", body[1])));
        }
        Ok((wire, body[0] == 1))
    }

    /// Sends what was said.
    pub fn flush(&mut self) -> io::Result<()> {
        self.input.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// The next packet. What was said is sent before it is waited for.
    pub fn hear(&mut self) -> io::Result<Heard> {
        if self.input.buffer().is_empty() {
            self.flush()?;
        }
        let (first, body) = self.packet()?;
        let id = |body: &[u8]| u16::from_be_bytes([body[0], body[1]]);
        Ok(match first & 0xf0 {
            0x30 => Heard::Publish(self.publish(first, &body)),
            0x40..=0x70 => Heard::Answer(first, id(&body), body.get(2).copied().unwrap_or(0)),
            0x90 => Heard::Suback(body[if self.v5 { 3 } else { 2 }..].to_vec()),
            0xd0 => Heard::Pingresp,
            0xe0 => Heard::Disconnect(body.first().copied().unwrap_or(0)),
            _ => panic!("{first:#x} from a broker"),
        })
    }

    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        let first = byte[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            self.input.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.input.read_exact(&mut body)?;
        Ok((first, body))
    }

    fn publish(&self, first: u8, body: &[u8]) -> Publish {
        let qos = first >> 1 & 3;
        let (topic, mut rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
        let mut packet_id = 0;
        if qos > 0 {
            packet_id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let mut expiry_seconds = None;
        if self.v5 {
            let (properties, payload) = rest[1..].split_at(usize::from(rest[0]));
            match properties {
                [] => {}
                [0x02, seconds @ ..] => {
                    expiry_seconds = Some(u32::from_be_bytes(seconds.try_into().expect("no other property")));
                }
                _ => panic!("properties nobody asked for: {properties:?}"),
            }
            rest = payload;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("tests send text");
        let (topic, payload) = (text(topic), text(rest));
        let (dup, retain) = (first & 8 != 0, first & 1 != 0);
        Publish { dup, qos, retain, packet_id, topic, payload, expiry_seconds }
    }

    /// Says PUBLISH.
    pub fn send(&mut self, publish: &Publish) {
        let mut body = Vec::new();
        text(&mut body, &publish.topic);
        if publish.qos > 0 {
            body.extend(publish.packet_id.to_be_bytes());
        }
        if self.v5 {
            match publish.expiry_seconds {
                None => body.push(0),
                Some(seconds) => {
                    body.extend([5, 0x02]);
                    body.extend(seconds.to_be_bytes());
                }
            }
        }
        body.extend(publish.payload.as_bytes());
        let flags = u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain);
        self.out.extend(packet(0x30 | flags, &body));
    }

    /// Says PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn answer(&mut self, kind: u8, packet_id: u16) {
        self.out.extend(packet(kind, &packet_id.to_be_bytes()));
    }

    /// Says SUBSCRIBE, and waits for its answer; nothing else may come before.
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> io::Result<()> {
        let mut body = vec![0xff, 0xff];
        if self.v5 {
            body.push(0);
        }
        text(&mut body, filter);
        body.push(qos);
        self.out.extend(packet(0x82, &body));
        assert_eq!(self.hear()?, Heard::Suback(vec![qos]), "{filter}");
        Ok(())
    }

    /// Says PINGREQ.
    pub fn ping(&mut self) {
        self.out.extend([0xc0, 0]);
    }

    /// Says DISCONNECT, and waits until the broker has closed.
    pub fn disconnect(mut self) -> io::Result<()> {
        self.out.extend([0xe0, 0]);
        self.flush()?;
        self.closed()
    }

    /// Waits until the broker has closed; nothing may come before.
    pub fn closed(mut self) -> io::Result<()> {
        match self.hear() {
            Ok(heard) => panic!("{heard:?} instead of the end"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => Ok(()),
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
    out.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    while length >= 128 {
        packet.push(u8::try_from(length % 128 + 128).expect("a byte"));
        length /= 128;
    }
    packet.push(u8::try_from(length).expect("a byte"));
    packet.extend(body);
    packet
}

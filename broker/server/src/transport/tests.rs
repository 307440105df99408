//! Transports against clients of the same libraries, over memory: whatever pieces the bytes come in, the plaintext is
//! the same, and what is no such stream ends with an error.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::{Broken, Protocol, Transport, load};
use crate::cli::Scheme;
use crate::configuration::Listener;

/// A generator of pieces: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// A listener that shows a certificate of its own for `localhost`, and a client that trusts it.
fn tls(version: &'static SupportedProtocolVersion) -> (Arc<[Protocol]>, ClientConnection) {
    let folder = tempfile::TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut listener = Listener::default();
    listener.bind.scheme = Scheme::Tls;
    listener.tls_cert.0 = Some(certificate.clone());
    listener.tls_key.0 = Some(key);
    let protocols = load(&[listener]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    (protocols, ClientConnection::new(Arc::new(config), name).unwrap())
}

fn begin(protocols: &[Protocol]) -> Box<Transport> {
    protocols[0].begin(None).unwrap().expect("it is not plain")
}

/// Gives the server what the client has to send, in pieces of up to `piece` bytes. What it says.
fn carry(
    client: &mut ClientConnection,
    server: &mut Transport,
    piece: usize,
    random: &mut Random,
) -> Vec<u8> {
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    let mut rest = wire.as_mut_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(1 + random.below(piece.min(rest.len())));
        assert_eq!(server.receive(now, &mut plain), Ok(()));
        rest = later;
    }
    plain
}

/// Gives the client what the server has to send. What it says.
fn answer(client: &mut ClientConnection, server: &mut Transport) -> Vec<u8> {
    let mut plain = Vec::new();
    let sent = server.wire().len();
    let mut wire = server.wire();
    while !wire.is_empty() {
        client.read_tls(&mut wire).unwrap();
        client.process_new_packets().unwrap();
        let _ = client.reader().read_to_end(&mut plain);
    }
    server.advance(sent);
    server.give_back(&mut Vec::new());
    plain
}

/// Any segmentation, both versions: the plaintext is what was sent, in both directions, and while nothing is on its
/// way no buffer is kept.
#[test]
fn tls_in_any_pieces() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (seed, piece) in [(1, 1), (2, 7), (3, 100), (4, 5000), (5, 1 << 20)] {
            let mut random = Random(seed);
            let (protocols, mut client) = tls(version);
            let mut server = begin(&protocols);
            while client.is_handshaking() || server.is_handshaking() {
                assert_eq!(carry(&mut client, &mut server, piece, &mut random), b"");
                answer(&mut client, &mut server);
            }
            for length in [2, 100, 16 * 1024, 40_000] {
                let message: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
                client.writer().write_all(&message).unwrap();
                assert_eq!(carry(&mut client, &mut server, piece, &mut random), message);
                let halves = message.split_at(1 + length / 2);
                assert_eq!(server.send([halves.0, halves.1].into_iter()), Ok(length));
                assert_eq!(answer(&mut client, &mut server), message);
            }
            assert_eq!((server.wire.capacity(), server.tls.as_ref().unwrap().kept_bytes()), (0, 0));
            client.send_close_notify();
            assert!(!server.has_ended());
            carry(&mut client, &mut server, piece, &mut random);
            assert!(server.has_ended());
        }
    }
}

/// Nothing is sent before there are keys for it; the end of the stream is said once.
#[test]
fn nothing_leaves_in_the_clear() {
    let (protocols, mut client) = tls(&rustls::version::TLS13);
    let mut server = begin(&protocols);
    assert_eq!(server.send([b"secret".as_slice()].into_iter()), Ok(0));
    server.finish();
    assert_eq!(server.wire(), b"");
    let mut server = begin(&protocols);
    let mut random = Random(1);
    while client.is_handshaking() || server.is_handshaking() {
        carry(&mut client, &mut server, 1000, &mut random);
        answer(&mut client, &mut server);
    }
    server.finish();
    let said = server.wire().len();
    assert!(said > 0);
    server.finish();
    assert_eq!(server.wire().len(), said);
    answer(&mut client, &mut server);
    assert_eq!(client.reader().read(&mut [0; 1]).unwrap(), 0, "a clean end");
}

/// What is no TLS is an error, and keeps at most a record; what claims to be longer than a record is one at once.
#[test]
fn garbage_is_not_tls() {
    let (protocols, _) = tls(&rustls::version::TLS13);
    let receive = |mut bytes: Vec<u8>| begin(&protocols).receive(&mut bytes, &mut Vec::new());
    assert_eq!(receive(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00".to_vec()), Err(Broken), "plain MQTT");
    assert_eq!(receive(b"GET /mqtt HTTP/1.1\r\n\r\n".to_vec()), Err(Broken));
    assert_eq!(receive(vec![0x16, 3, 1, 0xff, 0xff]), Err(Broken), "a record of 65535 bytes");
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut server = begin(&protocols);
        let mut plain = Vec::new();
        for _ in 0..20 {
            let mut bytes: Vec<u8> = (0..1 + random.below(4000)).map(|_| random.below(256) as u8).collect();
            // A header that passes, now and then.
            if random.below(2) == 0 {
                bytes.splice(0..1, [0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]);
            }
            if server.receive(&mut bytes, &mut plain) == Err(Broken) {
                break;
            }
            assert!(server.tls.as_ref().unwrap().kept_bytes() <= 65_540);
        }
        assert_eq!(plain, b"");
    }
}

/// Bytes changed on their way end the connection with an alert; the plaintext before them is whole.
#[test]
fn changed_records_are_refused() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let (protocols, mut client) = tls(&rustls::version::TLS13);
        let mut server = begin(&protocols);
        while client.is_handshaking() || server.is_handshaking() {
            carry(&mut client, &mut server, 1000, &mut random);
            answer(&mut client, &mut server);
        }
        client.writer().write_all(b"first").unwrap();
        assert_eq!(carry(&mut client, &mut server, 1000, &mut random), b"first");
        client.writer().write_all(&[7; 300]).unwrap();
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        // Beyond the header, whose length would only make it wait.
        let place = 5 + random.below(wire.len() - 5);
        wire[place] ^= 1 << random.below(8);
        let mut plain = Vec::new();
        assert_eq!(server.receive(&mut wire, &mut plain), Err(Broken));
        assert_eq!(plain, b"");
        assert!(!server.wire().is_empty(), "an alert");
    }
}

/// The request of a client.
const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn web() -> Box<Transport> {
    let protocol = Protocol { websocket: true, ..Protocol::default() };
    protocol.begin(None).unwrap().expect("it is not plain")
}

/// A WebSocket whose request is answered.
fn open_web() -> Box<Transport> {
    let mut server = web();
    assert_eq!(server.receive(&mut REQUEST.to_vec(), &mut Vec::new()), Ok(()));
    assert!(server.wire().starts_with(b"HTTP/1.1 101 "));
    let answer = server.wire().len();
    server.advance(answer);
    server.give_back(&mut Vec::new());
    server
}

/// A client's frame, with its length in the shortest form.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A stream of random messages, fragmented or not, with control frames between the fragments: bytes, and payload.
fn frames(random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let (mut stream, mut payload) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let fragments = 1 + random.below(4);
        for fragment in 0..fragments {
            let length = [0, 1, 125, 126, 500, 65_535, 65_536][random.below(7)];
            let part: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            let mask = std::array::from_fn(|_| random.below(256) as u8);
            let (opcode, fin) = (if fragment == 0 { 2 } else { 0 }, fragment + 1 == fragments);
            stream.extend(frame(if fin { 0x80 } else { 0 } | opcode, &part, mask));
            payload.extend(part);
            if random.below(3) == 0 {
                stream.extend(frame(0x80 | [9, 10][random.below(2)], b"beat", mask));
            }
        }
    }
    (stream, payload)
}

/// [MQTT-6.0.0-2] Any segmentation of the same frames gives the same payload, and nothing is kept between frames.
#[test]
fn frames_in_any_pieces() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let (stream, payload) = frames(&mut random);
        let mut all = REQUEST.to_vec();
        all.extend(stream);
        let piece = [1, 3, 50, 5000, 1 << 20][random.below(5)];
        let (mut server, mut plain) = (web(), Vec::new());
        let mut rest = all.as_mut_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(1 + random.below(piece.min(rest.len())));
            assert_eq!(server.receive(now, &mut plain), Ok(()));
            // Answers to pings are bounded, whether or not they are read.
            assert!(server.wire().len() <= 8192);
            rest = later;
        }
        assert!(plain == payload, "seed {seed}");
    }
}

/// [MQTT-6.0.0-1] What goes out is whole binary frames without a mask, each form of length; a ping is answered with what it carried, a close
/// with a close, after which nothing is heard.
#[test]
fn frames_that_leave() {
    for (length, header) in [
        (1, vec![0x82, 1]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 0xff, 0xff]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut server = open_web();
        let payload = vec![7; length];
        assert_eq!(server.send([payload.as_slice()].into_iter()), Ok(length));
        assert_eq!(server.wire(), [header, payload].concat());
    }
    let mut server = open_web();
    let (mut bytes, mut plain) = (frame(0x89, b"beat", [1; 4]), Vec::new());
    assert_eq!(server.receive(&mut bytes, &mut plain), Ok(()));
    assert_eq!(server.wire(), b"\x8a\x04beat");
    server.advance(6);
    let mut bytes =
        [frame(0x82, b"last", [2; 4]), frame(0x88, &[3, 0xe8], [3; 4]), frame(0x82, b"x", [4; 4])].concat();
    assert_eq!(server.receive(&mut bytes, &mut plain), Ok(()));
    assert_eq!((plain.as_slice(), server.wire()), (b"last".as_slice(), b"\x88\x02\x03\xe8".as_slice()));
    assert!(server.has_ended());
    let mut server = open_web();
    server.finish();
    server.finish();
    assert_eq!(server.wire(), b"\x88\x02\x03\xe8");
    assert_eq!(web().send([b"early".as_slice()].into_iter()), Ok(0), "not before the answer to the request");
}

/// [MQTT-6.0.0-1] Each frame that must not be (one of text is one) closes with its code, whatever came before it; its length is no reason to keep anything.
#[test]
fn frames_that_must_not_be() {
    for (bytes, code) in [
        (frame(0x81, b"text", [1; 4]), 1003),
        (vec![0x82, 4, 1, 2, 3, 4], 1002),
        (frame(0xc2, b"reserved", [1; 4]), 1002),
        (frame(0x83, b"unknown", [1; 4]), 1002),
        (frame(0x8b, b"", [1; 4]), 1002),
        (frame(0x09, b"fragmented ping", [1; 4]), 1002),
        (frame(0x89, &[0; 126], [1; 4]), 1002),
        (frame(0x80, b"continues nothing", [1; 4]), 1002),
        ([frame(0x02, b"", [1; 4]), frame(0x82, b"", [1; 4])].concat(), 1002),
        (frame(0x88, b"x", [1; 4]), 1002),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002),
    ] {
        let (mut server, mut plain) = (open_web(), Vec::new());
        let mut stream = [frame(0x82, b"before", [9; 4]), bytes.clone()].concat();
        assert_eq!(server.receive(&mut stream, &mut plain), Err(Broken), "{bytes:?}");
        assert_eq!(plain, b"before");
        assert_eq!(server.wire(), [vec![0x88, 2], u16::to_be_bytes(code).to_vec()].concat(), "{bytes:?}");
    }
    let (mut server, mut plain) = (open_web(), Vec::new());
    let mut huge = vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'x'];
    assert_eq!(server.receive(&mut huge, &mut plain), Ok(()));
    assert_eq!((plain.as_slice(), server.wire.capacity()), (b"x".as_slice(), 0));
}

/// Whatever comes, a WebSocket ends or goes on, and what it keeps and has to say is bounded.
#[test]
fn garbage_in_frames() {
    for seed in 0..3000 {
        let mut random = Random(seed);
        let (mut server, mut plain) = (open_web(), Vec::new());
        for _ in 0..20 {
            let mut bytes = match random.below(3) {
                0 => (0..random.below(300)).map(|_| random.below(256) as u8).collect(),
                1 => frame([0x82, 0x02, 0x80, 0x89, 0x8a][random.below(5)], &[1; 100], [3; 4]),
                _ => vec![0x82, 0x80 | random.below(128) as u8, 0, 1],
            };
            let sent = bytes.len();
            let before = plain.len();
            let received = server.receive(&mut bytes, &mut plain);
            assert!(plain.len() - before <= sent && server.wire().len() <= 8192);
            if received.is_err() || server.has_ended() {
                break;
            }
        }
    }
}

/// A request that is refused is answered, and the connection is at its end.
#[test]
fn refused_request() {
    let mut server = web();
    let mut bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    assert_eq!(server.receive(&mut bytes, &mut Vec::new()), Err(Broken));
    assert!(server.wire().starts_with(b"HTTP/1.1 404 "));
}

/// A proxy's header comes before whatever the listener speaks, in any pieces; who is no proxy is not asked for one, and
/// a plain connection is plain when the header has come.
#[test]
fn headers_of_proxies() {
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n";
    let proxies: Arc<[_]> = ["10.0.0.0/8".parse().unwrap()].into();
    let protocol = Protocol { proxies, ..Protocol::default() };
    let begin = |peer: &str| protocol.begin(Some(peer.parse().unwrap())).unwrap();
    assert!(begin("192.0.2.7:1").is_none());
    for piece in 1..=header.len() + 3 {
        let mut server = begin("10.0.0.2:1").expect("it owes a header");
        let mut plain = Vec::new();
        for bytes in [header.as_slice(), b"\x10\x0e\0"].concat().chunks(piece) {
            server.receive(&mut bytes.to_vec(), &mut plain).unwrap();
        }
        assert_eq!(plain, b"\x10\x0e\0");
        assert_eq!(server.next_origin().unwrap().peer, Some("192.0.2.7:4660".parse().unwrap()));
        assert!(server.is_through() && !server.awaits_proxy());
    }
    let mut server = begin("10.0.0.2:1").expect("it owes a header");
    assert_eq!(server.receive(&mut b"\x10\x0e".to_vec(), &mut Vec::new()), Err(Broken));

    let mut web = Protocol { websocket: true, ..protocol.clone() }.begin(None).unwrap().expect("not plain");
    web.receive(&mut [header.as_slice(), REQUEST].concat(), &mut Vec::new()).unwrap();
    assert!(web.wire().starts_with(b"HTTP/1.1 101 ") && !web.is_through());
}

/// Where TLS ends at the proxy, its header says whom the client's certificate names; without one nobody is let in, and
/// least of all who comes past the proxy.
#[test]
fn users_of_proxies() {
    let proxies: Arc<[_]> = ["10.0.0.0/8".parse().unwrap()].into();
    let protocol = Protocol { proxies, identity_as_username: true, ..Protocol::default() };
    let user = |peer: &str, bytes: &[u8]| {
        let mut server = protocol.begin(Some(peer.parse().unwrap())).unwrap().expect("not plain");
        server.receive(&mut bytes.to_vec(), &mut Vec::new()).unwrap();
        let user = server.next_user();
        assert_eq!(server.next_user(), Ok(None), "said once");
        user
    };
    let header = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1c".as_slice(),
        &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0x07, 0x5b],
        b"\x20\0\x0d\x07\0\0\0\0\x22\0\x05dev-7",
    ]
    .concat();
    assert_eq!(user("10.0.0.2:1", &header), Ok(Some("dev-7".to_owned())));
    assert_eq!(user("10.0.0.2:1", b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 1883\r\n"), Err(Broken));
    assert_eq!(user("192.0.2.7:1", b"\x10\x0e"), Err(Broken));
}

/// The name that a client asks for is known when it has greeted, whatever the version, and once.
#[test]
fn name_of_the_greeting() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (protocols, mut client) = tls(version);
        let mut server = begin(&protocols);
        let _ = carry(&mut client, &mut server, 7, &mut Random(7));
        assert_eq!(server.next_name().as_deref(), Some("localhost"));
        assert_eq!(server.next_name(), None);
    }
}

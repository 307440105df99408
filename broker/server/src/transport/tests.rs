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
    protocols[0].begin().unwrap().expect("it is not plain")
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
            assert_eq!((server.wire.capacity(), server.tls.kept_bytes()), (0, 0));
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
            assert!(server.tls.kept_bytes() <= 65_540);
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

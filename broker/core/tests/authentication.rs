//! Authentication: the questions to the host, what follows from its answers, and the exchange of AUTH packets
//! (MQTT 5.0, section 4.12).

mod host;

use std::sync::Arc;
use std::time::Duration;

use broker_core::access::{Identity, Permissions, Rules, Step, Verdict};
use host::asking::{asking, identity};
use host::packets::connect_packet;
use host::{Asked, Client, Node, VERSIONS};
use mqtt::{Auth, Connect, Packet, QoS, ReasonCode, Version};

const CONTINUE: ReasonCode = ReasonCode::CONTINUE_AUTHENTICATION;
const REAUTHENTICATE: ReasonCode = ReasonCode::REAUTHENTICATE;

fn allow() -> Verdict {
    Verdict::Allow { identity: identity(), data: None }
}

fn refuse(reason: ReasonCode) -> Verdict {
    Verdict::Refuse { reason, doubt: None, server_reference: None }
}

fn ask(node: &Node) -> Asked {
    node.question().expect("a question")
}

/// A CONNECT with a method and data of enhanced authentication.
fn with_method<'a>(client_id: &'a str, method: &'a str) -> Connect<'a> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.properties.authentication_method = Some(method);
    connect.properties.authentication_data = Some(b"first");
    connect
}

fn auth<'a>(reason: ReasonCode, method: &'a str, data: &'a [u8]) -> Auth<'a> {
    Auth { reason, method: Some(method), data: Some(data), ..Auth::default() }
}

/// [MQTT-3.1.2-17, MQTT-3.1.2-19, MQTT-3.1.3-12] The host is asked with what the CONNECT says, and the client
/// hears nothing before its answer; then it is let in, at its home.
#[test]
fn host_is_asked() {
    for version in VERSIONS {
        for core in 0..3 {
            let node = asking(3);
            let mut client = node.accept_on(core);
            let mut connect = Connect::new(version, "client");
            connect.username = Some("ü 😀");
            connect.password = Some(b"\0\xFF");
            client.version = version;
            let mut bytes = connect_packet(&connect);
            bytes.extend([0xC0, 0]);
            client.send(&bytes);
            client.expect_silence();
            let asked = ask(&node);
            assert_eq!(asked.question.username.as_deref(), connect.username);
            assert_eq!(asked.question.password.as_deref(), connect.password);
            assert_eq!((asked.question.client_id.as_str(), asked.question.step), ("client", Step::Connect));
            assert_eq!(asked.core.0, core, "where it was accepted");
            node.answer(&asked, allow());
            assert_eq!(client.expect_connack().reason, ReasonCode::SUCCESS);
            assert_eq!(client.expect(), Packet::PingResp);
            assert!(node.question().is_none());
        }
    }
}

/// 3.1.2.9: a 5.0 client may send a password without a user name.
#[test]
fn password_alone() {
    let node = asking(1);
    let mut client = node.accept();
    client.send_connect(&Connect { password: Some(b"secret"), ..Connect::new(Version::V5, "client") });
    let question = ask(&node).question;
    assert_eq!((question.username, question.password.as_deref()), (None, Some(&b"secret"[..])));
}

/// [MQTT-3.2.2-6, MQTT-3.2.2-7, MQTT-3.2.2-8, MQTT-4.13.2-1] and [MQTT-3.2.2-4 of 3.1.1]: a refusal is told in the version's own words, and
/// closes. Whatever the host says, the packet holds a code that it may hold.
#[test]
fn refusals() {
    for (reason, told, old) in [
        (ReasonCode::NOT_AUTHORIZED, 0x87, 5),
        (ReasonCode::BAD_USER_NAME_OR_PASSWORD, 0x86, 4),
        (ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, 0x85, 2),
        (ReasonCode::BANNED, 0x8A, 5),
        (ReasonCode::SERVER_BUSY, 0x89, 3),
        (ReasonCode::CONNECTION_RATE_EXCEEDED, 0x9F, 3),
        (ReasonCode::SESSION_TAKEN_OVER, 0x80, 3),
        (ReasonCode::SUCCESS, 0x80, 3),
    ] {
        for version in VERSIONS {
            let node = asking(2);
            let mut client = node.accept();
            client.send_connect(&Connect::new(version, "client"));
            node.answer(&ask(&node), refuse(reason));
            let connack = client.expect_refused();
            match version {
                Version::V5 => assert_eq!(connack.reason.value(), told),
                _ => assert_eq!(mqtt::connect_return_code(connack.reason), old),
            }
            assert_eq!(node.sessions(), 0);
        }
    }
}

/// 4.11, 3.2.2.3.16 and 3.14.2.2.5: another server is named with 0x9C and 0x9D, in CONNACK and in DISCONNECT; to a
/// client for whom the name is too long the reason alone.
#[test]
fn server_references() {
    for reason in [ReasonCode::USE_ANOTHER_SERVER, ReasonCode::SERVER_MOVED] {
        let verdict =
            || Verdict::Refuse { reason, doubt: None, server_reference: Some("other:1883".to_owned()) };
        let node = asking(1);
        let mut client = node.accept();
        client.send_connect(&Connect::new(Version::V5, "client"));
        node.answer(&ask(&node), verdict());
        let connack = client.expect_refused();
        assert_eq!((connack.reason, connack.properties.server_reference), (reason, Some("other:1883")));

        let mut client = node.accept();
        client.send_connect(&Connect::new(Version::V311, "client"));
        node.answer(&ask(&node), verdict());
        assert_eq!(mqtt::connect_return_code(client.expect_refused().reason), 3);

        let mut client = node.accept();
        client.send_connect(&with_method("client", "m"));
        node.answer(&ask(&node), allow());
        client.expect_connack();
        client.send_auth(&auth(REAUTHENTICATE, "m", b""));
        node.answer(&ask(&node), verdict());
        let disconnect = client.expect_disconnect();
        assert_eq!((disconnect.reason, disconnect.server_reference), (reason, Some("other:1883")));

        let mut client = node.accept();
        let mut connect = Connect::new(Version::V5, "client");
        connect.properties.maximum_packet_size = Some(10);
        client.send_connect(&connect);
        node.answer(&ask(&node), verdict());
        let connack = client.expect_refused();
        assert_eq!((connack.reason, connack.properties.server_reference), (reason, None));
    }
}

/// [MQTT-4.12.0-1] A method that is not known is refused with 0x8C; without authentication all are unknown.
#[test]
fn unknown_method() {
    let mut client = Node::new(1).accept();
    client.send_connect(&with_method("client", "SCRAM-SHA-1"));
    assert_eq!(client.expect_refused().reason, ReasonCode::BAD_AUTHENTICATION_METHOD);
}

/// [MQTT-4.12.0-2, MQTT-4.12.0-3, MQTT-4.12.0-5, MQTT-3.15.1-1, MQTT-3.15.2-1] An exchange of several steps: all
/// AUTH packets and the CONNACK carry the method, the data goes to and fro, and the client goes home at the end.
#[test]
fn exchange() {
    for core in 0..3 {
        for piece_bytes in [1, 65_536] {
            let node = asking(3);
            node.split_input(piece_bytes);
            let mut client = node.accept_on(core);
            client.send_connect(&with_method("client", "GS2-KRB5"));
            let asked = ask(&node);
            assert_eq!(asked.question.method.as_deref(), Some("GS2-KRB5"));
            assert_eq!(asked.question.data.as_deref(), Some(&b"first"[..]));
            node.answer(&asked, Verdict::Continue { data: Some(b"challenge".to_vec()) });
            for round in 0..5 {
                let step = client.expect_auth();
                assert_eq!((step.reason, step.method), (CONTINUE, Some("GS2-KRB5")));
                assert_eq!(step.data, Some(&b"challenge"[..]));
                client.expect_silence();
                client.send_auth(&auth(CONTINUE, "GS2-KRB5", &[round]));
                let asked = ask(&node);
                assert_eq!(
                    (asked.question.step, asked.question.data.as_deref()),
                    (Step::Continue, Some(&[round][..]))
                );
                assert_eq!(asked.question.client_id, "client");
                if round < 4 {
                    node.answer(&asked, Verdict::Continue { data: Some(b"challenge".to_vec()) });
                } else {
                    let data = Some(b"done".to_vec());
                    node.answer(&asked, Verdict::Allow { identity: identity(), data });
                }
            }
            let connack = client.expect_connack();
            assert_eq!(connack.reason, ReasonCode::SUCCESS);
            assert_eq!(connack.properties.authentication_method, Some("GS2-KRB5"));
            assert_eq!(connack.properties.authentication_data, Some(&b"done"[..]));
            client.ping();
        }
    }
}

/// [MQTT-3.15.2-2, MQTT-3.15.2-3] An AUTH holds the method and the data, and neither reason string nor user property; it
/// comes to a client that takes just as much, before CONNACK and after it. One that takes a byte less cannot be
/// authenticated, and no packet is cut for it.
#[test]
fn auth_of_the_size_that_the_client_takes() {
    let data = || Some(vec![7; 100]);
    let bytes = 2 + 1 + 1 + (1 + 2 + 1) + (1 + 2 + 100);
    for (maximum, fits) in [(bytes, true), (bytes - 1, false)] {
        let node = asking(2);
        let mut client = node.accept();
        let mut connect = with_method("client", "m");
        connect.properties.maximum_packet_size = Some(maximum);
        client.send_connect(&connect);
        node.answer(&ask(&node), Verdict::Continue { data: data() });
        if !fits {
            assert_eq!(client.expect_refused().reason, ReasonCode::BAD_AUTHENTICATION_METHOD);
            continue;
        }
        let bare = Auth { reason: CONTINUE, method: Some("m"), data: Some(&[7; 100]), ..Auth::default() };
        assert_eq!(client.expect_auth(), bare);
        client.send_auth(&auth(CONTINUE, "m", b""));
        node.answer(&ask(&node), allow());
        client.expect_connack();
        for (data, reason) in [(data(), CONTINUE), (data(), ReasonCode::SUCCESS)] {
            let step = if reason == CONTINUE { REAUTHENTICATE } else { CONTINUE };
            client.send_auth(&auth(step, "m", b""));
            let verdict = match reason {
                CONTINUE => Verdict::Continue { data },
                _ => Verdict::Allow { identity: identity(), data },
            };
            node.answer(&ask(&node), verdict);
            assert_eq!(client.expect_auth(), Auth { reason, ..bare });
        }
        client.send_auth(&auth(REAUTHENTICATE, "m", b""));
        node.answer(&ask(&node), Verdict::Continue { data: Some(vec![7; 101]) });
        assert_eq!(client.expect_disconnect().reason, ReasonCode::PACKET_TOO_LARGE);
    }
}

/// A client in the exchange that `node` asked about, which owes an AUTH of the method `m`.
fn authenticating(node: &Node) -> Client {
    let mut client = node.accept();
    client.send_connect(&with_method("client", "m"));
    node.answer(&ask(node), Verdict::Continue { data: None });
    client.expect_auth();
    client
}

/// [MQTT-4.12.0-4, MQTT-4.12.0-5, MQTT-3.1.4-6, MQTT-3.1.2-30] In the exchange the client may only go on, with its
/// method, or leave; everything else is answered by a CONNACK and the end.
#[test]
fn exchange_gone_wrong() {
    let packet = |auth: &Auth<'_>| {
        let mut bytes = Vec::new();
        mqtt::encode::auth(&mut bytes, auth);
        bytes
    };
    let alias_0 = vec![0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0];
    for (bytes, reason) in [
        (packet(&auth(CONTINUE, "other", b"")), ReasonCode::BAD_AUTHENTICATION_METHOD),
        (packet(&auth(REAUTHENTICATE, "m", b"")), ReasonCode::PROTOCOL_ERROR),
        (packet(&auth(ReasonCode::SUCCESS, "m", b"")), ReasonCode::PROTOCOL_ERROR),
        (vec![0xF0, 0], ReasonCode::PROTOCOL_ERROR),
        (vec![0xF0, 2, 0x18, 0], ReasonCode::PROTOCOL_ERROR),
        (vec![0xF1, 0], ReasonCode::MALFORMED_PACKET),
        (vec![0xC0, 0], ReasonCode::PROTOCOL_ERROR),
        (connect_packet(&with_method("client", "m")), ReasonCode::PROTOCOL_ERROR),
        (alias_0, ReasonCode::PROTOCOL_ERROR),
        (vec![0x30, 0xFF, 0xFF, 0x7F], ReasonCode::PACKET_TOO_LARGE),
    ] {
        let node = asking(2);
        let mut client = authenticating(&node);
        client.send(&bytes);
        assert_eq!(client.expect_refused().reason, reason, "{bytes:x?}");
        assert!(node.question().is_none());
        assert_eq!(node.sessions(), 0);
    }
    // It leaves: nothing more to say.
    let node = asking(2);
    let mut client = authenticating(&node);
    client.send(&[0xE0, 0]);
    client.expect_closed();
    // It is refused at last [MQTT-4.12.0-4].
    let mut client = authenticating(&node);
    client.send_auth(&auth(CONTINUE, "m", b"x"));
    node.answer(&ask(&node), refuse(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(client.expect_refused().reason, ReasonCode::NOT_AUTHORIZED);
}

/// A client that answers before it has read the question waits until it has: no AUTH is lost on the way to its
/// home core.
#[test]
fn answer_before_the_question() {
    for core in 0..3 {
        let node = asking(3);
        let mut client = node.accept_on(core);
        client.reads(false);
        client.send_connect(&with_method("client", "m"));
        node.answer(&ask(&node), Verdict::Continue { data: None });
        client.send_auth(&auth(CONTINUE, "m", b""));
        assert!(node.question().is_none());
        client.reads(true);
        node.answer(&ask(&node), allow());
        assert_eq!(client.expect_auth().reason, CONTINUE);
        assert_eq!(client.expect_connack().reason, ReasonCode::SUCCESS);
        client.ping();
    }
}

/// The time to CONNECT holds for the whole exchange, the host's thinking included; an answer that comes later
/// changes nothing.
#[test]
fn exchange_in_time() {
    let node = asking(2);
    let mut client = node.accept();
    client.send_connect(&with_method("client", "m"));
    let late = ask(&node);
    node.advance(Duration::from_secs(21));
    client.expect_closed();
    node.answer(&late, allow());
    let mut client = authenticating(&node);
    node.advance(Duration::from_secs(21));
    client.expect_closed();
    assert_eq!((node.connections(), node.sessions(), node.timers()), (0, 0, 0));
    // Nor does an answer for a connection whose slot has a new owner.
    let mut client = node.accept();
    client.send_connect(&with_method("client", "m"));
    let stale = ask(&node);
    client.drop_socket();
    let mut other = node.accept();
    node.answer(&stale, allow());
    other.expect_silence();
}

/// [MQTT-4.12.0-6, MQTT-4.12.0-7] A client that named no method may not send AUTH; and is sent none, even where
/// the host wants to go on with one that cannot.
#[test]
fn auth_without_method() {
    let node = Node::new(1);
    let mut client = node.connect(Version::V5, "client");
    client.send_auth(&auth(REAUTHENTICATE, "m", b""));
    client.expect_ended(ReasonCode::PROTOCOL_ERROR);
    for version in VERSIONS {
        let node = asking(1);
        let mut client = node.accept();
        client.send_connect(&Connect::new(version, "client"));
        node.answer(&ask(&node), Verdict::Continue { data: None });
        assert!(client.expect_refused().reason.is_error());
    }
}

/// A client that is online by the method `m`.
fn online(node: &Node) -> Client {
    let mut client = node.accept();
    client.send_connect(&with_method("client", "m"));
    node.answer(&ask(node), allow());
    assert_eq!(client.expect_connack().properties.authentication_method, Some("m"));
    client
}

/// [MQTT-4.12.1-1] A client that is online may authenticate again, with its method, in several steps, while it goes
/// on with its work; its permissions are the new ones then.
#[test]
fn reauthentication() {
    let node = asking(3);
    let mut client = online(&node);
    client.send_auth(&auth(REAUTHENTICATE, "m", b"again"));
    let asked = ask(&node);
    assert_eq!(
        (asked.question.step, asked.question.data.as_deref()),
        (Step::Reauthenticate, Some(&b"again"[..]))
    );
    client.ping();
    node.answer(&asked, Verdict::Continue { data: Some(b"challenge".to_vec()) });
    let step = client.expect_auth();
    assert_eq!((step.reason, step.method, step.data), (CONTINUE, Some("m"), Some(&b"challenge"[..])));
    client.ping();
    client.send_auth(&auth(CONTINUE, "m", b"answer"));
    let asked = ask(&node);
    assert_eq!(asked.question.step, Step::Continue);
    let permissions = Permissions::Own(Arc::new(Rules::new([])));
    let identity = Identity { permissions, ..identity() };
    node.answer(&asked, Verdict::Allow { identity, data: Some(b"done".to_vec()) });
    let step = client.expect_auth();
    assert_eq!((step.reason, step.method, step.data), (ReasonCode::SUCCESS, Some("m"), Some(&b"done"[..])));
    let packet_id = client.publish("a", QoS::AtLeastOnce, "");
    let puback = client.expect_ack(mqtt::PacketKind::PubAck, packet_id);
    assert_eq!(puback.reason, ReasonCode::NOT_AUTHORIZED);
    client.send_auth(&auth(REAUTHENTICATE, "m", b""));
    node.answer(&ask(&node), allow());
    assert_eq!(client.expect_auth().reason, ReasonCode::SUCCESS);
}

/// [MQTT-4.12.1-2] A re-authentication that fails, or is out of turn, ends the connection.
#[test]
fn reauthentication_gone_wrong() {
    let start = |client: &mut Client| client.send_auth(&auth(REAUTHENTICATE, "m", b""));
    let node = asking(1);
    for (reason, told) in [(ReasonCode::NOT_AUTHORIZED, 0x87), (ReasonCode::BAD_USER_NAME_OR_PASSWORD, 0x87)]
    {
        let mut client = online(&node);
        start(&mut client);
        node.answer(&ask(&node), refuse(reason));
        assert_eq!(client.expect_disconnect().reason.value(), told);
    }
    for (before, then) in [
        (None, auth(CONTINUE, "m", b"")),
        (None, auth(ReasonCode::SUCCESS, "m", b"")),
        (None, auth(REAUTHENTICATE, "other", b"")),
        (Some(()), auth(REAUTHENTICATE, "m", b"")),
        // The host has not asked for it.
        (Some(()), auth(CONTINUE, "m", b"")),
    ] {
        let mut client = online(&node);
        if before.is_some() {
            start(&mut client);
            ask(&node);
        }
        client.send_auth(&then);
        client.expect_ended(ReasonCode::PROTOCOL_ERROR);
        assert!(node.question().is_none(), "{then:?}");
    }
}

/// Bytes that come while the host thinks are not wanted, and not lost: they are bounded by what was on its way.
#[test]
fn bytes_while_the_host_thinks() {
    let node = asking(1);
    let mut client = node.accept();
    client.version = Version::V5;
    let mut bytes = connect_packet(&Connect::new(Version::V5, "client"));
    let pings = 500_000;
    bytes.extend([0xC0, 0].repeat(pings));
    client.send(&bytes);
    assert!(client.unreceived() > 900_000, "{} not taken", client.unreceived());
    node.answer(&ask(&node), allow());
    client.expect_connack();
    assert_eq!(client.packets().len(), pings);
}

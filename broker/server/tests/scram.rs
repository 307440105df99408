//! Logins by SCRAM-SHA-256, for a client over a plain socket that knows nothing of the broker's own implementation.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mqtt::{Auth, Connect, Limits, Packet, ReasonCode, Version, encode};
use pbkdf2::hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::support::{Broker, DEADLINE};

const METHOD: &str = "SCRAM-SHA-256";

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// A client's end of a socket, which speaks MQTT 5.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What a client has to say, and what it expects to hear in the end.
struct Proof {
    message: Vec<u8>,
    signature: Vec<u8>,
}

/// What a packet of the broker says, so far as an exchange needs it.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    ConnAck(u8, Vec<u8>),
    Auth(u8, Vec<u8>),
    Disconnect(u8),
}

impl Client {
    fn new(broker: &Broker) -> Client {
        let stream = TcpStream::connect(broker.address()).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Client { stream, received: Vec::new() }
    }

    fn connect(&mut self, method: &str, data: &str) {
        let mut connect = Connect::new(Version::V5, "client");
        connect.properties.authentication_method = Some(method);
        connect.properties.authentication_data = Some(data.as_bytes());
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        self.stream.write_all(&bytes).expect("it is open");
    }

    fn auth(&mut self, reason: ReasonCode, data: &[u8]) {
        let auth = Auth { reason, method: Some(METHOD), data: Some(data), ..Auth::default() };
        let mut bytes = Vec::new();
        encode::auth(&mut bytes, &auth);
        self.stream.write_all(&bytes).expect("it is open");
    }

    fn hear(&mut self) -> Said {
        loop {
            let decoded = mqtt::decode(Version::V5, &self.received, &Limits::PROTOCOL).expect("MQTT");
            if let Some((packet, used)) = decoded {
                let data = |data: Option<&[u8]>| data.unwrap_or_default().to_vec();
                let said = match packet {
                    Packet::ConnAck(connack) => {
                        Said::ConnAck(connack.reason.value(), data(connack.properties.authentication_data))
                    }
                    Packet::Auth(auth) => Said::Auth(auth.reason.value(), data(auth.data)),
                    Packet::Disconnect(disconnect) => Said::Disconnect(disconnect.reason.value()),
                    other => panic!("{other:?}"),
                };
                self.received.drain(..used);
                return said;
            }
            let mut bytes = [0; 512];
            let count = self.stream.read(&mut bytes).expect("it answers");
            assert!(count > 0, "it does not close without a word");
            self.received.extend_from_slice(&bytes[..count]);
        }
    }

    /// The next step of the exchange that began with `first` (without its header).
    fn prove(&mut self, first: &str, password: &str) -> Proof {
        let Said::Auth(0x18, answer) = self.hear() else { panic!("a step of the exchange") };
        let answer = String::from_utf8(answer).expect("text");
        let [nonce, salt, iterations] =
            ["r=", "s=", "i="].map(|name| answer.split(',').find_map(|field| field.strip_prefix(name)));
        let salt = STANDARD.decode(salt.expect("a salt")).expect("base64");
        let mut salted = [0; 32];
        let iterations = iterations.expect("iterations").parse().expect("a number");
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
        let last = format!("c=biws,r={}", nonce.expect("a nonce"));
        let said = format!("{first},{answer},{last}");
        let key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(&key), said.as_bytes());
        let proof: Vec<u8> = key.iter().zip(&signature).map(|(key, byte)| key ^ byte).collect();
        let ours = hmac(&hmac(&salted, b"Server Key"), said.as_bytes());
        Proof {
            message: format!("{last},p={}", STANDARD.encode(proof)).into_bytes(),
            signature: format!("v={}", STANDARD.encode(ours)).into_bytes(),
        }
    }
}

/// A broker whose password file has ann, by SCRAM, and dan, who is not.
fn start(folder: &TempDir) -> Broker {
    let file = folder.path().join("passwords");
    let path = file.to_str().expect("UTF-8");
    for (user, further) in [("ann", Some("--scram")), ("dan", None)] {
        let mut passwd = Command::new(env!("CARGO_BIN_EXE_hermod"))
            .args(["passwd", path, user, "--password-stdin"])
            .args(further)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        passwd.stdin.take().expect("it is piped").write_all(b"secret\n").expect("it reads");
        assert!(passwd.wait().expect("it ends").success());
    }
    Broker::start(&["--password-file", path])
}

/// Who knows the password is let in, and the broker proves that it knows the user, too; online it may be done again, in
/// as many steps, and only as the same user. Whoever cannot prove it is refused, known or not.
#[test]
fn exchange() {
    let folder = TempDir::new().expect("a folder");
    let broker = start(&folder);
    let mut client = Client::new(&broker);
    let first = "n=ann,r=fyko+d2lbbFgONRv9qkxdawL";
    client.connect(METHOD, &format!("n,,{first}"));
    let Proof { message, signature } = client.prove(first, "secret");
    client.auth(ReasonCode::CONTINUE_AUTHENTICATION, &message);
    assert_eq!(client.hear(), Said::ConnAck(0, signature));

    client.auth(ReasonCode::REAUTHENTICATE, format!("n,,{first}").as_bytes());
    let Proof { message, signature } = client.prove(first, "secret");
    client.auth(ReasonCode::CONTINUE_AUTHENTICATION, &message);
    assert_eq!(client.hear(), Said::Auth(0, signature));

    client.auth(ReasonCode::REAUTHENTICATE, format!("n,,{first}").as_bytes());
    let Proof { message, .. } = client.prove(first, "wrong");
    client.auth(ReasonCode::CONTINUE_AUTHENTICATION, &message);
    assert_eq!(client.hear(), Said::Disconnect(0x87));

    for (user, password) in [("ann", "wrong"), ("eve", "secret"), ("dan", "secret")] {
        let mut client = Client::new(&broker);
        let first = format!("n={user},r=abc");
        client.connect(METHOD, &format!("n,,{first}"));
        let Proof { message, .. } = client.prove(&first, password);
        client.auth(ReasonCode::CONTINUE_AUTHENTICATION, &message);
        assert_eq!(client.hear(), Said::ConnAck(0x87, Vec::new()), "{user}");
    }
    for (method, data, reason) in [("SCRAM-SHA-1", "n,,n=ann,r=a", 0x8c), (METHOD, "hello", 0x87)] {
        let mut client = Client::new(&broker);
        client.connect(method, data);
        assert_eq!(client.hear(), Said::ConnAck(reason, Vec::new()), "{method}");
    }
    broker.stop();
}

/// What is stored for SCRAM lets a client in by the password itself, too.
#[test]
fn password_beside_it() {
    let folder = TempDir::new().expect("a folder");
    let broker = start(&folder);
    for (password, reason) in [("secret", 0), ("wrong", 0x86)] {
        let mut client = Client::new(&broker);
        let mut connect = Connect::new(Version::V5, "client");
        (connect.username, connect.password) = (Some("ann"), Some(password.as_bytes()));
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        client.stream.write_all(&bytes).expect("it is open");
        assert_eq!(client.hear(), Said::ConnAck(reason, Vec::new()));
    }
    broker.stop();
}

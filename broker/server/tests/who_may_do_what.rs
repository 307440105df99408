//! Passwords and permissions from files, for real clients: what `mosquitto_passwd` has written, what `hermod
//! passwd` writes, what Mosquitto's access lists say, and what a reload changes.

#[path = "support/client.rs"]
mod client;
mod support;

/// The library's client for MQTT 3.1.1.
mod library {
    pub use rumqttc::mqttbytes::QoS;
    pub use rumqttc::{
        AsyncClient, ConnAck, ConnectReturnCode, ConnectionError, Event, MqttOptions, Packet, Publish,
        SubscribeReasonCode,
    };
}

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use base64::Engine;
use serde_json::json;
use tempfile::TempDir;

use self::client::{Client, text};
use self::library::{ConnectReturnCode, ConnectionError, MqttOptions, Packet, QoS, SubscribeReasonCode};
use self::support::{Broker, DEADLINE};

/// Written by `mosquitto_passwd` 2.0.11, the last with `-H sha512`.
const PASSWORDS: &str = "\
ann:$7$101$kG712y/W4xwQJkzG$4f9cG7u4IgWWG6E8zxtGXeaZnDuzq5Jb3YTsiwFC8tPCZ8bOb5oiKhq2bEx8/8iHoBFepcxcKtoMUo2yXyatiw==
dan:$7$20000$cP1eBvD4PPQrSnNj$dAmbG8JE/dp+kJfLXNOK8bz7GyQqntP0TmmPxbYDnLzv2ROAzXSzDTXQT9Sxnlo7x7UeuarFe1UojNEFifFitw==
old:$6$Bw5r4tdgffc8QO6w$p8hPo1AfICYJGm2HC/BTFPc/tMmcSTeeEg5HtyJmv4s4Gnmw2iluJ7DDZjBNgCLTvaa5jEJR8IFJyZEDBterKA==
";

const ACCESS: &str = "\
# Everybody without a name
topic read news/#

user ann
topic home/ann/#
topic deny home/ann/safe
topic write news/today

user dan
topic read #

pattern readwrite dev/%u/%c/#
";

/// Files of a broker, in a folder that goes with the test.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Files {
        let files = Files { folder: TempDir::new().expect("a folder") };
        files.write("passwords", PASSWORDS);
        files.write("access", ACCESS);
        files
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("a readable path").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the folder can be written to");
    }

    fn start(&self, further: &[&str]) -> Broker {
        let (passwords, access) = (self.path("passwords"), self.path("access"));
        let arguments = [&["--password-file", &passwords, "--acl-file", &access], further].concat();
        Broker::start(&arguments)
    }

    /// `hermod passwd` on the password file, with this on its standard input.
    fn passwd(&self, arguments: &[&str], input: &str) -> Output {
        let mut process = Command::new(env!("CARGO_BIN_EXE_hermod"))
            .args(["passwd", &self.path("passwords")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // It need not read what it does not want.
        let _ = process.stdin.take().expect("it is piped").write_all(input.as_bytes());
        process.wait_with_output().expect("it ends")
    }
}

fn options(broker: &Broker, id: &str, login: Option<(&str, &str)>) -> MqttOptions {
    let mut options = MqttOptions::new(id, broker.address().ip().to_string(), broker.address().port());
    if let Some((user, password)) = login {
        options.set_credentials(user, password);
    }
    options
}

async fn connect(broker: &Broker, id: &str, login: Option<(&str, &str)>) -> Client {
    Client::connect(options(broker, id, login)).await
}

/// Connects and is refused.
async fn refused(broker: &Broker, id: &str, login: Option<(&str, &str)>) -> ConnectReturnCode {
    match Client::try_connect(options(broker, id, login)).await {
        Err(ConnectionError::ConnectionRefused(code)) => code,
        Err(error) => panic!("{id} is refused by CONNACK and not by {error}"),
        Ok(_) => panic!("{id} is refused"),
    }
}

/// Users that `mosquitto_passwd` knows are let in with their passwords, nobody else is, and nobody without.
#[tokio::test]
async fn passwords_of_mosquitto() {
    let files = Files::new();
    let broker = files.start(&[]);
    for (user, password) in [("ann", "correct horse"), ("dan", "secret"), ("old", "old secret")] {
        connect(&broker, user, Some((user, password))).await.disconnect().await;
        for wrong in ["", "Secret", "correct horse "] {
            let code = refused(&broker, user, Some((user, wrong))).await;
            assert_eq!(code, ConnectReturnCode::BadUserNamePassword);
        }
    }
    let code = refused(&broker, "eve", Some(("eve", "secret"))).await;
    assert_eq!(code, ConnectReturnCode::BadUserNamePassword);
    assert_eq!(refused(&broker, "nobody", None).await, ConnectReturnCode::NotAuthorized);
    broker.stop();
}

/// An access list of Mosquitto does what it does there: subscriptions are accepted, deliveries judged, what may
/// not be published reaches nobody and is acknowledged all the same.
#[tokio::test]
async fn access_list_of_mosquitto() {
    let files = Files::new();
    let broker = files.start(&["--allow-anonymous"]);
    let mut ann = connect(&broker, "lamp", Some(("ann", "correct horse"))).await;
    let mut dan = connect(&broker, "dan", Some(("dan", "secret"))).await;
    let mut nobody = connect(&broker, "nobody", None).await;
    for client in [&mut ann, &mut dan, &mut nobody] {
        let Packet::SubAck(answer) = client.subscribe("#", QoS::AtLeastOnce).await else { unreachable!() };
        assert_eq!(answer.return_codes, [SubscribeReasonCode::Success(QoS::AtLeastOnce)]);
    }
    for topic in [
        "home/ann/lamp",
        "home/ann/safe",
        "home/dan",
        "news/today",
        "news/old",
        "dev/ann/lamp/a",
        "dev/ann/b",
    ] {
        ann.publish(topic, QoS::AtLeastOnce, false, topic.as_bytes()).await;
    }
    dan.publish("dev/dan/dan/x", QoS::AtLeastOnce, false, b"end").await;
    dan.publish("home/ann/lamp", QoS::AtLeastOnce, false, b"dan may not").await;
    nobody.publish("news/today", QoS::AtLeastOnce, false, b"nobody may").await;
    ann.publish("news/today", QoS::AtLeastOnce, false, b"end").await;
    ann.publish("dev/ann/lamp/end", QoS::AtLeastOnce, false, b"end").await;
    let mut received = Vec::new();
    for (client, last) in
        [(&mut ann, "dev/ann/lamp/end"), (&mut dan, "dev/ann/lamp/end"), (&mut nobody, "news/today")]
    {
        let mut topics = Vec::new();
        loop {
            let message = client.message().await;
            topics.push(message.topic.clone());
            if message.topic == last && text(&message.payload) == "end" {
                break;
            }
        }
        received.push(topics);
    }
    assert_eq!(received[0], ["home/ann/lamp", "dev/ann/lamp/a", "dev/ann/lamp/end"]);
    assert_eq!(
        received[1],
        ["home/ann/lamp", "news/today", "dev/ann/lamp/a", "dev/dan/dan/x", "news/today", "dev/ann/lamp/end"]
    );
    assert_eq!(received[2], ["news/today", "news/today"]);
    broker.stop();
}

/// `hermod passwd` adds, replaces and takes away; SIGHUP makes a running broker see it, and an access list too,
/// for clients that are online. Nobody who is still in it is disconnected. A broken file is named, and the old one holds.
#[tokio::test]
async fn reload_keeps_clients() {
    let files = Files::new();
    let mut broker = files.start(&[]);
    let mut dan = connect(&broker, "dan", Some(("dan", "secret"))).await;
    dan.subscribe("#", QoS::AtLeastOnce).await;
    let mut ann = connect(&broker, "lamp", Some(("ann", "correct horse"))).await;
    assert!(files.passwd(&["eve", "--password-stdin"], "new\n").status.success());
    assert!(files.passwd(&["old", "--delete"], "").status.success());
    files.write("access", "user dan\ntopic read only/#\nuser ann\ntopic #\nuser eve\ntopic #\n");
    broker.signal("HUP");
    broker.wait_for_log("loaded again");

    let mut eve = connect(&broker, "eve", Some(("eve", "new"))).await;
    let code = refused(&broker, "old", Some(("old", "old secret"))).await;
    assert_eq!(code, ConnectReturnCode::BadUserNamePassword);
    for client in [&mut ann, &mut eve] {
        client.publish("home/ann/lamp", QoS::AtLeastOnce, false, b"before the reload he saw it").await;
        client.publish("only/dan", QoS::AtLeastOnce, false, b"now this").await;
        assert_eq!(text(&dan.message().await.payload), "now this");
    }

    files.write("access", "user dan\ntopic reed #\n");
    broker.signal("HUP");
    broker.wait_for_log("stays as it was");
    let line = broker.wait_for_log(": line 2: ");
    assert!(line.contains("auth.acl_file"), "{line}");
    eve.publish("secret", QoS::AtLeastOnce, false, b"not for dan").await;
    eve.publish("only/dan", QoS::AtLeastOnce, false, b"still this").await;
    assert_eq!(text(&dan.message().await.payload), "still this");
    broker.stop();
}

/// Who is taken out of the password file is disconnected with the reload, and who stands in the list of those who are
/// kept out; nobody else is, and who is taken out of the list is let in again.
#[tokio::test]
async fn reload_disconnects_who_is_gone() {
    let files = Files::new();
    files.write("bans", "");
    files.write("hermod.toml", &format!("[auth]\nban_file = '{}'\n", files.path("bans")));
    let mut broker = files.start(&["--config", &files.path("hermod.toml")]);
    let mut ann = connect(&broker, "lamp", Some(("ann", "correct horse"))).await;
    let dan = connect(&broker, "dan", Some(("dan", "secret"))).await;
    let old = connect(&broker, "old", Some(("old", "old secret"))).await;
    assert!(files.passwd(&["old", "--delete"], "").status.success());
    files.write("bans", "user dan\nclient other\n");
    broker.signal("HUP");
    old.closed().await;
    dan.closed().await;
    ann.publish("home/ann/lamp", QoS::AtLeastOnce, false, b"she stays").await;
    for (id, login) in [("dan", ("dan", "secret")), ("other", ("ann", "correct horse"))] {
        assert_eq!(refused(&broker, id, Some(login)).await, ConnectReturnCode::NotAuthorized);
    }
    files.write("bans", "client other\n");
    broker.signal("HUP");
    // The reload is over when somebody else is kept out no more.
    while Client::try_connect(options(&broker, "dan", Some(("dan", "secret")))).await.is_err() {}
    files.write("bans", "kient other\n");
    broker.signal("HUP");
    let line = broker.wait_for_log(": line 1: ");
    assert!(line.contains("auth.ban_file"), "{line}");
    broker.stop();
}

/// Tokens of an issuer are passwords: they say who the client is, under whatever user name, and what it may do;
/// when one runs out, the connection ends. Users of the password file are let in beside them.
#[tokio::test]
async fn tokens_of_an_issuer() {
    let files = Files::new();
    files.write("key", "a secret of at least 32 bytes, for this test\n");
    files.write(
        "hermod.toml",
        &format!("[auth]\njwt_key_file = '{}'\njwt_leeway_seconds = 0\n", files.path("key")),
    );
    let broker = files.start(&["--config", &files.path("hermod.toml")]);
    let token = |claims: serde_json::Value| {
        let key = jsonwebtoken::EncodingKey::from_secret(b"a secret of at least 32 bytes, for this test");
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("it can be signed")
    };
    let now = jsonwebtoken::get_current_timestamp();
    let good = token(json!({"sub": "ann", "exp": now + 600, "acl": {"pub": ["a/#"], "sub": ["a/#"]}}));
    let mut ann = connect(&broker, "ann", Some(("whoever", &good))).await;
    let mut dan = connect(&broker, "dan", Some(("dan", "secret"))).await;
    dan.subscribe("#", QoS::AtLeastOnce).await;
    let Packet::SubAck(answer) = ann.subscribe("b", QoS::AtLeastOnce).await else { unreachable!() };
    assert_eq!(answer.return_codes, [SubscribeReasonCode::Failure]);
    ann.publish("b", QoS::AtLeastOnce, false, b"she may not").await;
    ann.publish("a/b", QoS::AtLeastOnce, false, b"she may").await;
    assert_eq!(text(&dan.message().await.payload), "she may");
    let expired = token(json!({"sub": "ann", "exp": now - 1}));
    for password in [&expired, &format!("{good}x"), "a.b.c"] {
        let code = refused(&broker, "ann-2", Some(("ann", password))).await;
        assert_eq!(code, ConnectReturnCode::BadUserNamePassword);
    }
    let short = token(json!({"sub": "bob", "exp": jsonwebtoken::get_current_timestamp() + 2}));
    connect(&broker, "bob", Some(("bob", &short))).await.closed().await;
    broker.stop();
}

/// An issuer's set of keys is read again on SIGHUP: tokens of a key that is gone let nobody in any more, those of a new
/// one do, and who is there stays.
#[tokio::test]
async fn keys_of_an_issuer_rotate() {
    let files = Files::new();
    let secret = |id: &str| format!("a secret of at least 32 bytes, of the key {id}");
    let set = |id: &str| {
        let octets = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret(id));
        json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": id, "k": octets}]}).to_string()
    };
    let token = |id: &str| {
        let header = jsonwebtoken::Header { kid: Some(id.to_owned()), ..jsonwebtoken::Header::default() };
        let claims = json!({"sub": "ann", "exp": jsonwebtoken::get_current_timestamp() + 600});
        let key = jsonwebtoken::EncodingKey::from_secret(secret(id).as_bytes());
        jsonwebtoken::encode(&header, &claims, &key).expect("it can be signed")
    };
    files.write("keys", &set("old"));
    files.write("hermod.toml", &format!("[auth]\njwt_key_file = '{}'\n", files.path("keys")));
    let mut broker = files.start(&["--config", &files.path("hermod.toml")]);
    let mut stays = connect(&broker, "stays", Some(("ann", &token("old")))).await;
    let early = refused(&broker, "early", Some(("ann", &token("new")))).await;
    assert_eq!(early, ConnectReturnCode::BadUserNamePassword);
    files.write("keys", &set("new"));
    broker.signal("HUP");
    broker.wait_for_log("the configuration is loaded again");
    connect(&broker, "later", Some(("ann", &token("new")))).await;
    let late = refused(&broker, "late", Some(("ann", &token("old")))).await;
    assert_eq!(late, ConnectReturnCode::BadUserNamePassword);
    stays.subscribe("a", QoS::AtLeastOnce).await;
    broker.stop();
}

/// A storm of logins, more than may wait: those beyond wait in the kernel until there is room, nobody is refused, and
/// who was there before goes on.
#[tokio::test]
async fn login_storm() {
    let files = Files::new();
    files.write("access", "user ann\ntopic #\n");
    files.write("hermod.toml", "[auth]\nlogin_threads = 1\nlogin_queue_max = 1\n");
    let broker = files.start(&["--config", &files.path("hermod.toml"), "--connect-timeout-seconds=600"]);
    let mut ann = connect(&broker, "ann", Some(("ann", "correct horse"))).await;
    ann.subscribe("pulse", QoS::AtLeastOnce).await;
    let address = broker.address();
    let storm = tokio::task::spawn_blocking(move || log_in_at_once(address, 50));
    for number in 0..20 {
        let payload = number.to_string();
        ann.publish("pulse", QoS::AtLeastOnce, false, payload.as_bytes()).await;
        assert_eq!(text(&ann.message().await.payload), payload);
    }
    assert_eq!(storm.await.expect("it ends"), [[0x20, 2, 0, 0]; 50]);
    ann.publish("pulse", QoS::AtLeastOnce, false, b"after").await;
    assert_eq!(text(&ann.message().await.payload), "after");
    broker.stop();
}

/// What so many clients are told that say who they are at the same moment.
fn log_in_at_once(address: SocketAddr, clients: u8) -> Vec<[u8; 4]> {
    let mut sockets = Vec::new();
    for number in 0..clients {
        let mut socket = TcpStream::connect(address).expect("it listens");
        let mut packet = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 0xc2, 0, 0, 0, 1, number + 1];
        for text in ["ann", "correct horse"] {
            packet.extend([0, text.len() as u8]);
            packet.extend(text.as_bytes());
        }
        packet[1] = packet.len() as u8 - 2;
        socket.write_all(&packet).expect("there is room");
        sockets.push(socket);
    }
    let answer = |mut socket: TcpStream| {
        let mut answer = [0; 4];
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        socket.read_exact(&mut answer).expect("an answer");
        answer
    };
    sockets.into_iter().map(answer).collect()
}

/// In a directory whose files are its group's, as the service's, its group can read what `hermod passwd` writes.
#[test]
fn passwd_leaves_the_group_what_is_the_groups() {
    let files = Files::new();
    let folder = std::path::PathBuf::from(files.path("passwords")).parent().unwrap().to_owned();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let own = mode(&folder);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o2770)).unwrap();
    assert!(files.passwd(&["ann", "--password-stdin"], "other").status.success());
    assert_eq!(mode(&folder.join("passwords")), 0o640);
    fs::set_permissions(&folder, fs::Permissions::from_mode(own)).unwrap();
    assert!(files.passwd(&["ann", "--password-stdin"], "another").status.success());
    assert_eq!(mode(&folder.join("passwords")), 0o600);
}

/// `hermod passwd` writes files that only their owner can read, says what is wrong, and then changes nothing.
#[test]
fn passwd_writes_files() {
    let files = Files::new();
    let read = || fs::read_to_string(files.path("passwords")).unwrap();
    assert!(files.passwd(&["ann", "--password-stdin"], "other\r\n").status.success());
    let (first, rest) = PASSWORDS.split_once('\n').unwrap();
    let edited = read();
    let (replaced, untouched) = edited.split_once('\n').unwrap();
    assert!(replaced.starts_with("ann:$argon2id$") && replaced != first, "{replaced}");
    assert_eq!(untouched, rest);
    let mode = fs::metadata(files.path("passwords")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (arguments, input, says) in [
        (&["nobody", "--delete"][..], "", "no such user"),
        (&["a:b", "--password-stdin"], "x", "no colon"),
        (&["", "--password-stdin"], "x", "1 to 65535"),
        (&["ann", "--password-stdin"], "", "a password has"),
    ] {
        let output = files.passwd(arguments, input);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(says), "{arguments:?}: {error}");
        assert_eq!(read(), edited);
    }
    fs::write(files.path("passwords"), "ann:plain\n").unwrap();
    let output = files.passwd(&["bob", "--password-stdin"], "x");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("line 1") && read() == "ann:plain\n", "{error}");
    let nowhere = files.path("nowhere/passwords");
    let output =
        Command::new(env!("CARGO_BIN_EXE_hermod")).args(["passwd", &nowhere, "ann", "--delete"]).output();
    let error = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(error.contains(&nowhere), "{error}");
    fs::remove_file(files.path("passwords")).unwrap();
    assert!(files.passwd(&["bob", "--password-stdin"], "x").status.success());
    assert!(read().starts_with("bob:$argon2id$"));
    let left: Vec<_> = fs::read_dir(Path::new(&files.path("."))).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing is left aside: {left:?}");
}

/// A broker that others can reach does not start for strangers, unless that was said by name; one whose files
/// are broken does not start at all.
#[test]
fn careless_starts_are_refused() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hermod"));
        let output = command.args(["--listen", "tcp://0.0.0.0:0"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = run(&[]);
    assert!(error.contains("allow_anonymous") && error.contains("password_file"), "{error}");
    let files = Files::new();
    let error = run(&["--password-file", &files.path("missing")]);
    assert!(error.contains("password_file") && error.contains("missing"), "{error}");
    let error = run(&["--password-file", &files.path("access")]);
    assert!(error.contains("line 2"), "{error}");
}

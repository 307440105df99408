//! Logins and permissions by a service that is asked over HTTP, for real clients and a service that counts its questions.

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

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::client::{Client, text};
use self::library::{ConnectReturnCode, ConnectionError, MqttOptions, Packet, QoS, SubscribeReasonCode};
use self::support::{Broker, DEADLINE};

/// A service: what it answers by path and question; None: nothing, until the asker gives up.
type Answers = fn(&str, &Value) -> Option<Value>;

struct Service {
    address: SocketAddr,
    /// Paths and questions, as they come.
    questions: Receiver<(String, Value)>,
}

impl Service {
    fn start(answers: Answers) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (asked, questions) = channel();
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let asked = asked.clone();
                // Ends with the connection, and that with the broker.
                let _ = std::thread::Builder::new().spawn(move || answer_all(stream, answers, &asked));
            }
        };
        std::thread::Builder::new().spawn(serve).expect("a thread");
        Service { address, questions }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn question(&self) -> (String, Value) {
        self.questions.recv_timeout(DEADLINE).expect("it is asked")
    }

    fn is_asked_nothing_more(&self) -> bool {
        self.questions.try_recv().is_err()
    }
}

fn answer_all(stream: impl Read + Write, answers: Answers, asked: &Sender<(String, Value)>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok()?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let question: Value = serde_json::from_slice(&body).ok()?;
        let answer = answers(&path, &question);
        asked.send((path, question)).ok()?;
        if let Some(answer) = answer {
            let text = answer.to_string();
            let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            let writer = reader.get_mut();
            writer.write_all(whole.as_bytes()).and_then(|()| writer.flush()).ok()?;
        }
    }
}

/// What a service shows under TLS, and the file of whoever is to trust it.
fn certificate(folder: &TempDir, name: &str) -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    let file = folder.path().join(name);
    std::fs::write(&file, made.cert.pem()).expect("the folder can be written to");
    (Arc::new(config), file.to_str().expect("UTF-8").to_owned())
}

/// Over TLS a service is asked if its certificate is of an authority that is named, and not told a password if not.
#[tokio::test]
async fn service_under_tls() {
    let folder = TempDir::new().expect("a folder");
    let (config, trusted) = certificate(&folder, "trusted.pem");
    let (_, other) = certificate(&folder, "other.pem");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let (asked, questions) = channel();
    let serve = move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let stream = StreamOwned::new(connection, socket);
            let _ = answer_all(stream, |_, _| Some(json!({"result": "allow"})), &asked);
        }
    };
    std::thread::Builder::new().spawn(serve).expect("a thread");
    let settings = |authority: &str| {
        format!("webhook_url = 'https://localhost:{port}/'\nwebhook_ca = '{authority}'\nlogin_threads = 1")
    };
    let broker = start(&folder, &settings(&other));
    let refused = connect(&broker, "ann", ("ann", "secret")).await.err();
    assert_eq!(refused, Some(ConnectReturnCode::ServiceUnavailable));
    broker.stop();
    assert!(questions.try_recv().is_err());
    let broker = start(&folder, &settings(&trusted));
    for id in ["ann", "bob"] {
        assert!(connect(&broker, id, (id, "secret")).await.is_ok());
    }
    broker.stop();
    assert_eq!(questions.try_iter().count(), 2);
}

fn start(folder: &TempDir, settings: &str) -> Broker {
    let file = folder.path().join("hermod.toml");
    std::fs::write(&file, format!("[tenants.acme]\n[auth]\n{settings}\n")).expect("it can be written to");
    Broker::start(&["--config", file.to_str().expect("UTF-8")])
}

async fn connect(broker: &Broker, id: &str, login: (&str, &str)) -> Result<Client, ConnectReturnCode> {
    let mut options = MqttOptions::new(id, broker.address().ip().to_string(), broker.address().port());
    options.set_credentials(login.0, login.1);
    match Client::try_connect(options).await {
        Ok(client) => Ok(client),
        Err(ConnectionError::ConnectionRefused(code)) => Err(code),
        Err(error) => panic!("{id} is refused by CONNACK and not by {error}"),
    }
}

/// The service says who is let in, as whom, and what for; its answer holds for the same question.
#[tokio::test]
async fn service_decides() {
    let service = Service::start(|_, question| {
        Some(match question["username"].as_str() {
            Some("ann") if question["password"] == "right" => {
                json!({"result": "allow", "user": "Ann", "acl": {"pub": ["a/#"], "sub": ["a/#"]}})
            }
            Some("of-acme") => json!({"result": "allow", "tenant": "acme"}),
            Some("of-nobody") => json!({"result": "allow", "tenant": "nobody"}),
            Some("odd") => json!({"result": "allow", "acl": "everything"}),
            Some("unsure") => json!({"result": "perhaps"}),
            Some("ignored") => json!({"result": "ignore"}),
            _ => json!({"result": "deny"}),
        })
    });
    let folder = TempDir::new().expect("a folder");
    let broker = start(&folder, &format!("webhook_url = '{}'\nlogin_threads = 1", service.url("/login")));
    let mut ann = connect(&broker, "ann", ("ann", "right")).await.expect("let in");
    let (path, question) = service.question();
    assert_eq!((path.as_str(), &question["client_id"]), ("/login", &json!("ann")));
    assert_eq!((&question["peer"], &question["listener"]), (&json!("127.0.0.1"), &json!(0)));

    let Packet::SubAck(answer) = ann.subscribe("b", QoS::AtLeastOnce).await else { unreachable!() };
    assert_eq!(answer.return_codes, [SubscribeReasonCode::Failure]);
    ann.subscribe("a/#", QoS::AtLeastOnce).await;
    let mut other = connect(&broker, "other", ("of-acme", "")).await.expect("let in");
    other.publish("a/b", QoS::AtLeastOnce, false, b"in another tenant").await;
    ann.publish("a/b", QoS::AtLeastOnce, false, b"in this one").await;
    assert_eq!(text(&ann.message().await.payload), "in this one");
    service.question();

    drop(connect(&broker, "ann", ("ann", "right")).await.expect("let in by what was said before"));
    assert!(service.is_asked_nothing_more());
    for (user, code) in [
        ("ann", ConnectReturnCode::BadUserNamePassword),
        ("ignored", ConnectReturnCode::BadUserNamePassword),
        ("of-nobody", ConnectReturnCode::ServiceUnavailable),
        ("odd", ConnectReturnCode::ServiceUnavailable),
        ("unsure", ConnectReturnCode::ServiceUnavailable),
    ] {
        assert_eq!(connect(&broker, user, (user, "wrong")).await.err(), Some(code), "{user}");
    }
    broker.stop();
}

/// What a service says holds no longer than it says itself, in whole seconds or not, by our name or EMQX's: after that
/// it is asked again, and who is let in by what is over already is not.
#[tokio::test]
async fn answers_that_end() {
    let service = Service::start(|_, question| {
        Some(match question["username"].as_str() {
            Some("over") => json!({"result": "allow", "expires_at": 1_000_000_000}),
            Some("emqx") => json!({"result": "allow", "expire_at": 1_000_000_000.5}),
            Some("odd") => json!({"result": "allow", "expires_at": "tomorrow"}),
            _ => json!({"result": "allow", "expires_at": 10_000_000_000.5}),
        })
    });
    let folder = TempDir::new().expect("a folder");
    let broker = start(&folder, &format!("webhook_url = '{}'\nlogin_threads = 1", service.url("/")));
    for user in ["over", "over", "emqx"] {
        let refused = connect(&broker, user, (user, "x")).await.err();
        assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized), "{user}");
        assert_eq!(service.question().1["username"], json!(user));
    }
    let refused = connect(&broker, "odd", ("odd", "x")).await.err();
    assert_eq!(refused, Some(ConnectReturnCode::ServiceUnavailable));
    assert!(connect(&broker, "ann", ("ann", "x")).await.is_ok());
    broker.stop();
}

/// A service that hangs, or is not there, lets nobody in; when it is back, it does.
#[tokio::test]
async fn service_that_does_not_answer() {
    let service =
        Service::start(|_, question| (question["username"] != "slow").then(|| json!({"result": "allow"})));
    let folder = TempDir::new().expect("a folder");
    let url = service.url("/");
    let broker =
        start(&folder, &format!("webhook_url = '{url}'\nwebhook_timeout_ms = 100\nlogin_threads = 1"));
    let refused = ConnectReturnCode::ServiceUnavailable;
    assert_eq!(connect(&broker, "slow", ("slow", "x")).await.err(), Some(refused));
    assert!(connect(&broker, "quick", ("quick", "x")).await.is_ok());
    broker.stop();

    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound");
    let broker = start(&folder, &format!("webhook_url = 'http://{nowhere}/'"));
    assert_eq!(connect(&broker, "ann", ("ann", "x")).await.err(), Some(refused));
    broker.stop();
}

/// Methods are asked in their order; what a client may do is asked once it is in, by whatever method.
#[tokio::test]
async fn permissions_after_passwords() {
    let service = Service::start(|path, question| match path {
        "/acl" if question["user"] == "eve" => Some(json!({"result": "deny"})),
        "/acl" => Some(json!({"result": "allow", "acl": [
            {"permission": "allow", "action": "all", "topic": "a/#"}
        ]})),
        _ => Some(json!({"result": "allow"})),
    });
    let folder = TempDir::new().expect("a folder");
    let passwords = folder.path().join("passwords");
    // Made by mosquitto_passwd: "correct horse".
    let ann = "ann:$7$101$kG712y/W4xwQJkzG$4f9cG7u4IgWWG6E8zxtGXeaZnDuzq5Jb3YTsiwFC8tPCZ8bOb5oiKhq2bEx8/8iHoBFepcxcKtoMUo2yXyatiw==";
    std::fs::write(&passwords, format!("{ann}\n")).expect("the folder can be written to");
    let settings = format!(
        "password_file = '{}'\nwebhook_url = '{}'\nwebhook_acl_url = '{}'\nmethods = 'password, webhook'",
        passwords.display(),
        service.url("/login"),
        service.url("/acl")
    );
    let broker = start(&folder, &settings);
    let mut ann = connect(&broker, "ann", ("ann", "correct horse")).await.expect("let in");
    let (path, question) = service.question();
    assert_eq!((path.as_str(), &question["user"]), ("/acl", &json!("ann")));
    let Packet::SubAck(answer) = ann.subscribe("b", QoS::AtLeastOnce).await else { unreachable!() };
    assert_eq!(answer.return_codes, [SubscribeReasonCode::Failure]);
    // Who is in the file is not asked about elsewhere.
    let wrong = connect(&broker, "ann", ("ann", "wrong")).await.err();
    assert_eq!(wrong, Some(ConnectReturnCode::BadUserNamePassword));
    assert!(service.is_asked_nothing_more());
    assert_eq!(connect(&broker, "eve", ("eve", "x")).await.err(), Some(ConnectReturnCode::NotAuthorized));
    assert_eq!([service.question().0, service.question().0], ["/login", "/acl"]);
    broker.stop();
}
